//! Talking with the person at the terminal: consent, and the one moment in which a seed is shown.

use crate::error::{Code, Error, Result};
use crate::secret::Secret;
use crate::ui;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

const NO_TERMINAL: Code = Code::usage("E-UI-001");
const NOT_CONFIRMED: Code = Code::refused("E-UI-002");

/// How many words are asked back.
const ASKED: usize = 3;
/// How often a wrong answer is forgiven.
const TRIES: usize = 3;

/// What the next question is about, as far as notes do not reach the terminal.
static UNSEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A note on what is asked next. Nobody agrees to what they have not seen: where notes go into a file or nowhere, the question
/// comes with it.
pub fn ask_about(text: &str) {
    ui::note(text);
    if ui::voice().quiet || !std::io::stderr().is_terminal() {
        UNSEEN.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }
}

/// True where a person can be asked: standard input and standard error are terminals.
pub fn is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Holds that a person can be asked, before any work that would be in vain.
///
/// # Errors
/// Where there is no terminal.
pub fn require() -> Result<()> {
    if is_there() { open().map(drop) } else { Err(none()) }
}

/// Asks whether to go on; anything but y or yes is no.
///
/// # Errors
/// Where there is no terminal, or the answer is no.
pub fn confirm(question: &str) -> Result<()> {
    let mut terminal = open()?;
    show_unseen(&mut terminal)?;
    write(&mut terminal, &format!("{question} [y/N] "))?;
    let answer = read_line(&terminal)?;
    match std::str::from_utf8(answer.expose()).map(|a| a.trim().to_ascii_lowercase()).as_deref() {
        Ok("y" | "yes") => Ok(()),
        _ => Err(Error::new(NOT_CONFIRMED, "not confirmed; nothing was changed")),
    }
}

/// Asks for `name`, typed as it is.
///
/// # Errors
/// Where there is no terminal, or something else is typed.
pub fn confirm_name(question: &str, name: &str) -> Result<()> {
    let mut terminal = open()?;
    show_unseen(&mut terminal)?;
    write(&mut terminal, &format!("{question} Type {name} to go on: "))?;
    if std::str::from_utf8(read_line(&terminal)?.expose()).map(str::trim) == Ok(name) {
        return Ok(());
    }
    Err(Error::new(NOT_CONFIRMED, "not confirmed; nothing was changed"))
}

/// What the question is about.
fn show_unseen(terminal: &mut File) -> Result<()> {
    let unseen = std::mem::take(&mut *UNSEEN.lock().unwrap_or_else(PoisonError::into_inner));
    unseen.iter().try_for_each(|line| write(terminal, &format!("{line}\n")))
}

/// Asks for a secret, which is not shown while it is typed; its line's end is not part of it.
///
/// # Errors
/// Where there is no terminal.
pub fn ask_secret(question: &str) -> Result<Secret> {
    let mut terminal = open()?;
    let silent = Silent::begin(&terminal)?;
    let answer = ask_silently(&mut terminal, question);
    drop(silent);
    answer
}

/// Asks for a new secret, twice.
///
/// # Errors
/// Where there is no terminal, or twice something else is typed.
pub fn ask_new_secret(what: &str) -> Result<Secret> {
    let first = ask_secret(&format!("{what} (not shown): "))?;
    if ask_secret("The same once more: ")?.expose() == first.expose() {
        return Ok(first);
    }
    Err(Error::new(NOT_CONFIRMED, "what was typed twice is not the same; nothing was changed"))
}

/// Asks for `count` words, which are not shown, one a line or several; one that `is_word` does not know is asked for again.
///
/// # Errors
/// Where there is no terminal, or an empty line ends it.
pub fn ask_words(count: usize, is_word: impl Fn(&str) -> bool) -> Result<Secret> {
    let mut terminal = open()?;
    let silent = Silent::begin(&terminal)?;
    // Room for all: words of 8 letters at most.
    let mut words = Zeroizing::new(String::with_capacity(count * 16));
    let mut asked = 0;
    while asked < count {
        let line = ask_silently(&mut terminal, &format!("Word {} of {count} (not shown): ", asked + 1))?;
        let line = std::str::from_utf8(line.expose()).unwrap_or("?");
        if line.trim().is_empty() {
            return Err(Error::new(NOT_CONFIRMED, format!("{asked} words were given; nothing was changed")));
        }
        // What was pasted as it was shown has numbers.
        let given = line.split_ascii_whitespace().filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
        for word in given {
            if !is_word(word) {
                write(&mut terminal, "That is no word of a seed.\n")?;
                break;
            }
            words.push_str(word);
            words.push('\n');
            asked += 1;
        }
    }
    drop(silent);
    Ok(Secret::new(words.as_bytes().to_vec()))
}

