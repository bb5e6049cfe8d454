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
    asking: Group,
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
    Sqlite,
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
    /// It has a database of SQLite's.
    pub sqlite: bool,
}

impl Use {
    fn has(self, only: Option<Only>) -> bool {
        match only {
            None => true,
            Some(Only::Static) => !self.dynamic,
            Some(Only::Dynamic) => self.dynamic,
            Some(Only::Tcp) => self.tcp,
            Some(Only::Sqlite) => self.sqlite,
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

    /// The same as Docker's profile (docs.docker.com/engine/security/seccomp), which is in force when `lsm launch` starts,
    /// as the unit's filter is: what lsm calls on its way passes whole, and what the health check does beside lnd.
    pub fn docker_profile(&self) -> Value {
        let allow = |names: &[&str], rule: Option<&Rule>| {
            let mut entry = json!({"names": names, "action": "SCMP_ACT_ALLOW"});
            if let Some(rule) = rule.filter(|rule| !rule.args.is_empty()) {
                entry["args"] = rule.args.iter().map(docker_argument).collect();
            }
            if let Some(on) = rule.and_then(|rule| rule.on.as_deref()) {
                entry["includes"] = json!({"arches": [docker_arch(on)]});
            }
            entry
        };
        let rules = self.program.iter().chain(&self.launcher);
        let mut calls: Vec<Value> = rules.map(|rule| allow(&rule.names().collect::<Vec<_>>(), Some(rule))).collect();
        for group in [&self.preparing, &self.asking] {
            calls.push(allow(&group.calls.iter().map(String::as_str).collect::<Vec<_>>(), None));
        }
        calls.push(json!({"names": self.absent.calls, "action": "SCMP_ACT_ERRNO", "errnoRet": nix::libc::ENOSYS}));
        calls.push(json!({"names": self.kill.calls, "action": "SCMP_ACT_KILL_PROCESS"}));
        json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": nix::libc::EPERM,
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
            ],
            "syscalls": calls,
        })
    }
}

fn docker_argument(condition: &Condition) -> Value {
    match condition.mask {
        None => json!({"index": condition.arg, "value": condition.is, "op": "SCMP_CMP_EQ"}),
        Some(mask) => {
            json!({"index": condition.arg, "value": mask, "valueTwo": condition.is, "op": "SCMP_CMP_MASKED_EQ"})
        }
    }
}

