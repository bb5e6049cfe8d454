//! What one request takes from what is the wallet's alone, as far as the request itself says.

use bitcoin::Transaction;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one request takes from what is the wallet's alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spend {
    /// The transaction.
    pub txid: String,
    /// How many inputs it has, whoever's.
    pub inputs: usize,
    /// The output that the first of them spends: of all transactions that spend it one can take place.
    pub first: String,
    /// The wallet's coins that are signed for: the input's number and its amount in satoshis.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signed: BTreeMap<u32, u64>,
    /// The same of what is swept from channels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub swept: BTreeMap<u32, u64>,
    /// What comes back to the wallet, in satoshis.
    pub back: u64,
    /// What goes elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paid: Vec<Paid>,
    /// What goes elsewhere besides, to more outputs than are told apart.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rest: u64,
    /// How large it is, as if each input were one of the wallet's, in virtual bytes.
    pub vsize: u64,
}

/// One output that is not the wallet's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paid {
    /// Its number.
    pub output: u32,
    /// Its script, in hex.
    pub script: String,
    /// Its amount, in satoshis.
    pub amount: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

/// What these come to, at most as much as can be counted.
pub(super) fn sum<'a>(amounts: impl IntoIterator<Item = &'a u64>) -> u64 {
    amounts.into_iter().fold(0, |sum, amount| sum.saturating_add(*amount))
}

impl Spend {
    /// One of which nothing is known yet but its inputs.
    pub fn of(transaction: &Transaction, signed: BTreeMap<u32, u64>, swept: BTreeMap<u32, u64>) -> Self {
        let (txid, inputs) = (transaction.compute_txid().to_string(), transaction.input.len());
        let first = transaction.input.first().map(|input| input.previous_output.to_string()).unwrap_or_default();
        Self { txid, inputs, first, signed, swept, back: 0, paid: vec![], rest: 0, vsize: 0 }
    }

    /// What leaves the wallet, in satoshis.
    pub fn leaves(&self) -> u64 {
        sum(self.signed.values().chain(self.swept.values())).saturating_sub(self.back)
    }

    /// What is paid to others, in satoshis.
    pub fn elsewhere(&self) -> u64 {
        sum(self.paid.iter().map(|paid| &paid.amount)).saturating_add(self.rest)
    }

    /// What of the fee the wallet pays, in satoshis: all that leaves and is paid to nobody. What inputs of others bring is theirs.
    pub fn fee(&self) -> u64 {
        self.leaves().saturating_sub(self.elsewhere())
    }

    /// True where what comes from channels is paid to nobody. Its fee may be any: a penalty's is not limited by lnd either
    /// (contractcourt/breach_arbitrator.go), and one that is not taken gives all to the cheat. With a coin of the wallet's in it the fee
    /// may be half of what comes from channels: that is what lnd spends on a sweep at most, unless it is told otherwise
    /// (contractcourt/config.go, DefaultBudgetRatio).
    pub(super) fn comes_back(&self) -> bool {
        let is_cheap = || self.leaves() <= sum(self.swept.values()) / 2;
        !self.swept.is_empty() && self.elsewhere() == 0 && (self.signed.is_empty() || is_cheap())
    }
}
