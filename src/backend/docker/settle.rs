//! What a signer in a container is to be on an engine, and what it must not run into there.

use super::{container, volume};
use crate::backend::{Layout, adopt};
use crate::engine::{About, Bounds, Engine, Kind, Object, find_socket};
use crate::error::{Code, Error, Result};
use crate::facts;
use crate::host::file::Access;
use crate::host::{file, user};
use crate::spec::docker::{CREATE, Docker};
use crate::spec::places::FOLDER;
use crate::spec::{Instance, Spec};
use std::path::Path;

const NO_HOME: Code = Code::lacking("E-DOCKER-001");
const NO_NUMBER: Code = Code::lacking("E-DOCKER-002");
const NO_SPACE: Code = Code::lacking("E-DOCKER-004");
const NAME_TAKEN: Code = Code::refused("E-DOCKER-005");
const VOLUME_TAKEN: Code = Code::refused("E-DOCKER-006");
const NO_FILTER: Code = Code::lacking("E-DOCKER-007");
const ENGINES_GROUP: Code = Code::lacking("E-DOCKER-008");
const NOT_OURS: Code = Code::refused("E-DOCKER-009");
const FILES_TAKEN: Code = Code::refused("E-DOCKER-012");

/// What an image and what is loaded of it take for a while, in bytes.
const SPACE: u64 = 400 << 20;

/// The first number that a container's user may have; the signer's port, as good as any.
const FIRST_UID: u32 = 10_012;
/// How many numbers are tried.
const UIDS: u32 = 100;

/// The places of a signer that is to be in a container of the engine that is meant here. Without root they are the user's own,
/// and so is the number that lnd runs as: only root sees into the engine's volumes, and gives files away.
///
/// # Errors
/// Where no engine that will do answers, there is no home folder, or no user number is free.
pub fn settle(instance: &Instance, container: Option<String>, others: &[Spec]) -> Result<Docker> {
    let engine = find_socket()?;
    let About { root, maps_users, .. } = Engine::open(&engine)?.about()?;
    // Root's own, whatever sudo(8) left in the environment: a user's folder is that user's to change.
    let home = if user::is_root() { user::of_uid(0).map(|(_, home)| home) } else { user::named_folder("HOME") };
    let home =
        home.ok_or_else(|| Error::new(NO_HOME, "there is no home folder for the signer's files").hint("set HOME"))?;
    let folder = home.join(FOLDER).join(instance.as_str());
    let (volume, data, uid) = if user::is_root() {
        let volume = Docker::volume_of(instance);
        let data = root.join("volumes").join(&volume).join("_data");
        let uid = find_uid(others, &data)?;
        (Some(volume), data, uid)
    } else {
        hold_group(&engine)?;
        (None, folder.join("lnd"), user::own_uid())
    };
    let container = container.unwrap_or_else(|| Docker::container_of(instance));
    Ok(Docker { engine, container, volume, data, folder, uid, maps_users })
}

/// Holds that lnd, which gets the user's primary group, does not get the engine's with it.
fn hold_group(engine: &Path) -> Result<()> {
    let gid = |access: Access| access.owner.map(|owner| owner.gid);
    if file::access_of(engine)?.and_then(gid) != Some(user::owner_of(user::own_uid()).gid) {
        return Ok(());
    }
    Err(Error::new(ENGINES_GROUP, "your primary group is the engine's: an lnd that broke out could ask the engine")
        .hint("have that group among the others: usermod --gid YOURS --append --groups docker YOU"))
}

/// A number that neither a user nor a group of this host has, nor another signer's container; whose wallet is in `data`
/// already, where one is.
pub(super) fn find_uid(others: &[Spec], data: &Path) -> Result<u32> {
    let is_others = |uid: u32| others.iter().filter_map(|other| other.docker.as_ref()).any(|docker| docker.uid == uid);
    let is_free = |uid: u32| -> Result<bool> { Ok(!is_others(uid) && !user::is_taken(uid)?) };
    let owner = file::access_of(data).ok().flatten().and_then(|access| access.owner).map(|owner| owner.uid);
    if let Some(uid) = owner.filter(|uid| *uid != 0)
        && (adopt::has_wallet(data) || is_free(uid)?)
    {
        return Ok(uid);
    }
    for uid in FIRST_UID..FIRST_UID + UIDS {
        if is_free(uid)? {
            return Ok(uid);
        }
    }
    let cause = format!("all user numbers from {FIRST_UID} to {} are taken", FIRST_UID + UIDS - 1);
    Err(Error::new(NO_NUMBER, cause).hint("the container needs one that nobody on this host has"))
}

/// Holds that the engine will do, has room, and has nothing of somebody else's under the names of the signer's network and
/// container but what is `adopted`.
///
/// # Errors
/// What it lacks, or has too much.
pub fn check(spec: &Spec, docker: &Docker, adopted: Option<&Object>) -> Result<()> {
    let engine = Engine::open(&docker.engine)?;
    let root = engine.about()?.root;
    let free = facts::free_space(&root);
    if free < SPACE {
        let cause = format!("{} has {} MiB free; the image takes {} MiB", root.display(), free >> 20, SPACE >> 20);
        return Err(Error::new(NO_SPACE, cause).hint("free some space (docker system df) and run it again"));
    }
    let network = docker.network(&spec.instance);
    engine.holds_network(&network, &Bounds::Bridge(network.clone()))?;
    let name = &docker.container;
    let taken = |whose: &str| Error::new(NAME_TAKEN, format!("there is a container {name} already, and {whose}"));
    match engine.find(Kind::Container, name)? {
        Some(found) if found.mark.is_empty() && adopted != Some(&container(docker)) => {
            Err(taken("lsm did not make it")
                .hint(format!("take its wallet over with --adopt {name}, or choose another name with --container")))
        }
        // Users of this engine share its names.
        Some(found) if !found.mark.is_empty() && !engine.mounts(name)?.contains(&Layout::of(spec).launch_policy()) => {
            Err(taken("it is another user's signer").hint("choose another name with --container"))
        }
        _ => Ok(()),
    }
}

