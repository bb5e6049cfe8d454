//! Making the wallet: the seed is safe with the operator before lnd is told to use it.

use super::machine::Machine;
use super::service;
use crate::age;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::host::beneath;
use crate::host::credential::Keep;
use crate::host::file::{self, Access};
use crate::host::process;
use crate::plan::door::{open, open_as_admin};
use crate::plan::event::Event;
use crate::plan::journal::Journal;
use crate::plan::step::{Door, Runner, SeedSink};
use crate::secret::Secret;
use crate::signer::wallet::{Seed, State};
use crate::signer::{MACAROON_REFUSED, Node};
use crate::spec::Network;
use crate::ui::progress::Progress;
use crate::ui::terminal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const EXISTS: Code = Code::refused("E-WALLET-010");
const BAD_RECEIPT: Code = Code::refused("E-WALLET-011");
const NOT_OURS: Code = Code::refused("E-WALLET-012");
const NO_WALLET: Code = Code::refused("E-WALLET-013");
const NO_WORDS: Code = Code::usage("E-WALLET-014");

/// Whose password it is that does not open the wallet, and what to do then.
type Password = (&'static str, &'static str);
/// What the operator named for a wallet that is adopted.
const NAMED: Password = ("the password that was named", "the wallet is left as it is; name it with --password-file");
/// What was sealed for a wallet that an earlier run began.
const SEALED: Password =
    ("its sealed password", "it is kept as it is; an earlier run was cut off while lnd was writing it");

/// Before which no wallet has anything that lnd could find, in unix seconds: SegWit's first day on mainnet (BIP 141). The
/// birthday of a wallet that does not say its own.
const OLDEST_WALLET: u64 = 1_503_539_857;

/// What is known of a wallet and is no secret; kept beside the signer's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The network that it is for.
    pub network: Network,
    /// When its seed was made, in unix seconds.
    pub birthday: u64,
    /// The node's identity that follows from the seed.
    pub identity_pubkey: String,
    /// How many addresses in a row without a coin a watch-only node looks at before it gives up: of a wallet that was
    /// restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_window: Option<u32>,
}

/// Reads a wallet's receipt.
///
/// # Errors
/// Where it is not there or is no receipt.
pub fn read_receipt(path: &Path) -> Result<Receipt> {
    toml::from_str(&file::read_text(path)?)
        .map_err(|e| Error::new(BAD_RECEIPT, format!("{} is no wallet's receipt", path.display())).because(e))
}

/// A wallet step's parts.
pub(super) struct Work<'a> {
    pub(super) runner: &'a Runner,
    pub(super) door: &'a Door,
    pub(super) password: &'a Keep,
    pub(super) seed: &'a SeedSink,
    pub(super) data: &'a Path,
    pub(super) database: &'a Path,
    pub(super) receipt: &'a Path,
    pub(super) network: Network,
}

/// Makes the wallet, or goes on with one that this journal began: generated, kept, journalled, initialised, in this
/// order. A wallet that is there and is not this journal's is left alone.
pub(super) fn create(work: &Work<'_>, journal: &mut Journal, machine: &Machine<'_>, shown: &Progress) -> Result<()> {
    let adopts = *work.seed == SeedSink::Adopted;
    let began = adopts || journal.history().kept_seed();
    if beneath::is_there(work.data, work.database)? && !began {
        return Err(Error::new(EXISTS, format!("there is a wallet already: {}", work.database.display()))
            .hint("it is kept as it is; move its folder away, or install under another --instance"));
    }
    let running = Running::begin(work.runner)?;
    let node = open(work.door)?;
    shown.say("waiting for lnd");
    let state = service::wait(&node, work.runner, |state| matches!(state, State::Absent | State::Locked))?;
    let password = work.password.load()?;
    shown.say("making the wallet");
    let (node, birthday) = match state {
        State::Locked if adopts => (take_over(work, node, &password)?, OLDEST_WALLET),
        State::Locked => {
            let kept_at = journal.history().seed_kept_at().unwrap_or_default();
            (unlock(work, &node, &password, SEALED)?, work.birthday().unwrap_or(kept_at))
        }
        _ if adopts => {
            return Err(Error::new(NO_WALLET, format!("{} holds no wallet", work.database.display()))
                .hint("what was adopted is left as it is"));
        }
        _ => init(work, node, &password, journal, machine, shown)?,
    };
    service::wait(&node, work.runner, |state| state == State::Active)?;
    let identity_pubkey = node.accounts()?.identity_pubkey().to_owned();
    let recovery_window = match work.seed {
        SeedSink::Restored { recovery_window, .. } => *recovery_window,
        _ => None,
    };
    // The receipt last: with it all of this is done, and nothing of it is left.
    running.end()?;
    write_receipt(work.receipt, &Receipt { network: work.network, birthday, identity_pubkey, recovery_window })
}

