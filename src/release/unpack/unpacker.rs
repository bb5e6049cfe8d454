//! The confined child: an archive on standard input, its programs in parts and a report on standard output.

use crate::archive;
use crate::error::{Code, Error, Result};
use crate::release::unpack::{PROGRAMS, PROGRAMS_LIMIT};
use crate::sandbox::capabilities;
use crate::sandbox::landlock::{Fence, Interface};
use crate::sandbox::limits::{Limits, limit_time};
use crate::sandbox::seccomp::Filter;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Write};
use std::os::fd::AsFd;

const NO_PIPE: Code = Code::lacking("E-RELEASE-073");

/// The hidden verb that ends in [`serve`].
pub(in crate::release) const VERB: &str = "unpack-archive";

/// What stands before each part: whose it is (the place in [`PROGRAMS`], or [`REPORT`]), and its size in little endian.
pub(in crate::release) const HEAD: usize = 5;
/// The last part is the report.
pub(in crate::release) const REPORT: u8 = 255;
/// In bytes.
pub(in crate::release) const REPORT_LIMIT: usize = 4096;

/// In seconds of one processor: a hundred times what an archive takes.
const CPU_LIMIT: u64 = 120;

/// How many bytes are read from the pipe at once.
const CHUNK: usize = 256 << 10;

/// How it went.
#[derive(Serialize, Deserialize)]
pub(in crate::release) struct Report {
    pub(in crate::release) fault: Option<Fault>,
    pub(in crate::release) landlock: Option<Interface>,
}

/// An error on its way to the parent.
#[derive(Serialize, Deserialize)]
pub(in crate::release) struct Fault {
    pub(in crate::release) code: String,
    pub(in crate::release) cause: String,
}

/// Gives up every right that this process has, then unpacks.
///
/// # Errors
/// Where the parent does not listen any more; what is wrong with the archive goes into the report.
pub fn serve() -> Result<()> {
    let cannot = |e| Error::new(NO_PIPE, format!("cannot use the pipes: {e}"));
    // Not through std's own handles: standard output there looks for line ends.
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from).map_err(cannot);
    let (input, mut output) = (own(std::io::stdin().as_fd())?, own(std::io::stdout().as_fd())?);
    let confined = confine();
    let landlock = confined.as_ref().ok().copied();
    let unpacked = confined.and_then(|_| {
        let input = BufReader::with_capacity(CHUNK, input);
        archive::unpack(input, &PROGRAMS, PROGRAMS_LIMIT, &mut |place, part| {
            send(&mut output, place as u8, part).map_err(cannot)
        })
    });
    let fault = unpacked.err().map(|e| Fault { code: e.code().id.to_owned(), cause: shorten(e.cause()) });
    let report = serde_json::to_vec(&Report { fault, landlock }).unwrap_or_default();
    send(&mut output, REPORT, &report).map_err(cannot)
}

/// No capability, no file, no network, no other process; what is left is the two pipes.
fn confine() -> Result<Interface> {
    Limits { file_size: Some(0), ..Limits::default() }.enforce()?;
    limit_time(CPU_LIMIT)?;
    capabilities::drop_all()?;
    let kernel = Fence::default().enforce()?;
    Filter::pipes_alone()?.enforce()?;
    Ok(kernel)
}

fn send(to: &mut impl Write, kind: u8, part: &[u8]) -> std::io::Result<()> {
    let mut head = [kind; HEAD];
    head[1..].copy_from_slice(&(part.len() as u32).to_le_bytes());
    to.write_all(&head)?;
    to.write_all(part)
}

/// An archive names what is in it as it likes; a report has room for a line.
fn shorten(cause: &str) -> String {
    cause.chars().take(REPORT_LIMIT / 16).collect()
}
