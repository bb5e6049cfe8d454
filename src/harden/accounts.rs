//! Users: who could become lnd's, or root.

use super::{Area, Check, Judge, Judged, Verdict, few};
use crate::facts::audit::{Host, Needs, POWERS, Password, Signer, Unknown, User};

const LOGIN: &str = "/etc/login.defs";

pub(super) const AREA: Area = Area { needs: Needs { texts: &[LOGIN], programs: &[] }, checks: CHECKS };

const CHECKS: &[Check] = &[
    Check {
        id: "USER-001",
        title: "lnd's user has no shell, no password and no key to log in with",
        why: "whoever logs in as lnd's user reads the wallet and the macaroons",
        mend: "usermod -s /usr/sbin/nologin -L USER, and remove the keys in its home; run lnd as a user of its own",
        judge: Judge::Signer(no_login),
    },
    Check {
        id: "USER-002",
        title: "Only root is root",
        why: "a second user with the number 0 is a second way to everything, and often a back door",
        mend: "userdel -f USER, or usermod -o -u NUMBER USER",
        judge: Judge::Host(one_root),
    },
    Check {
        id: "USER-003",
        title: "lnd's user is in no group that has power over the host",
        why: "whoever takes over lnd becomes root by such a group, and leaves its sandbox",
        mend: "gpasswd -d USER GROUP, then restart lnd",
        judge: Judge::Signer(no_power),
    },
    Check {
        id: "USER-004",
        title: "No user has an empty password",
        why: "whoever reaches a login or su is that user unasked",
        mend: "passwd -l USER",
        judge: Judge::Host(no_empty_password),
    },
    Check {
        id: "USER-007",
        title: "Nobody becomes another user unasked",
        why: "who takes over an administrator's session is root at once, and has the keys",
        mend: "remove NOPASSWD and !authenticate with visudo, nopass from /etc/doas.conf",
        judge: Judge::Host(asked),
    },
    Check {
        id: "USER-008",
        title: "lnd's number is no other user's",
        why: "two users with one number are one: the other reads the wallet",
        mend: "usermod -u NUMBER OTHER",
        judge: Judge::Signer(own_number),
    },
    Check {
        id: "USER-009",
        title: "lnd's group is its own",
        why: "lnd writes macaroons that its group may read",
        mend: "gpasswd -d OTHER GROUP, or usermod -g OTHERGROUP OTHER",
        judge: Judge::Signer(own_group),
    },
    Check {
        id: "USER-010",
        title: "Only root writes the rules of sudo",
        why: "whoever writes a rule of sudo is root",
        mend: "chown root:root and chmod 0440 the file, chmod 0755 the folder",
        judge: Judge::Host(rules_are_roots),
    },
    Check {
        id: "USER-011",
        title: "No rule of sudo is about lnd's user",
        why: "who may become lnd's user reads the wallet; lnd's user is to become nobody",
        mend: "remove the rule with visudo",
        judge: Judge::Host(rules_leave_lnd),
    },
    Check {
        id: "USER-012",
        title: "No group makes its members root unasked",
        why: "who is in docker, lxd, libvirt, disk, kmem or shadow is root without a password",
        mend: "gpasswd -d USER GROUP",
        judge: Judge::Host(powers),
    },
    Check {
        id: "USER-013",
        title: "Nobody else can change lnd's home",
        why: "what is planted there is run or trusted by lnd's user",
        mend: "chown USER and chmod 0700 the home, and put the folders above it right",
        judge: Judge::Signer(home),
    },
    Check {
        id: "USER-014",
        title: "No password is kept as a weak hash",
        why: "a hash of DES or MD5 that leaks is a password within hours",
        mend: "ENCRYPT_METHOD YESCRYPT in /etc/login.defs, then passwd USER",
        judge: Judge::Host(strong_hashes),
    },
    Check {
        id: "USER-015",
        title: "What users make is not for everybody to read",
        why: "a bundle or a macaroon that is saved by hand gets this mode",
        mend: "UMASK 027 in /etc/login.defs",
        judge: Judge::Host(mask),
    },
    Check {
        id: "USER-016",
        title: "polkit lets nobody manage units unasked",
        why: "who may start and change units runs what they like as root, and stops the signer",
        mend: "remove the rule for org.freedesktop.systemd1, or for any action, or let it return polkit.Result.AUTH_ADMIN",
        judge: Judge::Host(no_units_unasked),
    },
    Check {
        id: "USER-017",
        title: "Only root writes who is who, and nobody reads the passwords",
        why: "whoever writes the users is any of them; whoever reads the hashes guesses passwords",
        mend: "chown root:root /etc/passwd /etc/group; chown root:shadow /etc/shadow /etc/gshadow; chmod 0644 and 0640",
        judge: Judge::Host(files),
    },
];

