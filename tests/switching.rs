//! Between the shell scripts and lsm: their import and wallet creation take lsm's bundle, lsm takes theirs, and a signer that
//! lsm did not install is exported over its port.

use crate::lab;
use crate::lab::process::{self, Done};
use crate::node::signer::{BIRTHDAY, Signer, start_signer};
use crate::node::{free_port, make_certificate, versions};
use lsm::bundle::Bundle;
use lsm::signer::{Node, macaroon};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// What import-credentials.sh does with its bundle, $1, and a folder, $2.
const IMPORT: &str = r#"set -e
mkdir -p "$2"; chmod 700 "$2"
if [ -d "$1" ]; then
    cp "$1/accounts.json" "$1/tls.cert" "$1/admin.macaroon" "$2"
elif [ -f "$1" ]; then
    base64 -d "$1" | tar -xzf - -C "$2"
else
    echo "$1" | base64 -d | tar -xzf - -C "$2"
fi
chmod 600 "$2/accounts.json" "$2/tls.cert" "$2/admin.macaroon""#;

/// What create-wallet.sh does with the accounts, $1, a password's file, $2, and the port of lnd's REST, $3.
const CREATE: &str = r#"set -e
jq --arg password "$(base64 -w0 <"$2")" '
    def number: rtrimstr("'"'"'") | tonumber;
    { wallet_password: $password,
      watch_only: {
        master_key_birthday_timestamp: "0",
        accounts: [ .accounts[] | (.derivation_path | split("/")) as $path |
            { purpose: $path[1] | number, coin_type: $path[2] | number, account: $path[3] | number,
              xpub: .extended_public_key } ] } }' "$1" >"$1.request"
curl -sk -X POST -d @"$1.request" "https://localhost:$3/v1/initwallet""#;

/// What export-credentials.sh does: lncli and its options, then --; the certificate, the macaroon, the folder of the bundle.
const EXPORT: &str = r#"set -e
lncli=; while [ "$1" != -- ]; do lncli="$lncli $1"; shift; done; shift
mkdir -p "$3"; chmod 700 "$3"
$lncli wallet accounts list >"$3/accounts.json"
cp "$1" "$3/tls.cert"; cp "$2" "$3/admin.macaroon"
tar -czf - -C "$3" accounts.json tls.cert admin.macaroon | base64 >"$3.tar.gz.b64""#;

/// Runs one of the scripts' steps.
fn script<A: AsRef<std::ffi::OsStr>>(text: &str, args: impl IntoIterator<Item = A>) -> Done {
    let mut command = Command::new("bash");
    command.args(["-c", text, "bash"]).args(args);
    process::run(command)
}

fn lsm<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Done {
    let mut command = Command::new(lab::LSM);
    // Nothing but itself: no tar, no gzip.
    command.args(args).env("PATH", "/nonexistent");
    process::run(command)
}

/// A signer on this machine's loopback, with a bundle of lsm's.
fn signer(version: &str, lnd: &Path, folder: &Path) -> Signer {
    start_signer(version, lnd, folder, &make_certificate(&["127.0.0.1", "localhost"], (-1, 30)))
}

/// Every file in `folder` with its mode and content.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        (path.clone(), (meta.permissions().mode() & 0o7777, fs::read(path).unwrap()))
    };
    fs::read_dir(folder).unwrap().map(file).collect()
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node as create-wallet.sh starts it.
struct ScriptNode {
    folder: PathBuf,
    lnd: PathBuf,
    rest: u16,
    rpc: u16,
    _running: Running,
}

