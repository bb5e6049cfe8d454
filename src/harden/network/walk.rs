//! What the packet filter does with one packet: every rule in its order, with all that may come of those that cannot be told.

mod packet;

pub use packet::{Packet, Way};

use super::ruleset::{Chain, Field, Item, Items, Ruleset, Statement, Table, Verdict};
use crate::facts::audit::{Protocol, Unknown};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The kernel lets chains jump no deeper (nf_tables.h, NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

/// What may become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// It is dropped.
    Never,
    /// That depends on more than is known; let through by this.
    Perhaps(String),
    /// It passes; let through by this.
    Always(String),
}

/// What a chain may come to.
#[derive(Debug, Clone, Default)]
struct Ends {
    /// By this it is let through.
    accepts: Option<String>,
    drops: bool,
    /// The next rule has it.
    goes_on: bool,
    /// This chain is over, and the one before goes on.
    leaves: bool,
}

impl Ends {
    fn add(&mut self, other: Self) {
        self.accepts = self.accepts.take().or(other.accepts);
        self.drops |= other.drops;
        self.leaves |= other.leaves;
    }
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Perhaps,
}

impl Holds {
    const fn of(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }

    fn any(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::No, |so_far, next| match (so_far, next) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Perhaps,
        })
    }

    fn all(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::Yes, |so_far, next| match (so_far, next) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Perhaps,
        })
    }
}