/// Shells that end at once.
const NO_SHELLS: &[&str] = &["nologin", "false", "true", "sync"];
/// Of [`POWERS`], those that ask for no password.
const UNASKED: &[&str] = &["docker", "lxd", "incus-admin", "libvirt", "disk", "kmem", "shadow"];

/// lnd's user, or why nothing can be said of it.
fn user_of<'a>(host: &'a Host, signer: &Signer) -> Result<Result<&'a User, Verdict>, Unknown> {
    let na = |why: String| Ok(Err(Verdict::NotApplicable(why)));
    let Some(name) = &signer.user else {
        host.accounts.users.need("/etc/passwd")?;
        return na("lnd's user has no name on this host".to_owned());
    };
    match host.accounts.user(name)? {
        None => na(format!("{name} is not in /etc/passwd")),
        Some(user) if user.uid == 0 => na("lnd runs as root: see USER-001".to_owned()),
        Some(user) => Ok(Ok(user)),
    }
}

fn no_login(host: &Host, signer: &Signer) -> Judged {
    let user = match user_of(host, signer)? {
        Ok(user) => user,
        Err(na) if runs_as_root(host, signer)? => {
            return Ok(Verdict::Fail(na.evidence().replace(": see USER-001", "")));
        }
        Err(na) => return Ok(na),
    };
    let name = &user.name;
    let mut wrong = Vec::new();
    if !NO_SHELLS.contains(&user.shell.rsplit('/').next().unwrap_or_default()) {
        wrong.push(format!("{name} has the shell {}", if user.shell.is_empty() { "/bin/sh" } else { &user.shell }));
    }
    for (path, way) in host.accounts.homes.iter().filter(|home| home.user == *name).flat_map(|home| &home.keys) {
        wrong.extend(way.get()?.map(|_| format!("{} is there", path.display())));
    }
    if host.accounts.password(user)? != Password::Locked {
        wrong.push(format!("{name} has a password"));
    }
    Ok(Verdict::none(wrong, format!("{name}: {}, no password, no key", user.shell)))
}

fn runs_as_root(host: &Host, signer: &Signer) -> Result<bool, Unknown> {
    let Some(name) = &signer.user else { return Ok(false) };
    Ok(host.accounts.user(name)?.is_some_and(|user| user.uid == 0))
}

fn one_root(host: &Host) -> Judged {
    let users = host.accounts.users.need("/etc/passwd")?;
    let others =
        users.iter().filter(|user| user.uid == 0).map(|user| user.name.as_str()).filter(|name| *name != "root");
    Ok(Verdict::none(others, "root alone has the number 0"))
}

fn no_power(host: &Host, signer: &Signer) -> Judged {
    let user = match user_of(host, signer)? {
        Ok(user) => user,
        Err(na) => return Ok(na),
    };
    let mut found = Vec::new();
    for (group, members) in powerful(host)? {
        found.extend(members.contains(&user.name.as_str()).then(|| format!("{} is in {group}", user.name)));
    }
    Ok(Verdict::none(found, format!("{} is in none of them", user.name)))
}

/// Each group of [`POWERS`] that is here, with its members.
fn powerful(host: &Host) -> Result<Vec<(&str, Vec<&str>)>, Unknown> {
    let (users, groups) = (host.accounts.users.need("/etc/passwd")?, host.accounts.groups.need("/etc/group")?);
    let of = |name: &str| POWERS.contains(&name);
    let groups = groups.iter().filter(|group| of(&group.name));
    Ok(groups.map(|group| (group.name.as_str(), members(users, group.gid, &group.members))).collect())
}

/// Who is in a group by its list or by their primary group; without root, who is in all of them.
fn members<'a>(users: &'a [User], gid: u32, listed: &'a [String]) -> Vec<&'a str> {
    let primary = users.iter().filter(|user| user.gid == gid).map(|user| user.name.as_str());
    let mut all: Vec<&str> = listed.iter().map(String::as_str).chain(primary).filter(|name| *name != "root").collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The users whose password is of one of these kinds.
fn with_password<'a>(host: &'a Host, kinds: &[Password]) -> Result<Vec<&'a str>, Unknown> {
    let mut found = Vec::new();
    for user in host.accounts.users.need("/etc/passwd")? {
        found.extend(kinds.contains(&host.accounts.password(user)?).then_some(user.name.as_str()));
    }
    Ok(found)
}

