//! `lsm man`: the manual pages, from the same definitions as the help.

use crate::cli::Cli;
use crate::error::{Code, Error, Result};
use clap::{Command, CommandFactory};

const CANNOT_PRINT: Code = Code::lacking("E-CLI-001");
const NO_VERB: Code = Code::usage("E-CLI-003");

/// Prints lsm.1 (roff) to standard output, or the page of one verb, lsm-VERB.1.
///
/// # Errors
/// Where there is no such verb, or standard output cannot be written.
pub fn run(verb: &[String]) -> Result<()> {
    let page = clap_mangen::Man::new(find(verb)?);
    page.render(&mut std::io::stdout()).map_err(|e| Error::new(CANNOT_PRINT, format!("cannot print the page: {e}")))
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
            clap_mangen::Man::new(find(&verb).unwrap()).render(&mut text).unwrap();
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
}
