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
/// What follows a name that is compared with something.
const COMPARED: [&str; 12] = [
    "==",
    "!=",
    "in ",
    ".indexOf",
    ".lastIndexOf",
    ".match",
    ".search",
    ".startsWith",
    ".endsWith",
    ".includes",
    ".substr",
    ".slice",
];
/// What a name is handed to that is compared or looked up there.
const ASKING: [&str; 7] = ["switch", "indexOf", "includes", "test", "exec", "has", "hasOwnProperty"];

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

/// Rules are programs: what names systemd's actions, all of them or one, and says yes, is taken to grant it; and so is what
/// says yes without asking for which action.
fn grants(text: &str) -> bool {
    let text = uncommented(text);
    let yes = text.contains("Result.YES") || text.contains("=yes");
    let named = text.contains(UNITS) || text.contains("org.freedesktop.systemd1\"") || text.contains("Action=*");
    (yes && named) || grants_any(&text)
}

/// Without JavaScript's comments, but for what looks like one in a string, and without lines that `#` begins.
fn uncommented(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let (mut bare, mut rest) = (String::new(), text.as_str());
    let (mut quote, mut before) = (None, ' ');
    while let Some(c) = rest.chars().next() {
        // Nothing begins or ends there: a regular expression may have `\/`.
        let is_escaped = before == '\\';
        let comment = if quote.is_none() && !is_escaped { comment(rest) } else { 0 };
        if comment == 0 {
            bare.push(c);
            quote = match quote {
                // A string ends with its line.
                _ if c == '\n' => None,
                None if ['"', '\''].contains(&c) && !is_escaped => Some(c),
                Some(open) if open == c && !is_escaped => None,
                same => same,
            };
        }
        rest = &rest[comment.max(c.len_utf8())..];
        before = if is_escaped { ' ' } else { c };
    }
    bare
}

/// How long the comment is with which a text begins.
fn comment(text: &str) -> usize {
    let end = match text.get(..2) {
        Some("//") => text.find('\n'),
        Some("/*") => text[2..].find("*/").map(|at| at + 4),
        _ => Some(0),
    };
    end.unwrap_or(text.len())
}

/// True where a rule says yes whatever the action is: neither it nor a function that it calls looks at the action's name.
fn grants_any(text: &str) -> bool {
    let mut parts = text.split("addRule(");
    let mut outside = parts.next().unwrap_or_default().to_owned();
    let mut rules = Vec::new();
    for part in parts {
        // A function with a name of its own is none of the rule's.
        let mut heads = part.match_indices("\nfunction ").map(|(at, _)| at);
        let end = heads.find(|at| !part[at + "\nfunction ".len()..].starts_with('(')).unwrap_or(part.len());
        rules.push(&part[..end]);
        outside.push_str(&part[end..]);
    }
    let helpers = functions(&outside);
    let is_asked_outside = asks_for_action(&outside, &[]);
    let calls_one = |rule: &str| helpers.iter().any(|name| rule.contains(&format!("{name}(")));
    let asks = |rule: &str| asks_for_action(rule, &helpers) || (is_asked_outside && calls_one(rule));
    rules.into_iter().any(|rule| rule.contains("Result.YES") && !asks(rule))
}

/// The names in `function NAME(` and `NAME = function(`.
fn functions(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split("function").collect();
    let both = parts.windows(2).flat_map(|pair| {
        let (before, after) = (pair[0].trim_end().trim_end_matches('=').trim_end(), pair[1].trim_start());
        let kept_as = &before[before.trim_end_matches(is_of_name).len()..];
        [kept_as, after.split(|c| !is_of_name(c)).next().unwrap_or_default()]
    });
    both.filter(|name| !name.is_empty()).collect()
}

/// What a name is made of.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || ['_', '$'].contains(&c)
}

