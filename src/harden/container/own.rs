//! A container held against what lsm makes: its mounts, its image and where it is published.

use super::{Judged, Verdict};
use crate::backend::docker;
use crate::facts::audit::{Container, Mount, Signer, Unknown};
use crate::harden::few;
use crate::render::container;
use crate::spec::docker::PORT;
use crate::spec::{Docker, Spec};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Folders of which no container should have anything but single files.
const SYSTEM: [&str; 10] =
    ["/etc", "/usr", "/boot", "/dev", "/proc", "/sys", "/run", "/var/run", "/var/lib/docker", "/root"];

/// What lsm knows of a container that it made.
fn made(signer: &Signer) -> Result<Option<(&Spec, &Docker)>, Unknown> {
    Ok(signer.spec.get()?.and_then(|spec| Some((spec, spec.docker.as_ref()?))))
}

pub fn mounts(signer: &Signer, container: &Container) -> Judged {
    if let Some(mount) = container.mounts.iter().find(|mount| mount.has_socket(&container.engine)) {
        return Ok(Verdict::Fail(format!("it has Docker's socket, by {}", mount.from.display())));
    }
    let Some((spec, docker)) = made(signer)? else { return Ok(strange(container)) };
    let wanted = wanted(spec, docker);
    let said = |mount: &Mount| {
        let how = if mount.writable { ", writable" } else { "" };
        format!("{} at {}{how}", mount.from.display(), mount.to.display())
    };
    let is_wanted = |mount: &&Mount| wanted.contains(&(mount.from.clone(), mount.to.clone(), mount.writable));
    let has = |to: &Path| container.mounts.iter().any(|mount| mount.to == to);
    let more = container.mounts.iter().filter(|mount| !is_wanted(mount)).map(said);
    let missing = wanted.iter().filter(|(_, to, _)| !has(to)).map(|(_, to, _)| format!("nothing at {}", to.display()));
    Ok(Verdict::none(more.chain(missing), format!("{} files and folders, lsm's own", wanted.len())))
}

/// What lsm mounts: from where, to where, and whether it can be written to.
fn wanted(spec: &Spec, docker: &Docker) -> Vec<(PathBuf, PathBuf, bool)> {
    let files = docker::files(spec, docker);
    let file = |from: PathBuf, to: &str| (from, PathBuf::from(to), false);
    vec![
        (docker.data.clone(), container::HOME.into(), true),
        (files.run, container::RUN.into(), true),
        file(files.conf, container::CONF),
        file(files.policy, container::POLICY),
        file(files.certificate, container::CERTIFICATE),
        file(files.key, container::KEY),
        file(files.password, container::PASSWORD),
    ]
}

/// Of a container that lsm did not make nobody knows what it needs: whole folders of the system it does not.
fn strange(container: &Container) -> Verdict {
    let is_system = |mount: &&Mount| {
        let is_volume = mount.kind == "volume" || mount.from.as_os_str().is_empty();
        let is_within = |folder: &str| mount.from == Path::new(folder) || Path::new(folder).starts_with(&mount.from);
        !is_volume && SYSTEM.iter().any(|folder| is_within(folder))
    };
    let open: Vec<String> =
        container.mounts.iter().filter(is_system).map(|mount| mount.from.display().to_string()).collect();
    if !open.is_empty() {
        return Verdict::Fail(few(&open));
    }
    let binds: Vec<String> = container
        .mounts
        .iter()
        .filter(|mount| mount.kind == "bind")
        .map(|mount| mount.from.display().to_string())
        .collect();
    if binds.is_empty() {
        return Verdict::Pass("volumes alone".to_owned());
    }
    Verdict::Warn(format!("whether it needs these, only you can say: {}", few(&binds)))
}

pub fn image(signer: &Signer, container: &Container) -> Judged {
    let Some((_, docker)) = made(signer)? else {
        return Ok(Verdict::NotApplicable("lsm did not make this container".to_owned()));
    };
    let image = &container.image;
    let made = image.made.need("image of lsm's to hold it against")?;
    let short = |number: &str| number.chars().take(19).collect::<String>();
    let named = image.named.get()?;
    let mut wrong = Vec::new();
    wrong.extend((!made.contains(&image.number)).then(|| {
        format!("the container {} runs {}, which lsm did not make of this lnd", docker.container, short(&image.number))
    }));
    match named {
        Some(number) if made.contains(number) => {}
        Some(number) => wrong.push(format!("{} is {} by now, which lsm did not make", image.name, short(number))),
        None => wrong.push(format!("there is no image {} any more", image.name)),
    }
    Ok(Verdict::none(wrong, format!("{}, {}...", image.name, short(&image.number))))
}

pub fn published(signer: &Signer, container: &Container) -> Judged {
    let all: Vec<(String, SocketAddr)> =
        container.ports.iter().flat_map(|(inside, at)| at.iter().map(move |at| (inside.clone(), *at))).collect();
    let said = |(inside, at): &(String, SocketAddr)| format!("{inside} at {at}");
    if let Some((spec, _)) = made(signer)? {
        let wanted = (format!("{PORT}/tcp"), spec.listen);
        let mut wrong: Vec<String> = all.iter().filter(|one| **one != wanted).map(said).collect();
        wrong.extend((!all.contains(&wanted)).then(|| format!("not {}", said(&wanted))));
        return Ok(Verdict::none(wrong, said(&wanted)));
    }
    let every: Vec<String> = all.iter().filter(|(_, at)| at.ip().is_unspecified()).map(said).collect();
    let named = all.iter().map(said).collect::<Vec<_>>();
    let good = if named.is_empty() { "nowhere".to_owned() } else { few(&named) };
    Ok(Verdict::none(every, good))
}
