//! The one message that a funding key signs: the announcement of its channel (BOLT 7, channel_announcement), as far as it is
//! signed.

/// The length of a compressed public key.
const KEY: usize = 33;
/// Chain hash and short channel id, between the features and the keys.
const BEFORE_KEYS: usize = 32 + 8;
/// Two nodes' keys and two funding keys.
const KEYS: usize = 4;

/// True where `message` announces a channel of the node `node` with the funding key `funding` on the same side.
///
/// It cannot be what a transaction's signature is over as well (BIP 143): there a funding key stands between two pushes, here
/// the node's own key stands two keys before it, and nothing that a caller chooses can be the node's key there.
pub(super) fn is_by(message: &[u8], node: &[u8; KEY], funding: &[u8; KEY]) -> bool {
    let Some(keys) = keys(message) else { return false };
    let [node_1, node_2, funding_1, funding_2] = keys;
    (node_1 == node && funding_1 == funding) || (node_2 == node && funding_2 == funding)
}

/// The four keys; what a later version of the protocol adds comes after them.
fn keys(message: &[u8]) -> Option<[&[u8]; KEYS]> {
    let (length, rest) = message.split_first_chunk::<2>()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*length)) + BEFORE_KEYS..)?;
    let keys: Vec<&[u8]> = rest.get(..KEYS * KEY)?.chunks(KEY).collect();
    keys.try_into().ok()
}
