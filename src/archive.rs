//! Bounded, traversal-proof tar.gz in, and the official release's tar out, byte for byte.

pub mod gzip;

use crate::error::{Code, Error, Result};
use flate2::bufread::GzDecoder;
use std::io::{BufRead, ErrorKind, Read, Write};
use tar::{EntryType, Header};

const DAMAGED: Code = Code::unverified("E-ARCHIVE-001");
const UNEXPECTED: Code = Code::unverified("E-ARCHIVE-002");
const CANNOT_WRITE: Code = Code::lacking("E-ARCHIVE-003");
const CUT_SHORT: Code = Code::unverified("E-ARCHIVE-004");
const TOO_LARGE: Code = Code::unverified("E-ARCHIVE-005");
const TRAILING: Code = Code::unverified("E-ARCHIVE-006");

/// How many bytes [`unpack`] hands out at once.
pub const PART: usize = 256 << 10;

/// A tar is made of blocks of this size.
const BLOCK: usize = 512;

/// 2020-01-01 00:00:00 UTC, the time of every entry (lnd's scripts/release.sh).
const MTIME: u64 = 1_577_836_800;

/// GNU tar fills its output up to a multiple of 20 blocks of 512 bytes.
const RECORD: usize = 20 * BLOCK;

/// One file to pack: its name below the archive's one folder, its size in bytes, and its bytes.
pub struct Member<'a> {
    /// The name, without a slash.
    pub name: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The bytes.
    pub from: &'a mut dyn Read,
}

/// Writes a tar.gz of `folder` with executable `members`, as lnd's release script has GNU tar and gzip write it: entries in
/// reverse byte order of path, owner and group 0 without names, one fixed time, modes `u+rw,go+r-w,a+X`. It is made in
/// memory, and twice as large there as what goes in.
///
/// # Errors
/// Where reading a member or writing fails.
pub fn pack(folder: &str, members: Vec<Member<'_>>, to: &mut dyn Write) -> Result<()> {
    let tar = tar_of(folder, members).and_then(|tar| to.write_all(&gzip::compress(tar)));
    tar.map_err(|e| Error::new(CANNOT_WRITE, format!("cannot write the archive: {e}")))
}

fn tar_of(folder: &str, mut members: Vec<Member<'_>>) -> std::io::Result<Vec<u8>> {
    members.sort_by(|a, b| b.name.as_bytes().cmp(a.name.as_bytes()));
    let mut tar = tar::Builder::new(Vec::new());
    for member in members {
        let header = header(&format!("{folder}/{}", member.name), EntryType::Regular, member.size)?;
        tar.append(&header, member.from.take(member.size))?;
    }
    // A folder's path is the shortest of all below it, so in reverse order it comes last.
    tar.append(&header(&format!("{folder}/"), EntryType::Directory, 0)?, std::io::empty())?;
    let mut tar = tar.into_inner()?;
    tar.resize(tar.len().next_multiple_of(RECORD), 0);
    Ok(tar)
}

fn header(path: &str, kind: EntryType, size: u64) -> std::io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(path)?;
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(MTIME);
    header.set_cksum();
    // The checksum field is the one that GNU tar writes in its own way: six digits, NUL, space.
    let sum = header.cksum()?;
    header.as_old_mut().cksum.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// Reads a tar.gz that must hold one folder and in it exactly the plain files `names`, and hands their bytes, in parts of
