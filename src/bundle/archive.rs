//! The bundle's tar.gz in memory: written in one fixed layout, read with bounds and without trust.
// crate::archive is the release's: another layout, on disk, and what does not fit it is a forgery and no bundle.

use super::{LARGEST_MEMBER, Members};
use crate::error::{Code, Error, Result};
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use std::io::{Read, Write};
use zeroize::Zeroizing;

const BAD: Code = Code::usage("E-BUNDLE-010");
const HOSTILE: Code = Code::unverified("E-BUNDLE-011");

/// The width of base64 lines, as GNU base64 wraps them.
const LINE: usize = 76;
/// What tar writes at a time, a header too.
const BLOCK: usize = 512;
/// GNU tar fills its archive up to whole records of this size.
const RECORD: usize = 10_240;
/// The bits of a mode beside the nine of reading, writing and running: set-user-ID, set-group-ID, sticky.
const SPECIAL: u32 = 0o7000;

/// The members as gzipped GNU tar in base64: plain files, bare names, mode 0600, owner 0, no owner names, time 0.
pub(super) fn pack_base64(members: &[(&str, &[u8])]) -> Result<Secret> {
    let packed = pack(members).map_err(|e| Error::new(BAD, format!("the bundle cannot be packed: {e}")))?;
    let encoded = Zeroizing::new(STANDARD.encode(&*packed));
    let mut text = Vec::with_capacity(encoded.len() + encoded.len() / LINE + 1);
    for line in encoded.as_bytes().chunks(LINE) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    Ok(Secret::new(text))
}

/// Reads a gzipped tar: at most one of each known member, plain files alone, and nothing after it.
pub(super) fn unpack(bytes: &[u8]) -> Result<Members> {
    let bad = |e: std::io::Error| {
        Error::new(BAD, format!("the bundle's archive is damaged: {e}")).hint("was it cut short while it was copied?")
    };
    // Room for every member and tar's own blocks: what unpacks to more is no bundle.
    let bounded = GzDecoder::new(bytes).take(4 * (LARGEST_MEMBER + 1024) + RECORD as u64);
    let mut archive = tar::Archive::new(bounded);
    let mut members = Members::default();
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let hostile = |why: &str| Error::new(HOSTILE, format!("the bundle holds {name:?}, {why}"));
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(hostile("which is no plain file"));
        }
        if entry.header().mode().map_err(bad)? & SPECIAL != 0 {
            return Err(hostile("which is set-user-ID, set-group-ID or sticky"));
        }
        let place = members.place(&name).ok_or_else(|| hostile("which does not belong into a bundle"))?;
        if place.is_some() {
            return Err(hostile("more than once"));
        }
        if entry.size() > LARGEST_MEMBER {
            return Err(hostile("which is too large"));
        }
        // A buffer that grows leaves copies of the macaroon behind: with room for all of it, and its end to be seen in.
        let room = usize::try_from(entry.size()).unwrap_or_default() + 1;
        let mut content = Zeroizing::new(Vec::with_capacity(room));
        entry.read_to_end(&mut content).map_err(bad)?;
        *place = Some(content);
    }
    // To the end, so that gzip's checksum is checked too.
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(bad)?;
    if rest.limit() == 0 {
        return Err(Error::new(HOSTILE, "the bundle's archive unpacks to more than any bundle holds"));
    }
    if !rest.into_inner().into_inner().is_empty() {
        return Err(Error::new(BAD, "something follows the end of the bundle's archive")
            .hint("was it pasted twice, or was something appended?"));
    }
    Ok(members)
}

fn pack(members: &[(&str, &[u8])]) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut blocks = Zeroizing::new(Vec::<u8>::with_capacity(size_of_tar(members)));
    let mut builder = tar::Builder::new(&mut *blocks);
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content)?;
    }
    builder.finish()?;
    drop(builder);
    let whole = blocks.len().next_multiple_of(RECORD);
    blocks.resize(whole, 0);
    // As GNU tar's -z: no name, no time, "Unix".
    let mut packed = Zeroizing::new(Vec::<u8>::with_capacity(room_for_gzip(whole)));
    let mut gzip = GzBuilder::new().operating_system(3).write(&mut *packed, Compression::default());
    gzip.write_all(&blocks)?;
    gzip.finish()?;
    Ok(packed)
}

/// A header before each member, each in whole blocks, two more at the end, and whole records of it all.
fn size_of_tar(members: &[(&str, &[u8])]) -> usize {
    let each = members.iter().map(|(_, content)| BLOCK + content.len().next_multiple_of(BLOCK));
    (each.sum::<usize>() + 2 * BLOCK).next_multiple_of(RECORD)
}

