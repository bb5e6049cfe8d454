//! The journal read backwards, as a plan: what the last plan changed, or all that lsm ever did.

use crate::engine::{Engine, Kind};
use crate::error::Result;
use crate::facts::{self, units};
use crate::host::file;
use crate::plan::door::open_as_admin;
use crate::plan::history::History;
use crate::plan::ledger::Touched;
use crate::plan::planner::Plan;
use crate::plan::prior::{AtPath, Prior, Role, RootKey, Thing, Wallet, Was};
use crate::plan::register::Register;
use crate::plan::step::{Door, Step};
use crate::spec::docker::CREATE;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What stays although lsm brought it.
#[derive(Debug, Default)]
pub struct Stays {
    /// What other signers of this host need.
    pub shared: BTreeSet<Thing>,
    /// The packet filter's step for those signers, where there are any.
    pub filter: Option<Step>,
    /// What the signer's bundle is to be again, where there is one afterwards.
    pub bundle: Option<BundleBefore>,
    /// The wallet goes too.
    pub purge: bool,
}

/// What a bundle was before the plan that is undone.
#[derive(Debug)]
pub struct BundleBefore {
    /// How its lnd is reached.
    pub door: Door,
    /// The unit that runs that lnd.
    pub unit: String,
    /// The register of its macaroons.
    pub register: PathBuf,
    /// Its macaroon permitted MuSig2.
    pub taproot_channels: bool,
}

/// A plan that undoes, and what it leaves.
#[derive(Debug)]
pub struct Undo {
    /// The steps.
    pub plan: Plan,
    /// What somebody else changed since: it is left as it is now.
    pub foreign: Vec<Prior>,
    /// What other signers need, each with since when and what it was before, the oldest first.
    pub shared: Vec<(u64, Prior)>,
    /// The wallet that stays, with what belongs to it.
    pub wallet: Option<Wallet>,
    /// What nothing can bring back, in words.
    pub lost: Vec<String>,
    /// Everything goes that does not stay with the wallet.
    all: bool,
    /// The folders of the wallets.
    homes: Vec<PathBuf>,
    /// Where the passwords are of databases whose password was being changed, and the other one of each.
    passwords: Vec<[PathBuf; 2]>,
}

/// Undoes the last plan; `None` where there is none, or it was undone.
///
/// # Errors
/// Where the machine cannot be looked at.
pub fn undo_last(history: &History, stays: &Stays) -> Result<Option<Undo>> {
    let wallets = find_wallets(&history.touched());
    let cut_off = history.unfinished().is_some();
    let undo = history.to_undo().map(|touched| Undo::of(touched, &wallets, stays, (cut_off, false))).transpose()?;
    undo.map(|undo| undo.with_bundle(history, stays.bundle.as_ref())).transpose()
}

/// Undoes all that lsm answers for.
///
/// # Errors
/// As [`undo_last`].
pub fn undo_all(history: &History, stays: &Stays) -> Result<Undo> {
    let touched = answered_for(history);
    let wallets = find_wallets(&touched);
    Undo::of(touched, &wallets, stays, (history.unfinished().is_some(), true))
}

/// True where a change of the wallet's password was cut off, and which of two passwords opens the wallet is not settled.
pub fn is_between_passwords(history: &History) -> bool {
    history.to_undo().into_iter().flatten().any(|touched| match &touched.first {
        Prior::Database { database } => database.passwords().is_some() && database.is_given_over(),
        _ => false,
    })
}

/// All that lsm answers for. What it made itself goes or stays as it made it: no undoing opens it to others again, since
/// it is not what was there before lsm.
fn answered_for(history: &History) -> Vec<Touched> {
    let touched = history.touched();
    let is_made = |path: &Path| {
        touched.iter().any(|touched| match &touched.first {
            Prior::Path(AtPath { path: made, role: Role::Tree, .. }) => path.starts_with(made),
            Prior::Path(AtPath { path: made, .. }) => path == made,
            Prior::Wallet { wallet } => path.starts_with(&wallet.data),
            _ => false,
        })
    };
    let counts = |one: &&Touched| !matches!(&one.first, Prior::Rights { rights_of, .. } if is_made(rights_of));
    touched.iter().filter(counts).cloned().collect()
}

