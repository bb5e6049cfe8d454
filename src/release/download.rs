//! Files from the network: the system's TLS roots, short waits, a bounded size. What comes is not trusted here.

use crate::error::{Code, Error, Result};
use crate::host::draft::Draft;
use crate::release::pins::{Arch, Release};
use crate::ui::progress::Progress;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use std::io::{Read, Write};
use std::time::Duration;

const NO_CLIENT: Code = Code::lacking("E-RELEASE-010");
const UNREACHABLE: Code = Code::lacking("E-RELEASE-011");
const NOT_THERE: Code = Code::lacking("E-RELEASE-012");
const TOO_LARGE: Code = Code::unverified("E-RELEASE-013");

/// Where the official archives are; `LSM_RELEASE_BASE` names another place (a mirror, a test's server).
const OFFICIAL: &str = "https://github.com/lightningnetwork/lnd/releases/download";

/// Short, so that the way around an unreachable server begins soon.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long a server may stay silent.
const SILENT_AT_MOST: Duration = Duration::from_secs(30);

/// The official archive's address.
pub(super) fn official_url(release: &Release, arch: Arch) -> String {
    let base = std::env::var("LSM_RELEASE_BASE").unwrap_or_else(|_| OFFICIAL.to_owned());
    format!("{}/{}/{}.tar.gz", base.trim_end_matches('/'), release.version, release.archive_name(arch))
}

/// Something that fetches: one pool of connections.
pub(super) struct Fetcher(Client);

impl Fetcher {
    /// Makes it. The roots are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured); proxies are those that
    /// the environment names.
    ///
    /// # Errors
    /// Where the system's roots cannot be read.
    pub(super) fn new() -> Result<Self> {
        // Somebody else may have chosen it already; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(SILENT_AT_MOST)
            .user_agent(concat!("lsm/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| {
                Error::new(NO_CLIENT, "cannot make TLS connections: no usable root certificates")
                    .hint("get them with: apt-get install ca-certificates")
                    .because(e)
            })?;
        Ok(Self(client))
    }

    /// Writes what `url` holds to `draft`, at most `limit` bytes, under a progress line with `title`.
    ///
    /// # Errors
    /// Where the server cannot be reached, does not have it ([`is_absent`]), stops short, or sends more.
    pub(super) fn fetch(&self, url: &str, title: &str, limit: u64, draft: &mut Draft) -> Result<()> {
        tracing::debug!(url, "fetch");
        let answer = self.0.get(url).send().map_err(|e| unreachable(url, &e))?;
        match answer.status() {
            StatusCode::OK => {}
            // What a module proxy says of a module that it does not have.
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(Error::new(NOT_THERE, format!("{url} is not there ({})", answer.status())));
            }
            other => return Err(Error::new(UNREACHABLE, format!("{url} answers {other}"))),
        }
        save(answer, url, title, limit, draft)
    }

    /// What `url` holds, at most `limit` bytes, in memory; nothing where the server answers that it does not have it.
    ///
    /// # Errors
    /// Where the server cannot be reached, stops short, or sends more.
    pub(super) fn get(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        tracing::debug!(url, "get");
        let answer = self.0.get(url).send().map_err(|e| unreachable(url, &e))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            other => return Err(Error::new(UNREACHABLE, format!("{url} answers {other}"))),
        }
        let mut bytes = Vec::new();
        answer.take(limit + 1).read_to_end(&mut bytes).map_err(|e| unreachable(url, &e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(TOO_LARGE, format!("{url} sends more than {limit} bytes")));
        }
        Ok(Some(bytes))
    }
}

/// True where the server answered that it does not have the file.
pub(super) fn is_absent(error: &Error) -> bool {
    error.code() == NOT_THERE
}

fn save(mut answer: Response, url: &str, title: &str, limit: u64, draft: &mut Draft) -> Result<()> {
    const MEGABYTE: u64 = 1 << 20;
    let expected = answer.content_length();
    let progress = Progress::new(title, expected.map(|n| n / MEGABYTE));
    progress.say("MiB");
    let mut buffer = vec![0; 1 << 16];
    let mut had = 0;
    loop {
        let n = answer.read(&mut buffer).map_err(|e| unreachable(url, &e))?;
        if n == 0 {
            break;
        }
        had += n as u64;
        if had > limit {
            return Err(Error::new(TOO_LARGE, format!("{url} sends more than {limit} bytes")));
        }
        draft
            .write_all(&buffer[..n])
            .map_err(|e| Error::new(NO_CLIENT, format!("cannot write what {url} sends: {e}")))?;
        progress.set(had / MEGABYTE);
    }
    if expected.is_some_and(|n| n != had) {
        return Err(Error::new(UNREACHABLE, format!("{url} stopped after {had} bytes")));
    }
    Ok(())
}

fn unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    // The outermost text names the address again; the innermost says what happened.
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    Error::new(UNREACHABLE, format!("cannot fetch {url}: {deepest}"))
}