/// at most [`PART`] bytes, to `each` with the file's place in `names`. At most `limit` bytes are unpacked. Links,
/// devices, extension headers, any other name, and anything after the end are refused.
///
/// # Errors
/// Where the archive is cut short, damaged, too large, or holds something else; and what `each` ends with.
pub fn unpack(
    gz: impl BufRead,
    names: &[&str],
    limit: u64,
    each: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut from = Inflated { gz: GzDecoder::new(gz), left: limit };
    let mut seen = Seen { names, missing: (0..names.len()).collect(), top: None, folder: false };
    let mut part = vec![0; PART];
    loop {
        let mut block = [0; BLOCK];
        from.fill(&mut block)?;
        if block == [0; BLOCK] {
            break;
        }
        let (place, size) = seen.admit(&block)?;
        if size > from.left {
            return Err(Error::new(TOO_LARGE, format!("the archive unpacks to more than {limit} bytes")));
        }
        let mut left = size;
        while left > 0 {
            let part = &mut part[..left.min(PART as u64) as usize];
            from.fill(part)?;
            left -= part.len() as u64;
            each(place, part)?;
        }
        from.hold_zeros(size.next_multiple_of(BLOCK as u64) - size)?;
    }
    if let Some(place) = seen.missing.first() {
        return Err(Error::new(UNEXPECTED, format!("the archive lacks {}", names[*place])));
    }
    from.end()
}

/// The inflated side, which never gives more than `left` bytes.
struct Inflated<R> {
    gz: GzDecoder<R>,
    left: u64,
}

impl<R: BufRead> Inflated<R> {
    fn fill(&mut self, part: &mut [u8]) -> Result<()> {
        let left = self.left.checked_sub(part.len() as u64);
        self.left = left.ok_or_else(|| Error::new(TOO_LARGE, "the archive unpacks to more than it may"))?;
        self.gz.read_exact(part).map_err(damaged)
    }

    fn hold_zeros(&mut self, count: u64) -> Result<()> {
        let mut part = [0; BLOCK];
        let part = &mut part[..count as usize];
        self.fill(part)?;
        if part.iter().all(|b| *b == 0) {
            Ok(())
        } else {
            Err(trailing("a file's last block is not filled with zeros"))
        }
    }

    /// After the first block of zeros: a second one, no more than GNU tar fills up with, and nothing after the gzip member.
    fn end(mut self) -> Result<()> {
        self.hold_zeros(BLOCK as u64)?;
        let mut rest = Vec::new();
        (&mut self.gz).take(RECORD as u64).read_to_end(&mut rest).map_err(damaged)?;
        if rest.len() == RECORD || rest.iter().any(|b| *b != 0) {
            return Err(trailing("there is more after the end of the tar"));
        }
        match self.gz.get_mut().fill_buf().map_err(damaged)? {
            [] => Ok(()),
            _ => Err(trailing("there is more after the end of the gzip member")),
        }
    }
}

/// What the archive may hold, and what of it was seen.
struct Seen<'a> {
    names: &'a [&'a str],
    missing: Vec<usize>,
    top: Option<Vec<u8>>,
    folder: bool,
}

impl Seen<'_> {
    /// Judges one header: the place of the file in `names` and its size; for the folder a size of 0.
    fn admit(&mut self, block: &[u8; BLOCK]) -> Result<(usize, u64)> {
        let header = Header::from_byte_slice(block);
        if header.cksum().map_err(damaged)? != checksum(block) {
            return Err(Error::new(DAMAGED, "the archive is damaged: an entry has a wrong checksum"));
        }
        let (path, size) = (header.path_bytes(), header.entry_size().map_err(damaged)?);
        let kind = header.entry_type();
        let refused = || {
            let path = String::from_utf8_lossy(&path);
            Error::new(UNEXPECTED, format!("the archive holds something that it must not: {path:?} ({kind:?})"))
        };
        let (top, inside) = split(&path).ok_or_else(refused)?;
        if self.top.get_or_insert_with(|| top.to_owned()) != top {
            return Err(refused());
        }
        match (kind, inside) {
            (EntryType::Directory, b"") if size == 0 && !self.folder => {
                self.folder = true;
                Ok((0, 0))
            }
            (EntryType::Regular, _) => {
                let at = self.missing.iter().position(|n| self.names[*n].as_bytes() == inside).ok_or_else(refused)?;
                Ok((self.missing.remove(at), size))
            }
            _ => Err(refused()),
        }
    }
}