/// True of what compares the action's name, which is `action.id` whatever it calls the action, looks it up, keeps it or hands it to
/// one of the functions `helpers`. What only writes it to a log asks for nothing.
fn asks_for_action(text: &str, helpers: &[&str]) -> bool {
    let parts: Vec<&str> = text.split(".id").collect();
    parts.windows(2).any(|pair| {
        let (before, after) = (pair[0].trim_end_matches(is_of_name).trim_end(), pair[1].trim_start());
        let is_kept = before.ends_with('=') && !before.ends_with("+=");
        let is_key = before.strip_suffix('[').is_some_and(|list| list.ends_with(|c| is_of_name(c) || c == ']'));
        let is_handed = before.strip_suffix('(').is_some_and(|call| {
            let call = call.trim_end();
            ASKING.iter().chain(helpers).any(|name| call.ends_with(name))
        });
        let is_compared = COMPARED.iter().any(|how| after.starts_with(how));
        !pair[1].starts_with(is_of_name) && (is_kept || is_key || is_handed || is_compared)
    })
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

    #[test]
    fn a_rule_that_says_yes_whatever_is_asked_grants_everything() {
        let wheel = "/* As sudo's NOPASSWD.\n * For everything.\n */\npolkit.addRule(function(action, subject) {\n    \
            if (subject.isInGroup(\"wheel\")) {\n        return polkit.Result.YES;\n    }\n});\n";
        let other = "polkit.addRule(function(a, s) {\n    if (a.id == \"org.a.b\") return polkit.Result.YES;\n});\n";
        assert!(grants(wheel));
        assert!(!grants(other));
        assert!(grants(&format!("{other}{wheel}")) && grants(&format!("{wheel}{other}")));
        assert!(grants(&wheel.replace("subject.isInGroup(\"wheel\")", "subject.idle")));
        assert!(!grants(&wheel.replace("YES", "AUTH_SELF")));
        assert!(!grants("polkit.addAdminRule(function(action, subject) { return [\"unix-group:sudo\"]; });"));
    }

    #[test]
    fn an_action_is_asked_for_where_its_name_is_compared() {
        let rule = |before: &str, condition: &str| {
            format!(
                "polkit.addRule(function(action, s) {{\n {before}\n if ({condition}) return polkit.Result.YES;\n}});\n"
            )
        };
        for (before, condition, asks) in [
            ("", "action.id == \"org.a.b\"", true),
            ("", "\"org.a.b\" === action.id", true),
            ("", "action.id !== 'org.a.b'", true),
            ("", "action.id.indexOf(\"org.a.\") == 0", true),
            ("", "[\"org.a.b\"].indexOf(action.id) >= 0", true),
            ("", "action.id.match(/^org\\.a\\//)", true),
            ("", "/^org\\.a\\//.test(action.id)", true),
            ("", "action.id.startsWith('org.a.')", true),
            ("", "allowed[action.id]", true),
            ("", "action.id in allowed", true),
            ("var id = action.id;", "id == \"org.a.b\"", true),
            ("polkit.log(\"// asked for \" + action.id);", "action.id == \"org.a.b\"", true),
            ("polkit.log(\"asked for \" + action.id);", "true", false),
            ("polkit.log(action.id);", "s.isInGroup(\"wheel\")", false),
            ("polkit.spawn([\"/x\", action.id]);", "true", false),
            ("var text = 'of '; text += action.id;", "true", false),
            ("// action.id == \"org.a.b\"", "true", false),
            ("/* if (action.id == \"org.a.b\") */", "true", false),
            ("", "s.user == \"ann\" /* action.id == \"org.a.b\" */", false),
            ("", "s.idle == 1", false),
        ] {
            assert_eq!(grants(&rule(before, condition)), !asks, "{before} {condition}");
        }
    }

    #[test]
    fn a_function_of_the_file_may_ask_for_the_action() {
        let calls =
            |call: &str| format!("polkit.addRule(function (action, s) {{ if ({call}) return polkit.Result.YES; }});\n");
        let named = "function isMine(action) {\n  return action.id == \"org.a.b\";\n}\n";
        let kept = "var isMine = function(action) { return action.id == \"org.a.b\"; };\n";
        let of_name = "function isMine(id) { return id == \"org.a.b\"; }\n";
        let silent = "function isMine(action) { polkit.log(action.id); return true; }\n";
        for (helper, call, asks) in [
            (named, "isMine(action)", true),
            (kept, "isMine(action)", true),
            (of_name, "isMine(action.id)", true),
            (named, "s.isInGroup(\"wheel\")", false),
            (silent, "isMine(action)", false),
        ] {
            for text in [format!("{helper}{}", calls(call)), format!("{}{helper}", calls(call))] {
                assert_eq!(grants(&text), !asks, "{text}");
            }
        }
    }

    #[test]
    fn a_comment_ends_where_it_ends() {
        for (text, bare) in [
            ("a // b\nc", "a \nc\n"),
            ("a /* b\n * c */ d", "a  d\n"),
            ("a /* b", "a "),
            ("\"// a\" // b", "\"// a\" \n"),
            ("'\\'// a' // b", "'\\'// a' \n"),
            ("'a\\\\' // b", "'a\\\\' \n"),
            ("/a\\// // b", "/a\\// \n"),
            ("it's // b\nc // d", "it's // b\nc \n"),
            ("# a\nb", "b\n"),
        ] {
            assert_eq!(uncommented(text), bare, "{text}");
        }
    }
}
