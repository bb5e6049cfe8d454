//! The live packet filter as nft prints it (libnftables-json(5)), as far as it decides who gets in.
//!
//! What is not understood is kept as something that may or may not hold: it never makes a port look closed.

mod json;

use crate::facts::audit::Unknown;
use ipnet::IpNet;
use json::{asleep, base, entry, has_condition, list, statement, word};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A table: its family and its name.
pub type Table = (String, String);

/// Every table, chain and set.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Chains by their tables and names.
    pub chains: BTreeMap<(Table, String), Chain>,
    /// What is in named sets and maps.
    pub sets: BTreeMap<(Table, String), Set>,
    /// A rule lets packets by the tracking of connections: what state they have is not known then.
    pub untracks: bool,
    /// A rule writes other addresses or ports into packets: what they are is not known then.
    pub rewrites: bool,
}

/// One chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// Where the kernel enters it; nothing where only rules do.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Vec<Statement>>,
}

/// Where the kernel enters a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `input` and so on.
    pub hook: String,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// What no rule decides is dropped.
    pub drops: bool,
    /// The kernel knows nothing of connections yet, or it is not told when it enters (netfilter_ipv4.h,
    /// NF_IP_PRI_CONNTRACK).
    pub before_tracking: bool,
}

/// A named set or map.
#[derive(Debug, Default)]
pub struct Set {
    /// What is in it, with the verdict where it is a verdict map.
    pub items: Vec<(Item, Option<Verdict>)>,
    /// Rules put something into it, or it forgets: what is in it now says little.
    pub changes: bool,
}

/// A part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Goes on where these fields are, or are not, one of these.
    Match {
        /// One, or several at once.
        fields: Vec<Field>,
        /// They must be none of these.
        not: bool,
        /// What they are held against.
        with: Items,
    },
    /// The end of the rule.
    Verdict(Verdict),
    /// The end of the rule for those that are in the map.
    Cases(Vec<Field>, Items),
    /// Sends what comes to another port, or to one that is not told; to this address, where that is one.
    Redirect(Option<(u16, u16)>, Option<IpAddr>),
    /// May go on or not: a limit, a count, a match of iptables.
    Perhaps,
    /// May do whatever there is, also let it through: what nobody here knows.
    Anything,
    /// Goes on: a counter, a log.
    Nothing,
}

/// What a rule or a policy decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This base chain lets it through.
    Accept,
    /// Nobody gets it.
    Drop,
    /// That chain decides, then the next rule.
    Jump(String),
    /// That chain decides, and nothing after it here.
    Goto(String),
    /// Back to where this chain was jumped from.
    Return,
    /// The next rule.
    Continue,
    /// A program decides.
    Queue,
}

/// What of a packet is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A header's field: `ip saddr`.
    Header(String, String),
    /// What the kernel knows of the packet: `meta KEY`.
    Meta(String),
    /// What it knows of the connection: `ct KEY`.
    Connection(String),
    /// Whether an address is the host's own: `fib daddr type`.
    KindOfTarget,
    /// Something else.
    Other,
}

/// What a field is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Items {
    /// These, each with its verdict in a map.
    These(Vec<(Item, Option<Verdict>)>),
    /// What is in a named set or map.
    Named(String),
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Addresses.
    Net(IpNet),
    /// Addresses from one to another.
    Addresses(IpAddr, IpAddr),
    /// Numbers from one to another.
    Numbers(u64, u64),
    /// A name.
    Word(String),
    /// Several fields at once.
    Tuple(Vec<Item>),
    /// Whatever there is.
    Any,
    /// Something else.
    Other,
}

