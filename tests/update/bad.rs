//! The tables of bad updates.

use crate::update::desk::{Desk, Key, day, head, judgement, release, update_keys};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A public key whose signature of the old kind, over a file that holds `test`, is known: see src/release/policy/minisign.rs.
const OLD_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
const OLD_SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
    trusted comment: timestamp:1555779966\tfile:test\n\
    QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";

/// The state that bad updates meet: four keys, of which the operator revoked one and update 5 another, and what it pinned.
pub struct Met {
    pub desk: Desk,
    pub good: Key,
    revoked_by_operator: Key,
    revoked_by_update: Key,
    added: Key,
}

impl Met {
    pub fn new() -> Self {
        let [good, revoked_by_operator, revoked_by_update, added] = std::array::from_fn(|_| Key::new());
        let mut keys = update_keys(&[&good, &revoked_by_operator, &revoked_by_update]);
        keys = keys.replace("]\n", &format!(", {OLD_KEY:?}]\nrevoked = [{:?}]\n", revoked_by_operator.id()));
        let desk = Desk::new(&keys);
        let text = format!(
            "{}keys = {{ add = [{:?}], revoke = [{:?}] }}\noldest = {{ version = [0, 20, 0], reason = \"because\" }}\n{}{}",
            head(5, &good),
            added.public(),
            revoked_by_update.id(),
            release("v0.22.0-beta", "current", 0x40),
            judgement("v0.21.1-beta", "refused"),
        );
        desk.accept(&text, &good);
        Self { desk, good, revoked_by_operator, revoked_by_update, added }
    }

    pub fn head(&self) -> String {
        head(6, &self.good)
    }
}

/// What is wrong, the text, the signature, and how it ends.
pub type Bad = (&'static str, Vec<u8>, Vec<u8>, i32, &'static str);

/// Bad by who signed it and how.
pub fn badly_signed(met: &Met) -> Vec<Bad> {
    let good = &met.good;
    let text = met.head() + &release("v0.23.0-beta", "current", 0x80);
    let signature = good.sign(text.as_bytes());
    let changed = |from: &str, to: &str| String::from_utf8(signature.clone()).unwrap().replace(from, to).into_bytes();
    let signed_by = |key: &Key| {
        let text = head(6, key) + &release("v0.23.0-beta", "current", 0x80);
        let signature = key.sign(text.as_bytes());
        (text.into_bytes(), signature)
    };
    let mut flipped = text.clone().into_bytes();
    *flipped.last_mut().unwrap() ^= 1;
    let other_file = good.sign(b"counter = 6\n");
    // The id of a believed key over the signature of another one.
    let mut posing = STANDARD.decode(lines(&Key::new().sign(text.as_bytes()))[1].as_bytes()).unwrap();
    posing[2..10].copy_from_slice(good.0.pk.keynum());
    let posing = changed(&lines(&signature)[1], &STANDARD.encode(posing));
    let lying = met.head().replace(&good.id(), &met.added.id());
    let lied = good.sign(lying.as_bytes());
    let [(wrong, by_wrong), (ours, by_ours), (theirs, by_theirs)] =
        [signed_by(&Key::new()), signed_by(&met.revoked_by_operator), signed_by(&met.revoked_by_update)];
    let bytes = || text.clone().into_bytes();
    vec![
        ("wrong key", wrong, by_wrong, 4, "E-UPDATE-004"),
        ("key revoked by the operator", ours, by_ours, 4, "E-UPDATE-005"),
        ("key revoked by an update", theirs, by_theirs, 4, "E-UPDATE-005"),
        ("flipped bit in the text", flipped, signature.clone(), 4, "E-UPDATE-003"),
        ("flipped bit in the trusted comment", bytes(), changed("comment: lnd", "comment: lne"), 4, "E-UPDATE-003"),
        ("signature of another file", bytes(), other_file, 4, "E-UPDATE-003"),
        ("another key with a believed id", bytes(), posing, 4, "E-UPDATE-003"),
        ("empty signature", bytes(), Vec::new(), 4, "E-UPDATE-003"),
        ("signature of random bytes", bytes(), vec![0xff; 300], 4, "E-UPDATE-003"),
        ("signature too large", bytes(), vec![b'x'; (16 << 10) + 1], 2, "E-HOST-004"),
        ("old kind of signature", b"test".to_vec(), OLD_SIGNATURE.as_bytes().to_vec(), 4, "E-UPDATE-003"),
        ("key id that lies", lying.into_bytes(), lied, 4, "E-UPDATE-006"),
    ]
}

