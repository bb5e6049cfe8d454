//! The operator's policy: a file whose rules hold from the next call on, and what it says in words.

use super::destination::{Destinations, Named};
use super::hash;
use super::rates::{Class, Rate, Rates};
use super::refusal::{Refusal, Rule};
use super::spend::Spend;
use super::{DAY, MINUTE};
use crate::error::{Code, Error, Result};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::path::Path;

const BAD: Code = Code::usage("E-GUARD-040");

/// A policy to begin with: what `lsm guard check --example` prints.
pub const EXAMPLE: &str = include_str!("../../policies/guard.toml");

/// All of it. What is not named is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What may leave the wallet's coins.
    pub coins: Coins,
    /// Of that, what may be fees.
    pub fees: Fees,
    /// What may go into channels besides; without it that is no other than what leaves.
    pub channels: Option<Channels>,
    /// Who may be paid besides.
    pub free: Destinations,
    /// How often something may be signed.
    pub rates: Rates,
    /// There are to be no limits, and that is said: what is left out could be a mistake.
    pub unlimited: bool,
}

/// What may leave the wallet, in satoshis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Coins {
    /// By one transaction, its fee included.
    pub per_transaction: Option<u64>,
    /// In any hour.
    pub per_hour: Option<u64>,
    /// In any 24 hours.
    pub per_day: Option<u64>,
    /// When nothing may leave but a fee that [`Fees`] names, as `HH:MM-HH:MM` in UTC.
    quiet_hours: Vec<Quiet>,
}

/// What the wallet may pay as fees, in satoshis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Fees {
    /// By one transaction.
    pub per_transaction: Option<u64>,
    /// For each of its virtual bytes.
    pub per_vbyte: Option<u64>,
}

/// What may go into channels, in satoshis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Channels {
    /// By one transaction.
    pub per_transaction: Option<u64>,
    /// In any 24 hours.
    pub per_day: Option<u64>,
}

/// From one minute of the day to before another; over midnight where that is earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Quiet {
    from: u64,
    to: u64,
}

impl TryFrom<String> for Quiet {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let read = || {
            let (from, to) = text.split_once('-')?;
            Some(Self { from: read_minute(from)?, to: read_minute(to)? }).filter(|quiet| quiet.from != quiet.to)
        };
        read().ok_or("quiet hours are two different times of the day, such as 22:00-06:00")
    }
}

fn read_minute(text: &str) -> Option<u64> {
    let digits = |text: &str, below: u64| {
        let is_two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| is_two && *number < below)
    };
    let (hour, minute) = text.split_once(':')?;
    Some(digits(hour, 24)? * 60 + digits(minute, 60)?)
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    coins: Coins,
    fees: Fees,
    channels: Option<Channels>,
    free: Vec<Named>,
    rates: Rates,
    unlimited: bool,
}

impl Fees {
    /// Holds what a spend pays as its fee, as far as that is known: the last of its inputs makes it whole.
    ///
    /// # Errors
    /// Where it is beyond one of the limits.
    pub fn hold(&self, whole: &Spend) -> Result<(), Refusal> {
        let fee = whole.fee();
        if self.per_transaction.is_some_and(|limit| fee > limit) {
            return Err(Refusal::new(Rule::FeeCeiling, format!("{fee} sat of this transaction would be its fee")));
        }
        if self.per_vbyte.is_some_and(|limit| fee > limit.saturating_mul(whole.vsize)) {
            let why = format!("{fee} sat would be the fee of some {} virtual bytes", whole.vsize);
            return Err(Refusal::new(Rule::FeeRate, why));
        }
        Ok(())
    }
}

