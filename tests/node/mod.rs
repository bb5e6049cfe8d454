//! Real lnds for tests: each in a folder of its own, on free ports, killed when dropped.

pub mod hot;
pub mod signer;

use lsm::signer::Node;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::Endpoint;
use lsm::signer::wallet::State;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The versions under test that LSM_TEST_LND_DIR has, as VERSION/lnd and VERSION/lncli.
pub fn versions(test: &str) -> Vec<(String, PathBuf)> {
    let Some(folder) = std::env::var_os("LSM_TEST_LND_DIR") else {
        println!("SKIP {test}: LSM_TEST_LND_DIR names no folder with VERSION/lnd");
        return Vec::new();
    };
    let found = ["v0.20.0-beta", "v0.21.3-beta"].into_iter().filter_map(|version| {
        let lnd = Path::new(&folder).join(version).join("lnd");
        if lnd.is_file() {
            return Some((version.to_owned(), lnd));
        }
        println!("SKIP {test} with {version}: {} is not there", lnd.display());
        None
    });
    found.collect()
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    // None of those that the kernel gives to whoever dials out: another test might have it before it is listened on.
    let free = (0..100).find_map(|_| {
        let mut number = [0; 2];
        getrandom::fill(&mut number).ok()?;
        TcpListener::bind(("127.0.0.1", 20_000 + u16::from_ne_bytes(number) % 12_000)).ok()
    });
    free.expect("a port").local_addr().expect("its address").port()
}

/// A certificate and its key, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A self-signed certificate for `names`, valid from `days.0` to `days.1` days from now.
pub fn make_certificate(names: &[&str], days: (i64, i64)) -> Pair {
    make_certificate_for(names, time::Duration::days(days.0), time::Duration::days(days.1))
}

/// The same, valid from `begin` to `end` from now.
pub fn make_certificate_for(names: &[&str], begin: time::Duration, end: time::Duration) -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now + begin;
    params.not_after = now + end;
    // As lnd's own: self-signed with CA:TRUE, which a client must accept as a pin.
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// A running lnd.
pub struct Lnd {
    child: Child,
    pub lnd: PathBuf,
    pub folder: PathBuf,
    pub port: u16,
    pub certificate: Certificate,
}

impl Lnd {
    /// Starts `lnd` as a signer on regtest in `folder`, on a unix socket and on 127.0.0.1.
    pub fn start_signer(lnd: &Path, folder: &Path, pair: &Pair, more: &[&str]) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("tls.cert"), &pair.certificate).unwrap();
        std::fs::write(folder.join("tls.key"), &pair.key).unwrap();
        let port = free_port();
        let socket = folder.join("lnd.sock");
        let _ = std::fs::remove_file(&socket);
        let child = Command::new(lnd)
            .arg(format!("--lnddir={}", folder.display()))
            .arg(format!("--rpclisten=127.0.0.1:{port}"))
            .arg(format!("--rpclisten=unix://{}", socket.display()))
            .args([
                "--bitcoin.regtest",
                "--bitcoin.node=nochainbackend",
                "--nolisten",
                "--norest",
                "--tlsdisableautofill",
            ])
            .args(["--nobootstrap", "--debuglevel=info"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let certificate = Certificate::parse_pem(pair.certificate.as_bytes()).unwrap();
        Self { child, lnd: lnd.to_owned(), folder: folder.to_owned(), port, certificate }
    }

    pub fn unix(&self) -> Node {
        Node::new(Endpoint::Unix(self.folder.join("lnd.sock")), &self.certificate)
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port }
    }

    pub fn tcp(&self) -> Node {
        Node::new(self.endpoint(), &self.certificate)
    }

    pub fn wait(&self, state: State) {
        self.unix().wait_for(|s| s == state, Duration::from_secs(60)).unwrap();
    }

    pub fn macaroon_path(&self) -> PathBuf {
        self.folder.join("data/chain/bitcoin/regtest/admin.macaroon")
    }

    /// Runs the lncli beside this lnd and returns its output.
    pub fn lncli(&self, args: &[&str]) -> Vec<u8> {
        let output = Command::new(self.lnd.with_file_name("lncli"))
            .arg(format!("--rpcserver=127.0.0.1:{}", self.port))
            .arg(format!("--lnddir={}", self.folder.display()))
            .arg("--network=regtest")
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Lnd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