fn lines(signature: &[u8]) -> Vec<String> {
    std::str::from_utf8(signature).unwrap().lines().map(str::to_owned).collect()
}

/// Well signed, and bad by what they say.
pub fn bad_texts(met: &Met) -> Vec<(&'static str, String, i32, &'static str)> {
    let (head, id) = (met.head(), met.good.id());
    let counter = |line: &str| head.replace("counter = 6", line);
    let expires = |line: &str| head.replace(&format!("expires = \"{}\"", day(30)), line);
    let add = |text: &str| format!("{head}keys.add = [{text:?}]\n");
    let new = release("v0.23.0-beta", "current", 0x80);
    let new_with = |from: &str, to: &str| {
        assert!(new.contains(from), "{from}");
        head.clone() + &new.replacen(from, to, 1)
    };
    let shipped = |from: &str, to: &str| {
        let policy = include_str!("../../policies/releases.toml");
        let releases = &policy[policy.find("[toolchain").unwrap()..];
        // Of v0.21.3-beta, which is the first.
        let first = &releases[..releases.find("[[release]]\nversion = \"v0.21.1").unwrap()];
        assert!(first.contains(from), "{from}");
        head.clone() + &first.replacen(from, to, 1)
    };
    let pinned = |from: &str, to: &str| {
        let text = release("v0.22.0-beta", "current", 0x40);
        assert!(text.contains(from), "{from}");
        head.clone() + &text.replacen(from, to, 1)
    };
    let same_id = STANDARD.encode([b"Ed", met.good.0.pk.keynum(), &[9; 32]].concat());
    let (all, added) = (format!("{id:?}, \"E7620F1842B4E81F\", {:?}", met.added.id()), met.added.id());
    vec![
        ("counter missing", counter(""), 2, "E-UPDATE-001"),
        ("counter negative", counter("counter = -1"), 2, "E-UPDATE-001"),
        ("counter too large", counter("counter = 100000000"), 2, "E-RELEASE-007"),
        ("counter old", counter("counter = 4"), 4, "E-UPDATE-007"),
        ("counter equal", counter("counter = 5"), 4, "E-UPDATE-007"),
        ("counter of the shipped policy", counter("counter = 1"), 4, "E-UPDATE-007"),
        ("expired", expires(&format!("expires = \"{}\"", day(-1))), 4, "E-UPDATE-008"),
        ("expired to the second", expires("expires = \"2026-01-01T00:00:00Z\""), 4, "E-UPDATE-008"),
        ("expiry missing", expires(""), 2, "E-UPDATE-001"),
        ("expiry no date", expires("expires = \"soon\""), 2, "E-UPDATE-001"),
        ("expiry without a zone", expires("expires = \"2026-12-01T00:00:00\""), 2, "E-UPDATE-001"),
        ("expiry too far", expires(&format!("expires = \"{}\"", day(402))), 4, "E-UPDATE-009"),
        ("expiry at the end of time", expires("expires = \"9999-12-31\""), 4, "E-UPDATE-009"),
        ("expiry after all time", expires("expires = \"9999-12-31T23:59:59-23:59\""), 4, "E-UPDATE-009"),
        ("expiry before all time", expires("expires = \"0000-01-01T00:00:00+23:59\""), 4, "E-UPDATE-008"),
        ("un-refused, by an update", head.clone() + &judgement("v0.21.1-beta", "needs-accept-risk"), 4, "E-UPDATE-011"),
        ("milder than shipped", head.clone() + &judgement("v0.20.1-beta", "outdated"), 4, "E-UPDATE-011"),
        ("oldest lowered", format!("{head}oldest = {{ version = [0, 19, 2], reason = \"x\" }}"), 4, "E-UPDATE-011"),
        ("shipped pin changed", shipped("aad62005", "aad62006"), 4, "E-UPDATE-012"),
        ("shipped pin of lnd changed", shipped("e296c3b8", "e296c3b9"), 4, "E-UPDATE-012"),
        ("shipped module hash changed", shipped("h1:Tp1Y", "h1:Tp1Z"), 4, "E-UPDATE-012"),
        ("shipped commit changed", shipped("572b561b", "572b561c"), 4, "E-UPDATE-012"),
        ("shipped toolchain changed", shipped("h1:owmN", "h1:owmO"), 4, "E-UPDATE-012"),
        ("shipped day changed", shipped("pinned = \"2026-11-22\"", "pinned = \"2026-11-21\""), 4, "E-UPDATE-012"),
        ("pin of an update changed", pinned(&"50".repeat(32), &"00".repeat(32)), 4, "E-UPDATE-012"),
        ("pin of another release", new_with(&"90".repeat(32), &"50".repeat(32)), 2, "E-RELEASE-007"),
        ("version is no version", new_with("v0.23.0-beta", "v0.23/../x"), 2, "E-RELEASE-007"),
        ("version that differs by its tail", new_with("v0.23.0-beta", "v0.22.0-rc1"), 2, "E-RELEASE-007"),
        ("version twice", head.clone() + &new + &new, 2, "E-UPDATE-001"),
        ("hash not hexadecimal", new_with(&"90".repeat(32), &"9g".repeat(32)), 2, "E-RELEASE-007"),
        ("hash too short", new_with(&"90".repeat(32), "90"), 2, "E-RELEASE-007"),
        ("archive without source", new_with("[release.source]\ngo", "[release.archive.arm]\ngo"), 2, "E-UPDATE-001"),
        ("toolchain nobody knows", new_with("1.26.6", "1.99.9"), 2, "E-RELEASE-007"),
        ("day of pinning is none", new_with("2026-11-23", "yesterday"), 2, "E-RELEASE-007"),
        ("origin claimed", new_with("[release.source]", "origin = \"shipped\"\n[release.source]"), 2, "E-UPDATE-001"),
        ("current with a reason", new_with("[release.source]", "reason = \"x\"\n[release.source]"), 2, "E-RELEASE-007"),
        ("unknown field", format!("{head}surprise = 1\n"), 2, "E-UPDATE-001"),
        ("not TOML", "this is signed\n".to_owned(), 2, "E-UPDATE-001"),
        ("empty", String::new(), 2, "E-UPDATE-001"),
        ("too large", format!("{head}{}", "#".repeat(1 << 20)), 2, "E-HOST-004"),
        ("adds what is no key", add("RWx"), 2, "E-UPDATE-001"),
        ("revokes what is no id", format!("{head}keys.revoke = [\"x\"]\n"), 2, "E-UPDATE-001"),
        ("adds a key that the operator revoked", add(&met.revoked_by_operator.public()), 4, "E-UPDATE-013"),
        ("adds a key that an update revoked", add(&met.revoked_by_update.public()), 4, "E-UPDATE-013"),
        ("adds another key with an id that is there", add(&same_id), 4, "E-UPDATE-013"),
        (
            "adds and revokes the same key",
            format!("{}keys.revoke = [{added:?}]\n", add(&met.added.public())),
            4,
            "E-UPDATE-013",
        ),
        ("leaves no key", format!("{head}keys.revoke = [{all}]\n"), 4, "E-UPDATE-013"),
    ]
}
