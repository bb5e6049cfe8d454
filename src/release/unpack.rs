//! One pass over an archive: read and hashed here, inflated and taken apart by a confined child, written here.

pub(super) mod unpacker;

use crate::archive::{self, PART};
use crate::error::{Code, Error, Result};
use crate::host::program::{Piped, Program};
use crate::release::unpack::unpacker::{HEAD, REPORT, REPORT_LIMIT, Report, VERB};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const NO_ANSWER: Code = Code::lacking("E-RELEASE-070");
const CANNOT_READ: Code = Code::lacking("E-RELEASE-071");
const TOO_LARGE: Code = Code::unverified("E-RELEASE-072");

/// Official archives are 30 to 50 MiB.
pub(super) const ARCHIVE_LIMIT: u64 = 128 << 20;
/// lnd and lncli together are about 150 MiB.
pub(super) const PROGRAMS_LIMIT: u64 = 512 << 20;
/// What an archive holds.
pub(super) const PROGRAMS: [&str; 2] = ["lnd", "lncli"];

/// For how many seconds the unpacker may say nothing: what it is sent comes from a disk.
const SILENCE: u16 = 120;
/// How many bytes are read at once.
const CHUNK: usize = 256 << 10;

static UNPACKER: OnceLock<PathBuf> = OnceLock::new();

/// Names the `lsm` program that unpacks, for a process that uses this library and is not lsm itself (a bench, a test).
/// The first call counts.
pub fn set_unpacker(program: &Path) {
    let _ = UNPACKER.set(program.to_owned());
}

/// What one pass found.
pub(super) struct Pass {
    /// The SHA-256 of the whole file, in hexadecimal.
    pub(super) sha256: String,
    /// The file's size in bytes.
    pub(super) size: u64,
    /// Whether it was an archive of [`PROGRAMS`] and nothing else, and all parts were taken.
    pub(super) unpacked: Result<()>,
}

/// Reads a whole file once and gives its SHA-256, in hexadecimal, and its size.
///
/// # Errors
/// Where it cannot be read, or is larger than an archive may be.
pub(super) fn hash(file: &File) -> Result<(String, u64)> {
    read_chunks(file, |_| ())
}

/// Reads an archive once: hashes it, has it unpacked, and hands the parts of the programs, by their place in
/// [`PROGRAMS`], to `take`. Nothing that was handed out may be used before the hash is known to be right.
///
/// # Errors
/// Where it cannot be read, is larger than an archive may be, or the unpacker cannot be started.
pub(super) fn read_through(file: &File, take: &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<Pass> {
    let itself = Path::new("/proc/self/exe");
    let program = Program::new(UNPACKER.get().map_or(itself, PathBuf::as_path)).arg(VERB).tethered();
    let Piped { mut child, mut input, output } = program.start_piped(SILENCE)?;
    let (hashed, unpacked) = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || {
            let mut listens = true;
            // A child that has seen enough hangs up; the rest is read for the hash alone.
            read_chunks(file, |chunk| listens = listens && input.write_all(chunk).is_ok())
        });
        let unpacked = receive(output, take);
        // It has said all that it may; were it to stay, the feeder would wait for it.
        let _ = child.kill();
        (feeder.join().expect("reading does not panic"), unpacked)
    });
    child.wait().map_err(|e| Error::new(NO_ANSWER, format!("cannot wait for the unpacker: {e}")))?;
    let (sha256, size) = hashed?;
    Ok(Pass { sha256, size, unpacked })
}

fn read_chunks(file: &File, mut each: impl FnMut(&[u8])) -> Result<(String, u64)> {
    let (mut hash, mut chunk, mut size) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let n = match file.read_at(&mut chunk, size) {
            Ok(0) => return Ok((hex::encode(hash.finalize()), size)),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::new(CANNOT_READ, format!("cannot read the archive: {e}"))),
        };
        size += n as u64;
        if size > ARCHIVE_LIMIT {
            return Err(Error::new(TOO_LARGE, format!("an archive of lnd has no more than {ARCHIVE_LIMIT} bytes")));
        }
        hash.update(&chunk[..n]);
        each(&chunk[..n]);
    }
}

