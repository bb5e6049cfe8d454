//! The SSH server: the one door that a signer host has besides its own.
//!
//! `sshd -T` tells what holds for everybody; what `Match` blocks change for some is looked at besides.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Host, Needs, Unknown};

const SSHD: &str = "sshd -T";
/// Where sshd looks for users' keys unless it is told otherwise (sshd_config(5)).
const KEYS: &[&str] = &[".ssh/authorized_keys", ".ssh/authorized_keys2", "%h/.ssh/authorized_keys", "none"];

pub(super) const AREA: Area = Area { needs: Needs { texts: &[], programs: &[&["sshd", "-T"]] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "SSH-001",
        title: "Nobody logs in as root with a password",
        why: "root reads the wallet; its name is known, so that a password is all there is to guess",
        mend: "PermitRootLogin no (or prohibit-password) in /etc/ssh/sshd_config.d, then systemctl reload ssh",
        judge: Judge::Host(root),
    },
    Check {
        id: "SSH-002",
        title: "Nobody logs in with a password",
        why: "a password can be guessed, phished and used twice; who gets in is one step from the keys",
        mend: "PasswordAuthentication no and KbdInteractiveAuthentication no, once a key of yours lets you in",
        judge: Judge::Host(passwords),
    },
    Check {
        id: "SSH-003",
        title: "Nobody logs in with an empty password",
        why: "everybody who reaches the port is in",
        mend: "PermitEmptyPasswords no",
        judge: Judge::Host(empty),
    },
    Check {
        id: "SSH-004",
        title: "Nothing is forwarded",
        why: "who may log in reaches by it the port that the allowlist closes, and an agent's keys stand open on this host",
        mend: "DisableForwarding yes and PermitTunnel no",
        judge: Judge::Host(forwarding),
    },
    Check {
        id: "SSH-005",
        title: "No weak algorithm is offered",
        why: "an administrator's session that is read or changed on the way is the host's",
        mend: "name the strong ones alone in Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms and PubkeyAcceptedAlgorithms",
        judge: Judge::Host(algorithms),
    },
    Check {
        id: "SSH-006",
        title: "A connection has few guesses",
        why: "guessing takes as many connections more, which can be seen and slowed down",
        mend: "MaxAuthTries 4",
        judge: Judge::Host(guesses),
    },
    Check {
        id: "SSH-007",
        title: "Nobody else can add a key that lets in as root or as an administrator",
        why: "one line in that file is a login",
        mend: "chown USER and chmod go-w the file, its folder and the home",
        judge: Judge::Host(keys),
    },
    Check {
        id: "SSH-008",
        title: "Keys that let in are in files alone",
        why: "a program or an authority decides then who gets in, on this host or elsewhere",
        mend: "AuthorizedKeysCommand, AuthorizedPrincipalsCommand and TrustedUserCAKeys none, or know who decides there",
        judge: Judge::Host(other_sources),
    },
    Check {
        id: "SSH-009",
        title: "The host's private keys are root's alone",
        why: "who reads them can pass for this host, and takes what its administrator types",
        mend: "chown root:root and chmod 0600 /etc/ssh/ssh_host_*_key; make new ones where they were read",
        judge: Judge::Host(host_keys),
    },
    Check {
        id: "SSH-010",
        title: "sshd trusts no loose file, no user's environment and no other host",
        why: "each of them lets in, or lets out of a forced command, who should not be",
        mend: "StrictModes yes, PermitUserEnvironment no, HostbasedAuthentication no, IgnoreRhosts yes",
        judge: Judge::Host(trust),
    },
];