fn no_empty_password(host: &Host) -> Judged {
    Ok(Verdict::none(with_password(host, &[Password::Empty])?, "none is empty"))
}

fn strong_hashes(host: &Host) -> Judged {
    Ok(Verdict::none(with_password(host, &[Password::Des, Password::Md5])?, "no hash of DES or MD5"))
}

/// What a host says that has neither sudo nor doas.
fn no_sudo() -> Verdict {
    Verdict::NotApplicable("neither /etc/sudoers nor /etc/doas.conf is here".to_owned())
}

fn asked(host: &Host) -> Judged {
    let Some(sudo) = host.accounts.sudo.get()? else { return Ok(no_sudo()) };
    let unasked = sudo.rules.iter().filter(|rule| rule.unasked);
    Ok(Verdict::none(unasked.map(|rule| format!("{} for {}", rule.place, rule.who)), "every rule asks for a password"))
}

fn rules_are_roots(host: &Host) -> Judged {
    let Some(sudo) = host.accounts.sudo.get()? else { return Ok(no_sudo()) };
    Ok(Verdict::none(&sudo.loose, "root alone can change them"))
}

fn rules_leave_lnd(host: &Host) -> Judged {
    let Some(sudo) = host.accounts.sudo.get()? else { return Ok(no_sudo()) };
    // A rule for root is root's affair, be lnd root's or not.
    let about = |names: &[String]| names.iter().filter(|name| *name != "root").cloned().collect::<Vec<_>>();
    let found = sudo.rules.iter().map(|rule| (&rule.place, about(&rule.names))).filter(|(_, names)| !names.is_empty());
    let found = found.map(|(place, names)| format!("{place} names {}", few(&names)));
    Ok(Verdict::none(found, "no rule names lnd's user"))
}

fn own_number(host: &Host, signer: &Signer) -> Judged {
    let user = match user_of(host, signer)? {
        Ok(user) => user,
        Err(na) => return Ok(na),
    };
    let users = host.accounts.users.need("/etc/passwd")?;
    let same = users.iter().filter(|other| other.uid == user.uid && other.name != user.name);
    let told = same.map(|other| format!("{} has the number {} too", other.name, user.uid));
    Ok(Verdict::none(told, format!("{} alone has the number {}", user.name, user.uid)))
}

fn own_group(host: &Host, signer: &Signer) -> Judged {
    let user = match user_of(host, signer)? {
        Ok(user) => user,
        Err(na) => return Ok(na),
    };
    let (users, groups) = (host.accounts.users.need("/etc/passwd")?, host.accounts.groups.need("/etc/group")?);
    let listed: Vec<String> =
        groups.iter().filter(|group| group.gid == user.gid).flat_map(|group| group.members.clone()).collect();
    let mut others = members(users, user.gid, &listed);
    others.retain(|name| *name != user.name);
    let told = others.iter().map(|name| format!("{name} is in group {}", user.gid));
    Ok(Verdict::none(told, format!("{} alone is in group {}", user.name, user.gid)))
}

fn powers(host: &Host) -> Judged {
    let all = powerful(host)?;
    let told = |unasked: bool| -> Vec<String> {
        let groups = all.iter().filter(|(group, members)| UNASKED.contains(group) == unasked && !members.is_empty());
        groups.map(|(group, members)| format!("{group}: {}", few(members))).collect()
    };
    let asked = told(false);
    let good = if asked.is_empty() { "nobody is in any of them".to_owned() } else { few(&asked) };
    Ok(Verdict::none(told(true), good))
}

fn home(host: &Host, signer: &Signer) -> Judged {
    let user = match user_of(host, signer)? {
        Ok(user) => user,
        Err(na) => return Ok(na),
    };
    let na = |why: &str| Ok(Verdict::NotApplicable(format!("{} {why}", user.name)));
    if signer.folder.as_ref() == Some(&user.home) {
        return na("has lnd's folder as its home, which is judged as such");
    }
    let Some(home) = host.accounts.homes.iter().find(|home| home.user == user.name) else { return na("has no home") };
    let Some(way) = home.way.get()? else { return na("has no home") };
    let loose = way.iter().filter(|place| place.is_open_to_others(user.uid));
    Ok(Verdict::none(loose, format!("{} alone can change {}", user.name, home.path.display())))
}

