//! What Go asks version control while it stamps a binary, answered as the official commit's clone would answer.
//!
//! `go build -buildvcs=true` runs a program `git`. The one here is a script that knows the answers to the questions that
//! Go 1.25 and 1.26 ask (cmd/go/internal/vcs, gitStatus; cmd/go/internal/modfetch/codehost/git.go) and fails on any
//! other, so neither git nor the history is needed. A wrong answer cannot slip through: the archive would not have the
//! pinned hash.

use crate::error::Result;
use crate::host::file::{self, Access};
use crate::release::pins::Source;
use std::path::Path;

/// Writes the program `git` into the folder `bin`, and makes the unpacked `tree` look like a clone.
///
/// # Errors
/// Where it cannot be written.
pub(in crate::release) fn write(bin: &Path, tree: &Path, source: &Source, version: &str) -> Result<()> {
    file::make_folder(&tree.join(".git"), Access::mode(0o755))?;
    file::replace(&bin.join("git"), render(source, version).as_bytes(), Access::mode(0o755))
}

/// The script. Its values are pins: hexadecimal, digits and a version, nothing that a shell would read otherwise.
fn render(source: &Source, version: &str) -> String {
    let (commit, time) = (&source.commit, source.time);
    // `--end-of-options` stands before a revision since Go 1.26.
    format!(
        r#"#!/bin/sh
log='-c log.showsignature=false log'
case "$*" in
'status --porcelain') ;;
"$log -1 --format=%H:%ct") echo {commit}:{time} ;;
'config extensions.objectformat') exit 1 ;;
'tag -l') echo {version} ;;
"$log --no-decorate -n1 --format=format:%H %ct %D {commit} --" | \
"$log --no-decorate -n1 --format=format:%H %ct %D refs/tags/{version} --" | \
"$log --no-decorate -n1 --format=format:%H %ct %D --end-of-options {commit} --" | \
"$log --no-decorate -n1 --format=format:%H %ct %D --end-of-options refs/tags/{version} --")
    printf '%s' '{commit} {time} HEAD, tag: {version}' ;;
'cat-file blob {commit}:go.mod' | 'cat-file --end-of-options blob {commit}:go.mod')
    while IFS= read -r line; do printf '%s\n' "$line"; done <go.mod ;;
*) echo "this git has no answer to: $*" >&2; exit 1 ;;
esac
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::program::Program;

    #[test]
    fn it_answers_what_go_asks_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let release = crate::release::known::find("v0.20.0-beta").unwrap();
        let source = release.source.as_ref().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("go.mod"), "module a\n\n\tgo 1.25\n").unwrap();
        write(dir.path(), &tree, source, &release.version).unwrap();
        let ask = |args: &[&str]| Program::new(dir.path().join("git")).args(args).folder(&tree).run();
        let log = ["-c", "log.showsignature=false", "log", "-1", "--format=%H:%ct"];
        assert_eq!(ask(&log).unwrap(), b"b9ea7070c20ad2ca8514a47d9b4d560a501f0487:1762900608\n");
        assert_eq!(ask(&["status", "--porcelain"]).unwrap(), b"");
        let blob = format!("{}:go.mod", source.commit);
        assert_eq!(ask(&["cat-file", "blob", &blob]).unwrap(), b"module a\n\n\tgo 1.25\n");
        assert!(ask(&["fetch", "origin"]).is_err());
    }
}
