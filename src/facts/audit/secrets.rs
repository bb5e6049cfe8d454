//! How secrets lie on the host: never what is in them.

mod strewn;
mod told;
mod words;

pub use strewn::{Found, Strewn};
pub(super) use told::{in_arguments, in_variables};

use super::accounts::uid_of;
use super::place::shown;
use super::{Answer, Place, Signer, Unknown, names};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Files that hold or open the keys, or let somebody call lnd, by the ends of their names.
const SECRET: [&str; 5] = [".db", ".macaroon", ".key", ".kdbx", "password"];
/// lnd makes some dozen folders and files; so many are looked at.
const ENTRIES: usize = 4000;
/// lnd's own are five deep.
const DEPTH: usize = 8;
/// Where systemd finds units, what counts most at the end (systemd.unit(5)).
const UNITS: [&str; 6] = [
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system",
    "/run/systemd/system.control",
    "/etc/systemd/system.control",
];
/// No unit is near this.
const TEXT: u64 = 1 << 20;

/// How secrets lie on the host: never what is in them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// Of each signer, by its name.
    pub kept: BTreeMap<String, Kept>,
    /// What lies about.
    pub strewn: Strewn,
}

/// What one signer keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// The number of lnd's user.
    pub uid: Option<u32>,
    /// lnd's folder, then the secrets in it.
    pub folder: Answer<Vec<Place>>,
    /// The same of the folder of its data, where its settings put that outside of lnd's folder.
    #[serde(default = "Answer::absent")]
    pub data: Answer<Vec<Place>>,
    /// The admin macaroon's folder, then the macaroon, where its settings put it outside of lnd's folder.
    pub admin: Answer<Vec<Place>>,
    /// The folders above lnd's, and above that of its data.
    pub way: Answer<Vec<Place>>,
    /// What its unit hands to lnd in a file.
    pub credentials: Answer<Vec<Credential>>,
    /// Names of arguments, variables and settings of its unit that hold a secret.
    pub told: Answer<Vec<String>>,
}

/// A secret that systemd hands to lnd (systemd.exec(5), `LoadCredential=`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// Its file is encrypted.
    pub sealed: bool,
    /// Its file.
    pub place: Answer<Place>,
    /// The folders above that.
    pub way: Answer<Vec<Place>>,
}

impl Secrets {
    pub(super) fn gather(signers: &[Signer]) -> Self {
        // lnd in a container has its macaroons where lsm can reach them from here.
        let runs = signers.iter().filter_map(|signer| Some(signer.docker()?.folder.join("run")));
        let own: Vec<PathBuf> = signers.iter().flat_map(folders).chain(runs).collect();
        let kept = signers.iter().map(|signer| (signer.name.clone(), Kept::look(signer))).collect();
        Self { kept, strewn: Strewn::search(&own) }
    }
}

impl Kept {
    fn look(signer: &Signer) -> Self {
        let process = match &signer.process {
            Answer::Is(process) => Some(process),
            _ => None,
        };
        let named = || signer.docker().map(|docker| docker.uid).or_else(|| uid_of(signer.user.as_deref()?));
        let no_folder = || Answer::Unknown("it cannot be told where lnd's folder is".to_owned());
        let folder = signer.folder.as_ref().map(|folder| signer.here(folder));
        let inside = |folder: PathBuf| signer.made(secrets_in(&folder));
        let units = unit_texts(process.and_then(|process| process.unit.as_deref()).unwrap_or(&signer.name));
        Self {
            uid: process.and_then(|process| process.uid).or_else(named),
            way: if folder.is_some() { ways(signer) } else { no_folder() },
            folder: folder.map_or_else(no_folder, inside),
            data: signer.data.clone().and_then(inside),
            admin: admin(signer),
            told: told(signer, &units),
            credentials: units.map(|units| units.iter().flat_map(|(_, text)| credentials(text)).collect()),
        }
    }
}

/// The folders of a signer on this host: its own, and that of its data where that is elsewhere.
fn folders(signer: &Signer) -> Vec<PathBuf> {
    let own = signer.folder.as_ref().map(|folder| signer.here(folder));
    own.into_iter().chain(signer.data.get().ok().flatten().cloned()).collect()
}

/// The folders above those.
fn ways(signer: &Signer) -> Answer<Vec<Place>> {
    let mut all = Vec::new();
    for folder in folders(signer) {
        match signer.made(Place::way_to(&folder)) {
            Answer::Is(way) => all.extend(way),
            Answer::Absent => {}
            Answer::Unknown(why) => return Answer::Unknown(why),
        }
    }
    Answer::Is(all)
}

