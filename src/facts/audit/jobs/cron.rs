//! Tables and scripts of cron(8) and anacron(8), and what waits for at(1).

use super::{Words, programs};
use crate::facts::audit::{Answer, Place, Unknown, names};
use crate::host::{file, user};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Tables.
const TABLES: &[(&str, Kind)] = &[("/etc/crontab", Kind::Table), ("/etc/anacrontab", Kind::Root)];
/// Folders: Debian's of users' tables and at's jobs, and the others'.
const FOLDERS: &[(&str, Kind)] = &[
    ("/etc/cron.d", Kind::Table),
    ("/etc/cron.hourly", Kind::Script),
    ("/etc/cron.daily", Kind::Script),
    ("/etc/cron.weekly", Kind::Script),
    ("/etc/cron.monthly", Kind::Script),
    ("/var/spool/cron/crontabs", Kind::Users),
    ("/var/spool/cron", Kind::Users),
    ("/var/spool/cron/atjobs", Kind::Waiting),
    ("/var/spool/at", Kind::Waiting),
];
/// What cron reads no further than, in bytes; at keeps a whole environment.
const LIMIT: u64 = 1 << 20;

/// What stands at a path of cron's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Lines, each with its user.
    Table,
    /// Lines of root's.
    Root,
    /// A script of root's.
    Script,
    /// Lines of the user whose name the file has.
    Users,
    /// A script of the file's owner.
    Waiting,
    /// A folder of these.
    Folder,
}

/// What runs by itself, and what of it matters. What it does stays where it is: that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where it stands.
    pub path: PathBuf,
    /// Whom it runs as, where its place says so.
    pub user: Option<String>,
    /// Words by which it names an lnd.
    pub names: Vec<String>,
    /// Where it stands and the way there, of that what more users than root can change.
    pub way: Vec<Place>,
    /// The programs that root runs by it, and their ways, likewise.
    pub programs: Vec<Place>,
}

/// Every job; nothing where there is no cron.
pub(super) fn gather(words: &Words) -> Result<Option<Vec<Job>>, Unknown> {
    let mut places: Vec<(PathBuf, Kind)> = TABLES.iter().map(|(path, kind)| (path.into(), *kind)).collect();
    for (folder, kind) in FOLDERS {
        let Some(inside) = names(Path::new(folder)).take()? else { continue };
        places.extend(inside.into_iter().filter(|path| path.is_file()).map(|path| (path, *kind)));
        // at's folder is its own user's.
        if *kind != Kind::Waiting {
            places.push((folder.into(), Kind::Folder));
        }
    }
    let mut jobs = Vec::new();
    for (path, kind) in places {
        jobs.extend(look(path, kind, words)?);
    }
    Ok((!jobs.is_empty()).then_some(jobs))
}

fn look(path: PathBuf, kind: Kind, words: &Words) -> Result<Option<Job>, Unknown> {
    let Some(mut way) = Place::open_way(&path).take()? else { return Ok(None) };
    let user = match kind {
        Kind::Users => path.file_name().map(|name| name.to_string_lossy().into_owned()),
        Kind::Waiting => owner(&path),
        Kind::Script | Kind::Root => Some("root".to_owned()),
        Kind::Table | Kind::Folder => None,
    };
    // at's daemon looks whose each file is.
    way.retain(|place| kind != Kind::Waiting || Path::new(&place.path) == path);
    let mut job = Job { path, user, names: Vec::new(), way, programs: Vec::new() };
    if kind == Kind::Folder {
        return Ok(Some(job));
    }
    let Some(bytes) = Answer::of_file(&job.path, || file::read_named(&job.path, LIMIT)).take()? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        job.names.extend(words.within(line));
        let is_table = matches!(kind, Kind::Table | Kind::Root | Kind::Users);
        // What a script runs cannot be told from its words.
        if is_table && job.user.as_deref().unwrap_or_else(|| of_line(line)) == "root" {
            job.programs.extend(programs(line)?);
        }
    }
    job.names.sort();
    job.names.dedup();
    Ok(Some(job))
}

/// The user in a line of a table (crontab(5)): the sixth field, the second where a nickname says when.
fn of_line(line: &str) -> &str {
    let mut fields = line.split_whitespace();
    let nickname = line.starts_with('@');
    let user = if nickname { fields.nth(1) } else { fields.nth(5) };
    user.unwrap_or("root")
}

fn owner(path: &Path) -> Option<String> {
    let uid = fs::symlink_metadata(path).ok()?.uid();
    Some(user::of_uid(uid).map_or_else(|| uid.to_string(), |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_line_is_told() {
        for (line, wanted) in [
            ("17 * * * * root cd / && run-parts --report /etc/cron.hourly", "root"),
            ("@reboot www-data /x", "www-data"),
            ("*/5 * * * * a /x", "a"),
            ("PATH=/usr/bin:/bin", "root"),
        ] {
            assert_eq!(of_line(line), wanted, "{line}");
        }
    }
}
