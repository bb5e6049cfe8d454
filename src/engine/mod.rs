//! Talking to a container engine: Docker's API over its unix socket, one blocking call at a time.

mod again;
mod archive;
mod look;
mod object;
mod socket;
mod take;

pub use archive::Image;
pub use object::{Bounds, Found, Kind, Object};
pub use socket::find_socket;

use crate::error::{Code, Error, Result, plain_lines};
use crate::host::process;
use bollard::errors::Error as Fault;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HealthStatusEnum, NetworkConnectRequest};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, LogsOptions, StartContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const NOT_THERE: Code = Code::lacking("E-ENGINE-001");
const NOT_ALLOWED: Code = Code::lacking("E-ENGINE-002");
const TOO_OLD: Code = Code::lacking("E-ENGINE-003");
const ROOTLESS: Code = Code::lacking("E-ENGINE-004");
const NOT_DOCKER: Code = Code::lacking("E-ENGINE-005");
const REFUSED: Code = Code::refused("E-ENGINE-006");
const SILENT: Code = Code::lacking("E-ENGINE-007");
const CANNOT_SHOW: Code = Code::lacking("E-ENGINE-008");
const UNHEALTHY: Code = Code::refused("E-ENGINE-009");

/// For how many seconds an engine may think about one call: it stops a signer in up to a minute.
const PATIENCE: u64 = 120;
/// How long a container may take until it is healthy: lnd's database on a slow disk, and the check's own interval.
const HEALTHY: Duration = Duration::from_secs(200);
/// How many seconds a container gets to end by itself.
const STOPPING: i32 = 60;
/// The oldest interface that lsm speaks: Docker 20.10's, Debian 12's.
const OLDEST: (usize, usize) = (1, 41);

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its version.
    pub version: String,
    /// Where it keeps its volumes.
    pub root: PathBuf,
    /// It gives containers other user numbers than their own.
    pub maps_users: bool,
    /// What it can hold a container to on this kernel.
    pub counts: Counts,
}

/// What an engine's kernel counts of a container: what is not counted has no limit, whatever was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Its memory.
    pub memory: bool,
    /// What of it is swapped out.
    pub swap: bool,
    /// Its processes and threads.
    pub pids: bool,
}

/// An engine, reached through its socket.
pub struct Engine {
    docker: Docker,
    runtime: Runtime,
    socket: PathBuf,
    patience: u64,
}

impl Engine {
    /// The engine behind `socket`, in the newest interface that both know.
    ///
    /// # Errors
    /// Where nothing answers there, this user may not ask, or it is too old.
    pub fn open(socket: &Path) -> Result<Self> {
        Self::open_within(socket, PATIENCE)
    }

