//! Two real lnds, a signer and a watch-only one, from bundle to proved signature; each fault caused for real and named.

use crate::lab::LSM;
use crate::node::hot::{Hot, holds_keys, make_hot, node_in};
use crate::node::signer::{Signer, start_signer};
use crate::node::{Lnd, Pair, free_port, make_certificate, versions};
use lsm::bundle::Bundle;
use lsm::error::Result;
use lsm::host::process;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::{self, Endpoint};
use lsm::signer::macaroon::{self, Permission};
use lsm::signer::wallet::State;
use lsm::signer::{self, Node};
use lsm::spec::Network;
use lsm::watch_only::conf::Flavour;
use lsm::watch_only::request::Start;
use lsm::watch_only::{self, Change, CheckRequest, Checked, InitRequest, Ready};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

impl Signer {
    fn check(&self) -> Result<Checked> {
        self.check_at(None)
    }

    fn check_at(&self, signer_host: Option<Endpoint>) -> Result<Checked> {
        watch_only::check(CheckRequest {
            bundle: Some(self.bundle()),
            lnddir: None,
            conf: None,
            flavour: Flavour::Lnd,
            signer_host,
            network: None,
        })
    }
}

fn pair() -> Pair {
    make_certificate(&["127.0.0.1"], (-1, 30))
}

fn code<T>(result: Result<T>) -> &'static str {
    result.err().expect("a fault").code().id
}

fn init(signer: &Signer, lnddir: &Path, lnd: Option<&Path>) -> Result<Ready> {
    watch_only::init(request(signer, lnddir, lnd))
}

fn request(signer: &Signer, lnddir: &Path, lnd: Option<&Path>) -> InitRequest {
    InitRequest {
        bundle: signer.bundle(),
        lnddir: lnddir.to_owned(),
        signer_host: None,
        flavour: Flavour::Lnd,
        lnd: lnd.map(|lnd| Start::Program(lnd.to_owned())),
        conf: None,
        network: None,
        recovery_window: None,
        owner: None,
        migrate: false,
    }
}