/// What a field of the packet is.
enum Seen<'a> {
    Address(IpAddr),
    Number(u64),
    Word(&'a str),
    /// A user, by number and name.
    User(u32, Option<&'a str>),
    /// An interface that leads out of the host.
    Outer,
    /// This interface.
    Interface(&'a str),
    /// One that leads out of the host, and is not this one.
    OuterBut(&'a str),
    /// No such packet has it: the rule is not about it.
    Never,
    Unknown,
}

/// What the packet filter does with `packet` in the chains of these hooks, one after the other.
///
/// # Errors
/// Where chains go deeper than the kernel lets them.
pub fn walk(ruleset: &Ruleset, packet: &Packet, hooks: &[&str]) -> Result<Passage, Unknown> {
    // A table of one family has no packets of the other.
    let own = if packet.is_v6 { "ip6" } else { "ip" };
    let (mut surely, mut by) = (true, None);
    for ((table, name), chain) in &ruleset.chains {
        let Some(base) = chain.base.as_ref().filter(|base| hooks.contains(&base.hook.as_str())) else { continue };
        // A chain for addresses decides none of this: what it rewrites is asked for apart.
        if base.kind == "nat" || ![own, "inet"].contains(&table.0.as_str()) {
            continue;
        }
        let untracked = ruleset.untracks || base.before_tracking;
        let walk = Walk { ruleset, packet, untracked, known: RefCell::default() };
        let mut ends = walk.chain(table, name, chain, DEEPEST)?;
        if ends.goes_on && base.drops {
            ends.drops = true;
        }
        if ends.accepts.is_none() && (base.drops || !ends.goes_on) {
            return Ok(Passage::Never);
        }
        surely &= !ends.drops;
        by = ends.accepts.or(by);
    }
    let by = by.unwrap_or_else(|| "no rule drops it".to_owned());
    Ok(if surely { Passage::Always(by) } else { Passage::Perhaps(by) })
}

/// One packet's way.
struct Walk<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    /// Nothing is known of the connection.
    untracked: bool,
    /// What came of a chain: the same wherever it is jumped to from.
    known: RefCell<BTreeMap<&'a str, BTreeMap<&'a Table, Ends>>>,
}

impl<'a> Walk<'a> {
    fn chain(&self, table: &'a Table, name: &'a str, chain: &'a Chain, depth: usize) -> Result<Ends, Unknown> {
        if let Some(ends) = self.known.borrow().get(name).and_then(|tables| tables.get(table)) {
            return Ok(ends.clone());
        }
        let depth = depth.checked_sub(1).ok_or_else(|| Unknown::new("the packet filter's chains go in circles"))?;
        let mut ends = Ends { goes_on: true, ..Ends::default() };
        for rule in &chain.rules {
            let of_rule = self.rule(table, name, rule, depth)?;
            ends.goes_on = of_rule.goes_on;
            ends.add(of_rule);
            if !ends.goes_on {
                break;
            }
        }
        ends.goes_on |= ends.leaves;
        ends.leaves = false;
        self.known.borrow_mut().entry(name).or_default().insert(table, ends.clone());
        Ok(ends)
    }

    fn rule(&self, table: &'a Table, chain: &str, rule: &'a [Statement], depth: usize) -> Result<Ends, Unknown> {
        let mut ends = Ends::default();
        for statement in rule {
            match statement {
                Statement::Nothing => {}
                Statement::Perhaps | Statement::Redirect(..) => ends.goes_on = true,
                Statement::Anything => {
                    ends.goes_on = true;
                    ends.add(self.verdict(table, chain, &Verdict::Queue, depth)?);
                }
                Statement::Match { fields, not, with } => match self.matches(table, fields, *not, with) {
                    Holds::Yes => {}
                    Holds::Perhaps => ends.goes_on = true,
                    Holds::No => {
                        ends.goes_on = true;
                        return Ok(ends);
                    }
                },
                Statement::Verdict(verdict) => {
                    let more = self.verdict(table, chain, verdict, depth)?;
                    ends.goes_on |= more.goes_on;
                    ends.add(more);
                    return Ok(ends);
                }
                Statement::Cases(fields, items) => {
                    let more = self.cases(table, chain, fields, items, depth)?;
                    let goes_on = more.goes_on;
                    ends.add(more);
                    if !goes_on {
                        return Ok(ends);
                    }
                }
            }
        }
        ends.goes_on = true;
        Ok(ends)
    }

    fn verdict(&self, table: &'a Table, chain: &str, verdict: &'a Verdict, depth: usize) -> Result<Ends, Unknown> {
        let accepts = || Some(format!("let in by a rule of {} {} {chain}", table.0, table.1));
        Ok(match verdict {
            Verdict::Accept => Ends { accepts: accepts(), ..Ends::default() },
            Verdict::Drop => Ends { drops: true, ..Ends::default() },
            Verdict::Queue => Ends { accepts: accepts(), drops: true, ..Ends::default() },
            Verdict::Return => Ends { leaves: true, ..Ends::default() },
            Verdict::Continue => Ends { goes_on: true, ..Ends::default() },
            Verdict::Jump(to) | Verdict::Goto(to) => {
                let Some(((table, name), target)) = self.ruleset.chains.get_key_value(&(table.clone(), to.clone()))
                else {
                    return Err(Unknown::new(format!("the packet filter has no chain {to}")));
                };
                let mut ends = self.chain(table, name, target, depth)?;
                if matches!(verdict, Verdict::Goto(_)) {
                    ends.leaves = std::mem::take(&mut ends.goes_on);
                }
                ends
            }
        })
    }

    /// A verdict map: of those that hold, or may, the verdicts; where none surely does, the next statement too.
    fn cases(
        &self,
        table: &'a Table,
        chain: &str,
        fields: &[Field],
        items: &'a Items,
        depth: usize,
    ) -> Result<Ends, Unknown> {
        let (all, changes) = self.items(table, items);
        let mut ends = Ends { goes_on: true, ..Ends::default() };
        if self.lacks(fields) {
            return Ok(ends);
        }
        for (item, verdict) in all {
            let holds = self.fields_hold(fields, item);
            if holds == Holds::No {
                continue;
            }
            let more = verdict.as_ref().map(|verdict| self.verdict(table, chain, verdict, depth)).transpose()?;
            let more = more.unwrap_or(Ends { goes_on: true, ..Ends::default() });
            let settled = holds == Holds::Yes && !changes;
            ends.goes_on = more.goes_on || !settled;
            ends.add(more);
            if settled {
                break;
            }
        }
        Ok(ends)
    }

    fn items(&self, table: &Table, items: &'a Items) -> (&'a [(Item, Option<Verdict>)], bool) {
        match items {
            Items::These(all) => (all, false),
            Items::Named(name) => match self.ruleset.sets.get(&(table.clone(), name.clone())) {
                Some(set) => (&set.items, set.changes),
                None => (&[], true),
            },
        }
    }

    /// A field that the packet does not have ends the rule, whatever it is compared with.
    fn lacks(&self, fields: &[Field]) -> bool {
        fields.iter().any(|field| matches!(self.seen(field), Seen::Never))
    }

    fn matches(&self, table: &Table, fields: &[Field], not: bool, with: &'a Items) -> Holds {
        if self.lacks(fields) {
            return Holds::No;
        }
        let (all, changes) = self.items(table, with);
        let holds = if changes {
            Holds::Perhaps
        } else {
            Holds::any(all.iter().map(|(item, _)| self.fields_hold(fields, item)))
        };
        match (holds, not) {
            (Holds::Yes, true) => Holds::No,
            (Holds::No, true) => Holds::Yes,
            (holds, _) => holds,
        }
    }

    fn fields_hold(&self, fields: &[Field], item: &Item) -> Holds {
        match (fields, item) {
            ([field], item) => holds(&self.seen(field), item),
            (fields, Item::Tuple(items)) if fields.len() == items.len() => {
                Holds::all(fields.iter().zip(items).map(|(field, item)| holds(&self.seen(field), item)))
            }
            (_, Item::Any) => Holds::Yes,
            _ => Holds::Perhaps,
        }
    }

    fn seen(&self, field: &Field) -> Seen<'a> {
        match field {
            Field::Header(protocol, name) => self.header(protocol, name),
            Field::Meta(key) => self.meta(key),
            Field::Connection(_) if self.untracked => Seen::Unknown,
            Field::Connection(key) => match key.as_str() {
                "state" => Seen::Word("new"),
                "direction" => Seen::Word("original"),
                _ => Seen::Unknown,
            },
            Field::KindOfTarget if self.packet.way != Way::Here => match self.packet.way {
                Way::Into(_) => Seen::Word("unicast"),
                _ => Seen::Unknown,
            },
            // What goes to all, or to a group, comes in too, but is no connection.
            Field::KindOfTarget if self.packet.sender.is_none() && self.packet.protocol == Some(Protocol::Tcp) => {
                Seen::Word("local")
            }
            Field::KindOfTarget | Field::Other => Seen::Unknown,
        }
    }

    fn header(&self, protocol: &str, name: &str) -> Seen<'a> {
        const CARRIERS: [&str; 10] = ["tcp", "udp", "icmp", "icmpv6", "sctp", "dccp", "udplite", "esp", "ah", "igmp"];
        let packet = self.packet;
        let address = |ip: Option<IpAddr>| ip.filter(|_| !self.ruleset.rewrites).map_or(Seen::Unknown, Seen::Address);
        let port = packet.port.filter(|_| !self.ruleset.rewrites);
        let port = || port.map_or(Seen::Unknown, |port| Seen::Number(port.into()));
        match (protocol, name) {
            ("ip", _) if packet.is_v6 => Seen::Never,
            ("ip6", _) if !packet.is_v6 => Seen::Never,
            ("ip" | "ip6", "saddr") => address(packet.from),
            ("ip" | "ip6", "daddr") => address(packet.to),
            // Of IPv6 another header may come first.
            ("ip", "protocol") => self.carrier(),
            ("th", "dport") => port(),
            (protocol, name) => match packet.protocol.map(carrier) {
                Some(own) if own == protocol => {
                    if name == "dport" {
                        port()
                    } else {
                        Seen::Unknown
                    }
                }
                Some(_) if CARRIERS.contains(&protocol) => Seen::Never,
                _ => Seen::Unknown,
            },
        }
    }

    fn carrier(&self) -> Seen<'a> {
        self.packet.protocol.map_or(Seen::Unknown, |protocol| Seen::Word(carrier(protocol)))
    }

    fn meta(&self, key: &str) -> Seen<'a> {
        let packet = self.packet;
        match key {
            "nfproto" => Seen::Word(if packet.is_v6 { "ipv6" } else { "ipv4" }),
            "protocol" => Seen::Word(if packet.is_v6 { "ip6" } else { "ip" }),
            "l4proto" => self.carrier(),
            "iif" | "iifname" if let Way::OutOf(bridge) = &packet.way => Seen::Interface(bridge),
            "oif" | "oifname" if let Way::Into(bridge) = &packet.way => Seen::Interface(bridge),
            "iif" | "iifname" if let Way::Into(bridge) = &packet.way => Seen::OuterBut(bridge),
            "iif" | "iifname" if packet.sender.is_none() => Seen::Outer,
            "oif" | "oifname" if packet.sender.is_some() => Seen::Outer,
            "skuid" => {
                packet.sender.as_ref().map_or(Seen::Unknown, |(number, name)| Seen::User(*number, name.as_deref()))
            }
            _ => Seen::Unknown,
        }
    }
}

