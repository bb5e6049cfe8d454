//! Rules of polkit(8) that let somebody manage units unasked.

use crate::facts::audit::{Answer, Unknown, names};
use crate::host::file;
use std::path::{Path, PathBuf};

/// Where rules are (polkit(8)), and where authorities were before 0.106 (pklocalauthority(8)): two folders deep.
const RULES: &[&str] = &[
    "/etc/polkit-1/rules.d",
    "/run/polkit-1/rules.d",
    "/usr/local/share/polkit-1/rules.d",
    "/usr/share/polkit-1/rules.d",
];
const AUTHORITIES: &[&str] = &["/etc/polkit-1/localauthority", "/var/lib/polkit-1/localauthority"];
/// No rule is near this, in bytes.
const LIMIT: u64 = 1 << 20;
/// What systemd asks polkit about (org.freedesktop.systemd1(5)).
const UNITS: &str = "org.freedesktop.systemd1.";

/// The files that grant it; absent where there is no folder of rules.
pub(super) fn gather() -> Answer<Vec<PathBuf>> {
    Answer::told(granting())
}

fn granting() -> Result<Option<Vec<PathBuf>>, Unknown> {
    let mut folders: Vec<PathBuf> = RULES.iter().map(PathBuf::from).collect();
    for above in AUTHORITIES {
        folders.extend(names(Path::new(above)).take()?.unwrap_or_default().into_iter().filter(|path| path.is_dir()));
    }
    let mut granting = None;
    for folder in folders {
        let Some(files) = names(&folder).take()? else { continue };
        let granting = granting.get_or_insert_with(Vec::new);
        for path in
            files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rules" || kind == "pkla"))
        {
            let text = Answer::of_file(&path, || file::read_named(&path, LIMIT)).take()?;
            if text.is_some_and(|text| grants(&String::from_utf8_lossy(&text))) {
                granting.push(path);
            }
        }
    }
    Ok(granting)
}

/// Rules are programs: what names systemd's actions, all of them or one, and says yes, is taken to grant it.
fn grants(text: &str) -> bool {
    let text: String = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/', '*'])).collect();
    let yes = text.contains("Result.YES") || text.contains("=yes");
    yes && (text.contains(UNITS) || text.contains("org.freedesktop.systemd1\"") || text.contains("Action=*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_says_yes_to_systemds_actions_grants_them() {
        let rule = |action: &str, result: &str| {
            format!(
                "polkit.addRule(function(action, subject) {{ if (action.id == \"{action}\") return polkit.{result}; }});"
            )
        };
        assert!(grants(&rule("org.freedesktop.systemd1.manage-units", "Result.YES")));
        assert!(!grants(&rule("org.freedesktop.systemd1.manage-units", "Result.AUTH_ADMIN")));
        assert!(!grants(&rule("org.freedesktop.hostname1.set-hostname", "Result.YES")));
        assert!(!grants(&format!("// {}", rule("org.freedesktop.systemd1.manage-units", "Result.YES"))));
        assert!(grants("[a]\nIdentity=unix-user:b\nAction=org.freedesktop.systemd1.*\nResultAny=yes\n"));
    }
}