/// An operator's settings for a second lnd on this machine.
fn write_settings(lnddir: &Path) -> String {
    std::fs::create_dir_all(lnddir).unwrap();
    let own =
        format!("# mine\n[Application Options]\nrpclisten=127.0.0.1:{}\nnorest=true\nnolisten=true\n", free_port());
    std::fs::write(lnddir.join("lnd.conf"), &own).unwrap();
    own
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn stop(ready: &Ready, lnd: &Path) {
    let folder = ready.conf.parent().unwrap();
    process::stop(&folder.join(watch_only::PID_FILE), lnd).unwrap();
}

#[test]
fn a_bundle_becomes_a_watch_only_node_whose_signer_signs() {
    for (version, lnd) in versions("a_bundle_becomes_a_watch_only_node_whose_signer_signs") {
        let folder = tempfile::tempdir().unwrap();
        let signer = start_signer(&version, &lnd, folder.path(), &pair());
        let lnddir = folder.path().join("agent");
        let own = write_settings(&lnddir);

        // A dry run says it all, and changes nothing.
        let plan = || watch_only::plan(request(&signer, &lnddir, Some(&lnd))).unwrap();
        let planned = plan();
        let is_as_planned = matches!(
            planned[..],
            [
                Change::Bundle { .. },
                Change::Password { .. },
                Change::Settings { .. },
                Change::Start { .. },
                Change::Wallet
            ]
        );
        assert!(is_as_planned, "{planned:?}");
        let lines: Vec<String> = planned.iter().flat_map(Change::lines).cloned().collect();
        assert_eq!(std::fs::read_to_string(lnddir.join("lnd.conf")).unwrap(), own);
        assert_eq!(std::fs::read_dir(&lnddir).unwrap().count(), 1);

        let ready = init(&signer, &lnddir, Some(&lnd)).unwrap();
        assert!(ready.created);
        assert_eq!(ready.proof.identity_pubkey, signer.owner().info().unwrap().identity_pubkey);
        let settings = std::fs::read_to_string(lnddir.join("lnd.conf")).unwrap();
        assert!(settings.starts_with(&own), "the operator's lines stay: {settings}");
        assert!(settings.contains(&lines.join("\n")) && lines.len() > 5, "{lines:?}: {settings}");
        for name in ["tls.cert", "admin.macaroon", "accounts.json", "bundle.json"] {
            assert_eq!(mode(&lnddir.join("signer-credentials").join(name)), 0o600, "{name}");
        }
        assert_eq!(mode(&lnddir.join("signer-credentials")), 0o700);
        assert_eq!(mode(&lnddir.join("wallet-password.txt")), 0o600);

        assert!(plan().is_empty());
        // Again, with the node running: nothing is made, nothing piles up, the password is the same.
        let password = std::fs::read(lnddir.join("wallet-password.txt")).unwrap();
        let again = init(&signer, &lnddir, Some(&lnd)).unwrap();
        assert!(!again.created && again.pid.is_none());
        assert_eq!(std::fs::read_to_string(lnddir.join("lnd.conf")).unwrap(), settings);
        assert_eq!(std::fs::read(lnddir.join("wallet-password.txt")).unwrap(), password);

        // check, from what init left in the folder alone, through the signer and through the node.
        let check = |lnddir: &Path| {
            watch_only::check(CheckRequest {
                bundle: None,
                lnddir: Some(lnddir.to_owned()),
                conf: None,
                flavour: Flavour::Lnd,
                signer_host: None,
                network: None,
            })
        };
        let checked = check(&lnddir).unwrap();
        assert_eq!(checked.through_node.unwrap().identity_pubkey, ready.proof.identity_pubkey);

        // It comes up again by itself: lnd unlocks with the kept password.
        stop(&ready, &lnd);
        assert_eq!(plan(), [Change::Start { lnd: lnd.display().to_string() }]);
        // A node that is down is no node that signs, although its signer does.
        assert_eq!(code(check(&lnddir)), "E-WATCH-031");
        let ready = init(&signer, &lnddir, Some(&lnd)).unwrap();
        assert!(!ready.created);
        stop(&ready, &lnd);
        drop(ready);

        // Another signer's bundle does not get this wallet.
        let other = start_signer(&version, &lnd, &folder.path().join("other"), &pair());
        assert_eq!(code(init(&other, &lnddir, Some(&lnd))), "E-WATCH-020");
        assert_eq!(std::fs::read_to_string(lnddir.join("lnd.conf")).unwrap(), settings);
        assert_eq!(code(check(&lnddir)), "E-WATCH-031", "the folder's own credentials are still there, and good");
    }
}

#[test]
fn a_node_that_had_its_keys_gives_them_up_once_they_are_the_signers() {
    for (version, lnd) in versions("a_node_that_had_its_keys_gives_them_up_once_they_are_the_signers") {
        let folder = tempfile::tempdir().unwrap();
        let signer = start_signer(&version, &lnd, folder.path(), &pair());
        let (lnddir, foreign) = (folder.path().join("agent"), folder.path().join("foreign"));
        let (hot, port) = make_hot(&lnd, &lnddir, Some(&signer.seed));
        let conf = |lnddir: &Path| std::fs::read_to_string(lnddir.join("lnd.conf")).unwrap();
        let own = conf(&lnddir);
        assert!(holds_keys(&lnddir, port));
        let migrate =
            |lnddir: &Path| watch_only::init(InitRequest { migrate: true, ..request(&signer, lnddir, Some(&lnd)) });

        assert_eq!(code(init(&signer, &lnddir, Some(&lnd))), "E-WATCH-027");
        assert_eq!(code(migrate(&lnddir)), "E-WATCH-028");
        assert_eq!(conf(&lnddir), own, "nothing was changed");
        drop(hot);
        // Where lnd has to be started before that shows, all is as it was afterwards.
        let is_as_it_was =
            |lnddir: &Path, own: &str| conf(lnddir) == own && !lnddir.join("signer-credentials").exists();
        assert_eq!(code(init(&signer, &lnddir, Some(&lnd))), "E-WATCH-027");
        assert!(is_as_it_was(&lnddir, &own));
        // Nor is anything purged that nobody was asked about, or by a dry run.
        let lsm = |more: &[&str]| {
            // Without a terminal.
            let mut command = Command::new("setsid");
            command.args(["--wait", LSM, "watch-only", "init", "--migrate", "--seed-verified", "--bundle"]);
            command.arg(&signer.bundle).arg("--lnddir").arg(&lnddir).arg("--lnd").arg(&lnd).args(more);
            crate::lab::process::run(command)
        };
        let unasked = lsm(&[]);
        assert!(unasked.code == 2 && unasked.stderr.contains("[E-UI-001]"), "{unasked:?}");
        let planned = lsm(&["--dry-run", "--json"]).json();
        let kinds: Vec<_> = planned["steps"].as_array().unwrap().iter().map(|step| step["kind"].clone()).collect();
        assert_eq!(kinds, ["bundle", "settings", "purge", "start"]);
        assert!(is_as_it_was(&lnddir, &own));

        let ready = migrate(&lnddir).unwrap();
        assert!(ready.migrated && !ready.created);
        assert_eq!(ready.proof.identity_pubkey, signer.owner().info().unwrap().identity_pubkey);
        assert!(!holds_keys(&lnddir, port), "{version}");
        let settings = conf(&lnddir);
        assert!(settings.starts_with(&own) && !settings.contains("migrate"), "{settings}");
        stop(&ready, &lnd);

        // Appended settings stand where they were put, and lnd takes them.
        let appended = format!("{settings}alias=after\n");
        std::fs::write(lnddir.join("lnd.conf"), &appended).unwrap();
        let again = migrate(&lnddir).unwrap();
        assert!(!again.migrated && conf(&lnddir) == appended);
        stop(&again, &lnd);
        // Without its signer it is nothing any more: lnd itself says that it has no keys.
        std::fs::write(lnddir.join("lnd.conf"), &own).unwrap();
        assert!(!Hot::start(&lnd, &lnddir).end().success());

        // Another wallet is not touched.
        let (hot, port) = make_hot(&lnd, &foreign, None);
        drop(hot);
        let own = conf(&foreign);
        for refused in [migrate(&foreign), init(&signer, &foreign, Some(&lnd))] {
            assert_eq!(code(refused), "E-WATCH-020");
            assert!(is_as_it_was(&foreign, &own));
        }
        let hot = Hot::start(&lnd, &foreign);
        node_in(&foreign, port).wait_for(|s| s == State::Active, DEADLINE).unwrap();
        assert!(holds_keys(&foreign, port));
        drop(hot);
    }
    let mut ungated = Command::new(LSM);
    ungated.args(["watch-only", "init", "--bundle=x", "--lnddir=x", "--lnd=x", "--migrate"]);
    let output = ungated.output().unwrap();
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("--seed-verified"));
}

