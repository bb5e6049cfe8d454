//! Whether the packet filter is the same after a reboot.

use super::ruleset::Chain;
use super::{INWARD, RULESET, has_legacy, live};
use crate::facts::audit::{Host, Unknown};
use crate::harden::{Judged, Verdict, few};

/// ufw(8)'s own switch: Ubuntu enables its service on every host, and ufw on none.
pub const UFW: &str = "/etc/ufw/ufw.conf";
/// What nftables.service loads: Debian's, and Fedora's.
pub const NFTABLES: [&str; 2] = ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"];
/// Services that load a packet filter at boot, besides those two.
const KEEPERS: [&str; 3] = ["firewalld.service", "netfilter-persistent.service", "iptables.service"];

pub(super) fn persists(host: &Host) -> Judged {
    if let Some(is) = host.network.as_on_disk.get()? {
        return Ok(Verdict::hold(
            *is,
            if *is { "lsm's table is as on disk" } else { "lsm's table is not what /etc/lsm/firewall.nft makes" },
        ));
    }
    if !is_filtered(host)? && !has_legacy(host)? {
        return Ok(Verdict::NotApplicable("there is no packet filter".to_owned()));
    }
    let wanted = host.updates.wanted.get()?;
    let is_enabled = |unit: &&str| wanted.is_some_and(|wanted| wanted.contains(*unit));
    let sure: Vec<&str> = KEEPERS.into_iter().filter(is_enabled).collect();
    if !sure.is_empty() {
        return Ok(Verdict::Pass(format!("loaded by {}", few(&sure))));
    }
    if is_enabled(&"ufw.service") && text(host, UFW)?.is_some_and(is_on) {
        return Ok(Verdict::Pass("loaded by ufw.service".to_owned()));
    }
    if !is_enabled(&"nftables.service") {
        return Ok(Verdict::Fail("rules are in force, and no service loads any at boot".to_owned()));
    }
    let texts = [text(host, NFTABLES[0])?, text(host, NFTABLES[1])?];
    Ok(if texts.into_iter().flatten().any(keeps_out) {
        Verdict::Pass("loaded by nftables.service".to_owned())
    } else {
        let files = NFTABLES.join(" or ");
        Verdict::Warn(format!("nftables.service is enabled, and no chain of {files} drops what comes in"))
    })
}

/// What stands in a file that facts of an older lsm do not have.
fn text<'a>(host: &'a Host, path: &str) -> Result<Option<&'a str>, Unknown> {
    if !host.texts.contains_key(path) {
        return Err(Unknown::new(format!("these facts do not say what is in {path}")));
    }
    host.text(path)
}

/// True where something in nft's rules can keep a packet out. An empty chain that lets all in is what iptables leaves for
/// Docker's sake, and all that Debian's own /etc/nftables.conf makes.
fn is_filtered(host: &Host) -> Result<bool, Unknown> {
    if host.printed(RULESET)?.is_none() {
        return Ok(false);
    }
    let is_filter = |chain: &Chain| {
        let base = chain.base.as_ref().filter(|base| base.kind == "filter" && INWARD.contains(&base.hook.as_str()));
        base.is_some_and(|base| base.drops || !chain.rules.is_empty())
    };
    Ok(live(host)?.chains.values().any(is_filter))
}

/// `ENABLED=yes`: the shell reads it, so that the last one counts.
fn is_on(text: &str) -> bool {
    let last = text.lines().filter_map(|line| line.trim().strip_prefix("ENABLED=")).next_back();
    last.is_some_and(|value| value.trim_matches(['"', '\'']).eq_ignore_ascii_case("yes"))
}

/// True of rules for nft(8) with a chain that filters what comes in and itself drops some of it. What they include, and to which
/// chains they send packets on, is not looked at.
fn keeps_out(text: &str) -> bool {
    let text = text.lines().map(unquoted).collect::<String>();
    let spaced = text.replace([',', ':'], " ").replace('{', " { ").replace('}', " } ").replace(';', " ; ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    words.split(|word| *word == "chain").skip(1).any(|chain| drops_inward(body(chain)))
}

/// A line without its comment and what is quoted, as one statement more.
fn unquoted(line: &str) -> String {
    let mut bare = String::new();
    // Every other part is quoted.
    for part in line.split('"').step_by(2) {
        let (told, is_end) = part.split_once('#').map_or((part, false), |(told, _)| (told, true));
        bare.push_str(told);
        if is_end {
            break;
        }
        bare.push(' ');
    }
    bare + ";"
}

/// What stands in a chain's braces; nothing where only its name is said.
fn body<'a, 't>(chain: &'a [&'t str]) -> &'a [&'t str] {
    let begin = chain.iter().position(|word| ["{", ";"].contains(word)).unwrap_or(chain.len());
    let mut depth = 0;
    let is_end = |word: &&str| {
        depth += i32::from(*word == "{") - i32::from(*word == "}");
        depth == 0
    };
    let length = chain[begin..].iter().position(is_end).unwrap_or(chain.len() - begin);
    &chain[begin..begin + length]
}

/// What comes after the name of something, or a way to another chain, is no verdict.
fn drops_inward(body: &[&str]) -> bool {
    let is_inward = |part: &[&str]| matches!(part, ["type", "filter", "hook", hook] if INWARD.contains(hook));
    let is_verdict =
        |part: &[&str]| matches!(part, [before, "drop" | "reject"] if !["name", "jump", "goto"].contains(before));
    body.windows(4).any(is_inward) && body.windows(2).any(is_verdict)
}

