//! No sequence of SignPsbt requests moves more of the wallet's coins than the operator's budgets. What could be sent is told here from
//! the transactions and from what the coins really hold, and not from what the guard counted: of all transactions that can take place
//! together, those that take most.

use super::*;
use crate::guard::HOUR;
use crate::guard::budget::{Limits, Weighed};
use crate::guard::entry::Verdict;
use crate::guard::judge::Judged;
use crate::guard::log::{Heard, Log};
use crate::guard::policy::Policy;

/// All that is named there, and what of it may leave in a transaction, an hour and a day; and in a transaction that opens no channel.
const POLICY: &str = "[coins]\nper-transaction = 40000\nper-hour = 70000\nper-day = 120000\n\
    [channels]\nper-transaction = 60000\nper-day = 90000\n\
    [[free]]\naddress = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"\n";
const MOST: [u64; 4] = [40_000 + 60_000, 70_000 + 90_000, 120_000 + 90_000, 40_000];

/// Knuth's generator (MMIX): the same sequence each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What an input spends.
#[derive(Clone, Copy)]
enum Kind {
    Coin { purpose: u32, index: u32 },
    Channel { family: u32 },
    Strangers,
}

/// A transaction, what its inputs really spend, and for which of them there is a signature that is good.
struct Asked {
    unsigned: Psbt,
    inputs: Vec<(Kind, u64)>,
    good: BTreeMap<usize, u64>,
    /// When it was last passed.
    at: u64,
}

impl Asked {
    /// One that spends some of what `before` does, or all of it, and more, and often that first which the other spends first.
    fn new(dice: &mut Dice, number: u32, before: Option<&Self>) -> Self {
        let mut spent: Vec<(OutPoint, Kind, u64)> = before.map_or_else(Vec::new, |before| before.spends().collect());
        spent.retain(|_| !dice.one_in(4));
        spent.extend((0..=dice.below(4)).map(|place| {
            let vout = number * 8 + u32::try_from(place).unwrap();
            (OutPoint { txid: Txid::from_byte_array([7; 32]), vout }, kind(dice), 1 + dice.below(40_000))
        }));
        if dice.one_in(3) {
            spent.reverse();
        }
        let inputs: Vec<(Kind, u64)> = spent.iter().map(|(_, kind, amount)| (*kind, *amount)).collect();
        let input = |(previous_output, ..): &(OutPoint, Kind, u64)| TxIn {
            previous_output: *previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut left = inputs.iter().map(|(_, amount)| *amount).sum::<u64>();
        let mut output = || {
            let value = dice.below(left + 1);
            left -= value;
            TxOut {
                value: Amount::from_sat(value),
                script_pubkey: scripts()[usize::try_from(dice.below(5)).unwrap()].clone(),
            }
        };
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: spent.iter().map(input).collect(),
            output: (0..3).map(|_| output()).collect(),
        };
        Self { unsigned: Psbt::from_unsigned_tx(transaction).unwrap(), inputs, good: BTreeMap::new(), at: 0 }
    }

    /// What it spends.
    fn spends(&self) -> impl Iterator<Item = (OutPoint, Kind, u64)> {
        let spent = self.unsigned.unsigned_tx.input.iter().zip(&self.inputs);
        spent.map(|(input, (kind, amount))| (input.previous_output, *kind, *amount))
    }

    /// True where no more than one of them can take place.
    fn excludes(&self, other: &Self) -> bool {
        self.spends().any(|(spent, ..)| other.spends().any(|(others, ..)| others == spent))
    }

    /// What the thief can take with what was signed: what the good signatures spend, less what is the wallet's or may be paid.
    fn taken(&self) -> u64 {
        let own = [&scripts()[0], &scripts()[1]];
        let outputs = self.unsigned.unsigned_tx.output.iter().filter(|output| own.contains(&&output.script_pubkey));
        let back = outputs.map(|output| output.value.to_sat()).sum();
        self.good.values().sum::<u64>().saturating_sub(back)
    }

