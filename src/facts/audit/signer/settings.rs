//! What an lnd was told: its settings file, and its arguments, which come before it.

use super::paths::Paths;
use crate::facts::audit::{Answer, Unknown};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// No settings file is near this.
const LIMIT: u64 = 1 << 20;
/// The file in lnd's folder.
const FILE: &str = "lnd.conf";
/// The group of lnd's options that has all the others in it.
const ALL: &str = "Application Options";

/// A setting that the audit asks about.
struct Known {
    name: &'static str,
    /// lnd's own field for it, which stands for it in a file.
    field: &'static str,
    /// It is on or off: as an argument it takes no value.
    is_switch: bool,
}

const fn value(name: &'static str, field: &'static str) -> Known {
    Known { name, field, is_switch: false }
}

const fn switch(name: &'static str, field: &'static str) -> Known {
    Known { name, field, is_switch: true }
}

/// The settings that the audit asks about. Others are left where they are: some hold passwords. In the order of lnd's fields
/// (config.go, lncfg/): of two by one name the first is meant.
const KNOWN: &[Known] = &[
    value("lnddir", "LndDir"),
    value("configfile", "ConfigFile"),
    value("datadir", "DataDir"),
    value("tlscertpath", "TLSCertPath"),
    value("tlskeypath", "TLSKeyPath"),
    value("tlsextraip", "TLSExtraIPs"),
    value("tlsextradomain", "TLSExtraDomains"),
    switch("tlsautorefresh", "TLSAutoRefresh"),
    switch("tlsdisableautofill", "TLSDisableAutofill"),
    switch("tlsencryptkey", "TLSEncryptKey"),
    switch("no-macaroons", "NoMacaroons"),
    value("adminmacaroonpath", "AdminMacPath"),
    value("readonlymacaroonpath", "ReadMacPath"),
    value("invoicemacaroonpath", "InvoiceMacPath"),
    value("logdir", "LogDir"),
    value("letsencryptdomain", "LetsEncryptDomain"),
    value("rpclisten", "RawRPCListeners"),
    value("restlisten", "RawRESTListeners"),
    value("listen", "RawListeners"),
    value("externalip", "RawExternalIPs"),
    value("restcors", "RestCORS"),
    switch("nolisten", "DisableListen"),
    switch("norest", "DisableRest"),
    switch("no-rest-tls", "DisableRestTLS"),
    switch("nat", "NAT"),
    value("debuglevel", "DebugLevel"),
    value("cpuprofile", "CPUProfile"),
    value("profile", "Profile"),
    value("blockingprofile", "BlockingProfile"),
    value("mutexprofile", "MutexProfile"),
    switch("nobootstrap", "NoNetBootstrap"),
    switch("noseedbackup", "NoSeedBackup"),
    value("wallet-unlock-password-file", "WalletUnlockPasswordFile"),
    switch("wallet-unlock-allow-create", "WalletUnlockAllowCreate"),
    value("pprof.cpuprofile", "CPUProfile"),
    value("pprof.profile", "Profile"),
    value("pprof.blockingprofile", "BlockingProfile"),
    value("pprof.mutexprofile", "MutexProfile"),
    // Nothing asks about it, but outside of a group this one is meant by its field's name.
    switch("bitcoin.active", "Active"),
    value("bitcoin.node", "Node"),
    switch("bitcoin.mainnet", "MainNet"),
    switch("bitcoin.testnet", "TestNet3"),
    switch("bitcoin.testnet4", "TestNet4"),
    switch("bitcoin.simnet", "SimNet"),
    switch("bitcoin.regtest", "RegTest"),
    switch("bitcoin.signet", "SigNet"),
    switch("tor.active", "Active"),
    value("prometheus.listen", "Listen"),
    switch("prometheus.enable", "Enable"),
    switch("wtclient.active", "Active"),
    switch("watchtower.active", "Active"),
    value("watchtower.listen", "RawListeners"),
    value("db.backend", "Backend"),
    switch("rpcmiddleware.enable", "Enable"),
    value("rpcmiddleware.addmandatory", "Mandatory"),
    switch("remotesigner.enable", "Enable"),
];

/// Those that have a letter too.
const LETTERS: [(&str, &str); 3] = [("C", "configfile"), ("b", "datadir"), ("d", "debuglevel")];