/// The admin macaroon that lnd's settings put somewhere else, with the folder that it is in.
fn admin(signer: &Signer) -> Answer<Vec<Place>> {
    let named = match &signer.settings {
        Answer::Is(settings) => settings.value("adminmacaroonpath").filter(|path| !path.is_empty()),
        Answer::Absent => None,
        Answer::Unknown(why) => return Answer::Unknown(why.clone()),
    };
    let Some(named) = named else { return Answer::Absent };
    if !Path::new(named).is_absolute() {
        return Answer::Unknown(format!("where lnd has its admin macaroon cannot be told: {named}"));
    }
    let path = signer.outside(Path::new(named));
    if folders(signer).iter().any(|folder| path.starts_with(folder)) {
        return Answer::Absent;
    }
    match (Place::look(path.parent().unwrap_or(&path)), Place::look(&path)) {
        (Answer::Is(folder), Answer::Is(file)) => Answer::Is(vec![folder, file]),
        (Answer::Unknown(why), _) | (_, Answer::Unknown(why)) => Answer::Unknown(why),
        _ => Answer::Absent,
    }
}

/// lnd's folder, and each file in it that is a secret, by its name. Nothing is opened, no link followed.
fn secrets_in(folder: &Path) -> Answer<Vec<Place>> {
    let mut places = match Place::look(folder) {
        Answer::Is(place) => vec![place],
        Answer::Absent => return Answer::Absent,
        Answer::Unknown(why) => return Answer::Unknown(why),
    };
    let (mut folders, mut seen) = (vec![(folder.to_owned(), 0)], 0);
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) => return Answer::failed(&folder, &e),
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > ENTRIES || depth > DEPTH {
                return Answer::Unknown(format!("{} holds more than lnd would put there", folder.display()));
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((entry.path(), depth + 1));
            } else if is_secret(&entry.file_name()) {
                match Place::look(&entry.path()) {
                    Answer::Is(place) => places.push(place),
                    Answer::Absent => {}
                    Answer::Unknown(why) => return Answer::Unknown(why),
                }
            }
        }
    }
    places[1..].sort_by(|a, b| a.path.cmp(&b.path));
    Answer::Is(places)
}

fn is_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    SECRET.iter().any(|end| name.ends_with(end))
}

/// The files of a unit and its template, what counts last at the end (systemd.unit(5)): drop-ins come after units, in
/// the order of their names, and of two by one name the nearer one is all that is read.
fn unit_paths(unit: &str) -> Result<Vec<PathBuf>, Unknown> {
    let template = unit.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
    let (mut units, mut drop_ins) = (Vec::new(), BTreeMap::new());
    for name in template.into_iter().chain([unit.to_owned()]) {
        for folder in UNITS.map(Path::new) {
            units.push(folder.join(&name));
            for path in names(&folder.join(format!("{name}.d"))).take()?.unwrap_or_default() {
                drop_ins.insert(path.file_name().unwrap_or_default().to_owned(), path);
            }
        }
    }
    let is_read = |path: &PathBuf| path.extension() == Some(OsStr::new("conf"));
    Ok(units.into_iter().chain(drop_ins.into_values().filter(is_read)).collect())
}

/// Where each of a unit's files is, and its text.
fn unit_texts(unit: &str) -> Answer<Vec<(PathBuf, String)>> {
    let paths = match unit_paths(unit) {
        Ok(paths) => paths,
        Err(why) => return Answer::Unknown(why.to_string()),
    };
    let mut texts = Vec::new();
    for path in paths {
        match Answer::of_file(&path, || file::read_named(&path, TEXT)) {
            Answer::Is(text) => texts.push((path, String::from_utf8_lossy(&text).into_owned())),
            Answer::Absent => {}
            // A mask, which says nothing.
            Answer::Unknown(_) if std::fs::canonicalize(&path).is_ok_and(|real| real == Path::new("/dev/null")) => {}
            Answer::Unknown(why) => return Answer::Unknown(why),
        }
    }
    Answer::Is(texts)
}

/// What a unit's text hands to lnd from files.
fn credentials(text: &str) -> Vec<Credential> {
    let one = |(setting, value): (&str, &str)| {
        let sealed = match setting {
            "LoadCredential" => false,
            "LoadCredentialEncrypted" => true,
            _ => return None,
        };
        let (name, path) = value.split_once(':').unwrap_or((value, value));
        // A name alone is one in systemd's own folder.
        let path = Path::new(if sealed { "/etc/credstore.encrypted" } else { "/etc/credstore" }).join(path);
        Some(Credential { name: name.to_owned(), sealed, place: Place::look(&path), way: Place::way_to(&path) })
    };
    told::settings(text).filter_map(one).collect()
}

