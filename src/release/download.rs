//! Files from the network: TLS with the system's roots, several mirrors, bounds on all. What comes is not trusted here.

pub(super) mod transfer;

use crate::error::{Code, Error, Exit, Result, plain};
use crate::host::draft::Draft;
use crate::release::download::transfer::{Place, Transfer, is_absent};
use crate::release::trust;
use crate::ui;
use reqwest::Url;
use reqwest::blocking::{Client, ClientBuilder};
use reqwest::redirect::{Attempt, Policy};
use std::fmt;
use std::time::Duration;

const NO_CLIENT: Code = Code::lacking("E-RELEASE-010");
const BAD_MIRROR: Code = Code::usage("E-RELEASE-080");
const BAD_PROXY: Code = Code::usage("E-RELEASE-081");
const WRONG_FILE: Code = Code::unverified("E-RELEASE-082");

/// More than any release's server needs (GitHub: one).
const REDIRECTS: usize = 5;

/// What a proxy's address may begin with; without any it is an http proxy.
const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until a connection stands, TLS included. Short, so that the way around an unreachable server begins soon.
    pub(super) connect: Duration,
    /// How long a server may stay silent.
    pub(super) silent: Duration,
    /// What a whole file gets at least, on top of its largest size at [`Patience::slowest`].
    pub(super) whole: Duration,
    /// In bytes a second.
    pub(super) slowest: u64,
    /// How many connections one file may take; each must have brought something.
    pub(super) connections: u32,
}

impl Patience {
    const USUAL: Self = Self {
        connect: Duration::from_secs(3),
        silent: Duration::from_secs(30),
        whole: Duration::from_secs(60),
        slowest: 16 << 10,
        connections: 20,
    };

    /// A connection through Tor stands after ten seconds or more.
    const BEHIND_PROXY: Self = Self { connect: Duration::from_secs(30), ..Self::USUAL };
}

/// Something that fetches: one pool of connections.
pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) patience: Patience,
}

impl Fetcher {
    /// One that speaks HTTPS alone, also where it is redirected to. The roots are the system's (`SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` are honoured); proxies are those of `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// Where the system's roots cannot be read, or the environment names a proxy that lsm cannot use.
    pub(super) fn https_only() -> Result<Self> {
        Self::make(usual_patience()?, |client| client.https_only(true))
    }

    /// One that also speaks plain HTTP, for what has a pinned hash; never once it spoke HTTPS.
    ///
    /// # Errors
    /// As [`Fetcher::https_only`].
    pub(super) fn any() -> Result<Self> {
        Self::make(usual_patience()?, |client| client)
    }

    pub(super) fn make(patience: Patience, set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Self> {
        // Somebody else may have chosen it already; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(patience.connect)
            // Of the blocking client: for the answer's head, and again for each part of its body.
            .timeout(patience.silent)
            .redirect(Policy::custom(follow))
            .referer(false)
            .user_agent(concat!("lsm/", env!("CARGO_PKG_VERSION")));
        let client = set(client).build().map_err(|e| {
            Error::new(NO_CLIENT, "cannot make TLS connections: no usable root certificates")
                .hint("get them with: apt-get install ca-certificates")
                .because(e)
        })?;
        Ok(Self { client, patience })
    }

    /// Writes what `url` holds to `draft`, at most `limit` bytes, under a progress line with `title`; a connection that
    /// breaks is taken up again where it broke. Gives the SHA-256 of what was written, in hexadecimal.
    ///
    /// # Errors
    /// Where the server cannot be reached, does not have it ([`is_absent`]), stops short, or sends what it must not.
    pub(super) fn fetch(&self, url: &str, title: &str, limit: u64, draft: &mut Draft) -> Result<String> {
        Transfer::new(self, url, title, limit, draft).run()
    }

    /// Writes the file with this SHA-256 to `draft`: `path` below the first of `mirrors` that has it. Gives its address.
    ///
    /// # Errors
    /// Where none has it. A mirror that sent something wrong is named rather than one that could not be reached.
    pub(super) fn fetch_pinned(
        &self,
        mirrors: &[String],
        path: &str,
        sha256: &str,
        title: &str,
        limit: u64,
        draft: &mut Draft,
    ) -> Result<String> {
        first_of(mirrors, path, |url| {
            draft.restart()?;
            let found = self.fetch(url, title, limit, draft)?;
            if found == sha256 {
                return Ok(url.to_owned());
            }
            Err(Error::new(WRONG_FILE, format!("{url} is not the official file: its sha256 is {found}"))
                .hint(format!("pinned is {sha256}; nothing was kept")))
        })
    }

    /// The small file `path` below the first of `mirrors` that has it, held in memory; `None` where every mirror says
    /// that it is not there.
    ///
    /// # Errors
    /// Where it could not be had, or is larger than `limit` bytes.
    pub(super) fn fetch_small(&self, mirrors: &[String], path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let title = format!("fetching {}", path.rsplit('/').next().unwrap_or(path));
        let mut absent = 0;
        let had = first_of(mirrors, path, |url| {
            let mut bytes = Vec::new();
            let fetched = Transfer::new(self, url, &title, limit, &mut bytes as &mut dyn Place).run();
            absent += usize::from(fetched.as_ref().is_err_and(is_absent));
            fetched.map(|_| bytes)
        });
        match had {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) if absent == mirrors.len() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// What the first mirror gives that gives anything. Else the error of the first that sent something wrong, else of the
/// last that could not be reached, else that it is not there.
fn first_of<T>(mirrors: &[String], path: &str, mut get: impl FnMut(&str) -> Result<T>) -> Result<T> {
    let grave = |e: &Error| u8::from(!is_absent(e)) + u8::from(e.code().exit == Exit::Unverified);
    let mut worst: Option<Error> = None;
    for (n, mirror) in mirrors.iter().enumerate() {
        match get(&format!("{mirror}/{path}")) {
            Ok(had) => return Ok(had),
            Err(e) => {
                if n + 1 < mirrors.len() && !is_absent(&e) {
                    ui::note(&format!("the next mirror is asked: {e}"));
                }
                if worst.as_ref().is_none_or(|w| grave(&e) > grave(w)) {
                    worst = Some(e);
                }
            }
        }
    }
    Err(worst.unwrap_or_else(|| Error::new(BAD_MIRROR, "there is no mirror to ask")))
}

/// Where the official files are: `LSM_RELEASE_BASE`, addresses separated by commas, else the mirrors of
/// [`trust::in_force`].
///
/// # Errors
/// Where one is no plain HTTPS address.
pub(super) fn mirrors() -> Result<Vec<String>> {
    match std::env::var("LSM_RELEASE_BASE") {
        Ok(named) if !named.trim().is_empty() => read_mirrors(named.split(','), "LSM_RELEASE_BASE"),
        _ => {
            let trust = trust::in_force()?;
            read_mirrors(trust.mirrors.iter().map(String::as_str), "trust.toml")
        }
    }
}

fn read_mirrors<'a>(list: impl Iterator<Item = &'a str>, from: &str) -> Result<Vec<String>> {
    let read = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.has_host());
        // A password would stand in errors, and in what is noted about where an archive came from.
        let is_plain = |url: &Url| {
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
        };
        url.filter(is_plain).map(|url| url.as_str().trim_end_matches('/').to_owned()).ok_or_else(|| {
            Error::new(BAD_MIRROR, format!("{from} names a mirror that is no plain https address: {}", bare(text)))
                .hint("for example https://mirror.example/lnd, without a user, a password or a query")
        })
    };
    list.map(str::trim).filter(|m| !m.is_empty()).map(read).collect()
}

