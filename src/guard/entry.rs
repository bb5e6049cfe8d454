//! One line of the log.

use super::policy::Told;
use super::rates::Class;
use super::signed::Signed;
use super::spend::Spend;
use serde::{Deserialize, Serialize};

/// What an entry has for its call that tells of another policy, whose hash it has for a message.
pub const POLICY: &str = "policy";

/// What an entry has for its call that tells that the clock is right from here on, where what is before it is later.
pub const CLOCK: &str = "clock";

/// What an entry has for its call that tells that nothing more is asked for of what was signed by then and waits for other inputs.
pub const FORGET: &str = "forget";

/// What the guard said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was passed on to lnd.
    Passed,
    /// It was not.
    Refused,
    /// It was passed on, and a guard that enforces would have refused it.
    WouldRefuse,
}

/// One line. Of the request it holds the call's name, and of a spend what would be on the chain: no message, no macaroon, no
/// metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1; a refusal names it to the caller.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The call.
    pub call: String,
    /// The sha256 of its message.
    pub message: String,
    /// What the guard said.
    pub verdict: Verdict,
    /// By which rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it is counted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What it would take from the wallet's coins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Spend>,
    /// What its transaction is counted as, where it was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Signed>,
    /// The output that it proves to be a channel's funding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proves: Option<(String, u32)>,
    /// What is so of the operator's policy: where it is another one, and in the first line of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Told>,
    /// In the first line of a file, what left the wallet before and still counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Signed>,
    /// The sha256 of the line before.
    pub prior: String,
}