fn told(signer: &Signer, units: &Answer<Vec<(PathBuf, String)>>) -> Answer<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut unseen = None;
    match units {
        Answer::Is(texts) => {
            for (path, text) in texts {
                found.extend(told::in_unit(text).into_iter().map(|what| format!("{what} in {}", shown(path))));
            }
        }
        Answer::Absent => {}
        Answer::Unknown(why) => unseen = Some(why.clone()),
    }
    if let Answer::Is(process) = &signer.process {
        for (name, judge) in [("cmdline", told::in_arguments as fn(&[String]) -> _), ("environ", told::in_variables)] {
            match words(process.pid, name) {
                Answer::Is(words) => {
                    found.extend(judge(&words).into_iter().map(|what| format!("{what} of the process")))
                }
                Answer::Absent => {}
                Answer::Unknown(why) => unseen = Some(why),
            }
        }
    }
    // What was found is found, whatever else could not be seen.
    unseen.filter(|_| found.is_empty()).map_or(Answer::Is(found), Answer::Unknown)
}

/// What a file of the process in /proc holds, each with a zero byte at its end.
fn words(pid: u32, name: &str) -> Answer<Vec<String>> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    Answer::of_file(&path, || file::read_named(&path, TEXT)).map(|bytes| {
        let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words.filter(|word| !word.is_empty()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::signer::running;
    use super::*;
    use crate::facts::audit::Kind;

    #[test]
    fn secrets_of_a_folder_are_told_by_their_names_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/chain")).unwrap();
        for name in ["data/chain/wallet.db", "data/admin.macaroon", "tls.key", "tls.cert", "lnd.conf"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("away")).unwrap();
        std::os::unix::fs::symlink("/etc/hosts", dir.path().join("x.db")).unwrap();
        let Answer::Is(places) = secrets_in(dir.path()) else { panic!("it is there") };
        let found: Vec<_> = places[1..].iter().map(|p| (p.path.rsplit('/').next().unwrap(), p.kind)).collect();
        let file = Kind::File;
        assert_eq!(found, [("admin.macaroon", file), ("wallet.db", file), ("tls.key", file), ("x.db", Kind::Link)]);
        assert_eq!(secrets_in(&dir.path().join("none")), Answer::Absent);
    }

    #[test]
    fn what_a_unit_hands_over_is_sealed_or_not() {
        let text = "LoadCredential=a:/none\nLoadCredentialEncrypted=b:/none\nLoadCredential=c\nSetCredential=d:e\n";
        let found = credentials(text);
        let found: Vec<_> = found.iter().map(|c| (c.name.as_str(), c.sealed, c.place == Answer::Absent)).collect();
        assert_eq!(found, [("a", false, true), ("b", true, true), ("c", false, true)]);
    }

    #[test]
    fn the_wallet_is_looked_at_where_the_settings_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("x/chain")).unwrap();
        std::fs::create_dir(dir.join("lnd")).unwrap();
        std::fs::write(dir.join("x/chain/wallet.db"), "").unwrap();
        let kept = Kept::look(&Signer { data: Answer::Is(dir.join("x")), ..running(&dir.join("lnd")) });
        let Answer::Is(places) = &kept.data else { panic!("it is there: {kept:?}") };
        let ends: Vec<_> = places.iter().map(|place| place.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(ends, ["x", "wallet.db"]);
        let Answer::Is(way) = &kept.way else { panic!("it is there: {kept:?}") };
        let above = way.iter().filter(|place| Path::new(&place.path).file_name() == dir.file_name());
        assert_eq!(above.count(), 2, "the way to either: {way:?}");
        // lnd has made both.
        let gone = Kept::look(&Signer { data: Answer::Is(dir.join("none")), ..running(&dir.join("none")) });
        for place in [&gone.folder, &gone.data, &gone.way] {
            assert!(matches!(place, Answer::Unknown(_)), "{gone:?}");
        }
        let resting = Kept::look(&Signer { process: Answer::Absent, ..running(&dir.join("none")) });
        assert_eq!((resting.folder, resting.way), (Answer::Absent, Answer::Is(vec![])));
    }

    #[test]
    fn an_admin_macaroon_that_cannot_be_found_is_not_absent() {
        let settings = |path: &str| serde_json::from_value(serde_json::json!({ "adminmacaroonpath": [path] })).unwrap();
        let of = |path: &str| admin(&Signer { settings: Answer::Is(settings(path)), ..running(Path::new("/none")) });
        assert!(matches!(of("$HIDDEN/admin.macaroon"), Answer::Unknown(_)));
        assert_eq!((of("/none/admin.macaroon"), of("")), (Answer::Absent, Answer::Absent));
    }
}
