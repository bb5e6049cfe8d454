//! How much of what is the wallet's alone leaves it: each transaction once, as the sum of what its signed inputs spend less what comes
//! back to the wallet. A signature holds for the amount that it was made for and for all outputs (BIP 143, BIP 341), so that
//! nothing has to be believed of what a request says of other inputs, and no fee can hide.

mod room;

use super::approval::Approval;
use super::entry::{CLOCK, Entry, FORGET, Verdict};
use super::judge::Judged;
use super::policy::{Policy, Told};
use super::rates::{Class, Counts, Rates};
use super::refusal::{Refusal, Rule};
use super::signed::{Signed, most};
use super::spend::{Paid, Spend, sum};
use super::{DAY, HOUR};
use bitcoin::ScriptBuf;
use room::{Room, is_kept, is_young};
use std::collections::{BTreeMap, VecDeque};

/// How many fundings that were proved before they are paid are remembered.
const PROVED: usize = 1000;

/// The first bytes of an output's script that opens for another script's hash: version 0, 32 bytes.
const SCRIPT_HASH: &str = "0020";
/// How long such a script is, in hex.
const SCRIPT_HASH_LENGTH: usize = 68;

/// What is said of a request that is within the operator's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weighed {
    /// What it is counted with.
    pub class: Option<Class>,
    /// What the ledger would say of its transaction after it.
    pub signed: Option<Signed>,
    /// The funding that it proves, where that was not known: the transaction and the output's number.
    pub proves: Option<(String, u32)>,
}

/// The operator's side of a verdict.
pub struct Limits<'a> {
    /// The policy, or why it does not read.
    pub policy: Result<&'a Policy, &'a str>,
    /// Its rates, which hold also while it does not read.
    pub rates: Rates,
    /// What the operator has approved.
    pub approvals: &'a dyn Fn() -> Vec<Approval>,
}

/// What left the wallet in the last day, and what was signed in the last hour.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ledger {
    transactions: BTreeMap<String, Signed>,
    counts: Counts,
    /// Fundings that are proved; the oldest first.
    proved: VecDeque<(String, u32)>,
    /// What was last told of the policy.
    told: Told,
    /// The latest time that was seen: a clock that is set back makes no day longer ago.
    now: u64,
}

impl Ledger {
    /// Weighs what was judged against the operator's limits.
    ///
    /// # Errors
    /// Where it is beyond one of them.
    pub fn weigh(&self, judged: &Judged, now: u64, limits: &Limits<'_>) -> Result<Weighed, Refusal> {
        let at = self.at(now);
        let proves = judged.fundings.iter().find(|funding| self.is_news(funding)).cloned();
        let mut weighed = Weighed { class: judged.class, signed: None, proves };
        if let Some(class) = judged.class {
            self.counts.hold(class, at, limits.rates.of(class))?;
        }
        if let Some(spend) = &judged.spend {
            let whole = self.with_before(spend);
            let home = self.record(&whole, at);
            let home = Signed { comes_back: whole.signed.is_empty() && home.coins == 0, ..home };
            // What is swept to the wallet passes whatever the limits are: they are not to lose what they are there to keep. With a coin
            // it has to be remembered, where without one the oldest is forgotten.
            if whole.comes_back() && (home.comes_back || self.has_room(&home)) {
                weighed.signed = Some(home);
            } else {
                weighed.signed = Some(self.weigh_spend(&whole, now, limits)?);
                weighed.class = Some(Class::Coins);
            }
        }
        Ok(weighed)
    }

    /// The time that counts: a clock that is set back makes nothing younger.
    fn at(&self, now: u64) -> u64 {
        now.max(self.now)
    }

    /// The spend with all that was signed of its transaction before.
    fn with_before(&self, spend: &Spend) -> Spend {
        let mut whole = spend.clone();
        if let Some(before) = self.transactions.get(&spend.txid) {
            // The same transaction has the same outputs; what is the wallet's own can only become more.
            for (all, known) in [(&mut whole.signed, &before.signed), (&mut whole.swept, &before.swept)] {
                for (input, amount) in known {
                    let most = all.entry(*input).or_insert(*amount);
                    *most = (*most).max(*amount);
                }
            }
        }
        whole
    }

    /// The spend as it is recorded, counted as nothing. An approval that its transaction has used is used, though limits let it pass now;
    /// and what one was counted as of which the inputs are forgotten counts on, whatever is asked of it again.
    fn record(&self, whole: &Spend, at: u64) -> Signed {
        let Some(before) = self.transactions.get(&whole.txid) else { return Signed::of(whole, at) };
        let (coins, channels) = if before.has_inputs() { (0, 0) } else { (before.coins, before.channels) };
        Signed { coins, channels, approval: before.approval, ..Signed::of(whole, at) }
    }

