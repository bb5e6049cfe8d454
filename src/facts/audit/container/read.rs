//! What an engine says of a container, as far as the audit asks for it.

use super::{Bridge, Container, Health, Image, Limits, Log, Mount, Other, Profile, Rights};
use crate::engine::{About, Engine, Kind};
use crate::error::Result;
use crate::facts::audit::Answer;
use crate::facts::audit::secrets::{in_arguments, in_variables};
use crate::render::container::LSM;
use crate::sandbox::calls::Calls;
use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerSummary, EndpointSettings, HostConfig,
    MountPoint, PortMap,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An engine that is well answers in milliseconds. In seconds.
const PATIENCE: u64 = 5;
/// No more is asked after so long.
const LONGEST: Duration = Duration::from_secs(10);

/// The engine behind `socket`.
pub(super) fn open(socket: &Path) -> Result<Engine> {
    Engine::open_within(socket, PATIENCE)
}

/// The container `name` of the engine behind `socket`; nothing where there is none.
pub(super) fn look(engine: &Engine, socket: &Path, name: &str) -> Result<Option<Container>> {
    let start = Instant::now();
    let about = engine.about()?;
    let Some(found) = engine.inspect(name)? else { return Ok(None) };
    let ContainerInspectResponse { id, name, image, state, config, host_config, mounts, network_settings, .. } = found;
    let (config, host) = (config.unwrap_or_default(), host_config.unwrap_or_default());
    let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default().trim_start_matches('/').to_owned());
    let endpoints = network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let networks = endpoints.iter().map(|(at, end)| (at.clone(), bridge(engine, at, end, &id)));
    let mounts: Vec<Mount> = mounts.unwrap_or_default().into_iter().map(mount).collect();
    let named = config.image.clone().unwrap_or_default();
    Ok(Some(Container {
        engine: socket.to_owned(),
        counts: about.counts,
        image: Image {
            number: image.unwrap_or_default(),
            named: asked(engine.find(Kind::Image, &named)).map(|image| image.mark),
            name: named,
            made: Answer::Absent,
        },
        user: config.user.clone().unwrap_or_default(),
        groups: host.group_add.clone().unwrap_or_default(),
        rights: rights(&host),
        read_only: host.readonly_rootfs == Some(true),
        spaces: spaces(&host),
        networks: networks.collect(),
        ports: ports(host.port_bindings.clone().unwrap_or_default()),
        limits: limits(&host),
        restart: host
            .restart_policy
            .as_ref()
            .and_then(|policy| policy.name)
            .map_or_else(String::new, |n| n.to_string()),
        log: log(&host),
        health: health(&config, state.unwrap_or_default()),
        told: told(&config),
        others: others(engine, &about, (&id, &name), (&mounts, &endpoints), start),
        mounts,
        name,
        id,
    }))
}

/// The names of the engine's containers that have its socket, whether they run or not.
pub(super) fn sharers(engine: &Engine, socket: &Path) -> Result<Vec<String>> {
    Ok(sharing(engine.containers()?, socket))
}

fn sharing(all: Vec<ContainerSummary>, engine: &Path) -> Vec<String> {
    let has =
        |mounts: Option<Vec<MountPoint>>| mounts.into_iter().flatten().map(mount).any(|mount| mount.has_socket(engine));
    all.into_iter().filter_map(|one| has(one.mounts).then(|| called(one.names, one.id))).collect()
}

/// Without the slash that the engine puts before it; by its number where it has no name.
fn called(names: Option<Vec<String>>, number: Option<String>) -> String {
    let name = names.and_then(|names| names.into_iter().next()).or(number).unwrap_or_default();
    name.trim_start_matches('/').to_owned()
}

fn asked<T>(found: Result<Option<T>>) -> Answer<T> {
    match found {
        Ok(Some(found)) => Answer::Is(found),
        Ok(None) => Answer::Absent,
        Err(e) => Answer::Unknown(e.cause().to_owned()),
    }
}

