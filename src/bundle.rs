//! The credentials bundle: what a watch-only machine needs of its signer, written whole and read with every byte doubted.

mod archive;
mod source;

use crate::age::{self, Recipient};
use crate::error::{Code, Error, Result};
use crate::host::draft;
use crate::host::file::{self, Access};
use crate::host::user::{self, Owner};
use crate::secret::Secret;
use crate::signer::accounts::Accounts;
use crate::signer::certificate::Certificate;
use crate::signer::channel::Endpoint;
use crate::signer::macaroon::Macaroon;
use crate::spec::Network;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use zeroize::Zeroizing;

const INCOMPLETE: Code = Code::usage("E-BUNDLE-001");
const BAD_ABOUT: Code = Code::usage("E-BUNDLE-002");
const ALTERED: Code = Code::unverified("E-BUNDLE-003");
const NEWER: Code = Code::usage("E-BUNDLE-004");
const NETWORKS_DIFFER: Code = Code::usage("E-BUNDLE-005");
const OUT_OF_DATE: Code = Code::usage("E-BUNDLE-006");
const TOO_NARROW: Code = Code::usage("E-BUNDLE-007");
const NO_BUNDLES: Code = Code::usage("E-BUNDLE-008");
const NOT_MINE: Code = Code::refused("E-BUNDLE-009");

/// The archive beside the files, in base64.
pub const ARCHIVE: &str = "credentials-bundle.tar.gz.b64";

/// The archive, encrypted to an age recipient: then it is all that is written.
pub const ENCRYPTED: &str = "credentials-bundle.tar.gz.b64.age";

const ACCOUNTS: &str = "accounts.json";
const CERTIFICATE: &str = "tls.cert";
const MACAROON: &str = "admin.macaroon";
const ABOUT: &str = "bundle.json";
/// The members in their order; the first three are those of the original system, whose importers take the rest along.
const MEMBERS: [&str; 4] = [ACCOUNTS, CERTIFICATE, MACAROON, ABOUT];
/// The largest member that is read: 259 accounts are 120 KB.
const LARGEST_MEMBER: u64 = 8 << 20;

const FORMAT: u32 = 1;
/// What a recovery window may be, here and on the command line.
pub const RECOVERY_WINDOWS: RangeInclusive<u32> = 1..=100_000;
/// How far another machine's clock may be ahead.
const A_DAY: time::Duration = time::Duration::DAY;
const PRIVATE_FOLDER: Access = Access::mode(0o700);
const PRIVATE_FILE: Access = Access::mode(0o600);

/// Every file of a bundle in `folder`.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    MEMBERS.into_iter().chain([ARCHIVE]).map(|name| folder.join(name)).collect()
}

/// Holds that a bundle of `owner`'s, or of whoever runs lsm, may go into `folder`, which is closed to all others then: there is no
/// such folder yet, it has nothing in it that is not a bundle's, or it is closed already.
///
/// # Errors
/// Where others use it, or it is another user's, who could put another bundle in its place.
pub fn check_folder(folder: &Path, owner: Option<Owner>) -> Result<()> {
    // What is no folder is for whoever would make one there to tell.
    let Some(had) = folder.is_dir().then(|| file::access_of(folder)).transpose()?.flatten() else { return Ok(()) };
    let is_theirs = |uid: u32| had.owner.is_some_and(|had| had.uid == uid);
    if owner.is_none() && !is_theirs(user::own_uid()) {
        return Err(Error::new(NOT_MINE, format!("{} belongs to another user", folder.display()))
            .hint("name a folder that is to be made"));
    }
    if had.mode & 0o077 == 0 && owner.is_none_or(|owner| is_theirs(owner.uid)) {
        return Ok(());
    }
    let is_bundles = |name: &OsStr| MEMBERS.into_iter().chain([ARCHIVE, ENCRYPTED]).any(|own| name == own);
    let entries = std::fs::read_dir(folder).map_err(|e| file::cannot_read(folder, &e))?;
    let Some(other) = entries.flatten().map(|entry| entry.file_name()).find(|name| !is_bundles(name)) else {
        return Ok(());
    };
    let cause = format!("{} is no bundle's folder: it has {} in it", folder.display(), other.display());
    Err(Error::new(NO_BUNDLES, cause)
        .hint("name one that is to be made: nobody but its owner can enter a bundle's folder"))
}

