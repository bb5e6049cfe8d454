//! Downloads, end to end: the real archive from a TLS server that throttles, cuts, lies and leads astray.

use crate::lab;
use crate::mirror::{Request, Server, head, identity};
use lsm::host::program::{Output, Program};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const VERSION: &str = "v0.20.0-beta";
const ETAG: &str = "\"one\"";
/// How much a server of these tests sends before it cuts the connection.
const PIECE: usize = 12 << 20;

/// The real archive for amd64.
fn archive() -> Option<&'static [u8]> {
    static ARCHIVE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let read = || {
        let folder = lab::lnd::Release::find(VERSION)?.folder;
        std::fs::read(folder.join(format!("lnd-linux-amd64-{VERSION}.tar.gz"))).ok()
    };
    ARCHIVE.get_or_init(read).as_deref()
}

/// The whole archive.
fn give(to: &mut dyn Write, more: &str) -> std::io::Result<()> {
    let archive = archive().unwrap();
    head(to, "200 OK", archive.len(), more)?;
    to.write_all(archive)
}

/// A server as it should be, but it sends at most one piece over each connection.
fn give_piece(request: &Request, to: &mut dyn Write, tag: &str) -> std::io::Result<()> {
    let (archive, from) = (archive().unwrap(), request.from());
    let more = format!("ETag: {tag}\r\n");
    if from == 0 || request.header("if-range").is_some_and(|mark| mark != tag) {
        head(to, "200 OK", archive.len(), &more)?;
        return to.write_all(&archive[..PIECE]);
    }
    let range = format!("{more}Content-Range: bytes {from}-{}/{}\r\n", archive.len() - 1, archive.len());
    head(to, "206 Partial Content", archive.len() - from, &range)?;
    to.write_all(&archive[from..archive.len().min(from + PIECE)])
}

/// Fetches the archive from these servers into a new folder; gives what lsm said and the files that are there now.
fn fetch_with(base: &str, pems: &[&str], env: &[(&str, &str)]) -> (Output, Vec<String>) {
    let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let roots = home.path().join("roots.pem");
    std::fs::write(&roots, pems.concat()).unwrap();
    let program = Program::new(lab::LSM)
        .args(["--json", "release", "fetch", VERSION, "--arch", "amd64", "--out"])
        .arg(out.path())
        .env("LSM_RELEASE_BASE", base)
        .env("SSL_CERT_FILE", &roots)
        .env("SSL_CERT_DIR", "");
    let output = env.iter().fold(program, |program, (name, value)| program.env(name, value)).output().unwrap();
    let left = std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().path());
    if output.status.success() {
        assert!(std::fs::read(out.path().join(NAME)).unwrap() == archive().unwrap());
    }
    (output, left.map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect())
}

const NAME: &str = "lnd-linux-amd64-v0.20.0-beta.tar.gz";

/// What came of it: the file was kept, or the exit code and the error's code.
fn outcome(output: &Output, left: &[String]) -> String {
    if output.status.success() {
        assert_eq!(left, [NAME]);
        return "kept".to_owned();
    }
    assert_eq!(left, [""; 0], "nothing is left after a failure");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut told = String::new();
    write!(told, "{} {}", output.status.code().unwrap(), said["error"]["code"].as_str().unwrap()).unwrap();
    told
}

fn fetch(server: &Server) -> String {
    let (output, left) = fetch_with(&server.base(), &[&server.pem], &[]);
    outcome(&output, &left)
}

/// [`fetch`] from a new server that answers so.
fn try_with(answer: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    fetch(&Server::of_archive(answer))
}

#[test]
fn a_slow_server_is_waited_for() {
    let Some(archive) = archive() else { return };
    let told = try_with(|request, to| {
        assert_eq!(request.path, format!("/lnd/{VERSION}/{NAME}"));
        head(to, "200 OK", archive.len(), "")?;
        archive.chunks(1 << 20).try_for_each(|part| {
            std::thread::sleep(Duration::from_millis(20));
            to.write_all(part)?;
            to.flush()
        })
    });
    assert_eq!(told, "kept");
}

#[test]
fn a_connection_that_is_cut_is_taken_up_where_it_broke() {
    let Some(archive) = archive() else { return };
    let server = Server::of_archive(|request, to| give_piece(request, to, ETAG));
    assert_eq!(fetch(&server), "kept");
    let asked = server.asked();
    assert_eq!(asked.len(), archive.len().div_ceil(PIECE));
    assert_eq!((asked[0].header("range"), asked[0].header("if-range")), (None, None));
    assert!(asked.iter().all(|r| r.header("accept-encoding") == Some("identity")));
    for later in &asked[1..] {
        assert!(later.from() > 0, "not from the start again");
        assert_eq!(later.header("if-range"), Some(ETAG));
    }
}