    fn weigh_spend(&self, whole: &Spend, now: u64, limits: &Limits<'_>) -> Result<Signed, Refusal> {
        let at = self.at(now);
        let policy = limits.policy.map_err(|why| Refusal::new(Rule::NoPolicy, why))?;
        let mut counted = self.count(whole, at, policy);
        // The fee by which a HTLC is claimed looks as if it opened a channel: it needs no room for one.
        if counted.is_less && self.hold_channels(&counted, policy).is_err() {
            let as_coins = counted.clone().into_coins();
            if self.hold(whole, &as_coins, now, policy).is_ok() {
                counted = as_coins;
            }
        }
        let is_crowded = counted.together && !self.has_room(&counted);
        if is_crowded {
            counted = counted.gross();
        }
        let held = self.hold(whole, &counted, now, policy).and_then(|()| self.hold_room(&counted, policy));
        let Err(mut refusal) = held else { return Ok(counted) };
        if is_crowded {
            refusal.why.push_str("; what comes back does not count where too many wait for their other inputs");
        }
        let approvals = (limits.approvals)();
        let approval = approvals.iter().find(|approval| approval.covers(whole, now) && !self.is_used(approval, whole));
        let approval = approval.ok_or(refusal)?;
        let approved = Signed { approval: Some(approval.name()), ..self.record(whole, at) };
        if self.has_room(&approved) { Ok(approved) } else { Err(no_room()) }
    }

    /// What the policy counts it as: what goes to those who may be paid freely does not leave, and what goes into channels leaves
    /// from a budget apart.
    fn count(&self, whole: &Spend, now: u64, policy: &Policy) -> Signed {
        let mut counted = self.record(whole, now);
        let is_free = |paid: &&Paid| ScriptBuf::from_hex(&paid.script).is_ok_and(|script| policy.free.holds(&script));
        let (free, paid): (Vec<&Paid>, Vec<&Paid>) = whole.paid.iter().partition(is_free);
        let leaves = whole.leaves().saturating_sub(sum(free.into_iter().map(|paid| &paid.amount)));
        let is_apart =
            policy.channels.is_some() && (self.is_channels(&whole.txid) || !self.is_doubted(&whole.txid, now));
        let fundings: Vec<&Paid> = paid.into_iter().filter(|paid| is_apart && may_be_funding(paid)).collect();
        let channels = leaves.min(sum(fundings.iter().map(|paid| &paid.amount)));
        counted.coins = counted.coins.max(leaves - channels);
        counted.channels = counted.channels.max(channels);
        if counted.channels > 0 {
            let claimed = fundings.iter().map(|paid| paid.output);
            counted.unproved = claimed.filter(|output| !self.is_proved(&whole.txid, *output)).collect();
            counted.is_less = fundings.iter().all(|paid| paid.amount > counted.channels);
        }
        counted
    }

    /// True where some of it counts as a channel's already.
    fn is_channels(&self, txid: &str) -> bool {
        self.transactions.get(txid).is_some_and(|before| before.channels > 0)
    }

    /// True while another transaction's output counts as a channel's and was not proved to be one.
    fn is_doubted(&self, txid: &str, now: u64) -> bool {
        let is_claimed = |other: &Signed| !other.unproved.is_empty() && !other.is_less;
        let doubts = |other: &Signed| other.txid != txid && is_claimed(other) && is_young(other, now, DAY);
        self.transactions.values().any(doubts)
    }

    fn is_proved(&self, txid: &str, output: u32) -> bool {
        let before = self.transactions.get(txid).filter(|before| before.channels > 0);
        before.is_some_and(|before| !before.unproved.contains(&output))
            || self.proved.iter().any(|proved| proved.0 == txid && proved.1 == output)
    }

    /// True of a funding whose proof is of use: its transaction waits for it, or is not known yet.
    fn is_news(&self, funding: &(String, u32)) -> bool {
        let waits = |signed: &Signed| signed.unproved.contains(&funding.1);
        self.transactions.get(&funding.0).is_some_and(waits) || !self.proved.contains(funding)
    }

    fn is_used(&self, approval: &Approval, whole: &Spend) -> bool {
        let name = Some(approval.name());
        self.transactions.values().any(|other| other.txid != whole.txid && other.approval == name)
    }

