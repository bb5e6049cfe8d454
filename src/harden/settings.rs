//! lnd's own settings: what a signer needs, and nothing else.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Answer, Holder, Host, Needs, Process, Protocol, Settings, Signer, Unknown};
use crate::spec::docker::PORT;
use std::net::{IpAddr, SocketAddr};

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "LND-001",
        title: "lnd has no port for peers",
        why: "a signer has no peers; the port is a protocol of its own for whoever finds it",
        mend: "nolisten=true in lnd's settings (an empty listen= opens port 9735)",
        judge: Judge::Signer(no_peers),
    },
    Check {
        id: "LND-002",
        title: "lnd answers calls on named addresses alone",
        why: "on every address, each network that this host ever joins reaches the calls that sign",
        mend: "rpclisten=ADDRESS:PORT in lnd's settings, and restart it; or lsm install, which gives lnd a socket and no port",
        judge: Judge::Signer(calls),
    },
    Check {
        id: "LND-003",
        title: "The REST interface is off, or this host's alone",
        why: "it is a second way to every call, and browsers speak it",
        mend: "norest=true in lnd's settings, and restart it",
        judge: Judge::Signer(rest),
    },
    Check {
        id: "LND-004",
        title: "Every call needs a macaroon",
        why: "without, whoever reaches the port signs whatever he likes",
        mend: "take no-macaroons out of lnd's settings and arguments",
        judge: Judge::Signer(|_, signer| off(signer, &["no-macaroons"])),
    },
    Check {
        id: "LND-005",
        title: "lnd looks for no chain and no peers",
        why: "a signer that talks to the network takes what the network sends",
        mend: "bitcoin.node=nochainbackend and nobootstrap=true in lnd's settings",
        judge: Judge::Signer(|_, signer| alone(signer)),
    },
    Check {
        id: "LND-006",
        title: "What is called is not written to a log",
        why: "at debug and trace lnd logs calls with what is in them",
        mend: "debuglevel=info in lnd's settings",
        judge: Judge::Signer(|_, signer| log_level(signer)),
    },
    Check {
        id: "LND-007",
        title: "lnd serves no profile and no metrics",
        why: "a profile shows lnd's memory and what it does, with no macaroon asked for",
        mend: "take profile, blockingprofile, mutexprofile, cpuprofile, pprof.* and prometheus.* out of lnd's settings",
        judge: Judge::Signer(|_, signer| off(signer, &PROFILES)),
    },
    Check {
        id: "LND-008",
        title: "The wallet has a password of its own",
        why: "with noseedbackup the wallet has a password that everybody knows, and no seed that anybody has",
        mend: "make a wallet with a seed and a password, and move the funds there",
        judge: Judge::Signer(|_, signer| off(signer, &["noseedbackup"])),
    },
    Check {
        id: "LND-009",
        title: "The certificate stays the one that was pinned",
        why: "a certificate that renews itself breaks the watch-only node's pin; one for a public name asks a public authority",
        mend: "take tlsautorefresh and letsencryptdomain out of lnd's settings; lsm cert renew hands over a new one",
        judge: Judge::Signer(|_, signer| off(signer, &["tlsautorefresh", "letsencryptdomain"])),
    },
    Check {
        id: "LND-010",
        title: "lnd has none of a routing node's services",
        why: "Tor, towers and port forwarding are doors and connections that a signer has no use for",
        mend: "take tor.*, watchtower.*, wtclient.*, nat and externalip out of lnd's settings",
        judge: Judge::Signer(|_, signer| off(signer, &SERVICES)),
    },
    Check {
        id: "LND-011",
        title: "No web page may call lnd",
        why: "restcors lets a page in somebody's browser call on his behalf",
        mend: "take restcors out of lnd's settings",
        judge: Judge::Signer(|_, signer| off(signer, &["restcors"])),
    },
    Check {
        id: "LND-012",
        title: "lnd starts where its wallet is, or not at all",
        why: "with wallet-unlock-allow-create it starts without one, and whoever comes first makes it",
        mend: "take wallet-unlock-allow-create out of lnd's settings once the wallet is there",
        judge: Judge::Signer(|_, signer| off(signer, &["wallet-unlock-allow-create"])),
    },
    Check {
        id: "LND-013",
        title: "The wallet's database is on this host",
        why: "another host that holds the wallet has to be as well kept as this one",
        mend: "db.backend=bolt or sqlite in lnd's settings",
        judge: Judge::Signer(|_, signer| database(signer)),
    },
];

