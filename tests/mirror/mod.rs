//! A mirror of lnd's releases: a TLS server on loopback that answers as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Clone)]
pub struct Request {
    /// The path.
    pub path: String,
    pub head: Vec<String>,
    /// Which one it is, from 0.
    pub number: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
        self.head.iter().find(named).map(|line| &line[name.len() + 2..])
    }

    /// Where it wants the file to begin.
    pub fn from(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        range.unwrap_or(0)
    }
}

/// A certificate that a server shows, and the root that clients trust.
pub struct Identity {
    pub certificate: rustls::pki_types::CertificateDer<'static>,
    pub key: rustls::pki_types::PrivateKeyDer<'static>,
    pub pem: String,
}

pub fn identity(name: &str, set: impl FnOnce(&mut rcgen::CertificateParams)) -> Identity {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    set(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        certificate: certificate.der().clone(),
        key: rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        pem: certificate.pem(),
    }
}

/// A TLS server on loopback.
pub struct Server {
    pub port: u16,
    pub pem: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each connection's one request with `answer`, then closes the connection without a word.
    pub fn start(answer: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_as(identity("localhost", |_| ()), answer)
    }

    /// The same with the archive alone: whoever asks for a manifest or a signature is told that it is not there, which
    /// is not noted.
    pub fn of_archive(
        answer: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::of_archive_as(identity("localhost", |_| ()), answer)
    }

    pub fn of_archive_as(
        identity: Identity,
        answer: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let is_paper = |request: &Request| request.path.contains("/manifest-");
        Self::start_lacking(identity, answer, is_paper)
    }

    pub fn start_as(
        identity: Identity,
        answer: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_lacking(identity, answer, |_| false)
    }

    fn start_lacking(
        identity: Identity,
        answer: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
        lacks: fn(&Request) -> bool,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .unwrap();
        let (config, answer, asked) = (Arc::new(config), Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                std::thread::spawn(move || {
                    let Some(mut request) = read_request(&mut stream) else { return };
                    if lacks(&request) {
                        let _ = head(&mut stream, "404 Not Found", 0, "").and_then(|()| stream.flush());
                        return;
                    }
                    {
                        let mut noted = noted.lock().unwrap();
                        request.number = noted.len();
                        noted.push(request.clone());
                    }
                    // A client that hangs up is what some of these tests are about.
                    let _ = answer(&request, &mut stream).and_then(|()| stream.flush());
                });
            }
        });
        Self { port, pem: identity.pem, asked }
    }

    pub fn base(&self) -> String {
        format!("https://localhost:{}/lnd", self.port)
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(|l| l.ok());
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    Some(Request { path, head: lines.take_while(|l| !l.is_empty()).collect(), number: 0 })
}

/// The head of an answer that is whole when `length` bytes were sent.
pub fn head(to: &mut dyn Write, status: &str, length: usize, more: &str) -> std::io::Result<()> {
    write!(to, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
}
