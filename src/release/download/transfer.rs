//! One file on its way: hashed as it is written, taken up again where the connection broke, refused where it is not plain.

use crate::error::{Code, Error, Result};
use crate::host::draft::Draft;
use crate::release::download::{Astray, Fetcher, bare};
use crate::ui::progress::Progress;
use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE,
};
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const UNREACHABLE: Code = Code::lacking("E-RELEASE-011");
pub(in crate::release) const NOT_THERE: Code = Code::lacking("E-RELEASE-012");
const TOO_LARGE: Code = Code::unverified("E-RELEASE-013");
const WRONG_PART: Code = Code::unverified("E-RELEASE-014");
const INSECURE_REDIRECT: Code = Code::unverified("E-RELEASE-015");
const REDIRECT_LOOP: Code = Code::lacking("E-RELEASE-016");
const CUT_OFF: Code = Code::lacking("E-RELEASE-017");
const SILENT: Code = Code::lacking("E-RELEASE-018");
const TOO_SLOW: Code = Code::lacking("E-RELEASE-019");
const BAD_CERTIFICATE: Code = Code::lacking("E-RELEASE-083");
const ENCODED: Code = Code::unverified("E-RELEASE-084");
const NOT_WRITTEN: Code = Code::lacking("E-RELEASE-085");

const MEGABYTE: u64 = 1 << 20;

/// Before a broken connection is taken up again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the bytes go.
pub(in crate::release) trait Place: Write {
    /// Forgets what was written.
    fn restart(&mut self) -> Result<()>;
}

impl Place for Draft {
    fn restart(&mut self) -> Result<()> {
        Self::restart(self)
    }
}

impl Place for Vec<u8> {
    fn restart(&mut self) -> Result<()> {
        self.clear();
        Ok(())
    }
}

/// True where the server answered that it does not have the file.
pub(in crate::release) fn is_absent(error: &Error) -> bool {
    error.code() == NOT_THERE
}

/// One file on its way.
pub(in crate::release) struct Transfer<'a> {
    fetcher: &'a Fetcher,
    url: &'a str,
    limit: u64,
    place: &'a mut dyn Place,
    hash: Sha256,
    had: u64,
    /// All that came, also before it was begun anew.
    received: u64,
    /// The whole size, where the server says it.
    total: Option<u64>,
    /// What tells that a later part is of the same file: a strong ETag, else Last-Modified.
    mark: Option<(HeaderName, String)>,
    end: Instant,
    progress: Progress,
}

/// Why a connection ended early.
enum Broken {
    /// Another one may go on.
    Cut(Error),
    /// None would help.
    Wrong(Error),
}

impl<'a> Transfer<'a> {
    pub(in crate::release) fn new(
        fetcher: &'a Fetcher,
        url: &'a str,
        title: &str,
        limit: u64,
        place: &'a mut dyn Place,
    ) -> Self {
        let patience = &fetcher.patience;
        let end = Instant::now() + patience.whole + Duration::from_secs(limit / patience.slowest);
        let progress = Progress::new(title, None);
        Self {
            fetcher,
            url,
            limit,
            place,
            hash: Sha256::new(),
            had: 0,
            received: 0,
            total: None,
            mark: None,
            end,
            progress,
        }
    }

    /// Brings it, and gives the SHA-256 of what was written, in hexadecimal.
    pub(in crate::release) fn run(mut self) -> Result<String> {
        for connection in 1.. {
            let before = self.received;
            match self.bring() {
                Ok(()) => break,
                Err(Broken::Wrong(e)) => return Err(e),
                Err(Broken::Cut(e)) if self.received == before || connection >= self.fetcher.patience.connections => {
                    return Err(e);
                }
                Err(Broken::Cut(e)) => tracing::info!("after {} bytes: {e}; going on", self.had),
            }
            std::thread::sleep(PAUSE);
        }
        Ok(hex::encode(self.hash.finalize()))
    }

