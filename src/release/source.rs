//! lnd from source, equal to the official archive bit for bit: fetched first, then built without network or privilege.

pub(super) mod gomodule;
pub(super) mod stamp;
pub(super) mod sumdb;
pub(super) mod workshop;

use crate::error::{Code, Error, Exit, Result};
use crate::host::file;
use crate::release::download::Fetcher;
use crate::release::known;
use crate::release::pack::pack;
use crate::release::pins::{self, Arch, Origin, Release, Source, Toolchain};
use crate::release::source::gomodule::{Module, Proxies};
use crate::release::source::workshop::Workshop;
use crate::release::verified::{Archive, Provenance, Verified};
use crate::sandbox::seccomp::Filter;
use crate::ui;
use crate::ui::progress::Progress;
use std::ffi::OsString;
use std::path::Path;

pub(super) const NO_SOURCE: Code = Code::usage("E-RELEASE-060");
const NO_TOOLCHAIN: Code = Code::lacking("E-RELEASE-061");
const NO_TAGS: Code = Code::unverified("E-RELEASE-062");
const NOT_FETCHED: Code = Code::lacking("E-RELEASE-063");
const CHANGED_MODULE: Code = Code::unverified("E-RELEASE-064");
const NOT_BUILT: Code = Code::lacking("E-RELEASE-065");

const LND: &str = "github.com/lightningnetwork/lnd";

/// What decides which certificates and which proxies the go command uses while it fetches.
const NETWORK_SETTINGS: [&str; 8] =
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// Builds `release` for `arch` in `cache` and leaves the official archive in the folder `out`.
///
/// # Errors
/// Where the machine lacks something (exit 3), or a module, the toolchain or the result is not what is pinned (exit 4):
/// then nothing is left in `out`.
pub fn build(release: &Release, arch: Arch, cache: &Path, out: &Path) -> Result<Verified<Archive>> {
    release.live_pin(arch)?;
    let no_source = || Error::new(NO_SOURCE, format!("lsm has no pinned source of lnd {}", release.version));
    let source = release.source.as_ref().ok_or_else(no_source)?;
    source.hold_live()?;
    let toolchain = toolchain_for(source)?;
    let proxies = Proxies::from_environment()?;
    // First: `out` may be in it.
    let shop = Workshop::open(cache)?;
    file::make_folders(out)?;
    let proved = bring_sources(release, source, toolchain, &shop, &proxies)?;
    stamp::write(&shop.bin(), &shop.source(), source, &release.version)?;
    let tags = release_tags(&file::read_text(&shop.source().join("make/release_flags.mk"))?)?;
    let provenance = Provenance::SourceBuild {
        lnd_module: source.module.clone(),
        toolchain: toolchain.hash.clone(),
        go: source.go.clone(),
        proved,
    };
    twice_at_most(&shop, || {
        let packages = fetch_modules(&shop, arch, &tags, &proxies)?;
        compile(&shop, arch, &tags, &release.version, packages)?;
        pack(&shop.output(), release, arch, out, |archive| Ok(archive.because_of(provenance.clone())))
    })
}

/// Makes it; where something comes out false, once more with Go's caches emptied: go does not check what it finds there,
/// so a damaged file would spoil every build to come.
fn twice_at_most<T>(shop: &Workshop, make: impl Fn() -> Result<T>) -> Result<T> {
    let may_be_the_caches = |c: Code| c == NOT_BUILT || c.exit == Exit::Unverified && c != CHANGED_MODULE;
    let first = match make() {
        Err(e) if shop.is_used() && may_be_the_caches(e.code()) => e,
        made => return made,
    };
    ui::note(&first.to_string());
    ui::note("what earlier builds left may be damaged: Go's caches are emptied, and lnd is built once more");
    shop.empty_caches()?;
    make().map_err(|again| match again.code().exit {
        Exit::Unverified => again,
        _ => first.hint(format!("Go's caches were emptied, and building once more failed: {}", again.cause())),
    })
}

fn toolchain_for(source: &Source) -> Result<&'static Toolchain> {
    let host = Arch::of_this_machine()?;
    let toolchain = known::in_force()?.toolchain(&source.go, host).ok_or_else(|| {
        Error::new(NO_TOOLCHAIN, format!("lsm has no pinned Go {} that runs on {host}", source.go))
            .hint("build it on another machine, and verify the archive here")
    })?;
    if toolchain.expired {
        return Err(pins::expired(&format!("the toolchain of Go {} for {host}", source.go)));
    }
    Ok(toolchain)
}

