//! Macaroons: held as secrets, read far enough to say what they permit, and the least one that a signer's client needs.

mod caveat;
mod powers;
mod role;

pub use caveat::Caveat;
pub use powers::{Fit, describe};
pub use role::Role;

use crate::error::{Code, Error, Result};
use crate::secret::Secret;
use crate::signer::wire::lnrpc;
use prost::Message;
use std::collections::BTreeSet;
use std::fmt;
use zeroize::Zeroizing;

const BAD: Code = Code::usage("E-MAC-001");
const UNKNOWN_URI: Code = Code::refused("E-MAC-002");

/// Everything that a watch-only lnd without taproot channels calls on its signer: seen over a whole channel life with
/// v0.20.0 and v0.21.3, as lnd's lnwallet/rpcwallet has it.
pub const SIGNER_URIS: [&str; 3] =
    ["/walletrpc.WalletKit/SignPsbt", "/signrpc.Signer/DeriveSharedKey", "/signrpc.Signer/SignMessage"];

/// What taproot channels need besides: the channels themselves the session, its signature and the combining (lnd's
/// lnwallet/musig_session.go), and what an application has its node sign in MuSig2, such as Loop's swaps, the other four, which
/// the node hands on (lnd's lnrpc/signrpc/signer_server.go). **These give private keys away**: the caller chooses the secret nonce, and then
/// one partial signature is an equation with one unknown.
pub const TAPROOT_URIS: [&str; 7] = [
    "/signrpc.Signer/MuSig2CreateSession",
    "/signrpc.Signer/MuSig2RegisterNonces",
    "/signrpc.Signer/MuSig2Sign",
    "/signrpc.Signer/MuSig2CombineSig",
    "/signrpc.Signer/MuSig2Cleanup",
    "/signrpc.Signer/MuSig2RegisterCombinedNonce",
    "/signrpc.Signer/MuSig2GetCombinedNonce",
];

/// The entity under which lnd lets a macaroon name single calls (lnd's `macaroons.PermissionEntityCustomURI`).
const URI: &str = "uri";

/// The first byte of a macaroon: its format's version.
const VERSION: u8 = 2;

/// One thing that a macaroon permits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// A subject such as `onchain`, or `uri`.
    pub entity: String,
    /// `read`, `write`, `generate`, or the call's URI.
    pub action: String,
}

impl Permission {
    /// The permission to make one call, `/package.Service/Call`.
    pub fn uri(uri: &str) -> Self {
        Self { entity: URI.to_owned(), action: uri.to_owned() }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.entity, self.action)
    }
}

/// The calls for the signer's role, of those that the signer knows (its `ListPermissions`).
///
/// # Errors
/// Where it lacks one of [`SIGNER_URIS`]: such an lnd cannot serve a watch-only node.
pub fn signer_permissions(taproot_channels: bool, known: &BTreeSet<String>) -> Result<Vec<Permission>> {
    if let Some(absent) = SIGNER_URIS.iter().find(|uri| !known.contains(**uri)) {
        return Err(Error::new(UNKNOWN_URI, format!("this lnd does not know {absent}"))
            .hint("it must be built with signrpc and walletrpc; lnd's own releases are"));
    }
    let taproot = TAPROOT_URIS.iter().filter(|uri| taproot_channels && known.contains(**uri));
    let mut permissions: Vec<_> = SIGNER_URIS.iter().chain(taproot).map(|uri| Permission::uri(uri)).collect();
    // lnd keeps them sorted: so do we, that what is asked for and what is read back compare.
    permissions.sort();
    Ok(permissions)
}

/// A macaroon in the binary format v2, as lnd writes and takes it. Its bytes are a secret.
#[derive(Debug)]
pub struct Macaroon {
    bytes: Secret,
    root_key_id: String,
    permissions: Vec<Permission>,
    caveats: Vec<String>,
}

impl Macaroon {
    /// Takes over a macaroon's bytes.
    ///
    /// # Errors
    /// Where they are no macaroon of lnd's.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let bytes = Secret::new(bytes);
        let read = read_v2(bytes.expose())
            .ok_or_else(|| Error::new(BAD, "the macaroon is not in lnd's format (binary, version 2)"))?;
        let id = lnrpc::MacaroonId::decode(read.id)
            .map_err(|e| Error::new(BAD, "the macaroon's identifier cannot be read").because(e))?;
        let mut permissions: Vec<Permission> = Vec::new();
        for op in id.ops {
            let entity = &op.entity;
            permissions.extend(op.actions.iter().map(|a| Permission { entity: entity.clone(), action: a.clone() }));
        }
        let root_key_id = String::from_utf8_lossy(&id.storage_id).into_owned();
        let caveats = read.caveats.into_iter().map(|c| String::from_utf8_lossy(c).into_owned()).collect();
        Ok(Self { bytes, root_key_id, permissions, caveats })
    }

    /// Takes over what a file or a paste holds: the bytes, or the same in hex.
    ///
    /// # Errors
    /// As [`Macaroon::parse`].
    pub fn parse_either(bytes: Vec<u8>) -> Result<Self> {
        if bytes.first() == Some(&VERSION) {
            return Self::parse(bytes);
        }
        let text = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&text).map_err(|_| Error::new(BAD, "it is no macaroon, and no hex of one"))?;
        Self::parse_hex(text.trim())
    }

    /// Takes over a macaroon in hex, as `BakeMacaroon` answers.
    ///
    /// # Errors
    /// As [`Macaroon::parse`].
    pub fn parse_hex(text: &str) -> Result<Self> {
        let bytes = hex::decode(text).map_err(|_| Error::new(BAD, "the macaroon is not hex"))?;
        Self::parse(bytes)
    }

    /// The bytes, for the file or the call that needs them.
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The bytes in hex, as the call's `macaroon` header carries them; wiped when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.bytes.expose()))
    }

    /// The root key that it hangs on, a decimal number: deleting that key revokes it.
    pub fn root_key_id(&self) -> &str {
        &self.root_key_id
    }

    /// What it permits, before its caveats narrow it.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// Its first-party caveats, such as `time-before ...`.
    pub fn caveats(&self) -> &[String] {
        &self.caveats
    }
}