    /// One connection: what is still missing.
    fn bring(&mut self) -> Result<(), Broken> {
        tracing::debug!(url = bare(self.url), from = self.had, "fetch");
        let mut request = self.fetcher.client.get(self.url).header(ACCEPT_ENCODING, "identity");
        if self.had > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.had));
            if let Some((_, mark)) = &self.mark {
                request = request.header(IF_RANGE, mark);
            }
        }
        let answer = request.send().map_err(|e| self.broken(&e, self.had > 0))?;
        self.judge(&answer)?;
        self.save(answer)
    }

    /// Holds the head of an answer against what was asked for.
    fn judge(&mut self, answer: &Response) -> Result<(), Broken> {
        let (url, headers) = (bare(self.url), answer.headers());
        let wrong = |code, cause| Err(Broken::Wrong(Error::new(code, cause)));
        match answer.status() {
            StatusCode::OK => {
                // Also where a part was asked for: the server knows no parts, or the file is another by now.
                self.place.restart().map_err(Broken::Wrong)?;
                (self.hash, self.had) = (Sha256::new(), 0);
                (self.total, self.mark) = (answer.content_length(), mark(headers));
            }
            StatusCode::PARTIAL_CONTENT if self.had > 0 => self.judge_part(headers)?,
            // 410 is what a module proxy says of a module that it does not have.
            status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
                return wrong(NOT_THERE, format!("{url} is not there ({status})"));
            }
            StatusCode::PARTIAL_CONTENT => {
                return wrong(WRONG_PART, format!("{url} sends a part; nobody asked for one"));
            }
            other => return wrong(UNREACHABLE, format!("{url} answers {other}")),
        }
        if headers.get_all(CONTENT_ENCODING).iter().any(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return wrong(ENCODED, format!("{url} sends the file in an encoding that nobody asked for"));
        }
        match self.total {
            Some(total) if total > self.limit => wrong(TOO_LARGE, too_large(&url, self.limit)),
            _ => Ok(()),
        }
    }

    /// A part must begin where the last one ended, reach to the end, and be of the same file.
    fn judge_part(&mut self, headers: &HeaderMap) -> Result<(), Broken> {
        let range = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or("none");
        let fits = parse_range(range).is_some_and(|(first, last, total)| {
            first == self.had
                && total.is_none_or(|t| last + 1 == t)
                && self.total.is_none_or(|t| total.is_none_or(|now| now == t))
        });
        let same = match &self.mark {
            Some((name, mark)) => headers.get(name).is_none_or(|now| now.as_bytes() == mark.as_bytes()),
            None => true,
        };
        if fits && same {
            self.total = self.total.or(parse_range(range).and_then(|(_, _, total)| total));
            return Ok(());
        }
        let what = if same { format!("another part ({range})") } else { "a part of another file".to_owned() };
        let cause = format!("{} was asked for the bytes from {}, and sends {what}", bare(self.url), self.had);
        Err(Broken::Wrong(Error::new(WRONG_PART, cause)))
    }

    fn save(&mut self, mut answer: Response) -> Result<(), Broken> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match answer.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.broken(&e, true)),
            };
            if self.had + n as u64 > self.limit {
                return Err(Broken::Wrong(Error::new(TOO_LARGE, too_large(&bare(self.url), self.limit))));
            }
            self.hash.update(&buffer[..n]);
            let written = self.place.write_all(&buffer[..n]);
            let cannot = |e| Error::new(NOT_WRITTEN, format!("cannot write what {} sends: {e}", bare(self.url)));
            written.map_err(|e| Broken::Wrong(cannot(e)))?;
            self.had += n as u64;
            self.received += n as u64;
            self.show();
            if Instant::now() > self.end {
                let cause = format!("{} is too slow: {} bytes in all the time there was", bare(self.url), self.had);
                return Err(Broken::Wrong(Error::new(TOO_SLOW, cause)));
            }
        }
        match self.total {
            Some(total) if total != self.had => Err(Broken::Cut(self.cut_off())),
            _ => Ok(()),
        }
    }

    fn show(&self) {
        let had = self.had / MEGABYTE;
        match self.total {
            Some(total) => self.progress.say(&format!("{had} of {} MiB", total / MEGABYTE)),
            None => self.progress.say(&format!("{had} MiB")),
        }
    }

    fn cut_off(&self) -> Error {
        let of = self.total.map(|t| format!(" of {t}")).unwrap_or_default();
        Error::new(CUT_OFF, format!("{} stopped after {}{of} bytes", bare(self.url), self.had))
    }

    /// What a failed request or a failed read means; `begun` says whether the server sends it already.
    fn broken(&self, error: &(dyn std::error::Error + 'static), begun: bool) -> Broken {
        let url = bare(self.url);
        let astray = find::<Astray>(error);
        if let Some(astray) = astray {
            let code = if *astray == Astray::Insecure { INSECURE_REDIRECT } else { REDIRECT_LOOP };
            return Broken::Wrong(Error::new(code, format!("cannot fetch {url}: {astray}")));
        }
        if let Some(rustls::Error::InvalidCertificate(why)) = find::<rustls::Error>(error) {
            let error = Error::new(BAD_CERTIFICATE, format!("{url} shows a certificate that is not valid: {why}"));
            return Broken::Wrong(
                error.hint("is it the right server, and the clock right? SSL_CERT_FILE names own roots"),
            );
        }
        let timed_out = find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_timeout);
        if timed_out && !find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_connect) {
            let seconds = self.fetcher.patience.silent.as_secs();
            return Broken::Cut(Error::new(
                SILENT,
                format!("{url} was silent for {seconds} s after {} bytes", self.had),
            ));
        }
        if begun {
            return Broken::Cut(self.cut_off().because(deepest(error).to_string()));
        }
        Broken::Cut(Error::new(UNREACHABLE, format!("cannot fetch {url}: {}", deepest(error))))
    }
}

