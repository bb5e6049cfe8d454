//! lnd's settings file: what the operator wrote is read and kept, lsm's part is one marked block, replaced in its place.

use crate::error::{Code, Error, Result};
use crate::signer::channel::Endpoint;
use crate::spec::Network;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const OTHER_NETWORK: Code = Code::usage("E-WATCH-010");
const BROKEN_BLOCK: Code = Code::usage("E-WATCH-011");
const BAD_FLAVOUR: Code = Code::usage("E-WATCH-012");
const BAD_PATH: Code = Code::usage("E-WATCH-013");

const BEGIN: &str = "# >>> lsm watch-only: replaced at every run; keep your own settings outside of it";
const END: &str = "# <<< lsm watch-only";

/// Has lnd purge its wallet's private keys when it is unlocked.
const PURGE: &str = "remotesigner.migrate-wallet-to-watch-only";

/// The port of lnd's gRPC unless its settings say otherwise.
const LND_RPC_PORT: u16 = 10009;

/// Which program reads the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flavour {
    /// lnd itself.
    #[default]
    Lnd,
    /// litd, which runs lnd inside and wants `lnd.` before its options.
    Litd,
}

impl Flavour {
    /// Its settings file's usual name.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Lnd => "lnd.conf",
            Self::Litd => "lit.conf",
        }
    }
}

impl FromStr for Flavour {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "lnd" => Ok(Self::Lnd),
            "litd" => Ok(Self::Litd),
            _ => Err(Error::new(BAD_FLAVOUR, format!("{text:?} is neither lnd nor litd"))),
        }
    }
}

/// The operator's own settings: the file without lsm's block, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// What stands before the block, or everything.
    before: String,
    /// What stands after it: under its last heading, so it has to stay there.
    after: String,
    has_block: bool,
    flavour: Flavour,
}

/// What lsm's block says.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Where the signer answers.
    pub signer: &'a Endpoint,
    /// The folder that holds its certificate and macaroon.
    pub credentials: &'a Path,
    /// The file with the wallet's password, where lsm keeps one.
    pub password_file: Option<&'a Path>,
    /// The bitcoin network.
    pub network: Network,
    /// Have lnd purge the private keys of the wallet that is there.
    pub migrate: bool,
}

impl Conf {
    /// Takes `text` apart into the operator's lines and lsm's block.
    ///
    /// # Errors
    /// Where the block has lost its end: nobody can tell then whose the lines after it are.
    pub fn parse(text: &str, flavour: Flavour) -> Result<Self> {
        let (mut before, mut after) = (String::new(), String::new());
        let (mut inside, mut has_block) = (false, false);
        for line in text.split_inclusive('\n') {
            match (line.trim_end(), inside) {
                (BEGIN, false) => (inside, has_block) = (true, true),
                (END, true) => inside = false,
                (_, true) => {}
                (_, false) => if has_block { &mut after } else { &mut before }.push_str(line),
            }
        }
        if inside {
            return Err(Error::new(BROKEN_BLOCK, "lsm's block in the settings has no end")
                .hint(format!("put the line {END:?} where it should end")));
        }
        Ok(Self { before, after, has_block, flavour })
    }

    /// The last value that the operator gives `option` (lnd's name for it).
    pub fn get(&self, option: &str) -> Option<&str> {
        let prefix = if self.flavour == Flavour::Litd { "lnd." } else { "" };
        self.get_raw(&format!("{prefix}{option}"))
    }

    /// The last value of `option` as a path.
    pub(super) fn path(&self, option: &str) -> Option<PathBuf> {
        self.get(option).filter(|v| !v.is_empty()).map(expand)
    }