impl Policy {
    /// Reads it; without a file nothing is limited.
    ///
    /// # Errors
    /// Where it is there and does not read: then nothing of the wallet's coins may leave.
    pub fn read(path: &Path) -> Result<Self> {
        if !file::is_there(path)? {
            return Ok(Self::default());
        }
        Self::parse(&file::read_text(path)?)
            .map_err(|e| Error::new(BAD, format!("{} is no policy: {}", path.display(), e.cause())).because(e))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// Where it is no policy.
    pub fn parse(text: &str) -> Result<Self> {
        let Written { coins, fees, channels, free, rates, unlimited } =
            toml::from_str(text).map_err(|e| Error::new(BAD, e.message()).because(e))?;
        let policy = Self { coins, fees, channels, free: Destinations::new(&free)?, rates, unlimited };
        if unlimited && policy != (Self { unlimited, ..Self::default() }) {
            return Err(Error::new(BAD, "it is unlimited and names limits"));
        }
        // Else no fee would pass then by which a closing transaction or a HTLC is made to confirm: that it does not wait.
        if !policy.coins.quiet_hours.is_empty() && policy.fees.per_transaction.is_none() {
            return Err(Error::new(BAD, "quiet-hours have to say what fee passes then: [fees] per-transaction"));
        }
        Ok(policy)
    }

    /// True where it bounds what leaves the wallet's coins, so that this has to be counted.
    pub fn is_bounded(&self) -> bool {
        let coins = &self.coins;
        self.channels.is_some() || [coins.per_transaction, coins.per_hour, coins.per_day].iter().any(Option::is_some)
    }

    /// True at a time at which nothing may leave but a fee.
    pub fn is_quiet(&self, now: u64) -> bool {
        let minute = now % DAY / MINUTE;
        self.coins.quiet_hours.iter().any(|quiet| {
            let (after, before) = (quiet.from <= minute, minute < quiet.to);
            if quiet.from < quiet.to { after && before } else { after || before }
        })
    }

    /// What it says, a sentence for each rule, with the rule's name.
    pub fn explain(&self) -> Vec<String> {
        [self.explain_coins(), self.explain_channels(), self.explain_free(), self.explain_fees(), self.explain_rates()]
            .concat()
    }

    fn explain_coins(&self) -> Vec<String> {
        let coins = &self.coins;
        let limits = [
            (coins.per_transaction, "by one transaction", Rule::OutflowTransaction),
            (coins.per_hour, "in any hour", Rule::OutflowHour),
            (coins.per_day, "in any 24 hours", Rule::OutflowDay),
        ];
        let mut said: Vec<String> = limits
            .iter()
            .map(|(limit, time, rule)| amount("leave the wallet's coins, fees included,", *limit, time, *rule))
            .collect();
        let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
        for quiet in &coins.quiet_hours {
            let most = self.fees.per_transaction.unwrap_or(0);
            let (from, to, rule) = (clock(quiet.from), clock(quiet.to), Rule::QuietHours.name());
            said.push(format!("from {from} to {to} UTC at most {most} sat may leave by one transaction ({rule})"));
        }
        said
    }

    fn explain_channels(&self) -> Vec<String> {
        let Some(channels) = &self.channels else {
            return vec!["what goes into channels counts with what leaves the wallet".to_owned()];
        };
        vec![
            amount(
                "go into channels besides",
                channels.per_transaction,
                "by one transaction",
                Rule::FundingTransaction,
            ),
            amount("go into channels besides", channels.per_day, "in any 24 hours", Rule::FundingDay),
        ]
    }

    fn explain_free(&self) -> Vec<String> {
        self.free.words().iter().map(|words| format!("may be paid besides, at any time: {words}")).collect()
    }

    fn explain_fees(&self) -> Vec<String> {
        let fees = &self.fees;
        let rate = fees.per_vbyte.map_or("any fee".to_owned(), |rate| format!("at most {rate} sat"));
        vec![
            amount("be the fee", fees.per_transaction, "of one transaction", Rule::FeeCeiling),
            format!("{rate} for each virtual byte ({})", Rule::FeeRate.name()),
        ]
    }

    fn explain_rates(&self) -> Vec<String> {
        let explain = |class: Class| {
            let Rate { per_minute, per_hour } = self.rates.of(class);
            let limits = [(per_minute, "minute"), (per_hour, "hour")];
            limits.into_iter().filter_map(move |(limit, time)| {
                let (name, rule) = (class.name(), Rule::Rate.name());
                limit.map(|limit| format!("at most {limit} calls of the class {name} in any {time} ({rule})"))
            })
        };
        Class::ALL.into_iter().flat_map(explain).collect()
    }
}

fn amount(what: &str, limit: Option<u64>, time: &str, rule: Rule) -> String {
    match limit {
        Some(limit) => format!("at most {limit} sat may {what} {time} ({})", rule.name()),
        None => format!("any amount may {what} {time}"),
    }
}

/// What the log is told of the policy, and what the next guard has to know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The hash of its text; nothing where there never was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// There were rules: a file that is gone is no policy any more.
    pub limited: bool,
    /// The rates of the last one that did read.
    pub rates: Rates,
}

/// The policy of now. Read at each call, and understood anew where its text has changed.
#[derive(Debug)]
pub struct Current {
    text: Option<String>,
    /// That is what the file said at the last look.
    is_read: bool,
    policy: Result<Policy, String>,
    /// There were rules.
    limited: bool,
    /// The rates of the last one that did read: what is no coin of the wallet's passes while it does not. Nothing before the first look.
    rates: Option<Rates>,
}

impl Default for Current {
    fn default() -> Self {
        Self { text: None, is_read: true, policy: Ok(Policy::default()), limited: false, rates: None }
    }
}

impl Current {
    /// Looks for what the file says now, after what was `told` of it before, by an earlier guard too.
    pub fn look(&mut self, path: &Path, told: &Told) {
        self.limited |= told.limited;
        self.rates.get_or_insert(told.rates);
        let read = || if file::is_there(path)? { file::read_text(path).map(Some) } else { Ok(None) };
        let read = read();
        if self.is_read && read.as_ref().is_ok_and(|text| *text == self.text && (text.is_some() || !self.limited)) {
            return;
        }
        self.is_read = read.is_ok();
        self.policy = match read {
            Ok(text) => {
                let policy = text.as_deref().map_or_else(|| Ok(Policy::default()), Policy::parse);
                self.text = text;
                policy.map_err(|e| e.cause().to_owned()).and_then(|policy| self.hold(policy))
            }
            Err(e) => Err(e.cause().to_owned()),
        };
    }

    /// Once there were rules they do not vanish: an editor takes a file away for a moment.
    fn hold(&mut self, policy: Policy) -> Result<Policy, String> {
        if policy == Policy::default() && self.limited {
            return Err("the policy that was in force is gone; to go on without any: unlimited = true".to_owned());
        }
        self.limited |= policy != Policy::default();
        self.rates = Some(policy.rates);
        Ok(policy)
    }

    /// What it says, or why it does not read.
    pub fn policy(&self) -> Result<&Policy, &str> {
        self.policy.as_ref().map_err(String::as_str)
    }

    /// The rates that hold, also while it does not read.
    pub fn rates(&self) -> Rates {
        self.rates.unwrap_or_default()
    }

    /// True where the log was told of it, and of no other since.
    pub fn is_told(&self, told: &Told) -> bool {
        told.hash.as_ref().map_or(self.text().is_empty(), |told| *told == hash(self.text().as_bytes()))
    }

    /// What the log is to be told of it.
    pub fn told(&self) -> Told {
        let hash = Some(hash(self.text().as_bytes()));
        Told { hash, limited: self.limited, rates: self.rates() }
    }

    /// Its text; empty without a file.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
