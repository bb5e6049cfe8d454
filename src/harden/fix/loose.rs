//! Of each check about files and folders, those that others can read or change, and what they are to be.

use crate::facts::audit::{Answer, Credential, Host, Kept, Kind, Place, Signer, Unknown};
use std::path::{Path, PathBuf};

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
    let is_lsms = |signer: &Signer| matches!(signer.spec, Answer::Is(_));
    is_run_by_root(host, name) || host.signers.iter().any(|signer| signer.name == name && is_lsms(signer))
}

/// Where root runs it, root alone says in its arguments and its environment where its files are. What an lnd of lsm's has there is
/// not believed: somebody may have taken it over.
fn is_run_by_root(host: &Host, name: &str) -> bool {
    let is_root = |signer: &Signer| matches!(&signer.process, Answer::Is(process) if process.uid == Some(0));
    host.signers.iter().any(|signer| signer.name == name && is_root(signer))
}

/// Of what a signer keeps, what may be closed: what is `sure` to be its, and what is its user's own. What could not be looked at is
/// left as it is.
fn own<'a>(
    kept: &Kept,
    places: &'a Answer<Vec<Place>>,
    sure: impl Fn(&Place) -> bool,
) -> impl Iterator<Item = &'a Place> {
    let uid = kept.uid;
    let places = places.get().ok().flatten().into_iter().flatten();
    places.filter(move |place| sure(place) || (place.uid != 0 && Some(place.uid) == uid))
}

/// True of what is above a signer's folder, not only above that of its data.
fn is_above_folder(kept: &Kept, place: &Place) -> bool {
    let folder = kept.folder.get().ok().flatten().and_then(|places| places.first());
    folder.is_some_and(|folder| Path::new(&folder.path).starts_with(&place.path))
}

/// Not whose they are: lnd has to be able to read them.
pub(super) fn secrets(host: &Host) -> Found {
    let mut found = Vec::new();
    for (name, kept) in &host.secrets.kept {
        let (is_roots, is_run_by_root) = (is_roots(host, name), is_run_by_root(host, name));
        let told = [&kept.data, &kept.admin].into_iter().flat_map(|places| own(kept, places, |_| is_run_by_root));
        let all = own(kept, &kept.folder, |_| is_roots).chain(told);
        found.extend(all.filter(|place| place.is_shared()).filter_map(|place| Loose::new(place, ANYTHING, None)));
    }
    Ok(found)
}

pub(super) fn above_secrets(host: &Host) -> Found {
    let mut found = Vec::new();
    for (name, kept) in &host.secrets.kept {
        let (is_roots, is_run_by_root) = (is_roots(host, name), is_run_by_root(host, name));
        let sure = |place: &Place| is_run_by_root || (is_roots && is_above_folder(kept, place));
        found.extend(open(own(kept, &kept.way, sure), kept.uid.unwrap_or(0)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harden::tests::recorded;

    fn place(path: &str, mode: u32, uid: u32) -> Place {
        Place { path: path.to_owned(), kind: Kind::Folder, mode, uid, acl: false, capabilities: false }
    }

    fn closed(found: Found) -> Vec<String> {
        found.unwrap().into_iter().map(|loose| loose.path.to_string_lossy().into_owned()).collect()
    }

    /// The facts of a signer of lsm's that says of itself that its data is in /etc/lnd.
    fn misled() -> Host {
        let mut host = recorded();
        let kept = host.secrets.kept.values_mut().next().unwrap();
        let uid = kept.uid.unwrap();
        kept.folder = Answer::Is(vec![place("/srv/lsm/signer", 0o750, 0)]);
        kept.data = Answer::Is(vec![place("/etc/lnd", 0o755, 0), place("/etc/lnd/x", 0o755, uid)]);
        kept.admin = Answer::Is(vec![place("/usr", 0o755, 0), place("/usr/x", 0o644, uid)]);
        let way = ["/", "/srv", "/srv/lsm", "/", "/etc"].map(|path| place(path, 0o775, 0));
        kept.way = Answer::Is(way.into());
        host
    }

    #[test]
    fn a_signer_that_is_taken_over_does_not_choose_what_is_closed() {
        let host = misled();
        assert_eq!(closed(secrets(&host)), ["/srv/lsm/signer", "/etc/lnd/x", "/usr/x"]);
        assert_eq!(closed(above_secrets(&host)), ["/", "/srv", "/srv/lsm", "/"]);
    }

    #[test]
    fn what_root_runs_is_closed_wherever_it_has_its_files_and_what_another_runs_nowhere_but_in_his_own() {
        let mut host = misled();
        host.signers[0].spec = Answer::Absent;
        for (uid, of_secrets, above) in [(0, 5, 5), (1000, 2, 0)] {
            let Answer::Is(process) = &mut host.signers[0].process else { panic!("it runs") };
            process.uid = Some(uid);
            assert_eq!((closed(secrets(&host)).len(), closed(above_secrets(&host)).len()), (of_secrets, above));
        }
    }
}