#[test]
fn each_fault_is_named_with_its_own_code() {
    let Some((version, lnd)) = versions("each_fault_is_named_with_its_own_code").pop() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pair = pair();
    let signer = start_signer(&version, &lnd, folder.path(), &pair);
    signer.check().unwrap();
    let least = macaroon::signer_permissions(false, &signer.owner().known_uris().unwrap()).unwrap();
    let pin = &signer.lnd.certificate;
    let at = |host: &str, port| Some(Endpoint::Tcp { host: host.to_owned(), port });

    assert_eq!(code(signer.check_at(at("127.0.0.1", free_port()))), channel::REFUSED.id);
    assert_eq!(code(signer.check_at(at("localhost", signer.lnd.port))), channel::NOT_ITS_NAME.id);
    signer.write_bundle(&version, &[Permission::uri("/signrpc.Signer/DeriveSharedKey")], 6, pin);
    assert_eq!(code(signer.check()), signer::NOT_PERMITTED.id);
    let lnddir = folder.path().join("untouched");
    assert_eq!(code(init(&signer, &lnddir, Some(&lnd))), "E-BUNDLE-007");
    assert!(!lnddir.exists(), "a signer that does not sign changes nothing here");
    signer.write_bundle(&version, &least, 7, pin);
    signer.check().unwrap();
    assert!(signer.owner().delete_root_key(7).unwrap());
    assert_eq!(code(signer.check()), signer::MACAROON_REFUSED.id);
    let other = Certificate::parse_pem(make_certificate(&["127.0.0.1"], (-1, 30)).certificate.as_bytes()).unwrap();
    signer.write_bundle(&version, &least, 8, &other);
    assert_eq!(code(signer.check()), channel::OTHER_CERTIFICATE.id);
    signer.write_bundle(&version, &least, 8, pin);

    // Locked: restarted and not unlocked. The bundle outlives the restart.
    let (bundle, password, seed, old) = (signer.bundle.clone(), signer.password, signer.seed, signer.lnd);
    let home = old.folder.clone();
    drop(old);
    let again = Lnd::start_signer(&lnd, &home, &pair, &[]);
    again.wait(State::Locked);
    let signer = Signer { lnd: again, admin: signer.admin, bundle, password, seed };
    let here = Some(signer.lnd.endpoint());
    assert_eq!(code(signer.check_at(here.clone())), signer::LOCKED.id);
    signer.lnd.unix().unlock(&signer.password).unwrap();
    signer.lnd.wait(State::Active);
    signer.check_at(here).unwrap();
}

