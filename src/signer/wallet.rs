//! A wallet's life over gRPC: how far lnd has come, the seed, creating, unlocking.

use crate::error::{Code, Error, Result};
use crate::secret::Secret;
use crate::signer::accounts::Accounts;
use crate::signer::macaroon::Macaroon;
use crate::signer::wire::lnrpc;
use crate::signer::wire::lnrpc::state_client::StateClient;
use crate::signer::wire::lnrpc::wallet_unlocker_client::WalletUnlockerClient;
use crate::signer::{BROKEN, FAILED, LOCKED, NO_WALLET, NOT_READY, Node, channel};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const BAD_SEED: Code = Code::usage("E-WALLET-001");
/// The words are no seed, or the passphrase is not theirs.
pub const NOT_A_SEED: Code = Code::unverified("E-WALLET-002");

/// lnd's words (aezeed/wordlist.go), which are BIP 39's English ones, in their order.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("../../policies/seed-words.txt").lines().collect());

/// The place of `word` in lnd's list, if it is one of a seed's.
pub fn place_of(word: &str) -> Option<usize> {
    WORDS.binary_search(&word).ok()
}

/// The words of an aezeed seed.
pub const SEED_WORDS: usize = 24;
/// And what they are in bytes.
const SEED_BYTES: usize = SEED_WORDS * 11 / 8;
/// What is likely where a checksum does not hold.
const WRONG_WORD: &str = "a word is wrong, or two have changed places";

/// How long lnd may take over its key derivation and database: seconds on a slow disk, minutes under emulation.
const WALLET_DEADLINE: Duration = Duration::from_secs(180);
const STATE_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);

/// How far an lnd has come, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It runs, but does not serve yet.
    Starting,
    /// There is no wallet.
    Absent,
    /// There is one, locked.
    Locked,
    /// It is being opened.
    Unlocked,
    /// The wallet's calls answer.
    RpcActive,
    /// Everything answers: it can sign.
    Active,
}

impl State {
    /// Its name, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Absent => "absent",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::RpcActive => "rpc-active",
            Self::Active => "active",
        }
    }

    /// What it is doing, as a sentence says it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Starting => "still starting",
            Self::Absent => "without a wallet",
            Self::Locked => "locked",
            Self::Unlocked => "opening its wallet",
            Self::RpcActive => "waiting for its chain",
            Self::Active => "serving",
        }
    }
}

/// The 24 words of an aezeed seed, and the passphrase that they are enciphered with where that is not lnd's default. A
/// secret; whether they are a seed, only lnd can say.
#[derive(Debug)]
pub struct Seed {
    lines: Secret,
    passphrase: Option<Secret>,
}

impl Seed {
    /// Reads 24 words, apart by any white space; they may be numbered, as a seed is shown.
    ///
    /// # Errors
    /// Where they are not 24 words of lnd's list; [`NOT_A_SEED`] where their checksum says that they are no seed. The error
    /// names a word's place and no word.
    pub fn parse(text: &Secret) -> Result<Self> {
        let bad = |why: String| {
            Error::new(BAD_SEED, format!("the seed {why}")).hint(format!("{SEED_WORDS} words of small letters"))
        };
        let text = std::str::from_utf8(text.expose()).map_err(|_| bad("is no text".into()))?;
        let is_number = |word: &&str| word.trim_end_matches(['.', ')', ':']).bytes().all(|b| b.is_ascii_digit());
        let words = || text.split_ascii_whitespace().filter(|word| !is_number(word));
        let count = words().count();
        if count != SEED_WORDS {
            return Err(bad(format!("has {count} words")));
        }
        if let Some(place) = words().position(|word| place_of(word).is_none()) {
            return Err(bad(format!("has a word {} that is none of lnd's list", place + 1)));
        }
        if !has_checksum(words()) {
            return Err(Error::new(NOT_A_SEED, "these 24 words are no seed").hint(WRONG_WORD));
        }
        Ok(Self::join(words()))
    }

    /// The same, enciphered with this passphrase.
    #[must_use]
    pub fn with_passphrase(self, passphrase: Option<Secret>) -> Self {
        Self { passphrase, ..self }
    }

    /// The words, one by one.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        std::str::from_utf8(self.lines.expose()).expect("joined from text").lines()
    }

    /// The words as a seed file holds them: one a line, with a final newline.
    pub fn expose(&self) -> &[u8] {
        self.lines.expose()
    }

    fn passphrase(&self) -> Vec<u8> {
        self.passphrase.as_ref().map(|passphrase| passphrase.expose().to_vec()).unwrap_or_default()
    }

    fn join<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        // The longest word of lnd's list has 8 letters: room for all, so that no growing leaves a copy behind.
        let mut lines = Vec::with_capacity(SEED_WORDS * 16);
        for word in words {
            lines.extend_from_slice(word.as_bytes());
            lines.push(b'\n');
        }
        Self { lines: Secret::new(lines), passphrase: None }
    }
}