fn find_wallets(touched: &[Touched]) -> Vec<Wallet> {
    let wallet =
        |touched: &Touched| if let Prior::Wallet { wallet } = &touched.first { Some(wallet.clone()) } else { None };
    touched.iter().filter_map(wallet).collect()
}

impl Undo {
    /// Where a plan was cut off, it may have been between a file and what follows from it.
    fn of(touched: Vec<Touched>, wallets: &[Wallet], stays: &Stays, (cut_off, all): (bool, bool)) -> Result<Self> {
        let mut wallet = None;
        for made in wallets {
            if !stays.purge && made.is_made()? {
                wallet = Some(made.clone());
            }
        }
        let pairs = touched.iter().filter_map(|touched| match &touched.first {
            Prior::Database { database } => database.passwords().map(|pair| pair.map(Path::to_owned)),
            _ => None,
        });
        let passwords = pairs.collect();
        // A user's signer has no unit, and that user may not have systemd read any.
        let reads_units = cut_off && touched.iter().any(|touched| is_systemds(&touched.first));
        let plan = Plan { steps: Vec::new() };
        let homes = wallets.iter().map(|wallet| wallet.data.clone()).collect();
        let (foreign, shared, lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut undo = Self { plan, foreign, shared, wallet, lost, all, homes, passwords };
        let mut back = Vec::new();
        for touched in touched.into_iter().rev() {
            if let Some(to) = undo.judge(touched, stays, cut_off)? {
                back.push(to);
            }
        }
        undo.shared.reverse();
        undo.plan = order(folders_last(back), stays, (cut_off, reads_units));
        Ok(undo)
    }

    /// Has what a bundle's macaroon permits go back with the bundle: one with MuSig2, which takes keys, is good no more where there
    /// was none, and one that was revoked does not become good again. The register goes on naming what was exported: it is good
    /// until it is revoked.
    fn with_bundle(mut self, history: &History, before: Option<&BundleBefore>) -> Result<Self> {
        let Some(before) = before else { return Ok(self) };
        let exported =
            |taproot: bool| history.undoes(|what| what["kind"] == "bundle" && what["taproot_channels"] == taproot);
        if !exported(!before.taproot_channels) {
            return Ok(self);
        }
        let is_register = |to: &Prior| path_of(to) == Some(before.register.as_path());
        self.plan.steps.retain(|step| !matches!(step, Step::Restore { to } if is_register(to)));
        if before.taproot_channels {
            self.lost.push("the macaroon with MuSig2 of the bundle stays revoked: lsm bundle export".to_owned());
            return Ok(self);
        }
        let keys = Register::read(&before.register)?.taproot_keys().into_iter();
        let delete = |id| {
            let root_key = RootKey { door: before.door.clone(), id };
            Step::Restore { to: Prior::RootKey { root_key, exists: false } }
        };
        match open_as_admin(&before.door).and_then(|admin| admin.root_key_ids()) {
            // While its lnd runs, whether or not it does afterwards.
            Ok(live) => {
                let gone: Vec<Step> = keys.filter(|key| live.contains(key)).map(delete).collect();
                self.plan.steps.splice(0..0, gone);
            }
            // It serves again at the end, or what cannot be revoked keeps the plan from ending.
            Err(_) if self.starts(&before.unit) || facts::state(&before.unit)?.is_up() => {
                self.plan.steps.extend(keys.map(delete));
            }
            Err(_) => self.lost.push(
                "the macaroon with MuSig2 is not revoked, since lnd does not run: lsm start, lsm bundle export"
                    .to_owned(),
            ),
        }
        Ok(self)
    }

    /// True where its plan ends with an lnd that runs.
    fn starts(&self, service: &str) -> bool {
        self.plan.steps.iter().any(|step| match step {
            Step::Restore { to: Prior::Unit { unit, active: true } } => unit == service,
            Step::Restore { to: Prior::Object { held, runs: true, .. } } => held.object == Kind::Container,
            _ => false,
        })
    }

    /// What is to be put back of one thing, if anything.
    fn judge(&mut self, touched: Touched, stays: &Stays, cut_off: bool) -> Result<Option<Prior>> {
        let Touched { since, first, left } = touched;
        let thing = first.thing();
        // With its database it goes back, or stays.
        let is = |at: usize| {
            let is_at = |path: &Path| self.passwords.iter().any(|pair| pair[at] == path);
            matches!(&thing, Thing::Path(path) | Thing::Secret(path) if is_at(path))
        };
        if is(0) {
            return Ok(None);
        }
        // Either password is lsm's, whichever is there.
        let left = left.filter(|_| !is(1));
        if let Prior::Database { database } = &first {
            return Ok(database.is_given_over().then_some(first));
        }
        // A rollback gives the register back, as one plan changed it. It goes with the wallet's root keys where all goes.
        let stays_with = |wallet: &Wallet| wallet.holds(&thing) || self.all && thing == Thing::Path(wallet.register());
        if matches!(thing, Thing::Given(_) | Thing::Wallet(_)) || self.wallet.as_ref().is_some_and(stays_with) {
            return Ok(None);
        }
        if stays.shared.contains(&thing) {
            self.shared.push((since, first));
            return Ok(None);
        }
        let now = Prior::observe(&thing)?;
        if let (Prior::RootKey { root_key, exists: true }, Prior::RootKey { exists: false, .. }) = (&first, &now) {
            self.lost.push(format!("the macaroon on root key {} stays revoked", root_key.id));
            return Ok(None);
        }
        // What is gone has no rights to be given back.
        if matches!(now, Prior::Rights { rights: None, .. }) {
            return Ok(None);
        }
        let again = match first {
            // It runs before and after, with other files: it is started anew where one of them changes.
            Prior::Unit { active: true, .. } | Prior::Reader { .. } => true,
            Prior::Object { ref held, runs: true, ref mark, .. } => held.object == Kind::Container && !mark.is_empty(),
            // A boot in between may have found half of its files: systemd forgets that it failed when it is stopped.
            Prior::Unit { ref unit, active: false } => cut_off || facts::state(unit)?.is_up(),
            _ => false,
        };
        if now.is_same(&first) && !again {
            return Ok(None);
        }
        // A folder that is there is ours even where somebody else put something into it: it goes when it is empty.
        if !is_as_left(&first, left.as_ref(), &now) || self.is_others(&first, left.as_ref(), &now)? {
            self.foreign.push(first);
            return Ok(None);
        }
        Ok(Some(first))
    }

    /// True where `now` has the name of something of lsm's and is not that: a network that leads elsewhere, or a container with
    /// neither the mark of one of lsm's nor a wallet of lsm's.
    fn is_others(&self, first: &Prior, left: Option<&Prior>, now: &Prior) -> Result<bool> {
        let Prior::Object { held, exists: true, mark, .. } = now else { return Ok(false) };
        match held.object {
            Kind::Network => return Engine::open(&held.engine)?.has_other_network(&held.name),
            // Nobody else's has such a name.
            Kind::Container if !held.name.ends_with(CREATE) => {}
            _ => return Ok(false),
        }
        let was = |prior: &Prior| matches!(prior, Prior::Object { exists: true, mark: was, .. } if was == mark);
        if was(first) || left.map_or(!mark.is_empty(), was) {
            return Ok(false);
        }
        let mounts = Engine::open(&held.engine)?.mounts(&held.name)?;
        Ok(!self.homes.iter().any(|home| mounts.contains(home)))
    }
}

/// True of what nobody else has changed since lsm left it, as far as that is known.
fn is_as_left(first: &Prior, left: Option<&Prior>, now: &Prior) -> bool {
    let Some(left) = left else { return true };
    match first.thing() {
        Thing::Path(_) | Thing::Secret(_) | Thing::Rights(_) => left.is_same(now),
        // One that the kernel did not take at once comes by the next boot.
        Thing::Setting(_) => left.is_same(now) || left.is_same(first),
        _ => true,
    }
}

/// A folder goes after all that is below it, whichever lsm came to answer for first: by its own plans, or another signer's.
fn folders_last(back: Vec<Prior>) -> Vec<Prior> {
    let paths: Vec<PathBuf> = back.iter().map(|prior| path_of(prior).unwrap_or(Path::new("")).to_owned()).collect();
    let place = |(at, prior): (usize, &Prior)| match prior {
        Prior::Path(AtPath { path, was: Was::Absent, .. }) => {
            let last = paths.iter().rposition(|other| other != path && other.starts_with(path));
            (last.map_or(at, |last| last.max(at)), Reverse(path.components().count()))
        }
        _ => (at, Reverse(0)),
    };
    let mut placed: Vec<_> = back.iter().enumerate().map(place).zip(back.iter().cloned()).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, prior)| prior).collect()
}