/// On a terminal that does not echo.
fn ask_silently(terminal: &mut File, question: &str) -> Result<Secret> {
    write(terminal, question)?;
    let answer = read_line(terminal)?;
    write(terminal, "\n")?;
    let line = answer.expose().strip_suffix(b"\n").unwrap_or(answer.expose());
    Ok(Secret::new(line.to_vec()))
}

/// Shows the words once and asks three of them back; then clears them from the screen and its scroll-back.
///
/// # Errors
/// Where there is no terminal, or the words are not given back.
pub fn show_seed(words: &[&str]) -> Result<()> {
    let mut terminal = open()?;
    write(
        &mut terminal,
        "\nThe seed of the new wallet. Write it down on paper: it is shown once and kept nowhere.\n\n",
    )?;
    for (place, word) in words.iter().enumerate() {
        let end = if place % 4 == 3 { "\n" } else { "" };
        write(&mut terminal, &Zeroizing::new(format!("{:>4}. {word:<10}{end}", place + 1)))?;
    }
    write(&mut terminal, "\nPress Enter when you have it.")?;
    read_line(&terminal)?;
    // ED 2 and 3 (ECMA-48, xterm): the screen and what was scrolled off it.
    write(&mut terminal, "\x1b[2J\x1b[3J\x1b[H")?;
    let silent = Silent::begin(&terminal)?;
    let asked = choose_places(words.len()).into_iter().try_for_each(|place| ask_word(&mut terminal, words, place));
    drop(silent);
    asked
}

fn ask_word(terminal: &mut File, words: &[&str], place: usize) -> Result<()> {
    for _ in 0..TRIES {
        let answer = ask_silently(terminal, &format!("Word {} (not shown): ", place + 1))?;
        if words[place].as_bytes() == answer.expose().trim_ascii() {
            return Ok(());
        }
        write(terminal, "That is another word.\n")?;
    }
    Err(Error::new(NOT_CONFIRMED, "the words were not given back; no wallet was made")
        .hint("run it again: it goes on where it stopped, with a new seed"))
}

/// Three of `count` places, different and in order.
fn choose_places(count: usize) -> Vec<usize> {
    let mut places = Vec::with_capacity(ASKED);
    while places.len() < ASKED {
        let mut byte = [0_u8];
        getrandom::fill(&mut byte).expect("the kernel's random generator answers");
        let place = usize::from(byte[0]) % count;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.sort_unstable();
    places
}

/// The terminal itself, not standard output: that may go into a file.
fn open() -> Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| none())
}

fn none() -> Error {
    Error::new(NO_TERMINAL, "there is no terminal to ask on").hint("give --yes")
}

fn write(terminal: &mut File, text: &str) -> Result<()> {
    terminal
        .write_all(text.as_bytes())
        .map_err(|e| Error::new(NO_TERMINAL, format!("cannot write to the terminal: {e}")))
}

fn read_line(mut terminal: &File) -> Result<Secret> {
    let cannot = |e: std::io::Error| Error::new(NO_TERMINAL, format!("cannot read from the terminal: {e}"));
    // The longest line that a terminal gives (termios(3), canonical mode), into what is wiped.
    let mut line = Zeroizing::new([0_u8; 4096]);
    let mut end = 0;
    loop {
        let read = terminal.read(&mut line[end..]).map_err(cannot)?;
        end += read;
        if read == 0 || end == line.len() || line[..end].ends_with(b"\n") {
            return Ok(Secret::new(line[..end].to_vec()));
        }
    }
}

/// The terminal's settings while it is silenced, for whoever ends the process meanwhile.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Lets the terminal echo again, if lsm silenced it: for the end of the process by a signal, which runs no destructors.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Some(before), Ok(terminal)) = (before, open()) {
        // Nothing better can be done where the terminal went away.
        let _ = tcsetattr(&terminal, SetArg::TCSAFLUSH, &before);
    }
}

/// No echo while it lives.
struct Silent;

impl Silent {
    fn begin(terminal: &File) -> Result<Self> {
        let cannot = |e| Error::new(NO_TERMINAL, format!("cannot silence the terminal: {e}"));
        let before = tcgetattr(terminal).map_err(cannot)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent).map_err(cannot)?;
        Ok(Self)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        restore();
    }
}
