//! The 24 words and their passphrase, as they are given: typed without an echo, or from a file, never in an argument.

use crate::age::Recipient;
use crate::backend::preflight;
use crate::bundle::RECOVERY_WINDOWS;
use crate::cli::machine::absolute;
use crate::error::{Code, Error, Result};
use crate::host::file;
use crate::plan::{GivenSeed, History, SeedSink};
use crate::secret::Secret;
use crate::signer::wallet::{SEED_WORDS, Seed, place_of};
use crate::spec::Instance;
use crate::ui::{self, terminal};
use clap::Args;
use clap::builder::RangedI64ValueParser;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

const NO_SOURCE: Code = Code::usage("E-SEED-001");
const UNREADABLE: Code = Code::usage("E-SEED-002");
const BAD_DATE: Code = Code::usage("E-SEED-003");
const ONE_INPUT: Code = Code::usage("E-SEED-004");
const NO_PASSPHRASE: Code = Code::usage("E-SEED-005");
const NOT_RESTORED: Code = Code::usage("E-SEED-006");
const OTHER_SEED: Code = Code::refused("E-SEED-007");

/// The largest file of words, in bytes: with numbers and white space, and to spare.
const LIMIT: u64 = 1 << 16;
/// Where an option names standard input.
const INPUT: &str = "-";

/// All that an install may be told of its wallet's seed.
#[derive(Debug, Clone, Default, Args)]
pub struct SeedArgs {
    #[command(flatten)]
    pub(super) sink: SinkArgs,
    /// Restore the wallet from its 24 words instead of making a new seed
    #[arg(long, conflicts_with_all = ["seed_out", "seed_age"])]
    pub(super) restore: bool,
    #[command(flatten)]
    pub(super) words: WordsArgs,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgs,
    #[command(flatten)]
    pub(super) origin: OriginArgs,
}

/// How far a signer's wallet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// There is none.
    No,
    /// lnd has begun it, or made it.
    Begun,
    /// It has its receipt.
    Whole,
}

impl SeedArgs {
    /// Where the seed of a wallet goes or comes from, if that is said: now, or by an install that was cut off after lnd had
    /// begun the wallet.
    ///
    /// # Errors
    /// Where the wallet that is there comes from another seed than is asked for, or options do not go together.
    pub(super) fn settle(&self, instance: &Instance, history: &History, made: Made) -> Result<Option<SeedSink>> {
        if !self.restore && (self.words.seed_file.is_some() || self.origin.is_given()) {
            return Err(Error::new(
                NOT_RESTORED,
                "--seed-file, --birthday and --recovery-window are of a wallet that is restored",
            )
            .hint("add --restore; a new seed goes to --seed-out FILE"));
        }
        let last = history.last_seed().filter(|last| matches!(last, SeedSink::Restored { .. }));
        match (self.restore, made, last) {
            (true, Made::Begun | Made::Whole, None) => {
                Err(Error::new(OTHER_SEED, format!("the signer {instance} has a wallet that was not restored"))
                    .hint("it is kept as it is; whether words are its own tells: lsm wallet verify-seed"))
            }
            // Its birthday is in no other place.
            (_, Made::Begun, Some(last)) => {
                ui::note(
                    "a restore was cut off: it goes on with the words that lnd has, whatever is given now; lsm wallet \
                     verify-seed tells afterwards whether they are the right ones",
                );
                Ok(Some(last))
            }
            (true, ..) => Ok(Some(self.origin.sink())),
            (false, ..) => self.sink.sink(instance),
        }
    }

    /// What a plan that makes a wallet of `sink` needs to be given.
    ///
    /// # Errors
    /// Where it cannot be read, or there is nobody to ask.
    pub(super) fn given(&self, sink: &SeedSink) -> Result<GivenSeed> {
        Ok(match sink {
            SeedSink::Restored { .. } => {
                GivenSeed { words: Some(self.words.read(&self.passphrase)?), passphrase: None }
            }
            _ => GivenSeed { words: None, passphrase: self.passphrase.read(true)? },
        })
    }
}

/// The passphrase that a seed's words are enciphered with.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// Ask for the passphrase of the seed's words; without it lnd's default, which is none of your own
    #[arg(long)]
    seed_passphrase: bool,
    /// Take it from this file, or from standard input (-)
    #[arg(long, value_name = "FILE|-", conflicts_with = "seed_passphrase")]
    seed_passphrase_file: Option<PathBuf>,
}

/// Where words that are there come from.
#[derive(Debug, Clone, Default, Args)]
pub struct WordsArgs {
    /// Take the 24 words from this file, or from standard input (-), instead of asking for them
    #[arg(long, value_name = "FILE|-")]
    seed_file: Option<PathBuf>,
}

/// Where a new seed's words go.
#[derive(Debug, Clone, Default, Args)]
pub struct SinkArgs {
    /// Write the new wallet's seed to this file (0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    seed_out: Option<PathBuf>,
    /// Encrypt it to this age recipient (age1...) and write that instead, to --seed-out or lsm-NAME-seed.age here
    #[arg(long, value_name = "RECIPIENT")]
    seed_age: Option<String>,
}

/// What is known of a wallet that is restored, besides its words.
#[derive(Debug, Clone, Default, Args)]
pub struct OriginArgs {
    /// The day (YYYY-MM-DD) on which the seed was made, or one before; a watch-only node scans the chain from there
    #[arg(long, value_name = "DATE")]
    birthday: Option<Day>,
    /// How many addresses in a row without a coin a watch-only node looks at before it gives up; the bundle says it
    #[arg(long, value_name = "N", value_parser = recovery_window())]
    recovery_window: Option<u32>,
}