    /// Where this lnd's gRPC is dialled from its own machine.
    pub fn rpc_endpoint(&self) -> Endpoint {
        let default = Endpoint::Tcp { host: "localhost".into(), port: LND_RPC_PORT };
        let Some(text) = self.get("rpclisten") else { return default };
        if let Some(path) = text.strip_prefix("unix://") {
            return Endpoint::Unix(path.into());
        }
        // lnd takes HOST:PORT, HOST, :PORT and PORT.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => text.parse().map_or((text, None), |port| ("", Some(port))),
        };
        let host = match host.trim_matches(['[', ']']) {
            "" | "0.0.0.0" | "::" => "localhost",
            host => host,
        };
        Endpoint::Tcp { host: host.to_owned(), port: port.unwrap_or(LND_RPC_PORT) }
    }

    /// The network that the operator chose, where they did.
    pub fn network(&self) -> Option<Network> {
        let on = |n: &Network| matches!(self.get(&format!("bitcoin.{n}")), Some("true" | "1"));
        let litd = if self.flavour == Flavour::Litd { self.get_raw("network") } else { None };
        litd.and_then(|n| n.parse().ok()).or_else(|| Network::ALL.into_iter().find(on))
    }

    /// The whole file: lsm's block where it was, or after the operator's lines.
    ///
    /// # Errors
    /// Where the operator's lines are for another network, or a path cannot stand in the file.
    pub fn render(&self, settings: &Settings<'_>) -> Result<String> {
        let mut text = self.before.clone();
        if !self.has_block && !text.is_empty() {
            text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        }
        text.push_str(BEGIN);
        for line in self.block(settings)? {
            text.push('\n');
            text.push_str(&line);
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        text.push_str(&self.after);
        Ok(text)
    }

    fn block(&self, settings: &Settings<'_>) -> Result<Vec<String>> {
        let network = settings.network;
        if let Some(own) = self.network()
            && own != network
        {
            return Err(Error::new(OTHER_NETWORK, format!("the settings are for {own}, the bundle is for {network}"))
                .hint("a node has one network: give it another --lnddir, or another --conf"));
        }
        let mut lines = Vec::new();
        let mut section = |name: &str, options: Vec<(String, String)>| {
            // litd's file is flat; lnd's refuses an option under another option group's heading.
            if self.flavour == Flavour::Lnd {
                lines.push(format!("[{name}]"));
            }
            let prefix = if self.flavour == Flavour::Litd { "lnd." } else { "" };
            lines.extend(options.into_iter().map(|(option, value)| format!("{prefix}{option}={value}")));
        };
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let chain = self.chain_options(network);
        if !chain.is_empty() {
            section("Bitcoin", chain);
        }
        let mut remote = vec![
            option("remotesigner.enable", "true"),
            option("remotesigner.rpchost", &settings.signer.to_string()),
            option("remotesigner.tlscertpath", plain(&settings.credentials.join("tls.cert"))?.as_str()),
            option("remotesigner.macaroonpath", plain(&settings.credentials.join("admin.macaroon"))?.as_str()),
            // lnd's own patience is 5 s, and one missed health check stops it: a restarting signer needs longer.
            option("remotesigner.timeout", "10s"),
        ];
        if settings.migrate {
            remote.push(option(PURGE, "true"));
        }
        section("remotesigner", remote);
        section(
            "healthcheck",
            vec![option("healthcheck.remotesigner.attempts", "3"), option("healthcheck.remotesigner.timeout", "10s")],
        );
        // Last, so that what is appended to the file later stands under the heading that most options need.
        let password = match settings.password_file {
            Some(path) => {
                vec![option("wallet-unlock-password-file", &plain(path)?), option("wallet-unlock-allow-create", "true")]
            }
            None => Vec::new(),
        };
        section("Application Options", password);
        Ok(lines)
    }

    /// The network, and on regtest a chain that is not there: a signature can be proved without one. Elsewhere the
    /// operator chooses the chain; lsm cannot know where it is.
    fn chain_options(&self, network: Network) -> Vec<(String, String)> {
        let mut options = Vec::new();
        if self.network().is_none() && self.flavour == Flavour::Lnd {
            options.push((format!("bitcoin.{network}"), "true".to_owned()));
        }
        if self.lacks_chain() && network == Network::Regtest {
            options.push(("bitcoin.node".to_owned(), "nochainbackend".to_owned()));
        }
        options
    }

    /// True where the operator has not chosen the chain's source.
    pub fn lacks_chain(&self) -> bool {
        self.get("bitcoin.node").is_none()
    }

    /// `text` without what has lnd purge its wallet's private keys.
    pub(super) fn without_purge(text: &str) -> String {
        text.split_inclusive('\n').filter(|line| !line.contains(PURGE)).collect()
    }

    /// What lsm's block in `text` says, without its marks.
    pub(super) fn block_in(text: &str) -> Vec<String> {
        let after_begin = text.lines().skip_while(|line| *line != BEGIN).skip(1);
        after_begin.take_while(|line| *line != END).map(str::to_owned).collect()
    }

    /// The last value of `option` (lnd's name for it) in the whole of `text`, lsm's block too.
    pub(super) fn last<'t>(text: &'t str, flavour: Flavour, option: &str) -> Option<&'t str> {
        let prefix = if flavour == Flavour::Litd { "lnd." } else { "" };
        find_option(text, &format!("{prefix}{option}"))
    }

    fn get_raw(&self, option: &str) -> Option<&str> {
        find_option(&self.after, option).or_else(|| find_option(&self.before, option))
    }
}

fn find_option<'t>(text: &'t str, option: &str) -> Option<&'t str> {
    let mut lines = text.lines().rev().map(str::trim).filter(|l| !l.starts_with(['#', ';']));
    lines.find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == option).then(|| value.trim().trim_matches('"'))
    })
}