/// True where the last 4 of the 33 bytes that 24 words of 11 bits make are the CRC-32C of those before (lnd's
/// aezeed/cipherseed.go). The passphrase has no part in it.
fn has_checksum<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SEED_BYTES));
    let (mut bits, mut count) = (0_u32, 0);
    for place in words.filter_map(place_of) {
        bits = bits << 11 | u32::try_from(place).unwrap_or(0);
        count += 11;
        while count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes.split_last_chunk::<4>().is_some_and(|(body, sum)| crc32c(body).to_be_bytes() == *sum)
}

/// The CRC with Castagnoli's polynomial (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

impl Node {
    /// How far it has come. Needs no macaroon.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub fn state(&self) -> Result<State> {
        use lnrpc::WalletState as W;
        let answer = self.call(STATE_DEADLINE, lnrpc::GetStateRequest {}, |channel, request| async {
            StateClient::new(channel).get_state(request).await
        })?;
        Ok(match answer.state() {
            W::WaitingToStart => State::Starting,
            W::NonExisting => State::Absent,
            W::Locked => State::Locked,
            W::Unlocked => State::Unlocked,
            W::RpcActive => State::RpcActive,
            W::ServerActive => State::Active,
        })
    }

    /// Waits until its state is one that `wanted` accepts, and returns it.
    ///
    /// # Errors
    /// After `deadline`: why it was not reached, with the code of the state that it stopped at. At once where waiting
    /// cannot help: another certificate, say.
    pub fn wait_for(&self, wanted: impl Fn(State) -> bool, deadline: Duration) -> Result<State> {
        let end = Instant::now() + deadline;
        loop {
            let last = match self.state() {
                Ok(state) if wanted(state) => return Ok(state),
                Ok(state) => self.stuck(state),
                Err(fault) if may_pass(fault.code()) => fault,
                Err(fault) => return Err(fault),
            };
            if Instant::now() >= end {
                return Err(last);
            }
            std::thread::sleep(POLL);
        }
    }

    /// A new seed from lnd's own generator, enciphered with `passphrase` or lnd's default. Answers only while there is no
    /// wallet; nothing is stored.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn gen_seed(&self, passphrase: Option<&Secret>) -> Result<Seed> {
        let enciphered = passphrase.map(|passphrase| passphrase.expose().to_vec()).unwrap_or_default();
        let request = lnrpc::GenSeedRequest { aezeed_passphrase: enciphered };
        let answer = self.call(WALLET_DEADLINE, request, |channel, request| async {
            WalletUnlockerClient::new(channel).gen_seed(request).await
        })?;
        if answer.cipher_seed_mnemonic.len() != SEED_WORDS {
            return Err(Error::new(FAILED, format!("{} gave a seed that has not {SEED_WORDS} words", self.endpoint())));
        }
        Ok(Seed::join(answer.cipher_seed_mnemonic.iter().map(String::as_str))
            .with_passphrase(passphrase.map(Secret::copy)))
    }

    /// Creates the wallet from `seed` and returns the admin macaroon. With `stateless` lnd writes no macaroon to disk
    /// until its next automatic unlock.
    ///
    /// Not safe to repeat: a second call while the first is under way can leave a wallet with either password. Ask for
    /// the state first, and again where this fails with a broken connection.
    ///
    /// # Errors
    /// Where the call fails; [`NOT_A_SEED`] where lnd finds that the words are none, or that the passphrase is another one.
    pub fn init_wallet(&self, password: &Secret, seed: &Seed, stateless: bool) -> Result<Macaroon> {
        let mut request = lnrpc::InitWalletRequest::default();
        request.wallet_password = password.expose().to_vec();
        request.cipher_seed_mnemonic = seed.words().map(str::to_owned).collect();
        request.aezeed_passphrase = seed.passphrase();
        request.stateless_init = stateless;
        self.init(request).map_err(explain_seed)
    }

    /// Creates a watch-only wallet from the signer's accounts and returns the admin macaroon, which lnd writes to disk
    /// too. `birthday` is when the seed was made, in unix seconds; 0: unknown, which costs a rescan of the whole chain. lnd
    /// looks for coins on `recovery_window` addresses in a row; 0: on none, and a wallet that had coins is empty to the eye.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn init_watch_only(
        &self,
        password: &Secret,
        accounts: &Accounts,
        birthday: u64,
        recovery_window: u32,
    ) -> Result<Macaroon> {
        let mut request = lnrpc::InitWalletRequest::default();
        request.wallet_password = password.expose().to_vec();
        request.recovery_window = recovery_window.cast_signed();
        request.watch_only =
            Some(lnrpc::WatchOnly { master_key_birthday_timestamp: birthday, accounts: accounts.to_watch_only() });
        self.init(request)
    }

    /// Unlocks the wallet.
    ///
    /// # Errors
    /// Where the call fails, the password is wrong, or it is open already.
    pub fn unlock(&self, password: &Secret) -> Result<()> {
        let request = lnrpc::UnlockWalletRequest { wallet_password: password.expose().to_vec() };
        self.call(WALLET_DEADLINE, request, |channel, request| async {
            WalletUnlockerClient::new(channel).unlock_wallet(request).await
        })
        .map(drop)
    }

    /// Opens the wallet with its password, which stays, and has lnd replace every root key (lnd's macaroons/store.go,
    /// `GenerateNewRootKey`): all macaroons that there are are refused from then on. Returns the new admin macaroon; lnd
    /// removes its macaroons from the disk, and writes new ones at its next unlock. Answers only while the wallet is locked;
    /// done again it does no harm.
    ///
    /// # Errors
    /// Where the call fails, or the password is wrong.
    pub fn renew_root_keys(&self, password: &Secret) -> Result<Macaroon> {
        self.open_anew(password, password, true)
    }

    /// Changes the password of a locked wallet from `old` to `new`, opens it, and returns the admin macaroon.
    ///
    /// lnd changes two databases one after the other, the wallet's and the macaroons': an lnd that is killed between the two
    /// opens with neither password. Keep a copy of both.
    ///
    /// # Errors
    /// Where the call fails, or `old` is not the password.
    pub fn change_password(&self, old: &Secret, new: &Secret) -> Result<Macaroon> {
        self.open_anew(old, new, false)
    }

    fn open_anew(&self, old: &Secret, new: &Secret, new_macaroon_root_key: bool) -> Result<Macaroon> {
        let request = lnrpc::ChangePasswordRequest {
            current_password: old.expose().to_vec(),
            new_password: new.expose().to_vec(),
            // Without it lnd fails where one of its macaroons is not on the disk.
            stateless_init: true,
            new_macaroon_root_key,
        };
        let mut answer = self.call(WALLET_DEADLINE, request, |channel, request| async {
            WalletUnlockerClient::new(channel).change_password(request).await
        })?;
        Macaroon::parse(std::mem::take(&mut answer.admin_macaroon))
    }

    fn init(&self, request: lnrpc::InitWalletRequest) -> Result<Macaroon> {
        let mut answer = self.call(WALLET_DEADLINE, request, |channel, request| async {
            WalletUnlockerClient::new(channel).init_wallet(request).await
        })?;
        Macaroon::parse(std::mem::take(&mut answer.admin_macaroon))
    }

    fn stuck(&self, state: State) -> Error {
        let (code, hint) = match state {
            State::Locked => (LOCKED, "unlock it on its host: lncli unlock"),
            State::Absent => (NO_WALLET, "on a signer's host: lsm install"),
            _ => (NOT_READY, "look into its log"),
        };
        Error::new(code, format!("lnd at {} is {}", self.endpoint(), state.words())).hint(hint)
    }
}