impl ScriptNode {
    fn start(lnd: &Path, folder: &Path, credentials: &Path, rpchost: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let password = folder.join("wallet-password.txt");
        fs::write(&password, "a password of the scripts").unwrap();
        let (rest, rpc) = (free_port(), free_port());
        // No chain where theirs has neutrino, and no peers' port, which another node of this machine may have.
        let running = Command::new(lnd)
            .arg(format!("--lnddir={}", folder.display()))
            .args(["--bitcoin.regtest", "--bitcoin.node=nochainbackend", "--db.backend=sqlite", "--nolisten"])
            .args([format!("--restlisten=localhost:{rest}"), format!("--rpclisten=localhost:{rpc}")])
            .arg(format!("--wallet-unlock-password-file={}", password.display()))
            .args(["--wallet-unlock-allow-create", "--remotesigner.enable"])
            .arg(format!("--remotesigner.rpchost={rpchost}"))
            .arg(format!("--remotesigner.tlscertpath={}", credentials.join("tls.cert").display()))
            .arg(format!("--remotesigner.macaroonpath={}", credentials.join("admin.macaroon").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder: folder.into(), lnd: lnd.into(), rest, rpc, _running: Running(running) }
    }

    fn await_state(&self, state: &str) {
        let url = format!("https://localhost:{}/v1/state", self.rest);
        lab::wait_for(state, PATIENCE, || {
            let said = script("curl -sk --max-time 5 \"$1\"", [&url]).stdout;
            said.contains(&format!("\"{state}\"")).then_some(())
        });
    }

    fn lncli(&self, args: &[&str]) -> Value {
        let mut command = Command::new(self.lnd.with_file_name("lncli"));
        command.args([format!("--lnddir={}", self.folder.display()), format!("--rpcserver=localhost:{}", self.rpc)]);
        command.arg("--network=regtest").args(args);
        process::run(command).json()
    }
}

#[test]
fn the_scripts_own_steps_take_lsms_bundle() {
    if script("command -v jq curl", [""; 0]).code != 0 {
        return lab::skip("there is no jq or no curl");
    }
    for (version, lnd) in versions("the_scripts_own_steps_take_lsms_bundle") {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let signer = signer(&version, &lnd, folder.path());
        let archive = signer.bundle.join("credentials-bundle.tar.gz.b64");
        let text = lsm(["bundle", "show", "--base64", "--bundle", signer.bundle.to_str().unwrap()]).ok();
        assert_eq!(text, fs::read_to_string(&archive).unwrap());
        let one_line = text.replace('\n', "");
        let forms = [signer.bundle.to_str().unwrap(), archive.to_str().unwrap(), &text, &one_line];
        for (number, form) in forms.into_iter().enumerate() {
            let to = at(&format!("imported-{number}"));
            script(IMPORT, [form, to.to_str().unwrap()]).ok();
            for name in ["accounts.json", "tls.cert", "admin.macaroon"] {
                assert_eq!(fs::read(to.join(name)).unwrap(), fs::read(signer.bundle.join(name)).unwrap(), "{name}");
            }
        }

        let credentials = at("imported-1");
        let node = ScriptNode::start(&lnd, &at("node"), &credentials, &signer.lnd.endpoint().to_string());
        node.await_state("NON_EXISTING");
        let accounts = credentials.join("accounts.json");
        let password = at("node/wallet-password.txt");
        let rest = node.rest.to_string();
        let said = script(CREATE, [accounts.to_str().unwrap(), password.to_str().unwrap(), &rest]).json();
        assert!(said["admin_macaroon"].is_string(), "{said}");
        node.await_state("SERVER_ACTIVE");
        let identity = signer.bundle().identity_pubkey().to_owned();
        assert_eq!(node.lncli(&["getinfo"])["identity_pubkey"], identity);
        let signed = node.lncli(&["signmessage", "switched"])["signature"].as_str().unwrap().to_owned();
        lsm::signer::proof::verify_node_signature(b"switched", &signed, &identity).unwrap();
        assert!(node.lncli(&["newaddress", "p2tr"])["address"].as_str().unwrap().starts_with("bcrt1p"));
    }
}

/// Makes a bundle as the scripts do: full admin, no bundle.json, the archive beside the folder.
fn export_as_the_scripts(signer: &Signer, folder: &Path) -> PathBuf {
    let (home, bundle) = (&signer.lnd.folder, folder.join("credentials-bundle"));
    let admin = folder.join("admin.macaroon");
    fs::write(&admin, signer.admin.expose()).unwrap();
    let file = |path: PathBuf| path.to_str().unwrap().to_owned();
    let args = [
        file(signer.lnd.lnd.with_file_name("lncli")),
        format!("--rpcserver=127.0.0.1:{}", signer.lnd.port),
        format!("--lnddir={}", home.display()),
        "--network=regtest".to_owned(),
        format!("--macaroonpath={}", admin.display()),
        "--".to_owned(),
        file(home.join("tls.cert")),
        file(admin),
        file(bundle.clone()),
    ];
    script(EXPORT, args).ok();
    bundle
}

#[test]
fn a_bundle_of_the_scripts_becomes_a_node() {
    let Some((version, lnd)) = versions("a_bundle_of_the_scripts_becomes_a_node").pop() else { return };
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(&version, &lnd, folder.path());
    let theirs = export_as_the_scripts(&signer, folder.path());
    let archive = theirs.with_file_name("credentials-bundle.tar.gz.b64");
    let wrapped = fs::read_to_string(&archive).unwrap();
    assert!(wrapped.lines().count() > 100, "GNU base64 wraps it");
    assert!(!theirs.join("bundle.json").exists());

    let lnddir = folder.path().join("agent");
    fs::create_dir(&lnddir).unwrap();
    // A password that their shell would have taken for an option, and longer than their encoding stood.
    let password = folder.path().join("password");
    fs::write(&password, format!("-n {}", "x".repeat(90))).unwrap();
    let conf = format!(
        "rpclisten=127.0.0.1:{}\nnorest=true\nnolisten=true\nwallet-unlock-password-file={}\nwallet-unlock-allow-create=true\n",
        free_port(),
        password.display()
    );
    fs::write(lnddir.join("lnd.conf"), conf).unwrap();
    let to = lnddir.to_str().unwrap();
    for form in [theirs.to_str().unwrap(), archive.to_str().unwrap(), &wrapped, &wrapped.replace('\n', "")] {
        let said = lsm(["bundle", "import", "--network=regtest", "--lnddir", to, "--bundle", form]).ok();
        let next = said.lines().find_map(|line| line.strip_prefix("next: lsm ")).expect("what to do next");
        assert!(next.ends_with(" --signer-host HOST:PORT"), "their bundle does not say it: {next}");
        let next = next.replace("HOST:PORT", &signer.lnd.endpoint().to_string());
        fs::write(folder.path().join("next"), next).unwrap();
    }
    // As it was printed: no network has to be named any more.
    let next = fs::read_to_string(folder.path().join("next")).unwrap();
    let next = next.split(' ').chain(["--json", "--lnd", lnd.to_str().unwrap()]);
    let ready = lsm(next.clone()).json();
    let identity = signer.bundle().identity_pubkey().to_owned();
    assert_eq!((&ready["created"], &ready["proof"]["identity_pubkey"]), (&true.into(), &identity.into()));
    let stop = || lsm::host::process::stop(&lnddir.join(lsm::watch_only::PID_FILE), &lnd).unwrap();
    stop();
    // Unlocked with that password by itself.
    assert_eq!(lsm(next).json()["created"], false);
    stop();
}

/// An age key's file, and its recipient.
fn make_key(folder: &Path, name: &str) -> (PathBuf, String) {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).unwrap();
    let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret));
    let text = |hrp, bytes: &[u8]| bech32::encode::<bech32::Bech32>(bech32::Hrp::parse(hrp).unwrap(), bytes).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("# a key\n{}\n", text("age-secret-key-", &secret).to_uppercase())).unwrap();
    (path, text("age", public.as_bytes()))
}