#[test]
fn a_file_that_changes_between_two_parts_is_begun_anew() {
    if archive().is_none() {
        return;
    }
    let server = Server::of_archive(|request, to| match request.number {
        0 => give_piece(request, to, "\"old\""),
        _ => give_piece(request, to, ETAG),
    });
    assert_eq!(fetch(&server), "kept");
    assert_eq!(server.asked()[1].header("if-range"), Some("\"old\""));
}

#[test]
fn a_server_without_parts_sends_all_of_it_again() {
    if archive().is_none() {
        return;
    }
    let told = try_with(|request, to| match request.number {
        0 => give_piece(request, to, ETAG),
        _ => give(to, ""),
    });
    assert_eq!(told, "kept");
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let Some(archive) = archive() else { return };
    let size = archive.len();
    // The range that the second answer names, instead of the right one; its ETag; what comes of it.
    for (range, tag, told) in [
        (format!("bytes {}-{}/{size}", PIECE - 1, size - 1), ETAG, "4 E-RELEASE-014"),
        (format!("bytes 0-{}/{size}", size - 1), ETAG, "4 E-RELEASE-014"),
        (format!("bytes {PIECE}-{}/{}", size - 2, size), ETAG, "4 E-RELEASE-014"),
        (format!("bytes {PIECE}-{size}/{}", size + 1), ETAG, "4 E-RELEASE-014"),
        (format!("{PIECE}-{}", size - 1), ETAG, "4 E-RELEASE-014"),
        (format!("bytes {PIECE}-{}/{size}", size - 1), "\"two\"", "4 E-RELEASE-014"),
        (format!("bytes {PIECE}-{}/{size}", size - 1), ETAG, "kept"),
    ] {
        let named = range.clone();
        let server = Server::of_archive(move |request, to| {
            if request.number == 0 {
                return give_piece(request, to, ETAG);
            }
            // The client has what it was sent; where it broke is not known to the byte.
            let from = request.from();
            let named = named.replace(&PIECE.to_string(), &from.to_string());
            let named = named.replace(&(PIECE - 1).to_string(), &(from - 1).to_string());
            head(to, "206 Partial Content", size - from, &format!("ETag: {tag}\r\nContent-Range: {named}\r\n"))?;
            to.write_all(&archive[from..])
        });
        assert_eq!(fetch(&server), told, "{range} {tag}");
    }
    let unasked = try_with(move |_, to| {
        head(to, "206 Partial Content", size, &format!("Content-Range: bytes 0-{}/{size}\r\n", size - 1))?;
        to.write_all(archive)
    });
    assert_eq!(unasked, "4 E-RELEASE-014");
}

#[test]
fn what_ends_too_early_or_never_is_refused() {
    let Some(archive) = archive() else { return };
    let size = archive.len();
    let cut_for_good = |request: &Request, to: &mut dyn Write| {
        if request.number == 0 { give_piece(request, to, ETAG) } else { Ok(()) }
    };
    assert_eq!(try_with(cut_for_good), "3 E-RELEASE-017");
    let longer_than_it_is = move |request: &Request, to: &mut dyn Write| {
        head(to, "200 OK", size + 9, "")?;
        if request.number == 0 { to.write_all(archive) } else { Ok(()) }
    };
    assert_eq!(try_with(longer_than_it_is), "3 E-RELEASE-017");
    let shorter_than_it_is = move |_: &Request, to: &mut dyn Write| {
        head(to, "200 OK", size - 9, "")?;
        to.write_all(archive)
    };
    assert_eq!(try_with(shorter_than_it_is), "4 E-RELEASE-082");
    let endless = |_: &Request, to: &mut dyn Write| {
        write!(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            write!(to, "100000\r\n")?;
            to.write_all(&[7; 1 << 20])?;
            write!(to, "\r\n")?;
        }
    };
    assert_eq!(try_with(endless), "4 E-RELEASE-013");
    assert_eq!(try_with(|_, to| head(to, "200 OK", 1 << 40, "")), "4 E-RELEASE-013");
}

