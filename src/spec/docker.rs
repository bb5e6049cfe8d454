//! A signer in a container: the names and places of its parts.

use super::Instance;
use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

const BAD_NAME: Code = Code::usage("E-SPEC-007");

/// The port of every container: the one that is judged, whatever it is published as.
pub const PORT: u16 = super::DEFAULT_PORT;
/// The longest name of a network interface (linux/if.h: IFNAMSIZ, with its end).
const LONGEST_INTERFACE: usize = 15;

/// What a signer in a container has besides what every signer has. Decided once, when it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Docker {
    /// The engine's socket.
    pub engine: PathBuf,
    /// The container's name.
    pub container: String,
    /// The volume that holds the wallet; without it a user installed it without root, and keeps lnd's folder at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// lnd's folder: where the engine keeps that volume, or the user's own.
    pub data: PathBuf,
    /// The folder of settings, secrets and lnd's socket.
    pub folder: PathBuf,
    /// The user and group of lnd, by number: one that nobody on this host has, or that of the user whose signer it is.
    pub uid: u32,
    /// The engine gives containers other user numbers than their own, unless it is told not to.
    #[serde(default)]
    pub maps_users: bool,
}

impl Docker {
    /// The container of `instance` as the original system named it; a second signer's has its name behind it.
    pub fn container_of(instance: &Instance) -> String {
        if *instance == Instance::default() { "litd-signer".to_owned() } else { format!("litd-{instance}") }
    }

    /// The volume of `instance`, as the original system named it for the first.
    pub fn volume_of(instance: &Instance) -> String {
        format!("{instance}-data")
    }

    /// True where it was installed without root, by the user with its number.
    pub fn is_users(&self) -> bool {
        self.volume.is_none()
    }

    /// The network of its signer `instance`, and the bridge that it is on this host. Users may have signers of one name.
    pub fn network(&self, instance: &Instance) -> String {
        let hashed = |whose: &str| format!("lsm-{}", &hex::encode(Sha256::digest(whose))[..8]);
        let name = format!("lsm-{instance}");
        match name.len() {
            _ if self.is_users() => hashed(&format!("{}/{instance}", self.uid)),
            ..=LONGEST_INTERFACE => name,
            _ => hashed(instance.as_str()),
        }
    }
}

/// A container's name, as an engine accepts it (moby, daemon/names: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`).
///
/// # Errors
/// Where it is none.
pub fn parse_container(text: &str) -> Result<String> {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if text.len() >= 2 && text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(is_inner) {
        return Ok(text.to_owned());
    }
    Err(Error::new(BAD_NAME, format!("{text:?} is no container's name"))
        .hint("letters, digits, and after the first _ . -"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signer_has_the_names_of_the_original_system() {
        let (first, second) = (Instance::default(), "second".parse().unwrap());
        assert_eq!(
            (Docker::container_of(&first), Docker::volume_of(&first)),
            ("litd-signer".into(), "signer-data".into())
        );
        assert_eq!(
            (Docker::container_of(&second), Docker::volume_of(&second)),
            ("litd-second".into(), "second-data".into())
        );
    }

    #[test]
    fn every_signer_has_a_bridge_whose_name_the_kernel_takes() {
        let name = |instance: &str| Docker::network_of(&instance.parse().unwrap());
        assert_eq!((name("signer"), name("a1234567890")), ("lsm-signer".into(), "lsm-a1234567890".into()));
        let long = ["a12345678901", "a123456789012345"].map(name);
        assert!(long[0] != long[1] && long.iter().all(|name| name.len() == 12), "{long:?}");
    }

    #[test]
    fn names_are_those_of_the_engine() {
        for good in ["litd-signer", "a1", "A_b.c"] {
            assert_eq!(parse_container(good).unwrap(), good);
        }
        for bad in ["", "a", "-ab", "a b", "a/b", "ä1"] {
            assert_eq!(parse_container(bad).unwrap_err().code(), BAD_NAME, "{bad}");
        }
    }
}
