//! A signer's container, as the engine's API is told of it; the compose file says the same.

use crate::error::{Code, Error, Result};
use crate::sandbox::calls::Calls;
use crate::spec::docker::PORT;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountType, NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use serde_json::Value;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

const BROKEN: Code = Code::refused("E-RENDER-002");

/// lnd's folder inside, which the volume is mounted over.
pub const HOME: &str = "/signer";
/// The launcher.
pub const LSM: &str = "/lsm";
/// lnd.
pub const LND: &str = "/lnd";
/// lnd's settings.
pub const CONF: &str = "/etc/lsm/lnd.conf";
/// What the launcher lets lnd reach.
pub const POLICY: &str = "/etc/lsm/launch.toml";
/// The certificate.
pub const CERTIFICATE: &str = "/etc/lsm/tls.cert";
/// Its key.
pub const KEY: &str = "/run/secrets/tls-key";
/// The wallet's password.
pub const PASSWORD: &str = "/run/secrets/wallet-password";
/// The folder of lnd's unix socket and of the macaroons that it writes.
pub const RUN: &str = "/run/lsm";
/// lnd's unix socket.
pub const SOCKET: &str = "/run/lsm/lnd.sock";

/// Bytes, as the unit's MemoryMax.
const MEMORY: i64 = 2 << 30;
/// Processes and threads, as the unit's TasksMax.
const PROCESSES: i64 = 256;
/// Open files, as the unit's LimitNOFILE.
const FILES: i64 = 4096;
/// How far the packets of a network go (ip(7), ip_default_ttl): each router on the way takes one off, and drops the last.
const HOPS: &str = "net.ipv4.ip_default_ttl";
/// A second, in the API's nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// Whose a container is, and what it is made from.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The image's name.
    pub image: String,
    /// The user of its program, by number.
    pub uid: u32,
    /// The group, by number.
    pub gid: u32,
    /// The engine gives containers other user numbers than their own, unless it is told not to.
    pub maps_users: bool,
}

/// Where a signer's wallet is.
pub enum Home {
    /// In this volume.
    Volume(String),
    /// In this folder of the host's.
    Folder(PathBuf),
}

/// What a signer's container has of this host.
pub struct Files {
    /// lnd's folder.
    pub home: Home,
    /// lnd's settings.
    pub conf: PathBuf,
    /// What the launcher lets it reach.
    pub policy: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The wallet's password.
    pub password: PathBuf,
    /// The folder of its socket.
    pub run: PathBuf,
}

/// The network that a container is on, and where it is called.
pub enum Place {
    /// Its port is published at this address of the host, for as long as the engine runs.
    Published {
        /// The network.
        network: String,
        /// The address.
        at: SocketAddr,
        /// A packet filter judges who comes in and what goes out.
        filtered: bool,
    },
    /// On an internal network, at this address.
    Inside {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
    },
}

/// The container of a signer that serves: unlocked by the password's file.
///
/// # Errors
/// Where the profile of system calls cannot be made.
pub fn render_service(frame: &Frame, files: &Files, landlock: Option<u32>, place: Place) -> Result<String> {
    let args = [format!("--rpclisten=0.0.0.0:{PORT}"), format!("--wallet-unlock-password-file={PASSWORD}")];
    let mut body = signer(frame, files, landlock, &args)?;
    body.healthcheck = Some(HealthConfig {
        test: Some(["CMD", LSM, "ready", "--socket", SOCKET, "--certificate", CERTIFICATE].map(str::to_owned).into()),
        interval: Some(15 * SECOND),
        timeout: Some(10 * SECOND),
        retries: Some(2),
        start_period: Some(180 * SECOND),
        start_interval: None,
    });
    body.host_config.get_or_insert_default().mounts.get_or_insert_default().push(file(&files.password, PASSWORD));
    put(&mut body, place);
    text(&body)
}

/// The container in which the wallet is made: the same, without a network and with nothing to unlock.
///
/// # Errors
/// As [`render_service`].
pub fn render_create(frame: &Frame, files: &Files, landlock: Option<u32>) -> Result<String> {
    let mut body = signer(frame, files, landlock, &[])?;
    body.host_config.get_or_insert_default().network_mode = Some("none".to_owned());
    text(&body)
}

/// The container of a watch-only lnd, whose folder has the same path inside as on this host.
///
/// # Errors
/// As [`render_service`].
pub fn render_watch_only(frame: &Frame, folder: &Path, conf: &Path, place: Place) -> Result<String> {
    let inside = folder.display().to_string();
    let command = [LND.to_owned(), format!("--lnddir={inside}"), format!("--configfile={}", conf.display())];
    let mut body = render(frame, "watch-only", &inside, command.into(), vec![writable(folder, &inside)])?;
    put(&mut body, place);
    text(&body)
}