/// A kind of processor as Go names it.
fn docker_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn every_use() -> impl Iterator<Item = Use> {
        (0..8).map(|bits| Use { dynamic: bits & 1 > 0, tcp: bits & 2 > 0, sqlite: bits & 4 > 0 })
    }

    /// What becomes of a call, from lenient to strict.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Answer {
        Allow,
        Refuse(i32),
        Kill,
    }

    fn fits(args: &Value, call: [u64; 6]) -> bool {
        args.as_array().into_iter().flatten().all(|c| {
            let (given, number) = (call[c["index"].as_u64().unwrap() as usize], |name: &str| c[name].as_u64());
            match (c["op"].as_str(), c["op"]["masked_eq"].as_u64()) {
                (Some("eq"), _) => given == number("val").unwrap(),
                (_, Some(mask)) => given & mask == number("val").unwrap() & mask,
                (Some("SCMP_CMP_EQ"), _) => given == number("value").unwrap(),
                (Some("SCMP_CMP_MASKED_EQ"), _) => given & number("value").unwrap() == number("valueTwo").unwrap(),
                _ => panic!("{c}"),
            }
        })
    }

    fn action(of: &Value) -> Answer {
        match of.as_str() {
            Some("allow") => Answer::Allow,
            Some("kill_process") => Answer::Kill,
            _ => Answer::Refuse(of["errno"].as_i64().unwrap() as i32),
        }
    }

    /// What the kernel makes of the launcher's three filters.
    fn launcher(filters: &Value, name: &str, call: [u64; 6]) -> Answer {
        let one = |filter: &Value| {
            let matches =
                filter["filter"].as_array().unwrap().iter().any(|r| r["syscall"] == name && fits(&r["args"], call));
            action(&filter[if matches { "match_action" } else { "mismatch_action" }])
        };
        filters.as_object().unwrap().values().map(one).max().unwrap()
    }

    /// What libseccomp makes of Docker's profile.
    fn docker(profile: &Value, name: &str, call: [u64; 6]) -> Answer {
        let rules = profile["syscalls"].as_array().unwrap().iter();
        let found =
            rules.filter(|r| r["names"].as_array().unwrap().iter().any(|n| n == name) && fits(&r["args"], call));
        let answers = found.map(|r| match r["action"].as_str().unwrap() {
            "SCMP_ACT_ALLOW" => Answer::Allow,
            "SCMP_ACT_KILL_PROCESS" => Answer::Kill,
            _ => Answer::Refuse(r["errnoRet"].as_i64().unwrap() as i32),
        });
        answers.max().unwrap_or(Answer::Refuse(profile["defaultErrnoRet"].as_i64().unwrap() as i32))
    }

    /// Arguments that fit a rule, or miss it by one bit.
    fn samples(calls: &Calls) -> BTreeMap<&str, Vec<[u64; 6]>> {
        let mut all: BTreeMap<&str, Vec<[u64; 6]>> = BTreeMap::new();
        for group in [&calls.preparing, &calls.asking, &calls.absent, &calls.kill] {
            group.calls.iter().for_each(|name| all.entry(name).or_default().push([0; 6]));
        }
        for rule in calls.program.iter().chain(&calls.launcher) {
            let mut fitting = [0; 6];
            rule.args.iter().for_each(|c| fitting[usize::from(c.arg)] = c.is);
            for name in rule.names() {
                let tried = all.entry(name).or_default();
                tried.push(fitting);
                for (arg, bit) in (0..6).flat_map(|arg| (0..64).map(move |bit| (arg, bit))) {
                    let mut missing = fitting;
                    missing[arg] ^= 1 << bit;
                    tried.push(missing);
                }
            }
        }
        all.entry("fork").or_default().push([0; 6]);
        all
    }

    #[test]
    fn the_filters_the_profile_and_the_unit_say_the_same() {
        let calls = Calls::load().unwrap();
        let (profile, unit) = (calls.docker_profile(), calls.of_unit());
        let [no_tcp, tcp] = [false, true].map(|tcp| {
            // A profile is for programs of both kinds; so are these two together.
            [false, true].map(|dynamic| calls.filters("x86_64", Use { dynamic, tcp, sqlite: true }))
        });
        for (name, tried) in samples(&calls) {
            let is_in = |group: &Group| group.calls.iter().any(|call| call == name);
            let passes_whole = is_in(&calls.preparing);
            for call in tried {
                let launcher_says = tcp.iter().map(|filters| launcher(filters, name, call)).min().unwrap();
                let expected = if passes_whole { Answer::Allow } else { launcher_says };
                let in_docker = if is_in(&calls.asking) { Answer::Allow } else { expected };
                assert_eq!(docker(&profile, name, call), in_docker, "{name} {call:?}");
                assert!(expected != Answer::Allow || unit.contains(name), "the unit lacks {name}");
                let without = no_tcp.iter().map(|filters| launcher(filters, name, call)).min().unwrap();
                assert!(without >= launcher_says, "{name} {call:?} needs a policy without ports");
            }
        }
    }

    #[test]
    fn what_must_never_pass_does_not() {
        let calls = Calls::load().unwrap();
        for wanted in every_use() {
            let filters = calls.filters("x86_64", wanted);
            let answer = |name, args: &[u64]| {
                let mut call = [0; 6];
                call[..args.len()].copy_from_slice(args);
                launcher(&filters, name, call)
            };
            let refused = Answer::Refuse(nix::libc::EPERM);
            for (name, args) in [
                ("execve", &[][..]),
                ("execveat", &[3, 0, 0, 0, 0]),
                ("fork", &[]),
                ("vfork", &[]),
                ("clone", &[17]),
                ("clone", &[0x1000_0000 | 0x1_0000]),
                ("connect", &[]),
                ("sendto", &[]),
                ("sendmsg", &[]),
                ("memfd_create", &[]),
                ("symlinkat", &[]),
                ("linkat", &[]),
                ("mknodat", &[]),
                ("fchmodat", &[]),
                ("mprotect", &[0, 0, 4]),
                ("mmap", &[0, 0, 2 | 4]),
                ("socket", &[1, 2, 0]),
                ("socket", &[2, 2, 0]),
                ("socket", &[2, 1, 262]),
                ("socket", &[16, 3, 0]),
                ("socket", &[40, 1, 0]),
                ("kill", &[]),
                ("ioctl", &[]),
                ("prctl", &[23]),
                ("prlimit64", &[1]),
            ] {
                assert_eq!(answer(name, args), refused, "{name} {args:?} {wanted:?}");
            }
            assert_eq!(answer("clone3", &[]), Answer::Refuse(nix::libc::ENOSYS));
            assert_eq!(answer("ptrace", &[]), Answer::Kill);
            assert_eq!(answer("socket", &[2, 1, 0]) == Answer::Allow, wanted.tcp);
            assert_eq!(answer("fcntl", &[0, 6]) == Answer::Allow, wanted.sqlite);
            assert_eq!(answer("unlink", &[]) == Answer::Allow, wanted.sqlite);
            assert_eq!(answer("mmap", &[0, 0, 1 | 4]) == Answer::Allow, wanted.dynamic);
            assert_eq!(answer("clone", &[0x5_0f00]), Answer::Allow, "Go's flags for a thread");
        }
    }

    #[test]
    fn every_name_is_known_on_both_kinds_of_processor() {
        let calls = Calls::load().unwrap();
        for (arch, wanted) in
            ["x86_64", "aarch64"].into_iter().flat_map(|arch| every_use().map(move |wanted| (arch, wanted)))
        {
            let filters = calls.filters(arch, wanted).to_string();
            seccompiler::compile_from_json(filters.as_bytes(), arch.try_into().unwrap()).unwrap();
        }
    }
}