/// What a bundle says of the signer besides its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The signer's lnd version, such as `v0.21.3-beta`; unknown in an original bundle.
    pub lnd_version: Option<String>,
    /// The bitcoin network. An original bundle only tells mainnet from the rest: then `None`.
    pub network: Option<Network>,
    /// When the seed was made, in unix seconds; 0: unknown, which costs the watch-only node a rescan of the whole chain.
    pub birthday: u64,
    /// Of a wallet that was restored, how many addresses in a row without a coin the watch-only node looks at before it
    /// gives up.
    pub recovery_window: Option<u32>,
    /// Where the signer answers, as `HOST:PORT`, the first one first.
    pub rpchost: Vec<Endpoint>,
}

/// A checked bundle. The macaroon and the accounts are confidential: the key that encrypts `channel.backup` derives from
/// an account's key.
#[derive(Debug)]
pub struct Bundle {
    /// The accounts.
    pub accounts: Accounts,
    /// The certificate that the signer presents.
    pub certificate: Certificate,
    /// The one that it is about to present, while it is being renewed.
    pub next: Option<Certificate>,
    /// The macaroon. The file is called `admin.macaroon`, as the original's importers expect, whatever it permits.
    pub macaroon: Macaroon,
    /// What else there is to know.
    pub about: About,
    /// The accounts as they were read, byte for byte: the hash in bundle.json is of these.
    accounts_json: Zeroizing<Vec<u8>>,
    /// The certificates as they were read.
    pem: Vec<u8>,
}

// bundle.json, the file.
#[derive(Debug, Serialize, Deserialize)]
struct AboutFile {
    format: u32,
    lnd_version: String,
    network: Network,
    birthday: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_window: Option<u32>,
    identity_pubkey: String,
    rpchost: Vec<String>,
    sha256: Hashes,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hashes {
    #[serde(rename = "accounts.json")]
    accounts: String,
    #[serde(rename = "tls.cert")]
    certificate: String,
    #[serde(rename = "admin.macaroon")]
    macaroon: String,
}

/// A member's bytes, wiped when they are not believed.
type Member = Option<Zeroizing<Vec<u8>>>;

/// The members' bytes, before they are believed.
#[derive(Default)]
struct Members {
    accounts: Member,
    certificate: Member,
    macaroon: Member,
    about: Member,
}

impl Members {
    /// The place of member `name`; `None` where a bundle has no such member.
    fn place(&mut self, name: &str) -> Option<&mut Member> {
        match name {
            ACCOUNTS => Some(&mut self.accounts),
            CERTIFICATE => Some(&mut self.certificate),
            MACAROON => Some(&mut self.macaroon),
            ABOUT => Some(&mut self.about),
            _ => None,
        }
    }
}

impl Bundle {
    /// Puts a bundle together from what a signer gave.
    ///
    /// # Errors
    /// Where the accounts are not those of the network.
    pub fn new(
        accounts: Accounts,
        certificate: Certificate,
        next: Option<Certificate>,
        macaroon: Macaroon,
        about: About,
    ) -> Result<Self> {
        let accounts_json = Zeroizing::new(accounts.to_json());
        let pem = [certificate.pem(), next.as_ref().map_or(&[], Certificate::pem)].concat();
        let bundle = Self { accounts, certificate, next, macaroon, about, accounts_json, pem };
        bundle.check_network()?;
        Ok(bundle)
    }

    /// The members' places in a bundle's folder, in the order of its archive.
    pub fn members_in(folder: &Path) -> [PathBuf; 4] {
        MEMBERS.map(|name| folder.join(name))
    }