#[test]
fn redirects_are_followed_over_https_and_not_without_end() {
    if archive().is_none() {
        return;
    }
    fn lead(to: &mut dyn Write, place: &str) -> std::io::Result<()> {
        head(to, "302 Found", 0, &format!("Location: {place}\r\n"))
    }
    let good = Server::of_archive(|_, to| give(to, ""));
    let elsewhere = format!("https://localhost:{}/elsewhere", good.port);
    let server = Server::of_archive(move |_, to| lead(to, &elsewhere));
    let (output, left) = fetch_with(&server.base(), &[&server.pem, &good.pem], &[]);
    assert_eq!(outcome(&output, &left), "kept");
    assert_eq!(good.asked()[0].path, "/elsewhere");
    assert_eq!(try_with(|_, to| lead(to, "http://localhost/x")), "4 E-RELEASE-015");
    assert_eq!(try_with(|_, to| lead(to, "file:///etc/passwd")), "3 E-RELEASE-011");
    let round = Server::of_archive(|request, to| lead(to, &request.path));
    assert_eq!(fetch(&round), "3 E-RELEASE-016");
    assert_eq!(round.asked().len(), 6);
}

#[test]
fn answers_that_are_none_are_told_apart() {
    let Some(archive) = archive() else { return };
    assert_eq!(try_with(|_, to| head(to, "404 Not Found", 0, "")), "3 E-RELEASE-012");
    assert_eq!(try_with(|_, to| head(to, "500 Internal Server Error", 0, "")), "3 E-RELEASE-011");
    assert_eq!(try_with(|_, to| to.write_all(b"SSH-2.0-x\r\n")), "3 E-RELEASE-011");
    assert_eq!(try_with(|_, _| Ok(())), "3 E-RELEASE-011");
    for encoding in ["gzip", "zstd", "br, gzip"] {
        let told = try_with(move |_, to| give(to, &format!("Content-Encoding: {encoding}\r\n")));
        assert_eq!(told, "4 E-RELEASE-084", "{encoding}");
    }
    let changed = try_with(|_, to| {
        head(to, "200 OK", archive.len(), "")?;
        to.write_all(&archive[..1000])?;
        to.write_all(&[archive[1000] ^ 1])?;
        to.write_all(&archive[1001..])
    });
    assert_eq!(changed, "4 E-RELEASE-082");
    let closed = fetch_with("https://127.0.0.1:1", &[&identity("localhost", |_| ()).pem], &[]);
    assert_eq!(outcome(&closed.0, &closed.1), "3 E-RELEASE-011");
}

#[test]
fn a_certificate_that_is_not_valid_is_named_as_the_cause() {
    if archive().is_none() {
        return;
    }
    let other = identity("localhost", |_| ()).pem;
    let past = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |params: &mut rcgen::CertificateParams| params.not_before = rcgen::date_time_ymd(2100, 1, 1);
    for (identity, trusted) in [
        (identity("localhost", |_| ()), Some(other.as_str())),
        (identity("elsewhere.example", |_| ()), None),
        (identity("localhost", past), None),
        (identity("localhost", future), None),
    ] {
        let server = Server::of_archive_as(identity, |_, to| give(to, ""));
        let (output, left) = fetch_with(&server.base(), &[trusted.unwrap_or(&server.pem)], &[]);
        assert_eq!(outcome(&output, &left), "3 E-RELEASE-083");
        assert_eq!(server.asked().len(), 0, "nothing was asked of it");
    }
}

#[test]
fn mirrors_are_asked_in_order() {
    let Some(archive) = archive() else { return };
    let good = Server::of_archive(|_, to| give(to, ""));
    let never = Server::of_archive(|_, to| give(to, ""));
    let absent = Server::of_archive(|_, to| head(to, "404 Not Found", 0, ""));
    let cut =
        Server::of_archive(|request, to| if request.number == 0 { give_piece(request, to, ETAG) } else { Ok(()) });
    let changed = Server::of_archive(|_, to| {
        head(to, "200 OK", archive.len(), "")?;
        to.write_all(&vec![7; archive.len()])
    });
    let pems = [&good, &never, &absent, &cut, &changed].map(|s| s.pem.as_str());
    let fetch = |mirrors: &[&Server]| {
        let base: Vec<_> = mirrors.iter().map(|s| s.base()).collect();
        fetch_with(&format!("https://localhost:1,{}", base.join(", ")), &pems, &[])
    };
    let (output, left) = fetch(&[&absent, &cut, &changed, &good, &never]);
    assert_eq!(outcome(&output, &left), "kept");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["provenance"][1]["url"], format!("{}/{VERSION}/{NAME}", good.base()));
    let passed = output.stderr.lines().filter(|l| l.starts_with("the next mirror is asked") && l.contains(NAME));
    assert_eq!(passed.count(), 3, "{}", output.stderr);
    assert!(output.stderr.contains("is not the official file"), "{}", output.stderr);
    assert_eq!(never.asked().len(), 0);
    // The one that sent something wrong is told, not one that could not be reached.
    let (output, left) = fetch(&[&changed, &absent]);
    assert_eq!(outcome(&output, &left), "4 E-RELEASE-082");
}

