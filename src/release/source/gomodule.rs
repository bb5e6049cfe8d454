//! Go modules over the module proxy protocol: fetched as zip, held against a pinned module hash, unpacked.

use crate::error::{Code, Error, Exit, Result};
use crate::host::draft::{Draft, Durable};
use crate::host::file::{self, Access};
use crate::host::tree::Tree;
use crate::release::download::Fetcher;
use crate::release::download::transfer::is_absent;
use crate::ui;
use crate::ui::progress::Progress;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use zip::ZipArchive;

const NO_PROXY: Code = Code::lacking("E-RELEASE-020");
const BAD_PROXY: Code = Code::usage("E-RELEASE-021");
const NOT_A_ZIP: Code = Code::unverified("E-RELEASE-022");
const WRONG_HASH: Code = Code::unverified("E-RELEASE-023");

/// Go's own bound on a module zip is 500 MiB (golang.org/x/mod/zip, MaxZipFile); a toolchain is about 70.
const ZIP_LIMIT: u64 = 256 << 20;
/// A toolchain unpacks to about 250 MiB in 15,000 files.
const UNPACKED_LIMIT: u64 = 1 << 30;
const FILE_LIMIT: u64 = 50_000;
/// A toolchain's directory has about 2 MiB, that of as many files as may be some 7.
const DIRECTORY_LIMIT: u64 = 8 << 20;

/// What Go uses where `GOPROXY` is not set, less `direct`: that needs git and the whole history.
const DEFAULT_PROXY: &str = "https://proxy.golang.org";

/// A module at a version, with the hash that its zip must have.
#[derive(Debug, Clone, Copy)]
pub(in crate::release) struct Module<'a> {
    /// The module path, in small letters (the protocol escapes capitals; no pinned module has any).
    pub(in crate::release) path: &'a str,
    /// The version.
    pub(in crate::release) version: &'a str,
    /// `h1:` and base64.
    pub(in crate::release) hash: &'a str,
}

impl Module<'_> {
    /// As Go names it: path, `@`, version.
    pub(in crate::release) fn name(&self) -> String {
        format!("{}@{}", self.path, self.version)
    }
}

/// The list of module proxies to ask, as `GOPROXY` names them.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::release) struct Proxies(Vec<Proxy>);

#[derive(Debug, PartialEq, Eq)]
struct Proxy {
    url: String,
    /// After `|` the next one is asked on any error, after `,` only where this one does not have the module.
    next_on_any_error: bool,
}

impl Proxies {
    /// Reads `GOPROXY`; where it is not set, proxy.golang.org.
    ///
    /// # Errors
    /// As [`Proxies::parse`].
    pub(in crate::release) fn from_environment() -> Result<Self> {
        let value = std::env::var("GOPROXY").unwrap_or_default();
        Self::parse(if value.is_empty() { DEFAULT_PROXY } else { &value })
    }

    /// Reads a list as `go help goproxy` describes it. `direct` and `off` end it: lsm asks proxies alone.
    ///
    /// # Errors
    /// Where it names no proxy, or something that is neither http nor https.
    pub(in crate::release) fn parse(list: &str) -> Result<Self> {
        let mut proxies = Vec::new();
        for part in list.split_inclusive([',', '|']) {
            let url = part.trim_end_matches([',', '|']).trim().trim_end_matches('/');
            match url {
                "" => continue,
                "direct" | "off" => break,
                _ if url.starts_with("https://") || url.starts_with("http://") => {}
                _ => {
                    return Err(Error::new(BAD_PROXY, format!("GOPROXY names {url:?}, which is no http(s) address"))
                        .hint(format!("for example GOPROXY={DEFAULT_PROXY}")));
                }
            }
            proxies.push(Proxy { url: url.to_owned(), next_on_any_error: part.ends_with('|') });
        }
        if proxies.is_empty() {
            return Err(Error::new(NO_PROXY, format!("GOPROXY={list} leaves no module proxy to build lnd from"))
                .hint(format!("set it to a proxy, for example GOPROXY={DEFAULT_PROXY}")));
        }
        Ok(Self(proxies))
    }