const PROFILES: [&str; 9] = [
    "profile",
    "blockingprofile",
    "mutexprofile",
    "cpuprofile",
    "pprof.profile",
    "pprof.blockingprofile",
    "pprof.mutexprofile",
    "pprof.cpuprofile",
    "prometheus.enable",
];
const SERVICES: [&str; 5] = ["tor.active", "watchtower.active", "wtclient.active", "nat", "externalip"];
/// The ports of calls, of REST, of peers and of a watchtower, where lnd's settings name none (config.go, watchtower/config.go).
pub(super) const CALLS: u16 = 10009;
const REST: u16 = 8080;
const PEERS: u16 = 9735;
const TOWER: u16 = 9911;

fn settings(signer: &Signer) -> Result<&Settings, Unknown> {
    signer.settings.need("settings of lnd")
}

/// Passes where none of these is set; what is set and switched off is not.
fn off(signer: &Signer, names: &[&str]) -> Judged {
    let settings = settings(signer)?;
    let is_off = |value: &str| matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False");
    let set =
        names.iter().filter_map(|name| settings.value(name).filter(|value| !is_off(value)).map(|value| (name, value)));
    let said = set.map(|(name, value)| if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") });
    Ok(Verdict::none(said, "none set"))
}

fn no_peers(host: &Host, signer: &Signer) -> Judged {
    if !settings(signer)?.is_on("nolisten") {
        return Ok(Verdict::Fail("nolisten is not set".to_owned()));
    }
    let Answer::Is(process) = &signer.process else { return Ok(Verdict::Pass("nolisten".to_owned())) };
    let is_open = if *process.own_network.need("network of lnd's")? {
        process.listeners()?.iter().any(|(address, _)| address.port() == PEERS)
    } else {
        let sockets = host.network.sockets.need("table of sockets")?;
        sockets.iter().any(|socket| socket.protocol == Protocol::Tcp && socket.address.port() == PEERS)
    };
    Ok(if is_open {
        Verdict::Fail("nolisten is set, and something listens on port 9735".to_owned())
    } else {
        Verdict::Pass("nolisten, and port 9735 is closed".to_owned())
    })
}

/// Where an address listens, as lnd reads it (lncfg/address.go): a unix socket, a host, or every address.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Socket,
    Here,
    Named,
    Every,
}

/// The host and the port of an address: `NETWORK://HOST:PORT` or `NETWORK:HOST:PORT`, each part but one left out. A bare number
/// is a port.
fn parts(address: &str) -> (&str, Option<u16>) {
    let bare = ["tcp", "tcp4", "tcp6"].iter().find_map(|network| address.strip_prefix(*network)?.strip_prefix(':'));
    let bare = bare.map_or(address, |rest| rest.strip_prefix("//").unwrap_or(rest));
    let (host, port) = match bare.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ if bare.bytes().all(|byte| byte.is_ascii_digit()) => ("", bare),
        _ => (bare, ""),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok())
}

fn reach(address: &str) -> Reach {
    if address.starts_with("unix:") || address.starts_with("unixpacket:") {
        return Reach::Socket;
    }
    let (host, _) = parts(address);
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Reach::Every,
        Ok(ip) if ip.is_loopback() => Reach::Here,
        Ok(_) => Reach::Named,
        Err(_) if host.is_empty() || host == "*" => Reach::Every,
        Err(_) if host == "localhost" => Reach::Here,
        Err(_) => Reach::Named,
    }
}

/// The ports that a setting names; of an address without one the usual one.
pub(super) fn ports(settings: &Settings, name: &str, usual: u16) -> Vec<u16> {
    let on_tcp = settings.values(name).iter().filter(|address| reach(address) != Reach::Socket);
    on_tcp.map(|address| parts(address).1.unwrap_or(usual)).collect()
}

/// The ports for peers, the usual one among them whatever is set.
pub(super) fn peer_ports(settings: &Settings) -> Vec<u16> {
    let mut all = if settings.is_on("nolisten") { Vec::new() } else { ports(settings, "listen", PEERS) };
    all.push(PEERS);
    all
}

/// The ports that other checks judge: for peers (LND-001), of profiles and metrics (LND-007), of a watchtower (LND-010).
fn other_ports(settings: &Settings) -> Vec<u16> {
    let mut all = peer_ports(settings);
    for name in ["profile", "pprof.profile"] {
        all.extend(ports(settings, name, 0));
    }
    if settings.is_on("prometheus.enable") {
        all.extend(ports(settings, "prometheus.listen", 0));
    }
    if settings.is_on("watchtower.active") {
        let named = ports(settings, "watchtower.listen", TOWER);
        all.extend(if named.is_empty() { vec![TOWER] } else { named });
    }
    all
}