fn init(
    work: &Work<'_>,
    node: Node,
    password: &Secret,
    journal: &mut Journal,
    machine: &Machine<'_>,
    shown: &Progress,
) -> Result<(Node, u64)> {
    let made;
    let seed = match work.seed {
        SeedSink::Restored { .. } => machine.seed.words.as_ref().ok_or_else(no_words)?,
        _ => {
            made = node.gen_seed(machine.seed.passphrase.as_ref())?;
            &made
        }
    };
    let file = keep(seed, work.seed, journal, shown)?;
    journal.write(Event::SeedKept { file })?;
    // Stateless: lnd writes no macaroon; the one in the answer is for the few calls that follow. One that stays writes them,
    // as it does at every later start.
    let macaroon = node.init_wallet(password, seed, !work.runner.stays())?;
    Ok((node.with_macaroon(&macaroon), work.birthday().unwrap_or_else(now)))
}

impl Work<'_> {
    /// The birthday of a wallet that is restored; its owner may not know it.
    fn birthday(&self) -> Option<u64> {
        match self.seed {
            SeedSink::Restored { birthday, .. } => Some(birthday.unwrap_or(OLDEST_WALLET)),
            _ => None,
        }
    }
}

fn no_words() -> Error {
    Error::new(NO_WORDS, "there are no words to restore the wallet from").hint("give them again: lsm wallet restore")
}

/// A wallet that is adopted: the password that was named has to open it. Its root keys came with it, and macaroons on them are in
/// many hands: none is good here.
fn take_over(work: &Work<'_>, node: Node, password: &Secret) -> Result<Node> {
    let node = match node.renew_root_keys(password) {
        Ok(admin) => {
            service::wait(&node, work.runner, |state| state == State::Active)?;
            node.with_macaroon(&admin)
        }
        // It did without macaroons, or their database was removed: lnd makes a key as it opens (macaroons/store.go).
        Err(e) if e.code() == MACAROON_REFUSED => unlock(work, &node, password, NAMED)?,
        Err(e) => return Err(shut(work, NAMED, e)),
    };
    node.delete_root_keys_but(&[0])?;
    Ok(node)
}

/// Opens it with a password that has to be the wallet's.
fn unlock(work: &Work<'_>, node: &Node, password: &Secret, whose: Password) -> Result<Node> {
    node.unlock(password).map_err(|e| shut(work, whose, e))?;
    service::wait(node, work.runner, |state| state >= State::RpcActive)?;
    open_as_admin(work.door)
}

fn shut(work: &Work<'_>, (whose, hint): Password, why: Error) -> Error {
    let cause = format!("the wallet {} does not open with {whose}", work.database.display());
    Error::new(NOT_OURS, cause).hint(hint).because(why)
}

fn keep(seed: &Seed, sink: &SeedSink, journal: &mut Journal, shown: &Progress) -> Result<Option<PathBuf>> {
    match sink {
        SeedSink::Nowhere | SeedSink::Adopted | SeedSink::Restored { .. } => Ok(None),
        SeedSink::Terminal => shown.suspend(|| terminal::show_seed(&seed.words().collect::<Vec<_>>())).map(|()| None),
        SeedSink::File(path) => write(path, seed.expose(), journal).map(Some),
        SeedSink::Age { file, recipient } => {
            let encrypted = age::encrypt(seed.expose(), &recipient.parse()?)?;
            write(file, encrypted.as_bytes(), journal).map(Some)
        }
    }
}