    /// The list for the `go` command itself.
    pub(in crate::release) fn for_go(&self) -> String {
        let mut list = String::new();
        for (n, proxy) in self.0.iter().enumerate() {
            let separator = match n.checked_sub(1).map(|before| self.0[before].next_on_any_error) {
                None => "",
                Some(true) => "|",
                Some(false) => ",",
            };
            list.push_str(separator);
            list.push_str(&proxy.url);
        }
        list
    }

    /// Their addresses, in the order in which they are asked.
    pub(in crate::release) fn urls(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|proxy| proxy.url.as_str())
    }

    fn fetch(&self, fetcher: &Fetcher, module: Module<'_>, draft: &mut Draft) -> Result<()> {
        let mut last = None;
        for proxy in &self.0 {
            let url = format!("{}/{}/@v/{}.zip", proxy.url, module.path, module.version);
            match fetcher.fetch(&url, &format!("fetching {}", module.name()), ZIP_LIMIT, draft) {
                Ok(_) => return Ok(()),
                Err(e) => {
                    let go_on = proxy.next_on_any_error || is_absent(&e);
                    last = Some(e);
                    if !go_on {
                        break;
                    }
                }
            }
            draft.restart()?;
        }
        Err(last.expect("a list of proxies is never empty"))
    }
}

/// Puts the module's files into the new folder `to`: from the copy in the folder `kept`, else from the proxies. Either
/// way the files are hashed as they are written, and the folder is gone again where they are not the pinned ones.
///
/// # Errors
/// Where it cannot be had, or is not what is pinned: the module is named.
pub(in crate::release) fn bring(module: Module<'_>, kept: &Path, to: &Path, proxies: &Proxies) -> Result<()> {
    let place = kept.join(format!("{}.zip", module.name().replace('/', "!")));
    if let Ok(file) = File::open(&place) {
        match unpack(file, module, to) {
            Ok(()) => return Ok(()),
            // A copy on a disk may rot; the proxy's is asked before anybody is alarmed.
            Err(e) => ui::note(&format!("the kept copy is set aside: {e}")),
        }
    }
    let mut draft = Draft::begin(&place, Access::mode(0o644))?;
    proxies.fetch(&Fetcher::any()?, module, &mut draft)?;
    unpack(draft.handle()?, module, to)?;
    draft.keep(Durable::No)
}

/// Unpacks a module zip into the new folder `to` and holds what was written against the module's hash.
fn unpack(zip: File, module: Module<'_>, to: &Path) -> Result<()> {
    let found = unpack_and_hash(zip, module, to).and_then(|found| {
        if found == module.hash {
            return Ok(());
        }
        Err(Error::new(WRONG_HASH, format!("{} is not what is pinned: its hash is {found}", module.name()))
            .hint(format!("expected {}; the proxy or the way to it changed it", module.hash)))
    });
    if found.is_err() {
        file::remove_tree(to)?;
    }
    found
}

fn unpack_and_hash(zip: File, module: Module<'_>, to: &Path) -> Result<String> {
    let damaged = |e: &dyn std::fmt::Display| {
        Error::new(NOT_A_ZIP, format!("the zip of {} is damaged or cut short: {e}", module.name()))
    };
    let prefix = format!("{}/", module.name());
    let left = Cell::new(DIRECTORY_LIMIT);
    let mut zip = ZipArchive::new(BufReader::new(Bounded { file: zip, left: &left })).map_err(|e| damaged(&e))?;
    left.set(u64::MAX);
    let mut tree = Tree::begin(to, UNPACKED_LIMIT, FILE_LIMIT)?;
    let progress = Progress::new(&format!("checking {}", module.name()), Some(zip.len() as u64));
    let mut hashes = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(|e| damaged(&e))?;
        let name = entry.name().map_err(|e| damaged(&e))?.into_owned();
        // A line break in a name would let two different zips have one hash.
        let inside = name.strip_prefix(&prefix).filter(|n| !n.contains('\n'));
        let inside = inside.ok_or_else(|| damaged(&format!("it holds {name:?}")))?;
        let put = tree.put(inside, mode_of(inside), &mut entry);
        // A full disk is no damage.
        let hash = put.map_err(|e| if e.code().exit == Exit::Unverified { damaged(&e) } else { e })?;
        hashes.push((name, hash));
        progress.set(index as u64);
    }
    Ok(module_hash(hashes))
}

