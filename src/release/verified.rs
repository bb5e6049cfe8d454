//! A verified archive: the bytes that are used are hashed as they are used, so nothing can change in between.

use crate::archive;
use crate::error::{Code, Error, Exit, Result};
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access};
use crate::host::user;
use crate::release::known;
use crate::release::pins::{Arch, Origin, Pin, Release};
use crate::release::quorum::papers::Papers;
use crate::release::quorum::{self, Quorum};
use crate::release::trust;
use crate::release::unpack::{self, PROGRAMS, Pass};
use crate::ui;
use crate::ui::progress::Progress;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NOT_THE_PINNED: Code = Code::unverified("E-RELEASE-030");
const CUT_SHORT: Code = Code::unverified("E-RELEASE-031");
const UNKNOWN: Code = Code::unverified("E-RELEASE-032");
const NO_ARCHIVE: Code = Code::usage("E-RELEASE-033");
const NOT_WRITTEN: Code = Code::lacking("E-RELEASE-035");
const CHANGED: Code = Code::unverified("E-RELEASE-036");
const OPEN_FOLDER: Code = Code::refused("E-RELEASE-039");
const ALONE: Code = Code::unverified("E-RELEASE-038");
const NO_PAPERS: Code = Code::lacking("E-RELEASE-037");

/// Something that was held against a pin. Only this room can make one.
#[derive(Debug)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// How an archive came to be what it is; several may hold at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Provenance {
    /// Its SHA-256 is the pinned one.
    Pin {
        /// In hexadecimal.
        sha256: String,
        /// Who pinned it.
        origin: Origin,
    },
    /// The manifest that lists it was signed by lnd's own signers.
    Quorum(Quorum),
    /// It was built here, from the modules with these hashes.
    SourceBuild {
        /// Of lnd's module zip.
        lnd_module: String,
        /// Of the Go toolchain's module zip.
        toolchain: String,
        /// The Go version.
        go: String,
        /// The modules whose hash came by an update, and is proved to be in the Go checksum database.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        proved: Vec<String>,
    },
    /// Its programs were in an image of a registry's.
    Image {
        /// By its digest.
        reference: String,
    },
    /// It was downloaded.
    Download {
        /// From here.
        url: String,
    },
}

impl Provenance {
    /// What a pin says.
    pub(super) fn of_pin(pin: &Pin) -> Self {
        Self::Pin { sha256: pin.sha256.clone(), origin: pin.origin }
    }
}

/// An official archive: an open file, so that what is read later is the file that was verified.
#[derive(Serialize)]
pub struct Archive {
    version: &'static str,
    arch: Arch,
    sha256: String,
    path: PathBuf,
    provenance: Vec<Provenance>,
    #[serde(skip)]
    release: &'static Release,
    #[serde(skip)]
    file: File,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.version, self.arch, self.sha256)
    }
}

impl Archive {
    /// The release that it is.
    pub fn release(&self) -> &'static Release {
        self.release
    }

    /// The processor that it is for.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Its SHA-256, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it came to be what it is.
    pub fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }
}

/// Reads an archive, or the one archive in a folder, and holds it against the pins. Where the folder holds lnd's manifest
/// and its signatures too, they are counted: `needed` is the least number of good ones, or without it what the trust in
/// force asks for, and then too few are told and no fault, since the pin speaks too.
///
/// # Errors
/// Where there is none, it cannot be read, or it is not an official archive that lsm knows: cut short, changed, other.
/// Where a signature is bad, too few are good, or the manifest lists another archive.
pub fn verify(path: &Path, needed: Option<usize>) -> Result<Verified<Archive>> {
    let (archive, file) = open(path)?;
    let (sha256, _) = unpack::hash(&file)?;
    let Some(pin) = find_pin(&sha256)? else {
        // Only what is inside tells what happened to it.
        return Err(explain(&archive, unpack::read_through(&file, &mut |_, _| Ok(()))?));
    };
    Verified::new(archive, file, sha256, pin).believe_folder(path, needed)
}

/// [`verify`] and [`Verified::unpack`] in one pass over the archive. The folder is made where it is missing, but only
/// for an archive that is verified.
///
/// # Errors
/// As both, and where others can change what is in `folder`; nothing is left in it then.
pub fn verify_and_unpack(
    path: &Path,
    needed: Option<usize>,
    folder: &Path,
    durable: Durable,
) -> Result<Verified<Archive>> {
    let (archive, file) = open(path)?;
    let (pass, drafts) = write_programs(&file, folder, [0o755; 2])?;
    let Some(pin) = find_pin(&pass.sha256)? else { return Err(explain(&archive, pass)) };
    let archive = Verified::new(archive, file, pass.sha256, pin).believe_folder(path, needed)?;
    pass.unpacked?;
    file::make_folders(folder)?;
    hold_own(folder)?;
    Draft::keep_all(drafts, durable)?;
    Ok(archive)
}