    /// Reads a bundle from a folder, an archive (gzip or base64), or the base64 text itself.
    ///
    /// # Errors
    /// Where it is none of these, a member is absent or strange, a hash differs, or the identity does not follow from
    /// the accounts. Nothing is ever unpacked to disk.
    pub fn read(source: &str) -> Result<Self> {
        Self::read_with(source, None)
    }

    /// The same where it may be encrypted to the age key in the file `key`.
    ///
    /// # Errors
    /// As [`Bundle::read`]; where it is encrypted, and not to this key or altered.
    pub fn read_with(source: &str, key: Option<&Path>) -> Result<Self> {
        Self::believe(source::read(source, key)?)
    }

    /// The node's public key, derived from the accounts: what every proof is held against.
    pub fn identity_pubkey(&self) -> &str {
        self.accounts.identity_pubkey()
    }

    /// The certificates that a client of the signer accepts.
    pub fn pins(&self) -> Vec<Certificate> {
        [&self.certificate].into_iter().chain(&self.next).cloned().collect()
    }

    /// The hash of the certificate, the accounts and the macaroon, each in hex, by file name.
    pub fn hashes(&self) -> [(&'static str, String); 3] {
        let of = hash_members(&self.accounts_json, &self.pem, self.macaroon.expose());
        [(ACCOUNTS, of.accounts), (CERTIFICATE, of.certificate), (MACAROON, of.macaroon)]
    }

    /// Holds that a watch-only node could use it now, as far as the bundle itself tells: the certificate's dates, and the
    /// macaroon's calls and end. Whether the signer takes the macaroon only the signer says.
    ///
    /// # Errors
    /// What keeps it from being used.
    pub fn check_use(&self, now: OffsetDateTime) -> Result<()> {
        const AGAIN: &str = "on the signer: lsm bundle export, once it has been renewed there";
        let (from, to) = self.certificate.validity();
        if now < from || now > to {
            let words = if now < from { ("is not valid before", from) } else { ("expired on", to) };
            let cause = format!("the bundle's certificate {} {}", words.0, words.1.date());
            return Err(Error::new(OUT_OF_DATE, cause).hint(if now < from {
                "is this machine's clock right?"
            } else {
                AGAIN
            }));
        }
        if let Some(end) = self.macaroon.expired(now) {
            return Err(Error::new(OUT_OF_DATE, format!("the bundle's macaroon expired at {end}")).hint(AGAIN));
        }
        let missing = self.macaroon.fit().missing;
        if missing.is_empty() {
            return Ok(());
        }
        let cause =
            format!("the bundle's macaroon is too narrow for a watch-only node: it lacks {}", missing.join(", "));
        Err(Error::new(TOO_NARROW, cause).hint("export it again on the signer: lsm bundle export"))
    }

    /// Writes the bundle into `folder` (made, or given mode 0700): the members and their archive, each 0600. None takes its
    /// place before all are whole and on the disk: a run that fails leaves the bundle of before.
    ///
    /// # Errors
    /// Where the network is unknown, others use the folder (see [`check_folder`]), or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let (about, archive) = (self.render_about()?, self.to_base64()?);
        let files = self.members(&about).into_iter().chain([(ARCHIVE, archive.expose())]);
        lay(files, folder, None)
    }

    /// Writes the archive alone, encrypted to `recipient`, into `folder`, which is made where there is none and is nobody's
    /// secret: it stays as it is.
    ///
    /// # Errors
    /// As [`Bundle::write`], and where nobody can have the recipient's key.
    pub fn write_encrypted(&self, folder: &Path, recipient: &Recipient) -> Result<()> {
        let text = age::encrypt(self.to_base64()?.expose(), recipient)?;
        if !folder.is_dir() {
            file::make_folder(folder, PRIVATE_FOLDER)?;
        }
        file::replace(&folder.join(ENCRYPTED), text.as_bytes(), PRIVATE_FILE)
    }

