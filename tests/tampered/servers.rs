//! Servers: what they send, how they end it, where they lead, and whose certificate they show.

use super::scene::{Row, Scene, row};
use crate::mirror::{Identity, Request, Server, head, identity};
use crate::witnesses::signers::{ARCHIVE, MANIFEST, VERSION};
use std::io::{Result, Write};
use std::sync::Arc;

type End = (i32, &'static str, &'static str);

/// An answer to a request for a file with these bytes.
trait Answer: Fn(&Request, &mut dyn Write, &[u8]) -> Result<()> + Send + Sync + Clone + 'static {}

impl<F: Fn(&Request, &mut dyn Write, &[u8]) -> Result<()> + Send + Sync + Clone + 'static> Answer for F {}

/// A mirror with all of the release that answers oddly when it is asked for the file whose name begins so.
fn serve(scene: &mut Scene<'_>, identity: Identity, file: &'static str, odd: impl Answer) {
    let (archive, papers) = (Arc::clone(&scene.stock.archive), scene.stock.papers.clone());
    let server = Server::start_as(identity, move |request, to| {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let body = if name == ARCHIVE { Some(archive.as_slice()) } else { papers.get(name).map(Vec::as_slice) };
        match body {
            Some(body) if name.starts_with(file) => odd(request, to, body),
            Some(body) => give(to, body),
            None => head(to, "404 Not Found", 0, ""),
        }
    });
    scene.fetch_from(&server);
}

fn give(to: &mut dyn Write, body: &[u8]) -> Result<()> {
    head(to, "200 OK", body.len(), "")?;
    to.write_all(body)
}

fn lead(to: &mut dyn Write, place: &str) -> Result<()> {
    head(to, "302 Found", 0, &format!("Location: {place}\r\n"))
}