    /// True where no output could be a channel's.
    fn opens_nothing(&self) -> bool {
        self.unsigned.unsigned_tx.output.iter().all(|output| output.script_pubkey != scripts()[3])
    }

    /// The request for some of its inputs, lies and all; and which signatures of the wallet's coins are good if it is passed.
    fn request(&self, dice: &mut Dice) -> (Psbt, Vec<usize>) {
        let (mut psbt, mut good) = (self.unsigned.clone(), vec![]);
        for place in 0..self.inputs.len() {
            if dice.one_in(2) {
                continue;
            }
            let (kind, amount) = self.inputs[place];
            // A signature over another amount is worth nothing.
            let lie = if dice.one_in(5) { dice.below(2 * amount + 1) } else { amount };
            if sign(&mut psbt.inputs[place], kind, lie) && lie == amount {
                good.push(place);
            }
        }
        (psbt, good)
    }
}

fn kind(dice: &mut Dice) -> Kind {
    match dice.below(6) {
        0..=2 => Kind::Coin { purpose: PURPOSES[usize::try_from(dice.below(3)).unwrap()], index: 3 },
        3 | 4 => Kind::Channel { family: u32::try_from(dice.below(5)).unwrap() },
        _ => Kind::Strangers,
    }
}

/// Change, who may be paid, a stranger, what looks like a funding, and an address that is too far to be known.
fn scripts() -> &'static [ScriptBuf; 5] {
    static SCRIPTS: std::sync::OnceLock<[ScriptBuf; 5]> = std::sync::OnceLock::new();
    SCRIPTS.get_or_init(|| {
        [
            script(84, 1, key(84, 0, 1, 5)),
            ScriptBuf::from_hex("0014751e76e8199196d454941c45d1b3a323f1433bd6").unwrap(),
            stranger(),
            funding().to_p2wsh(),
            script(86, 1, key(86, 0, 1, 15_000)),
        ]
    })
}

fn funding() -> ScriptBuf {
    multisig(2, &[key(1017, 0, 0, 3), key(84, 0, 0, 1)])
}

/// The request that proves an output of that transaction to be a channel's funding, where it is one.
fn proof(of: &Asked, output: u32) -> Psbt {
    let mut psbt = channel(0, 3, 3, &[(stranger(), 99_000)]);
    let input = &mut psbt.inputs[0];
    (input.witness_script, input.witness_utxo.as_mut().unwrap().script_pubkey) =
        (Some(funding()), funding().to_p2wsh());
    psbt.unsigned_tx.input[0].previous_output = OutPoint { txid: of.unsigned.unsigned_tx.compute_txid(), vout: output };
    psbt
}

/// Has the wallet sign this input, where it is one that it can; true of its coins.
fn sign(input: &mut Input, kind: Kind, amount: u64) -> bool {
    let amount = Amount::from_sat(amount);
    match kind {
        Kind::Coin { purpose, index } => {
            let coin = Coin { purpose, change: 0, index, amount: amount.to_sat() };
            *input = psbt(&coin, &[]).inputs[0].clone();
            true
        }
        Kind::Channel { family } => {
            *input = channel(family, 3, 3, &[]).inputs[0].clone();
            input.witness_utxo = Some(TxOut { value: amount, script_pubkey: stranger().to_p2wsh() });
            false
        }
        Kind::Strangers => {
            input.witness_utxo = Some(TxOut { value: amount, script_pubkey: stranger() });
            false
        }
    }
}