/// Unpacks the toolchain and lnd's source, and gives the names of the modules that the checksum database vouched for:
/// those whose hash came by an update, since who can sign an update must not be able to name another source.
fn bring_sources(
    release: &Release,
    source: &Source,
    toolchain: &Toolchain,
    shop: &Workshop,
    proxies: &Proxies,
) -> Result<Vec<String>> {
    let host = Arch::of_this_machine()?;
    let version = format!("v0.0.1-go{}.linux-{host}", source.go);
    let go = Module { path: "golang.org/toolchain", version: &version, hash: &toolchain.hash };
    let lnd = Module { path: LND, version: &release.version, hash: &source.module };
    let mut proved = Vec::new();
    for (module, origin, to) in [(go, toolchain.origin, shop.toolchain()), (lnd, source.origin, shop.source())] {
        if origin != Origin::Shipped {
            sumdb::hold(module, proxies, &Fetcher::any()?)?;
            proved.push(module.name());
        }
        gomodule::bring(module, &shop.zips(), &to, proxies)?;
    }
    Ok(proved)
}

/// The build tags of lnd's official builds: `RELEASE_TAGS = a b c` in make/release_flags.mk.
fn release_tags(flags: &str) -> Result<String> {
    let values = flags.lines().filter_map(|l| l.strip_prefix("RELEASE_TAGS = "));
    let is_tag = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let tags: Vec<_> = values.take(1).flat_map(str::split_whitespace).collect();
    if tags.is_empty() || !tags.iter().all(|t| is_tag(t)) {
        return Err(Error::new(NO_TAGS, "lnd's make/release_flags.mk names no build tags that lsm can read"));
    }
    Ok(tags.join(" "))
}

/// Has go fetch every module that the build needs, held against lnd's go.sum, and returns the number of packages.
fn fetch_modules(shop: &Workshop, arch: Arch, tags: &str, proxies: &Proxies) -> Result<u64> {
    let progress = Progress::new("fetching lnd's modules", None);
    let go = shop.go(arch).env("GOPROXY", proxies.for_go()).env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false");
    let settings = network_settings(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
    let go = settings.into_iter().fold(go, |go, (name, value)| go.env(name, value));
    let mut said = Vec::new();
    // With -e a package that cannot be loaded is named with its error; without, a broken zip goes unnamed.
    let form = "{{.ImportPath}}{{with .Error}}\t{{printf \"%.300q\" .Err}}{{end}}";
    let go = go.args(["list", "-e", "-deps", "-f", form, "-tags", tags, "./cmd/lnd", "./cmd/lncli"]);
    let listed = go.run_with_lines(|line| {
        progress.say(line.strip_prefix("go: downloading ").unwrap_or_default());
        said.push(line.to_owned());
    });
    let listed = listed.map_err(|e| explain_fetch(&said, e.cause()))?;
    let listed = String::from_utf8_lossy(&listed);
    let failed: Vec<_> = listed.lines().filter(|l| l.contains('\t')).map(|l| l.replace('\t', ": ")).collect();
    match failed.first() {
        Some(first) => Err(explain_fetch(&failed, first)),
        None => Ok(listed.lines().count() as u64),
    }
}

/// The settings of [`NETWORK_SETTINGS`] that the environment has. Go does not know `ALL_PROXY` and would pass by the
/// proxy that it names: it gets that one under the names that it knows.
fn network_settings(get: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    let mut settings: Vec<_> =
        NETWORK_SETTINGS.iter().filter_map(|name| get(name).map(|value| (*name, value))).collect();
    let Some(all) = get("ALL_PROXY").or_else(|| get("all_proxy")) else { return settings };
    for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
        if !settings.iter().any(|(there, _)| there.eq_ignore_ascii_case(name)) {
            settings.push((name, all.clone()));
        }
    }
    settings
}