/// The ports on which calls are expected.
fn call_ports(signer: &Signer, settings: &Settings) -> Vec<u16> {
    let mut all = ports(settings, "rpclisten", CALLS);
    all.push(CALLS);
    if let Answer::Is(spec) = &signer.spec {
        all.push(if signer.docker().is_some() { PORT } else { spec.listen.port() });
    }
    all
}

/// Another lnd may run the same program, as another user.
fn is_its(process: &Process, uid: u32) -> bool {
    process.uid.is_none_or(|own| own == uid)
}

/// Where an lnd waits in the host's own network for TCP connections of other hosts.
pub(super) fn held(host: &Host, process: &Process) -> Result<Vec<SocketAddr>, Unknown> {
    let program = process.program()?;
    let sockets = host.network.sockets.need("table of sockets")?.iter();
    let mut held = Vec::new();
    for socket in sockets.filter(|socket| socket.protocol == Protocol::Tcp && socket.is_open()) {
        let is_its = is_its(process, socket.uid);
        match &socket.holder {
            // Facts of an older lsm have every socket as root's.
            Some(Holder::Program(path)) if path == program && (is_its || socket.uid == 0) => held.push(socket.address),
            Some(Holder::Unseen(why)) if is_its => {
                return Err(Unknown::new(format!("whose {} is: {why}", socket.address)));
            }
            _ => {}
        }
    }
    Ok(held)
}

/// Where lnd waits for TCP connections of other hosts, whatever its settings say by now: lnd reads them when it starts. What other
/// checks judge is left to them, unless calls are expected there.
fn doors(host: &Host, signer: &Signer, settings: &Settings) -> Result<Vec<SocketAddr>, Unknown> {
    let Some(process) = signer.process.get()? else { return Ok(Vec::new()) };
    let mut doors = if *process.own_network.need("network of lnd's")? {
        let listeners = process.listeners()?.into_iter();
        listeners.filter(|(_, uid)| uid.is_none_or(|uid| is_its(process, uid))).map(|(address, _)| address).collect()
    } else {
        held(host, process)?
    };
    let (calls, others) = (call_ports(signer, settings), other_ports(settings));
    let is_left = |port: u16| others.contains(&port) && !calls.contains(&port);
    doors.retain(|door| !door.ip().is_loopback() && !is_left(door.port()));
    doors.sort_unstable();
    doors.dedup();
    Ok(doors)
}

fn calls(host: &Host, signer: &Signer) -> Judged {
    let settings = settings(signer)?;
    let addresses = settings.values("rpclisten");
    let told = told_calls(signer, addresses)?;
    if matches!(told, Verdict::Fail(_)) {
        return Ok(told);
    }
    let every: Vec<&str> =
        addresses.iter().map(String::as_str).filter(|address| reach(address) == Reach::Every).collect();
    let (own, rest) = (call_ports(signer, settings), ports(settings, "restlisten", REST));
    let is_told = |port: u16| every.iter().any(|address| parts(address).1.unwrap_or(CALLS) == port);
    let is_rest = |port: u16| !own.contains(&port) && (port == REST || rest.contains(&port));
    let open = doors(host, signer, settings)?.into_iter().filter(|door| {
        let port = door.port();
        door.ip().is_unspecified() && !is_told(port) && !is_rest(port)
    });
    let open: Vec<String> = open.map(|door| door.to_string()).collect();
    Ok(if open.is_empty() { told } else { Verdict::Fail(stale(&open)) })
}

/// It listens there, and its settings do not say so.
fn stale(doors: &[String]) -> String {
    format!("lnd listens on {}, which is not in its settings", few(doors))
}

fn told_calls(signer: &Signer, addresses: &[String]) -> Judged {
    if addresses.is_empty() {
        return Ok(Verdict::Pass("lnd's default, localhost:10009".to_owned()));
    }
    if let Some(verdict) = calls_inside(signer, addresses)? {
        return Ok(verdict);
    }
    let every: Vec<&String> = addresses.iter().filter(|address| reach(address) == Reach::Every).collect();
    if every.is_empty() {
        return Ok(Verdict::Pass(few(addresses)));
    }
    let asked_for = matches!(&signer.spec, Answer::Is(spec) if spec.listen.ip().is_unspecified());
    let evidence = format!("rpclisten={}", few(&every));
    Ok(if asked_for { Verdict::Warn(format!("{evidence}, as --listen asks for")) } else { Verdict::Fail(evidence) })
}