/// Units stop before anything under them changes, and start after everything has. After a plan that was `cut_off` systemd
/// reads its units, where it had some, and starts them in any case: their files may be back already.
fn order(back: Vec<Prior>, stays: &Stays, (cut_off, reads_units): (bool, bool)) -> Plan {
    // What a container is made of can go only after it, and comes before it.
    let is_part = |prior: &Prior| matches!(prior, Prior::Object { held, .. } if held.object != Kind::Container);
    let (parts, back): (Vec<_>, Vec<_>) = back.into_iter().partition(is_part);
    let (come, go): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| matches!(part, Prior::Object { exists: true, .. }));
    let is_of_unit = |prior: &Prior| matches!(prior, Prior::Unit { .. } | Prior::Reader { .. } | Prior::Object { .. });
    let (units, rest): (Vec<_>, Vec<_>) = back.into_iter().partition(is_of_unit);
    // Before the file is put back that says who had it: cut off in between, it is put back again.
    let (databases, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|prior| matches!(prior, Prior::Database { .. }));
    let (starts, stops): (Vec<_>, Vec<_>) = units
        .into_iter()
        .partition(|u| !matches!(u, Prior::Unit { active: false, .. } | Prior::Object { exists: false, .. }));
    let (loads, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|p| matches!(p, Prior::Filter { loaded: true, .. }));
    let (makers, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(makes_at_boot);
    let changes_units = makers.iter().chain(&rest).filter_map(path_of).any(is_units);
    let replaced = !come.is_empty() || starts.iter().any(|prior| matches!(prior, Prior::Object { .. }));
    let changes = replaced || cut_off || !makers.is_empty() || !rest.is_empty() || !loads.is_empty();
    // The filter of those that stay names their users, and nft resolves names as it loads the file, at a boot too: a file with
    // one name that is gone keeps every signer from starting. So it is another file before any user goes, and after all that come.
    let lose_users = rest.iter().any(|prior| matches!(prior, Prior::Account { exists: false, .. }));
    let (first, last) = if lose_users { (stays.filter.clone(), None) } else { (None, stays.filter.clone()) };
    let back = |to: Prior| Step::Restore { to };
    let mut steps: Vec<Step> = stops.into_iter().chain(databases).map(back).collect();
    steps.extend(first);
    steps.extend(makers.into_iter().chain(rest).map(back));
    if reads_units || changes_units {
        // Whichever: cut off, an undoing no longer knows which it has put back.
        steps.push(Step::ReloadUnits { after: vec![], of: vec![] });
    }
    steps.extend(loads.into_iter().map(|to| Step::Restore { to }));
    if changes {
        steps.extend(last);
        // They were read backwards.
        steps.extend(come.into_iter().rev().chain(starts.into_iter().rev()).map(|to| Step::Restore { to }));
    }
    steps.extend(go.into_iter().map(|to| Step::Restore { to }));
    Plan { steps }
}

