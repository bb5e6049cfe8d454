//! The folders that a source build works in, and the identity and environment that its programs get.
//!
//! Below the cache: `zip/` (module zips, hashed again at each use), `go/` (Go's own module and build caches) and `work/`
//! (unpacked afresh each time, removed afterwards). Only who owns `go/` can poison it; what came out of a poisoned
//! cache would not have the pinned hash, is thrown away, and built again without that cache.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::lock::Lock;
use crate::host::program::Program;
use crate::host::user::{self, Owner};
use crate::release::cache;
use crate::release::pins::Arch;
use crate::ui;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const CLOSED_FOLDER: Code = Code::lacking("E-RELEASE-051");

/// An open workshop; dropped, its work folder is removed.
pub(in crate::release) struct Workshop {
    cache: PathBuf,
    builder: Option<Owner>,
    used: bool,
    _lock: Lock,
}

impl Workshop {
    /// Opens the workshop in `cache`, waiting where another build is under way there.
    ///
    /// # Errors
    /// Where it is somebody else's folder, one in it cannot be made, or, for root, the unprivileged builder could not enter it.
    pub(in crate::release) fn open(cache: &Path) -> Result<Self> {
        cache::claim(cache)?;
        let cache = &std::fs::canonicalize(cache).unwrap_or_else(|_| cache.to_owned());
        let waiting = || ui::note("another build is under way; waiting for it to end");
        let lock = Lock::take(&cache.join("build.lock"), waiting)?;
        let builder = builder_for(cache)?;
        let mut shop = Self { cache: cache.clone(), builder, used: false, _lock: lock };
        shop.used = shop.caches().exists();
        file::remove_tree(&shop.work())?;
        let (open, own) = (Access::mode(0o755), shop.builders_own());
        file::make_folder(&shop.work(), open)?;
        file::make_folder(&shop.bin(), open)?;
        file::make_folder(&shop.zips(), open)?;
        for folder in [shop.caches(), shop.home(), shop.scratch(), shop.output()] {
            file::make_folder(&folder, own)?;
        }
        Ok(shop)
    }

    /// Where module zips are kept.
    pub(in crate::release) fn zips(&self) -> PathBuf {
        self.cache.join("zip")
    }

    /// Where the Go toolchain is unpacked.
    pub(in crate::release) fn toolchain(&self) -> PathBuf {
        self.work().join("go")
    }

    /// Where lnd's source is unpacked.
    pub(in crate::release) fn source(&self) -> PathBuf {
        self.work().join("lnd")
    }

    /// The one folder of the build's search path.
    pub(in crate::release) fn bin(&self) -> PathBuf {
        self.work().join("bin")
    }

    /// Where the built programs are put.
    pub(in crate::release) fn output(&self) -> PathBuf {
        self.work().join("out")
    }

    /// The folder that goes away.
    pub(in crate::release) fn work(&self) -> PathBuf {
        self.cache.join("work")
    }

    /// True where Go's caches hold what earlier builds left.
    pub(in crate::release) fn is_used(&self) -> bool {
        self.used
    }

    /// Empties Go's caches; only go wrote them, and it fills them again.
    ///
    /// # Errors
    /// Where they cannot be removed or made again.
    pub(in crate::release) fn empty_caches(&self) -> Result<()> {
        file::remove_tree(&self.caches())?;
        file::make_folder(&self.caches(), self.builders_own())
    }

    fn builders_own(&self) -> Access {
        Access { mode: 0o700, owner: self.builder }
    }

    fn caches(&self) -> PathBuf {
        self.cache.join("go")
    }

    fn home(&self) -> PathBuf {
        self.work().join("home")
    }

    fn scratch(&self) -> PathBuf {
        self.work().join("tmp")
    }

    /// The go command in lnd's source, building for `arch`: an environment of its own and no more, never as root.
    pub(in crate::release) fn go(&self, arch: Arch) -> Program {
        let program = Program::new(self.toolchain().join("bin/go"))
            .folder(&self.source())
            .env("PATH", self.bin())
            .env("HOME", self.home())
            .env("TMPDIR", self.scratch())
            .env("GOPATH", self.caches())
            .env("GOCACHE", self.caches().join("build"))
            .env("GOENV", "off")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOOS", "linux")
            .env("GOARCH", arch.name())
            .env("CGO_ENABLED", "0")
            // go.sum lies in lnd's verified zip and -mod=readonly keeps it from growing: every module that comes is held
            // against a hash that is pinned through that zip, so the checksum database has nothing to add.
            .env("GOSUMDB", "off")
            .tethered();
        match self.builder {
            Some(owner) => program.as_user(owner),
            None => program,
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // It costs space only, and the next build removes it too.
        let _ = file::remove_tree(&self.work());
    }
}

/// Who builds: for root somebody who is nobody else, kept from build to build since Go's caches belong to him.
fn builder_for(cache: &Path) -> Result<Option<Owner>> {
    if !user::is_root() {
        return Ok(None);
    }
    if let Some(closed) =
        cache.ancestors().find(|f| std::fs::metadata(f).is_ok_and(|m| m.permissions().mode() & 1 == 0))
    {
        let cause = format!("lnd is never built as root, and nobody else can enter {}", closed.display());
        return Err(
            Error::new(CLOSED_FOLDER, cause).hint("name another folder with LSM_CACHE, for example /var/cache/lsm")
        );
    }
    let caches = cache.join("go");
    if let Ok(there) = std::fs::symlink_metadata(&caches) {
        if there.is_dir() && there.uid() == there.gid() && user::is_passing(there.uid())? {
            return Ok(Some(Owner { uid: there.uid(), gid: there.gid() }));
        }
        file::remove_tree(&caches)?;
    }
    user::passing().map(Some)
}