fn give_endless(to: &mut dyn Write) -> Result<()> {
    write!(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    loop {
        write!(to, "100000\r\n")?;
        to.write_all(&[7; 1 << 20])?;
        write!(to, "\r\n")?;
    }
}

/// The file whose name begins so is answered oddly.
fn odd(name: &'static str, end: End, file: &'static str, answer: impl Answer) -> Row {
    row(name, end, move |scene| serve(scene, identity("localhost", |_| ()), file, answer.clone()))
}

pub fn rows() -> Vec<Row> {
    let mut rows = archives();
    rows.extend(papers());
    rows.extend(certificates());
    rows
}

fn archives() -> Vec<Row> {
    let archive =
        |name, end, answer: fn(&Request, &mut dyn Write, &[u8]) -> Result<()>| odd(name, end, ARCHIVE, answer);
    vec![
        archive("cut, each time at the same place", (3, "E-RELEASE-017", ""), |request, to, body| {
            head(to, "200 OK", body.len(), "")?;
            if request.number == 0 { to.write_all(&body[..1 << 20]) } else { Ok(()) }
        }),
        archive("longer than it says", (4, "E-RELEASE-082", ""), |_, to, body| {
            head(to, "200 OK", body.len() - 9, "")?;
            to.write_all(body)
        }),
        archive("shorter than it says", (3, "E-RELEASE-017", ""), |request, to, body| {
            head(to, "200 OK", body.len() + 9, "")?;
            if request.number == 0 { to.write_all(body) } else { Ok(()) }
        }),
        archive("endless", (4, "E-RELEASE-013", ""), |_, to, _| give_endless(to)),
        archive("1 TiB", (4, "E-RELEASE-013", ""), |_, to, _| head(to, "200 OK", 1 << 40, "")),
        archive("empty", (4, "E-RELEASE-082", ""), |_, to, _| head(to, "200 OK", 0, "")),
        archive("a bit changed", (4, "E-RELEASE-082", ""), |_, to, body| {
            head(to, "200 OK", body.len(), "")?;
            to.write_all(&body[..1000])?;
            to.write_all(&[body[1000] ^ 1])?;
            to.write_all(&body[1001..])
        }),
        archive("a web page", (4, "E-RELEASE-082", ""), |_, to, _| give(to, b"<html>Sign in to this network</html>")),
        archive("a part that was not asked for", (4, "E-RELEASE-014", ""), |_, to, body| {
            let (end, size) = (body.len() - 1, body.len());
            head(to, "206 Partial Content", size, &format!("Content-Range: bytes 0-{end}/{size}\r\n"))?;
            to.write_all(body)
        }),
        archive("encoded", (4, "E-RELEASE-084", ""), |_, to, body| {
            head(to, "200 OK", body.len(), "Content-Encoding: gzip\r\n")?;
            to.write_all(body)
        }),
        archive("led to HTTP", (4, "E-RELEASE-015", ""), |_, to, _| lead(to, "http://localhost/x")),
        archive("led to a file", (3, "E-RELEASE-011", ""), |_, to, _| lead(to, "file:///etc/passwd")),
        archive("led in a circle", (3, "E-RELEASE-016", ""), |request, to, _| lead(to, &request.path)),
        archive("not there", (3, "E-RELEASE-012", ""), |_, to, _| head(to, "404 Not Found", 0, "")),
        archive("an error of the server", (3, "E-RELEASE-011", ""), |_, to, _| {
            head(to, "503 Service Unavailable", 0, "")
        }),
        archive("no HTTP", (3, "E-RELEASE-011", ""), |_, to, _| to.write_all(b"SSH-2.0-x\r\n")),
        archive("no answer", (3, "E-RELEASE-011", ""), |_, _, _| Ok(())),
    ]
}

fn papers() -> Vec<Row> {
    const SIGNATURE: &str = "manifest-lab3-";
    vec![
        odd("no manifest", (3, "E-RELEASE-037", ""), MANIFEST, |_, to, _| head(to, "404 Not Found", 0, "")),
        odd("a manifest that is endless", (4, "E-RELEASE-013", ""), MANIFEST, |_, to, _| give_endless(to)),
        odd("a manifest that is another", (4, "E-QUORUM-001", "BAD"), MANIFEST, |_, to, _| give(to, b"another\n")),
        odd("a manifest led to HTTP", (4, "E-RELEASE-015", ""), MANIFEST, |_, to, _| lead(to, "http://localhost/x")),
        odd("a signature missing", (4, "E-QUORUM-003", "4 of 5"), SIGNATURE, |_, to, _| {
            head(to, "404 Not Found", 0, "")
        }),
        odd("a signature that cannot be had", (4, "E-QUORUM-003", "4 of 5"), SIGNATURE, |_, to, _| {
            head(to, "503 Service Unavailable", 0, "")
        }),
        odd("a signature cut", (4, "E-QUORUM-003", "4 of 5"), SIGNATURE, |_, to, body| {
            head(to, "200 OK", body.len(), "")?;
            to.write_all(&body[..body.len() / 2])
        }),
        odd(
            "a signature with a bit changed",
            (4, "E-QUORUM-001", "BAD signature of lab3"),
            SIGNATURE,
            |_, to, body| {
                let mut body = body.to_vec();
                *body.last_mut().unwrap() ^= 1;
                give(to, &body)
            },
        ),
        odd("a web page for a signature", (4, "E-QUORUM-002", SIGNATURE), SIGNATURE, |_, to, _| give(to, b"<html>")),
        odd("an endless signature", (4, "E-RELEASE-013", ""), SIGNATURE, |_, to, _| give_endless(to)),
        odd("an encoded signature", (4, "E-RELEASE-084", ""), SIGNATURE, |_, to, body| {
            head(to, "200 OK", body.len(), "Content-Encoding: gzip\r\n")?;
            to.write_all(body)
        }),
    ]
}

/// With this certificate, and the root that clients trust where it is another.
fn shown(name: &'static str, identity: fn() -> Identity) -> Row {
    row(name, (3, "E-RELEASE-083", ""), move |scene| serve(scene, identity(), "", |_, to, body| give(to, body)))
}

fn certificates() -> Vec<Row> {
    vec![
        shown("a certificate for another name", || identity("elsewhere.example", |_| ())),
        shown("a certificate that has expired", || {
            identity("localhost", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
        }),
        shown("a certificate of the future", || {
            identity("localhost", |params| params.not_before = rcgen::date_time_ymd(2100, 1, 1))
        }),
        shown("a certificate of an unknown root", || Identity {
            pem: identity("localhost", |_| ()).pem,
            ..identity("localhost", |_| ())
        }),
        row("nobody there", (3, "E-RELEASE-011", ""), |scene| scene.fetch(VERSION, &["--quorum", "5"])),
        row("a mirror without TLS", (2, "E-RELEASE-080", ""), |scene| {
            scene.base = "http://127.0.0.1:9/lnd".into();
            scene.fetch(VERSION, &["--quorum", "5"]);
        }),
    ]
}