fn mask(host: &Host) -> Judged {
    let Some(text) = host.text(LOGIN)? else { return Ok(Verdict::NotApplicable(format!("there is no {LOGIN}"))) };
    let mut words = text.lines().map(str::split_whitespace);
    let said = words.find_map(|mut line| (line.next() == Some("UMASK")).then(|| line.next()).flatten());
    // login.defs(5): 022 where it says nothing.
    let said = said.unwrap_or("022");
    let mask = u32::from_str_radix(said, 8).map_err(|_| Unknown::new(format!("UMASK {said} in {LOGIN} is no mask")))?;
    let evidence = format!("UMASK {said}");
    Ok(match (mask & 0o022, mask & 0o005) {
        (0o022, 0o005) => Verdict::Pass(evidence),
        (0o022, _) => Verdict::Warn(evidence),
        _ => Verdict::Fail(evidence),
    })
}

fn no_units_unasked(host: &Host) -> Judged {
    Ok(match host.accounts.polkit.get()? {
        None => Verdict::NotApplicable("this host has no polkit".to_owned()),
        Some(files) => Verdict::none(files.iter().map(|path| path.display()), "no rule says yes to it"),
    })
}

fn files(host: &Host) -> Judged {
    let mut wrong = Vec::new();
    for answer in &host.accounts.files {
        let Some(place) = answer.get()? else { continue };
        let secret = place.path.ends_with("shadow");
        if place.is_open_to_others(0) || (secret && place.mode & 0o004 != 0) {
            wrong.push(place);
        }
    }
    Ok(Verdict::none(wrong, "root's, 0644 and tighter; shadow is not for everybody to read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::audit::{Answer, Group};
    use crate::harden::tests::recorded;
    use std::collections::BTreeMap;

    fn user(name: &str, uid: u32, shell: &str) -> User {
        let home = format!("/home/{name}").into();
        User { name: name.to_owned(), password: Password::Shadowed, uid, gid: uid, home, shell: shell.to_owned() }
    }

    /// A host with root, an administrator and a user without a shell; lnd is none's.
    fn host() -> Host {
        let mut host = recorded();
        let users = vec![user("root", 0, "/bin/sh"), user("ann", 1000, "/bin/sh"), user("lnd", 9, "/usr/sbin/nologin")];
        let group = |name: &str, gid, members: &[&str]| Group {
            name: name.to_owned(),
            gid,
            members: members.iter().map(|m| (*m).to_owned()).collect(),
        };
        let strong = BTreeMap::from([("ann".to_owned(), Password::Strong), ("root".to_owned(), Password::Locked)]);
        host.accounts.users = Answer::Is(users);
        host.accounts.groups = Answer::Is(vec![group("sudo", 27, &["ann"]), group("docker", 50, &[])]);
        host.accounts.passwords = Answer::Is(strong);
        host.texts.insert(LOGIN.to_owned(), Answer::Is("# UMASK 000\nUMASK\t027\n".to_owned()));
        host
    }

    #[test]
    fn members_are_told_by_list_and_by_primary_group() {
        let mut host = host();
        assert_eq!(powers(&host), Ok(Verdict::Pass("sudo: ann".to_owned())));
        let Answer::Is(users) = &mut host.accounts.users else { unreachable!("set above") };
        users[2].gid = 50;
        assert_eq!(powers(&host), Ok(Verdict::Fail("docker: lnd".to_owned())));
        host.accounts.groups = Answer::Unknown("no".to_owned());
        assert!(powers(&host).is_err());
    }

    #[test]
    fn passwords_are_told_by_their_kind_wherever_they_stand() {
        let mut host = host();
        assert_eq!(no_empty_password(&host).unwrap().name(), "pass");
        assert_eq!(strong_hashes(&host).unwrap().name(), "pass");
        let Answer::Is(users) = &mut host.accounts.users else { unreachable!("set above") };
        users[1].password = Password::Empty;
        users[2].password = Password::Md5;
        assert_eq!(no_empty_password(&host), Ok(Verdict::Fail("ann".to_owned())));
        assert_eq!(strong_hashes(&host), Ok(Verdict::Fail("lnd".to_owned())));
        host.accounts.passwords = Answer::Unknown("run it as root".to_owned());
        assert!(no_empty_password(&host).is_err(), "root's is not known");
    }

    #[test]
    fn a_mask_lets_others_write_read_or_neither() {
        let mut host = host();
        let cases =
            [("UMASK 077", "pass"), ("UMASK 027", "pass"), ("UMASK 022", "warn"), ("", "warn"), ("UMASK 002", "fail")];
        for (text, wanted) in cases {
            host.texts.insert(LOGIN.to_owned(), Answer::Is(text.to_owned()));
            assert_eq!(mask(&host).unwrap().name(), wanted, "{text}");
        }
        host.texts.insert(LOGIN.to_owned(), Answer::Is("UMASK x".to_owned()));
        assert!(mask(&host).is_err());
    }
}
