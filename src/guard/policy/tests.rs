//! The file, at its edges.

use super::*;
use sha2::{Digest, Sha256};

#[test]
fn the_example_reads_and_is_explained_rule_by_rule() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let said = policy.explain().join("\n");
    for rule in [
        "outflow-transaction",
        "outflow-hour",
        "outflow-day",
        "funding-transaction",
        "funding-day",
        "fee-ceiling",
        "fee-rate",
        "rate",
    ] {
        assert!(said.contains(&format!("({rule})")), "{rule}: {said}");
    }
    // What is a comment in it is as good.
    let all = EXAMPLE.replace("# quiet-hours", "quiet-hours");
    assert!(Policy::parse(&all).unwrap().explain().join("\n").contains("from 22:00 to 06:00 UTC at most 250000 sat"));
    assert_eq!(Policy::parse("").unwrap(), Policy::default());
}

#[test]
fn a_policy_that_does_not_read_is_no_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signer-guard.toml");
    assert_eq!(Policy::read(&path).unwrap(), Policy::default());
    for bad in [
        "[coins]\nper-week = 1\n",
        "[coin]\n",
        "[coins]\nper-day = -1\n",
        "per-day = 1\n",
        "[coins]\nper-day = 1.5\n",
        "[coins]\nquiet-hours = [\"22-6\"]\n",
        "[coins]\nquiet-hours = [\"22:00-22:00\"]\n",
        "[coins]\nquiet-hours = [\"24:00-06:00\"]\n",
        "[coins]\nquiet-hours = [\"+2:00-06:00\"]\n",
        "[coins]\nquiet-hours = [\"22:00-06:00\"]\n[fees]\nper-vbyte = 9\n",
        "[rates.psbt]\nper-hour = 1\n",
        "[rates.message]\nper-second = 1\n",
        "[channels]\nper-hour = 1\n",
        "[fees]\nper-byte = 1\n",
        "[[free]]\n",
        "[[free]]\naddress = \"x\"\n",
        "[[free]]\nname = \"x\"\n",
    ] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(Policy::read(&path).unwrap_err().code(), BAD, "{bad}");
    }
}

#[test]
fn quiet_hours_go_over_midnight_where_they_end_before_they_begin() {
    let at = |quiet: &str, clock: &str| {
        let policy =
            Policy::parse(&format!("[coins]\nquiet-hours = [\"{quiet}\"]\n[fees]\nper-transaction = 9\n")).unwrap();
        policy.is_quiet(1_700_006_400_000 / DAY * DAY + read_minute(clock).unwrap() * MINUTE)
    };
    let night = ["21:59", "22:00", "23:59", "00:00", "05:59", "06:00"].map(|clock| at("22:00-06:00", clock));
    assert_eq!(night, [false, true, true, true, true, false]);
    assert_eq!(["11:59", "12:00", "12:59", "13:00"].map(|clock| at("12:00-13:00", clock)), [false, true, true, false]);
}

#[test]
fn what_is_in_force_changes_with_the_file_and_never_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signer-guard.toml");
    let mut current = Current::default();
    let mut look = |text: Option<&str>| {
        // "/": there is something that is no file.
        drop(std::fs::remove_dir(&path));
        match text {
            Some("/") => {
                std::fs::remove_file(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        }
        current.look(&path, &Told::default());
        let limit = current.policy().map(|policy| policy.coins.per_day).map_err(str::to_owned);
        (limit, current.rates().of(Class::Message).per_hour)
    };
    assert_eq!(look(None), (Ok(None), None));
    assert_eq!(look(Some("[coins]\nper-day = 5\n[rates.message]\nper-hour = 3\n")), (Ok(Some(5)), Some(3)));
    assert_eq!(look(Some("[coins]\nper-day = 6\n[rates.message]\nper-hour = 4\n")), (Ok(Some(6)), Some(4)));
    for gone in [None, Some(""), Some("# nothing\n"), Some("[coins\n")] {
        let (limit, rate) = look(gone);
        assert!(limit.is_err() && rate == Some(4), "{gone:?}: the rates of before hold on");
    }
    assert_eq!(look(Some("unlimited = true\n")), (Ok(None), None), "that has to be said");
    assert!(look(None).0.is_err() && look(Some("unlimited = true\n[coins]\nper-day = 7\n")).0.is_err());
    for _ in 0..2 {
        assert_eq!(look(Some("[coins]\nper-day = 7\n")), (Ok(Some(7)), None));
        assert!(look(Some("/")).0.is_err());
    }
}

#[test]
fn the_log_is_told_once_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signer-guard.toml");
    let mut current = Current::default();
    let none = Told::default();
    let told = |text: &str| Told { hash: Some(hex::encode(Sha256::digest(text))), ..Told::default() };
    current.look(&path, &none);
    assert!(current.is_told(&none), "nothing is no news");
    std::fs::write(&path, "[coins]\n").unwrap();
    current.look(&path, &none);
    assert!(!current.is_told(&none) && current.is_told(&told("[coins]\n")) && !current.is_told(&told("x")));
    std::fs::remove_file(&path).unwrap();
    current.look(&path, &none);
    assert!(!current.is_told(&told("[coins]\n")) && current.is_told(&told("")));
}

/// What the log was told of a policy is what the next guard goes on with, whatever became of the file meanwhile.
#[test]
fn another_guard_goes_on_with_the_rules_and_the_rates_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signer-guard.toml");
    let mut before = Current::default();
    std::fs::write(&path, "[coins]\nper-day = 5\n[rates.message]\nper-hour = 3\n").unwrap();
    before.look(&path, &Told::default());
    for text in [None, Some("[coins\n")] {
        text.map_or_else(|| std::fs::remove_file(&path), |text| std::fs::write(&path, text)).unwrap();
        let mut next = Current::default();
        next.look(&path, &before.told());
        assert!(next.policy().is_err() && next.rates().of(Class::Message).per_hour == Some(3), "{text:?}");
        before = next;
    }
    std::fs::write(&path, "unlimited = true\n").unwrap();
    before.look(&path, &Told::default());
    assert_eq!((before.policy().is_ok(), before.rates()), (true, Rates::default()));
}
