//! The public keys of channels' fundings, as far as somebody asked about them.

use super::derive;
use bitcoin::bip32::Xpub;
use bitcoin::key::Secp256k1;
use bitcoin::secp256k1::{PublicKey, VerifyOnly};
use std::collections::BTreeMap;

/// How far from where it should be a key is looked for.
const AROUND: u32 = 1000;
/// How many keys are derived for questions at most until the guard looks around again, which is every few seconds: some tenths of
/// a second, in which nothing else is answered. Three questions about no key of the wallet's take that.
const ROOM: u32 = 6_000;
/// How many are remembered: some megabytes.
const KEPT: usize = 100_000;

/// The row of these keys.
pub(super) struct Fundings {
    row: Xpub,
    /// Those that were derived, by their index: who asks again has nothing derived.
    known: BTreeMap<u32, [u8; 33]>,
    /// How many may still be derived.
    room: u32,
}

impl Fundings {
    /// Those below `row`.
    pub(super) fn new(row: Xpub) -> Self {
        Self { row, known: BTreeMap::new(), room: ROOM }
    }

    /// Some more may be derived.
    pub(super) fn make_room(&mut self) {
        self.room = ROOM;
    }

    /// True where `public` is one whose index is within a thousand of `near`. False also where it is none of those that are known, and
    /// there is no room for more: who asks too much is refused, until there is again.
    pub(super) fn has(&mut self, secp: &Secp256k1<VerifyOnly>, public: &PublicKey, near: u32) -> bool {
        let public = public.serialize();
        let window = near.saturating_sub(AROUND)..=near.saturating_add(AROUND);
        if self.known.range(window).any(|(_, known)| *known == public) {
            return true;
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        // The nearest first: lnd takes the keys of its families one after the other, and each channel one of each.
        let indices = (0..=AROUND).flat_map(|far| [near.checked_sub(far), near.checked_add(far)]).flatten();
        for index in indices {
            if self.known.contains_key(&index) {
                continue;
            }
            let Some(room) = self.room.checked_sub(1) else { return false };
            let Some(key) = derive(secp, &self.row, index).map(|key| key.serialize()) else { continue };
            self.room = room;
            self.known.insert(index, key);
            if key == public {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::judge::tests::accounts;
    use crate::guard::wallet::{FUNDING, Wallet};

    #[test]
    fn a_question_is_looked_up_the_second_time_and_the_next_ones_have_a_bound() {
        let mut wallet = Wallet::new(accounts()).unwrap();
        let (stranger, near) = (wallet.key(1, 0).unwrap(), 5_000);
        let left = |wallet: &mut Wallet, near| {
            assert!(!wallet.is_funding_key(&stranger, near));
            wallet.fundings.room
        };
        let once = ROOM - (2 * AROUND + 1);
        assert_eq!(
            [left(&mut wallet, near), left(&mut wallet, near), left(&mut wallet, near + 1)],
            [once, once, once - 1]
        );
        assert_eq!([100_000, 200_000].map(|far| left(&mut wallet, near + far)), [ROOM - 2 * (2 * AROUND + 1) - 1, 0]);
        // What is known stays so, and what is not is as soon as there is room.
        let [known, other] = [near + 7, 7].map(|index| wallet.key(FUNDING, index).unwrap());
        assert_eq!((wallet.is_funding_key(&known, near), wallet.is_funding_key(&other, 8)), (true, false));
        wallet.make_room();
        assert!(wallet.is_funding_key(&other, 8));
        assert_eq!(wallet.fundings.room, ROOM - 2, "the nearest first");
    }
}