impl Ruleset {
    /// Reads `nft -j list ruleset`, and of `nft -s -t list ruleset` which tables sleep: the first does not tell.
    ///
    /// # Errors
    /// Where that is no such output.
    pub fn parse(json: &str, text: &str) -> Result<Self, Unknown> {
        let no = || Unknown::new("nft prints something that is no ruleset");
        let all: Value = serde_json::from_str(json).map_err(|_| no())?;
        let all = all["nftables"].as_array().ok_or_else(no)?;
        let asleep = asleep(text);
        let mut ruleset = Self::default();
        for object in all {
            let Some((kind, object)) = object.as_object().and_then(|object| object.iter().next()) else {
                return Err(no());
            };
            let table = (word(&object["family"]), word(&object["table"]));
            if asleep.contains(&table) {
                continue;
            }
            match kind.as_str() {
                "chain" => {
                    let chain = ruleset.chains.entry((table, word(&object["name"]))).or_default();
                    chain.base = base(object);
                }
                "rule" => {
                    let chain = ruleset.chains.entry((table, word(&object["chain"]))).or_default();
                    let parts = object["expr"].as_array().map_or(&[][..], Vec::as_slice);
                    chain.rules.push(parts.iter().map(statement).collect());
                }
                "set" | "map" => {
                    let changes = ["timeout", "gc-interval"].iter().any(|name| !object[*name].is_null())
                        || list(&object["flags"]).any(|flag| ["dynamic", "timeout"].contains(&word(flag).as_str()));
                    let name = word(&object["name"]);
                    // lsm's gate: what is closed now is open once lnd can sign.
                    let is_gate = table == ("inet".to_owned(), "lsm".to_owned()) && name.ends_with("_open");
                    let changes =
                        changes || is_gate || !object["stmt"].is_null() || list(&object["elem"]).any(has_condition);
                    let items = list(&object["elem"]).map(entry).collect();
                    ruleset.sets.insert((table, name), Set { items, changes });
                }
                _ => {}
            }
        }
        ruleset.note_effects(all);
        Ok(ruleset)
    }

    /// Notes what rules do to others: nft does not print of a set that rules put something into it.
    fn note_effects(&mut self, all: &[Value]) {
        for rule in all.iter().filter_map(|object| object.get("rule")) {
            let table = (word(&rule["family"]), word(&rule["table"]));
            for part in list(&rule["expr"]) {
                // An older nft does not even name what is iptables's.
                let of_iptables = part.get("xt").map(|xt| word(&xt["name"]));
                self.untracks |=
                    part.get("notrack").is_some() || of_iptables.is_some_and(|n| n.is_empty() || n == "CT");
                let rewritten = &part["mangle"]["key"]["payload"];
                self.rewrites |= rewritten.is_object()
                    && !["dscp", "ecn", "ttl", "hoplimit"].contains(&word(&rewritten["field"]).as_str());
                let filled = part["set"]["set"].as_str().or(part["map"]["map"].as_str());
                let name = filled.map(|name| name.trim_start_matches('@').to_owned());
                if let Some(set) = name.and_then(|name| self.sets.get_mut(&(table.clone(), name))) {
                    set.changes = true;
                }
            }
        }
    }

    /// Where something can begin to be otherwise: of every address, net and range in it the first and the last, and those
    /// just beyond.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let mut found = BTreeSet::new();
        let statements = self.chains.values().flat_map(|chain| chain.rules.iter().flatten());
        for statement in statements {
            if let Statement::Match { with: Items::These(items), .. } | Statement::Cases(_, Items::These(items)) =
                statement
            {
                items.iter().for_each(|(item, _)| item.add_addresses(&mut found));
            }
        }
        self.sets.values().flat_map(|set| &set.items).for_each(|(item, _)| item.add_addresses(&mut found));
        found
    }

    /// How many rules and elements one packet can meet.
    pub fn size(&self) -> usize {
        let rules: usize = self.chains.values().map(|chain| chain.rules.len()).sum();
        rules + self.sets.values().map(|set| set.items.len()).sum::<usize>()
    }
}

/// The first and the last of some addresses, and those just beyond.
pub fn edges(first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
    let beyond = |ip: IpAddr, up: bool| match ip {
        IpAddr::V4(ip) => {
            let number = u32::from(ip);
            if up { number.checked_add(1) } else { number.checked_sub(1) }.map(|number| IpAddr::V4(number.into()))
        }
        IpAddr::V6(ip) => {
            let number = u128::from(ip);
            if up { number.checked_add(1) } else { number.checked_sub(1) }.map(|number| IpAddr::V6(number.into()))
        }
    };
    [Some(first), Some(last), beyond(first, false), beyond(last, true)].into_iter().flatten()
}

impl Item {
    fn add_addresses(&self, to: &mut BTreeSet<IpAddr>) {
        match self {
            Self::Net(net) => to.extend(edges(net.network(), net.broadcast())),
            Self::Addresses(first, last) => to.extend(edges(*first, *last)),
            Self::Tuple(items) => items.iter().for_each(|item| item.add_addresses(to)),
            Self::Numbers(..) | Self::Word(_) | Self::Any | Self::Other => {}
        }
    }
}