/// True of a file that goes and from which a boot makes a user or a running unit. It goes before that does, or a boot in
/// between makes it again (systemd-sysusers(8), systemd.unit(5) `WantedBy=`). Not so the file of tmpfiles.d(5): as long as
/// there is a way back, a boot has to make the folders in /run.
fn makes_at_boot(prior: &Prior) -> bool {
    let Prior::Path(AtPath { path, was: Was::Absent, .. }) = prior else { return false };
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    folder == "sysusers.d" || folder.ends_with(".wants")
}

fn path_of(prior: &Prior) -> Option<&Path> {
    if let Prior::Path(AtPath { path, .. }) = prior { Some(path) } else { None }
}

/// True of a unit, its files, and what one loads.
fn is_systemds(prior: &Prior) -> bool {
    matches!(prior, Prior::Unit { .. } | Prior::Filter { .. }) || path_of(prior).is_some_and(is_units)
}

fn is_units(path: &Path) -> bool {
    units::FOLDERS.iter().any(|folder| path.starts_with(folder) && path != Path::new(folder))
}

impl Undo {
    /// What its plan, which was carried out, could not put back: folders in which somebody else has something.
    ///
    /// # Errors
    /// Where the machine cannot be looked at.
    pub fn missed(&self) -> Result<Vec<Thing>> {
        let mut missed = Vec::new();
        for step in &self.plan.steps {
            if let Step::Restore { to: to @ Prior::Path(_) } = step
                && !Prior::observe(&to.thing())?.is_same(to)
            {
                missed.push(to.thing());
            }
        }
        Ok(missed)
    }
}

