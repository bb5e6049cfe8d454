//! Of each check about files and folders, those that others can read or change, and what they are to be.

use crate::facts::audit::{Answer, Credential, Host, Kept, Kind, Place, Signer, Unknown};
use std::path::PathBuf;

/// Folders in which lsm alone says whose a file is.
pub(super) const OF_LSM: [&str; 4] = ["/etc/lsm", "/etc/credstore.encrypted", "/usr/local/lib/lsm", "/var/lib/lsm"];

/// Bits with which others than the owner change something, and with which they do anything.
const CHANGE: u32 = 0o022;
const ANYTHING: u32 = 0o077;
/// Set-user-id and set-group-id, and the bit by which a folder guards what is in it (inode(7)).
const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;

/// A file or folder that gives too much, and what it is to be.
pub(super) struct Loose {
    pub(super) path: PathBuf,
    /// Its permission bits.
    pub(super) mode: u32,
    /// It is to be root's.
    pub(super) to_root: bool,
}

type Found = Result<Vec<Loose>, Unknown>;

impl Loose {
    /// `place` without the bits `take`; `owner` is whose it may be besides root's, where it is to be root's else.
    fn new(place: &Place, take: u32, owner: Option<u32>) -> Option<Self> {
        let to_root = owner.is_some_and(|owner| ![0, owner].contains(&place.uid));
        // What somebody else made would run as root.
        let take = if to_root { take | SET_ID } else { take };
        let is_kept = matches!(place.kind, Kind::File | Kind::Folder);
        let loose = Self { path: place.path.clone().into(), mode: place.mode & !take, to_root };
        (is_kept && (to_root || loose.mode != place.mode || place.acl || place.capabilities)).then_some(loose)
    }
}

/// Of `places`, what others than root and `owner` can change.
fn open<'a>(places: impl IntoIterator<Item = &'a Place>, owner: u32) -> impl Iterator<Item = Loose> {
    let open = places.into_iter().filter(move |place| place.is_open_to_others(owner));
    open.filter_map(move |place| {
        let guards = place.kind == Kind::Folder && place.mode & STICKY != 0;
        Loose::new(place, if guards { 0 } else { CHANGE }, Some(owner))
    })
}

fn of(answer: &Answer<Vec<Place>>) -> Result<&[Place], Unknown> {
    Ok(answer.get()?.map_or(&[][..], Vec::as_slice))
}

/// What lsm installed, or root runs, under this name. Anybody can run a program that is called lnd, and say where its files are.
fn is_roots(host: &Host, name: &str) -> bool {
    let is_root = |signer: &Signer| matches!(&signer.process, Answer::Is(process) if process.uid == Some(0));
    let known = |signer: &&Signer| matches!(signer.spec, Answer::Is(_)) || is_root(signer);
    host.signers.iter().filter(known).any(|signer| signer.name == name)
}

/// Of what a signer keeps, what may be closed: all where it [`is_roots`], else what is its user's own. What could not be looked at
/// is left as it is.
fn own<'a>(host: &Host, name: &str, kept: &Kept, places: &'a Answer<Vec<Place>>) -> impl Iterator<Item = &'a Place> {
    let (all, uid) = (is_roots(host, name), kept.uid);
    let places = places.get().ok().flatten().into_iter().flatten();
    places.filter(move |place| all || (place.uid != 0 && Some(place.uid) == uid))
}

/// Not whose they are: lnd has to be able to read them.
pub(super) fn secrets(host: &Host) -> Found {
    let mut found = Vec::new();
    for (name, kept) in &host.secrets.kept {
        let all = own(host, name, kept, &kept.folder).chain(own(host, name, kept, &kept.admin));
        found.extend(all.filter(|place| place.is_shared()).filter_map(|place| Loose::new(place, ANYTHING, None)));
    }
    Ok(found)
}

pub(super) fn above_secrets(host: &Host) -> Found {
    let mut found = Vec::new();
    for (name, kept) in &host.secrets.kept {
        found.extend(open(own(host, name, kept, &kept.way), kept.uid.unwrap_or(0)));
        for credential in credentials_of(host, name, kept)? {
            found.extend(open(of(&credential.way)?, 0));
        }
    }
    Ok(found)
}

/// Those of a unit that is root's to write, of a signer that [`is_roots`].
fn credentials_of<'a>(host: &Host, name: &str, kept: &'a Kept) -> Result<&'a [Credential], Unknown> {
    if !is_roots(host, name) {
        return Ok(&[]);
    }
    Ok(kept.credentials.get()?.map_or(&[][..], Vec::as_slice))
}