#[test]
fn dates_alpn_and_what_is_no_tls_are_named() {
    use std::io::Write as _;
    let server = |alpn: &[&[u8]], pair: &Pair| -> (u16, Certificate) {
        let (port, certificate) = (serve_tls(alpn, pair), Certificate::parse_pem(pair.certificate.as_bytes()).unwrap());
        (port, certificate)
    };
    let probe = |port: u16, pin: &Certificate| Node::new(Endpoint::Tcp { host: "127.0.0.1".into(), port }, pin).probe();
    let (port, pin) = server(&[b"h2"], &pair());
    probe(port, &pin).unwrap();
    let (port, pin) = server(&[b"h2"], &make_certificate(&["127.0.0.1"], (-9, -1)));
    assert_eq!(code(probe(port, &pin)), channel::OUT_OF_DATE.id);
    let (port, pin) = server(&[b"h2"], &make_certificate(&["127.0.0.1"], (1, 9)));
    assert_eq!(code(probe(port, &pin)), channel::OUT_OF_DATE.id);
    let (port, pin) = server(&[], &pair());
    assert_eq!(code(probe(port, &pin)), channel::NO_H2.id);
    let (port, pin) = server(&[b"http/1.1"], &pair());
    assert_eq!(code(probe(port, &pin)), channel::NO_H2.id);

    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    let talker = std::thread::spawn(move || {
        let (mut first, _) = plain.accept().unwrap();
        first.write_all(b"SSH-2.0-not-lnd\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(plain.accept().unwrap());
    });
    assert_eq!(code(probe(port, &pin)), channel::NOT_TLS.id);
    assert_eq!(code(probe(port, &pin)), channel::HUNG_UP.id);
    talker.join().unwrap();
}

/// A TLS server that shakes hands once and offers `alpn`.
fn serve_tls(alpn: &[&[u8]], pair: &Pair) -> u16 {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    use std::io::Read as _;
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    settings.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(std::sync::Arc::new(settings)).unwrap();
        let _ = rustls::StreamOwned::new(connection, socket).read(&mut [0; 64]);
    });
    port
}