fn put(body: &mut ContainerCreateBody, place: Place) {
    let host = body.host_config.get_or_insert_default();
    match place {
        Place::Published { network, at, filtered } => {
            let port = format!("{PORT}/tcp");
            let at = PortBinding { host_ip: Some(at.ip().to_string()), host_port: Some(at.port().to_string()) };
            host.port_bindings = Some(HashMap::from([(port.clone(), Some(vec![at]))]));
            host.network_mode = Some(network);
            host.restart_policy =
                Some(RestartPolicy { name: Some(RestartPolicyNameEnum::UNLESS_STOPPED), maximum_retry_count: None });
            body.exposed_ports = Some(vec![port]);
            if !filtered {
                // Whatever it sends ends at this host: who else routes to its own address gets no answer.
                host.sysctls = Some(HashMap::from([(HOPS.to_owned(), "1".to_owned())]));
            }
        }
        Place::Inside { network, address } => {
            host.network_mode = Some(network.clone());
            let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..Default::default() };
            let here = EndpointSettings { ipam_config: Some(ipam), ..Default::default() };
            body.networking_config =
                Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network, here)])) });
        }
    }
}

/// The same each time: a JSON value keeps its names in order, and the API's maps do not.
fn text(body: &ContainerCreateBody) -> Result<String> {
    let broken = |e| Error::new(BROKEN, "a container cannot be described").because(e);
    let value: Value = serde_json::to_vec(body).and_then(|text| serde_json::from_slice(&text)).map_err(broken)?;
    Ok(value.to_string())
}

fn signer(frame: &Frame, files: &Files, landlock: Option<u32>, args: &[String]) -> Result<ContainerCreateBody> {
    let landlock = landlock.map(|abi| ["--require-landlock".to_owned(), abi.to_string()]);
    let mut command: Vec<String> = [LSM, "launch"].map(str::to_owned).into();
    command.extend(landlock.into_iter().flatten());
    command.extend(["--policy", POLICY, "--", LND].map(str::to_owned));
    // The unix socket first: lnd calls the first address that it listens on.
    command.extend([format!("--configfile={CONF}"), format!("--rpclisten=unix://{SOCKET}")]);
    command.extend_from_slice(args);
    let home = match &files.home {
        Home::Folder(folder) => writable(folder, HOME),
        Home::Volume(name) => Mount {
            target: Some(HOME.to_owned()),
            source: Some(name.clone()),
            typ: Some(MountType::VOLUME),
            ..Default::default()
        },
    };
    let read = [(&files.conf, CONF), (&files.policy, POLICY), (&files.certificate, CERTIFICATE), (&files.key, KEY)];
    let mounts = [home, writable(&files.run, RUN)].into_iter().chain(read.map(|(from, to)| file(from, to)));
    render(frame, "signer", HOME, command, mounts.collect())
}

/// A container that may do nothing but what lnd needs.
fn render(
    frame: &Frame,
    name: &str,
    home: &str,
    command: Vec<String>,
    mounts: Vec<Mount>,
) -> Result<ContainerCreateBody> {
    Ok(ContainerCreateBody {
        image: Some(frame.image.clone()),
        hostname: Some(name.to_owned()),
        user: Some(format!("{}:{}", frame.uid, frame.gid)),
        working_dir: Some(home.to_owned()),
        env: Some(vec![format!("HOME={home}"), "GOMEMLIMIT=1536MiB".to_owned()]),
        cmd: Some(command),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: Some(60),
        host_config: Some(host(frame, mounts)?),
        ..Default::default()
    })
}

/// The profile of system calls, as a file that compose names and the engine's own command takes.
///
/// # Errors
/// As [`render_service`].
pub fn render_seccomp() -> Result<String> {
    Ok(Calls::load()?.docker_profile().to_string())
}

fn host(frame: &Frame, mounts: Vec<Mount>) -> Result<HostConfig> {
    let limit =
        |name: &str, value| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) };
    let log = [("max-size", "10m"), ("max-file", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(HostConfig {
        mounts: Some(mounts),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned(), format!("seccomp={}", render_seccomp()?)]),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), "rw,noexec,nosuid,nodev,size=16777216,mode=1777".to_owned())])),
        memory: Some(MEMORY),
        // As much with swap as without: none.
        memory_swap: Some(MEMORY),
        pids_limit: Some(PROCESSES),
        ulimits: Some(vec![limit("core", 0), limit("nofile", FILES)]),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log.into()) }),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // Its files are of this number on the host.
        userns_mode: frame.maps_users.then(|| "host".to_owned()),
        ..Default::default()
    })
}

/// A file or folder of the host, to read only.
fn file(from: &Path, to: &str) -> Mount {
    Mount {
        target: Some(to.to_owned()),
        source: Some(from.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Default::default()
    }
}

/// A folder of the host, to write too.
fn writable(from: &Path, to: &str) -> Mount {
    Mount { read_only: Some(false), ..file(from, to) }
}