    /// Writes the members alone, as [`Bundle::write`] does, for another `owner` where one is named; [`Bundle::read`] reads
    /// them again.
    ///
    /// # Errors
    /// As [`Bundle::write`].
    pub fn write_members(&self, folder: &Path, owner: Option<Owner>) -> Result<()> {
        lay(self.members(&self.render_about()?).into_iter(), folder, owner)
    }

    /// Whether [`Bundle::write_members`] would change nothing in `folder`.
    ///
    /// # Errors
    /// Where the network is unknown.
    pub fn is_in(&self, folder: &Path, owner: Option<Owner>) -> Result<bool> {
        let access = Access { owner, ..PRIVATE_FILE };
        let is_there = |(name, bytes): (&str, &[u8])| is_laid(&folder.join(name), bytes, access);
        let is_closed = has_access(folder, Access { owner, ..PRIVATE_FOLDER });
        Ok(is_closed && self.members(&self.render_about()?).into_iter().all(is_there))
    }

    /// The archive in base64, in lines of 76, as [`ARCHIVE`] holds it. A secret: it holds the macaroon.
    ///
    /// # Errors
    /// Where the network is unknown.
    pub fn to_base64(&self) -> Result<Secret> {
        archive::pack_base64(&self.members(&self.render_about()?))
    }

    /// Says which network it is for, where the bundle itself does not.
    ///
    /// # Errors
    /// Where the bundle says another one, or the accounts are not that network's.
    pub fn settle_network(&mut self, wanted: Option<Network>) -> Result<Network> {
        let network = match (self.about.network, wanted) {
            (Some(is), Some(wanted)) if is != wanted => {
                return Err(Error::new(NETWORKS_DIFFER, format!("the bundle is for {is}, not for {wanted}")));
            }
            (Some(network), _) | (None, Some(network)) => network,
            (None, None) => {
                return Err(Error::new(NETWORKS_DIFFER, "the bundle does not say which test network it is for")
                    .hint("name it with --network"));
            }
        };
        self.about.network = Some(network);
        self.check_network()?;
        Ok(network)
    }

    fn members<'a>(&'a self, about: &'a [u8]) -> [(&'static str, &'a [u8]); 4] {
        let contents: [&[u8]; 4] = [&self.accounts_json, &self.pem, self.macaroon.expose(), about];
        [0, 1, 2, 3].map(|i| (MEMBERS[i], contents[i]))
    }

    fn render_about(&self) -> Result<Vec<u8>> {
        let network =
            self.about.network.ok_or_else(|| Error::new(NETWORKS_DIFFER, "the bundle's network is unknown"))?;
        let about = AboutFile {
            format: FORMAT,
            lnd_version: self.about.lnd_version.clone().unwrap_or_default(),
            network,
            birthday: self.about.birthday,
            recovery_window: self.about.recovery_window,
            identity_pubkey: self.identity_pubkey().to_owned(),
            rpchost: self.about.rpchost.iter().map(ToString::to_string).collect(),
            sha256: hash_members(&self.accounts_json, &self.pem, self.macaroon.expose()),
        };
        let mut json = serde_json::to_vec_pretty(&about).expect("strings and numbers serialise");
        json.push(b'\n');
        Ok(json)
    }

    fn believe(members: Members) -> Result<Self> {
        let absent = |name: &str| {
            Error::new(INCOMPLETE, format!("the bundle has no {name}"))
                .hint("export it again on the signer: lsm bundle export")
        };
        let accounts_json = members.accounts.ok_or_else(|| absent(ACCOUNTS))?;
        let mut pem = members.certificate.ok_or_else(|| absent(CERTIFICATE))?;
        let mut raw_macaroon = members.macaroon.ok_or_else(|| absent(MACAROON))?;
        let hashes = hash_members(&accounts_json, &pem, &raw_macaroon);
        let accounts = Accounts::parse(&accounts_json)?;
        let mut pins = Certificate::parse_pins(&pem)?.into_iter();
        let certificate = pins.next().ok_or_else(|| absent(CERTIFICATE))?;
        let next = pins.next();
        let macaroon = Macaroon::parse(std::mem::take(&mut *raw_macaroon))?;
        let about = match members.about {
            Some(json) => parse_about(&json, &hashes, &accounts)?,
            None => guess_about(&accounts),
        };
        let pem = std::mem::take(&mut *pem);
        let bundle = Self { accounts, certificate, next, macaroon, about, accounts_json, pem };
        bundle.check_network()?;
        Ok(bundle)
    }

