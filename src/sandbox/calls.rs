//! Which system calls a launched program may make: policies/seccomp.json, the one source of every filter and profile.

use crate::error::{Code, Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const BROKEN: Code = Code::refused("E-SANDBOX-012");

const SOURCE: &str = include_str!("../../policies/seccomp.json");

/// The whole policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    #[expect(dead_code, reason = "for its readers")]
    about: Vec<String>,
    program: Vec<Rule>,
    launcher: Vec<Rule>,
    preparing: Group,
    absent: Group,
    kill: Group,
}

/// Calls that are allowed; one of `calls` and `call`, the latter with conditions that must all hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[expect(dead_code, reason = "for its readers")]
    why: String,
    #[serde(default)]
    calls: Vec<String>,
    call: Option<String>,
    #[serde(default)]
    args: Vec<Condition>,
    on: Option<String>,
    only: Option<Only>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Only {
    Static,
    Dynamic,
    Tcp,
}

/// The whole argument, or its bits in `mask`, equals `is`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    arg: u8,
    mask: Option<u64>,
    is: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[expect(dead_code, reason = "for its readers")]
    why: String,
    calls: Vec<String>,
}

/// For what a filter is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The program has an interpreter, which maps libraries.
    pub dynamic: bool,
    /// It listens on TCP.
    pub tcp: bool,
}

impl Use {
    fn has(self, only: Option<Only>) -> bool {
        match only {
            None => true,
            Some(Only::Static) => !self.dynamic,
            Some(Only::Dynamic) => self.dynamic,
            Some(Only::Tcp) => self.tcp,
        }
    }
}

impl Rule {
    fn is_for(&self, arch: &str, wanted: Use) -> bool {
        self.on.as_deref().is_none_or(|on| on == arch) && wanted.has(self.only)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.calls.iter().chain(&self.call).map(String::as_str)
    }
}

impl Calls {
    /// The policy that this lsm brings.
    ///
    /// # Errors
    /// Where it is broken, which a test forbids.
    pub fn load() -> Result<Self> {
        serde_json::from_str(SOURCE).map_err(|e| Error::new(BROKEN, "policies/seccomp.json cannot be read").because(e))
    }

    /// The filters of `lsm launch` in seccompiler's own JSON, by name, for a kind of processor as Rust names it.
    pub(super) fn filters(&self, arch: &str, wanted: Use) -> Value {
        let rules = self.program.iter().chain(&self.launcher).filter(|rule| rule.is_for(arch, wanted));
        // What is to fail with ENOSYS passes here: of two filters the stricter answer counts.
        let absent = self.absent.calls.iter().map(|call| json!({"syscall": call}));
        let allowed: Vec<Value> = rules.flat_map(seccompiler_rules).chain(absent).collect();
        let whole = |group: &Group| group.calls.iter().map(|call| json!({"syscall": call})).collect::<Vec<_>>();
        let of = |mismatch: Value, matched: Value, filter: Vec<Value>| json!({"mismatch_action": mismatch, "match_action": matched, "filter": filter});
        json!({
            "kill": of(json!("allow"), json!("kill_process"), whole(&self.kill)),
            "absent": of(json!("allow"), json!({"errno": nix::libc::ENOSYS}), whole(&self.absent)),
            "allow": of(json!({"errno": nix::libc::EPERM}), json!("allow"), allowed),
        })
    }

    /// The names of all calls that the unit must allow: the program's on every kind of processor and with TCP, and those
    /// of lsm itself on its way there. systemd passes over a name that the processor does not have.
    pub fn of_unit(&self) -> BTreeSet<&str> {
        let rules = self.program.iter().chain(&self.launcher);
        rules.flat_map(Rule::names).chain(self.preparing.calls.iter().map(String::as_str)).collect()
    }
}

/// One rule for each call: seccompiler takes all rules of a call as alternatives.
fn seccompiler_rules(rule: &Rule) -> Vec<Value> {
    let condition = |c: &Condition| {
        let op = c.mask.map_or(json!("eq"), |mask| json!({"masked_eq": mask}));
        json!({"index": c.arg, "type": "qword", "op": op, "val": c.is})
    };
    let args: Vec<Value> = rule.args.iter().map(condition).collect();
    let of = |call: &str| match args.as_slice() {
        [] => json!({"syscall": call}),
        args => json!({"syscall": call, "args": args}),
    };
    rule.names().map(of).collect()
}