fn too_large(url: &str, limit: u64) -> String {
    format!("{url} sends more than {limit} bytes")
}

fn mark(headers: &HeaderMap) -> Option<(HeaderName, String)> {
    let text = |name: HeaderName| Some((name.clone(), headers.get(name)?.to_str().ok()?.to_owned()));
    // A weak ETag says only that the meaning is the same (RFC 9110, 8.8.1).
    text(ETAG).filter(|(_, tag)| tag.starts_with('"')).or_else(|| text(LAST_MODIFIED))
}

/// `bytes FIRST-LAST/TOTAL`, where TOTAL may be `*` (RFC 9110, 14.4).
fn parse_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    (first <= last && last < u64::MAX).then_some((first, last, total))
}

/// The first error of type `T` in a chain; an I/O error hides one that is not its source.
fn find<'e, T: std::error::Error + 'static>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The outermost text names the address again; the innermost says what happened.
fn deepest<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::download::Patience;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};

    const SHORT: Patience = Patience {
        connect: Duration::from_secs(3),
        silent: Duration::from_millis(300),
        whole: Duration::from_secs(2),
        slowest: 1 << 20,
        connections: 4,
    };

    fn fetcher() -> Fetcher {
        Fetcher::make(SHORT, |client| client.no_proxy()).unwrap()
    }

    /// A server that hands each connection, its request read, with its number to `answer`.
    fn serve(answer: impl Fn(usize, TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map(Result::unwrap).enumerate() {
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
                answer(number, stream);
            }
        });
        url
    }

    fn fetch(url: &str, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let sha256 = Transfer::new(&fetcher(), url, "a test", limit, &mut bytes).run()?;
        assert_eq!(sha256, hex::encode(Sha256::digest(&bytes)));
        Ok(bytes)
    }

    #[test]
    fn a_server_that_falls_silent_is_left() {
        let mute = serve(|_, stream| std::mem::forget(stream));
        assert_eq!(fetch(&mute, 100).unwrap_err().code(), SILENT);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        let half = serve(move |number, mut stream| {
            let said = if number == 0 { format!("{head}12345") } else { String::new() };
            stream.write_all(said.as_bytes()).unwrap();
            std::mem::forget(stream);
        });
        let error = fetch(&half, 100).unwrap_err();
        assert_eq!(error.code(), SILENT, "{error}");
        assert!(error.cause().contains("after 5 bytes"), "{error}");
    }

    #[test]
    fn a_server_that_trickles_is_left_when_the_time_is_up() {
        let url = serve(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while stream.write_all(b"1\r\nx\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(fetch(&url, 100).unwrap_err().code(), TOO_SLOW);
    }

    #[test]
    fn a_server_that_always_cuts_is_asked_a_few_times_only() {
        // One byte more each time, of a file that has a hundred.
        let url = serve(|number, mut stream| {
            let (status, range) = match number {
                0 => ("200 OK", String::new()),
                n => ("206 Partial Content", format!("Content-Range: bytes {n}-99/100\r\n")),
            };
            let length = 100 - number;
            stream
                .write_all(format!("HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\n\r\nx").as_bytes())
                .unwrap();
        });
        let error = fetch(&url, 100).unwrap_err();
        assert_eq!(error.code(), CUT_OFF);
        assert!(error.cause().contains("after 4 of 100 bytes"), "{error}");
    }

    #[test]
    fn a_small_file_comes_from_the_first_that_has_it() {
        let answer = |text: &'static str| serve(move |_, mut stream| stream.write_all(text.as_bytes()).unwrap());
        let absent = answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let gone = answer("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let there = answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfile");
        let closed = "http://127.0.0.1:1".to_owned();
        let small = |mirrors: &[&String], limit| {
            let mirrors: Vec<String> = mirrors.iter().map(|m| (*m).clone()).collect();
            fetcher().fetch_small(&mirrors, "a/b", limit)
        };
        assert_eq!(small(&[&absent, &closed, &there], 4).unwrap().unwrap(), b"file");
        assert_eq!(small(&[&absent, &gone], 4).unwrap(), None);
        assert_eq!(small(&[&absent, &closed, &gone], 4).unwrap_err().code(), UNREACHABLE);
        assert_eq!(small(&[&there, &absent], 3).unwrap_err().code(), TOO_LARGE);
    }

    #[test]
    fn a_range_is_read_or_refused() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["", "bytes */10", "bytes 9-5/10", "items 5-9/10", "bytes +5-9/10", "bytes 5-9", "bytes 5-/10"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
        assert_eq!(parse_range("bytes 0-18446744073709551615/*"), None);
    }
}
