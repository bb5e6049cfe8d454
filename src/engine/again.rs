//! From what a container, whoever made it, can be made again: what the engine tells of it, as it is told of a new one.

use super::Engine;
use super::object::BAD_BODY;
use crate::error::{Error, Result};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, EndpointSettings, HostConfig, MountPoint, NetworkingConfig,
};
use std::path::Path;

impl Engine {
    /// From what a container can be made again, in the API's JSON; nothing where there is none.
    ///
    /// # Errors
    /// Where the engine cannot be asked, or does not tell all of it.
    pub fn body_of(&self, container: &str) -> Result<Option<Vec<u8>>> {
        self.inspect(container)?.map(|found| render_body(container, found)).transpose()
    }
}

fn render_body(name: &str, found: ContainerInspectResponse) -> Result<Vec<u8>> {
    let bad = || {
        Error::new(BAD_BODY, format!("what the container {name} is made of cannot be read"))
            .hint("it is left as it is: without that it could not be made again")
    };
    let (config, mut host) = found.config.zip(found.host_config).ok_or_else(bad)?;
    // By way of text, as the engine is told of it: what reads and writes that is in the program anyway.
    let config = serde_json::to_vec(&config).and_then(|text| serde_json::from_slice(&text));
    let mut body: ContainerCreateBody = config.map_err(|e| bad().because(e))?;
    name_volumes(&mut host, found.mounts.unwrap_or_default());
    body.host_config = Some(host);
    let id = found.id.unwrap_or_default();
    body.networking_config = found.network_settings.and_then(|settings| settings.networks).map(|networks| {
        let asked = networks.into_iter().map(|(network, endpoint)| (network, asked_for(endpoint, &id)));
        NetworkingConfig { endpoints_config: Some(asked.collect()) }
    });
    serde_json::to_vec(&body).map_err(|e| bad().because(e))
}

/// Asks for each volume by its name: of one that the engine named another container would get an empty one in its place.
fn name_volumes(host: &mut HostConfig, mounts: Vec<MountPoint>) {
    for mount in mounts.into_iter().filter(|mount| mount.typ.as_deref() == Some("volume")) {
        let (Some(volume), Some(place)) = (mount.name, mount.destination) else { continue };
        let is_there = |target: &Option<String>| target.as_ref().is_some_and(|to| Path::new(to) == Path::new(&place));
        if let Some(asked) = host.mounts.iter_mut().flatten().find(|asked| is_there(&asked.target)) {
            asked.source = Some(volume);
        } else if !host.binds.iter().flatten().any(|bind| bind.starts_with(&format!("{volume}:"))) {
            let only_read = if mount.rw == Some(false) { ":ro" } else { "" };
            host.binds.get_or_insert_default().push(format!("{volume}:{place}{only_read}"));
        }
    }
}

/// What of an endpoint somebody asked for, and not what the engine chose.
fn asked_for(found: EndpointSettings, id: &str) -> EndpointSettings {
    // Older engines count a container's number among its aliases; the next one has another.
    let aliases = found.aliases.map(|all| all.into_iter().filter(|alias| !is_number(alias, id)).collect());
    let EndpointSettings { ipam_config, links, driver_opts, gw_priority, .. } = found;
    EndpointSettings { ipam_config, links, aliases, driver_opts, gw_priority, ..Default::default() }
}

/// Takes all networks out of `body` but the one that it begins with: that of its mode, else any.
pub(super) fn split_networks(body: &mut ContainerCreateBody) -> Vec<(String, EndpointSettings)> {
    let mode = body.host_config.as_ref().and_then(|host| host.network_mode.clone()).unwrap_or_default();
    let Some(networks) = body.networking_config.as_mut().and_then(|config| config.endpoints_config.as_mut()) else {
        return Vec::new();
    };
    let first = if networks.contains_key(&mode) { Some(mode) } else { networks.keys().min().cloned() };
    let (kept, others) = networks.drain().partition::<Vec<_>, _>(|(network, _)| Some(network) == first.as_ref());
    *networks = kept.into_iter().collect();
    others
}

/// An engine's short number is twelve digits of the long one.
fn is_number(alias: &str, id: &str) -> bool {
    alias.len() == 12 && id.starts_with(alias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told() -> Value {
        json!({
            "Id": "0123456789abcdef",
            "Config": {"Image": "lnd", "Cmd": ["/lnd"], "Volumes": {"/cache": {}}},
            "HostConfig": {
                "Binds": ["named:/root/.lnd"],
                "Mounts": [{"Type": "volume", "Target": "/logs/"}],
            },
            "Mounts": [
                {"Type": "volume", "Name": "named", "Destination": "/root/.lnd", "RW": true},
                {"Type": "volume", "Name": "aaaa", "Destination": "/cache", "RW": false},
                {"Type": "volume", "Name": "bbbb", "Destination": "/logs", "RW": true},
                {"Type": "bind", "Source": "/etc/lnd.conf", "Destination": "/lnd.conf"},
            ],
            "NetworkSettings": {"Networks": {"lan": {
                "IPAMConfig": {"IPv4Address": "172.30.0.5"}, "Links": ["other:peer"],
                "Aliases": ["signer", "0", "0123456789ab"], "IPAddress": "172.30.0.5", "EndpointID": "x",
            }}},
        })
    }

    fn render(told: Value) -> Result<Value> {
        let body = render_body("litd-signer", serde_json::from_value(told).unwrap())?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_container_is_made_again_with_its_volumes_names_and_addresses() {
        let body = render(told()).unwrap();
        assert_eq!((&body["Image"], &body["Cmd"]), (&json!("lnd"), &json!(["/lnd"])));
        assert_eq!(body["HostConfig"]["Binds"], json!(["named:/root/.lnd", "aaaa:/cache:ro"]));
        assert_eq!(body["HostConfig"]["Mounts"][0]["Source"], "bbbb");
        let lan = json!({
            "IPAMConfig": {"IPv4Address": "172.30.0.5"}, "Links": ["other:peer"], "Aliases": ["signer", "0"],
        });
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({"lan": lan}));
    }

    #[test]
    fn a_container_begins_with_the_network_of_its_mode_and_gets_the_others_afterwards() {
        let named = |networks: &[&str], mode: &str| {
            let endpoints: serde_json::Map<_, _> =
                networks.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            let body = json!({
                "HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": endpoints},
            });
            let mut body: ContainerCreateBody = serde_json::from_value(body).unwrap();
            let others = split_networks(&mut body);
            let first = body.networking_config.unwrap().endpoints_config.unwrap();
            (first.into_keys().collect::<Vec<_>>(), others.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(named(&["a", "b"], "b"), (vec!["b".to_owned()], vec!["a".to_owned()]));
        assert_eq!(named(&["a", "b"], "default"), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(named(&["a"], "default"), (vec!["a".to_owned()], vec![]));
        assert!(split_networks(&mut ContainerCreateBody::default()).is_empty());
    }

    #[test]
    fn what_is_not_told_is_not_taken_for_empty() {
        for part in ["Config", "HostConfig"] {
            let mut told = told();
            told[part].take();
            assert_eq!(render(told).unwrap_err().code(), BAD_BODY, "{part}");
        }
    }
}