/// Holds that what is put into `folder` stays what it is, as far as a group that may write there is one of the host's own: Debian's
/// staff may in /usr/local.
fn hold_own(folder: &Path) -> Result<()> {
    let is_own =
        |about: &Metadata| user::is_root_or_own(about.uid()) && (about.is_symlink() || about.mode() & 0o002 == 0);
    // A link's owner could lead it elsewhere.
    let both = [std::fs::symlink_metadata(folder), std::fs::metadata(folder)];
    if both.iter().flatten().all(is_own) {
        return Ok(());
    }
    Err(Error::new(OPEN_FOLDER, format!("others can change what is in {}", folder.display()))
        .hint("nothing was unpacked; name a folder that is yours, or root's, alone"))
}

fn open(path: &Path) -> Result<(PathBuf, File)> {
    let path = if path.is_dir() { only_archive_in(path)? } else { path.to_owned() };
    let file = file::open(&path)?;
    Ok((path, file))
}

/// Has the programs of an archive written for `folder`, with these modes, owned by whoever runs lsm, without a name yet.
fn write_programs(file: &File, folder: &Path, modes: [u32; 2]) -> Result<(Pass, Vec<Draft>)> {
    let _progress = Progress::new("unpacking", None);
    let begin = |(name, mode): (&str, u32)| Draft::begin(&folder.join(name), Access::mode(mode));
    let mut drafts = PROGRAMS.into_iter().zip(modes).map(begin).collect::<Result<Vec<_>>>()?;
    let pass = unpack::read_through(file, &mut |place, part| {
        let draft = &mut drafts[place];
        draft.write_all(part).map_err(|e| Error::new(NOT_WRITTEN, format!("cannot write {}: {e}", PROGRAMS[place])))
    })?;
    Ok((pass, drafts))
}

/// The release and processor whose official archive has this SHA-256 (hexadecimal).
fn find_pin(sha256: &str) -> Result<Option<(&'static Release, Arch)>> {
    let found = known::in_force()?.find_archive(sha256);
    if let Some((release, arch)) = found {
        release.live_pin(arch)?;
    }
    Ok(found)
}

