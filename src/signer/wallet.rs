//! A wallet's life over gRPC: how far lnd has come, the seed, creating, unlocking.

use crate::error::{Code, Error, Result};
use crate::secret::Secret;
use crate::signer::accounts::Accounts;
use crate::signer::macaroon::Macaroon;
use crate::signer::wire::lnrpc;
use crate::signer::wire::lnrpc::state_client::StateClient;
use crate::signer::wire::lnrpc::wallet_unlocker_client::WalletUnlockerClient;
use crate::signer::{BROKEN, FAILED, LOCKED, NO_WALLET, NOT_READY, Node, channel};
use std::time::{Duration, Instant};

const BAD_SEED: Code = Code::usage("E-WALLET-001");

/// The words of an aezeed seed.
pub const SEED_WORDS: usize = 24;

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

/// The 24 words of an aezeed seed. A secret; whether they are a seed, only lnd can say.
#[derive(Debug)]
pub struct Seed(Secret);

impl Seed {
    /// Reads 24 words, apart by any white space.
    ///
    /// # Errors
    /// Where they are not 24 words of small letters. The error names no word.
    pub fn parse(text: &Secret) -> Result<Self> {
        let bad = |why: String| {
            Error::new(BAD_SEED, format!("the seed {why}")).hint(format!("{SEED_WORDS} words of small letters"))
        };
        let text = std::str::from_utf8(text.expose()).map_err(|_| bad("is no text".into()))?;
        let count = text.split_ascii_whitespace().count();
        if count != SEED_WORDS {
            return Err(bad(format!("has {count} words")));
        }
        if text.split_ascii_whitespace().any(|word| !word.bytes().all(|b| b.is_ascii_lowercase())) {
            return Err(bad("holds something else than small letters".into()));
        }
        Ok(Self::join(text.split_ascii_whitespace()))
    }

    /// The words, one by one.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        std::str::from_utf8(self.0.expose()).expect("joined from text").lines()
    }

    /// The words as a seed file holds them: one a line, with a final newline.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    fn join<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        // The longest word of lnd's list has 8 letters: room for all, so that no growing leaves a copy behind.
        let mut lines = Vec::with_capacity(SEED_WORDS * 16);
        for word in words {
            lines.extend_from_slice(word.as_bytes());
            lines.push(b'\n');
        }
        Self(Secret::new(lines))
    }
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

    /// A new seed from lnd's own generator. Answers only while there is no wallet; nothing is stored.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn gen_seed(&self) -> Result<Seed> {
        let answer = self.call(WALLET_DEADLINE, lnrpc::GenSeedRequest {}, |channel, request| async {
            WalletUnlockerClient::new(channel).gen_seed(request).await
        })?;
        if answer.cipher_seed_mnemonic.len() != SEED_WORDS {
            return Err(Error::new(FAILED, format!("{} gave a seed that has not {SEED_WORDS} words", self.endpoint())));
        }
        Ok(Seed::join(answer.cipher_seed_mnemonic.iter().map(String::as_str)))
    }

    /// Creates the wallet from `seed` and returns the admin macaroon. With `stateless` lnd writes no macaroon to disk
    /// until its next automatic unlock.
    ///
    /// Not safe to repeat: a second call while the first is under way can leave a wallet with either password. Ask for
    /// the state first, and again where this fails with a broken connection.
    ///
    /// # Errors
    /// Where the call fails; words that are no seed are lnd's to find.
    pub fn init_wallet(&self, password: &Secret, seed: &Seed, stateless: bool) -> Result<Macaroon> {
        let mut request = lnrpc::InitWalletRequest::default();
        request.wallet_password = password.expose().to_vec();
        request.cipher_seed_mnemonic = seed.words().map(str::to_owned).collect();
        request.stateless_init = stateless;
        self.init(request)
    }

    /// Creates a watch-only wallet from the signer's accounts and returns the admin macaroon, which lnd writes to disk
    /// too. `birthday` is when the seed was made, in unix seconds; 0: unknown, which costs a rescan of the whole chain.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn init_watch_only(&self, password: &Secret, accounts: &Accounts, birthday: u64) -> Result<Macaroon> {
        let mut request = lnrpc::InitWalletRequest::default();
        request.wallet_password = password.expose().to_vec();
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
        let request = lnrpc::ChangePasswordRequest {
            current_password: password.expose().to_vec(),
            new_password: password.expose().to_vec(),
            // Without it lnd fails where one of its macaroons is not on the disk.
            stateless_init: true,
            new_macaroon_root_key: true,
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

/// True where the fault may pass by itself while lnd or the proxy before it starts.
fn may_pass(code: Code) -> bool {
    [channel::REFUSED, channel::SILENT, channel::HUNG_UP, NOT_READY, BROKEN].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_24_words_one_a_line() {
        let words = vec!["abandon"; 24];
        let seed = Seed::parse(&Secret::new(words.join(" \r\n").into_bytes())).unwrap();
        assert_eq!(seed.words().count(), 24);
        assert_eq!(seed.expose(), "abandon\n".repeat(24).as_bytes());
        assert!(!format!("{seed:?}").contains("abandon"));
    }

    #[test]
    fn anything_else_is_refused_without_naming_a_word() {
        for bad in ["", "abandon", &"abandon ".repeat(23), &"abandon ".repeat(25), &"Abandon ".repeat(24)] {
            let error = Seed::parse(&Secret::new(bad.as_bytes().to_vec())).unwrap_err();
            assert_eq!(error.code(), BAD_SEED);
            assert!(!error.cause().contains("bandon"));
        }
    }
}
