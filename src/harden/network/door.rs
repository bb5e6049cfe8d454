//! The way in to lnd's port, and the way out from lnd, held against the packet filter.

use super::ruleset::{Ruleset, Statement};
use super::walk::{Packet, Passage, walk};
use super::{PEERS, STRANGERS, has_legacy, let_in, live};
use crate::facts::audit::{Answer, Holder, Host, Protocol, Signer, Socket, Unknown};
use crate::harden::{Judged, Verdict, few};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The hooks that a packet passes which leaves the host.
const OUTWARD: [&str; 2] = ["output", "postrouting"];

/// Where the signer is reached from other hosts: where lsm was told, else where its lnd listens.
fn doors(host: &Host, signer: &Signer) -> Result<Vec<SocketAddr>, Unknown> {
    if let Some(spec) = signer.spec.get()? {
        return Ok([spec.listen].into_iter().filter(|address| !address.ip().is_loopback()).collect());
    }
    if let Answer::Is(process) = &signer.process
        && process.own_network.need("network of lnd's")? == &true
    {
        return Err(Unknown::new("lnd has a network of its own, and who is let into that is not seen from here"));
    }
    let exe = match &signer.process {
        Answer::Is(process) => process.exe.need("program of lnd's")?,
        _ => return Ok(Vec::new()),
    };
    let sockets = host.network.sockets.need("table of sockets")?;
    let is_its = |socket: &&Socket| {
        socket.is_open() && socket.holder.as_ref().is_some_and(|holder| *holder == Holder::Program(exe.clone()))
    };
    let open = sockets.iter().filter(is_its).filter(|socket| socket.protocol == Protocol::Tcp);
    Ok(open.map(|socket| socket.address).filter(|address| address.port() != PEERS).collect())
}

fn allowed(signer: &Signer) -> Result<Option<&[IpNet]>, Unknown> {
    Ok(signer.spec.get()?.map(|spec| spec.allow.as_slice()))
}

fn is_allowed(allowed: &[IpNet], ip: IpAddr) -> bool {
    allowed.iter().any(|net| net.contains(&ip))
}

pub(super) fn closed_to_strangers(host: &Host, signer: &Signer) -> Judged {
    let doors = doors(host, signer)?;
    if doors.is_empty() {
        return Ok(Verdict::Pass("it listens for this host alone".to_owned()));
    }
    let allowed = allowed(signer)?;
    let strangers: Vec<IpAddr> =
        STRANGERS.into_iter().filter(|ip| !allowed.is_some_and(|nets| is_allowed(nets, *ip))).collect();
    let Some((from, door, passage)) = let_in(&live(host)?, &doors, &strangers)? else {
        return Ok(Verdict::Pass(format!(
            "{} is closed to {} strangers that were tried",
            few_of(&doors),
            strangers.len()
        )));
    };
    if has_legacy(host)? {
        return Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"));
    }
    Ok(match passage {
        // Of lsm's own table everything is known: what may pass it was put there by somebody.
        Passage::Perhaps(by) if allowed.is_none() => {
            Verdict::Warn(format!("{from} may get to {door}, depending on more than its address: {by}"))
        }
        Passage::Perhaps(by) | Passage::Always(by) => Verdict::Fail(format!("{from} gets to {door}: {by}")),
        Passage::Never => Verdict::Pass(few_of(&doors)),
    })
}

fn few_of(doors: &[SocketAddr]) -> String {
    few(&doors.iter().map(ToString::to_string).collect::<Vec<_>>())
}