/// A day, as its first second since 1970.
#[derive(Debug, Clone, Copy)]
struct Day(u64);

impl FromStr for Day {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(BAD_DATE, format!("{text:?} {why}")).hint("for example 2024-05-17");
        let date = Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| bad("is no day"))?;
        let at = date.with_time(Time::MIDNIGHT).assume_utc();
        if at > OffsetDateTime::now_utc() {
            return Err(bad("is still to come"));
        }
        u64::try_from(at.unix_timestamp()).map(Self).map_err(|_| bad("is before 1970"))
    }
}

impl WordsArgs {
    /// Reads the words and their passphrase.
    ///
    /// # Errors
    /// Where they are no 24 words, cannot be read, or there is nobody to ask.
    pub(super) fn read(&self, passphrase: &PassphraseArgs) -> Result<Seed> {
        if [&self.seed_file, &passphrase.seed_passphrase_file].into_iter().all(|file| is_input(file.as_deref())) {
            return Err(Error::new(ONE_INPUT, "standard input cannot be both the words and their passphrase")
                .hint("name a file for one of them"));
        }
        let words = match &self.seed_file {
            Some(path) => Seed::parse(&read(path)?)?,
            None => {
                require_terminal("the 24 words", "--seed-file FILE")?;
                Seed::parse(&terminal::ask_words(SEED_WORDS, |word| place_of(word).is_some())?)?
            }
        };
        Ok(words.with_passphrase(passphrase.read(false)?))
    }
}

impl PassphraseArgs {
    /// Reads the passphrase, where there is to be one; a new one is asked for twice.
    ///
    /// # Errors
    /// Where it cannot be read, is empty, or there is nobody to ask.
    pub(super) fn read(&self, new: bool) -> Result<Option<Secret>> {
        let passphrase = match &self.seed_passphrase_file {
            Some(path) => line(&read(path)?),
            None if !self.seed_passphrase => return Ok(None),
            None => {
                require_terminal("the seed's passphrase", "--seed-passphrase-file FILE")?;
                let what = "The seed's passphrase";
                if new {
                    terminal::ask_new_secret(what)?
                } else {
                    terminal::ask_secret(&format!("{what} (not shown): "))?
                }
            }
        };
        if passphrase.expose().is_empty() {
            return Err(Error::new(NO_PASSPHRASE, "the seed's passphrase is empty")
                .hint("leave the option out for a seed without one of your own"));
        }
        Ok(Some(passphrase))
    }
}

impl SinkArgs {
    /// Where a new seed goes, unless it is shown.
    ///
    /// # Errors
    /// Where the recipient is none, or the place is a signer's own.
    pub(super) fn sink(&self, instance: &Instance) -> Result<Option<SeedSink>> {
        let out = self.seed_out.as_deref().map(absolute).transpose()?;
        let Some(recipient) = &self.seed_age else { return Ok(out.map(SeedSink::File)) };
        let recipient = recipient.parse::<Recipient>()?.to_string();
        let file = match out {
            Some(file) => file,
            None => absolute(Path::new(&format!("lsm-{instance}-seed.age")))?,
        };
        preflight::check_place(&file)?;
        Ok(Some(SeedSink::Age { file, recipient }))
    }
}

/// What a recovery window may be.
pub(super) fn recovery_window() -> RangedI64ValueParser<u32> {
    let (least, most) = RECOVERY_WINDOWS.into_inner();
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(most))
}

impl OriginArgs {
    /// True where any of it is given.
    pub(super) fn is_given(&self) -> bool {
        self.birthday.is_some() || self.recovery_window.is_some()
    }

    /// The restored wallet's place in a plan.
    pub(super) fn sink(&self) -> SeedSink {
        SeedSink::Restored { birthday: self.birthday.map(|day| day.0), recovery_window: self.recovery_window }
    }
}

fn is_input(path: Option<&Path>) -> bool {
    path == Some(Path::new(INPUT))
}

fn read(path: &Path) -> Result<Secret> {
    if !is_input(Some(path)) {
        return file::read_handed(path, LIMIT).map(Secret::new);
    }
    let mut input =
        file::read_input(LIMIT).map_err(|e| Error::new(UNREADABLE, format!("cannot read standard input: {e}")))?;
    Ok(Secret::new(std::mem::take(&mut *input)))
}

/// A text's one line, without its end.
fn line(text: &Secret) -> Secret {
    let line = text.expose();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    Secret::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

fn require_terminal(what: &str, instead: &str) -> Result<()> {
    if terminal::is_there() {
        return Ok(());
    }
    Err(Error::new(NO_SOURCE, format!("there is no terminal to ask for {what} on"))
        .hint(format!("give {instead}, or - for standard input")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birthday_is_a_day_that_was() {
        assert_eq!("2024-05-17".parse::<Day>().unwrap().0, 1_715_904_000);
        for bad in ["", "17.05.2024", "2024-13-01", "1969-12-31", "9999-01-01", "2024-05-17T00:00"] {
            assert_eq!(bad.parse::<Day>().unwrap_err().code(), BAD_DATE, "{bad}");
        }
    }

    #[test]
    fn a_passphrase_is_one_line_without_its_end_and_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let args = PassphraseArgs { seed_passphrase: false, seed_passphrase_file: Some(path.clone()) };
            args.read(false)
        };
        for (text, wanted) in [("a b \n", "a b "), ("a b", "a b"), ("ab\r\n", "ab")] {
            assert_eq!(read(text).unwrap().unwrap().expose(), wanted.as_bytes(), "{text:?}");
        }
        assert_eq!(read("\n").unwrap_err().code(), NO_PASSPHRASE);
        assert!(PassphraseArgs::default().read(false).unwrap().is_none());
    }
}