fn mount(point: MountPoint) -> Mount {
    Mount {
        kind: point.typ.map_or_else(String::new, |kind| kind.to_string()),
        from: point.source.unwrap_or_default().into(),
        to: point.destination.unwrap_or_default().into(),
        // What is not said is the worse.
        writable: point.rw != Some(false),
    }
}

fn rights(host: &HostConfig) -> Rights {
    let options = host.security_opt.as_deref().unwrap_or_default();
    let has = |option: &str| options.iter().any(|one| one == option);
    let devices = host.devices.iter().flatten().map(|device| device.path_on_host.clone().unwrap_or_default());
    let rules = host.device_cgroup_rules.iter().flatten().cloned();
    let requests = host.device_requests.iter().flatten().map(|one| one.driver.clone().unwrap_or_default());
    Rights {
        privileged: host.privileged == Some(true),
        added: host.cap_add.clone().unwrap_or_default(),
        dropped: host.cap_drop.clone().unwrap_or_default(),
        no_new: ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"].into_iter().any(has),
        seccomp: options.iter().find_map(|option| option.strip_prefix("seccomp")).map_or(Profile::Default, profile),
        devices: devices.chain(rules).chain(requests).collect(),
    }
}

/// `=` or `:`, then a profile as JSON or a name.
fn profile(option: &str) -> Profile {
    let text = option.trim_start_matches(['=', ':']);
    let own = || Calls::load().map(|calls| calls.docker_profile()).ok();
    match text {
        "unconfined" => Profile::Unconfined,
        "builtin" => Profile::Default,
        _ if serde_json::from_str::<Value>(text).ok().is_some_and(|is| own() == Some(is)) => Profile::Own,
        _ => Profile::Other,
    }
}

fn spaces(host: &HostConfig) -> BTreeMap<String, String> {
    let cgroup = host.cgroupns_mode.map(|mode| mode.to_string());
    let all = [
        ("network", &host.network_mode),
        ("pid", &host.pid_mode),
        ("ipc", &host.ipc_mode),
        ("uts", &host.uts_mode),
        ("userns", &host.userns_mode),
        ("cgroupns", &cgroup),
    ];
    all.into_iter().map(|(kind, mode)| (kind.to_owned(), mode.clone().unwrap_or_default())).collect()
}

fn bridge(engine: &Engine, name: &str, end: &EndpointSettings, id: &str) -> Answer<Bridge> {
    asked(engine.network(name)).map(|network| {
        let is_bridge = network.driver.as_deref() == Some("bridge");
        let named = network.options.as_ref().and_then(|all| all.get("com.docker.network.bridge.name")).cloned();
        // Unless it is told otherwise, the engine calls it after the network's number (moby, bridge driver).
        let usual = || Some(format!("br-{}", network.id.as_ref()?.get(..12)?));
        let others = network.containers.iter().flatten().filter(|(other, _)| *other != id);
        let mut others: Vec<String> = others.map(|(id, end)| end.name.clone().unwrap_or_else(|| id.clone())).collect();
        others.sort();
        let addresses = [&end.ip_address, &end.global_ipv6_address].into_iter().flatten();
        Bridge {
            interface: named.or_else(usual).filter(|_| is_bridge),
            addresses: addresses.filter_map(|address| address.parse().ok()).collect(),
            others,
        }
    })
}