/// What the guard does with one request.
fn ask(log: &mut Log, terms: &mut Terms, psbt: &Psbt, at: u64, policy: &Policy) -> bool {
    let Ok(judged @ Judged { .. }) = judge(&Request::Psbt(psbt.serialize()), terms) else { return false };
    let limits = Limits { policy: Ok(policy), rates: policy.rates, approvals: &Vec::new };
    let weighed = log.ledger().weigh(&judged, at, &limits);
    let verdict = if weighed.is_ok() { Verdict::Passed } else { Verdict::Refused };
    let refusal = weighed.as_ref().err();
    let (asked, weighed_) = (judged.spend, weighed.as_ref().map_or_else(|_| Weighed::default(), Clone::clone));
    let heard = Heard { refusal, asked, weighed: weighed_, ..Heard::new(at, "/a.B/C", verdict) };
    log.write(&heard).unwrap();
    weighed.is_ok()
}

/// The most that these take of which none exclude each other.
fn most_of(mut all: Vec<&Asked>) -> u64 {
    let Some(last) = all.pop() else { return 0 };
    // Only what they lead to, one over the other, has to be tried in all ways.
    let (mut own, mut seen) = (vec![last], 0);
    while let Some(one) = own.get(seen).copied() {
        own.extend(all.extract_if(.., |other| one.excludes(other)));
        seen += 1;
    }
    try_all(&own) + most_of(all)
}

fn try_all(all: &[&Asked]) -> u64 {
    let Some((first, rest)) = all.split_first() else { return 0 };
    let others: Vec<&Asked> = rest.iter().filter(|other| !first.excludes(other)).copied().collect();
    let with = first.taken() + try_all(&others);
    if others.len() == rest.len() { with } else { with.max(try_all(rest)) }
}

#[test]
fn no_sequence_of_requests_moves_more_than_the_budgets() {
    let (policy, mut terms) = (Policy::parse(POLICY).unwrap(), terms());
    let (mut most, mut passed) = ([0; 4], 0);
    for seed in 1..=4 {
        let mut dice = Dice(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entries.jsonl");
        let mut log = Log::open(&path).unwrap();
        let (mut all, mut now) = (Vec::<Asked>::new(), 1_700_000_000_000);
        for number in 0..300 {
            // What is asked for in parts may be so on other days.
            now += if dice.one_in(25) { 25 * HOUR } else { dice.below(HOUR / 8) };
            // The clock may be set back, and the guard be killed.
            let at = if dice.one_in(10) { now - dice.below(40 * HOUR) } else { now };
            if dice.one_in(20) {
                log = Log::open(&path).unwrap();
            }
            if all.is_empty() || dice.one_in(2) {
                let before = all.last().filter(|_| dice.one_in(2));
                let asked = Asked::new(&mut dice, number, before);
                all.push(asked);
            }
            let place = all.len() - 1 - usize::try_from(dice.below(all.len().min(4) as u64)).unwrap();
            if dice.one_in(4) {
                let output = u32::try_from(dice.below(3)).unwrap();
                assert!(ask(&mut log, &mut terms, &proof(&all[place], output), at, &policy));
            }
            let (psbt, good) = all[place].request(&mut dice);
            if ask(&mut log, &mut terms, &psbt, at, &policy) {
                let asked = &mut all[place];
                asked.good.extend(good.into_iter().map(|input| (input, asked.inputs[input].1)));
                (asked.at, passed) = (now, passed + 1);
            }
            let within =
                |time| most_of(all.iter().filter(|asked| now - asked.at < time && asked.taken() > 0).collect());
            let one = all.iter().map(Asked::taken).max().unwrap_or(0);
            let plain = all.iter().filter(|asked| asked.opens_nothing()).map(Asked::taken).max().unwrap_or(0);
            for (most, taken) in most.iter_mut().zip([one, within(HOUR), within(24 * HOUR), plain]) {
                *most = taken.max(*most);
            }
            assert!(most.iter().zip(MOST).all(|(taken, limit)| *taken <= limit), "{seed}: {most:?}");
        }
    }
    // The test itself: a good part was passed, and a good part of each budget was taken.
    assert!(passed > 300 && most.iter().zip(MOST).all(|(taken, limit)| *taken > limit / 3), "{passed}: {most:?}");
}