    /// What a room has in it.
    fn in_room(&self, room: Room, now: u64) -> impl Iterator<Item = &Signed> {
        self.transactions.values().filter(move |signed| Room::of(signed) == room && is_kept(signed, now))
    }

    /// True where it can be remembered.
    fn has_room(&self, counted: &Signed) -> bool {
        let room = Room::of(counted);
        let others = self.in_room(room, counted.at).filter(|other| other.txid != counted.txid);
        others.map(room::size).sum::<usize>() + room::size(counted) <= room.size()
    }

    /// How much of what can be remembered is, in percent: of what has several inputs, and of what counts for a day.
    pub fn filled(&self, now: u64) -> (usize, usize) {
        let now = self.at(now);
        let percent = |room: Room| self.in_room(room, now).map(room::size).sum::<usize>() * 100 / room.size();
        (percent(Room::Together), percent(Room::Day))
    }

    /// Where nothing is limited the oldest is forgotten instead.
    fn hold_room(&self, counted: &Signed, policy: &Policy) -> Result<(), Refusal> {
        if !policy.is_bounded() || self.has_room(counted) { Ok(()) } else { Err(no_room()) }
    }

    fn hold(&self, whole: &Spend, counted: &Signed, now: u64, policy: &Policy) -> Result<(), Refusal> {
        self.hold_coins(counted, policy)?;
        self.hold_channels(counted, policy)?;
        policy.fees.hold(whole)?;
        let moved = counted.coins.saturating_add(counted.channels);
        // By the clock as it is: what a clock that was ahead has counted makes no other hour of the day.
        if policy.is_quiet(now) && moved > policy.fees.per_transaction.unwrap_or(0) {
            let why = format!("{moved} sat would leave the wallet, which is more than a fee, in quiet hours");
            return Err(Refusal::new(Rule::QuietHours, why));
        }
        self.counts.hold(Class::Coins, counted.at, policy.rates.of(Class::Coins))
    }

    fn hold_coins(&self, counted: &Signed, policy: &Policy) -> Result<(), Refusal> {
        let (leaves, limits) = (counted.coins, &policy.coins);
        // What takes nothing passes however much has left before.
        if leaves == 0 {
            return Ok(());
        }
        let doubt = if policy.channels.is_some() && self.is_doubted(&counted.txid, counted.at) {
            "; what else may be a channel's counts too until an earlier funding is proved"
        } else {
            ""
        };
        if limits.per_transaction.is_some_and(|limit| leaves > limit) {
            let why = format!("{leaves} sat would leave the wallet by this transaction{doubt}");
            return Err(Refusal::new(Rule::OutflowTransaction, why));
        }
        for (limit, time, rule, name) in
            [(limits.per_hour, HOUR, Rule::OutflowHour, "an hour"), (limits.per_day, DAY, Rule::OutflowDay, "a day")]
        {
            let all = self.within(counted, time, |signed| signed.coins);
            if limit.is_some_and(|limit| all > limit) {
                let why = format!("{leaves} sat would leave the wallet, {all} within {name}{doubt}");
                return Err(Refusal::new(rule, why));
            }
        }
        Ok(())
    }

    fn hold_channels(&self, counted: &Signed, policy: &Policy) -> Result<(), Refusal> {
        let (Some(limits), leaves @ 1..) = (&policy.channels, counted.channels) else { return Ok(()) };
        if limits.per_transaction.is_some_and(|limit| leaves > limit) {
            let why = format!("{leaves} sat would go into channels by this transaction");
            return Err(Refusal::new(Rule::FundingTransaction, why));
        }
        let all = self.within(counted, DAY, |signed| signed.channels);
        if limits.per_day.is_some_and(|limit| all > limit) {
            let why = format!("{leaves} sat would go into channels, {all} within a day");
            return Err(Refusal::new(Rule::FundingDay, why));
        }
        Ok(())
    }

    /// What leaves at most by this and by all else of which something was signed within this time.
    fn within(&self, counted: &Signed, time: u64, takes: fn(&Signed) -> u64) -> u64 {
        let others = self.transactions.values().filter(|other| other.txid != counted.txid);
        most(others.filter(|other| is_young(other, counted.at, time)).chain([counted]), takes)
    }