/// In a container of lsm's every address is the container's own: who comes there is decided by where its port is published.
fn calls_inside(signer: &Signer, addresses: &[String]) -> Result<Option<Verdict>, Unknown> {
    let (Answer::Is(spec), Some(_)) = (&signer.spec, signer.docker()) else { return Ok(None) };
    let Some(process) = signer.process.get()? else { return Ok(None) };
    if !*process.own_network.need("network of lnd's")? {
        return Ok(None);
    }
    let own = format!("0.0.0.0:{PORT}");
    if addresses.iter().any(|address| *address != own && reach(address) != Reach::Socket) {
        return Ok(None);
    }
    let evidence = format!("{}, in the container's own network, published at {}", few(addresses), spec.listen);
    let asked_for = spec.listen.ip().is_unspecified();
    Ok(Some(if asked_for { Verdict::Warn(evidence + ", as --listen asks for") } else { Verdict::Pass(evidence) }))
}

fn rest(host: &Host, signer: &Signer) -> Judged {
    let settings = settings(signer)?;
    let told = told_rest(settings);
    if matches!(told, Verdict::Fail(_)) {
        return Ok(told);
    }
    let calls = call_ports(signer, settings);
    let open = doors(host, signer, settings)?.into_iter().filter(|door| !calls.contains(&door.port()));
    let open: Vec<String> = open.map(|door| door.to_string()).collect();
    Ok(if open.is_empty() { told } else { Verdict::Fail(stale(&open)) })
}

fn told_rest(settings: &Settings) -> Verdict {
    if settings.is_on("norest") {
        return Verdict::Pass("norest".to_owned());
    }
    let addresses = settings.values("restlisten");
    let open: Vec<&String> = addresses.iter().filter(|a| matches!(reach(a), Reach::Every | Reach::Named)).collect();
    match (open.is_empty(), addresses.is_empty()) {
        (false, _) => Verdict::Fail(format!("restlisten={}", few(&open))),
        (true, true) => Verdict::Pass("lnd's default, localhost:8080".to_owned()),
        (true, false) => Verdict::Pass(few(addresses)),
    }
}

fn alone(signer: &Signer) -> Judged {
    let settings = settings(signer)?;
    let node = settings.value("bitcoin.node");
    let mut wrong = Vec::new();
    if node != Some("nochainbackend") {
        wrong.push(node.map_or("bitcoin.node is not set".to_owned(), |node| format!("bitcoin.node={node}")));
    }
    if !settings.is_on("nobootstrap") {
        wrong.push("nobootstrap is not set".to_owned());
    }
    Ok(Verdict::none(wrong, "nochainbackend, nobootstrap"))
}

fn log_level(signer: &Signer) -> Judged {
    let level = settings(signer)?.value("debuglevel").unwrap_or("info");
    // One level for all, or SUBSYSTEM=LEVEL for some.
    let is_loud = level.split(',').any(|part| matches!(part.rsplit('=').next(), Some("trace" | "debug")));
    Ok(Verdict::hold(!is_loud, format!("debuglevel={level}")))
}

