//! docs/migration.md: every script, flag and variable of the shell scripts has its row, every command in a row is one that
//! this lsm understands, and every fault of theirs names a test that there is.

use clap::Parser;
use clap::error::ErrorKind;
use lsm::cli::Cli;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What the scripts take, the script itself being a row too.
const SCRIPTS: [(&str, &str); 14] = [
    ("install.sh", "--version --source --tags"),
    ("setup-signer.sh", "--network --lnddir --password --rpc-port --rest-port --container --native"),
    ("start-signer.sh", "--native --network --lnddir --foreground --rpc-port --extra-args"),
    (
        "stop-signer.sh",
        "--native --force --network --rpc-port --container --rpcserver --tlscertpath --macaroonpath --clean -v",
    ),
    (
        "export-credentials.sh",
        "--network --lnddir --rpc-port --output --container --native --rpcserver --tlscertpath --macaroonpath",
    ),
    ("docker-start.sh", "--network --regtest --docker-network --build --foreground -f"),
    ("docker-stop.sh", "--clean -v"),
    ("import-credentials.sh", "--bundle"),
    (
        "create-wallet.sh",
        "--mode --signer-host --password --network --lnddir --recover --seed-file --rest-port --rest-host --container --native",
    ),
    (
        "start-lnd.sh",
        "--native --mode --signer-host --network --lnddir --foreground --extra-args --watchonly --regtest --profile --args",
    ),
    ("unlock-wallet.sh", "--password-file --container --rest-port"),
    ("lncli.sh", "--cli"),
    ("stop-lnd.sh", ""),
    (
        "bake.sh",
        "--role --custom --inspect --list-permissions --save-to --network --lnddir --rpc-port --container --rpcserver \
         --tlscertpath --macaroonpath",
    ),
];

/// The environment variables that they read.
const VARIABLES: [&str; 18] = [
    "LNGET_SIGNER_DIR",
    "LND_SIGNER_DIR",
    "LNGET_LND_DIR",
    "LND_DIR",
    "LND_SIGNER_HOST",
    "NETWORK",
    "LND_DEBUG",
    "SIGNER_DEBUG",
    "SIGNER_RPC_PORT",
    "SIGNER_REST_PORT",
    "SIGNER_CONF_PATH",
    "LND_VERSION",
    "LND_IMAGE",
    "BITCOIND_RPCHOST",
    "BITCOIND_RPCUSER",
    "BITCOIND_RPCPASS",
    "BITCOIND_ZMQPUBRAWBLOCK",
    "BITCOIND_ZMQPUBRAWTX",
];

/// What stands for a value in a command, and one such value.
const PLACEHOLDERS: [(&str, &str); 13] = [
    ("NETWORK", "regtest"),
    ("V", "v0.21.3-beta"),
    ("DIR", "/folder"),
    ("FILE", "/file"),
    ("PATH", "/program"),
    ("B", "/bundle"),
    ("NAME", "other"),
    ("IP:PORT", "10.0.0.5:10012"),
    ("HOST:PORT", "signer.example:10012"),
    ("CIDR", "10.0.0.7/32"),
    ("N", "1"),
    ("RECIPIENT", "age1x"),
    ("T", "2030-01-01"),
];

/// The faults of theirs that are known.
const FAULTS: usize = 28;

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migration.md")).unwrap()
}

/// The cells of each row of the table under `heading`.
fn rows<'p>(page: &'p str, heading: &str) -> Vec<Vec<&'p str>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    // The first two are the table's head.
    rows.skip(2).map(|row| row.split('|').map(str::trim).collect()).collect()
}

fn unquote(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// The texts between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Why lsm does not understand a command whose values are stood for; nothing where only a value is still to be named.
fn misunderstood(command: &str) -> Option<String> {
    let value = |word: &str| PLACEHOLDERS.iter().find(|(name, _)| *name == word).map(|(_, value)| (*value).to_owned());
    let words = command.split(' ').map(|word| value(word).unwrap_or_else(|| word.to_owned()));
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        Err(e) if e.kind() == ErrorKind::MissingRequiredArgument => None,
        Err(e) => Some(format!("{command}: {e}")),
    }
}

/// Holds the last two cells of a row: the verdict and its words, with commands that there are.
#[track_caller]
fn hold_answer(row: &[&str]) {
    let [.., verdict, how] = row else { panic!("{row:?}") };
    assert!(["as is", "lsm", "refused"].contains(verdict) && !how.is_empty(), "{row:?}");
    for command in quoted(how).filter(|text| text.starts_with("lsm ")) {
        assert_eq!(misunderstood(command), None, "{row:?}");
    }
}

#[test]
fn every_script_and_flag_has_a_row_whose_commands_there_are() {
    let page = page();
    let rows = rows(&page, "Scripts and flags");
    let wanted = SCRIPTS.iter().flat_map(|(script, flags)| {
        std::iter::once("").chain(flags.split_whitespace()).map(|flag| ((*script).to_owned(), flag.to_owned()))
    });
    let wanted: Vec<(String, String)> = wanted.collect();
    let told: Vec<_> = rows.iter().map(|row| (unquote(row[0]).to_owned(), unquote(row[1]).to_owned())).collect();
    assert_eq!(told, wanted);
    for row in &rows {
        hold_answer(row);
        let flag = unquote(row[1]);
        let is_kept = |how: &str| quoted(how).any(|text| text.split(' ').any(|word| word == flag));
        assert!(row[2] != "as is" || is_kept(row[3]) || row[3].starts_with("the default"), "{row:?}");
    }
}

#[test]
fn every_variable_has_a_row_whose_commands_there_are() {
    let page = page();
    let rows = rows(&page, "Environment variables");
    assert_eq!(rows.iter().map(|row| unquote(row[0])).collect::<Vec<_>>(), VARIABLES);
    rows.iter().for_each(|row| hold_answer(row));
}

#[test]
fn every_fault_names_a_test_that_there_is() {
    let page = page();
    let rows = rows(&page, "Faults of the scripts");
    let numbers: BTreeSet<usize> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!((rows.len(), numbers), (FAULTS, (1..=FAULTS).collect()));
    for row in rows {
        let [.., held_by] = row[..] else { panic!("{row:?}") };
        let (file, test) = unquote(held_by).split_once(": ").unwrap_or_else(|| panic!("{row:?}"));
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        // Its head: the attributes stand right before it.
        let before = source.split(&format!("\nfn {test}() {{")).next().filter(|before| before.len() < source.len());
        let before = before.unwrap_or_else(|| panic!("no {test} in {file}"));
        let attributes = before.lines().rev().take_while(|line| line.starts_with("#["));
        assert!(attributes.clone().any(|line| line == "#[test]"), "{test} in {file} is no test");
    }
}

#[test]
fn a_flag_that_does_nothing_is_refused() {
    for ignored in ["lsm start --network NETWORK", "lsm start --rpc-port N", "lsm stop --force", "lsm sta"] {
        assert!(misunderstood(ignored).is_some(), "{ignored}");
    }
    assert!(misunderstood("lsm start --instance").is_some(), "a value is not there");
    assert_eq!(misunderstood("lsm start --instance NAME"), None);
}