/// A path as lnd reads it in its settings: `~` is the home folder.
fn expand(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => text.into(),
    }
}

/// A path as text for the file. lnd expands `$`, and go-flags reads quotes, line ends and trailing comments.
fn plain(path: &Path) -> Result<String> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '$' | '\\' | '#' | ';' | '~');
    path.to_str().filter(|text| !text.contains(odd)).map(str::to_owned).ok_or_else(|| {
        Error::new(BAD_PATH, format!("{} cannot stand in lnd's settings", path.display()))
            .hint("choose a folder whose name has no spaces, quotes, $, #, ; or ~")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(signer: &Endpoint) -> Settings<'_> {
        Settings {
            signer,
            credentials: Path::new("/x/signer-credentials"),
            password_file: Some(Path::new("/x/wallet-password.txt")),
            network: Network::Regtest,
            migrate: false,
        }
    }

    fn signer() -> Endpoint {
        "10.0.0.7:10012".parse().unwrap()
    }

    #[test]
    fn the_block_is_replaced_and_the_operators_lines_stay() {
        let own = "alias=mine\r\n[Bitcoin]\nbitcoin.node=bitcoind\n# a note\n\n\n";
        let once = Conf::parse(own, Flavour::Lnd).unwrap().render(&settings(&signer())).unwrap();
        assert!(once.starts_with(own) && !once.contains("nochainbackend"), "the operator's chain stays: {once}");
        // What is appended stands under the block's last heading, and stays there.
        let appended = format!("{once}color=#001122\n# the end");
        let conf = Conf::parse(&appended, Flavour::Lnd).unwrap();
        assert_eq!(conf.render(&settings(&signer())).unwrap(), appended);
        assert_eq!((conf.get("color"), conf.get("alias")), (Some("#001122"), Some("mine")));
        let block = Conf::block_in(&appended);
        assert!(block.iter().any(|line| line == "remotesigner.rpchost=10.0.0.7:10012"), "{block:?}");
        assert!(!block.iter().any(|line| line.starts_with(['#', 'a', 'c'])), "nothing else: {block:?}");
        let moved = conf.render(&settings(&"10.0.0.8:10012".parse().unwrap())).unwrap();
        assert_eq!(moved, appended.replace("10.0.0.7", "10.0.0.8"));
        let purging = conf.render(&Settings { migrate: true, ..settings(&signer()) }).unwrap();
        assert!(purging.contains("\nremotesigner.migrate-wallet-to-watch-only=true\n"), "{purging}");
        let unended = Conf::parse("alias=mine", Flavour::Lnd).unwrap().render(&settings(&signer())).unwrap();
        assert!(unended.starts_with(&format!("alias=mine\n\n{BEGIN}\n")), "{unended}");
    }

    #[test]
    fn litd_gets_its_prefix_and_no_headings() {
        let text = Conf::parse("network=regtest\n", Flavour::Litd).unwrap().render(&settings(&signer())).unwrap();
        assert!(text.contains("\nlnd.remotesigner.rpchost=10.0.0.7:10012\n"), "{text}");
        assert!(!text.contains('['), "{text}");
    }

    #[test]
    fn another_network_a_lost_end_and_an_odd_path_are_refused() {
        let conf = Conf::parse("bitcoin.mainnet=true\n", Flavour::Lnd).unwrap();
        assert_eq!(conf.render(&settings(&signer())).unwrap_err().code(), OTHER_NETWORK);
        assert_eq!(Conf::parse(&format!("a=1\n{BEGIN}\nb=2\n"), Flavour::Lnd).unwrap_err().code(), BROKEN_BLOCK);
        assert_eq!(plain(Path::new("/a b")).unwrap_err().code(), BAD_PATH);
        assert_eq!(plain(Path::new("/a\nb=1")).unwrap_err().code(), BAD_PATH);
    }

    #[test]
    fn the_local_endpoint_is_read_as_lnd_reads_it() {
        for (own, dialled) in [
            ("", "localhost:10009"),
            ("rpclisten=127.0.0.1:1234", "127.0.0.1:1234"),
            ("rpclisten=0.0.0.0:1234", "localhost:1234"),
            ("rpclisten = :1234", "localhost:1234"),
            ("rpclisten=1234", "localhost:1234"),
            ("rpclisten=[::1]:1234", "[::1]:1234"),
            ("rpclisten=unix:///run/lnd.sock", "unix:///run/lnd.sock"),
        ] {
            assert_eq!(Conf::parse(own, Flavour::Lnd).unwrap().rpc_endpoint().to_string(), dialled, "{own}");
        }
    }
}