#[test]
fn a_bundle_is_read_in_every_form_and_a_bad_one_in_none() {
    let Some((version, lnd)) = versions("a_bundle_is_read_in_every_form_and_a_bad_one_in_none").pop() else { return };
    let folder = tempfile::tempdir().unwrap();
    let signer = start_signer(&version, &lnd, folder.path(), &pair());
    let identity = signer.bundle().identity_pubkey().to_owned();
    assert_eq!(mode(&signer.bundle), 0o700);
    let archive = signer.bundle.join("credentials-bundle.tar.gz.b64");
    assert_eq!(mode(&archive), 0o600);
    let text = std::fs::read_to_string(&archive).unwrap();
    let crlf = folder.path().join("crlf.b64");
    std::fs::write(&crlf, text.replace('\n', "\r\n")).unwrap();
    for good in [
        archive.to_str().unwrap(),
        crlf.to_str().unwrap(),
        &text,
        &text.replace('\n', "\r\n"),
        &text.replace('\n', " "),
        &text.replace('\n', ""),
    ] {
        assert_eq!(Bundle::read(good).unwrap().identity_pubkey(), identity);
    }

    // The original system's own steps take it: base64 -d, tar -xzf, and the three files are there.
    let unpacked = folder.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let script = format!("base64 -d {} | tar -xzf - -C {}", archive.display(), unpacked.display());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let mut original = Bundle::read(unpacked.to_str().unwrap()).unwrap();
    assert_eq!(original.about, signer.bundle().about);
    // And one of the original's, which has no bundle.json, is taken with what follows from it.
    std::fs::remove_file(unpacked.join("bundle.json")).unwrap();
    let mut old = Bundle::read(unpacked.to_str().unwrap()).unwrap();
    assert_eq!((old.about.network, old.identity_pubkey()), (None, identity.as_str()));
    assert_eq!(code(old.settle_network(None)), "E-BUNDLE-005");
    assert_eq!(code(old.settle_network(Some(Network::Mainnet))), "E-BUNDLE-005");
    assert_eq!(original.settle_network(None).unwrap(), Network::Regtest);

    let half = &text[..text.len() / 2 / 77 * 77];
    for (bad, expected) in [
        ("/no/such/bundle", "E-BUNDLE-020"),
        ("credentials-bundel", "E-BUNDLE-020"),
        ("H4sI!", "E-BUNDLE-021"),
        (half, "E-BUNDLE-010"),
        ("", "E-BUNDLE-020"),
    ] {
        assert_eq!(code(Bundle::read(bad)), expected, "{}", &bad[..bad.len().min(30)]);
    }
    spoil(&signer, &folder.path().join("spoilt"));
}

/// One member after the other is altered, and each time the bundle is refused.
fn spoil(signer: &Signer, folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let reset = || {
        for name in ["accounts.json", "tls.cert", "admin.macaroon", "bundle.json"] {
            let _ = std::fs::remove_file(folder.join(name));
            std::fs::copy(signer.bundle.join(name), folder.join(name)).unwrap();
        }
    };
    let replace = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "{name} {from}");
        std::fs::write(folder.join(name), text.replacen(from, to, 1)).unwrap();
        let refused = code(Bundle::read(folder.to_str().unwrap()));
        reset();
        refused
    };
    reset();
    Bundle::read(folder.to_str().unwrap()).unwrap();
    assert_eq!(replace("accounts.json", "act:1", "act:x"), "E-BUNDLE-003");
    assert_eq!(replace("accounts.json", "m/1017'/1'/6'", "m/1017'/1'/666'"), "E-ACCT-001");
    assert_eq!(replace("accounts.json", "tpub", "tpuB"), "E-ACCT-001");
    assert_eq!(replace("accounts.json", "{", "["), "E-ACCT-001");
    assert_eq!(replace("tls.cert", "BEGIN", "BEGUN"), "E-CERT-001");
    assert_eq!(replace("bundle.json", "identity_pubkey\": \"0", "identity_pubkey\": \"1"), "E-BUNDLE-003");
    assert_eq!(replace("bundle.json", "\"format\": 1", "\"format\": 2"), "E-BUNDLE-004");
    assert_eq!(replace("bundle.json", "regtest", "mainnet"), "E-BUNDLE-005");
    assert_eq!(replace("bundle.json", "}", ""), "E-BUNDLE-002");
    std::fs::write(folder.join("admin.macaroon"), b"nonsense").unwrap();
    assert_eq!(code(Bundle::read(folder.to_str().unwrap())), "E-MAC-001");
    reset();
    std::fs::remove_file(folder.join("tls.cert")).unwrap();
    assert_eq!(code(Bundle::read(folder.to_str().unwrap())), "E-BUNDLE-001");
    std::os::unix::fs::symlink(signer.bundle.join("tls.cert"), folder.join("tls.cert")).unwrap();
    assert_eq!(code(Bundle::read(folder.to_str().unwrap())), "E-BUNDLE-021");
}