/// Holds that the container of the signer's name is its own, where there is one: it has its wallet. An engine that cannot be
/// asked is for whoever needs it to tell.
///
/// # Errors
/// Where it is somebody else's: the signer's own was removed, and the name was free.
pub fn hold_own(spec: &Spec) -> Result<()> {
    let Some(docker) = &spec.docker else { return Ok(()) };
    let has_other = |engine: Engine| engine.has_other(&docker.container, &docker.data);
    if Engine::open(&docker.engine).and_then(has_other).is_ok_and(|other| other) {
        Err(not_ours(docker))
    } else {
        Ok(())
    }
}

/// What says that the container of the signer's name is another one.
pub(super) fn not_ours(docker: &Docker) -> Error {
    let name = &docker.container;
    Error::new(NOT_OURS, format!("the container {name} is not the signer's: it does not have its wallet"))
        .hint(format!("it is left as it is; give it another name (docker rename {name} OTHER), then: lsm install"))
}

/// Holds that nothing is asked for that only the packet filter could hold: who is not root has none.
pub(super) fn hold_loopback(spec: &Spec, docker: &Docker) -> Result<()> {
    if !docker.is_users() || spec.listen.ip().is_loopback() && spec.allow.is_empty() {
        return Ok(());
    }
    let asked = if spec.allow.is_empty() { format!("--listen {}", spec.listen) } else { "an allowlist".to_owned() };
    let cause = format!("{asked} takes the packet filter, which is root's: without root the port is on loopback only");
    Err(Error::new(NO_FILTER, cause).hint("install it with sudo, or tunnel to loopback: ssh -L 10012:127.0.0.1:10012"))
}

/// Holds that the signer's volume, where there is one and lsm did not make it, has nothing in it, and no other container has it.
///
/// # Errors
/// Where it holds somebody's files, or is about to.
pub fn check_volume(docker: &Docker, is_own: impl Fn(&Object) -> bool) -> Result<()> {
    let Some(volume) = volume(docker) else { return Ok(()) };
    let engine = Engine::open(&docker.engine)?;
    if engine.find(volume.object, &volume.name)?.is_none() || is_own(&volume) {
        return Ok(());
    }
    let taken = |how: &str| {
        let cause = format!("there is a volume {} already, {how}, and lsm did not make it", volume.name);
        Error::new(VOLUME_TAKEN, cause).hint(
            "it is left as it is; give the new signer a name of its own with --instance, where it may --adopt that wallet",
        )
    };
    if !std::fs::read_dir(&docker.data).is_ok_and(|mut entries| entries.next().is_none()) {
        return Err(taken("with files in it"));
    }
    // Those that lsm makes have the name of the signer's.
    let is_other = |name: &String| *name != docker.container && *name != format!("{}{CREATE}", docker.container);
    match engine.users_of(&volume.name)?.into_iter().find(is_other) {
        Some(other) => Err(taken(&format!("which the container {other} has"))),
        None => Ok(()),
    }
}

/// Holds that lsm made what is there under the names of the signer's password, settings and bundle: the shell scripts before lsm
/// kept theirs under the same, and that password may be the only copy.
///
/// # Errors
/// Where somebody else's is there.
pub fn check_files(spec: &Spec, is_own: impl Fn(&Path) -> bool) -> Result<()> {
    let layout = Layout::of(spec);
    let names = [layout.keep("wallet-password", spec.sealed).path().to_owned(), layout.conf(), layout.bundle()];
    for path in &names {
        if file::is_there(path)? && !is_own(path) {
            let folder = path.parent().unwrap_or(path).display();
            return Err(Error::new(
                FILES_TAKEN,
                format!("there is {} already, and lsm did not make it", path.display()),
            )
            .hint(format!(
                "it may be the only copy: give the new signer a name of its own with --instance, take the older one over with \
                    --adopt, or move {folder} away"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Network;

    #[test]
    fn an_empty_folder_gives_nobodys_number_away() {
        if !user::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let give = |uid: u32| std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).unwrap();
        let found = || find_uid(&[], dir.path()).unwrap();
        // daemon(1) is on every Debian; nobody has the other one.
        give(1);
        assert!((FIRST_UID..FIRST_UID + UIDS).contains(&found()));
        give(FIRST_UID + UIDS);
        assert_eq!(found(), FIRST_UID + UIDS);
        let chain = dir.path().join("data/chain/bitcoin/regtest");
        std::fs::create_dir_all(&chain).unwrap();
        std::fs::write(chain.join("wallet.db"), "").unwrap();
        give(1);
        assert_eq!(found(), 1, "whose wallet is there");
    }

    #[test]
    fn files_that_lsm_did_not_make_are_nobody_elses_to_replace() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = Spec::new(&Instance::default(), Network::Regtest, "v0");
        spec.docker = Some(Docker {
            engine: "/nowhere".into(),
            container: "litd-signer".to_owned(),
            volume: Some("signer-data".to_owned()),
            data: dir.path().join("data"),
            folder: dir.path().to_owned(),
            uid: 10_012,
            maps_users: false,
        });
        check_files(&spec, |_| false).unwrap();
        for name in ["wallet-password.txt", "signer-lnd.conf", "credentials-bundle"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "theirs").unwrap();
            let refused = check_files(&spec, |_| false).unwrap_err();
            assert!(refused.code() == FILES_TAKEN && refused.cause().contains(name), "{refused}");
            check_files(&spec, |own| own == path).unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }
}