impl Known {
    fn of_name(name: &str) -> Option<&'static Self> {
        let name = LETTERS.iter().find(|(letter, _)| *letter == name).map_or(name, |(_, whole)| *whole);
        KNOWN.iter().find(|known| known.name == name)
    }

    /// What a name in a section of the file means (go-flags, optionByName): lnd's own field comes first. A section is a group of
    /// options, whose fields alone are meant in it; by its whole name a setting is told from all others.
    fn of_line(section: &str, name: &str) -> Option<&'static Self> {
        let is_all = section.is_empty() || section.eq_ignore_ascii_case(ALL);
        let is_in = |known: &&Self| is_all || known.group().is_some_and(|group| group.eq_ignore_ascii_case(section));
        KNOWN.iter().filter(is_in).find(|known| known.field == name).or_else(|| Self::of_name(name))
    }

    /// The group that it is in.
    fn group(&self) -> Option<&'static str> {
        self.name.split_once('.').map(|(group, _)| group)
    }
}

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

    /// True where a switch is on: as an argument it stands alone, in a file with 1 or true (go-flags).
    pub fn is_on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    fn put(&mut self, known: &Known, value: &str) {
        self.0.entry(known.name.to_owned()).or_default().push(value.trim_matches('"').to_owned());
    }

    /// Settings that stand in `text`, as lnd reads it: `name=value` lines in sections; `;` and `#` begin a comment
    /// (go-flags, IniParse).
    fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with([';', '#'])) {
            if let Some(head) = line.strip_prefix('[') {
                section = head.trim_end_matches(']').trim();
            } else if let Some((name, value)) = line.split_once('=')
                && let Some(known) = Known::of_line(section, name.trim())
            {
                settings.put(known, value.trim());
            }
        }
        settings
    }

    /// The folder that it names as lnd's, where that is not the usual one.
    fn own_folder(&self, paths: &Paths<'_>) -> Result<Option<PathBuf>, Unknown> {
        let named = self.value("lnddir").map(|folder| paths.read(folder)).transpose()?;
        Ok(named.filter(|named| paths.usual().as_ref() != Ok(named)))
    }

    fn folder(&self, paths: &Paths<'_>) -> Result<PathBuf, Unknown> {
        self.own_folder(paths)?.map_or_else(|| paths.usual(), Ok)
    }

    /// A folder of lnd's that is named holds all, whatever else is said (config.go, ValidateConfig).
    fn data(&self, paths: &Paths<'_>) -> Result<PathBuf, Unknown> {
        match (self.own_folder(paths)?, self.value("datadir")) {
            (None, Some(data)) => paths.read(data),
            _ => Ok(self.folder(paths)?.join("data")),
        }
    }

    /// With the paths that are looked at as lnd reads them, and without the one that it does not heed.
    fn resolved(mut self, paths: &Paths<'_>) -> Self {
        if matches!(self.own_folder(paths), Ok(Some(_))) {
            self.0.remove("tlscertpath");
        }
        for name in ["adminmacaroonpath", "tlscertpath"] {
            let last = self.0.get_mut(name).and_then(|values| values.last_mut()).filter(|last| !last.is_empty());
            if let Some(last) = last
                && let Ok(path) = paths.read(last)
            {
                *last = path.to_string_lossy().into_owned();
            }
        }
        self
    }
}

/// The settings in `conf`, and what lnd was `told` by its arguments, which replaces them. Without a file that `is_named` lnd
/// does not start, and the folder of any other it makes: where that is gone, lnd has read something else.
pub(super) fn read(conf: &Path, is_named: bool, told: &Settings, paths: &Paths<'_>) -> Answer<Settings> {
    let settings = match Answer::of_file(conf, || file::read_plain(conf, LIMIT)) {
        Answer::Absent if !is_named && conf.parent().is_some_and(Path::is_dir) => Answer::Is(Settings::default()),
        Answer::Absent => Answer::Unknown(format!("lnd's settings are not at {}", conf.display())),
        text => text.map(|bytes| Settings::parse(&String::from_utf8_lossy(&bytes))),
    };
    settings.map(|mut settings| {
        settings.0.extend(told.0.clone());
        settings.resolved(paths)
    })
}

/// lnd's settings file, and whether it is named. The usual one by its name is none that is: then it is the one in lnd's folder
/// (config.go, LoadConfig).
pub(super) fn conf(told: &Settings, paths: &Paths<'_>) -> Result<(PathBuf, bool), Unknown> {
    let usual = paths.usual().map(|folder| folder.join(FILE));
    let named = told.value("configfile").map(|conf| paths.read(conf)).transpose()?;
    if let Some(named) = named.filter(|named| usual.as_ref() != Ok(named)) {
        return Ok((named, true));
    }
    Ok((told.folder(paths)?.join(FILE), false))
}

/// lnd's folder; where its settings cannot be read, the one that it was `told` by its arguments.
pub(super) fn folder(settings: &Answer<Settings>, told: &Settings, paths: &Paths<'_>) -> Result<PathBuf, Unknown> {
    settings.get().ok().flatten().unwrap_or(told).folder(paths)
}