fn ports(bound: PortMap) -> BTreeMap<String, Vec<SocketAddr>> {
    let at = |ip: Option<String>, port: Option<String>| {
        // No address is every address; no port is one that the engine chooses.
        let ip = ip.and_then(|ip| ip.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        SocketAddr::new(ip, port.and_then(|port| port.parse().ok()).unwrap_or(0))
    };
    let all = bound.into_iter().map(|(inside, places)| {
        let mut places: Vec<_> = places.into_iter().flatten().map(|place| at(place.host_ip, place.host_port)).collect();
        places.sort();
        (inside, places)
    });
    all.collect()
}

fn limits(host: &HostConfig) -> Limits {
    let core = host.ulimits.iter().flatten().find(|limit| limit.name.as_deref() == Some("core"));
    let above_none = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
    Limits {
        memory: above_none(host.memory),
        with_swap: above_none(host.memory_swap),
        pids: above_none(host.pids_limit),
        core: core.and_then(|limit| limit.hard),
    }
}

fn log(host: &HostConfig) -> Log {
    let config = host.log_config.clone().unwrap_or_default();
    let said = |name: &str| config.config.as_ref().and_then(|all| all.get(name)).cloned();
    Log { size: said("max-size"), files: said("max-file"), driver: config.typ.clone().unwrap_or_default() }
}

fn health(config: &ContainerConfig, state: ContainerState) -> Health {
    let test = config.healthcheck.as_ref().and_then(|check| check.test.as_deref()).unwrap_or_default();
    let now = state.health.and_then(|health| health.status).map_or_else(String::new, |status| status.to_string());
    let runs = state.running == Some(true) && state.paused != Some(true) && state.restarting != Some(true);
    let instead = state.status.map_or_else(String::new, |status| status.to_string());
    Health {
        asked: test.iter().map(String::as_str).take(3).eq(["CMD", LSM, "ready"]),
        state: if runs { now } else { instead },
    }
}

/// The names alone.
fn told(config: &ContainerConfig) -> Vec<String> {
    let labels: HashMap<String, String> = config.labels.clone().unwrap_or_default();
    let mut labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    let arguments = [config.entrypoint.clone(), config.cmd.clone()].into_iter().flatten().flatten();
    let test = config.healthcheck.as_ref().and_then(|check| check.test.clone()).unwrap_or_default();
    let of =
        |what: &str, names: Vec<String>| names.into_iter().map(|name| format!("{what} {name}")).collect::<Vec<_>>();
    [
        of("variable", in_variables(config.env.as_deref().unwrap_or_default())),
        of("command", in_arguments(&arguments.collect::<Vec<_>>())),
        of("health check", in_arguments(&test)),
        of("label", in_variables(&labels)),
    ]
    .concat()
}

/// What the other containers have of this one, and of the engine. Of those that run, also whether they see its processes.
fn others(
    engine: &Engine,
    about: &About,
    (id, name): (&str, &str),
    (own, networks): (&[Mount], &HashMap<String, EndpointSettings>),
    start: Instant,
) -> Answer<Vec<Other>> {
    let all = match engine.containers() {
        Ok(all) => all,
        Err(e) => return Answer::Unknown(e.cause().to_owned()),
    };
    let mut found = Vec::new();
    for other in all.into_iter().filter(|other| other.id.as_deref() != Some(id)) {
        if start.elapsed() > LONGEST {
            return Answer::Unknown("there are too many containers to ask about each".to_owned());
        }
        let number = other.id.unwrap_or_default();
        let more = match engine.inspect(&number) {
            Ok(more) => more.and_then(|more| more.host_config).unwrap_or_default(),
            Err(e) => return Answer::Unknown(e.cause().to_owned()),
        };
        let mounts: Vec<Mount> = other.mounts.unwrap_or_default().into_iter().map(mount).collect();
        let mut has = shared(&mounts, own, &about.root);
        for (kind, mode) in spaces(&more) {
            let of = mode.strip_prefix("container:");
            has.extend(of.is_some_and(|of| of == id || of == name).then(|| format!("its {kind}")));
        }
        // Its network lists those alone that run.
        let joined = other.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        has.extend(joined.into_keys().filter(|name| is_own(name, networks)).map(|name| format!("its network {name}")));
        if !has.is_empty() {
            found.push(Other { name: called(other.names, Some(number)), has });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Answer::Is(found)
}

/// True of a network of the container's, but for those that every engine has.
fn is_own(name: &str, networks: &HashMap<String, EndpointSettings>) -> bool {
    !["bridge", "host", "none"].contains(&name) && networks.contains_key(name)
}

/// What of the signer's own mounts is among another's, or below or above them; the engine's own folder holds every volume.
fn shared(mounts: &[Mount], own: &[Mount], root: &PathBuf) -> Vec<String> {
    let overlaps = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    let places = own.iter().map(|mount| &mount.from).chain([root]);
    let mut found: Vec<String> = Vec::new();
    for place in places {
        // Another's volume is in the engine's folder too, and no way to the rest of it.
        let reaches =
            |mount: &&Mount| if place == root { root.starts_with(&mount.from) } else { overlaps(&mount.from, place) };
        let is_file = |mount: &&Mount| !mount.from.as_os_str().is_empty();
        found.extend(mounts.iter().filter(is_file).find(reaches).map(|mount| mount.from.display().to_string()));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(from: &str) -> Mount {
        Mount { kind: "bind".to_owned(), from: from.into(), to: "/x".into(), writable: false }
    }

    #[test]
    fn what_another_container_has_of_a_signers_is_found_from_above_and_below() {
        let root = PathBuf::from("/var/lib/docker");
        let own = [mounted("/var/lib/docker/volumes/signer-data/_data"), mounted("/root/.lnget/signer/run")];
        for (other, is_shared) in [
            ("/var/lib/docker/volumes/signer-data/_data", true),
            ("/var/lib/docker/volumes/web/_data", false),
            ("/var/lib", true),
            ("/root/.lnget/signer/run/lnd.sock", true),
            ("/root/.lnget", true),
            ("/", true),
            ("/srv", false),
            ("", false),
        ] {
            assert_eq!(!shared(&[mounted(other)], &own, &root).is_empty(), is_shared, "{other}");
        }
    }

    #[test]
    fn whoever_has_the_socket_is_named() {
        let container = |name: &str, from: &str| ContainerSummary {
            id: Some("0a1b".to_owned()),
            names: Some(vec![format!("/{name}")]),
            mounts: Some(vec![MountPoint { source: Some(from.to_owned()), ..Default::default() }]),
            ..Default::default()
        };
        let nameless = ContainerSummary { names: None, ..container("", "/run") };
        let all = vec![container("portainer", "/var/run/docker.sock"), container("web", "/srv"), nameless];
        assert_eq!(sharing(all, Path::new("/run/docker.sock")), ["portainer", "0a1b"]);
        assert!(sharing(vec![ContainerSummary::default()], Path::new("/run/docker.sock")).is_empty());
    }

    #[test]
    fn a_profile_is_lsms_by_what_it_says() {
        let own = Calls::load().unwrap().docker_profile();
        for (option, is) in [
            (format!("={own}"), Profile::Own),
            (format!(":{own:#}"), Profile::Own),
            ("=unconfined".to_owned(), Profile::Unconfined),
            ("={\"defaultAction\": \"SCMP_ACT_ALLOW\"}".to_owned(), Profile::Other),
            ("=builtin".to_owned(), Profile::Default),
        ] {
            assert_eq!(profile(&option), is, "{option}");
        }
    }

    #[test]
    fn what_is_told_is_named_and_never_shown() {
        let config = ContainerConfig {
            env: Some(vec!["HOME=/x".to_owned(), "RPC_PASSWORD=hunter2".to_owned()]),
            cmd: Some(vec!["/lnd".to_owned(), "--bitcoind.rpcpass=hunter2".to_owned()]),
            labels: Some([("my.secret".to_owned(), "hunter2".to_owned())].into()),
            ..Default::default()
        };
        let found = told(&config);
        assert_eq!(found, ["variable RPC_PASSWORD", "command --bitcoind.rpcpass", "label my.secret"]);
    }
}