/// lnd's words about a seed (aezeed/errors.go) repeat one of it, and are not to be shown.
fn explain_seed(error: Error) -> Error {
    let says = |text: &str| error.cause().contains(text);
    let why = if says("invalid passphrase") {
        "the seed's passphrase is another one; without --seed-passphrase lnd's default is taken"
    } else if says("checksum") || says("word list") || says("version") {
        WRONG_WORD
    } else {
        return error;
    };
    Error::new(NOT_A_SEED, "these 24 words are no seed that lnd can read").hint(why)
}

/// True where the fault may pass by itself while lnd or the proxy before it starts.
fn may_pass(code: Code) -> bool {
    [channel::REFUSED, channel::SILENT, channel::HUNG_UP, NOT_READY, BROKEN].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lnd's own example (aezeed/cipherseed_test.go).
    const SEED: &str = "ability liquid travel stem barely drastic pact cupboard apple thrive morning oak \
        feature tissue couch old math inform success suggest drink motion know royal";

    fn parse(text: &str) -> Result<Seed> {
        Seed::parse(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_seed_is_24_words_one_a_line() {
        let words: Vec<&str> = SEED.split_whitespace().collect();
        let seed = parse(&words.join(" \r\n")).unwrap();
        assert_eq!(seed.words().collect::<Vec<_>>(), words);
        assert_eq!(seed.expose(), (words.join("\n") + "\n").as_bytes());
        let numbered: String =
            words.iter().enumerate().map(|(at, word)| format!("{:>4}. {word:<10}", at + 1)).collect();
        assert_eq!(parse(&numbered).unwrap().expose(), seed.expose());
        assert!(!format!("{seed:?}").contains("ability"));
    }

    #[test]
    fn anything_else_is_refused_without_naming_a_word() {
        let (first, rest) = SEED.split_once(' ').unwrap();
        let capital = SEED.replace("royal", "Royal");
        for bad in ["", "ability", rest, &format!("{SEED} royal"), &capital, &SEED.replace("royal", "royall")] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.code(), BAD_SEED, "{bad}");
            assert!(!error.cause().contains("oyal") && !error.cause().contains("ability"), "{error}");
        }
        let swapped = format!("{rest} {first}");
        for wrong in [&swapped, &SEED.replace("royal", "zoo"), &"abandon ".repeat(24)] {
            assert_eq!(parse(wrong).unwrap_err().code(), NOT_A_SEED, "{wrong}");
        }
    }
}