/// The folder of lnd's data, with the wallet.
pub(super) fn data(settings: &Answer<Settings>, paths: &Paths<'_>) -> Answer<PathBuf> {
    Answer::told(settings.get().and_then(|settings| settings.map(|settings| settings.data(paths)).transpose()))
}

/// As lnd reads its arguments (go-flags, ParseArgs): `--name=value`, `--name value`, `-C value` and `-Cvalue`. A switch takes
/// no value, and what comes after `--` is none of them.
pub(super) fn from_arguments(arguments: &[String]) -> Settings {
    let mut settings = Settings::default();
    let mut rest = arguments.iter().take_while(|argument| *argument != "--").peekable();
    while let Some(argument) = rest.next() {
        let Some((name, value)) = split(argument) else { continue };
        let Some(known) = Known::of_name(name) else { continue };
        let value = match value {
            Some(value) => value,
            None if known.is_switch => "",
            // What begins with a dash is no value.
            None => rest.next_if(|next| !next.starts_with('-')).map_or("", String::as_str),
        };
        settings.put(known, value);
    }
    settings
}

/// The name of an option, and its value where that is in the same argument; nothing of what is no option.
fn split(argument: &str) -> Option<(&str, Option<&str>)> {
    if let Some(name) = argument.strip_prefix("--") {
        return Some(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))));
    }
    let (letter, rest) = argument.strip_prefix('-')?.split_at_checked(1)?;
    Some((letter, Some(rest).filter(|rest| !rest.is_empty()).map(|rest| rest.strip_prefix('=').unwrap_or(rest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an lnd of Ann's that does not run.
    const PATHS: Paths<'static> = Paths { process: None, listed: &|| Some(PathBuf::from("/home/ann")) };

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn settings_are_read_as_lnd_reads_them() {
        let text = "[Application Options]\n; listen=1\nnolisten = true\nrpclisten=a\nrpclisten=\"b\"\n\
            bitcoind.rpcpass=x\nRPCPass=x\n";
        let settings = Settings::parse(text);
        assert!(settings.is_on("nolisten") && !settings.is_on("norest"));
        assert_eq!(settings.values("rpclisten"), ["a", "b"]);
        assert_eq!(settings.values("listen"), [""; 0]);
        let shown = format!("{settings:?}").to_lowercase();
        assert!(!shown.contains("rpcpass"), "what may be a secret is left where it is");
    }

    #[test]
    fn arguments_are_read_as_lnd_reads_them() {
        let told = |line: &str| from_arguments(&words(line));
        let line = "--rpclisten=c --norest --debuglevel trace -C /x --no-macaroons 0 x --rpclisten d -- --nolisten";
        let settings = told(line);
        assert_eq!(settings.values("rpclisten"), ["c", "d"]);
        assert!(settings.is_on("norest") && settings.is_on("no-macaroons"), "a switch takes no value");
        assert!(!settings.is_on("nolisten"), "what comes after -- is no option");
        assert_eq!((settings.value("debuglevel"), settings.value("configfile")), (Some("trace"), Some("/x")));
        for line in ["-b /srv/x", "-b/srv/x", "-b=/srv/x", "--datadir /srv/x"] {
            assert_eq!(told(line).value("datadir"), Some("/srv/x"), "{line}");
        }
        assert_eq!(told("- -é -- -d trace"), Settings::default());
    }

    #[test]
    fn a_field_of_lnds_stands_for_its_setting() {
        for (text, name, value) in [
            ("RawRPCListeners=0.0.0.0:10009", "rpclisten", Some("0.0.0.0:10009")),
            ("[application options]\nNoMacaroons=1", "no-macaroons", Some("1")),
            ("NoSeedBackup=", "noseedbackup", Some("")),
            ("d=trace", "debuglevel", Some("trace")),
            ("nomacaroons=1", "no-macaroons", None),
            // Of two by one name the first, which outside of a group is another one.
            ("Profile=9736", "profile", Some("9736")),
            ("[Pprof]\nProfile=9736", "pprof.profile", Some("9736")),
            ("RawListeners=:9736", "listen", Some(":9736")),
            ("[Watchtower]\nRawListeners=:9912", "watchtower.listen", Some(":9912")),
            ("[tor]\nActive=1", "tor.active", Some("1")),
            ("Active=1", "tor.active", None),
            ("Enable=1", "prometheus.enable", Some("1")),
            ("[remotesigner]\nEnable=1", "remotesigner.enable", Some("1")),
            ("[bitcoin]\nNode=neutrino\nRawListeners=x", "bitcoin.node", Some("neutrino")),
            ("[bitcoin]\nNode=neutrino\nRawListeners=x", "listen", None),
            // By its whole name it is told from all others.
            ("[Bitcoin]\nbitcoin.node=neutrino", "bitcoin.node", Some("neutrino")),
            ("tor.active=true", "tor.active", Some("true")),
        ] {
            assert_eq!(Settings::parse(text).value(name), value, "{text}");
        }
    }

    #[test]
    fn places_are_those_that_lnd_has() {
        // Arguments, the file's text, and where the file, lnd's folder and its data are.
        for (line, text, places) in [
            ("", "", ["/home/ann/.lnd/lnd.conf", "/home/ann/.lnd", "/home/ann/.lnd/data"]),
            ("--lnddir=~/.lnd-x", "", ["/home/ann/.lnd-x/lnd.conf", "/home/ann/.lnd-x", "/home/ann/.lnd-x/data"]),
            ("", "datadir=/srv/x", ["/home/ann/.lnd/lnd.conf", "/home/ann/.lnd", "/srv/x"]),
            ("", "DataDir=~/x/../y", ["/home/ann/.lnd/lnd.conf", "/home/ann/.lnd", "/home/ann/y"]),
            ("", "lnddir=/srv/x", ["/home/ann/.lnd/lnd.conf", "/srv/x", "/srv/x/data"]),
            // A folder that is named holds all, and the usual one by its name is none.
            ("--lnddir=/srv/x", "datadir=/srv/y", ["/srv/x/lnd.conf", "/srv/x", "/srv/x/data"]),
            ("--lnddir=~/.lnd/", "datadir=/srv/y", ["/home/ann/.lnd/lnd.conf", "/home/ann/.lnd", "/srv/y"]),
            ("--lnddir=/srv/x", "lnddir=/srv/y", ["/srv/x/lnd.conf", "/srv/x", "/srv/x/data"]),
            ("-C /x", "", ["/x", "/home/ann/.lnd", "/home/ann/.lnd/data"]),
            ("--lnddir=/srv/x -C ~/.lnd/lnd.conf", "", ["/srv/x/lnd.conf", "/srv/x", "/srv/x/data"]),
        ] {
            let told = from_arguments(&words(line));
            let mut settings = Settings::parse(text);
            settings.0.extend(told.0.clone());
            let settings = Answer::Is(settings);
            let (conf, is_named) = conf(&told, &PATHS).unwrap();
            assert_eq!(is_named, line == "-C /x", "{line}");
            let data = data(&settings, &PATHS).take().unwrap().unwrap();
            let found = [conf, folder(&settings, &told, &PATHS).unwrap(), data];
            assert_eq!(found, places.map(PathBuf::from), "{line} {text}");
        }
        // What hangs on a process that nobody sees.
        let hidden = Settings::parse("datadir=$DATA");
        assert!(matches!(data(&Answer::Is(hidden), &PATHS), Answer::Unknown(_)));
        assert!(conf(&from_arguments(&words("--lnddir=x")), &PATHS).is_err());
        assert_eq!(data(&Answer::Unknown("no".to_owned()), &PATHS), Answer::Unknown("no".to_owned()));
    }

    #[test]
    fn settings_that_are_not_where_lnd_has_them_are_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let read = |conf: &str, is_named| read(&dir.path().join(conf), is_named, &Settings::default(), &PATHS);
        assert_eq!(read("lnd.conf", false), Answer::Is(Settings::default()), "lnd goes on without one");
        assert!(matches!(read("lnd.conf", true), Answer::Unknown(_)), "one that is named has to be there");
        assert!(matches!(read("none/lnd.conf", false), Answer::Unknown(_)), "lnd has made its folder");
        let text = "adminmacaroonpath=~/a.macaroon\ntlscertpath=~/x.cert\nwallet-unlock-password-file=$X/y\n";
        std::fs::write(dir.path().join("lnd.conf"), text).unwrap();
        let settings = read("lnd.conf", true).take().unwrap().unwrap();
        assert_eq!(settings.value("adminmacaroonpath"), Some("/home/ann/a.macaroon"));
        assert_eq!(settings.value("tlscertpath"), Some("/home/ann/x.cert"));
        assert_eq!(settings.value("wallet-unlock-password-file"), Some("$X/y"), "what SECR-005 goes by");
        std::fs::write(dir.path().join("lnd.conf"), format!("{text}lnddir=/srv/x\n")).unwrap();
        assert_eq!(read("lnd.conf", true).take().unwrap().unwrap().value("tlscertpath"), None);
    }
}