/// What lsm answers for and is not as it was: nothing, where all was undone.
///
/// # Errors
/// Where the machine cannot be looked at.
pub fn left_over(history: &History) -> Result<Vec<Prior>> {
    let mut left = Vec::new();
    for Touched { first, .. } in answered_for(history) {
        let is_left = match &first {
            Prior::Wallet { wallet } => wallet.is_made()?,
            Prior::Rights { rights_of, .. } if file::is_there(rights_of).is_ok_and(|is| !is) => false,
            first => !Prior::observe(&first.thing())?.is_same(first),
        };
        if is_left {
            left.push(first);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::prior::Database;
    use serde_json::json;

    #[test]
    fn a_folder_goes_after_all_that_is_below_it() {
        let absent = |path: &str| serde_json::from_value::<Prior>(json!({"path": path, "was": "absent"})).unwrap();
        let unit = Prior::Unit { unit: "a.service".into(), active: false };
        let paths = ["/a", "/b", "/a/b", "/a/b/c", "/ab", "/a/d"];
        let mut back: Vec<Prior> = paths.into_iter().map(absent).collect();
        back.insert(1, unit.clone());
        let mut wanted: Vec<Prior> = ["/b", "/a/b/c", "/a/b", "/ab", "/a/d", "/a"].into_iter().map(absent).collect();
        wanted.insert(0, unit);
        assert_eq!(folders_last(back), wanted);
    }

    #[test]
    fn the_filter_of_those_that_stay_names_no_user_that_is_not_there() {
        let filter = Step::Firewall {
            unit: "lsm-firewall.service".into(),
            link: "/l".into(),
            file: "/f".into(),
            text: String::new(),
            after: vec![],
        };
        let stays = Stays { filter: Some(filter.clone()), ..Stays::default() };
        let user = |exists| Prior::Account { account: "lsm-a".into(), exists, files: vec![], kept: None };
        let [stop, start] = [false, true].map(|active| Prior::Unit { unit: "a.service".into(), active });
        let back = |to: &Prior| Step::Restore { to: to.clone() };
        let goes = order(vec![user(false), stop.clone()], &stays, (false, false)).steps;
        assert_eq!(goes, [back(&stop), filter.clone(), back(&user(false))]);
        let comes = order(vec![start.clone(), user(true)], &stays, (false, false)).steps;
        assert_eq!(comes, [back(&user(true)), filter, back(&start)]);
    }

    #[test]
    fn a_database_goes_back_while_the_other_lnd_has_it_and_before_that_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let swap = dir.path().join("lsm.conf");
        std::fs::write(&swap, "the other lnd").unwrap();
        let old = Prior::observe(&Thing::Path(swap.clone())).unwrap();
        let database = Database {
            data: dir.path().join("signer/data"),
            copy: dir.path().join("copy"),
            unit: "lsm-none.service".into(),
            container: None,
            swapped: facts::hash(&swap).unwrap(),
            swap: swap.clone(),
            password: None,
        };
        let prior = Prior::Database { database };
        let gone = json!({"path": swap, "was": "absent"});
        let lines = [
            json!({"v": 2, "at": 1, "event": "begin", "verb": "upgrade", "steps": 2}),
            json!({"v": 2, "at": 1, "event": "intent", "step": 0, "what": {"kind": "snapshot"}, "prior": [prior]}),
            json!({"v": 2, "at": 1, "event": "done", "step": 0, "left": [prior]}),
            json!({"v": 2, "at": 1, "event": "intent", "step": 1, "what": {"kind": "text"}, "prior": [gone]}),
            json!({"v": 2, "at": 1, "event": "done", "step": 1, "left": [old]}),
            json!({"v": 2, "at": 1, "event": "end"}),
        ];
        let history = History::new(lines.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect());
        let steps = || undo_last(&history, &Stays::default()).unwrap().unwrap().plan.steps;
        let back = |to: &Prior| Step::Restore { to: to.clone() };
        assert_eq!(steps(), [back(&prior), back(&serde_json::from_value(gone).unwrap())]);
        // The old lnd has it: also after a rollback that was cut off here.
        std::fs::remove_file(&swap).unwrap();
        assert_eq!(steps(), []);
        // An uninstall leaves the wallet as it is.
        assert!(history.touched().iter().all(|touched| touched.first != prior));
    }

    /// What one plan of one step left, which had found this.
    fn changed(prior: &[serde_json::Value], left: &[serde_json::Value]) -> History {
        let lines = [
            json!({"v": 2, "at": 1, "event": "begin", "verb": "harden --fix", "steps": 1}),
            json!({"v": 2, "at": 1, "event": "intent", "step": 0, "what": {"kind": "x"}, "prior": prior}),
            json!({"v": 2, "at": 1, "event": "done", "step": 0, "left": left}),
            json!({"v": 2, "at": 1, "event": "end"}),
        ];
        History::new(lines.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect())
    }

    #[test]
    fn a_setting_goes_back_also_where_only_a_boot_made_it_and_not_where_somebody_else_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scope");
        let setting = |value: &str| json!({"setting": path, "value": value});
        for (left, now, back) in [("1", "1", true), ("0", "1", true), ("1", "2", false), ("1", "0", false)] {
            std::fs::write(&path, now).unwrap();
            let undo = undo_last(&changed(&[setting("0")], &[setting(left)]), &Stays::default()).unwrap().unwrap();
            assert_eq!(undo.plan.steps.len(), usize::from(back), "left {left}, now {now}");
        }
    }

    #[test]
    fn what_lsm_made_is_opened_again_by_a_rollback_alone_and_what_is_gone_by_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("file");
        std::fs::write(&path, "").unwrap();
        let rights = |mode| {
            let now = json!(crate::host::rights::Rights::read(&path).unwrap());
            json!({"rights_of": path, "rights": {"mode": mode, "uid": now["uid"], "gid": now["gid"]}})
        };
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let (loose, closed) = (rights(0o644), rights(0o600));
        let steps = |history: &History| {
            let last = undo_last(history, &Stays::default()).unwrap().unwrap().plan.steps.len();
            (last, undo_all(history, &Stays::default()).unwrap().plan.steps.len())
        };
        let fixed = changed(std::slice::from_ref(&loose), std::slice::from_ref(&closed));
        assert_eq!(steps(&fixed), (1, 1));
        let absent = json!({"path": path, "was": "absent"});
        let made = serde_json::to_value(Prior::observe(&Thing::Path(path.clone())).unwrap()).unwrap();
        // The file itself goes in any case.
        assert_eq!(steps(&changed(&[absent, loose], &[made, closed])), (2, 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(steps(&fixed), (0, 0));
        assert_eq!(left_over(&fixed).unwrap(), []);
    }
}