    fn check_network(&self) -> Result<()> {
        let coin = self.accounts.coin_type();
        match self.about.network {
            Some(network) if network.coin_type() != coin => Err(Error::new(
                NETWORKS_DIFFER,
                format!("the bundle's accounts (coin type {coin}) are not those of {network}"),
            )),
            _ => Ok(()),
        }
    }
}

/// Puts the files into `folder` together. One that is there already, to the byte, stays as old as it is.
fn lay<'a>(files: impl Iterator<Item = (&'static str, &'a [u8])>, folder: &Path, owner: Option<Owner>) -> Result<()> {
    check_folder(folder, owner)?;
    let held = file::enter_folder(folder)?;
    // From here on it is this one, whatever has its path by now.
    let way = file::name_of(&held);
    check_folder(&way, owner)?;
    file::grant(&held, Access { owner, ..PRIVATE_FOLDER }).map_err(|e| file::cannot_write(folder, &e))?;
    file::sync_folder_of(folder)?;
    let access = Access { owner, ..PRIVATE_FILE };
    let files = files.filter(|(name, bytes)| !is_laid(&way.join(name), bytes, access));
    draft::replace_all(&held, folder, files, access)
}

/// Whether these bytes are at `path`, with this access.
fn is_laid(path: &Path, bytes: &[u8], access: Access) -> bool {
    let has_bytes = |had: Vec<u8>| Zeroizing::new(had).as_slice() == bytes;
    has_access(path, access) && file::read_plain(path, LARGEST_MEMBER).is_ok_and(has_bytes)
}

fn has_access(path: &Path, access: Access) -> bool {
    let uid = access.owner.map_or_else(user::own_uid, |owner| owner.uid);
    let is_so = |had: Access| had.mode == access.mode && had.owner.is_some_and(|owner| owner.uid == uid);
    file::access_of(path).is_ok_and(|had| had.is_some_and(is_so))
}

fn parse_about(json: &[u8], hashes: &Hashes, accounts: &Accounts) -> Result<About> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let bad = |e: serde_json::Error| Error::new(BAD_ABOUT, format!("{ABOUT} does not read: {e}"));
    let Format { format } = serde_json::from_slice(json).map_err(bad)?;
    if format != FORMAT {
        return Err(Error::new(NEWER, format!("the bundle has format {format}; this lsm reads format {FORMAT}"))
            .hint("use the lsm that wrote it, or a newer one"));
    }
    let file: AboutFile = serde_json::from_slice(json).map_err(bad)?;
    let altered = |what: &str| {
        Error::new(ALTERED, format!("{what} is not what {ABOUT} says: the bundle was damaged or altered"))
            .hint("export it again on the signer: lsm bundle export")
    };
    for (name, is, said) in [
        (ACCOUNTS, &hashes.accounts, &file.sha256.accounts),
        (CERTIFICATE, &hashes.certificate, &file.sha256.certificate),
        (MACAROON, &hashes.macaroon, &file.sha256.macaroon),
    ] {
        if is != said {
            return Err(altered(name));
        }
    }
    if file.identity_pubkey != accounts.identity_pubkey() {
        return Err(altered("the node's key that follows from accounts.json"));
    }
    let rpchost = file.rpchost.iter().map(|text| text.parse()).collect::<Result<Vec<Endpoint>>>()?;
    // A signer is another machine: a path on this one is not a bundle's to name.
    if rpchost.iter().any(|host| matches!(host, Endpoint::Unix(_))) {
        return Err(Error::new(BAD_ABOUT, format!("{ABOUT} names a unix socket as the signer")));
    }
    hold_search(file.birthday, file.recovery_window)?;
    let lnd_version = Some(file.lnd_version).filter(|v| !v.is_empty());
    let AboutFile { network, birthday, recovery_window, .. } = file;
    Ok(About { lnd_version, network: Some(network), birthday, recovery_window, rpchost })
}

