//! What an engine holds for a signer: its image, network, volume and container, each found by its name.

use super::Engine;
use crate::error::{Code, Error, Result};
use crate::host::process;
use crate::ui;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect,
    VolumeCreateRequest,
};
use bollard::query_parameters::{
    InspectNetworkOptions, ListContainersOptions, ListImagesOptions, RemoveContainerOptions, RemoveImageOptions,
    RemoveVolumeOptions, TagImageOptions,
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

pub(super) const BAD_BODY: Code = Code::refused("E-ENGINE-030");
const NO_NET: Code = Code::refused("E-ENGINE-031");
const OTHER_NETWORK: Code = Code::refused("E-ENGINE-032");

/// The label under which a container has the hash of what it was made from.
const MADE_FROM: &str = "lsm.made-from";

/// Something that an engine holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// The engine's socket.
    pub engine: PathBuf,
    /// What it is.
    pub object: Kind,
    /// Its name.
    pub name: String,
}

/// The kinds of what an engine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A container.
    Container,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.object {
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Container => "container",
        };
        write!(f, "the {kind} {}", self.name)
    }
}

/// What a network leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bounds {
    /// This host alone, over a bridge of this name: no container reaches another.
    Bridge(String),
    /// This host and the containers with these addresses, each of which reaches the others.
    Inside(Ipv4Net),
}

/// What was found of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// An image's number; the hash of what lsm made a container from, empty where somebody else made it.
    pub mark: String,
    /// The number of a container's image.
    pub image: String,
    /// A container that runs.
    pub runs: bool,
}

