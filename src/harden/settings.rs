//! lnd's own settings: what a signer needs, and nothing else.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Answer, Host, Needs, Protocol, Settings, Signer, Unknown};
use crate::spec::docker::PORT;
use std::net::IpAddr;

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
        mend: "rpclisten=ADDRESS:PORT in lnd's settings, or lsm install, which gives lnd a socket and no port",
        judge: Judge::Signer(|_, signer| calls(signer)),
    },
    Check {
        id: "LND-003",
        title: "The REST interface is off, or this host's alone",
        why: "it is a second way to every call, and browsers speak it",
        mend: "norest=true in lnd's settings",
        judge: Judge::Signer(|_, signer| rest(signer)),
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
        mend: "take profile, blockingprofile, mutexprofile, cpuprofile and prometheus.* out of lnd's settings",
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

const PROFILES: [&str; 6] =
    ["profile", "blockingprofile", "mutexprofile", "cpuprofile", "pprof.blockingprofile", "prometheus.enable"];
const SERVICES: [&str; 5] = ["tor.active", "watchtower.active", "wtclient.active", "nat", "externalip"];
/// Where peers are expected, also in hexadecimal as /proc/net/tcp has it.
pub(super) const PEERS: u16 = 9735;
const PEERS_PORT: &str = "2607";
/// The state of a listening socket there (include/net/tcp_states.h).
const LISTENS: &str = "0A";

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
        let mut tables = Vec::new();
        for table in ["net/tcp", "net/tcp6"] {
            // Where the network leads nowhere, or the kernel has no IPv6, there is none.
            tables.extend(process.texts.get(table).map_or(Ok(None), Answer::get)?);
        }
        tables.into_iter().flat_map(|table| table.lines()).any(is_for_peers)
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

/// A line such as `0: 00000000:2607 00000000:0000 0A ...` (proc_pid_net(5)).
fn is_for_peers(line: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (local, state) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
    local.ends_with(&format!(":{PEERS_PORT}")) && state == LISTENS
}

/// Where an address listens, as lnd reads it (lncfg/address.go): a unix socket, a host, or every address.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Socket,
    Here,
    Named,
    Every,
}

fn reach(address: &str) -> Reach {
    if address.starts_with("unix://") || address.starts_with("unixpacket://") {
        return Reach::Socket;
    }
    let bare = address.rsplit_once("//").map_or(address, |(_, rest)| rest);
    // A bare number is a port.
    let host = match bare.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host,
        _ if bare.bytes().all(|byte| byte.is_ascii_digit()) => "",
        _ => bare,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Reach::Every,
        Ok(ip) if ip.is_loopback() => Reach::Here,
        Ok(_) => Reach::Named,
        Err(_) if host.is_empty() || host == "*" => Reach::Every,
        Err(_) if host == "localhost" => Reach::Here,
        Err(_) => Reach::Named,
    }
}

fn calls(signer: &Signer) -> Judged {
    let addresses = settings(signer)?.values("rpclisten");
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

fn rest(signer: &Signer) -> Judged {
    let settings = settings(signer)?;
    if settings.is_on("norest") {
        return Ok(Verdict::Pass("norest".to_owned()));
    }
    let addresses = settings.values("restlisten");
    let open: Vec<&String> = addresses.iter().filter(|a| matches!(reach(a), Reach::Every | Reach::Named)).collect();
    Ok(match (open.is_empty(), addresses.is_empty()) {
        (false, _) => Verdict::Fail(format!("restlisten={}", few(&open))),
        (true, true) => Verdict::Pass("lnd's default, localhost:8080".to_owned()),
        (true, false) => Verdict::Pass(few(addresses)),
    })
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

    #[test]
    fn an_address_reaches_as_far_as_lnd_reads_it() {
        for (address, wanted) in [
            ("unix:///run/lnd.sock", Reach::Socket),
            ("localhost:10009", Reach::Here),
            ("127.0.0.1", Reach::Here),
            ("[::1]:10009", Reach::Here),
            ("10.0.0.5:10012", Reach::Named),
            ("signer.lan:10012", Reach::Named),
            ("fd00::1", Reach::Named),
            ("tcp://0.0.0.0:10009", Reach::Every),
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
    fn only_a_socket_that_listens_is_for_peers() {
        assert!(is_for_peers("   0: 00000000:2607 00000000:0000 0A 00000000:00000000"));
        assert!(is_for_peers("   0: 00000000000000000000000000000000:2607 00000000000000000000000000000000:0000 0A 0"));
        assert!(!is_for_peers("   0: 0100007F:2607 0100007F:A0C4 01 00000000:00000000"));
        assert!(!is_for_peers("  sl  local_address rem_address   st"));
    }
}