/// Holds that a watch-only node can look for the wallet's coins by what bundle.json says.
fn hold_search(birthday: u64, recovery_window: Option<u32>) -> Result<()> {
    let latest = (OffsetDateTime::now_utc() + A_DAY).unix_timestamp();
    // A later one would have it look for nothing.
    if birthday > u64::try_from(latest).unwrap_or_default() {
        return Err(Error::new(BAD_ABOUT, format!("{ABOUT} has a birthday in the future ({birthday})"))
            .hint("it is in seconds since 1970"));
    }
    let Some(window) = recovery_window.filter(|window| !RECOVERY_WINDOWS.contains(window)) else { return Ok(()) };
    let (least, most) = RECOVERY_WINDOWS.into_inner();
    Err(Error::new(BAD_ABOUT, format!("{ABOUT} has a recovery window of {window}"))
        .hint(format!("it is from {least} to {most}")))
}

fn guess_about(accounts: &Accounts) -> About {
    // Coin type 0 is mainnet's alone; every test network shares 1 and its prefixes.
    let network = (accounts.coin_type() == Network::Mainnet.coin_type()).then_some(Network::Mainnet);
    About { lnd_version: None, network, birthday: 0, recovery_window: None, rpchost: Vec::new() }
}

fn hash_members(accounts: &[u8], certificate: &[u8], macaroon: &[u8]) -> Hashes {
    let of = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    Hashes { accounts: of(accounts), certificate: of(certificate), macaroon: of(macaroon) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_wallet_is_searched_by_is_within_bounds() {
        let now = OffsetDateTime::now_utc().unix_timestamp().cast_unsigned();
        for (birthday, window, is_good) in [
            (0, None, true),
            (now, Some(1), true),
            (now, Some(100_000), true),
            (now + 2 * 86_400, None, false),
            (1 << 63, None, false),
            (u64::MAX, None, false),
            (now, Some(0), false),
            (now, Some(100_001), false),
            (now, Some(u32::MAX), false),
        ] {
            let refused = hold_search(birthday, window).err().map(|e| e.code());
            assert_eq!(refused, (!is_good).then_some(BAD_ABOUT), "{birthday} {window:?}");
        }
    }

    #[test]
    fn a_folder_that_others_use_is_not_closed_for_a_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shared");
        let set = |mode: u32| fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        let lay = || lay([(ACCOUNTS, b"{}".as_slice())].into_iter(), &folder, None);
        lay().unwrap();
        fs::write(folder.join(ENCRYPTED), "").unwrap();
        set(0o755);
        lay().unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o700, "nothing but a bundle's is in it");
        fs::write(folder.join("theirs"), "").unwrap();
        lay().unwrap();
        for mode in [0o755, 0o1777, 0o750] {
            set(mode);
            assert_eq!(lay().unwrap_err().code(), NO_BUNDLES);
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, mode);
        }
        let somebody = user::own_uid() + 1;
        set(0o700);
        assert!(check_folder(&folder, Some(Owner { uid: somebody, gid: somebody })).is_err(), "not theirs");
        if user::is_root() {
            std::os::unix::fs::chown(&folder, Some(somebody), None).unwrap();
            fs::remove_file(folder.join("theirs")).unwrap();
            assert_eq!(lay().unwrap_err().code(), NOT_MINE, "they could put another bundle there");
        }
    }
}