/// A file of which no more than `left` bytes are read. All of a zip's directory comes into memory before a hash is known, and
/// how much that is the end of the file may say in more than one way.
struct Bounded<'a> {
    file: File,
    left: &'a Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.unwrap_or(0));
        left.map(|_| read).ok_or_else(|| io::Error::other("its directory is larger than that of any module"))
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A module zip carries no modes; the go command makes these executable in a toolchain (cmd/go/internal/toolchain).
fn mode_of(name: &str) -> u32 {
    if name.starts_with("bin/") || name.starts_with("pkg/tool/") { 0o755 } else { 0o644 }
}

/// The `h1` hash: SHA-256 over the lines `sha256  name`, sorted by name (golang.org/x/mod/sumdb/dirhash, Hash1).
fn module_hash(mut files: Vec<(String, [u8; 32])>) -> String {
    files.sort();
    let mut hash = Sha256::new();
    for (name, sha256) in files {
        hash.update(format!("{}  {name}\n", hex::encode(sha256)));
    }
    format!("h1:{}", STANDARD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn proxies_are_read_as_go_reads_them() {
        let list = Proxies::parse("https://a.example/,https://b.example|http://127.0.0.1:1,direct,https://c.example");
        let list = list.unwrap();
        assert_eq!(list.for_go(), "https://a.example,https://b.example|http://127.0.0.1:1");
        for none in ["off", "direct", ",", "off,https://a.example"] {
            assert_eq!(Proxies::parse(none).unwrap_err().code(), NO_PROXY, "{none}");
        }
        assert_eq!(Proxies::parse("file:///tmp").unwrap_err().code(), BAD_PROXY);
    }

    fn zip_of(names: &[&str]) -> File {
        let mut zip = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        for name in names {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(b"module a\n").unwrap();
        }
        zip.finish().unwrap()
    }

    #[test]
    fn the_hash_is_as_go_defines_it() {
        // Of a zip with a@v1/go.mod and a@v1/b, both "module a\n"; worked out by hand from the definition.
        let dir = tempfile::tempdir().unwrap();
        let module = Module { path: "a", version: "v1", hash: BY_HAND };
        unpack(zip_of(&["a@v1/go.mod", "a@v1/b"]), module, &dir.path().join("t")).unwrap();
    }

    const BY_HAND: &str = "h1:QTuJukF7QZTUgcC7UrGtPcWVemENLoMFlD4JnWv1NUo=";

    #[test]
    fn names_outside_the_module_and_other_hashes_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("t");
        let module = Module { path: "a", version: "v1", hash: "h1:other" };
        for (names, code) in [
            (["a@v1/go.mod", "a@v1/../../x"], NOT_A_ZIP),
            (["a@v1/go.mod", "b@v1/x"], NOT_A_ZIP),
            (["a@v1/go.mod", "a@v1/b"], WRONG_HASH),
        ] {
            let error = unpack(zip_of(&names), module, &to).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.cause().contains("a@v1"), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_directory_that_nobody_vouched_for_does_not_fill_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let module = Module { path: "a", version: "v1", hash: "h1:other" };
        let names: Vec<String> = (0..DIRECTORY_LIMIT >> 15).map(|n| format!("a@v1/{n:0>32768}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let error = unpack(zip_of(&names), module, &dir.path().join("t")).unwrap_err();
        assert!(error.code() == NOT_A_ZIP && error.cause().contains("its directory is larger"), "{error}");
        // What is in the files is bounded by what it unpacks to.
        let mut zip = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file("a@v1/b", stored).unwrap();
        zip.write_all(&vec![0; 16 << 20]).unwrap();
        let error = unpack(zip.finish().unwrap(), module, &dir.path().join("t")).unwrap_err();
        assert_eq!(error.code(), WRONG_HASH, "{error}");
    }
}