/// Takes the child's parts and its report. It is not believed more than a stranger would be.
fn receive(mut from: impl Read, take: &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
    let ended = |e| Error::new(NO_ANSWER, format!("the unpacker ended without a report: {e}"));
    let senseless = || Error::new(NO_ANSWER, "the unpacker sends what it cannot");
    let (mut part, mut left) = (vec![0; PART], PROGRAMS_LIMIT);
    loop {
        let mut head = [0; HEAD];
        from.read_exact(&mut head).map_err(ended)?;
        let [kind, size @ ..] = head;
        let (kind, size) = (usize::from(kind), u32::from_le_bytes(size) as usize);
        let part = part.get_mut(..size).ok_or_else(senseless)?;
        if kind >= PROGRAMS.len() && (kind != usize::from(REPORT) || size > REPORT_LIMIT) {
            return Err(senseless());
        }
        from.read_exact(part).map_err(ended)?;
        if kind == usize::from(REPORT) {
            return judge(serde_json::from_slice(part).map_err(|_| senseless())?);
        }
        left = left.checked_sub(size as u64).ok_or_else(senseless)?;
        take(kind, part)?;
    }
}

fn judge(report: Report) -> Result<()> {
    if report.landlock.is_none_or(|kernel| !kernel.missing().is_empty()) {
        tracing::info!(landlock = ?report.landlock, "this kernel closes less to the unpacker than it could");
    }
    let Some(fault) = report.fault else { return Ok(()) };
    match archive::code(&fault.code) {
        Some(code) => Err(Error::new(code, fault.cause)),
        None => Err(Error::new(NO_ANSWER, format!("the unpacker cannot work here: {}", fault.cause))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: u8, size: u32, bytes: &[u8]) -> Vec<u8> {
        [&[kind][..], &size.to_le_bytes(), bytes].concat()
    }

    fn report(text: &str) -> Vec<u8> {
        part(REPORT, text.len() as u32, text.as_bytes())
    }

    const GOOD: &str = r#"{"fault":null,"landlock":7}"#;

    #[test]
    fn parts_and_the_report_are_taken() {
        let said = [part(1, 3, b"two"), part(0, 1, b"1"), report(GOOD)].concat();
        let mut seen = Vec::new();
        receive(&said[..], &mut |place, part| {
            seen.push((place, part.to_owned()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(1, b"two".to_vec()), (0, b"1".to_vec())]);
    }

    #[test]
    fn a_child_that_lies_is_no_danger() {
        let endless = part(0, PART as u32, &vec![0; PART]).repeat(PROGRAMS_LIMIT as usize / PART / 64);
        let fault =
            |code: &str| report(&format!(r#"{{"fault":{{"code":"{code}","cause":"a\u001b[2J"}},"landlock":2}}"#));
        for (what, said, code) in [
            ("nothing", Vec::new(), NO_ANSWER.id),
            ("half a part", part(0, 5, b"two"), NO_ANSWER.id),
            ("no report", part(0, 3, b"two"), NO_ANSWER.id),
            ("a third program", part(2, 3, b"two"), NO_ANSWER.id),
            ("a part that is too long", part(0, u32::MAX, b""), NO_ANSWER.id),
            ("a report that is too long", report(&" ".repeat(5000)), NO_ANSWER.id),
            ("a report that is none", report("x"), NO_ANSWER.id),
            ("a fault", fault("E-ARCHIVE-002"), "E-ARCHIVE-002"),
            ("a fault of another room", fault("E-PLAN-010"), NO_ANSWER.id),
        ] {
            let error = receive(&said[..], &mut |_, _| Ok(())).expect_err(what);
            assert_eq!(error.code().id, code, "{what}");
            assert!(!error.cause().contains('\u{1b}'), "{what}");
        }
        // More than the programs may have together: 64 times over and a little.
        let endless =
            (0..65).fold(Box::new(std::io::empty()) as Box<dyn Read>, |all, _| Box::new(all.chain(&endless[..])));
        assert_eq!(receive(endless, &mut |_, _| Ok(())).unwrap_err().code(), NO_ANSWER);
    }

    #[test]
    fn a_file_is_hashed_whole_or_refused_for_its_size() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; CHUNK + 1]).unwrap();
        let (sha256, size) = hash(&file).unwrap();
        assert_eq!((sha256, size), (hex::encode(Sha256::digest(vec![7; CHUNK + 1])), CHUNK as u64 + 1));
        file.set_len(ARCHIVE_LIMIT + 1).unwrap();
        assert_eq!(hash(&file).unwrap_err().code(), TOO_LARGE);
    }
}