const fn carrier(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn holds(seen: &Seen<'_>, item: &Item) -> Holds {
    match (seen, item) {
        (Seen::Never, _) => Holds::No,
        (_, Item::Any) => Holds::Yes,
        (Seen::Address(ip), Item::Net(net)) => Holds::of(net.contains(ip)),
        (Seen::Address(ip), Item::Addresses(first, last)) => Holds::of((first..=last).contains(&ip)),
        (Seen::Number(is), Item::Numbers(first, last)) => Holds::of((first..=last).contains(&is)),
        (Seen::User(is, _), Item::Numbers(first, last)) => Holds::of((*first..=*last).contains(&u64::from(*is))),
        (Seen::User(_, Some(is)), Item::Word(name)) => Holds::of(is == name),
        (Seen::Word(is), Item::Word(name)) => Holds::of(is == name),
        (Seen::Outer, Item::Word(name)) if name == "lo" => Holds::No,
        (Seen::OuterBut(own), Item::Word(name)) if name == own || name == "lo" => Holds::No,
        // A name that ends with a star is the beginning of several.
        (Seen::Interface(_), Item::Word(name)) if name.ends_with('*') => Holds::Perhaps,
        (Seen::Interface(is), Item::Word(name)) => Holds::of(is == name),
        _ => Holds::Perhaps,
    }
}

#[cfg(test)]
mod tests;