/// An address to show: without what may be a password.
pub(super) fn bare(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    let between = if scheme.is_empty() { "" } else { "://" };
    plain(&format!("{scheme}{between}{host}{path}"))
}

/// Longer where a proxy stands between. One that lsm cannot use is refused: else it would be passed by.
fn usual_patience() -> Result<Patience> {
    let mut patience = Patience::USUAL;
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { continue };
        if !value.to_str().is_some_and(is_proxy) {
            return Err(Error::new(BAD_PROXY, format!("{name} names a proxy that lsm cannot use"))
                .hint("for example http://proxy.example:3128, or socks5h://127.0.0.1:9050 for Tor"));
        }
        patience = Patience::BEHIND_PROXY;
    }
    Ok(patience)
}

fn is_proxy(value: &str) -> bool {
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    Url::parse(&whole).is_ok_and(|url| PROXY_SCHEMES.contains(&url.scheme()) && url.has_host())
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Astray {
    /// It leads from HTTPS to something else.
    Insecure,
    /// It is one of too many.
    TooFar,
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insecure => "it is redirected away from https",
            Self::TooFar => "it is redirected too often",
        })
    }
}

impl std::error::Error for Astray {}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        attempt.error(Astray::Insecure)
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error(Astray::TooFar)
    } else {
        attempt.follow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_plain_https_addresses() {
        let read = |list: &str| read_mirrors(list.split(','), "X");
        assert_eq!(
            read("https://a.example/x/, https://b.example,").unwrap(),
            ["https://a.example/x", "https://b.example"]
        );
        for bad in [
            "http://a.example",
            "ftp://a.example",
            "a.example",
            "https://",
            "https://a.example/?x",
            "https://u:secret@a.example/x",
        ] {
            let error = read(bad).unwrap_err();
            assert_eq!(error.code(), BAD_MIRROR, "{bad}");
            assert!(!error.cause().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_proxy_that_would_be_passed_by_is_refused() {
        for good in
            ["http://p:3128", "https://p", "p:3128", "127.0.0.1:3128", "socks5h://127.0.0.1:9050", "socks5://u:p@p:1"]
        {
            assert!(is_proxy(good), "{good}");
        }
        for bad in ["socks://p:1", "ftp://p:1", "http://", "p q", "http://p:999999"] {
            assert!(!is_proxy(bad), "{bad}");
        }
    }

    #[test]
    fn the_gravest_of_the_mirrors_errors_is_told() {
        let mirrors: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let absent = || Error::new(crate::release::download::transfer::NOT_THERE, "absent");
        let far = || Error::new(NO_CLIENT, "far");
        let wrong = || Error::new(WRONG_FILE, "wrong");
        for (errors, told) in [
            ([absent(), far(), absent()], "far"),
            ([far(), wrong(), absent()], "wrong"),
            ([absent(), absent(), absent()], "absent"),
        ] {
            let (mut errors, mut asked) = (errors.into_iter(), Vec::new());
            let error = first_of::<()>(&mirrors, "f", |url| {
                asked.push(url.to_owned());
                Err(errors.next().unwrap())
            });
            assert_eq!((error.unwrap_err().cause(), asked.join(" ").as_str()), (told, "a/f b/f c/f"));
        }
        assert_eq!(first_of(&mirrors, "f", |url| if url == "b/f" { Ok(1) } else { Err(far()) }).unwrap(), 1);
    }
}
