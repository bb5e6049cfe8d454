//! The manifest of a release: the SHA-256 of every official file, one a line, as lnd's scripts/release.sh writes it.
//!
//! It lists the archives (`lnd-OS-ARCH-VERSION.tar.gz` or `.zip`), the programs in each (`lnd-OS-ARCH-VERSION/lnd`), the
//! source (`lnd-source-VERSION.tar.gz`) and `vendor.tar.gz`. Nothing here knows whether anybody signed it.

use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;

const NO_MANIFEST: Code = Code::unverified("E-MANIFEST-001");
const OTHER_VERSION: Code = Code::unverified("E-MANIFEST-002");

/// The largest manifest that is read, in bytes. Official ones have about 10 KiB.
pub const LIMIT: usize = 256 << 10;
/// The longest file name that is read, in bytes.
const NAME_LIMIT: usize = 255;
/// What an archive's name ends with.
const ENDINGS: [&str; 2] = [".tar.gz", ".zip"];

/// A manifest that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, String>,
}

/// The name of the manifest of lnd `version`, beside its archives.
pub fn file_name(version: &str) -> String {
    format!("manifest-{version}.txt")
}

impl Manifest {
    /// Reads the manifest of lnd `version` (`v0.21.3-beta`): lines of 64 lower-case hexadecimal digits, two spaces and a
    /// file name.
    ///
    /// # Errors
    /// Where a line is anything else, a name stands twice or leads out of the folder, the whole is empty or longer than
    /// [`LIMIT`], or it names an archive of another version.
    pub fn parse(bytes: &[u8], version: &str) -> Result<Self> {
        let bad = |what: String| no_manifest(version, &what);
        hold_size(bytes, version)?;
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not text".into()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        if text.is_empty() {
            return Err(bad("it is empty".into()));
        }
        let mut files = BTreeMap::new();
        for (line, number) in text.split('\n').zip(1..) {
            let (sha256, name) = parse_line(line).map_err(|what| bad(format!("line {number} {what}")))?;
            hold_version(name, version)?;
            if files.insert(name.to_owned(), sha256.to_owned()).is_some() {
                return Err(bad(format!("it names {name} twice")));
            }
        }
        Ok(Self { files })
    }

    /// The SHA-256 of the file `name`, in lower-case hexadecimal; a program in an archive has its folder before it.
    pub fn sha256_of(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }
}

/// Holds that `bytes` are not more than [`LIMIT`].
///
/// # Errors
/// Where they are.
pub(in crate::release) fn hold_size(bytes: &[u8], version: &str) -> Result<()> {
    if bytes.len() <= LIMIT {
        return Ok(());
    }
    Err(no_manifest(version, &format!("it has {} bytes, more than {LIMIT}", bytes.len())))
}

fn no_manifest(version: &str, what: &str) -> Error {
    Error::new(NO_MANIFEST, format!("{} is no manifest: {what}", file_name(version)))
        .hint("get it again, from the place where lnd publishes it")
}

/// The hash and the name, or what is wrong with the line.
fn parse_line(line: &str) -> std::result::Result<(&str, &str), &'static str> {
    let (sha256, name) = line.split_once("  ").ok_or("is not a hash, two spaces and a name")?;
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err("begins with no SHA-256 in lower-case hexadecimal");
    }
    // No space, no control character (a CR among them), and no backslash: sha256sum escapes with it.
    if name.len() > NAME_LIMIT || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err("names a file as lnd never names one");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("names a file outside of the folder");
    }
    Ok((sha256, name))
}