#[cfg(test)]
mod tests {
    use super::super::TABLES;
    use super::*;
    use crate::facts::audit::Answer;
    use crate::harden::tests::recorded;
    use serde_json::json;

    /// Debian's own, which keeps nobody out.
    const STOCK: &str = "#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n\tchain input {\n\t\ttype filter hook \
        input priority filter;\n\t}\n\tchain output {\n\t\ttype filter hook output priority filter;\n\t}\n}\n";

    /// A host on which somebody has loaded a chain into the input hook, and on which a boot starts `units`.
    fn host(policy: &str, units: &[&str]) -> Host {
        let mut host = recorded();
        host.texts = [UFW, NFTABLES[0], NFTABLES[1]].map(|path| (path.to_owned(), Answer::Absent)).into();
        host.network.as_on_disk = Answer::Absent;
        let chain = json!({"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "input", "prio": 0,
            "policy": policy});
        let ruleset = json!({ "nftables": [{ "chain": chain }] }).to_string();
        host.programs.insert(RULESET.to_owned(), Answer::Is(ruleset));
        host.programs.insert(TABLES.to_owned(), Answer::Is(String::new()));
        host.updates.wanted = Answer::Is(units.iter().map(|unit| (*unit).to_owned()).collect());
        host
    }

    #[test]
    fn a_service_counts_where_it_loads_something() {
        let own = STOCK.replacen("filter;", "filter; policy drop;", 1);
        let commented = STOCK.replacen("filter;", "filter; # policy drop;", 1);
        let outward = STOCK.replacen("hook input", "hook output", 1).replace("filter;", "filter; policy drop;");
        for (unit, text, wanted) in [
            ("ssh.service", None, "fail"),
            ("firewalld.service", None, "pass"),
            ("ufw.service", None, "fail"),
            ("ufw.service", Some((UFW, "# ENABLED=yes\nENABLED=no\n")), "fail"),
            ("ufw.service", Some((UFW, "LOGLEVEL=low\nENABLED=yes\n")), "pass"),
            ("nftables.service", None, "warn"),
            ("nftables.service", Some((NFTABLES[0], STOCK)), "warn"),
            ("nftables.service", Some((NFTABLES[0], commented.as_str())), "warn"),
            ("nftables.service", Some((NFTABLES[0], outward.as_str())), "warn"),
            ("nftables.service", Some((NFTABLES[0], own.as_str())), "pass"),
            ("nftables.service", Some((NFTABLES[1], own.as_str())), "pass"),
        ] {
            let mut host = host("drop", &[unit]);
            host.texts.extend(text.map(|(path, text)| (path.to_owned(), Answer::Is(text.to_owned()))));
            assert_eq!(persists(&host).unwrap().name(), wanted, "{unit}, {text:?}");
        }
        let mut host = host("drop", &["ufw.service"]);
        host.texts.insert(UFW.to_owned(), Answer::Unknown("it is a pipe".to_owned()));
        assert!(persists(&host).is_err());
    }

    #[test]
    fn what_older_facts_do_not_say_is_not_taken_for_absent() {
        for unit in ["ufw.service", "nftables.service"] {
            let mut host = host("drop", &[unit]);
            host.texts.clear();
            assert!(persists(&host).is_err(), "{unit}");
            host.updates.wanted = Answer::Is([unit, "firewalld.service"].map(str::to_owned).into());
            assert_eq!(persists(&host), Ok(Verdict::Pass("loaded by firewalld.service".to_owned())));
        }
    }

    #[test]
    fn a_chain_keeps_out_by_its_own_verdicts_on_what_comes_in() {
        let filter = |hook: &str, rest: &str| format!("{{\n type filter hook {hook} priority 0; {rest}\n }}\n");
        let chain = |hook: &str, rest: &str| format!("table inet t {{\n chain c {}}}\n", filter(hook, rest));
        for (rest, is) in [
            ("policy drop;", true),
            ("policy accept;", false),
            ("tcp dport 10009 drop", true),
            ("tcp dport 10009 reject with tcp reset", true),
            ("ct state vmap { established:accept, invalid:drop }", true),
            ("ip saddr { 10.0.0.1, 10.0.0.2 } accept\n drop", true),
            ("# policy drop;", false),
            ("log prefix \"drop \" accept", false),
            ("log prefix \"#1\" drop", true),
            ("accept comment \"or drop\"", false),
            ("counter name drop", false),
            ("jump drop", false),
            ("tcp dport @drop accept", false),
        ] {
            assert_eq!(keeps_out(&chain("input", rest)), is, "{rest}");
            assert!(!keeps_out(&chain("output", rest)), "{rest}");
        }
        assert!(keeps_out(&chain("prerouting", "policy drop;")));
        assert!(keeps_out(&format!("add chain inet t c {}", filter("input", "policy drop;"))));
        let (open, forward) = (filter("input", "policy accept;"), filter("forward", "policy drop;"));
        assert!(!keeps_out(&format!("table inet t {{\n chain a {open} chain b {forward} }}")));
        assert!(!keeps_out(&format!(
            "table inet t {{\n chain a {open} }}\ntable ip u {{\n chain b {{\n drop\n }}\n }}"
        )));
        assert!(!keeps_out(&format!("flush chain inet t b\ntable inet t {{\n chain a {open} }}\ninclude \"drop\"")));
        assert!(!keeps_out("") && !keeps_out("chain") && !keeps_out("chain c {"));
    }

    #[test]
    fn an_empty_chain_that_lets_all_in_is_no_filter() {
        assert_eq!(persists(&host("accept", &[])).unwrap().name(), "na");
    }
}
