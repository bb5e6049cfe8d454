//! The live packet filter, held against the text that it should come from.

use crate::error::Result;
use crate::host::network::in_empty_network;
use crate::host::program::Program;
use crate::secret::Secret;
use std::time::Duration;

/// nft takes milliseconds; it waits where a list of users that it looks names up in does (a pipe in its place).
const PATIENCE: Duration = Duration::from_secs(10);

/// True where lsm's live table is what loading `text` makes. What the table itself fills in (who is connected, counters)
/// does not count. `None` where that cannot be told: not as root, without nft, or where the text cannot be loaded.
pub fn is_live(text: &str) -> Option<bool> {
    // nft shows both in the same words, which no reader of the file could know. It does so as text: its JSON hides
    // flags of a table, a dormant one's too.
    let load = Program::new("nft").args(["-f", "-"]).input(Secret::new(text.as_bytes().to_vec())).within(PATIENCE);
    let wanted = in_empty_network(|| load.run().and_then(|_| list())).ok()?.ok()?;
    // nft works, as was just seen: what it cannot list is not there.
    Some(list().is_ok_and(|live| live == wanted))
}

/// lsm's table without counts (nft(8), `--stateless`), and without what is in the sets that its rules fill.
fn list() -> Result<String> {
    let listed = Program::new("nft").args(["--stateless", "list", "table", "inet", "lsm"]).within(PATIENCE).run()?;
    Ok(without_filled(&String::from_utf8_lossy(&listed)))
}

/// A set's elements come after its flags, and their last line ends with the brace.
fn without_filled(listed: &str) -> String {
    let (mut is_filled, mut in_elements) = (false, false);
    let mut kept = String::with_capacity(listed.len());
    for line in listed.lines() {
        let words = line.trim_start();
        if words.ends_with('{') {
            is_filled = false;
        } else if let Some(flags) = words.strip_prefix("flags ") {
            is_filled = flags.split(',').any(|flag| flag.trim() == "dynamic");
        }
        in_elements |= is_filled && words.starts_with("elements = {");
        if !in_elements {
            kept.push_str(line);
            kept.push('\n');
        }
        in_elements &= !words.ends_with('}');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{program, user};
    use crate::render::nft::render_nft;
    use crate::spec::{Mode, Network, Spec, parse_cidr};

    const SETS: &str = "table inet lsm {
	set a_allow4 {
		flags interval
		elements = { 10.0.0.0/24, 10.77.0.3,
			     127.0.0.1 }
	}

	set a_peers4 {
		size 65535
		flags dynamic
@		elements = { 10.0.0.1 ct count over 16, 10.0.0.2 ct count over 16,
@			     127.0.0.1 ct count over 16 }
	}

	set a_open {
		elements = { 10012 }
	}
}
";

    #[test]
    fn only_what_rules_fill_in_is_left_out() {
        let without: String = SETS.lines().filter(|l| !l.starts_with('@')).map(|l| format!("{l}\n")).collect();
        assert_eq!(without_filled(&SETS.replace('@', "")), without);
        assert_eq!(without_filled(&without), without);
    }

    /// Each makes a table that lets through what it should not, or nothing at all.
    const CHANGES: [&str; 9] = [
        "delete table inet lsm",
        "flush chain inet lsm a_judge",
        "insert rule inet lsm prerouting accept",
        "add element inet lsm a_allow4 { 10.9.0.0/16 }",
        "flush set inet lsm a_allow4",
        "add element inet lsm a_open { 10012 }",
        "add table inet lsm { flags dormant; }",
        "add chain inet lsm more { type filter hook input priority 0; }",
        "add set inet lsm more { type ipv4_addr; }",
    ];

    #[test]
    fn a_changed_table_is_told_from_one_that_was_only_used() {
        if !user::is_root() || program::find("nft").is_none() {
            eprintln!("skipped: this test needs root and nft");
            return;
        }
        let allow = ["10.0.0.0/24", "fd00::/64"].map(|net| parse_cidr(net).unwrap()).to_vec();
        let spec =
            |mode| Spec { mode, allow: allow.clone(), ..Spec::new(&"a".parse().unwrap(), Network::Regtest, "v") };
        // Users that every machine has.
        let text = render_nft(&[&spec(Mode::Host)]).unwrap().replace("lsm-a", "root");
        let nft = |script: &str| Program::new("nft").args(["-f", "-"]).input(Secret::new(script.into())).run().unwrap();
        in_empty_network(|| {
            assert_eq!(is_live(&text), Some(false), "none is loaded");
            nft(&text);
            assert_eq!(is_live(&text), Some(true));
            nft("add element inet lsm a_peers4 { 10.0.0.1 ct count over 16 }");
            assert_eq!(is_live(&text), Some(true), "a peer is connected");
            for change in CHANGES {
                nft(change);
                assert_eq!(is_live(&text), Some(false), "{change}");
                nft(&text);
                assert_eq!(is_live(&text), Some(true));
            }
            assert_eq!(is_live("no table"), None);
        })
        .unwrap();
    }
}