impl Verified<Archive> {
    fn new(path: PathBuf, file: File, sha256: String, (release, arch): (&'static Release, Arch)) -> Self {
        let provenance = release.archive.get(&arch).map(Provenance::of_pin).into_iter().collect();
        Self(Archive { version: &release.version, arch, sha256, path, provenance, release, file })
    }

    /// Adds what the papers in the folder `path`, if it is one and has any, say.
    fn believe_folder(self, path: &Path, needed: Option<usize>) -> Result<Self> {
        self.hold_name()?;
        let papers = if path.is_dir() { Papers::read(path, self.release)? } else { None };
        self.believe(papers.as_ref(), needed)
    }

    /// Holds that a name of lnd's form is its own: an old archive under a new name is how an old lnd is passed off.
    fn hold_name(&self) -> Result<()> {
        let own = self.release.archive_file(self.arch);
        if self.path.file_name().is_some_and(|name| name == own.as_str()) || !is_archive_name(&self.path) {
            return Ok(());
        }
        let (path, version, arch) = (self.path.display(), self.version, self.arch);
        Err(Error::new(NOT_THE_PINNED, format!("{path} is lnd {version} for {arch}, not what its name says"))
            .hint("see who renamed it; it is genuine, and may be old"))
    }

    /// Adds what `papers` say, as [`verify`] has it.
    ///
    /// # Errors
    /// Where they contradict the pin, or are missing and needed: by the operator, or by a pin that came by an update,
    /// which is not believed alone.
    pub(super) fn believe(self, papers: Option<&Papers>, needed: Option<usize>) -> Result<Self> {
        let quorum = match papers {
            Some(papers) => papers.hold(self.release, self.arch, needed),
            None if needed.is_none() => return self.not_alone(),
            None => {
                let cause = format!("there is no signed manifest beside {}", self.path.display());
                return Err(Error::new(NO_PAPERS, cause).hint("name a folder as lsm release fetch makes it"));
            }
        };
        match quorum {
            Ok(quorum) => {
                // Fewer than the trust in force asks for may have been enough for this once, but not against an update.
                let is_full = quorum.signatures.len() >= trust::in_force()?.quorum;
                let archive = self.because_of(Provenance::Quorum(quorum));
                if is_full { Ok(archive) } else { archive.not_alone() }
            }
            Err(e) if needed.is_none() && quorum::is_too_few(&e) => {
                ui::note(&format!("only the pin speaks for it: {e}"));
                self.not_alone()
            }
            Err(e) => Err(e),
        }
    }

    /// One key must not outvote five signers: what came by an update needs them, or a build, beside it.
    pub(super) fn not_alone(self) -> Result<Self> {
        let (version, arch) = (self.version, self.arch);
        let Origin::Update(counter) = self.release.pin(arch)?.origin else { return Ok(self) };
        let cause = format!(
            "the pin of lnd {version} for {arch} came by update {counter}; it needs a quorum or a build beside it"
        );
        Err(Error::new(ALONE, cause).hint(
            "name a folder as lsm release fetch makes it, with the signatures, or let install build it with --source",
        ))
    }

    /// Verifies `path` and demands that it is the archive of `release` for `arch`.
    pub(super) fn expect(path: &Path, release: &Release, arch: Arch, needed: Option<usize>) -> Result<Self> {
        let archive = verify(path, needed)?;
        if archive.sha256 == release.pin(arch)?.sha256 {
            return Ok(archive);
        }
        let (path, is) = (path.display(), &archive.0);
        Err(Error::new(NOT_THE_PINNED, format!("{path} is lnd {} for {}, not what was asked for", is.version, is.arch)))
    }

    /// Puts a file that came or was built into its place, if it is the archive of `release` for `arch`; else it is gone.
    /// `sha256` is that of its bytes, where they were hashed as they were written; without, they are read again.
    /// `believe` adds what else speaks for it, before it gets its name.
    ///
    /// # Errors
    /// Where it is not, or cannot be put there; and what `believe` ends with.
    pub(super) fn hold(
        draft: Draft,
        sha256: Option<String>,
        release: &Release,
        arch: Arch,
        believe: impl FnOnce(Self) -> Result<Self>,
    ) -> Result<Self> {
        let found = sha256.map_or_else(|| unpack::hash(draft.file()).map(|(sha256, _)| sha256), Ok)?;
        let pinned = &release.live_pin(arch)?.sha256;
        let pin = find_pin(&found)?.filter(|_| found == *pinned).ok_or_else(|| {
            let cause = format!("{} came out as {found}, not as the official archive", release.archive_name(arch));
            Error::new(NOT_THE_PINNED, cause).hint(format!("pinned is {pinned}; nothing was kept"))
        })?;
        let archive = Self::new(draft.place().to_owned(), draft.handle()?, found, pin);
        let archive = believe(archive)?;
        draft.keep(Durable::No)?;
        Ok(archive)
    }

    /// Adds how it came to be.
    pub(super) fn because_of(mut self, provenance: Provenance) -> Self {
        self.0.provenance.push(provenance);
        self
    }

    /// Puts `lnd` and `lncli` into `folder`, with these modes, owned by whoever runs lsm. Neither gets its name before both are
    /// whole, and the file was seen once more to be the verified one.
    ///
    /// # Errors
    /// Where writing fails, or the file was changed since it was verified; nothing half-written stays.
    pub fn unpack(&self, folder: &Path, modes: [u32; 2], durable: Durable) -> Result<()> {
        let (pass, drafts) = write_programs(&self.file, folder, modes)?;
        if pass.sha256 != self.sha256 {
            let cause = format!("{} was changed since it was verified (sha256 {})", self.path.display(), pass.sha256);
            return Err(Error::new(CHANGED, cause).hint("nothing was unpacked; see who writes there"));
        }
        pass.unpacked?;
        Draft::keep_all(drafts, durable)
    }
}

/// Says what is wrong with an archive whose hash nobody pinned.
fn explain(path: &Path, pass: Pass) -> Error {
    let (shown, sha256) = (path.display(), pass.sha256);
    let again = "get it again, or build it with: lsm release build";
    match pass.unpacked {
        Err(e) if archive::is_cut_short(&e) => {
            Error::new(CUT_SHORT, format!("{shown} is cut short: it ends after {} bytes", pass.size)).hint(again)
        }
        Err(e) if e.code().exit == Exit::Unverified => {
            let cause = format!("{shown} was changed or is no lnd archive: {} (sha256 {sha256})", e.cause());
            Error::new(UNKNOWN, cause).hint(again).because(e)
        }
        _ => Error::new(UNKNOWN, format!("{shown} is no archive that lsm has a pin for (sha256 {sha256})"))
            .hint("lsm release list names the versions that it knows"),
    }
}

fn only_archive_in(folder: &Path) -> Result<PathBuf> {
    let no = |why: String| Error::new(NO_ARCHIVE, why).hint("name the archive itself");
    let entries = std::fs::read_dir(folder).map_err(|e| no(format!("cannot read {}: {e}", folder.display())))?;
    let paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
    let mut found: Vec<_> = paths.filter(|path| is_archive_name(path)).collect();
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(no(format!("{} holds no lnd-linux-*.tar.gz", folder.display()))),
        (Some(_), more) => Err(no(format!("{} holds {} archives", folder.display(), more + 1))),
    }
}

/// Whether a file has a name as lnd's archives have.
fn is_archive_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("lnd-linux-") && name.ends_with(".tar.gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_one_archive_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(verify(dir.path(), None).unwrap_err().code(), NO_ARCHIVE);
        for name in ["lnd-linux-amd64-v1.tar.gz", "lnd-linux-arm64-v1.tar.gz"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        assert_eq!(verify(dir.path(), None).unwrap_err().code(), NO_ARCHIVE);
    }

    #[test]
    fn nothing_is_unpacked_where_others_could_exchange_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        for mode in [0o755, 0o2775] {
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
            hold_own(&link).unwrap();
        }
        for mode in [0o757, 0o1777] {
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!([&folder, &link].map(|at| hold_own(at).unwrap_err().code()), [OPEN_FOLDER; 2]);
        }
    }
}