pub(super) fn only_the_allowed(host: &Host, signer: &Signer) -> Judged {
    /// More addresses than a signer's filter names, and each takes a walk through all rules.
    const MOST: usize = 1000;
    let doors = doors(host, signer)?;
    if doors.is_empty() {
        return Ok(Verdict::Pass("it listens for this host alone".to_owned()));
    }
    let ruleset = live(host)?;
    if let Some(sent) = sent_on(&ruleset, &doors) {
        return Ok(sent);
    }
    if has_legacy(host)? {
        return Err(Unknown::new("rules of iptables-legacy are in force, which nft does not show"));
    }
    let Some(allowed) = allowed(signer)? else {
        return Ok(Verdict::Pass(
            "nothing is sent on to it; who is to get in only lsm's own allowlist would tell".to_owned(),
        ));
    };
    let is_named = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && !is_allowed(allowed, *ip);
    let named: Vec<IpAddr> = ruleset.addresses().into_iter().filter(is_named).collect();
    if named.len() > MOST {
        return Err(Unknown::new(format!("the packet filter names {} addresses, too many to try", named.len())));
    }
    // Who gets in whatever his address is, is a stranger.
    let closed =
        let_in(&ruleset, &doors, &STRANGERS.into_iter().filter(|ip| !is_allowed(allowed, *ip)).collect::<Vec<_>>())?
            .is_none();
    Ok(match let_in(&ruleset, &doors, &named)?.filter(|_| closed) {
        Some((from, door, Passage::Perhaps(by) | Passage::Always(by))) => {
            Verdict::Fail(format!("{from} is not on the allowlist and gets to {door}: {by}"))
        }
        _ => Verdict::Pass(format!("of {} further addresses in the filter none", named.len())),
    })
}

/// A rule that sends packets to one of the doors, after the filter let them pass as something else.
fn sent_on(ruleset: &Ruleset, doors: &[SocketAddr]) -> Option<Verdict> {
    let mut unknown = None;
    for ((table, name), chain) in &ruleset.chains {
        for statement in chain.rules.iter().flatten() {
            match statement {
                Statement::Redirect(Some((first, last))) => {
                    if let Some(door) = doors.iter().find(|door| (*first..=*last).contains(&door.port())) {
                        let evidence =
                            format!("a rule of {} {} {name} sends packets to port {}", table.0, table.1, door.port());
                        return Some(Verdict::Fail(evidence));
                    }
                }
                Statement::Redirect(None) => {
                    unknown.get_or_insert_with(|| {
                        format!(
                            "a rule of {} {} {name} sends packets to ports that nft does not tell",
                            table.0, table.1
                        )
                    });
                }
                _ => {}
            }
        }
    }
    unknown.map(Verdict::Warn)
}

pub(super) fn no_way_out(host: &Host, signer: &Signer) -> Judged {
    let Some(process) = signer.process.get()? else {
        return Ok(Verdict::NotApplicable("lnd does not run".to_owned()));
    };
    if *process.own_network.need("network of lnd's")? {
        let table = process.texts.get("net/dev").map_or(Ok(None), Answer::get)?;
        let table = table.ok_or_else(|| Unknown::new("what is in lnd's own network cannot be seen"))?;
        let outer: Vec<&str> = table
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim()))
            .filter(|name| *name != "lo")
            .collect();
        return Ok(match outer[..] {
            [] => Verdict::Pass("it has a network of its own with nothing in it".to_owned()),
            _ => {
                Verdict::Warn(format!("it has a network of its own with {}: who filters that is not seen", few(&outer)))
            }
        });
    }
    let uid = process.uid.ok_or_else(|| Unknown::new("lnd's user cannot be seen"))?;
    let ruleset = live(host)?;
    for (is_v6, to) in [(false, STRANGERS[0]), (true, STRANGERS[5])] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let sender = Some((uid, signer.user.clone().unwrap_or_default()));
            let packet = Packet { protocol, from: None, to: Some(to), port: PEERS, is_v6, sender };
            if walk(&ruleset, &packet, &OUTWARD)? != Passage::Never {
                return Ok(reaches(host, signer, protocol, to));
            }
        }
    }
    Ok(Verdict::Pass("the packet filter drops what lnd's user begins".to_owned()))
}

/// It passes the packet filter; systemd may have one of its own on the unit (systemd.resource-control(5)).
fn reaches(host: &Host, signer: &Signer, protocol: Protocol, to: IpAddr) -> Verdict {
    let units = host.units.shown.get().ok().flatten();
    let denied = units.and_then(|units| units.get(&signer.name)).map_or("", |unit| unit.is("IPAddressDeny"));
    let is_denied = ["::/0", "0.0.0.0/0"].iter().all(|net| denied.split_whitespace().any(|word| word == *net));
    if is_denied {
        Verdict::Warn("by systemd's IPAddressDeny= alone".to_owned())
    } else {
        Verdict::Fail(format!("it may send {protocol} to {to}: no rule drops what its user begins"))
    }
}
