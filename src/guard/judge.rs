//! What may be signed. Pure: the same request and the same terms always give the same verdict.

mod announcement;
mod psbt;

use super::rates::Class;
use super::refusal::{Refusal, Rule};
use super::request::Request;
use super::session::Sessions;
use super::spend::Spend;
use super::wallet::Wallet;
use crate::plan::register::GUARD;
use crate::signer::wire::signrpc::{KeyLocator, MuSig2SessionRequest, SharedKeyRequest, SignMessageReq};

/// lnd's key families (keychain/derivation.go): the channel's funding keys, the roots of its revocation keys, the node's
/// identity.
const FUNDING: i32 = 0;
const REVOCATION_ROOT: i32 = 5;
const NODE: i32 = 6;

/// What a verdict depends on besides the request.
pub struct Terms {
    /// The signer's watch-only node has taproot channels.
    pub taproot_channels: bool,
    /// The signer's wallet; without it nothing is passed that needs one of its keys.
    pub wallet: Option<Wallet>,
    /// The MuSig2 sessions that may be signed in.
    pub sessions: Sessions,
}

/// What a request is that may be signed as far as it depends on nothing but itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// What it is counted with; of a spend that is said when it is weighed.
    pub class: Option<Class>,
    /// What it takes from what is the wallet's alone.
    pub spend: Option<Spend>,
    /// The outputs that it proves to be fundings of channels of this wallet, each by its transaction and number.
    pub fundings: Vec<(String, u32)>,
}

/// Passes a request, or says why not. Whether it is within the operator's limits is not said here.
///
/// # Errors
/// The refusal.
pub fn judge(asked: &Request, terms: &mut Terms) -> Result<Judged, Refusal> {
    match asked {
        Request::Harmless => Ok(None),
        Request::RootKey(key) => judge_root_key(*key).map(|()| None),
        Request::Message(message) => judge_message(message, terms).map(|()| Some(Class::Message)),
        Request::SharedKey(shared) => judge_shared_key(shared, terms).map(Some),
        Request::Session(session) => judge_session(session, terms).map(|()| Some(Class::Musig2)),
        Request::InSession(id) => judge_in_session(id, terms).map(|()| None),
        Request::Psbt(bytes) => {
            let no_wallet = || Refusal::new(Rule::PsbtDerivation, "the guard does not know the wallet's keys yet");
            return psbt::read(bytes, terms.wallet.as_mut().ok_or_else(no_wallet)?);
        }
    }
    .map(|class| Judged { class, ..Judged::default() })
}

fn judge_root_key(key: u64) -> Result<(), Refusal> {
    if key == GUARD { Err(Refusal::new(Rule::GuardsKey, "that root key is the guard's")) } else { Ok(()) }
}

/// A positive list: an opaque digest can be a transaction's.
fn judge_message(asked: &SignMessageReq, terms: &Terms) -> Result<(), Refusal> {
    if asked.schnorr_sig {
        return Err(Refusal::new(Rule::MessageSchnorr, "no message is signed with Schnorr"));
    }
    let key = asked.key_loc.unwrap_or_default();
    match key.key_family {
        // No coin hangs on the node's identity.
        NODE => Ok(()),
        FUNDING if asked.double_hash && !asked.compact_sig => {
            let keys = terms.wallet.as_ref().and_then(|wallet| {
                let funding = wallet.key(FUNDING.cast_unsigned(), u32::try_from(key.key_index).ok()?)?;
                Some((wallet.key(NODE.cast_unsigned(), 0)?, funding))
            });
            let is_own = keys.is_some_and(|(node, funding)| announcement::is_by(&asked.msg, &node, &funding));
            let why =
                "what a funding key signs is the announcement of this node's channel by that key, and nothing else";
            if is_own { Ok(()) } else { Err(Refusal::new(Rule::MessageAnnouncement, why)) }
        }
        family => Err(Refusal::new(Rule::MessageKey, format!("keys of family {family} sign no such message"))),
    }
}

/// The node's identity shakes hands and opens onions; a revocation root comes of the channel's own funding key (lnd's
/// lnwallet/revocation_producer.go), and is what the watch-only node keeps anyway.
fn judge_shared_key(asked: &SharedKeyRequest, terms: &mut Terms) -> Result<Class, Refusal> {
    let (described, raw) = match &asked.key_desc {
        Some(description) => (description.key_loc, description.raw_key_bytes.as_slice()),
        None => (None, &[][..]),
    };
    #[expect(deprecated, reason = "lnd takes it too, and both at once it refuses")]
    let key = described.or(asked.key_loc).unwrap_or(KeyLocator { key_family: NODE, key_index: 0 });
    let class = match key.key_family {
        NODE => Class::SharedKey,
        REVOCATION_ROOT => Class::RevocationRoot,
        family => {
            let why = format!("keys of family {family} give no shared secret");
            return Err(Refusal::new(Rule::SharedKeyFamily, why));
        }
    };
    let first = || terms.wallet.as_ref()?.key(key.key_family.cast_unsigned(), 0);
    if !raw.is_empty() && first().is_none_or(|first| raw != first) {
        return Err(Refusal::new(Rule::SharedKeyRaw, "the public key is not the first of its family"));
    }
    let near = u32::try_from(key.key_index).ok();
    let mut is_own = || Some(terms.wallet.as_mut()?.is_funding_key(&asked.ephemeral_pubkey, near?));
    if class == Class::RevocationRoot && is_own() != Some(true) {
        let why = "a revocation root comes of a funding key of this wallet's, and of no other";
        return Err(Refusal::new(Rule::SharedKeyPoint, why));
    }
    Ok(class)
}

/// One that lnd began with nobody asked has whatever key somebody chose, and its answer need not have left for that: whoever gives the
/// nonce and the keys knows its number.
fn judge_in_session(id: &[u8], terms: &Terms) -> Result<(), Refusal> {
    musig2_is_on(terms)?;
    let why = "the guard has not seen this session begin";
    if terms.sessions.has(id) { Ok(()) } else { Err(Refusal::new(Rule::Musig2Session, why)) }
}

fn judge_session(asked: &MuSig2SessionRequest, terms: &Terms) -> Result<(), Refusal> {
    musig2_is_on(terms)?;
    let family = asked.key_loc.unwrap_or_default().key_family;
    if family != FUNDING {
        return Err(Refusal::new(Rule::Musig2Key, format!("keys of family {family} take no part in MuSig2")));
    }
    // A channel's output has none (lnd's lnwallet/musig_session.go).
    if !asked.tweaks.is_empty() {
        return Err(Refusal::new(Rule::Musig2Tweak, "no channel's key is moved by a tweak of the caller's"));
    }
    Ok(())
}

fn musig2_is_on(terms: &Terms) -> Result<(), Refusal> {
    if terms.taproot_channels {
        return Ok(());
    }
    Err(Refusal::new(Rule::Musig2Off, "this signer has no taproot channels"))
}

#[cfg(test)]
pub(super) mod tests;