/// Of `size` bytes gzip makes at most so many: what does not get smaller it stores, with five bytes for some thousand.
fn room_for_gzip(size: usize) -> usize {
    size + size / 1000 + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(text: &Secret) -> Vec<u8> {
        let text: Vec<u8> = text.expose().iter().copied().filter(|b| *b != b'\n').collect();
        STANDARD.decode(text).unwrap()
    }

    #[test]
    fn the_archive_has_the_original_systems_layout() {
        let text = pack_base64(&[("accounts.json", b"a"), ("tls.cert", &[b'x'; 900])]).unwrap();
        let lines: Vec<&[u8]> = text.expose().split(|b| *b == b'\n').collect();
        let (last, full) = lines.split_last().unwrap();
        assert!(last.is_empty(), "a final newline");
        assert!(full[..full.len() - 1].iter().all(|l| l.len() == 76));
        let gzip = unpacked(&text);
        assert_eq!(gzip[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
        let mut tar = Vec::new();
        GzDecoder::new(gzip.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(tar.len() % RECORD, 0);
        assert_eq!(&tar[257..265], b"ustar  \0");
        assert_eq!(&tar[..14], b"accounts.json\0");
        assert_eq!(&tar[265..297], &[0; 32], "no owner's name");
    }

    #[test]
    fn what_holds_the_macaroon_never_grows() {
        let mut noise = vec![0; 300_001];
        getrandom::fill(&mut noise).unwrap();
        for content in [noise.as_slice(), &[b'x'; 900], b"x", b""] {
            let members = [("tls.cert", content)];
            let packed = pack(&members).unwrap();
            assert_eq!(packed.capacity(), room_for_gzip(size_of_tar(&members)));
            let unpacked = unpack(&packed).ok().and_then(|members| members.certificate).unwrap();
            assert_eq!((unpacked.as_slice(), unpacked.capacity()), (content, content.len() + 1));
        }
    }

    #[test]
    fn links_strangers_repeats_and_escapes_are_refused() {
        let packed_as = |name: &str, kind: tar::EntryType, times: usize, mode: u32| {
            let mut builder = tar::Builder::new(Vec::new());
            for _ in 0..times {
                let mut header = tar::Header::new_gnu();
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_entry_type(kind);
                header.set_mode(mode);
                header.set_size(0);
                if kind.is_symlink() {
                    header.set_link_name("/etc/passwd").unwrap();
                }
                header.set_cksum();
                builder.append(&header, std::io::empty()).unwrap();
            }
            let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
            gzip.write_all(&builder.into_inner().unwrap()).unwrap();
            gzip.finish().unwrap()
        };
        let packed = |name: &str, kind, times| packed_as(name, kind, times, 0o644);
        use tar::EntryType as T;
        for (name, kind, times) in [
            ("tls.cert", T::Symlink, 1),
            ("tls.cert", T::Link, 1),
            ("tls.cert", T::Char, 1),
            ("tls.cert", T::Directory, 1),
            ("tls.cert", T::Regular, 2),
            ("../tls.cert", T::Regular, 1),
            ("/tls.cert", T::Regular, 1),
            ("run.sh", T::Regular, 1),
        ] {
            let refused = unpack(&packed(name, kind, times)).err().map(|e| e.code());
            assert_eq!(refused, Some(HOSTILE), "{name} {kind:?} {times}");
        }
        assert!(unpack(&packed("tls.cert", T::Regular, 1)).is_ok());
        for special in [0o4755, 0o2755, 0o1755] {
            let refused = unpack(&packed_as("tls.cert", T::Regular, 1, special)).err().map(|e| e.code());
            assert_eq!(refused, Some(HOSTILE), "{special:o}");
        }
    }

    #[test]
    fn a_cut_or_altered_archive_and_a_bomb_are_refused() {
        let whole = unpacked(&pack_base64(&[("tls.cert", &[b'x'; 9000])]).unwrap());
        assert!(unpack(&whole).is_ok());
        assert_eq!(unpack(&whole[..whole.len() - 9]).err().unwrap().code(), BAD);
        let mut altered = whole.clone();
        let checksum = altered.len() - 8;
        altered[checksum] ^= 1;
        assert_eq!(unpack(&altered).err().unwrap().code(), BAD);
        let twice = [whole.as_slice(), &whole].concat();
        assert_eq!(unpack(&twice).err().unwrap().code(), BAD);
        let bomb = vec![0_u8; usize::try_from(LARGEST_MEMBER).unwrap() + 1];
        let bomb = unpacked(&pack_base64(&[("tls.cert", &bomb)]).unwrap());
        assert_eq!(unpack(&bomb).err().unwrap().code(), HOSTILE);
    }
}
