//! Talking to an lnd, the signer's or a watch-only one: blocking calls over one pinned channel.

pub mod accounts;
pub mod certificate;
pub mod channel;
pub mod fence;
pub mod macaroon;
pub mod middleware;
pub mod proof;
pub mod wallet;
pub mod wire;

use crate::error::{Code, Error, Result};
use accounts::Accounts;
use certificate::Certificate;
use channel::{Channel, Endpoint, Outcome};
use macaroon::{Macaroon, Permission};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;
use wire::lnrpc::lightning_client::LightningClient;
use wire::signrpc::signer_client::SignerClient;
use wire::walletrpc::wallet_kit_client::WalletKitClient;
use wire::{lnrpc, signrpc, walletrpc};

/// The wallet is locked.
pub const LOCKED: Code = Code::refused("E-SIGNER-010");
/// There is no wallet yet.
pub const NO_WALLET: Code = Code::refused("E-SIGNER-011");
/// lnd is starting, or stopping.
pub const NOT_READY: Code = Code::refused("E-SIGNER-012");
/// The macaroon is not this node's, was revoked, or its caveats do not hold.
pub const MACAROON_REFUSED: Code = Code::refused("E-SIGNER-013");
/// The macaroon is good but does not permit the call.
pub const NOT_PERMITTED: Code = Code::refused("E-SIGNER-014");
/// The node does not know the call.
pub const OTHER_VERSION: Code = Code::refused("E-SIGNER-015");
/// lnd refused for a reason of its own, which the message tells.
pub const FAILED: Code = Code::refused("E-SIGNER-016");
/// The channel broke during the call.
pub const BROKEN: Code = Code::refused("E-SIGNER-017");
/// The operator has frozen what it lets be signed.
pub const FROZEN: Code = Code::refused("E-SIGNER-019");

/// What the guard of a signer says that the operator has frozen.
pub const IS_FROZEN: &str = "the operator has frozen this signer";

/// What tonic and hyper say, under codes that mean other things too, of a connection that breaks while it is set up or
/// before the call was sent.
const BROKE: [&str; 2] = ["transport error", "operation was canceled"];

/// How long an ordinary call may take. lnd's key derivation and disk are the slow parts, not the network.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// The largest answer that is taken: 259 accounts are 60 KB on the wire, and a wallet may have more of its own.
const LARGEST_ANSWER: usize = 16 << 20;

/// One lnd. Calls block; each has a deadline.
pub struct Node {
    channel: Channel,
    macaroon: Option<AsciiMetadataValue>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// lnd's version, such as `v0.21.3-beta`.
    pub version: String,
    /// The node's public key in hex.
    pub identity_pubkey: String,
    /// The bitcoin network, as lnd names it.
    pub network: String,
}

impl Node {
    /// The node at `endpoint`, whose server has to present exactly one of `pins`. Nothing is dialled yet.
    pub fn new(endpoint: Endpoint, pins: &(impl AsRef<[Certificate]> + ?Sized)) -> Self {
        Self { channel: Channel::new(endpoint, pins.as_ref()), macaroon: None }
    }

    /// The same at `address`, whatever the name of `endpoint` resolves to; the certificate has to be for that name.
    pub fn at(endpoint: Endpoint, address: SocketAddr, pins: &(impl AsRef<[Certificate]> + ?Sized)) -> Self {
        Self { channel: Channel::at(endpoint, address, pins.as_ref()), macaroon: None }
    }

    /// The same with `macaroon` on every call.
    #[must_use]
    pub fn with_macaroon(mut self, macaroon: &Macaroon) -> Self {
        let mut value = AsciiMetadataValue::try_from(macaroon.to_hex().as_str()).expect("hex is ASCII");
        value.set_sensitive(true);
        self.macaroon = Some(value);
        self
    }

    /// Has `heed` see every unix socket that is connected from now on, before a byte is sent over it; where it fails the socket is
    /// not used.
    #[must_use]
    pub fn on_open(self, heed: impl Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        self.channel.on_open(heed);
        self
    }

    /// Where it answers.
    pub fn endpoint(&self) -> &Endpoint {
        self.channel.endpoint()
    }

    /// Connects once, with the whole TLS handshake, and hangs up.
    ///
    /// # Errors
    /// The first layer that fails, each with its own code ([`channel`]).
    pub fn probe(&self) -> Result<()> {
        self.channel.probe()
    }

    /// The wallet's accounts, as `lncli wallet accounts list` shows them. Answers from [`wallet::State::RpcActive`] on.
    ///
    /// # Errors
    /// Where the call fails, or an account that lnd needs is not among them.
    pub fn accounts(&self) -> Result<Accounts> {
        Accounts::from_wire(self.list_accounts()?)
    }