struct Read<'a> {
    id: &'a [u8],
    caveats: Vec<&'a [u8]>,
    signature: &'a [u8],
}

// The format: libmacaroons' v2, as github.com/go-macaroon/macaroon reads it (packet-v2.go). Sections of fields
// (type, length, bytes), each section ended by a zero: the head, one a caveat, one more zero, then the signature.
const IDENTIFIER: u64 = 2;
const SIGNATURE: u64 = 6;

fn read_v2(bytes: &[u8]) -> Option<Read<'_>> {
    const BAKERY_VERSION: u8 = 3;
    let mut rest = bytes.strip_prefix(&[VERSION])?;
    let id = read_section(&mut rest)?.into_iter().find(|(t, _)| *t == IDENTIFIER)?.1;
    let mut caveats = Vec::new();
    while rest.first()? != &0 {
        caveats.push(read_section(&mut rest)?.into_iter().find(|(t, _)| *t == IDENTIFIER)?.1);
    }
    rest = &rest[1..];
    let (kind, signature) = read_field(&mut rest)?;
    (kind == SIGNATURE && signature.len() == 32 && rest.is_empty()).then_some(Read {
        id: id.strip_prefix(&[BAKERY_VERSION])?,
        caveats,
        signature,
    })
}

fn read_section<'a>(rest: &mut &'a [u8]) -> Option<Vec<(u64, &'a [u8])>> {
    let mut fields: Vec<(u64, &[u8])> = Vec::new();
    loop {
        if rest.first()? == &0 {
            *rest = &rest[1..];
            return Some(fields);
        }
        let field = read_field(rest)?;
        if fields.last().is_some_and(|(last, _)| *last >= field.0) {
            return None;
        }
        fields.push(field);
    }
}

fn read_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let kind = prost::encoding::decode_varint(rest).ok()?;
    let length = usize::try_from(prost::encoding::decode_varint(rest).ok()?).ok()?;
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((kind, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A macaroon with one permission and one caveat.
    pub(super) fn sample() -> Vec<u8> {
        with_permissions(vec![("uri".into(), "/signrpc.Signer/SignMessage".into())])
    }

    /// A macaroon with one caveat, put together by hand from the format's description.
    pub(super) fn with_permissions(permissions: Vec<(String, String)>) -> Vec<u8> {
        let op = |(entity, action)| lnrpc::Op { entity, actions: vec![action] };
        let ops = permissions.into_iter().map(op).collect();
        let id = lnrpc::MacaroonId { nonce: vec![1; 16], storage_id: b"7".to_vec(), ops };
        let id = [&[3], id.encode_to_vec().as_slice()].concat();
        let field = |t: u8, v: &[u8]| {
            let mut bytes = vec![t];
            prost::encoding::encode_varint(v.len() as u64, &mut bytes);
            [bytes.as_slice(), v].concat()
        };
        let caveat = [field(2, b"time-before 2030-01-01T00:00:00Z"), vec![0]].concat();
        [vec![2], field(1, b"lnd"), field(2, &id), vec![0], caveat, vec![0], field(6, &[9; 32])].concat()
    }

    #[test]
    fn permissions_caveats_and_root_key_are_read() {
        let macaroon = Macaroon::parse(sample()).unwrap();
        assert_eq!(macaroon.permissions(), [Permission::uri("/signrpc.Signer/SignMessage")]);
        assert_eq!(macaroon.caveats(), ["time-before 2030-01-01T00:00:00Z"]);
        assert_eq!(macaroon.root_key_id(), "7");
        assert!(!format!("{macaroon:?}").contains("9, 9"));
    }

    #[test]
    fn hex_is_taken_with_the_line_end_of_a_paste() {
        let text = format!("{}\r\n", hex::encode(sample()));
        for bytes in [sample(), text.into_bytes()] {
            assert_eq!(Macaroon::parse_either(bytes).unwrap().root_key_id(), "7");
        }
        for bad in [&b""[..], b"hello", b"\xff\xff", b"02"] {
            assert_eq!(Macaroon::parse_either(bad.to_vec()).unwrap_err().code(), BAD);
        }
    }

    #[test]
    fn every_truncation_and_any_addition_is_refused() {
        let whole = sample();
        for end in 0..whole.len() {
            assert_eq!(Macaroon::parse(whole[..end].to_vec()).unwrap_err().code(), BAD, "{end}");
        }
        assert_eq!(Macaroon::parse([whole, vec![0]].concat()).unwrap_err().code(), BAD);
        assert_eq!(
            Macaroon::parse(b"\x02\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec()).unwrap_err().code(),
            BAD
        );
    }

    #[test]
    fn the_signers_role_has_no_musig2_unless_asked_and_only_what_is_known() {
        let known: BTreeSet<String> = SIGNER_URIS.iter().chain(&TAPROOT_URIS[..5]).map(|u| (*u).to_owned()).collect();
        assert_eq!(signer_permissions(false, &known).unwrap().len(), 3);
        assert_eq!(signer_permissions(true, &known).unwrap().len(), 8);
        assert_eq!(signer_permissions(false, &BTreeSet::new()).unwrap_err().code(), UNKNOWN_URI);
    }
}
