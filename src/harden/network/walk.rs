//! What the packet filter does with one packet: every rule in its order, with all that may come of those that cannot be told.

use super::ruleset::{Chain, Field, Item, Items, Ruleset, Statement, Table, Verdict};
use crate::facts::audit::{Protocol, Unknown};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The kernel lets chains jump no deeper (nf_tables.h, NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

/// The first packet of a connection, or a single one.
#[derive(Debug, Clone)]
pub struct Packet {
    /// What carries it; nothing where it is neither.
    pub protocol: Option<Protocol>,
    /// Where it comes from, where that counts.
    pub from: Option<IpAddr>,
    /// Where it goes to, where that is one address.
    pub to: Option<IpAddr>,
    /// To which port, where that counts.
    pub port: Option<u16>,
    /// It is of IPv6.
    pub is_v6: bool,
    /// Of one that leaves: the user who sends it, by number and, where it has one, name.
    pub sender: Option<(u32, Option<String>)>,
}

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
                Statement::Perhaps | Statement::Redirect(_) => ends.goes_on = true,
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
        _ => Holds::Perhaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::network::in_empty_network;
    use crate::host::{program, program::Program, user};
    use crate::render::nft::render_nft;
    use crate::secret::Secret;
    use crate::spec::{Mode, Network, Spec, parse_cidr};

    const INWARD: [&str; 2] = ["prerouting", "input"];

    fn nft(args: &[&str], input: &str) -> String {
        let run = Program::new("nft").args(args).input(Secret::new(input.into())).run().expect("nft");
        String::from_utf8(run).expect("text")
    }

    fn live() -> Ruleset {
        let text = nft(&["-s", "-t", "list", "ruleset"], "");
        Ruleset::parse(&nft(&["-j", "list", "ruleset"], ""), &text).expect("a ruleset")
    }

    fn knock(from: &str) -> Packet {
        let from: IpAddr = from.parse().expect("an address");
        let (protocol, is_v6) = (Some(Protocol::Tcp), from.is_ipv6());
        Packet { protocol, from: Some(from), to: None, port: Some(10012), is_v6, sender: None }
    }

    fn letter(passage: Passage) -> char {
        match passage {
            Passage::Never => 'n',
            Passage::Perhaps(_) => 'p',
            Passage::Always(_) => 'a',
        }
    }

    /// Rules, and what becomes of a connection to port 10012 from 10.0.0.1, 203.0.113.77 and fd00::1: always in, perhaps, never.
    const FILTERS: &[(&str, &str)] = &[
        ("", "aaa"),
        ("policy drop;", "nnn"),
        ("policy drop; tcp dport 22 accept", "nnn"),
        ("policy drop; tcp dport { 22, 10000-10100 } accept", "aaa"),
        ("policy drop; ip saddr 10.0.0.0/8 tcp dport 10012 accept", "ann"),
        ("policy drop; ip saddr != 10.0.0.0/8 accept", "nan"),
        ("policy drop; ip saddr @some accept", "ann"),
        ("policy drop; ip saddr . tcp dport { 10.0.0.1 . 10012 } accept", "ann"),
        ("policy drop; ip saddr vmap { 10.0.0.0/9 : accept, 10.128.0.0/9 : drop }", "ann"),
        ("policy drop; tcp dport vmap { 22 : accept, 10012 : jump more }", "ann"),
        ("policy drop; jump more", "ann"),
        ("policy drop; goto more; accept", "ann"),
        ("jump more; drop", "ann"),
        ("policy drop; ct state established,related accept", "nnn"),
        ("policy drop; ct state vmap { established : accept, related : accept, invalid : drop }", "nnn"),
        ("ct state new drop", "nnn"),
        ("policy drop; iif lo accept", "nnn"),
        ("policy drop; iifname eth7 accept", "ppp"),
        ("policy drop; meta mark 1 accept", "ppp"),
        ("tcp dport 10012 limit rate 5/second drop", "ppp"),
        ("tcp dport 10012 limit rate 5/second accept; drop", "ppp"),
        ("udp dport 10012 drop", "aaa"),
        ("th dport 10012 drop", "nnn"),
        ("tcp dport != 22 drop", "nnn"),
        ("tcp dport 10000-10020 reject with tcp reset", "nnn"),
        ("meta nfproto ipv6 drop", "aan"),
        ("meta l4proto tcp drop", "nnn"),
        ("ip6 nexthdr tcp drop", "aap"),
        ("ip saddr . tcp dport vmap { 10.0.0.1 . 22 : accept, * : drop }", "nna"),
        ("ip dscp set cs1; policy drop", "nnn"),
        ("ip saddr 10.0.0.1 drop; ip saddr set 10.0.0.9", "ppa"),
        ("ct state != { established, related } drop", "nnn"),
        ("notrack; ct state new drop", "ppp"),
        ("fib daddr type local drop", "nnn"),
        ("ip saddr @filled drop; tcp dport 22 add @filled { ip saddr }", "ppa"),
        ("policy drop; return; accept", "nnn"),
        ("log prefix \"x\" counter drop", "nnn"),
    ];

    #[test]
    fn what_gets_in_is_what_the_kernel_would_let_in() {
        if !user::is_root() || program::find("nft").is_none() {
            eprintln!("skipped: this test needs root and nft");
            return;
        }
        let found = in_empty_network(|| {
            let outcome = |rules: &str| -> String {
                let table = format!(
                    "flush ruleset; table inet t {{ set some {{ type ipv4_addr; elements = {{ 10.0.0.1 }}; }}; \
                     set filled {{ type ipv4_addr; size 9; flags dynamic; }}; chain more {{ ip saddr 10.0.0.1 accept; }}; \
                     chain c {{ type filter hook input priority 0; {rules}; }}; }}"
                );
                nft(&["-f", "-"], &table.replace(";;", ";"));
                let ruleset = live();
                let senders = ["10.0.0.1", "203.0.113.77", "fd00::1"];
                senders.iter().map(|from| letter(walk(&ruleset, &knock(from), &INWARD).unwrap())).collect()
            };
            FILTERS.iter().map(|(rules, _)| outcome(rules)).collect::<Vec<_>>()
        });
        let found = found.expect("a network of its own");
        for ((rules, wanted), found) in FILTERS.iter().zip(found) {
            assert_eq!(found, *wanted, "{rules}");
        }
    }

    /// Each opens lsm's own filter to 203.0.113.77; the last two do not.
    const CHANGES: [(&str, char); 9] = [
        ("delete table inet lsm", 'a'),
        ("flush chain inet lsm a_judge", 'a'),
        ("insert rule inet lsm prerouting accept", 'a'),
        ("insert rule inet lsm prerouting iifname \"eth0\" accept", 'p'),
        ("add element inet lsm a_allow4 { 203.0.113.0/24 }", 'p'),
        ("add table inet lsm { flags dormant; }", 'a'),
        (
            "table inet lsm { chain prerouting { type filter hook prerouting priority mangle; policy accept; }; }; \
          flush chain inet lsm prerouting",
            'a',
        ),
        ("table inet other { chain c { type filter hook input priority -500; accept; }; }", 'n'),
        ("insert rule inet lsm output accept", 'n'),
    ];

    #[test]
    fn lsms_own_filter_is_seen_to_close_the_port_and_every_way_of_opening_it_too() {
        if !user::is_root() || program::find("nft").is_none() {
            eprintln!("skipped: this test needs root and nft");
            return;
        }
        let allow = vec![parse_cidr("10.0.0.0/24").unwrap()];
        let spec =
            |mode| Spec { mode, allow: allow.clone(), ..Spec::new(&"a".parse().unwrap(), Network::Regtest, "v") };
        in_empty_network(|| {
            for mode in [Mode::Isolated, Mode::Host] {
                // Users that every machine has.
                let text = render_nft(&[&spec(mode)])
                    .unwrap()
                    .replace("\"lsm-a\"", "daemon")
                    .replace("\"lsm-proxy-a\"", "bin");
                let passes = |from: &str| letter(walk(&live(), &knock(from), &INWARD).unwrap());
                nft(&["-f", "-"], &text);
                assert_eq!((passes("203.0.113.77"), passes("2001:db8::77")), ('n', 'n'));
                // Fewer than too many connections, and in host mode once the gate is open.
                assert_eq!(passes("10.0.0.5"), 'p');
                let out = Packet { sender: Some((1, Some("daemon".to_owned()))), from: None, ..knock("203.0.113.77") };
                assert_eq!(letter(walk(&live(), &out, &["output"]).unwrap()), 'n', "lnd calls nobody");
                let root = Packet { sender: Some((0, Some("root".to_owned()))), ..out };
                assert_ne!(letter(walk(&live(), &root, &["output"]).unwrap()), 'n', "others do");
                for (change, wanted) in CHANGES.iter().filter(|_| mode == Mode::Isolated) {
                    nft(&["-f", "-"], change);
                    assert_eq!(passes("203.0.113.77"), *wanted, "{change}");
                    nft(&["-f", "-"], &format!("flush ruleset\n{text}"));
                }
            }
        })
        .unwrap();
    }

    #[test]
    fn chains_that_go_in_circles_are_told() {
        let rule = |chain: &str, to: &str| {
            format!(
                r#"{{"rule": {{"family": "ip", "table": "t", "chain": "{chain}", "expr": [{{"jump": {{"target": "{to}"}}}}]}}}}"#
            )
        };
        let base = r#"{"chain": {"family": "ip", "table": "t", "name": "a", "type": "filter", "hook": "input", "policy": "drop"}}"#;
        let json = format!(r#"{{"nftables": [{base}, {}, {}]}}"#, rule("a", "b"), rule("b", "a"));
        let ruleset = Ruleset::parse(&json, "").unwrap();
        assert!(walk(&ruleset, &knock("10.0.0.1"), &INWARD).is_err());
    }
}