    /// True where the wallet has private keys of its own, and not only what a signer's bundle holds.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn holds_keys(&self) -> Result<bool> {
        Ok(self.list_accounts()?.accounts.iter().any(|account| !account.watch_only))
    }

    fn list_accounts(&self) -> Result<walletrpc::ListAccountsResponse> {
        self.call(CALL_DEADLINE, walletrpc::ListAccountsRequest {}, |channel, request| async {
            WalletKitClient::new(channel).max_decoding_message_size(LARGEST_ANSWER).list_accounts(request).await
        })
    }

    /// Version, identity and network. Needs `info:read`.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn info(&self) -> Result<Info> {
        let answer = self.call(CALL_DEADLINE, lnrpc::GetInfoRequest {}, |channel, request| async {
            LightningClient::new(channel).get_info(request).await
        })?;
        // lnd answers "0.21.3-beta commit=v0.21.3-beta"; its tags carry a v.
        let version = format!("v{}", answer.version.split(' ').next().unwrap_or_default());
        let network = answer.chains.into_iter().next().map(|c| c.network).unwrap_or_default();
        Ok(Info { version, identity_pubkey: answer.identity_pubkey, network })
    }

    /// Every call that this lnd knows, as `/package.Service/Call`.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn known_uris(&self) -> Result<BTreeSet<String>> {
        self.calls().map(|calls| calls.into_keys().collect())
    }

    /// Every call that this lnd knows, with what it asks of a macaroon that does not name the call.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn calls(&self) -> Result<BTreeMap<String, Vec<Permission>>> {
        let answer = self.call(CALL_DEADLINE, lnrpc::ListPermissionsRequest {}, |channel, request| async {
            LightningClient::new(channel).list_permissions(request).await
        })?;
        let permission = |op: lnrpc::MacaroonPermission| Permission { entity: op.entity, action: op.action };
        let permissions = |list: lnrpc::MacaroonPermissionList| list.permissions.into_iter().map(permission).collect();
        Ok(answer.method_permissions.into_iter().map(|(uri, list)| (uri, permissions(list))).collect())
    }

    /// Bakes a macaroon with `permissions` on root key `root_key_id`. Give it a key of its own: deleting the key is the
    /// only way to revoke it.
    ///
    /// # Errors
    /// Where the call fails: a permission that this lnd does not know is one reason.
    pub fn bake(&self, permissions: &[Permission], root_key_id: u64) -> Result<Macaroon> {
        let permissions = permissions
            .iter()
            .map(|p| lnrpc::MacaroonPermission { entity: p.entity.clone(), action: p.action.clone() })
            .collect();
        let request = lnrpc::BakeMacaroonRequest { permissions, root_key_id };
        let answer = self.call(CALL_DEADLINE, request, |channel, request| async {
            LightningClient::new(channel).bake_macaroon(request).await
        })?;
        Macaroon::parse_hex(&answer.macaroon)
    }

    /// The root keys that macaroons hang on.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn root_key_ids(&self) -> Result<Vec<u64>> {
        let answer = self.call(CALL_DEADLINE, lnrpc::ListMacaroonIDsRequest {}, |channel, request| async {
            LightningClient::new(channel).list_macaroon_i_ds(request).await
        })?;
        Ok(answer.root_key_ids)
    }

    /// Deletes a root key, which revokes every macaroon on it. Key 0 cannot be deleted.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn delete_root_key(&self, root_key_id: u64) -> Result<bool> {
        let request = lnrpc::DeleteMacaroonIdRequest { root_key_id };
        let answer = self.call(CALL_DEADLINE, request, |channel, request| async {
            LightningClient::new(channel).delete_macaroon_id(request).await
        })?;
        Ok(answer.deleted)
    }

    /// Deletes all root keys but the `kept` ones.
    ///
    /// # Errors
    /// As [`Node::delete_root_key`].
    pub fn delete_root_keys_but(&self, kept: &[u64]) -> Result<()> {
        let mut others = self.root_key_ids()?.into_iter().filter(|key| !kept.contains(key));
        others.try_for_each(|key| self.delete_root_key(key).map(drop))
    }

    /// A message signed by the node's identity, as `lncli signmessage` gives it (zbase32). A watch-only node asks its
    /// signer for it. Needs `message:write`.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn sign_as_node(&self, message: &[u8]) -> Result<String> {
        let request = lnrpc::SignMessageRequest { msg: message.to_vec(), single_hash: false };
        let answer = self.call(CALL_DEADLINE, request, |channel, request| async {
            LightningClient::new(channel).sign_message(request).await
        })?;
        Ok(answer.signature)
    }

    /// A compact signature over the double sha256 of `message` by the key at `family`/`index`: what a watch-only lnd
    /// asks of its signer. Needs one of [`macaroon::SIGNER_URIS`].
    ///
    /// # Errors
    /// Where the call fails.
    pub fn sign_with_key(&self, family: i32, index: i32, message: &[u8]) -> Result<Vec<u8>> {
        let key_loc = Some(signrpc::KeyLocator { key_family: family, key_index: index });
        let request = signrpc::SignMessageReq {
            msg: message.to_vec(),
            key_loc,
            double_hash: true,
            compact_sig: true,
            schnorr_sig: false,
        };
        let answer = self.call(CALL_DEADLINE, request, |channel, request| async {
            SignerClient::new(channel).sign_message(request).await
        })?;
        Ok(answer.signature)
    }

    /// Begins a MuSig2 session with the key at `family`/`index`, as a thief of that key would: with a secret nonce of
    /// the caller's choice. `keys` are all signers' public keys, that key's own first. Only to try whether the macaroon
    /// permits it.
    ///
    /// # Errors
    /// [`NOT_PERMITTED`] where it does not, as it should without taproot channels.
    pub fn try_musig2(&self, family: i32, index: i32, keys: &[Vec<u8>]) -> Result<()> {
        // Two scalars and the public key (lnrpc/signrpc/signer.proto).
        let own = keys.first().map(Vec::as_slice).unwrap_or_default();
        let nonce = [&[1; 32][..], &[2; 32], own].concat();
        let request = signrpc::MuSig2SessionRequest {
            key_loc: Some(signrpc::KeyLocator { key_family: family, key_index: index }),
            all_signer_pubkeys: keys.to_vec(),
            version: signrpc::MuSig2Version::Musig2VersionV100rc2.into(),
            pregenerated_local_nonce: nonce,
            tweaks: vec![],
        };
        self.call(CALL_DEADLINE, request, |channel, request| async {
            SignerClient::new(channel).mu_sig2_create_session(request).await
        })
        .map(drop)
    }

    fn call<Q, A, F>(
        &self,
        deadline: Duration,
        question: Q,
        send: impl FnOnce(tonic::transport::Channel, tonic::Request<Q>) -> F,
    ) -> Result<A>
    where
        F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    {
        let mut request = tonic::Request::new(question);
        if let Some(macaroon) = &self.macaroon {
            request.metadata_mut().insert("macaroon", macaroon.clone());
        }
        match self.channel.call(deadline, |channel| send(channel, request)) {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Unreached(fault) => Err(fault),
            Outcome::Refusal(status) => Err(explain(self.endpoint(), &status)),
        }
    }
}