#[test]
fn mirrors_and_proxies_that_cannot_be_used_are_refused_before_anything_is_asked() {
    let server = Server::of_archive(|_, to| give(to, ""));
    let base = server.base();
    let fetch = |base: &str, env: &[(&str, &str)]| {
        let (output, left) = fetch_with(base, &[&server.pem], env);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
        outcome(&output, &left)
    };
    for bad in ["http://localhost/lnd", "file:///srv", "localhost", "https://user:secret@localhost/"] {
        assert_eq!(fetch(&format!("{base},{bad}"), &[]), "2 E-RELEASE-080", "{bad}");
    }
    for (name, bad) in [("HTTPS_PROXY", "socks://127.0.0.1:1"), ("ALL_PROXY", "http://")] {
        assert_eq!(fetch(&base, &[(name, bad)]), "2 E-RELEASE-081", "{name}={bad}");
    }
    assert_eq!(server.asked().len(), 0);
}

/// A proxy on loopback; `open` reads where a client wants to go, and answers it. Every way leads to `port`.
fn start_proxy(
    port: u16,
    open: impl Fn(&mut TcpStream) -> std::io::Result<String> + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let (noted, open) = (Arc::clone(&asked), Arc::new(open));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut client, noted, open) = (stream.unwrap(), Arc::clone(&noted), Arc::clone(&open));
            std::thread::spawn(move || {
                let Ok(place) = open(&mut client) else { return };
                noted.lock().unwrap().push(place);
                let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (own, asked)
}

/// CONNECT (RFC 9110, 9.3.6).
fn open_tunnel(client: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    Ok(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned())
}

/// SOCKS 5 with a host name (RFC 1928): the proxy resolves it, the client asks no name server.
fn open_socks(client: &mut TcpStream) -> std::io::Result<String> {
    let mut read = |n: usize| {
        let mut bytes = vec![0; n];
        client.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = read(2)?;
    read(methods[1].into())?;
    client.write_all(&[5, 0])?;
    let mut read = |n: usize| {
        let mut bytes = vec![0; n];
        client.read_exact(&mut bytes).map(|()| bytes)
    };
    let asked = read(5)?;
    assert_eq!(asked[..4], [5, 1, 0, 3], "CONNECT to a name");
    let name = read(asked[4].into())?;
    let port = read(2)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(format!("{}:{}", String::from_utf8_lossy(&name), u16::from_be_bytes([port[0], port[1]])))
}

#[test]
fn a_proxy_from_the_environment_is_used() {
    if archive().is_none() {
        return;
    }
    // A name that nobody resolves: only through the proxy is there a way.
    let server = Server::of_archive_as(identity("lnd.invalid", |_| ()), |_, to| give(to, ""));
    let (tunnel, tunnelled) = start_proxy(server.port, open_tunnel);
    let (socks, asked_of_socks) = start_proxy(server.port, open_socks);
    for (name, value) in
        [("HTTPS_PROXY", format!("http://127.0.0.1:{tunnel}")), ("ALL_PROXY", format!("socks5h://127.0.0.1:{socks}"))]
    {
        let (output, left) = fetch_with("https://lnd.invalid/lnd", &[&server.pem], &[(name, &value)]);
        assert_eq!(outcome(&output, &left), "kept", "{name}={value}");
    }
    // The archive, and the manifest after it.
    assert_eq!(*tunnelled.lock().unwrap(), ["CONNECT lnd.invalid:443 HTTP/1.1"; 2]);
    assert_eq!(*asked_of_socks.lock().unwrap(), ["lnd.invalid:443"; 2]);
    let (output, left) =
        fetch_with("https://lnd.invalid/lnd", &[&server.pem], &[("ALL_PROXY", "socks5h://127.0.0.1:1")]);
    assert_eq!(outcome(&output, &left), "3 E-RELEASE-011", "no way around a proxy that is down");
}

#[test]
fn what_was_there_stays_where_a_download_fails() {
    let server = Server::of_archive(|_, to| head(to, "404 Not Found", 0, ""));
    let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (roots, place) = (home.path().join("roots.pem"), out.path().join(NAME));
    std::fs::write(&roots, &server.pem).unwrap();
    std::fs::write(&place, "before").unwrap();
    let program = Program::new(lab::LSM).args(["release", "fetch", VERSION, "--arch", "amd64", "--out"]);
    let program = program.arg(out.path()).env("LSM_RELEASE_BASE", server.base()).env("SSL_CERT_FILE", &roots);
    assert_eq!(program.env("SSL_CERT_DIR", "").output().unwrap().status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(Path::new(&place)).unwrap(), "before");
}