#[test]
fn an_encrypted_bundle_is_opened_by_its_key_alone() {
    let Some((version, lnd)) = versions("an_encrypted_bundle_is_opened_by_its_key_alone").pop() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let signer = signer(&version, &lnd, folder.path());
    let ((key, recipient), (other, _)) = (make_key(folder.path(), "key"), make_key(folder.path(), "other"));
    let (admin, out, lnddir) = (at("admin.macaroon"), at("out"), at("agent"));
    fs::write(&admin, signer.admin.expose()).unwrap();
    fs::create_dir(&lnddir).unwrap();
    export(&signer, &admin, &out, &[("--encrypt-to", &recipient)]).ok();
    let encrypted = out.join(lsm::bundle::ENCRYPTED);
    let good = files(&out);
    assert!(good.len() == 1 && good[&encrypted].0 == 0o600, "one file: {:?}", good.keys());
    let text = fs::read_to_string(&encrypted).unwrap();
    assert!(text.starts_with("-----BEGIN AGE") && !text.contains("H4sI"));

    let import = |bundle: &str, key: Option<&Path>| {
        let key = key.map(|key| format!("--identity={}", key.display()));
        let bundle = format!("--bundle={bundle}");
        let args = ["bundle", "import", &bundle, "--lnddir", lnddir.to_str().unwrap()];
        lsm(args.map(str::to_owned).into_iter().chain(key))
    };
    let cut = at("cut");
    fs::write(&cut, &text[..text.len() / 2]).unwrap();
    for (bundle, key, code) in [
        (&encrypted, None, "E-BUNDLE-022"),
        (&out, None, "E-BUNDLE-022"),
        (&encrypted, Some(other.as_path()), "E-AGE-011"),
        (&encrypted, Some(cut.as_path()), "E-AGE-010"),
        (&cut, Some(key.as_path()), "E-AGE-012"),
    ] {
        let done = import(bundle.to_str().unwrap(), key);
        assert!(done.code != 0 && done.stderr.contains(code), "{code}: {done:?}");
        assert!(files(&lnddir).is_empty());
    }
    for form in [encrypted.to_str().unwrap(), out.to_str().unwrap(), &text] {
        import(form, Some(&key)).ok();
    }
    let imported = Bundle::read(lnddir.join("signer-credentials").to_str().unwrap()).unwrap();
    assert_eq!(imported.identity_pubkey(), signer.bundle().identity_pubkey());

    // A recipient that is none, or the secret half by mistake, is not repeated, and costs nothing.
    let secret = fs::read_to_string(&key).unwrap().lines().last().unwrap().to_owned();
    for bad in [&recipient[..20], &secret] {
        let done = export(&signer, &admin, &out, &[("--encrypt-to", bad)]);
        assert!(done.code == 2 && done.stdout.contains("E-AGE-001") && !done.stdout.contains(bad), "{done:?}");
        assert!(files(&out) == good, "nothing was lost");
    }
    // age(1) itself, where it is here.
    if script("command -v age", [""; 0]).code == 0 {
        let opened = script("age -d -i \"$1\" \"$2\"", [&key, &encrypted]).ok();
        assert_eq!(Bundle::read(&opened).unwrap().identity_pubkey(), signer.bundle().identity_pubkey());
    }
}

