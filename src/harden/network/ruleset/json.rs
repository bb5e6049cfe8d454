//! How nft prints rules and what is in them (libnftables-json(5)).

use super::{Base, Field, Item, Items, Statement, Table, Verdict};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Tables that are there and do nothing (nft(8), flags dormant).
pub(super) fn asleep(text: &str) -> BTreeSet<Table> {
    let (mut table, mut found) = (None, BTreeSet::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), line.starts_with('\t')) {
            (Some("table"), false) => {
                table = words.next().zip(words.next()).map(|(family, name)| (family.to_owned(), name.to_owned()));
            }
            (Some("flags"), true) if !line.starts_with("\t\t") && line.contains("dormant") => {
                found.extend(table.clone())
            }
            _ => {}
        }
    }
    found
}

pub(super) fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn base(chain: &Value) -> Option<Base> {
    const TRACKING: i64 = -200;
    let hook = chain["hook"].as_str()?.to_owned();
    let before_tracking = chain["prio"].as_i64().is_none_or(|priority| priority <= TRACKING);
    Some(Base { hook, kind: word(&chain["type"]), drops: chain["policy"] == "drop", before_tracking })
}

pub(super) fn statement(part: &Value) -> Statement {
    let Some((name, value)) = part.as_object().and_then(|part| part.iter().next()) else { return Statement::Perhaps };
    if let Some(verdict) = verdict(name, value) {
        return Statement::Verdict(verdict);
    }
    match name.as_str() {
        "match" => matching(value),
        "vmap" => Statement::Cases(fields(&value["key"]), items(&value["data"])),
        "dnat" | "redirect" => redirect(value),
        "counter" | "log" | "mangle" | "notrack" | "flow" | "ct helper" | "ct timeout" | "secmark" | "dup" | "last"
        | "snat" | "masquerade" => Statement::Nothing,
        "xt" => of_iptables(&word(&value["name"]), value["type"] == "target"),
        "limit" | "quota" | "ct count" | "meter" | "ct expectation" => Statement::Perhaps,
        // Puts an address into a set, unless it is given a condition.
        "set" | "map" if value["stmt"].is_null() => Statement::Nothing,
        "set" | "map" => Statement::Perhaps,
        _ => Statement::Anything,
    }
}

/// Without a port, or with one that is looked up, it may be any: also that of a packet which the filter let pass because it
/// was for another address.
fn redirect(value: &Value) -> Statement {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    let to = &value["port"];
    let one = port(to);
    let address = value["addr"].as_str().and_then(|address| address.parse().ok());
    Statement::Redirect(one.zip(one).or_else(|| port(&to["range"][0]).zip(port(&to["range"][1]))), address)
}

/// A match or a target of iptables, of which nft prints no more than the name (iptables-extensions(8)).
fn of_iptables(name: &str, is_target: bool) -> Statement {
    match name {
        "REJECT" => Statement::Verdict(Verdict::Drop),
        // An older nft gives no name: it may be one of these.
        "DNAT" | "REDIRECT" | "" => Statement::Redirect(None, None),
        "comment" | "LOG" | "NFLOG" | "MASQUERADE" | "SNAT" | "MARK" | "CONNMARK" | "TCPMSS" => Statement::Nothing,
        _ if is_target => Statement::Anything,
        _ => Statement::Perhaps,
    }
}

/// True of an element that ends, or that has a limit of its own.
pub(super) fn has_condition(element: &Value) -> bool {
    let keys = element["elem"].as_object().into_iter().flat_map(|element| element.keys());
    keys.into_iter().any(|key| !["val", "comment", "counter"].contains(&key.as_str()))
}

fn verdict(name: &str, value: &Value) -> Option<Verdict> {
    let target = || word(&value["target"]);
    Some(match name {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "jump" => Verdict::Jump(target()),
        "goto" => Verdict::Goto(target()),
        "return" => Verdict::Return,
        "continue" => Verdict::Continue,
        "queue" => Verdict::Queue,
        _ => return None,
    })
}

fn matching(value: &Value) -> Statement {
    let not = match value["op"].as_str() {
        // Several bits that have to be all of them.
        Some("==" | "!=") if value["right"].is_array() => return Statement::Perhaps,
        Some("==" | "in") => false,
        Some("!=") => true,
        _ => return Statement::Perhaps,
    };
    Statement::Match { fields: fields(&value["left"]), not, with: items(&value["right"]) }
}

