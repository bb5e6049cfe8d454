//! Programs out of a registry's image: it is pulled by its digest and looked into, and never runs.

use super::{Engine, Kind};
use crate::error::{Code, Error, Result};
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access};
use crate::host::process;
use crate::spec::docker::Reference;
use crate::ui::progress::Progress;
use bollard::errors::Error as Fault;
use bollard::models::{ContainerCreateBody, CreateImageInfo};
use bollard::query_parameters::{
    CreateImageOptions, DownloadFromContainerOptions, RemoveContainerOptions, RemoveImageOptions,
};
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tar::EntryType;

const NOT_PULLED: Code = Code::lacking("E-ENGINE-040");
const NOT_INSIDE: Code = Code::unverified("E-ENGINE-041");
const TOO_LARGE: Code = Code::unverified("E-ENGINE-042");
const CANNOT_TAKE: Code = Code::lacking("E-ENGINE-043");

/// Where images have their programs, as a PATH names it.
const FOLDERS: [&str; 4] = ["/bin", "/usr/bin", "/usr/local/bin", ""];
/// The largest program, in bytes: lnd has some 100 MiB.
const LARGEST: u64 = 512 << 20;
/// How soon a pull ends that nobody waits for any more.
const ATTENTION: Duration = Duration::from_millis(100);

impl Engine {
    /// Takes the programs of these `names` out of the image `reference` into the folder `to`, which is there. A container of the
    /// name `aside` is made of it for that, and not started. What was not here before is not here afterwards; where this lsm
    /// is killed, after the next call of this or of [`Engine::take_back`].
    ///
    /// # Errors
    /// Where the image cannot be pulled, or has no such programs.
    pub fn take(&self, reference: &Reference, names: &[&str], aside: &str, to: &Path) -> Result<()> {
        self.take_back(aside, to)?;
        let image = reference.to_string();
        let pulled = if self.find(Kind::Image, &image)?.is_none() {
            file::replace(&note(to), image.as_bytes(), Access::mode(0o600))?;
            process::hold_interrupt(|| self.pull(reference))
        } else {
            Ok(())
        };
        let taken = pulled.and_then(|()| self.take_out(&image, names, aside, to));
        // Also where it failed.
        taken.and(self.take_back(aside, to))
    }

    /// Has the engine forget what a taking brought, wherever that was cut off.
    ///
    /// # Errors
    /// Where the engine cannot.
    pub fn take_back(&self, aside: &str, to: &Path) -> Result<()> {
        self.remove_aside(aside)?;
        let note = note(to);
        if file::is_there(&note)? {
            self.remove_pulled(&file::read_text(&note)?)?;
            file::remove(&note)?;
        }
        Ok(())
    }

    /// One out of which the operator made a container meanwhile (409) stays: it is the operator's now.
    fn remove_pulled(&self, image: &str) -> Result<()> {
        let call = async {
            match self.docker.remove_image(image, None::<RemoveImageOptions>, None).await {
                Err(Fault::DockerResponseServerError { status_code: 409, .. }) => Ok(Vec::new()),
                removed => removed,
            }
        };
        process::hold_interrupt(|| self.look("remove the image", call)).map(drop)
    }

    /// Also the volumes that the engine made because the image wants some: they have no name.
    fn remove_aside(&self, aside: &str) -> Result<()> {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        let call = self.docker.remove_container(aside, Some(options));
        process::hold_interrupt(|| self.look("remove the container", call)).map(drop)
    }