impl Engine {
    /// What there is of this kind and name.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn find(&self, kind: Kind, name: &str) -> Result<Option<Found>> {
        let still = |mark: String| Found { mark, image: String::new(), runs: false };
        Ok(match kind {
            Kind::Image => self
                .look("look at the image", self.docker.inspect_image(name))?
                .map(|image| still(image.id.unwrap_or_default())),
            Kind::Network => self
                .look("look at the network", self.docker.inspect_network(name, None::<InspectNetworkOptions>))?
                .map(|_| still(String::new())),
            Kind::Volume => {
                self.look("look at the volume", self.docker.inspect_volume(name))?.map(|_| still(String::new()))
            }
            Kind::Container => self.inspect(name)?.map(|found| Found {
                mark: mark_of(&found).unwrap_or_default(),
                image: found.image.unwrap_or_default(),
                runs: found.state.is_some_and(|state| state.running == Some(true)),
            }),
        })
    }

    /// The names of all images that begin so.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn images(&self, beginning: &str) -> Result<Vec<String>> {
        let listed = self.ask("list the images", self.docker.list_images(None::<ListImagesOptions>))?;
        let names = listed.into_iter().flat_map(|image| image.repo_tags);
        Ok(names.filter(|name| name.starts_with(beginning)).collect())
    }

    /// The names of all containers that have this volume, whether they run or not.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn users_of(&self, volume: &str) -> Result<Vec<String>> {
        let filters = HashMap::from([("volume".to_owned(), vec![volume.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = self.ask("list the containers", self.docker.list_containers(Some(options)))?;
        let names = listed.into_iter().filter_map(|container| container.names?.into_iter().next());
        Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
    }

    /// Makes a network that leads nowhere else: without address translation outwards. One that is there stays as it is.
    ///
    /// # Errors
    /// As [`Engine::holds_network`], and where the engine refuses.
    pub fn make_network(&self, name: &str, bounds: &Bounds) -> Result<()> {
        if self.holds_network(name, bounds)? {
            return Ok(());
        }
        self.make("make the network", self.docker.create_network(describe_network(name, bounds))).map(drop)
    }

    /// True where there is such a network.
    ///
    /// # Errors
    /// Where the engine cannot be asked, or has one of that name that leads elsewhere.
    pub fn holds_network(&self, name: &str, bounds: &Bounds) -> Result<bool> {
        let Some(found) = self.network(name)? else { return Ok(false) };
        if has_bounds(&found, name, bounds) {
            return Ok(true);
        }
        Err(Error::new(OTHER_NETWORK, format!("there is a network {name} already, and it is not as lsm makes it"))
            .hint(format!("it is left as it is; where nothing needs it: docker network rm {name}")))
    }

    /// True where a network has this name that is not as lsm makes one, for a signer or a trial: somebody else's.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn has_other_network(&self, name: &str) -> Result<bool> {
        Ok(self.network(name)?.is_some_and(|found| !is_lsms(&found, name)))
    }

    /// Addresses that are free on this host: those that the engine itself gives to a network of this name, which is gone
    /// again at once. Only where a network's addresses were asked for may its containers ask for theirs.
    ///
    /// # Errors
    /// Where it has none left, or the name is taken.
    pub fn find_addresses(&self, name: &str) -> Result<Ipv4Net> {
        let wanted = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            ..Default::default()
        };
        self.make("find a network's addresses", self.docker.create_network(wanted))?;
        let made = self.look("look at the network", self.docker.inspect_network(name, None::<InspectNetworkOptions>));
        self.remove(Kind::Network, name)?;
        let nets = made?.and_then(|network| network.ipam?.config).into_iter().flatten();
        let found = nets.filter_map(|net| net.subnet?.parse().ok()).next();
        found.ok_or_else(|| Error::new(NO_NET, format!("the engine has no addresses for the network {name}")))
    }

    /// Makes a volume; one that is there stays as it is.
    ///
    /// # Errors
    /// Where the engine refuses.
    pub fn make_volume(&self, name: &str) -> Result<()> {
        let wanted = VolumeCreateRequest { name: Some(name.to_owned()), ..Default::default() };
        self.make("make the volume", self.docker.create_volume(wanted)).map(drop)
    }

    /// Makes a container of `body`, the API's JSON, in the place of whatever has its name; with a `mark` it says by that what
    /// it was made from.
    ///
    /// # Errors
    /// Where the engine refuses.
    pub fn replace(&self, name: &str, body: &str, mark: Option<&str>) -> Result<()> {
        let bad = |e| Error::new(BAD_BODY, format!("what the container {name} is made of cannot be read")).because(e);
        let mut body: ContainerCreateBody = serde_json::from_str(body).map_err(bad)?;
        if let Some(mark) = mark {
            body.labels.get_or_insert_default().insert(MADE_FROM.to_owned(), mark.to_owned());
        }
        self.remove(Kind::Container, name)?;
        let warnings = self.create(name, &body)?;
        // Once: of those without a mark each has one beside it that stays.
        warnings
            .iter()
            .filter(|_| mark.is_some())
            .for_each(|said| ui::note(&format!("the engine says of {name}: {said}")));
        Ok(())
    }

    /// Gives an image with this number a name.
    ///
    /// # Errors
    /// Where there is none any more.
    pub fn name_image(&self, number: &str, name: &str) -> Result<()> {
        let (repo, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
        self.make("name the image", self.docker.tag_image(number, Some(options)))
    }

    /// Takes something away, a container after it was stopped; nothing where it is not there.
    ///
    /// # Errors
    /// Where it is in use.
    pub fn remove(&self, kind: Kind, name: &str) -> Result<()> {
        // The engine refuses what is asked of it twice at once.
        process::hold_interrupt(|| self.take_away(kind, name))
    }

    fn take_away(&self, kind: Kind, name: &str) -> Result<()> {
        match kind {
            Kind::Image => {
                let options = RemoveImageOptions { noprune: false, ..Default::default() };
                self.look("remove the image", self.docker.remove_image(name, Some(options), None)).map(drop)
            }
            Kind::Network => self.look("remove the network", self.docker.remove_network(name)).map(drop),
            Kind::Volume => {
                self.look("remove the volume", self.docker.remove_volume(name, None::<RemoveVolumeOptions>)).map(drop)
            }
            Kind::Container => {
                self.stop(name)?;
                let options = RemoveContainerOptions { force: true, ..Default::default() };
                self.look("remove the container", self.docker.remove_container(name, Some(options))).map(drop)
            }
        }
    }
}

/// A network as the engine's API is told of it.
fn describe_network(name: &str, bounds: &Bounds) -> NetworkCreateRequest {
    let option = |name: &str, value: &str| (format!("com.docker.network.bridge.{name}"), value.to_owned());
    let mut options = HashMap::from([option("enable_ip_masquerade", "false")]);
    let mut wanted =
        NetworkCreateRequest { name: name.to_owned(), driver: Some("bridge".to_owned()), ..Default::default() };
    match bounds {
        Bounds::Bridge(bridge) => options.extend([option("name", bridge), option("enable_icc", "false")]),
        Bounds::Inside(net) => {
            let net = IpamConfig { subnet: Some(net.to_string()), ..Default::default() };
            wanted.ipam = Some(Ipam { config: Some(vec![net]), ..Default::default() });
            wanted.internal = Some(true);
        }
    }
    wanted.options = Some(options);
    wanted
}

/// True where a network leads where these bounds say. The engine may have given it more options than lsm asks for: those of
/// its settings (`default-network-opts`).
fn has_bounds(found: &NetworkInspect, name: &str, bounds: &Bounds) -> bool {
    let wanted = describe_network(name, bounds);
    let has =
        |(option, value): (&String, &String)| found.options.as_ref().and_then(|all| all.get(option)) == Some(value);
    let asked = nets(wanted.ipam.as_ref());
    found.driver == wanted.driver
        && found.internal.unwrap_or(false) == wanted.internal.unwrap_or(false)
        && wanted.options.iter().flatten().all(has)
        // Where none was asked for the engine chose.
        && (asked.is_empty() || asked == nets(found.ipam.as_ref()))
}

/// True of a signer's network, and of a trial's, whose addresses the engine chose.
fn is_lsms(found: &NetworkInspect, name: &str) -> bool {
    let inside = nets(found.ipam.as_ref()).into_iter().filter_map(|net| net.parse().ok()).map(Bounds::Inside);
    [Bounds::Bridge(name.to_owned())].into_iter().chain(inside).any(|bounds| has_bounds(found, name, &bounds))
}

fn nets(ipam: Option<&Ipam>) -> Vec<&str> {
    let configs = ipam.and_then(|ipam| ipam.config.as_ref()).into_iter().flatten();
    configs.filter_map(|net| net.subnet.as_deref()).collect()
}

fn mark_of(found: &ContainerInspectResponse) -> Option<String> {
    found.config.as_ref()?.labels.as_ref()?.get(MADE_FROM).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network as an engine shows the one that it was told of.
    fn shown(name: &str, bounds: &Bounds) -> NetworkInspect {
        let made = describe_network(name, bounds);
        NetworkInspect {
            driver: made.driver,
            internal: made.internal,
            options: made.options,
            ipam: made.ipam,
            ..Default::default()
        }
    }

    #[test]
    fn a_network_is_held_to_what_lsm_asks_for_and_may_have_what_the_engine_adds() {
        let bounds = [Bounds::Bridge("lsm-signer".to_owned()), Bounds::Inside("172.30.0.0/16".parse().expect("a net"))];
        let is_known = |found: &NetworkInspect, bounds| {
            let known = has_bounds(found, "lsm-signer", bounds);
            assert_eq!(is_lsms(found, "lsm-signer"), known);
            known
        };
        for bounds in &bounds {
            let made = shown("lsm-signer", bounds);
            assert!(is_known(&made, bounds));
            let mut more = made.clone();
            let mtu = ("com.docker.network.driver.mtu".to_owned(), "1450".to_owned());
            more.options.get_or_insert_default().extend([mtu]);
            assert!(is_known(&more, bounds), "daemon.json adds to it");
            for option in made.options.iter().flatten().map(|(option, _)| option) {
                let (mut less, mut other) = (more.clone(), more.clone());
                less.options.get_or_insert_default().remove(option);
                other.options.get_or_insert_default().insert(option.clone(), "true".to_owned());
                assert!(!is_known(&less, bounds) && !is_known(&other, bounds), "{option}");
            }
            let driver = NetworkInspect { driver: Some("macvlan".to_owned()), ..made.clone() };
            let opened = NetworkInspect { internal: made.internal.is_none().then_some(true), ..made };
            assert!(!is_known(&driver, bounds) && !is_known(&opened, bounds));
        }
        let elsewhere = shown("lsm-signer", &Bounds::Inside("172.31.0.0/16".parse().expect("a net")));
        assert!(!has_bounds(&elsewhere, "lsm-signer", &bounds[1]), "other addresses than those that were found");
        assert!(is_lsms(&elsewhere, "lsm-signer"), "a trial's, whatever its addresses");
    }
}