    /// The same, with no call that takes more than so many seconds.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_within(socket: &Path, patience: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a current-thread runtime needs only an epoll descriptor");
        let cannot = |e| explain(socket, patience, "reach the engine", e);
        // Within, for hyper's connections begin there.
        let docker = runtime.block_on(async {
            let docker = Docker::connect_with_unix(&socket.to_string_lossy(), patience, API_DEFAULT_VERSION);
            docker.map_err(cannot)?.negotiate_version().await.map_err(cannot)
        })?;
        let spoken = docker.client_version();
        if (spoken.major_version, spoken.minor_version) < OLDEST {
            let cause = format!("the engine at {} speaks API {spoken} alone", socket.display());
            return Err(Error::new(TOO_OLD, cause).hint("Docker 20.10 or newer is needed: apt-get install docker.io"));
        }
        Ok(Self { docker, runtime, socket: socket.to_owned(), patience })
    }

    /// What it is, where lsm can work with it.
    ///
    /// # Errors
    /// Where it is none that lsm can make a signer on, with what is missing.
    pub fn about(&self) -> Result<About> {
        let version = self.ask("ask for the version", self.docker.version())?;
        let parts = version.components.unwrap_or_default();
        if parts.iter().any(|part| part.name.to_lowercase().contains("podman")) {
            return Err(Error::new(NOT_DOCKER, format!("{} is Podman, not Docker", self.socket.display()))
                .hint("its networks are not those that lsm's packet filter judges; use dockerd, or --backend native"));
        }
        let info = self.ask("ask for the settings", self.docker.info())?;
        let options = info.security_options.unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
        if has("name=rootless") {
            return Err(Error::new(ROOTLESS, format!("the engine at {} is rootless", self.socket.display())).hint(
                "its proxy hides who connects, so no allowlist can hold; use a dockerd of root's, or --backend native",
            ));
        }
        Ok(About {
            version: version.version.unwrap_or_default(),
            root: info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".to_owned()).into(),
            maps_users: has("name=userns"),
            counts: Counts {
                memory: info.memory_limit == Some(true),
                swap: info.swap_limit == Some(true),
                pids: info.pids_limit == Some(true),
            },
        })
    }

    /// What is known of a container; nothing where there is none.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn inspect(&self, container: &str) -> Result<Option<ContainerInspectResponse>> {
        self.look("look at a container", self.docker.inspect_container(container, None::<InspectContainerOptions>))
    }

    /// True where the container runs.
    pub fn runs(&self, container: &str) -> bool {
        let state = self.inspect(container).ok().flatten().and_then(|found| found.state);
        state.is_some_and(|state| state.running == Some(true) && state.restarting != Some(true))
    }

    /// What of this host a container mounts; nothing where there is none.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn mounts(&self, container: &str) -> Result<Vec<PathBuf>> {
        let mounts = self.inspect(container)?.and_then(|found| found.mounts).unwrap_or_default();
        Ok(mounts.into_iter().filter_map(|mount| mount.source).map(PathBuf::from).collect())
    }

    /// True where a container has this name that does not have `folder`, which the wallet is in: somebody else's.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn has_other(&self, container: &str, folder: &Path) -> Result<bool> {
        Ok(self.find(Kind::Container, container)?.is_some() && !self.mounts(container)?.iter().any(|at| at == folder))
    }

    /// Makes a container, and says what the engine warns of: a limit that this kernel does not know is left out.
    ///
    /// # Errors
    /// Where the engine refuses: its name is taken, its image is missing.
    pub fn create(&self, container: &str, body: &ContainerCreateBody) -> Result<Vec<String>> {
        let options = CreateContainerOptions { name: Some(container.to_owned()), ..Default::default() };
        let mut body = body.clone();
        // Before version 1.44 the API takes one with a container, and the others afterwards.
        let others = again::split_networks(&mut body);
        let made = self.make("make the container", self.docker.create_container(Some(options), body))?;
        for (network, endpoint) in others {
            let wanted = NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
            self.make("connect the container", self.docker.connect_network(&network, wanted))?;
        }
        Ok(made.warnings)
    }

    /// Starts a container that is there.
    ///
    /// # Errors
    /// Where it does not start: its port is taken, a file that it mounts is gone.
    pub fn start(&self, container: &str) -> Result<()> {
        self.make("start the container", self.docker.start_container(container, None::<StartContainerOptions>))
    }

    /// Waits until a container's own health check passes; one that has none is waited for in vain, and so is not.
    ///
    /// # Errors
    /// Where it ends, or does not pass for minutes.
    pub fn wait_until_healthy(&self, container: &str) -> Result<()> {
        let end = Instant::now() + HEALTHY;
        loop {
            let state = self.inspect(container)?.and_then(|found| found.state).unwrap_or_default();
            let health = state.health.and_then(|health| health.status);
            if matches!(
                health,
                None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE | HealthStatusEnum::HEALTHY)
            ) {
                return Ok(());
            }
            if state.running != Some(true) || Instant::now() >= end {
                let said = self.last_words(container).unwrap_or_default();
                return Err(Error::new(UNHEALTHY, format!("{container} does not serve; it said: {said}"))
                    .hint(format!("see why: docker logs --tail 50 {container}")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Stops a container; nothing where there is none, or it does not run.
    ///
    /// # Errors
    /// Where it does not stop.
    pub fn stop(&self, container: &str) -> Result<()> {
        let options = StopContainerOptions { t: Some(STOPPING), ..Default::default() };
        self.look("stop the container", self.docker.stop_container(container, Some(options))).map(drop)
    }

    /// The last `lines` of a container's log, and with `follow` what comes, to standard output.
    ///
    /// # Errors
    /// Where it cannot be read or shown.
    pub fn show_log(&self, container: &str, lines: u32, follow: bool) -> Result<()> {
        let mut out = std::io::stdout();
        self.read_log(container, lines, follow, false, &mut |text| {
            // Whoever has taken over the container writes it.
            let text = plain_lines(&String::from_utf8_lossy(text));
            out.write_all(text.as_bytes()).map_err(|e| Error::new(CANNOT_SHOW, format!("cannot write the log: {e}")))
        })
    }

    /// Hands the log's pieces to `take`, each line with its time where that is wanted.
    ///
    /// # Errors
    /// Where it cannot be read, or `take` fails.
    pub fn read_log(
        &self,
        container: &str,
        lines: u32,
        follow: bool,
        timestamps: bool,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            follow,
            timestamps,
            tail: lines.to_string(),
            ..Default::default()
        };
        self.runtime.block_on(async {
            let mut pieces = std::pin::pin!(self.docker.logs(container, Some(options)));
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|e| explain(&self.socket, self.patience, "read the log", e))?;
                take(&piece.into_bytes())?;
            }
            Ok(())
        })
    }

    /// What a container said last.
    pub fn last_words(&self, container: &str) -> Option<String> {
        let mut said = Vec::new();
        let mut take = |piece: &[u8]| {
            said.extend_from_slice(piece);
            Ok(())
        };
        self.read_log(container, 5, false, false, &mut take).ok()?;
        let said = String::from_utf8_lossy(&said);
        said.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
    }

    fn ask<T>(&self, what: &str, call: impl Future<Output = Result<T, Fault>>) -> Result<T> {
        self.runtime.block_on(call).map_err(|e| explain(&self.socket, self.patience, what, e))
    }

    /// The same of something that the engine would go on with after lsm's end.
    fn make<T>(&self, what: &str, call: impl Future<Output = Result<T, Fault>>) -> Result<T> {
        process::hold_interrupt(|| self.ask(what, call))
    }

    /// The same of something that need not be there.
    fn look<T>(&self, what: &str, call: impl Future<Output = Result<T, Fault>>) -> Result<Option<T>> {
        match self.runtime.block_on(call) {
            Ok(found) => Ok(Some(found)),
            Err(Fault::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(None),
            Err(e) => Err(explain(&self.socket, self.patience, what, e)),
        }
    }
}

/// In lsm's words, with what to do.
fn explain(socket: &Path, patience: u64, what: &str, e: Fault) -> Error {
    let at = socket.display();
    match &e {
        Fault::DockerResponseServerError { status_code, message } => {
            let hint = match status_code {
                // Whoever flushes every table takes the engine's rules too: Debian's nftables.service does.
                _ if message.contains("iptables failed") => {
                    "the engine's own packet filter rules are gone: systemctl restart docker, and run it again"
                }
                404 => "something that lsm made is gone: lsm install makes it again",
                409 => "something of this name is there, or in use: docker ps -a; choose another with --container",
                _ => "see the engine's log: journalctl -u docker -n 50",
            };
            Error::new(REFUSED, format!("cannot {what}: {message}")).hint(hint).because(e)
        }
        Fault::SocketNotFoundError(_) => no_engine(&at, e),
        Fault::RequestTimeoutError => {
            Error::new(SILENT, format!("the engine at {at} did not answer within {patience} s"))
                .hint("see its log: journalctl -u docker -n 50")
        }
        _ if is(&e, std::io::ErrorKind::PermissionDenied) => {
            Error::new(NOT_ALLOWED, format!("this user may not talk to the engine at {at}"))
                .hint("run it with sudo; membership in the group docker is as good as root")
                .because(e)
        }
        _ if is(&e, std::io::ErrorKind::ConnectionRefused) || is(&e, std::io::ErrorKind::NotFound) => no_engine(&at, e),
        _ => {
            Error::new(REFUSED, format!("cannot {what}: {e}")).hint("see the engine's log: journalctl -u docker -n 50")
        }
    }
}

fn no_engine(at: &std::path::Display<'_>, e: Fault) -> Error {
    Error::new(NOT_THERE, format!("no engine answers at {at}"))
        .hint("start it: systemctl start docker; or get it: apt-get install docker.io")
        .because(e)
}

/// True where an input or output error of this kind is at the bottom of it.
fn is(e: &Fault, kind: std::io::ErrorKind) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == kind) {
            return true;
        }
        next = error.source();
    }
    false
}