/// Tells lnd's refusals apart. Most carry the code Unknown, so that only lnd's words tell them: rpcperms/interceptor.go,
/// macaroons/service.go and store.go, and the bakery's checker.
fn explain(at: &Endpoint, status: &tonic::Status) -> Error {
    let words = status.message();
    let says = |text: &str| words.contains(text);
    if says("wallet locked") {
        Error::new(LOCKED, format!("the wallet of {at} is locked")).hint("unlock it on its host: lncli unlock")
    } else if says("wallet not created") {
        Error::new(NO_WALLET, format!("{at} has no wallet yet")).hint("on a signer's host: lsm install")
    } else if says("waiting to start") || says("in the process of starting up") || says("server exiting") {
        Error::new(NOT_READY, format!("lnd at {at} is starting or stopping")).hint("wait, and look into its log")
    } else if says("permission denied") {
        Error::new(NOT_PERMITTED, format!("the macaroon does not permit this call at {at}"))
            .hint("it is good but too narrow; on the signer: lsm bundle export")
    } else if ["verification failed", "cannot get macaroon", "expected 1 macaroon", "caveat", "root key", "unmarshal"]
        .into_iter()
        .any(says)
    {
        Error::new(MACAROON_REFUSED, format!("{at} refuses the macaroon: {words}"))
            .hint("it was revoked, has expired, or is another node's; on the signer: lsm bundle export")
    } else if says(IS_FROZEN) {
        Error::new(FROZEN, format!("{at} refused: {words}")).hint("on the signer: lsm guard thaw")
    } else if status.code() == tonic::Code::Unimplemented {
        Error::new(OTHER_VERSION, format!("lnd at {at} does not know this call: {words}"))
            .hint("its version differs from what lsm knows, or it was built without signrpc and walletrpc")
    } else if status.code() == tonic::Code::Unavailable || BROKE.contains(&words) {
        Error::new(BROKEN, format!("the connection to {at} broke: {words}"))
            .hint("lnd may have stopped: look into its log")
    } else {
        Error::new(FAILED, format!("{at} refused: {words}"))
    }
}
