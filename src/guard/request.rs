//! What is asked: a call's URI and bytes, read as far as they have to be judged.

use super::refusal::{Refusal, Rule};
use crate::signer::macaroon::{SIGNER_URIS, TAPROOT_URIS};
use crate::signer::wire::{lnrpc, signrpc, walletrpc};
use prost::Message;

/// What signs nothing and gives no key away: what lsm itself asks of its lnd as admin, and what the monitor's role may ask.
const HARMLESS: [&str; 7] = [
    "/lnrpc.State/GetState",
    "/lnrpc.State/SubscribeState",
    "/verrpc.Versioner/GetVersion",
    "/lnrpc.Lightning/GetInfo",
    "/lnrpc.Lightning/ListMacaroonIDs",
    "/lnrpc.Lightning/ListPermissions",
    "/walletrpc.WalletKit/ListAccounts",
];

/// True of a call that signs nothing and gives no key away, whatever it says.
pub(super) fn is_harmless(uri: &str) -> bool {
    HARMLESS.contains(&uri)
}

/// As harmless, though written down, but for the guard's own root key: without it the guard could not register again. That whoever
/// may bake a macaroon bakes one for any call is no way around the guard: it judges calls, not macaroons.
const BAKE: &str = "/lnrpc.Lightning/BakeMacaroon";
const DELETE: &str = "/lnrpc.Lightning/DeleteMacaroonID";

/// The largest message that is looked at, in bytes. lnd takes 200 MiB; a PSBT with as many inputs as a transaction can have that
/// others pass on has less than 1 MiB.
const LARGEST: usize = 4 << 20;

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Nothing is signed.
    Harmless,
    /// Nothing is signed either, but who may ask for what changes with it: what hangs on this root key is made or ended.
    RootKey(u64),
    /// signrpc.Signer/SignMessage.
    Message(signrpc::SignMessageReq),
    /// signrpc.Signer/DeriveSharedKey.
    SharedKey(signrpc::SharedKeyRequest),
    /// signrpc.Signer/MuSig2CreateSession.
    Session(signrpc::MuSig2SessionRequest),
    /// Another call in the MuSig2 session of this number.
    InSession(Vec<u8>),
    /// walletrpc.WalletKit/SignPsbt: the PSBT.
    Psbt(Vec<u8>),
}

impl Request {
    /// Reads the call `uri` with the message `bytes`, as lnd decoded it and encoded it again.
    ///
    /// # Errors
    /// Where the guard does not know the call, or the message does not read.
    pub fn read(uri: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let [psbt, shared_key, message] = SIGNER_URIS;
        let [create, in_session @ ..] = TAPROOT_URIS;
        if is_harmless(uri) {
            return Ok(Self::Harmless);
        }
        if bytes.len() > LARGEST {
            return Err(Refusal::new(Rule::TooLarge, format!("the message of {uri} has {} bytes", bytes.len())));
        }
        if in_session.contains(&uri) {
            return session_of(bytes).map(Self::InSession).ok_or_else(|| unreadable(uri));
        }
        let read = match uri {
            BAKE => lnrpc::BakeMacaroonRequest::decode(bytes).map(|asked| Self::RootKey(asked.root_key_id)),
            DELETE => lnrpc::DeleteMacaroonIdRequest::decode(bytes).map(|asked| Self::RootKey(asked.root_key_id)),
            _ if uri == message => signrpc::SignMessageReq::decode(bytes).map(Self::Message),
            _ if uri == shared_key => signrpc::SharedKeyRequest::decode(bytes).map(Self::SharedKey),
            _ if uri == create => signrpc::MuSig2SessionRequest::decode(bytes).map(Self::Session),
            _ if uri == psbt => walletrpc::SignPsbtRequest::decode(bytes).map(|asked| Self::Psbt(asked.funded_psbt)),
            _ => return Err(Refusal::new(Rule::UnknownCall, format!("the guard does not know {uri:?}"))),
        };
        read.map_err(|_| unreadable(uri))
    }

    /// The number of the MuSig2 session that `answer` says has begun, where it is the answer to a call that begins one.
    pub fn begun(uri: &str, answer: &[u8]) -> Option<Vec<u8>> {
        if uri == TAPROOT_URIS[0] { session_of(answer) } else { None }
    }

    /// True where something is signed or a key given away.
    pub fn signs(&self) -> bool {
        !matches!(self, Self::Harmless | Self::RootKey(_))
    }
}

/// What every message of a session but the one that asks for one has in its first field (lnd's signrpc/signer.proto).
fn session_of(bytes: &[u8]) -> Option<Vec<u8>> {
    signrpc::MuSig2SessionResponse::decode(bytes).ok().map(|message| message.session_id)
}

fn unreadable(uri: &str) -> Refusal {
    Refusal::new(Rule::Unreadable, format!("the message of {uri} does not read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_read() {
        for uri in ["", "/lnrpc.Lightning/SendCoins", "/signrpc.Signer/SignOutputRaw", "/lnrpc.State/GetState/"] {
            assert_eq!(Request::read(uri, &[]).unwrap_err().rule, Rule::UnknownCall, "{uri}");
        }
        for uri in SIGNER_URIS.iter().chain(&TAPROOT_URIS).chain(&HARMLESS).chain(&[BAKE, DELETE]) {
            assert!(Request::read(uri, &[]).is_ok(), "{uri}");
        }
        for uri in SIGNER_URIS.iter().chain(&[BAKE, DELETE]) {
            assert_eq!(Request::read(uri, &[0xff]).unwrap_err().rule, Rule::Unreadable, "{uri}");
            assert_eq!(Request::read(uri, &vec![0; LARGEST + 1]).unwrap_err().rule, Rule::TooLarge, "{uri}");
        }
    }
}