    /// Takes over what the log's `entries` say.
    pub fn read(&mut self, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.note(entry));
        self.forget();
    }

    /// Takes over what one entry says.
    pub fn take(&mut self, entry: &Entry) {
        self.note(entry);
        self.forget();
    }

    fn note(&mut self, entry: &Entry) {
        self.carry(&entry.carried);
        entry.counted.iter().for_each(|signed| self.keep(signed.clone()));
        if entry.call == CLOCK {
            // By the clock that was: what it had forgotten does not come back when the log is read again.
            self.forget();
            self.set_clock(entry.at);
        }
        if entry.call == FORGET {
            self.let_go(entry.at);
        }
        if let Some(told) = &entry.policy {
            self.told.clone_from(told);
        }
        if entry.verdict != Verdict::Passed {
            return;
        }
        if let Some(class) = entry.class {
            // At the time that they are held at, or a clock that was ahead would have them long ago.
            self.counts.note(class, self.at(entry.at));
        }
        if let Some(funding) = &entry.proves {
            self.prove(funding.clone());
        }
    }

    /// Takes over what counted before.
    pub fn carry(&mut self, carried: &[Signed]) {
        carried.iter().for_each(|signed| self.keep(signed.clone()));
    }

    fn keep(&mut self, signed: Signed) {
        self.now = self.now.max(signed.at);
        self.transactions.insert(signed.txid.clone(), signed);
    }

    /// What was signed at a later time than this was signed now: the clock is right again, and nothing is forgotten for it.
    fn set_clock(&mut self, now: u64) {
        self.transactions.values_mut().for_each(|signed| signed.at = signed.at.min(now));
        self.counts.set_clock(now);
        self.now = self.now.min(now);
    }

    /// How many transactions have waited for their other inputs since then or longer.
    pub fn waiting(&self, since: u64) -> usize {
        self.transactions.values().filter(|signed| signed.waits() && signed.at <= since).count()
    }

    /// Forgets which inputs of these were signed. What they were counted as counts on.
    fn let_go(&mut self, since: u64) {
        for signed in self.transactions.values_mut().filter(|signed| signed.waits() && signed.at <= since) {
            signed.signed.clear();
            signed.swept.clear();
        }
    }

    /// Up to when what was signed counts as just signed, where that is more than an hour after `now`: the clock was ahead.
    pub fn ahead_of(&self, now: u64) -> Option<u64> {
        Some(self.now.max(self.counts.latest())).filter(|latest| *latest > now.saturating_add(HOUR))
    }

    /// Forgets what no longer counts.
    fn forget(&mut self) {
        let now = self.now;
        self.transactions.retain(|_, other| is_kept(other, now));
        [Room::Sweeps, Room::Day].into_iter().for_each(|room| self.make_room(room));
    }

    /// Forgets the oldest, where there is more than there is room for.
    fn make_room(&mut self, room: Room) {
        let own = || self.transactions.values().filter(|signed| Room::of(signed) == room);
        let mut all: usize = own().map(room::size).sum();
        if all <= room.size() {
            return;
        }
        let mut oldest: Vec<_> = own().map(|signed| (signed.at, signed.txid.clone(), room::size(signed))).collect();
        oldest.sort_unstable();
        for (_, txid, size) in oldest {
            // Some more, not to sort at each call.
            if all > room.size() / 4 * 3 {
                self.transactions.remove(&txid);
                all -= size;
            }
        }
    }

    fn prove(&mut self, funding: (String, u32)) {
        if let Some(signed) = self.transactions.get_mut(&funding.0) {
            signed.unproved.retain(|output| *output != funding.1);
        }
        if !self.proved.contains(&funding) {
            self.proved.push_back(funding);
        }
        if self.proved.len() > PROVED {
            self.proved.pop_front();
        }
    }

    /// All that still counts, for the first line of another file of the log.
    pub fn young(&self) -> Vec<Signed> {
        self.transactions.values().filter(|signed| is_kept(signed, self.now)).cloned().collect()
    }

    /// What was last told of the policy.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// What has left the wallet, and gone into channels, in the day before `now`, in satoshis.
    pub fn day(&self, now: u64) -> (u64, u64) {
        let now = self.at(now);
        let young = || self.transactions.values().filter(|signed| is_young(signed, now, DAY));
        (most(young(), |signed| signed.coins), most(young(), |signed| signed.channels))
    }
}

fn no_room() -> Refusal {
    Refusal::new(Rule::LedgerFull, "the guard can remember no more transactions of a day")
}

/// True of an output such as channels' fundings are: its script is known by its hash alone.
fn may_be_funding(paid: &Paid) -> bool {
    paid.script.len() == SCRIPT_HASH_LENGTH && paid.script.starts_with(SCRIPT_HASH)
}

#[cfg(test)]
mod tests;
