//! Bounded, traversal-proof tar.gz in, and the official release's tar out, byte for byte.

use crate::error::{Code, Error, Result};
use flate2::read::GzDecoder;
use std::io::{Read, Write};
use tar::{EntryType, Header};

const DAMAGED: Code = Code::unverified("E-ARCHIVE-001");
const UNEXPECTED: Code = Code::unverified("E-ARCHIVE-002");
const CANNOT_WRITE: Code = Code::lacking("E-ARCHIVE-003");

/// 2020-01-01 00:00:00 UTC, the time of every entry (lnd's scripts/release.sh).
const MTIME: u64 = 1_577_836_800;

/// GNU tar fills its output up to a multiple of 20 blocks of 512 bytes.
const RECORD: u64 = 20 * 512;

/// One file to pack: its name below the archive's one folder, its size in bytes, and its bytes.
pub struct Member<'a> {
    /// The name, without a slash.
    pub name: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The bytes.
    pub from: &'a mut dyn Read,
}

/// Writes a tar archive of `folder` with executable `members`, as lnd's release script has GNU tar write it: entries in
/// reverse byte order of path, owner and group 0 without names, one fixed time, modes `u+rw,go+r-w,a+X`.
///
/// # Errors
/// Where reading a member or writing fails.
pub fn pack(folder: &str, mut members: Vec<Member<'_>>, to: &mut dyn Write) -> Result<()> {
    let cannot = |e: std::io::Error| Error::new(CANNOT_WRITE, format!("cannot write the archive: {e}"));
    members.sort_by(|a, b| b.name.as_bytes().cmp(a.name.as_bytes()));
    let mut to = Counted { to, written: 0 };
    let mut tar = tar::Builder::new(&mut to);
    for member in members {
        let header = header(&format!("{folder}/{}", member.name), EntryType::Regular, member.size).map_err(cannot)?;
        tar.append(&header, member.from.take(member.size)).map_err(cannot)?;
    }
    // A folder's path is the shortest of all below it, so in reverse order it comes last.
    tar.append(&header(&format!("{folder}/"), EntryType::Directory, 0).map_err(cannot)?, std::io::empty())
        .map_err(cannot)?;
    tar.finish().map_err(cannot)?;
    drop(tar);
    let rest = to.written.next_multiple_of(RECORD) - to.written;
    to.write_all(&vec![0; rest as usize]).map_err(cannot)
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

struct Counted<'a> {
    to: &'a mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Reads a tar.gz that must hold `folder` and exactly the plain files `names` in it, and hands each file to `each`.
/// At most `limit` bytes are unpacked. Links, devices, extension headers and any other name are refused.
///
/// # Errors
/// Where the archive is cut short, damaged, too large, or holds something else; and what `each` ends with.
pub fn unpack(
    gz: &[u8],
    folder: &str,
    names: &[&str],
    limit: u64,
    mut each: impl FnMut(&str, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let damaged = |e: std::io::Error| Error::new(DAMAGED, format!("the archive is damaged: {e}"));
    let mut missing = names.to_vec();
    let mut tar = tar::Archive::new(GzDecoder::new(gz).take(limit));
    // Raw: a long-name or pax header comes out as an entry of its own kind and is refused, never obeyed.
    for entry in tar.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory && path.trim_end_matches('/') == folder {
            continue;
        }
        let inside = path.strip_prefix(folder).and_then(|p| p.strip_prefix('/'));
        let place = missing.iter().position(|n| Some(*n) == inside);
        let (EntryType::Regular, Some(place)) = (kind, place) else {
            return Err(Error::new(UNEXPECTED, format!("the archive holds something that it must not: {path:?}")));
        };
        each(missing.swap_remove(place), &mut entry)?;
    }
    match missing.first() {
        Some(name) => Err(Error::new(UNEXPECTED, format!("the archive lacks {folder}/{name}"))),
        None => Ok(()),
    }
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

    fn packed(lnd: &[u8], lncli: &[u8]) -> Vec<u8> {
        let (mut a, mut b) = (lnd, lncli);
        let members = vec![
            Member { name: "lncli", size: b.len() as u64, from: &mut b },
            Member { name: "lnd", size: a.len() as u64, from: &mut a },
        ];
        let mut tar = Vec::new();
        pack("lnd-linux-amd64-v1", members, &mut tar).unwrap();
        tar
    }

    #[test]
    fn packs_what_gnu_tar_packs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("lnd-linux-amd64-v1");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("lnd"), vec![7; 12_345]).unwrap();
        std::fs::write(folder.join("lncli"), b"x").unwrap();
        // The very options of lnd's scripts/release.sh.
        let script = "find lnd-linux-amd64-v1 -print0 | LC_ALL=C sort -r -z | tar --create --no-recursion \
            --mtime='2020-01-01 00:00:00Z' --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r-w,a+X \
            --format=gnu --null --files-from=-";
        Program::new("chmod")
            .args(["755", "lnd-linux-amd64-v1/lnd", "lnd-linux-amd64-v1/lncli"])
            .folder(dir.path())
            .run()
            .unwrap();
        let theirs = Program::new("sh").args(["-c", script]).folder(dir.path()).run().unwrap();
        assert!(packed(&[7; 12_345], b"x") == theirs);
    }

    #[test]
    fn unpacks_what_it_packed_and_nothing_less_or_more() {
        let gz = gz(&packed(b"one", b"two"));
        let take = |names: &[&str], limit| {
            let mut seen = Vec::new();
            unpack(&gz, "lnd-linux-amd64-v1", names, limit, |name, from| {
                let mut bytes = Vec::new();
                from.read_to_end(&mut bytes).unwrap();
                seen.push((name.to_owned(), bytes));
                Ok(())
            })
            .map(|()| seen)
        };
        let seen = take(&["lnd", "lncli"], 1 << 20).unwrap();
        assert_eq!(seen, [("lnd".into(), b"one".to_vec()), ("lncli".into(), b"two".to_vec())]);
        assert_eq!(take(&["lnd"], 1 << 20).unwrap_err().code(), UNEXPECTED);
        assert_eq!(take(&["lnd", "lncli", "x"], 1 << 20).unwrap_err().code(), UNEXPECTED);
        assert_eq!(take(&["lnd", "lncli"], 600).unwrap_err().code(), DAMAGED);
    }

    #[test]
    fn links_devices_and_names_outside_are_refused() {
        for (path, kind) in [
            ("f/lnd", EntryType::Symlink),
            ("f/lnd", EntryType::Link),
            ("f/lnd", EntryType::Char),
            ("f/lnd", EntryType::GNULongName),
            ("f/lnd", EntryType::XHeader),
            ("f/../lnd", EntryType::Regular),
            ("/f/lnd", EntryType::Regular),
            ("lnd", EntryType::Regular),
            ("fx/lnd", EntryType::Regular),
        ] {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_cksum();
            let mut tar = header.as_bytes().to_vec();
            tar.extend([0; 1024]);
            let error = unpack(&gz(&tar), "f", &["lnd"], 1 << 20, |_, _| Ok(())).unwrap_err();
            assert_eq!(error.code(), UNEXPECTED, "{path} {kind:?}");
        }
    }
}
