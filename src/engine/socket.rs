//! Which engine is meant: DOCKER_HOST, else docker's current context, else the usual socket.

use crate::error::{Code, Error, Result};
use crate::host::{file, user};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const ELSEWHERE: Code = Code::lacking("E-ENGINE-010");
const NO_CONTEXT: Code = Code::usage("E-ENGINE-011");

/// Where dockerd listens unless it is told otherwise.
const USUAL: &str = "/run/docker.sock";
/// Docker's own settings are some hundred bytes.
const LIMIT: u64 = 1 << 20;

/// The engine's socket, as docker's own command would find it (docker(1): `DOCKER_HOST`, `DOCKER_CONTEXT`, `docker context`).
///
/// # Errors
/// Where it is on another machine: files are mounted from this one, and the packet filter is this one's. Where the context
/// that is named is not there.
pub fn find_socket() -> Result<PathBuf> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(host) = said("DOCKER_HOST") {
        return parse_host(&host, "DOCKER_HOST");
    }
    let Some(folder) = user::base_folder("DOCKER_CONFIG", ".docker") else {
        return Ok(USUAL.into());
    };
    let context = said("DOCKER_CONTEXT").or_else(|| current_context(&folder));
    match context.filter(|name| name != "default") {
        None => Ok(USUAL.into()),
        Some(name) => parse_host(&read_context(&folder, &name)?, &format!("docker's context {name}")),
    }
}

fn current_context(folder: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext")]
        current_context: Option<String>,
    }
    let text = file::read_named(&folder.join("config.json"), LIMIT).ok()?;
    serde_json::from_slice::<Config>(&text).ok()?.current_context
}

/// The endpoint of a context: it is kept in a folder that its name's hash names (docker/cli, cli/context/store).
fn read_context(folder: &Path, name: &str) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Meta {
        endpoints: Endpoints,
    }
    #[derive(Deserialize)]
    struct Endpoints {
        docker: Endpoint,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Endpoint {
        host: String,
    }
    let place = folder.join("contexts/meta").join(hex::encode(Sha256::digest(name.as_bytes()))).join("meta.json");
    let meta: Option<Meta> = file::read_named(&place, LIMIT).ok().and_then(|text| serde_json::from_slice(&text).ok());
    meta.map(|meta| meta.endpoints.docker.host).ok_or_else(|| {
        Error::new(NO_CONTEXT, format!("docker's context {name} cannot be read"))
            .hint("see: docker context ls; or name the socket: DOCKER_HOST=unix:///run/docker.sock")
    })
}

fn parse_host(host: &str, whose: &str) -> Result<PathBuf> {
    match host.strip_prefix("unix://").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => Ok(path),
        None => Err(Error::new(ELSEWHERE, format!("{whose} is {host}, and lsm works with an engine of this machine"))
            .hint("run lsm on the machine where the engine is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_this_machine_is_a_socket() {
        assert_eq!(parse_host("unix:///run/a.sock", "x").unwrap(), Path::new("/run/a.sock"));
        for elsewhere in ["tcp://10.0.0.1:2375", "ssh://root@host", "unix://relative", "/run/a.sock"] {
            assert_eq!(parse_host(elsewhere, "x").unwrap_err().code(), ELSEWHERE, "{elsewhere}");
        }
    }

    #[test]
    fn a_context_is_found_by_the_hash_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_context(dir.path(), "mine").unwrap_err().code(), NO_CONTEXT);
        let place = dir.path().join("contexts/meta").join(hex::encode(Sha256::digest(b"mine")));
        std::fs::create_dir_all(&place).unwrap();
        let meta = r#"{"Name":"mine","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///run/m.sock","SkipTLSVerify":false}}}"#;
        std::fs::write(place.join("meta.json"), meta).unwrap();
        assert_eq!(read_context(dir.path(), "mine").unwrap(), "unix:///run/m.sock");
        assert_eq!(current_context(dir.path()), None);
        std::fs::write(dir.path().join("config.json"), r#"{"auths":{},"currentContext":"mine"}"#).unwrap();
        assert_eq!(current_context(dir.path()).as_deref(), Some("mine"));
    }
}