fn write(path: &Path, seed: &[u8], journal: &mut Journal) -> Result<PathBuf> {
    let access = Access::mode(0o600);
    // A seed that this journal wrote belongs to no wallet yet: only such a one may give its place to another.
    let is_own = journal.history().is_unused_seed(path);
    let sha256 = hex::encode(Sha256::digest(seed));
    journal.write(Event::SeedWriting { file: path.to_owned(), sha256 })?;
    if is_own {
        file::replace(path, seed, access)?;
    } else {
        file::create(path, seed, access)?;
    }
    Ok(path.to_owned())
}

fn write_receipt(path: &Path, receipt: &Receipt) -> Result<()> {
    let text =
        toml::to_string(receipt).map_err(|e| Error::new(BAD_RECEIPT, "the receipt cannot be written").because(e))?;
    file::replace(path, text.as_bytes(), Access::mode(0o644))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// lnd while its wallet is made or locked. It does not stay, unless its runner says so and all went well.
pub(super) struct Running<'a>(Option<&'a Runner>);

impl<'a> Running<'a> {
    /// Starts it.
    pub(super) fn begin(runner: &'a Runner) -> Result<Self> {
        let running = Self(Some(runner));
        match runner {
            Runner::Process(lnd) => service::start(lnd)?,
            Runner::Container { object, body } => {
                let engine = Engine::open(&object.engine)?;
                engine.replace(&object.name, body, None)?;
                engine.start(&object.name)?;
            }
            Runner::Unit { unit, files, stays } => process::hold_interrupt(|| start(unit, files, *stays))?,
        }
        Ok(running)
    }

    /// Starts it, and waits until its wallet is there to be opened.
    pub(super) fn locked(runner: &'a Runner, door: &Door) -> Result<(Self, Node)> {
        let running = Self::begin(runner)?;
        let node = open(door)?;
        service::wait(&node, runner, |state| state == State::Locked)?;
        Ok((running, node))
    }

    /// Takes its files away, and stops it where it does not stay.
    pub(super) fn end(mut self) -> Result<()> {
        match self.0 {
            Some(Runner::Unit { unit, files, stays: true }) => {
                // It is being started: this waits until systemd, too, knows that it can sign. Then its command has ended that
                // the files name.
                service::finish(unit)?;
                remove(files)?;
                self.0 = None;
                Ok(())
            }
            _ => self.0.take().map_or(Ok(()), stop),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(runner) = self.0.take() {
            // The error that brought us here is the one worth telling.
            let _ = stop(runner);
        }
    }
}

/// Stops what runs lnd while its wallet is made, and takes its files away.
///
/// # Errors
/// Where it cannot be stopped.
pub fn stop(runner: &Runner) -> Result<()> {
    match runner {
        Runner::Process(lnd) => service::stop(lnd),
        Runner::Container { object, .. } => Engine::open(&object.engine)?.remove(object.object, &object.name),
        Runner::Unit { unit, files, .. } => process::hold_interrupt(|| {
            service::systemctl("stop", unit)?;
            remove(files)
        }),
    }
}

/// Has systemd know these files of a unit, and starts it.
fn start(unit: &str, files: &[(PathBuf, String)], stays: bool) -> Result<()> {
    for (path, text) in files {
        file::make_folders(path.parent().unwrap_or(Path::new("/")))?;
        file::replace(path, text.as_bytes(), Access::mode(0o644))?;
    }
    service::reload_units(files.iter().map(|(path, _)| path.as_path()))?;
    // Anew: an install that was killed may have left it running, with the wallet open.
    if !stays {
        return service::systemctl("restart", unit);
    }
    // Waited for: whoever asks next must not reach the one that ends.
    service::systemctl("stop", unit)?;
    service::begin(unit)
}

/// Has systemd forget these files of a unit.
fn remove(files: &[(PathBuf, String)]) -> Result<()> {
    for (path, _) in files {
        file::remove(path)?;
        if let Some(folder) = path.parent().filter(|f| f.extension().is_some_and(|e| e == "d")) {
            file::remove_folder(folder)?;
        }
    }
    service::reload_units(files.iter().map(|(path, _)| path.as_path()))
}
