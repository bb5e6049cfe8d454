//! `lsm man`: the manual pages, from the same definitions as the help.

use crate::cli::Cli;
use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const CANNOT_PRINT: Code = Code::lacking("E-CLI-001");
const NO_VERB: Code = Code::usage("E-CLI-003");

/// The options of `lsm man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lsm man | man -l -\n  lsm man allow add | man -l -\n  \
    sudo lsm man --out /usr/local/share/man/man1")]
pub struct Options {
    /// The verb, such as: allow add
    verb: Vec<String>,
    /// Write every page into this folder instead: lsm.1, lsm-install.1, lsm-allow-add.1 and so on
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    out: Option<PathBuf>,
}

/// Prints lsm.1 (roff) to standard output, or the page of one verb, lsm-VERB.1; or writes them all.
///
/// # Errors
/// Where there is no such verb, or what is asked for cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let command = find(&options.verb)?;
    match &options.out {
        Some(folder) => write_pages(folder, command),
        None => {
            let mut text = Vec::new();
            Man::new(command).render(&mut text).map_err(cannot_print)?;
            print(&text)
        }
    }
}

/// Prints a text that is for other programs, `--json` or not.
///
/// # Errors
/// Where it cannot be written.
pub fn print(text: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        // A closed pipe is the reader's choice.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(cannot_print(e)),
        _ => Ok(()),
    }
}

/// Writes the page of `command` and of each verb below it.
fn write_pages(folder: &Path, command: Command) -> Result<()> {
    file::make_folders(folder)?;
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let page = Man::new(command);
        let mut text = Vec::new();
        page.render(&mut text).map_err(cannot_print)?;
        file::replace(&folder.join(page.get_filename()), &text, Access::mode(0o644))?;
    }
    Ok(())
}

fn cannot_print(e: std::io::Error) -> Error {
    Error::new(CANNOT_PRINT, format!("cannot print it: {e}"))
}

/// The verb with all that it understands, what every verb does too.
fn find(verb: &[String]) -> Result<Command> {
    let mut whole = Cli::command();
    whole.build();
    let mut found = &whole;
    for word in verb {
        found = found.find_subcommand(word).ok_or_else(|| {
            Error::new(NO_VERB, format!("there is no verb {:?}", verb.join(" "))).hint("lsm --help names them")
        })?;
    }
    Ok(found.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verbs_page_has_its_own_options_and_those_of_every_verb() {
        let page = |verb: &[&str]| {
            let verb: Vec<String> = verb.iter().map(|word| (*word).to_owned()).collect();
            let mut text = Vec::new();
            Man::new(find(&verb).unwrap()).render(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let of_install = page(&["install"]);
        assert!(
            of_install.contains("lsm\\-install") && of_install.contains("seed\\-out") && of_install.contains("json")
        );
        assert!(page(&["allow", "add"]).contains("lsm\\-allow\\-add"));
        assert!(page(&[]).contains("install"));
        assert_eq!(find(&["instal".to_owned()]).unwrap_err().code(), NO_VERB);
    }

    #[test]
    fn all_pages_are_those_of_the_verbs_that_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        write_pages(folder.path(), find(&[]).unwrap()).unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.collect();
        for there in ["lsm.1", "lsm-install.1", "lsm-allow-add.1", "lsm-watch-only-init.1"] {
            assert!(names.iter().any(|name| name == there), "{names:?}");
        }
        assert!(!names.iter().any(|name| name == "lsm-launch.1"), "{names:?}");
    }
}