/// What a remote export says, with `change` to its options.
fn export(signer: &Signer, admin: &Path, out: &Path, change: &[(&str, &str)]) -> Done {
    lsm(export_args(signer, admin, out, change))
}

fn export_args(signer: &Signer, admin: &Path, out: &Path, change: &[(&str, &str)]) -> Vec<String> {
    let certificate = signer.lnd.folder.join("tls.cert");
    let mut options = BTreeMap::from([
        ("--rpcserver", signer.lnd.endpoint().to_string()),
        ("--tlscertpath", certificate.display().to_string()),
        ("--macaroonpath", admin.display().to_string()),
        ("--out", out.display().to_string()),
    ]);
    options.extend(change.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    ["bundle", "export", "--json"].map(str::to_owned).into_iter().chain(options).collect()
}

#[test]
fn a_remote_signer_is_exported_and_a_failure_costs_nothing() {
    let versions = versions("a_remote_signer_is_exported_and_a_failure_costs_nothing");
    let newest = versions.last().map(|(version, _)| version.clone());
    let all = tempfile::tempdir().unwrap();
    let mut in_silence = None;
    for (version, lnd) in versions {
        let folder = all.path().join(&version);
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        let signer = signer(&version, &lnd, &folder);
        let (admin, out) = (at("admin.macaroon"), at("out"));
        fs::write(&admin, signer.admin.expose()).unwrap();
        let said = export(&signer, &admin, &out, &[]).json();
        assert_eq!(said["bundle"], out.to_str().unwrap());
        hold_exported(&signer, &version, &out);
        in_silence.get_or_insert_with(|| begin_in_silence(&signer, &admin, &at("kept")));

        // When the seed was made lnd does not say; what the operator wrote there stays, and so does all else.
        let about = fs::read_to_string(out.join("bundle.json")).unwrap();
        fs::write(out.join("bundle.json"), about.replace("\"birthday\": 0", &format!("\"birthday\": {BIRTHDAY}")))
            .unwrap();
        export(&signer, &admin, &out, &[]).ok();
        let good = files(&out);
        export(&signer, &admin, &out, &[]).ok();
        assert!(files(&out) == good, "the same, byte for byte");
        assert_eq!(Bundle::read(out.to_str().unwrap()).unwrap().about.birthday, BIRTHDAY);

        if newest.as_ref() == Some(&version) {
            failures_cost_nothing(&signer, &admin, &out);
        }
        // A revoked macaroon is not kept.
        let root_key = Bundle::read(out.to_str().unwrap()).unwrap().macaroon.root_key_id().parse().unwrap();
        assert!(root_key > 2, "no key that an installed signer's macaroons hang on");
        // Over a bundle of the scripts', whose macaroon hangs on lnd's own: that one cannot be revoked alone.
        let scripts = export_as_the_scripts(&signer, &folder);
        assert_eq!(Bundle::read(scripts.to_str().unwrap()).unwrap().macaroon.root_key_id(), "0");
        let told = export(&signer, &admin, &scripts, &[]).json();
        hold_exported(&signer, &version, &scripts);
        let over = Bundle::read(scripts.to_str().unwrap()).unwrap().macaroon.root_key_id().to_owned();
        assert_eq!(told["root_key_id"], over);
        let over: u64 = over.parse().unwrap();
        assert!(over > 2 && over != root_key);
        assert!(signer.owner().delete_root_key(over).unwrap());
        assert!(signer.owner().delete_root_key(root_key).unwrap());
        export(&signer, &admin, &out, &[]).ok();
        assert!(files(&out) != good);
        hold_exported(&signer, &version, &out);
    }
    if let Some(end) = in_silence {
        end();
    }
}

/// Begins an export, over a bundle in `out`, from a server that shakes no hands: lsm waits for it as long as for any. What is
/// returned waits for the end, and holds that it cost nothing.
fn begin_in_silence(signer: &Signer, admin: &Path, out: &Path) -> impl FnOnce() + use<> {
    export(signer, admin, out, &[]).ok();
    let (out, good) = (out.to_owned(), files(out));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let args = export_args(signer, admin, &out, &[("--rpcserver", &server)]);
    let waiting = std::thread::spawn(move || {
        let began = Instant::now();
        (lsm(args), began.elapsed())
    });
    move || {
        let (done, took) = waiting.join().expect("an export");
        drop(silent);
        hold_refused(&done, "E-SIGNER-003", "shakes no hands");
        assert!(files(&out) == good && took < PATIENCE, "it ends by itself, after {took:?}");
    }
}

/// Holds that lsm ended with this error.
#[track_caller]
fn hold_refused(done: &Done, code: &str, words: &str) {
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    let told = format!("{}; {}", said["error"]["cause"], said["error"]["hint"]);
    assert!(done.code != 0 && said["error"]["code"] == code && told.contains(words), "{done:?}");
}

/// Holds that the bundle in `out` is whole, the least, and signs.
fn hold_exported(signer: &Signer, version: &str, out: &Path) {
    let bundle = Bundle::read(out.to_str().unwrap()).unwrap();
    assert_eq!(bundle.identity_pubkey(), signer.bundle().identity_pubkey());
    assert_eq!(
        (bundle.about.lnd_version.as_deref(), bundle.about.rpchost.as_slice()),
        (Some(version), &[signer.lnd.endpoint()][..])
    );
    let known = signer.owner().known_uris().unwrap();
    assert_eq!(bundle.macaroon.permissions(), macaroon::signer_permissions(false, &known).unwrap());
    let node = Node::new(signer.lnd.endpoint(), &bundle.certificate).with_macaroon(&bundle.macaroon);
    lsm::watch_only::prove_at_signer(&node, bundle.identity_pubkey()).unwrap();
    assert!(files(out).values().all(|(mode, _)| *mode == 0o600) && files(out).len() == 5);
    assert_eq!(fs::metadata(out).unwrap().permissions().mode() & 0o7777, 0o700);
}

fn failures_cost_nothing(signer: &Signer, admin: &Path, out: &Path) {
    let good = files(out);
    let nobody = format!("127.0.0.1:{}", free_port());
    let least = out.join("admin.macaroon");
    let other = out.with_file_name("other.cert");
    fs::write(&other, make_certificate(&["127.0.0.1"], (-1, 9)).certificate).unwrap();
    let refused = |change: &[(&str, &str)], code: &str, words: &str| {
        hold_refused(&export(signer, admin, out, change), code, words);
        assert!(files(out) == good, "{change:?}");
    };
    refused(&[("--macaroonpath", least.to_str().unwrap())], "E-SIGNER-014", "admin.macaroon");
    refused(&[("--macaroonpath", other.to_str().unwrap())], "E-MAC-001", "macaroon");
    refused(&[("--tlscertpath", other.to_str().unwrap())], "E-SIGNER-006", "certificate");
    refused(&[("--tlscertpath", "/nonexistent")], "E-HOST-001", "/nonexistent");
    refused(&[("--rpcserver", &nobody)], "E-SIGNER-002", &nobody);

    // As on a full disk: no file gets larger than 10 KiB, and with another address two have to be written.
    let elsewhere = format!("localhost:{}", signer.lnd.port);
    let line: Vec<String> =
        export_args(signer, admin, out, &[("--rpcserver", &elsewhere)]).iter().map(|arg| format!("'{arg}'")).collect();
    let done = script(&format!("trap '' XFSZ; ulimit -f 10; exec {} {}", lab::LSM, line.join(" ")), [""; 0]);
    assert!(done.code != 0 && done.stdout.contains("cannot write"), "{done:?}");
    assert!(files(out) == good, "a full disk");
    let missing = lsm(["bundle", "export", "--rpcserver", &nobody]);
    assert!(missing.code == 2 && missing.stderr.contains("--macaroonpath"), "{missing:?}");
}