/// A setting by its name in small letters, and the values that are good.
type Wanted = (&'static str, &'static [&'static str]);

const ROOT: &[Wanted] =
    &[("permitrootlogin", &["no", "without-password", "prohibit-password", "forced-commands-only"])];
const PASSWORDS: &[Wanted] = &[("passwordauthentication", &["no"]), ("kbdinteractiveauthentication", &["no"])];
const EMPTY: &[Wanted] = &[("permitemptypasswords", &["no"])];
const FORWARDING: &[Wanted] = &[
    ("allowtcpforwarding", &["no"]),
    ("allowagentforwarding", &["no"]),
    ("allowstreamlocalforwarding", &["no"]),
    ("x11forwarding", &["no"]),
    ("permittunnel", &["no"]),
];
/// Tunnels are not among what the one setting switches off (sshd_config(5), DisableForwarding).
const ALL_OFF: &[Wanted] = &[("disableforwarding", &["yes"]), ("permittunnel", &["no"])];
const SOURCES: &[Wanted] = &[
    ("authorizedkeyscommand", &["none"]),
    ("authorizedprincipalscommand", &["none"]),
    ("trustedusercakeys", &["none"]),
];
const TRUST: &[Wanted] = &[
    ("strictmodes", &["yes"]),
    ("permituserenvironment", &["no"]),
    ("hostbasedauthentication", &["no"]),
    ("ignorerhosts", &["yes", "shosts-only"]),
];

fn root(host: &Host) -> Judged {
    held(host, ROOT)
}

fn empty(host: &Host) -> Judged {
    held(host, EMPTY)
}

fn trust(host: &Host) -> Judged {
    held(host, TRUST)
}

/// What `sshd -T` printed; nothing where there is no sshd.
fn told(host: &Host) -> Result<Option<&str>, Unknown> {
    let told = host.printed(SSHD);
    if host.root { told } else { told.map_err(|why| Unknown::new(format!("{why}; run it as root"))) }
}

fn no_sshd() -> Verdict {
    Verdict::NotApplicable("there is no sshd on this host".to_owned())
}

/// The value of a setting in what `sshd -T` printed.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(is, _)| *is == name).map(|(_, value)| value.trim()))
}

/// The ports that sshd is to have; none where it does not tell.
pub(super) fn ports(host: &Host) -> Vec<u16> {
    let port = |line: &str| match line.split_once(' ')? {
        ("port", port) => port.parse().ok(),
        ("listenaddress", address) => address.rsplit(':').next()?.parse().ok(),
        _ => None,
    };
    told(host).ok().flatten().unwrap_or_default().lines().filter_map(port).collect()
}

/// Passes where each of these settings is good for everybody, and warns where it is not so for some.
fn held(host: &Host, wanted: &[Wanted]) -> Judged {
    let Some(text) = told(host)? else { return Ok(no_sshd()) };
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for (name, good) in wanted {
        // A version that lacks a setting lacks what it is about, but not all of them.
        let Some(is) = value(text, name) else { continue };
        if good.contains(&is) { &mut right } else { &mut wrong }.push(format!("{name} {is}"));
    }
    if wrong.is_empty() && right.is_empty() {
        return Err(Unknown::new(format!("{SSHD} does not tell {}", wanted.first().map_or("it", |(name, _)| name))));
    }
    if !wrong.is_empty() {
        return Ok(Verdict::Fail(few(&wrong)));
    }
    let is_worse = |name: &str, is: &str| wanted.iter().any(|(of, good)| *of == name && !good.contains(&is));
    let for_some = for_some(host, is_worse)?;
    Ok(if for_some.is_empty() { Verdict::Pass(few(&right)) } else { Verdict::Warn(few(&for_some)) })
}

/// Settings in `Match` blocks that are worse.
fn for_some(host: &Host, is_worse: impl Fn(&str, &str) -> bool) -> Result<Vec<String>, Unknown> {
    let all = host.ssh.conditional.get()?.map_or(&[][..], Vec::as_slice);
    let worse = all.iter().filter(|one| is_worse(&one.name, &one.value.to_ascii_lowercase()));
    Ok(worse.map(|one| format!("Match {}: {} {}", one.condition, one.name, one.value)).collect())
}

/// True where some user's home holds a key that lets in: any user's, or `user`'s.
pub(super) fn has_key(host: &Host, user: Option<&str>) -> bool {
    host.accounts.homes.iter().any(|home| home.logs_in && user.is_none_or(|user| home.user == user))
}

fn passwords(host: &Host) -> Judged {
    let Some(text) = told(host)? else { return Ok(no_sshd()) };
    // Each list of methods that has a key in it asks for more than a password (sshd_config(5), AuthenticationMethods).
    let methods = value(text, "authenticationmethods").unwrap_or("any");
    let keyed = |methods: &str| methods.split_whitespace().all(|list| list.split(',').any(|one| one == "publickey"));
    if !keyed(methods) {
        return held(host, PASSWORDS);
    }
    let for_some = for_some(host, |name, is| name == "authenticationmethods" && !keyed(is))?;
    let evidence = format!("authenticationmethods {methods}");
    Ok(if for_some.is_empty() { Verdict::Pass(evidence) } else { Verdict::Warn(few(&for_some)) })
}

fn forwarding(host: &Host) -> Judged {
    let Some(text) = told(host)? else { return Ok(no_sshd()) };
    let all_off = value(text, "disableforwarding") == Some("yes");
    held(host, if all_off { ALL_OFF } else { FORWARDING })
}

/// Whether an algorithm is broken (true), or only old (false); nothing where it is neither.
fn is_broken(name: &str) -> Option<bool> {
    const BROKEN: &[&str] = &["-cbc", "arcfour", "md5", "ripemd", "-96", "ssh-dss", "umac-32"];
    const OLD: &[&str] = &["umac-64", "hmac-sha1"];
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    // Both sign with SHA-1.
    let by_sha1 = name == "ssh-rsa" || name.starts_with("ssh-rsa-cert");
    let exchange = name.starts_with("diffie-hellman") && name.ends_with("-sha1");
    if by_sha1 || exchange || has(BROKEN) { Some(true) } else { has(OLD).then_some(false) }
}

fn algorithms(host: &Host) -> Judged {
    const LISTS: &[&str] = &[
        "ciphers",
        "macs",
        "kexalgorithms",
        "hostkeyalgorithms",
        "pubkeyacceptedalgorithms",
        "pubkeyacceptedkeytypes",
    ];
    let Some(text) = told(host)? else { return Ok(no_sshd()) };
    let names = LISTS.iter().filter_map(|list| value(text, list)).flat_map(|list| list.split(','));
    let of = |wanted: bool| -> Vec<&str> { names.clone().filter(|name| is_broken(name) == Some(wanted)).collect() };
    let (mut broken, old) = (of(true), of(false));
    broken.sort_unstable();
    broken.dedup();
    Ok(match (broken.is_empty(), old.is_empty()) {
        (false, _) => Verdict::Fail(few(&broken)),
        (true, false) => Verdict::Warn(few(&old)),
        (true, true) => Verdict::Pass("none is weak".to_owned()),
    })
}

fn guesses(host: &Host) -> Judged {
    const MOST: u32 = 4;
    let Some(text) = told(host)? else { return Ok(no_sshd()) };
    let unknown = || Unknown::new(format!("{SSHD} does not tell maxauthtries"));
    let is: u32 = value(text, "maxauthtries").and_then(|value| value.parse().ok()).ok_or_else(unknown)?;
    Ok(Verdict::hold(is <= MOST, format!("maxauthtries {is}")))
}

fn keys(host: &Host) -> Judged {
    let Some(text) = told(host)? else { return Ok(no_sshd()) };
    // Without the users nobody knows whose keys to look at.
    host.accounts.users.need("/etc/passwd")?;
    let mut loose = Vec::new();
    for home in &host.accounts.homes {
        for way in home.keys.values() {
            let way = way.get()?.map_or(&[][..], Vec::as_slice);
            loose.extend(way.iter().filter(|place| place.is_open_to_others(home.uid)));
        }
    }
    let mut told: Vec<String> = loose.into_iter().map(ToString::to_string).collect();
    told.dedup();
    let files = value(text, "authorizedkeysfile").unwrap_or_default();
    let elsewhere = files.split_whitespace().any(|file| !KEYS.contains(&file));
    Ok(match (told.is_empty(), elsewhere) {
        (true, true) => Verdict::Warn(format!("keys are elsewhere and were not looked at: authorizedkeysfile {files}")),
        _ => Verdict::none(told, "none can be changed by others"),
    })
}

fn other_sources(host: &Host) -> Judged {
    // It may be as it should be: an organisation's own authority.
    held(host, SOURCES).map(|verdict| match verdict {
        Verdict::Fail(evidence) => Verdict::Warn(evidence),
        other => other,
    })
}

fn host_keys(host: &Host) -> Judged {
    if told(host).is_ok_and(|text| text.is_none()) {
        return Ok(no_sshd());
    }
    let keys = host.ssh.host_keys.get()?.map_or(&[][..], Vec::as_slice);
    // A group of its own may read them where ssh-keysign needs that: Fedora's way.
    let open: Vec<String> =
        keys.iter().filter(|key| key.uid != 0 || key.mode & 0o027 != 0).map(ToString::to_string).collect();
    let grouped: Vec<String> = keys.iter().filter(|key| key.mode & 0o040 != 0).map(ToString::to_string).collect();
    Ok(if open.is_empty() && !grouped.is_empty() {
        Verdict::Warn(few(&grouped))
    } else {
        Verdict::none(open, format!("{} keys, root's alone", keys.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit::{Answer, Conditional, Kind, Place};
    use crate::harden::tests::recorded;

    /// What Debian 12's sshd prints under settings that leave nothing to say.
    const TOLD: &str = include_str!("../../tests/harden/sshd.txt");

    fn key(path: &str, uid: u32, mode: u32) -> Place {
        Place { path: path.to_owned(), kind: Kind::File, mode, uid, acl: false, capabilities: false }
    }

    fn host(told: &str) -> Host {
        let mut host = recorded();
        host.root = true;
        host.programs.insert(SSHD.to_owned(), Answer::Is(told.to_owned()));
        host.ssh.conditional = Answer::Absent;
        let host_key = key("/etc/ssh/ssh_host_ed25519_key", 0, 0o600);
        host.ssh.host_keys = Answer::Is(vec![host_key]);
        host.accounts.users = Answer::Is(Vec::new());
        host.accounts.homes.clear();
        host
    }

    /// The checks that do not pass.
    fn found(host: &Host) -> Vec<(&'static str, &'static str)> {
        let judged = CHECKS.iter().map(|check| (check.id, check.judge(host).name()));
        judged.filter(|(_, name)| *name != "pass").collect()
    }

    #[test]
    fn a_setting_that_is_worse_gives_its_own_finding_and_no_other() {
        assert_eq!(found(&host(TOLD)), []);
        for (good, bad, wanted) in [
            ("permitrootlogin no", "permitrootlogin yes", ("SSH-001", "fail")),
            ("passwordauthentication no", "passwordauthentication yes", ("SSH-002", "fail")),
            ("kbdinteractiveauthentication no", "kbdinteractiveauthentication yes", ("SSH-002", "fail")),
            ("permitemptypasswords no", "permitemptypasswords yes", ("SSH-003", "fail")),
            ("disableforwarding yes\nallowstream", "disableforwarding no\nallowstream", ("", "")),
            ("permittunnel no", "permittunnel yes", ("SSH-004", "fail")),
            ("ciphers ", "ciphers aes256-cbc,", ("SSH-005", "fail")),
            ("macs ", "macs hmac-md5,", ("SSH-005", "fail")),
            ("macs ", "macs hmac-sha1-etm@openssh.com,", ("SSH-005", "warn")),
            ("kexalgorithms ", "kexalgorithms diffie-hellman-group14-sha1,", ("SSH-005", "fail")),
            ("hostkeyalgorithms ", "hostkeyalgorithms ssh-rsa,", ("SSH-005", "fail")),
            ("maxauthtries 4", "maxauthtries 6", ("SSH-006", "fail")),
            ("authorizedkeysfile .ssh", "authorizedkeysfile /srv/%u .ssh", ("SSH-007", "warn")),
            ("authorizedkeyscommand none", "authorizedkeyscommand /a", ("SSH-008", "warn")),
            ("trustedusercakeys none", "trustedusercakeys /a", ("SSH-008", "warn")),
            ("strictmodes yes", "strictmodes no", ("SSH-010", "fail")),
        ] {
            let text = TOLD.replacen(&format!("\n{good}"), &format!("\n{bad}"), 1);
            assert_ne!(text, TOLD, "{good} is there");
            let wanted: Vec<_> = Some(wanted).filter(|(id, _)| !id.is_empty()).into_iter().collect();
            assert_eq!(found(&host(&text)), wanted, "{bad}");
        }
        let forwards = TOLD.replace("disableforwarding yes", "disableforwarding no");
        let forwards = forwards.replace("allowagentforwarding no", "allowagentforwarding yes");
        assert_eq!(found(&host(&forwards)), [("SSH-004", "fail")]);
        let methods = "\npasswordauthentication yes\nauthenticationmethods publickey,password\n";
        let both =
            TOLD.replace("\npasswordauthentication no\n", methods).replace("\nauthenticationmethods any\n", "\n");
        assert_eq!(found(&host(&both)), [], "a password beside a key lets nobody in alone");
    }

    #[test]
    fn what_holds_for_some_alone_warns_and_what_cannot_be_told_does_not_pass() {
        let mut one = host(TOLD);
        let worse = |name: &str| Conditional { condition: "User b".into(), name: name.into(), value: "yes".into() };
        one.ssh.conditional = Answer::Is(vec![worse("passwordauthentication"), worse("pubkeyauthentication")]);
        assert_eq!(found(&one), [("SSH-002", "warn")]);
        one.programs.insert(SSHD.to_owned(), Answer::Unknown("it failed".to_owned()));
        assert!(CHECKS.iter().filter(|check| check.id != "SSH-009").all(|check| check.judge(&one).name() == "error"));
        one.programs.insert(SSHD.to_owned(), Answer::Absent);
        assert!(CHECKS.iter().all(|check| check.judge(&one).name() == "na"));
        let mut one = host(TOLD);
        for (uid, mode, wanted) in [(0, 0o640, "warn"), (0, 0o604, "fail"), (5, 0o600, "fail"), (0, 0o620, "fail")] {
            one.ssh.host_keys = Answer::Is(vec![key("/k", uid, mode)]);
            assert_eq!(found(&one), [("SSH-009", wanted)], "{uid} {mode:o}");
        }
    }
}
