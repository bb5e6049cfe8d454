//! A litd beside the signer: on a network of its own, from which it dials the published port as any other machine does.

use crate::spec::{Instance, Spec};
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// What the operator has to name. Where that was not done a value stands there that is no image, folder or user: compose reads
/// the services of a profile that nobody asked for too, and must be able to start the signer then.
const IMAGE: &str = "${LSM_LITD_IMAGE:-LSM_LITD_IMAGE}@sha256:${LSM_LITD_SHA256:-is-not-set}";
const FOLDER: &str = "${LSM_LITD_DIR:-/LSM_LITD_DIR-is-not-set}";
const USER: &str = "${LSM_LITD_USER:-LSM_LITD_USER-is-not-set}";

/// The litd of one signer.
#[derive(Debug)]
pub struct Litd {
    instance: Instance,
    /// Its address, which the allowlist has to hold.
    address: Ipv4Addr,
    allowed: bool,
    bundle: PathBuf,
    /// The folder in lnd's that the bundle is put into.
    credentials: &'static str,
}

/// What stands in the place of a litd that would reach nothing.
pub(super) fn absent() -> String {
    "# No litd beside it: no other container gets to loopback, or over IPv6. The port moves with: lsm install --listen IP:PORT\n"
        .to_owned()
}

impl Litd {
    /// That of the signer `spec`, whose bundle is in the folder `bundle` and comes into the one called `credentials`; none where
    /// the port is one that no container of another network can dial.
    pub fn of(spec: &Spec, bundle: &Path, credentials: &'static str) -> Option<Self> {
        if spec.listen.ip().is_loopback() || spec.listen.is_ipv6() {
            return None;
        }
        let address = net(&spec.instance).hosts().nth(1)?;
        let allowed = spec.allow.iter().any(|net: &IpNet| net.contains(&IpAddr::V4(address)));
        Some(Self { instance: spec.instance.clone(), address, allowed, bundle: bundle.to_owned(), credentials })
    }

    /// What the operator does to have it run.
    pub(super) fn explain(&self) -> String {
        let Self { instance, address, .. } = self;
        let mut text = String::new();
        let mut line = |said: &str| {
            let _ = writeln!(text, "# {said}");
        };
        line(
            "Beside it litd, of the profile litd. It is on a network of its own, dials the port as other machines do, and the",
        );
        line("allowlist judges it by its address:");
        line(&match self.allowed {
            true => format!("  {address}, which is allowed"),
            false => format!("  lsm allow add {address} --instance {instance}"),
        });
        line(
            "Its image is named by its digest, its folder by the path that it has outside and inside, its user by number:",
        );
        line("  LSM_LITD_IMAGE=REPOSITORY LSM_LITD_SHA256=HEX LSM_LITD_DIR=/FOLDER LSM_LITD_USER=UID:GID");
        line("In that folder, which is that user's, lit.conf has litd's own settings, and these two:");
        line("  lnd.lnddir=/FOLDER and lnd.rpclisten=0.0.0.0:10009");
        line(
            "lsm adds the signer's as that user, whom this host's own address has to be allowed for where he is not root, and",
        );
        line("waits then for litd, started with docker-compose --profile litd up -d:");
        line(&format!("  lsm watch-only init --for litd --lnddir /FOLDER --bundle {}", self.bundle.display()));
        text
    }

    /// The service. What it may not do is asked of no image: it is somebody else's.
    pub(super) fn service(&self) -> Value {
        let folder = |path: &str, read_only: bool| {
            let path = format!("{FOLDER}{path}");
            json!({"type": "bind", "source": path, "target": path, "read_only": read_only})
        };
        json!({
            "profiles": ["litd"],
            "image": IMAGE,
            "user": USER,
            "environment": [format!("HOME={FOLDER}")],
            "command": [format!("--configfile={FOLDER}/lit.conf")],
            "volumes": [folder("", false), folder(&format!("/{}", self.credentials), true)],
            "read_only": true,
            "tmpfs": ["/tmp:rw,noexec,nosuid,nodev,size=16777216,mode=1777"],
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "depends_on": {"signer": {"condition": "service_healthy"}},
            // lnd ends, with success, when its signer is away.
            "restart": "unless-stopped",
            "stop_grace_period": "60s",
            // lnd's calls and litd's page, for this host alone.
            "ports": ["127.0.0.1:10009:10009/tcp", "127.0.0.1:8443:8443/tcp"],
            "networks": {"litd": {"ipv4_address": self.address}},
        })
    }

    /// Its network, which leads outwards: lnd looks for its chain there.
    pub(super) fn network(&self) -> Value {
        json!({"driver": "bridge", "ipam": {"config": [{"subnet": net(&self.instance)}]}})
    }
}

/// A network of private addresses (RFC 1918) that is the same each time, and another one for each signer of a host.
fn net(instance: &Instance) -> Ipv4Net {
    let byte = Sha256::digest(instance.as_str())[0];
    Ipv4Net::new_assert(Ipv4Addr::new(10, 213, byte, 0), 29)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Network, parse_cidr};

    #[test]
    fn it_is_there_where_it_can_dial_the_port_and_says_what_it_needs() {
        let spec = |listen: &str, allow: &[&str]| Spec {
            listen: listen.parse().unwrap(),
            allow: allow.iter().map(|net| parse_cidr(net).unwrap()).collect(),
            ..Spec::new(&Instance::default(), Network::Regtest, "v0.21.3-beta")
        };
        let of = |listen, allow: &[&str]| Litd::of(&spec(listen, allow), Path::new("/b"), "signer-credentials");
        assert!(of("127.0.0.1:10012", &[]).is_none() && of("[fd00::5]:10012", &[]).is_none());
        let litd = of("10.0.0.5:10012", &[]).unwrap();
        assert!(net(&litd.instance).contains(&litd.address), "{litd:?}");
        assert!(litd.explain().contains(&format!("\n#   lsm allow add {}", litd.address)));
        assert!(of("10.0.0.5:10012", &["10.213.0.0/16"]).unwrap().explain().contains("which is allowed"));
        assert!(litd.explain().lines().all(|line| line.starts_with('#')));
        // Only by its digest, whatever is named.
        assert!(litd.service()["image"].as_str().unwrap().contains("@sha256:$"));
        assert_ne!(net(&"second".parse().unwrap()), net(&litd.instance));
    }
}