fn database(signer: &Signer) -> Judged {
    let backend = settings(signer)?.value("db.backend").unwrap_or("bolt");
    Ok(Verdict::hold(matches!(backend, "bolt" | "sqlite"), format!("db.backend={backend}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit::Socket;
    use crate::harden::tests::{anns, of_ann};
    use serde_json::json;

    #[test]
    fn an_address_reaches_as_far_as_lnd_reads_it() {
        for (address, wanted) in [
            ("unix:///run/lnd.sock", Reach::Socket),
            ("unix:/run/lnd.sock", Reach::Socket),
            ("localhost:10009", Reach::Here),
            ("127.0.0.1", Reach::Here),
            ("[::1]:10009", Reach::Here),
            ("10.0.0.5:10012", Reach::Named),
            ("signer.lan:10012", Reach::Named),
            ("fd00::1", Reach::Named),
            ("tcp://0.0.0.0:10009", Reach::Every),
            ("tcp4:0.0.0.0:10009", Reach::Every),
            (":10009", Reach::Every),
            ("10009", Reach::Every),
            ("[::]:10009", Reach::Every),
            ("::", Reach::Every),
            ("", Reach::Every),
        ] {
            assert_eq!(reach(address), wanted, "{address}");
        }
    }

    #[test]
    fn an_address_has_a_port_or_the_usual_one() {
        let listen = ["unix:///run/lnd.sock", "10.0.0.5:10012", "tcp://[::]:8443", "localhost", "444"];
        let settings: Settings = serde_json::from_value(json!({ "rpclisten": listen })).unwrap();
        assert_eq!(ports(&settings, "rpclisten", CALLS), [10012, 8443, CALLS, 444]);
        assert_eq!(ports(&settings, "restlisten", REST), [0; 0]);
    }

    #[test]
    fn what_lnd_listens_on_counts_whatever_its_settings_say_by_now() {
        let (mut host, mut signer) = anns();
        let cases = [
            (json!({}), "127.0.0.1:10009", ["pass", "pass"]),
            (json!({}), "0.0.0.0:10009", ["fail", "pass"]),
            (json!({ "rpclisten": ["10.0.0.5:10009"] }), "0.0.0.0:10009", ["fail", "pass"]),
            (json!({ "rpclisten": ["10.0.0.5:10010"] }), "10.0.0.5:10010", ["pass", "pass"]),
            (json!({ "rpclisten": ["0.0.0.0:10010"] }), "0.0.0.0:10010", ["fail", "pass"]),
            (json!({}), "[::]:8080", ["pass", "fail"]),
            (json!({}), "10.0.0.5:8443", ["pass", "fail"]),
            // Which of both it is, nobody can tell.
            (json!({}), "0.0.0.0:4444", ["fail", "fail"]),
            (json!({ "rpclisten": ["127.0.0.1:4444"] }), "0.0.0.0:4444", ["fail", "pass"]),
            // Other checks judge these.
            (json!({}), "0.0.0.0:9735", ["pass", "pass"]),
            (json!({ "listen": ["0.0.0.0:9736"] }), "0.0.0.0:9736", ["pass", "pass"]),
            (json!({ "listen": ["0.0.0.0:9736"], "nolisten": ["1"] }), "0.0.0.0:9736", ["fail", "fail"]),
            (json!({ "profile": ["9736"] }), "0.0.0.0:9736", ["pass", "pass"]),
            (json!({ "pprof.profile": ["0.0.0.0:9736"] }), "0.0.0.0:9736", ["pass", "pass"]),
            (
                json!({ "prometheus.enable": ["1"], "prometheus.listen": ["0.0.0.0:8989"] }),
                "0.0.0.0:8989",
                ["pass", "pass"],
            ),
            (json!({ "watchtower.active": ["true"] }), "[::]:9911", ["pass", "pass"]),
            (
                json!({ "watchtower.active": ["1"], "watchtower.listen": ["0.0.0.0:9912"] }),
                "0.0.0.0:9912",
                ["pass", "pass"],
            ),
            (json!({}), "0.0.0.0:9911", ["fail", "fail"]),
            // They do not judge calls.
            (json!({ "rpclisten": ["10.0.0.5:9735"] }), "0.0.0.0:9735", ["fail", "pass"]),
        ];
        for (mut told, address, verdicts) in cases {
            told["norest"] = json!(["true"]);
            signer.settings = Answer::Is(serde_json::from_value(told).unwrap());
            host.network.sockets = Answer::Is(vec![of_ann(address)]);
            let judged = [calls(&host, &signer), rest(&host, &signer)].map(|judged| judged.unwrap().name());
            assert_eq!(judged, verdicts, "{address}: {:?}", signer.settings);
        }
    }

    #[test]
    fn a_socket_is_lnds_by_its_program_and_its_user() {
        let (mut host, mut signer) = anns();
        let told = |host: &Host, signer: &Signer| calls(host, signer).map_or("error", |verdict| verdict.name());
        signer.settings = Answer::Is(Settings::default());
        let own = of_ann("0.0.0.0:10009");
        for (socket, verdict) in [
            (own.clone(), "fail"),
            (Socket { uid: 1001, ..own.clone() }, "pass"),
            (Socket { uid: 0, ..own.clone() }, "fail"),
            (Socket { holder: Some(Holder::Program("/usr/bin/other".into())), ..own.clone() }, "pass"),
            (Socket { holder: Some(Holder::Unseen("no".to_owned())), ..own.clone() }, "error"),
            (Socket { protocol: Protocol::Udp, ..own }, "pass"),
        ] {
            host.network.sockets = Answer::Is(vec![socket.clone()]);
            assert_eq!(told(&host, &signer), verdict, "{socket:?}");
        }
        // In a network of its own.
        let line = "0: 00000000:2719 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 77";
        for (line, verdict) in [(line.to_owned(), "fail"), (line.replace(" 1000 ", " 1001 "), "pass")] {
            let Answer::Is(process) = &mut signer.process else { panic!("it runs") };
            process.own_network = Answer::Is(true);
            process.texts.insert("net/tcp".to_owned(), Answer::Is(line));
            assert_eq!(told(&host, &signer), verdict);
        }
        signer.process = Answer::Absent;
        assert_eq!(told(&host, &signer), "pass");
    }
}