pub(super) fn bundles(host: &Host) -> Found {
    let strewn = &host.secrets.strewn;
    let macaroons = strewn.macaroons.iter().filter(|found| found.in_bundle).map(|found| &found.place);
    let shared = strewn.bundles.iter().chain(macaroons).filter(|place| place.is_shared());
    Ok(shared.filter_map(|place| Loose::new(place, ANYTHING, None)).collect())
}

pub(super) fn credentials(host: &Host) -> Found {
    let mut found = Vec::new();
    for (name, kept) in &host.secrets.kept {
        for credential in credentials_of(host, name, kept)? {
            found.extend(credential.place.get()?.and_then(|place| Loose::new(place, ANYTHING, Some(0))));
        }
    }
    Ok(found)
}

pub(super) fn lnd(host: &Host) -> Found {
    let mut found = Vec::new();
    for (name, answer) in &host.binaries.lnd {
        let Some(lnd) = answer.get()? else { continue };
        let is_roots = is_roots(host, name);
        // Of anybody's lnd its program alone, which is given to root only when the check is named.
        let way = if is_roots { of(&lnd.way)? } else { &[] };
        let all = [&lnd.place].into_iter().chain(way).filter(|place| is_roots || place.uid != 0);
        found.extend(open(all, 0));
    }
    Ok(found)
}

pub(super) fn own_rights(host: &Host) -> Found {
    let mut places: Vec<&Place> = of(&host.binaries.programs)?.iter().collect();
    for answer in host.binaries.lnd.values() {
        places.extend(answer.get()?.map(|lnd| &lnd.place));
    }
    let own = places.into_iter().filter(|place| place.kind == Kind::File);
    Ok(own.filter_map(|place| Loose::new(place, SET_ID, None)).collect())
}

pub(super) fn trusted(host: &Host) -> Found {
    Ok(open(of(&host.binaries.trusted)?, 0).collect())
}

pub(super) fn programs(host: &Host) -> Found {
    Ok(open(of(&host.binaries.programs)?, 0).collect())
}

pub(super) fn cron_tables(host: &Host) -> Found {
    let jobs = host.jobs.cron.get()?.into_iter().flatten();
    let of_root = jobs.filter(|job| job.user.as_deref().is_none_or(|user| user == "root"));
    Ok(open(of_root.flat_map(|job| &job.way), 0).collect())
}

pub(super) fn cron_programs(host: &Host) -> Found {
    Ok(open(host.jobs.cron.get()?.into_iter().flatten().flat_map(|job| &job.programs), 0).collect())
}

pub(super) fn timers(host: &Host) -> Found {
    let jobs = host.jobs.timers.get()?.into_iter().flatten();
    Ok(open(jobs.flat_map(|job| job.way.iter().chain(&job.programs)), 0).collect())
}

/// The hashes of passwords are not for everybody to read either.
pub(super) fn accounts(host: &Host) -> Found {
    let mut found = Vec::new();
    for answer in &host.accounts.files {
        let Some(place) = answer.get()? else { continue };
        let take = if place.path.ends_with("shadow") { 0o026 } else { CHANGE };
        found.extend(Loose::new(place, take, Some(0)));
    }
    Ok(found)
}

pub(super) fn sudo_rules(host: &Host) -> Found {
    Ok(open(host.accounts.sudo.get()?.into_iter().flat_map(|sudo| &sudo.loose), 0).collect())
}

pub(super) fn homes(host: &Host) -> Found {
    let mut found = Vec::new();
    let is_of_lnd = |user: &str| host.signers.iter().any(|signer| signer.user.as_deref() == Some(user));
    for home in host.accounts.homes.iter().filter(|home| is_of_lnd(&home.user)) {
        found.extend(open(of(&home.way)?, home.uid));
    }
    Ok(found)
}

pub(super) fn ssh_keys(host: &Host) -> Found {
    let mut found = Vec::new();
    for home in &host.accounts.homes {
        for way in home.keys.values() {
            found.extend(open(of(way)?, home.uid));
        }
    }
    Ok(found)
}

pub(super) fn host_keys(host: &Host) -> Found {
    let keys = of(&host.ssh.host_keys)?.iter();
    Ok(keys.filter_map(|key| Loose::new(key, ANYTHING, Some(0))).collect())
}

pub(super) fn units(host: &Host) -> Found {
    let mut found = Vec::new();
    for (path, file) in &host.units.files {
        let Some(file) = file.get()? else { continue };
        let (mode, to_root) = (file.mode & !CHANGE, file.uid != 0);
        found.extend((mode != file.mode || to_root).then(|| Loose { path: path.clone(), mode, to_root }));
    }
    Ok(found)
}
