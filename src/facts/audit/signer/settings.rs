//! What an lnd was told: its settings file, and its arguments, which come before it.

use crate::facts::audit::Answer;
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// No settings file is near this.
const LIMIT: u64 = 1 << 20;

/// The settings that the audit asks about. Others are left where they are: some hold passwords.
const KNOWN: &[&str] = &[
    "listen",
    "nolisten",
    "rpclisten",
    "restlisten",
    "norest",
    "no-rest-tls",
    "no-macaroons",
    "nobootstrap",
    "bitcoin.node",
    "bitcoin.mainnet",
    "bitcoin.testnet",
    "bitcoin.testnet4",
    "bitcoin.signet",
    "bitcoin.regtest",
    "bitcoin.simnet",
    "debuglevel",
    "profile",
    "pprof.blockingprofile",
    "cpuprofile",
    "blockingprofile",
    "mutexprofile",
    "lnddir",
    "datadir",
    "logdir",
    "configfile",
    "tlscertpath",
    "tlskeypath",
    "tlsencryptkey",
    "tlsautorefresh",
    "tlsdisableautofill",
    "tlsextraip",
    "tlsextradomain",
    "letsencryptdomain",
    "adminmacaroonpath",
    "readonlymacaroonpath",
    "invoicemacaroonpath",
    "wallet-unlock-password-file",
    "wallet-unlock-allow-create",
    "noseedbackup",
    "restcors",
    "tor.active",
    "remotesigner.enable",
    "rpcmiddleware.enable",
    "rpcmiddleware.addmandatory",
    "watchtower.active",
    "wtclient.active",
    "prometheus.enable",
    "prometheus.listen",
    "db.backend",
    "nat",
    "externalip",
];

/// What an lnd was told, of what the audit asks about: each setting with its values in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, Vec<String>>);

impl Settings {
    /// The last value of a setting, which is the one that holds.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last().map(String::as_str)
    }

    /// Every value of a setting that may stand more than once.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// True where a switch is on: as an argument it may stand alone, in a file with 1 or true (go-flags).
    pub fn is_on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    fn put(&mut self, name: &str, value: &str) {
        if KNOWN.contains(&name) {
            self.0.entry(name.to_owned()).or_default().push(value.to_owned());
        }
    }

    /// Settings that stand in `text`, as lnd reads it: `name=value` lines; sections mean nothing, `;` and `#` begin a
    /// comment (go-flags, IniParse).
    fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with([';', '#', '['])) {
                settings.put(name.trim(), value.trim().trim_matches('"'));
            }
        }
        settings
    }

    /// What the arguments say replaces what the file says.
    fn told(mut self, arguments: &[String]) -> Self {
        let said = from_arguments(arguments);
        self.0.extend(said.0);
        self
    }
}

/// The settings in `conf`, and those in the arguments, which come first.
pub(super) fn read(conf: &Path, arguments: &[String]) -> Answer<Settings> {
    let text = Answer::of_file(conf, || file::read_plain(conf, LIMIT));
    match text {
        // lnd goes on without one.
        Answer::Absent => Answer::Is(Settings::default().told(arguments)),
        text => text.map(|bytes| Settings::parse(&String::from_utf8_lossy(&bytes)).told(arguments)),
    }
}

/// lnd's folder: what the arguments say, else the one in its user's home.
pub(super) fn folder(arguments: &[String], home: Option<&Path>) -> Option<PathBuf> {
    let named = from_arguments(arguments).value("lnddir").map(PathBuf::from);
    named.or_else(|| home.map(|home| home.join(".lnd")))
}

/// lnd's settings file: what the arguments say, else the one in its folder.
pub(super) fn conf(arguments: &[String], folder: Option<&Path>) -> Option<PathBuf> {
    let named = from_arguments(arguments).value("configfile").map(PathBuf::from);
    named.or_else(|| folder.map(|folder| folder.join("lnd.conf")))
}

/// `--name=value`, `--name value`, `--name` and `-C value`.
fn from_arguments(arguments: &[String]) -> Settings {
    let mut settings = Settings::default();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(name) = argument.strip_prefix("--").or_else(|| (argument == "-C").then_some("configfile")) else {
            continue;
        };
        match name.split_once('=') {
            Some((name, value)) => settings.put(name, value),
            // A switch takes no value; what begins with a dash is none.
            None => {
                let value = rest.next_if(|next| !next.starts_with('-'));
                settings.put(name, value.map_or("", String::as_str));
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_lnd_reads_them() {
        let text = "[Application Options]\n; listen=1\nnolisten = true\nrpclisten=a\nrpclisten=b\nbitcoind.rpcpass=x\n";
        let settings = Settings::parse(text);
        assert!(settings.is_on("nolisten") && !settings.is_on("norest"));
        assert_eq!(settings.values("rpclisten"), ["a", "b"]);
        assert_eq!(settings.values("listen"), [""; 0]);
        assert!(!format!("{settings:?}").contains("rpcpass"), "what may be a secret is left where it is");
        let arguments = ["--rpclisten=c", "--norest", "--debuglevel", "trace", "-C", "/x"].map(str::to_owned);
        let settings = settings.told(&arguments);
        assert_eq!(settings.values("rpclisten"), ["c"]);
        assert!(settings.is_on("norest"));
        assert_eq!(settings.value("debuglevel"), Some("trace"));
        assert_eq!(conf(&arguments, None), Some(PathBuf::from("/x")));
        assert_eq!(folder(&arguments, Some(Path::new("/home/a"))), Some(PathBuf::from("/home/a/.lnd")));
    }
}