/// The folder's name and what is in it, of `folder/` or `folder/name`.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().position(|b| *b == b'/')?;
    let (top, inside) = (&path[..slash], &path[slash + 1..]);
    (!matches!(top, b"" | b"." | b"..")).then_some((top, inside))
}

/// The sum of a header's bytes, its own field counted as spaces (POSIX, ustar).
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let own = 148..156;
    block.iter().enumerate().map(|(n, b)| u32::from(if own.contains(&n) { b' ' } else { *b })).sum()
}

fn damaged(e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::new(CUT_SHORT, "the archive is cut short"),
        _ => Error::new(DAMAGED, format!("the archive is damaged: {e}")),
    }
}

fn trailing(what: &str) -> Error {
    Error::new(TRAILING, format!("the archive is not as it should be: {what}"))
}

/// The code with this name, of those that [`unpack`] ends with: for an error that comes out of another process.
pub fn code(id: &str) -> Option<Code> {
    [DAMAGED, UNEXPECTED, CUT_SHORT, TOO_LARGE, TRAILING].into_iter().find(|c| c.id == id)
}

/// True where `error` says that the archive ended too early.
pub fn is_cut_short(error: &Error) -> bool {
    error.code() == CUT_SHORT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::program::Program;
    use flate2::{Compression, write::GzEncoder};

    fn gz(tar: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(tar).unwrap();
        gz.finish().unwrap()
    }

    fn with_members<T>(lnd: &[u8], lncli: &[u8], make: impl FnOnce(Vec<Member<'_>>) -> T) -> T {
        let (mut a, mut b) = (lnd, lncli);
        make(vec![
            Member { name: "lncli", size: b.len() as u64, from: &mut b },
            Member { name: "lnd", size: a.len() as u64, from: &mut a },
        ])
    }

    fn packed(lnd: &[u8], lncli: &[u8]) -> Vec<u8> {
        with_members(lnd, lncli, |members| tar_of(TOP, members).unwrap())
    }

    #[test]
    fn packs_what_gnu_tar_and_gzip_pack() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("lnd-linux-amd64-v1");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("lnd"), vec![7; 12_345]).unwrap();
        std::fs::write(folder.join("lncli"), b"x").unwrap();
        // The very options of lnd's scripts/release.sh.
        let script = "find lnd-linux-amd64-v1 -print0 | LC_ALL=C sort -r -z | tar --create --no-recursion \
            --mtime='2020-01-01 00:00:00Z' --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r-w,a+X \
            --format=gnu --null --files-from=- | gzip -9n";
        Program::new("chmod")
            .args(["755", "lnd-linux-amd64-v1/lnd", "lnd-linux-amd64-v1/lncli"])
            .folder(dir.path())
            .run()
            .unwrap();
        let theirs = Program::new("sh").args(["-c", script]).folder(dir.path()).run().unwrap();
        let mut ours = Vec::new();
        with_members(&[7; 12_345], b"x", |members| pack(TOP, members, &mut ours).unwrap());
        assert!(ours == theirs);
    }

    const TOP: &str = "lnd-linux-amd64-v1";

    fn taken(gz: &[u8], names: &[&str], limit: u64) -> Result<Vec<Vec<u8>>> {
        let mut seen = vec![Vec::new(); names.len()];
        unpack(gz, names, limit, &mut |place, part| {
            seen[place].extend_from_slice(part);
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn unpacks_what_it_packed_and_nothing_less_or_more() {
        let large: Vec<u8> = (0..PART * 2 + 77).map(|n| n as u8).collect();
        let gz = gz(&packed(&large, b"two"));
        assert!(taken(&gz, &["lncli", "lnd"], 1 << 20).unwrap() == [b"two".to_vec(), large]);
        let refused = |names: &[&str], limit| taken(&gz, names, limit).unwrap_err().code();
        assert_eq!(refused(&["lnd"], 1 << 20), UNEXPECTED);
        assert_eq!(refused(&["lnd", "lncli", "x"], 1 << 20), UNEXPECTED);
        assert_eq!(refused(&["lnd", "lncli"], 600), TOO_LARGE);
        // Room for the two files' own bytes, but not for their headers.
        assert_eq!(refused(&["lnd", "lncli"], PART as u64 * 2 + 80), TOO_LARGE);
    }

    /// One entry as it stands in a tar: header, bytes, filling.
    fn entry(path: &str, kind: EntryType, size: u64, bytes: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        let mut all = [header.as_bytes(), bytes].concat();
        all.resize(all.len().next_multiple_of(BLOCK), 0);
        all
    }

    fn file(path: &str) -> Vec<u8> {
        entry(path, EntryType::Regular, 1, b"x")
    }

    const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

    #[test]
    fn every_fault_of_a_tar_has_its_code() {
        use EntryType as T;
        let (lnd, lncli) = (file("f/lnd"), file("f/lncli"));
        let folder = entry("f/", T::Directory, 0, b"");
        let whole = [&folder[..], &lnd, &lncli, &END].concat();
        taken(&gz(&whole), &["lnd", "lncli"], 1 << 20).unwrap();
        let with = |odd: Vec<u8>| [&odd[..], &folder, &lnd, &lncli, &END].concat();
        let ended = |end: &[u8]| [&lnd[..], &lncli, end].concat();
        let mut wrong_sum = lnd.clone();
        wrong_sum[0] ^= 1;
        let mut filled = lnd.clone();
        *filled.last_mut().unwrap() = 1;
        let mut ustar = Header::new_ustar();
        ustar.as_ustar_mut().unwrap().name[..5].copy_from_slice(b"f/lnd");
        ustar.as_ustar_mut().unwrap().prefix[..2].copy_from_slice(b"..");
        ustar.set_size(0);
        ustar.set_cksum();
        let after_end = [&END[..], &lnd].concat();
        let lone_zero_block = [&END[..BLOCK], &lnd, &END].concat();
        for (what, tar, code) in [
            ("a link", with(entry("f/lnd", T::Symlink, 0, b"")), UNEXPECTED),
            ("a hard link", with(entry("f/lnd", T::Link, 0, b"")), UNEXPECTED),
            ("a character device", with(entry("f/lnd", T::Char, 0, b"")), UNEXPECTED),
            ("a block device", with(entry("f/lnd", T::Block, 0, b"")), UNEXPECTED),
            ("a pipe", with(entry("f/lnd", T::Fifo, 0, b"")), UNEXPECTED),
            ("a contiguous file", with(entry("f/lnd", T::Continuous, 1, b"x")), UNEXPECTED),
            ("a sparse file", with(entry("f/lnd", T::GNUSparse, 1, b"x")), UNEXPECTED),
            ("a long name", with(entry("f/lnd", T::GNULongName, 1, b"x")), UNEXPECTED),
            ("a long link", with(entry("f/lnd", T::GNULongLink, 1, b"x")), UNEXPECTED),
            ("a pax header", with(entry("f/lnd", T::XHeader, 1, b"x")), UNEXPECTED),
            ("a global pax header", with(entry("f/lnd", T::XGlobalHeader, 1, b"x")), UNEXPECTED),
            ("a kind of no name", with(entry("f/lnd", T::new(b'Z'), 1, b"x")), UNEXPECTED),
            ("a folder below", with(entry("f/g/", T::Directory, 0, b"")), UNEXPECTED),
            ("a folder with bytes", with(entry("f/", T::Directory, 1, b"x")), UNEXPECTED),
            ("the folder twice", with(folder.clone()), UNEXPECTED),
            ("a file twice", with(lnd.clone()), UNEXPECTED),
            ("a file more", with(file("f/x")), UNEXPECTED),
            ("a second folder", with(file("g/lnd")), UNEXPECTED),
            ("no folder", with(file("lnd")), UNEXPECTED),
            ("a way up", with(file("../lnd")), UNEXPECTED),
            ("a way up inside", with(file("f/../lnd")), UNEXPECTED),
            ("a way up in the prefix", with(ustar.as_bytes().to_vec()), UNEXPECTED),
            ("an absolute name", with(file("/lnd")), UNEXPECTED),
            ("an absolute name with a folder", with(file("/f/lnd")), UNEXPECTED),
            ("all of it above", [file("../lnd"), file("../lncli"), END.to_vec()].concat(), UNEXPECTED),
            ("all of it here", [file("./lnd"), file("./lncli"), END.to_vec()].concat(), UNEXPECTED),
            ("all of it absolute", [file("/lnd"), file("/lncli"), END.to_vec()].concat(), UNEXPECTED),
            ("a file as the folder", with(entry("f/", T::Regular, 0, b"")), UNEXPECTED),
            ("a file missing", [&lnd[..], &END].concat(), UNEXPECTED),
            ("nothing", END.to_vec(), UNEXPECTED),
            ("a size beyond the limit", with(entry("f/lnd", T::Regular, 1 << 40, b"")), TOO_LARGE),
            ("a wrong checksum", with(wrong_sum), DAMAGED),
            ("no tar", vec![b'x'; 4096], DAMAGED),
            ("a last block that is filled", [&filled[..], &lncli, &END].concat(), TRAILING),
            ("an entry after the end", ended(&after_end), TRAILING),
            ("an entry after a lone block of zeros", ended(&lone_zero_block), TRAILING),
            ("zeros without end", ended(&vec![0; 1 << 19]), TRAILING),
            ("as many zeros as a record has", ended(&[0; RECORD + 2 * BLOCK]), TRAILING),
            ("no end", ended(b""), CUT_SHORT),
            ("half an end", ended(&END[..BLOCK]), CUT_SHORT),
            ("an end in a file", lnd[..BLOCK].to_vec(), CUT_SHORT),
        ] {
            let error = taken(&gz(&tar), &["lnd", "lncli"], 1 << 20).expect_err(what);
            assert_eq!(error.code(), code, "{what}: {error}");
        }
    }

    #[test]
    fn every_fault_of_a_gzip_has_its_code() {
        let whole = gz(&packed(b"one", b"two"));
        let changed = |at: usize| {
            let mut gz = whole.clone();
            gz[at] ^= 1;
            gz
        };
        let bomb = gz(&[&entry("f/lnd", EntryType::Regular, 1 << 19, b"")[..], &vec![0; 1 << 19], &END].concat());
        assert!(bomb.len() < 1 << 13);
        for (what, gz, code) in [
            ("nothing", Vec::new(), CUT_SHORT),
            ("half a header", whole[..5].to_vec(), CUT_SHORT),
            ("half of it", whole[..whole.len() / 2].to_vec(), CUT_SHORT),
            ("one byte less", whole[..whole.len() - 1].to_vec(), CUT_SHORT),
            ("no gzip", vec![b'x'; 100], DAMAGED),
            ("another method", changed(2), DAMAGED),
            ("a wrong checksum", changed(whole.len() - 8), DAMAGED),
            ("a wrong length", changed(whole.len() - 1), DAMAGED),
            ("a byte more", [&whole[..], b"\0"].concat(), TRAILING),
            ("a second member", [&whole[..], &whole].concat(), TRAILING),
            ("a bomb", bomb, TOO_LARGE),
        ] {
            let error = taken(&gz, &["lnd", "lncli"], 1 << 18).expect_err(what);
            assert_eq!(error.code(), code, "{what}: {error}");
        }
    }

    #[test]
    fn every_code_is_found_by_its_name() {
        for code in [DAMAGED, UNEXPECTED, CUT_SHORT, TOO_LARGE, TRAILING] {
            assert_eq!(super::code(code.id), Some(code));
        }
        assert_eq!(super::code(CANNOT_WRITE.id), None);
    }
}