    fn pull(&self, reference: &Reference) -> Result<()> {
        let image = reference.to_string();
        let shown = Progress::new(&format!("pulling {image}"), None);
        let options = CreateImageOptions { from_image: Some(image.clone()), ..Default::default() };
        let pulled = self.runtime.block_on(async {
            let mut said = std::pin::pin!(self.docker.create_image(Some(options), None, None));
            let mut layers = BTreeMap::new();
            // An engine ends a pull when who asked for it goes away.
            while !process::is_interrupted() {
                match tokio::time::timeout(ATTENTION, said.next()).await {
                    Ok(Some(line)) => shown.say(&describe(&line?, &mut layers)),
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            Ok::<(), Fault>(())
        });
        pulled.map_err(|e| match e {
            Fault::DockerStreamError { error: why } | Fault::DockerResponseServerError { message: why, .. } => {
                Error::new(NOT_PULLED, format!("the engine cannot pull {image}: {why}"))
                    .hint("is the registry there, and has it this very digest? try: docker pull; or leave --image out")
            }
            e => super::explain(&self.socket, self.patience, "pull the image", e),
        })
    }

    fn take_out(&self, image: &str, names: &[&str], aside: &str, to: &Path) -> Result<()> {
        // An engine makes none without a program, which need not be there.
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(vec!["/never".to_owned()]),
            network_disabled: Some(true),
            ..Default::default()
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        self.replace(aside, &body, None)?;
        names.iter().try_for_each(|name| {
            let places = FOLDERS.map(|folder| format!("{folder}/{name}"));
            for place in &places {
                if self.copy_file(aside, place, &to.join(name))? {
                    return Ok(());
                }
            }
            Err(Error::new(NOT_INSIDE, format!("the image {image} has no {name}"))
                .hint(format!("it is looked for at {}", places.join(", "))))
        })
    }

    /// Copies a plain file of a container's; false where there is none.
    fn copy_file(&self, container: &str, from: &str, to: &Path) -> Result<bool> {
        let cannot = |e: std::io::Error| Error::new(CANNOT_TAKE, format!("cannot take {from} out of the image: {e}"));
        let options = DownloadFromContainerOptions { path: from.to_owned() };
        // A tar with the one file; what it says of that file's name is not followed.
        let packed = Draft::begin(&beside(to), Access::mode(0o600))?;
        let came = self.look("look into the image", async {
            let mut pieces = std::pin::pin!(self.docker.download_from_container(container, Some(options)));
            let (mut size, mut written) = (0, Ok(()));
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                size += piece.len() as u64;
                if size > LARGEST || written.is_err() {
                    break;
                }
                written = packed.file().write_all(&piece);
            }
            Ok((size, written))
        })?;
        let Some((size, written)) = came else { return Ok(false) };
        written.map_err(cannot)?;
        if size > LARGEST {
            return Err(Error::new(TOO_LARGE, format!("{from} of the image is larger than any lnd")));
        }
        packed.file().rewind().map_err(cannot)?;
        let mut tar = tar::Archive::new(packed.file());
        let Some(entry) = tar.entries().map_err(cannot)?.next() else { return Ok(false) };
        let entry = entry.map_err(cannot)?;
        if entry.header().entry_type() != EntryType::Regular {
            return Ok(false);
        }
        let draft = Draft::begin(to, Access::mode(0o600))?;
        std::io::copy(&mut entry.take(LARGEST), &mut draft.file()).map_err(cannot)?;
        draft.keep(Durable::No)?;
        Ok(true)
    }
}

/// How far it is, from what was said of each layer so far.
fn describe(line: &CreateImageInfo, layers: &mut BTreeMap<String, i64>) -> String {
    let came = line.progress_detail.as_ref().and_then(|detail| detail.current);
    if let (Some(layer), Some(came)) = (&line.id, came) {
        layers.insert(layer.clone(), came);
    }
    let (all, status) = (layers.values().sum::<i64>() >> 20, line.status.as_deref().unwrap_or_default());
    format!("{status}, {all} MiB")
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("tar")
}

/// The file that names the image which is here for the programs in `to` alone: written before it is pulled. A container's name,
/// which that of `to` begins with, may have a dot.
fn note(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".pulled");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signers_do_not_share_a_note() {
        assert_ne!(note(Path::new("/cache/signer.a-image")), note(Path::new("/cache/signer.b-image")));
    }
}