fn fields(left: &Value) -> Vec<Field> {
    match left["concat"].as_array() {
        Some(parts) => parts.iter().map(field).collect(),
        None => vec![field(left)],
    }
}

fn field(value: &Value) -> Field {
    let Some((kind, of)) = value.as_object().and_then(|value| value.iter().next()) else { return Field::Other };
    match kind.as_str() {
        "payload" if of["protocol"].is_string() => Field::Header(word(&of["protocol"]), word(&of["field"])),
        "meta" => Field::Meta(word(&of["key"])),
        "ct" if of["dir"].is_null() => Field::Connection(word(&of["key"])),
        "fib" if of["result"] == "type" && list(&of["flags"]).eq([&Value::from("daddr")]) => Field::KindOfTarget,
        _ => Field::Other,
    }
}

fn items(right: &Value) -> Items {
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        return Items::Named(name.to_owned());
    }
    Items::These(match (right["set"].as_array(), right.as_array()) {
        (Some(all), _) | (_, Some(all)) => all.iter().map(entry).collect(),
        _ => vec![(item(right), None)],
    })
}

/// An element of a set, or a pair of a map.
pub(super) fn entry(value: &Value) -> (Item, Option<Verdict>) {
    match value.as_array().map(Vec::as_slice) {
        Some([key, to]) => {
            let is = to.as_object().and_then(|to| to.iter().next());
            (item(key), is.and_then(|(name, value)| verdict(name, value)))
        }
        _ => (item(value), None),
    }
}

fn item(value: &Value) -> Item {
    let address = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    match value {
        Value::Number(number) => number.as_u64().map_or(Item::Other, |number| Item::Numbers(number, number)),
        Value::String(text) if text == "*" => Item::Any,
        Value::String(text) => address(value).map_or_else(|| Item::Word(text.clone()), |ip| Item::Net(ip.into())),
        Value::Object(of) => match of.iter().next().map(|(kind, of)| (kind.as_str(), of)) {
            Some(("prefix", of)) => {
                let net = address(&of["addr"]).zip(of["len"].as_u64().and_then(|bits| u8::try_from(bits).ok()));
                net.and_then(|(ip, bits)| IpNet::new(ip, bits).ok()).map_or(Item::Other, Item::Net)
            }
            Some(("range", of)) => match (address(&of[0]).zip(address(&of[1])), of[0].as_u64().zip(of[1].as_u64())) {
                (Some((first, last)), _) => Item::Addresses(first, last),
                (_, Some((first, last))) => Item::Numbers(first, last),
                _ => Item::Other,
            },
            Some(("concat", of)) => Item::Tuple(list(of).map(item).collect()),
            Some(("elem", of)) => item(&of["val"]),
            _ => Item::Other,
        },
        _ => Item::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harden::network::ruleset::Ruleset;

    #[test]
    fn a_table_that_sleeps_is_told_by_the_text_alone() {
        let text = "table inet a {\n\tflags dormant\n\tset s {\n\t\tflags interval\n\t}\n}\n\
            table ip b {\n\tset s {\n\t\tcomment \"dormant\"\n\t\tflags dormant\n\t}\n}\n";
        assert_eq!(asleep(text), BTreeSet::from([("inet".to_owned(), "a".to_owned())]));
    }

    #[test]
    fn values_are_read_as_nft_prints_them() {
        for (text, wanted) in [
            ("22", Item::Numbers(22, 22)),
            (r#"{"range": [80, 90]}"#, Item::Numbers(80, 90)),
            (r#""10.0.0.1""#, Item::Net("10.0.0.1/32".parse().unwrap())),
            (r#"{"prefix": {"addr": "fd00::", "len": 8}}"#, Item::Net("fd00::/8".parse().unwrap())),
            (r#"{"prefix": {"addr": "fd00::", "len": 300}}"#, Item::Other),
            (r#"{"elem": {"val": "lo", "counter": {}}}"#, Item::Word("lo".into())),
            (r#""*""#, Item::Any),
            ("null", Item::Other),
        ] {
            assert_eq!(item(&serde_json::from_str(text).unwrap()), wanted, "{text}");
        }
        assert!(Ruleset::parse("[]", "").is_err());
        assert!(Ruleset::parse(r#"{"nftables": [1]}"#, "").is_err());
        assert!(Ruleset::parse(r#"{"nftables": []}"#, "").unwrap().chains.is_empty());
    }
}
