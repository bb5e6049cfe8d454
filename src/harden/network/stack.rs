//! The settings of the kernel's network (Documentation/networking/ip-sysctl.rst).

use super::walk::{Packet, Passage, Way, walk};
use super::{FORWARD, NOBODYS, STRANGERS, SYNCOOKIES, live};
use crate::facts::audit::{Host, Protocol, Unknown};
use crate::harden::{Judged, Verdict};
use std::path::Path;

pub(super) fn forwards(host: &Host) -> Judged {
    let mut on = Vec::new();
    for path in FORWARD {
        let number = host.number(path)?;
        on.extend(number.filter(|number| *number != 0).map(|number| format!("{}={number}", setting(path))));
    }
    for interface in interfaces(host, "ipv4")? {
        // The greater of both counts (ip-sysctl.rst): what listens on loopback is a neighbour's to reach.
        for of in ["all", interface] {
            let value = of_interface(host, &format!("ipv4/{of}/route_localnet"))?;
            on.extend(value.filter(|value| *value != "0").map(|_| format!("net.ipv4.conf.{of}.route_localnet=1")));
        }
    }
    on.dedup();
    let is_asked_for = |what: &String| what == "net.ipv4.ip_forward=1";
    if !on.is_empty() && on.iter().all(is_asked_for) && host.signers.iter().any(|signer| signer.docker().is_some()) {
        return forwards_for_docker(host);
    }
    Ok(Verdict::none(on, "off"))
}

/// Docker publishes no port without: what it does not publish has to stay where it is.
fn forwards_for_docker(host: &Host) -> Judged {
    let from = STRANGERS[0];
    let packet = Packet {
        protocol: Some(Protocol::Tcp),
        from: Some(from),
        to: None,
        port: Some(NOBODYS),
        is_v6: false,
        sender: None,
        way: Way::Into("elsewhere".to_owned()),
    };
    let why = "net.ipv4.ip_forward=1, which Docker needs to publish a port";
    Ok(match walk(&live(host)?, &packet, &["prerouting", "forward"])? {
        Passage::Never => Verdict::Warn(format!("{why}; what nobody published is dropped")),
        // Docker's own rules are about where a packet comes in.
        Passage::Perhaps(_) => {
            Verdict::Warn(format!("{why}; what nobody published is dropped, but for what containers send"))
        }
        Passage::Always(by) => Verdict::Fail(format!("{why}, and all else is forwarded too: {by}")),
    })
}

/// A path below /proc/sys as sysctl(8) names it.
fn setting(path: &str) -> String {
    let path = Path::new(path);
    path.strip_prefix("/proc/sys").unwrap_or(path).to_string_lossy().replace('/', ".")
}

/// The value of an interface's setting.
fn of_interface<'a>(host: &'a Host, name: &str) -> Result<Option<&'a str>, Unknown> {
    Ok(host.network.interfaces.get()?.and_then(|all| all.get(name)).map(String::as_str))
}

/// Every interface but loopback and what stands for all of them.
fn interfaces<'a>(host: &'a Host, family: &str) -> Result<Vec<&'a str>, Unknown> {
    let all = host.network.interfaces.get()?;
    let of = |path: &'a String| {
        let (name, _) = path.strip_prefix(family)?.strip_prefix('/')?.split_once('/')?;
        (!["all", "default", "lo"].contains(&name)).then_some(name)
    };
    let mut names: Vec<&str> = all.into_iter().flatten().filter_map(|(path, _)| of(path)).collect();
    names.dedup();
    Ok(names)
}

pub(super) fn redirects(host: &Host) -> Judged {
    let is_on = |family: &str, interface: &str, name: &str| -> Result<bool, Unknown> {
        Ok(of_interface(host, &format!("{family}/{interface}/{name}"))?.is_some_and(|value| value != "0"))
    };
    let mut on = Vec::new();
    for family in ["ipv4", "ipv6"] {
        for interface in interfaces(host, family)? {
            // Of IPv4 it is taken where either of both says so, on a host that forwards nothing; a source route where both
            // do. Of IPv6 the interface's own counts (ip-sysctl.rst), and the kernel takes no source route that leads on.
            let is_v4 = family == "ipv4";
            if is_on(family, interface, "accept_redirects")? || is_v4 && is_on(family, "all", "accept_redirects")? {
                on.push(format!("{family}.{interface}.accept_redirects"));
            }
            if is_v4 && is_on(family, interface, "accept_source_route")? && is_on(family, "all", "accept_source_route")?
            {
                on.push(format!("{family}.{interface}.accept_source_route"));
            }
        }
    }
    Ok(Verdict::none(on, "no redirect and no source route is taken"))
}

pub(super) fn reverse_path(host: &Host) -> Judged {
    let number = |of: &str| -> Result<i64, Unknown> {
        Ok(of_interface(host, &format!("ipv4/{of}/rp_filter"))?.and_then(|value| value.parse().ok()).unwrap_or(0))
    };
    let all = number("all")?;
    let mut open = Vec::new();
    for interface in interfaces(host, "ipv4")? {
        // The greater of both counts (ip-sysctl.rst).
        open.extend((all.max(number(interface)?) == 0).then(|| format!("{interface}: rp_filter=0")));
    }
    Ok(Verdict::none(open, "rp_filter is on"))
}

pub(super) fn syncookies(host: &Host) -> Judged {
    Ok(match host.number(SYNCOOKIES)? {
        Some(value) => Verdict::hold(value != 0, format!("tcp_syncookies={value}")),
        None => Verdict::NotApplicable("this kernel has no SYN cookies".to_owned()),
    })
}