/// Tells a module that was changed on its way from a proxy that cannot be reached.
fn explain_fetch(said: &[String], otherwise: &str) -> Error {
    // "verifying MODULE@VERSION: checksum mismatch", or a zip that cannot even be read: "PACKAGE: zip: ...".
    // Packages are named compress/gzip, compress/flate and archive/zip, too.
    let broken = |l: &str| ["\"zip: ", " zip: ", "\"flate: ", " flate: "].iter().any(|word| l.contains(word));
    let changed = said.iter().find(|l| l.contains("checksum mismatch"));
    if let Some(line) = changed.or_else(|| said.iter().find(|l| broken(l))) {
        let line = line.trim();
        return Error::new(CHANGED_MODULE, format!("a module of lnd is not what its go.sum names: {line}"))
            .hint(
                "the proxy or the way to it changed it, or it lies damaged below go/ in lsm's cache; nothing was built",
            )
            .because(said.join("\n"));
    }
    let first = said.iter().find(|l| !l.starts_with("go: downloading ")).map_or(otherwise, |l| l.trim());
    Error::new(NOT_FETCHED, format!("cannot fetch lnd's modules: {first}"))
        .hint("GOPROXY names the module proxy that is asked")
        .because(said.join("\n"))
}

/// Builds both programs with what is on the disk; no socket can be opened.
fn compile(shop: &Workshop, arch: Arch, tags: &str, version: &str, packages: u64) -> Result<()> {
    let progress = Progress::new(&format!("building lnd {version}"), Some(packages));
    // lnd's own release flags: scripts/release.sh and make/release_flags.mk.
    let flags = format!("-s -w -buildid= -X {LND}/build.Commit={version}");
    let go = shop.go(arch).env("GOPROXY", "off").env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=true");
    let go = go.args(["build", "-v", "-trimpath", "-ldflags", &flags, "-tags", tags, "-o"]).arg(shop.output());
    let (mut done, mut said) = (0, Vec::new());
    let built = Filter::no_network()?.confine(go.args(["./cmd/lnd", "./cmd/lncli"])).run_with_lines(|line| {
        // -v names each package on a line of its own; a message has spaces in it.
        if line.contains(' ') {
            said.push(line.to_owned());
        } else {
            done += 1;
            progress.set(done);
            progress.say(line);
        }
    });
    built.map(|_| ()).map_err(|e| {
        // "# PACKAGE" is a heading; the line after it says what is wrong.
        let first =
            said.iter().find(|l| !l.starts_with("# ")).map_or_else(|| e.cause().to_owned(), |l| l.trim().to_owned());
        Error::new(NOT_BUILT, format!("cannot build lnd {version}: {first}")).because(said.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_or_refused() {
        assert_eq!(release_tags("A = x\nRELEASE_TAGS = a b_c\nRELEASE_TAGS = d\n").unwrap(), "a b_c");
        for bad in ["", "RELEASE_TAGS = \n", "RELEASE_TAGS = a $(shell id)\n"] {
            assert_eq!(release_tags(bad).unwrap_err().code(), NO_TAGS, "{bad:?}");
        }
    }

    #[test]
    fn go_is_given_the_proxy_for_all_under_the_names_that_it_knows() {
        let settings = |there: &[(&str, &str)]| {
            let get = |name: &str| there.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            let mut settings = network_settings(get);
            settings.sort();
            settings.into_iter().map(|(name, value)| format!("{name}={}", value.display())).collect::<Vec<_>>()
        };
        assert_eq!(settings(&[]), Vec::<String>::new());
        assert_eq!(settings(&[("all_proxy", "p")]), ["HTTPS_PROXY=p", "HTTP_PROXY=p"]);
        assert_eq!(
            settings(&[("ALL_PROXY", "p"), ("https_proxy", "q"), ("NO_PROXY", "n")]),
            ["HTTP_PROXY=p", "NO_PROXY=n", "https_proxy=q"]
        );
    }

    #[test]
    fn a_changed_module_is_told_from_a_missing_network() {
        let lines = |l: &str| vec!["go: downloading a v1".to_owned(), l.to_owned()];
        let changed = explain_fetch(&lines("verifying example.org/a@v1: checksum mismatch"), "x");
        assert_eq!(changed.code(), CHANGED_MODULE);
        assert!(changed.cause().contains("example.org/a@v1"));
        let broken = explain_fetch(&lines("example.org/a: \"zip: not a valid zip file\""), "x");
        assert_eq!(broken.code(), CHANGED_MODULE);
        for refused in ["dial tcp: connection refused", "compress/gzip: \"dial tcp: connection refused\""] {
            assert_eq!(explain_fetch(&lines(refused), "x").code(), NOT_FETCHED, "{refused}");
        }
    }
}