/// Holds that `name` is not a file of another version: a manifest is as old as what it lists.
fn hold_version(name: &str, version: &str) -> Result<()> {
    let top = name.split('/').next().unwrap_or(name);
    let top = ENDINGS.iter().find_map(|ending| top.strip_suffix(ending)).unwrap_or(top);
    let is_ours = top.strip_suffix(version).is_some_and(|before| before.ends_with('-'));
    if is_ours || !top.starts_with("lnd") {
        return Ok(());
    }
    let cause = format!("{} names {name}, a file of another version", file_name(version));
    Err(Error::new(OTHER_VERSION, cause).hint("an old manifest under a new name is how an old lnd is passed off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "v0.21.3-beta";

    fn hash(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn a_manifest_as_lnd_writes_it_is_read() {
        let (a, b, c, d) = (hash('a'), hash('b'), hash('c'), hash('9'));
        let text = format!(
            "{a}  lnd-linux-amd64-{VERSION}.tar.gz\n{b}  lnd-linux-amd64-{VERSION}/lnd\n\
             {c}  lnd-windows-amd64-{VERSION}.zip\n{d}  lnd-source-{VERSION}.tar.gz\n{d}  vendor.tar.gz"
        );
        let whole = Manifest::parse(format!("{text}\n").as_bytes(), VERSION).unwrap();
        assert_eq!(whole, Manifest::parse(text.as_bytes(), VERSION).unwrap(), "the last newline may be missing");
        assert_eq!(whole.sha256_of(&format!("lnd-linux-amd64-{VERSION}.tar.gz")), Some(a.as_str()));
        assert_eq!(whole.sha256_of(&format!("lnd-linux-amd64-{VERSION}/lnd")), Some(b.as_str()));
        assert_eq!(whole.sha256_of(&format!("lnd-linux-arm64-{VERSION}.tar.gz")), None);
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let (h, good) = (hash('a'), format!("{}  vendor.tar.gz\n", hash('a')));
        let long = format!("{h}  {}\n", "x".repeat(NAME_LIMIT + 1));
        for (text, what) in [
            (String::new(), "empty"),
            ("\n".into(), "empty"),
            (format!("{good}\n"), "line 2"),
            (format!("\n{good}"), "line 1"),
            (good.replace('\n', "\r\n"), "lnd never names"),
            (good.replace("  ", " "), "two spaces"),
            (good.replace("  ", " *"), "two spaces"),
            (good.replace("  ", "   "), "lnd never names"),
            (good.replace("  ", "\t"), "two spaces"),
            (good.replacen('a', "", 1), "no SHA-256"),
            (good.replacen('a', "aa", 1), "no SHA-256"),
            (good.replacen('a', "A", 1), "no SHA-256"),
            (good.replacen('a', "g", 1), "no SHA-256"),
            (format!("{h}  ../vendor.tar.gz\n"), "outside"),
            (format!("{h}  x/../vendor.tar.gz\n"), "outside"),
            (format!("{h}  /etc/passwd\n"), "outside"),
            (format!("{h}  ./vendor.tar.gz\n"), "outside"),
            (format!("{h}  vendor/\n"), "outside"),
            (format!("{h}  \n"), "outside"),
            (format!("{h}  ven dor\n"), "lnd never names"),
            (format!("{h}  ven\x1b[2Jdor\n"), "lnd never names"),
            (format!("{h}  ven\0dor\n"), "lnd never names"),
            (format!("{h}  ven\u{e9}dor\n"), "lnd never names"),
            (format!("{h}  ven\\dor\n"), "lnd never names"),
            (format!("{good}{good}"), "twice"),
            (format!("{good}{}  vendor.tar.gz\n", hash('b')), "twice"),
            (long, "lnd never names"),
            (good.repeat(LIMIT / good.len() + 1), "more than"),
        ] {
            let error = Manifest::parse(text.as_bytes(), VERSION).unwrap_err();
            assert_eq!(error.code(), NO_MANIFEST, "{text:?}");
            assert!(error.cause().contains(what), "{text:?} {}", error.cause());
        }
        let error = Manifest::parse(b"\xff\xfe", VERSION).unwrap_err();
        assert!(error.cause().contains("not text"), "{}", error.cause());
    }

    #[test]
    fn a_manifest_of_another_version_is_refused() {
        for name in [
            "lnd-linux-amd64-v0.20.0-beta.tar.gz",
            "lnd-linux-amd64-v0.20.0-beta/lnd",
            "lnd-linux-amd64-v0.21.3-beta.rc1.tar.gz",
            "lnd-linux-amd64-v0.21.3-beta.rc1/lnd",
            "lnd-linux-amd64-xv0.21.3-beta.tar.gz",
            "lnd-linux-amd64.tar.gz",
            "lnd-source-v0.20.0-beta.tar.gz",
            "lnd-v0.20.0-beta/lnd-v0.21.3-beta",
        ] {
            let text = format!("{}  vendor.tar.gz\n{}  {name}\n", hash('a'), hash('b'));
            let error = Manifest::parse(text.as_bytes(), VERSION).unwrap_err();
            assert_eq!(error.code(), OTHER_VERSION, "{name}");
        }
    }
}
