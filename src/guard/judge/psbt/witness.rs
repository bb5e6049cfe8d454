//! The witnesses of inputs that were signed before: lnd looks at no more than that there is one, and writes some of them wrong.

use bitcoin::consensus::Decodable as _;
use bitcoin::consensus::encode::VarInt;

/// What a PSBT begins with (BIP 174).
const MAGIC: &[u8] = b"psbt\xff";
/// The key of the transaction among the fields of the whole, and where in that the number of its inputs is: after the version.
const UNSIGNED: &[u8] = &[0];
const INPUTS: usize = 4;
/// The key of an input's witness (PSBT_IN_FINAL_SCRIPTWITNESS).
const WITNESS: &[u8] = &[8];
/// That field, with a witness that has nothing in it.
const NOTHING: [u8; 4] = [1, 8, 1, 0];

/// The same PSBT with nothing in the witnesses. A watch-only lnd has one input after the other signed, and writes the witnesses of those
/// before into one buffer (lnwallet/rpcwallet, packetFromTx): from the third input on the first witness is the second one's bytes, cut
/// off or with too many. Nobody who reads them strictly could read that.
///
/// None where it does not read so far, and where a witness has no bytes at all: such an input lnd would sign.
pub(super) fn empty(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut inputs) = (bytes.strip_prefix(MAGIC)?, 0);
    while let Some((key, value)) = next_field(&mut rest)? {
        if key == UNSIGNED {
            inputs = number(&mut value.get(INPUTS..)?)?;
        }
    }
    let mut written = Vec::with_capacity(bytes.len());
    written.extend(&bytes[..bytes.len() - rest.len()]);
    for _ in 0..inputs {
        loop {
            let before = rest;
            let field = next_field(&mut rest)?;
            match field {
                Some((WITNESS, [])) => return None,
                Some((WITNESS, _)) => written.extend(NOTHING),
                _ => written.extend(&before[..before.len() - rest.len()]),
            }
            if field.is_none() {
                break;
            }
        }
    }
    written.extend(rest);
    Some(written)
}

/// The next field of a map, its key and its value; nothing at the map's end. None where it is cut off.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Option<(&'a [u8], &'a [u8])>> {
    let key = take(rest)?;
    if key.is_empty() {
        return Some(None);
    }
    Some(Some((key, take(rest)?)))
}

/// What comes after its length.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)?.try_into().ok()?;
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    VarInt::consensus_decode(rest).ok().map(|number| number.0)
}
