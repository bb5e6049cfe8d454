//! What of the host can be reached, and whether its packet filter is the one on disk.

mod sockets;

pub(in crate::facts) use sockets::address;
pub use sockets::{Holder, Protocol, Socket};

use super::container::{Engines, USUAL};
use super::{Answer, Place, Signer, names, read};
use crate::facts::filter;
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// lsm's own filter on disk.
const FIREWALL: &str = "/etc/lsm/firewall.nft";
/// Where the kernel has the settings of each interface, and which of them are read (ip-sysctl.rst).
const INTERFACES: &[(&str, &[&str])] = &[
    ("/proc/sys/net/ipv4/conf", &["accept_redirects", "accept_source_route", "rp_filter", "route_localnet"]),
    ("/proc/sys/net/ipv6/conf", &["accept_redirects"]),
];

/// What of the host can be reached, and whether its packet filter is the one on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    /// What waits for packets from somebody it has not called, in the host's own network.
    pub sockets: Answer<Vec<Socket>>,
    /// Who reads packets below the packet filter (packet(7)), each once.
    pub sniffers: Answer<Vec<Holder>>,
    /// lsm's table in the kernel is what its file makes; absent where there is no such file.
    pub as_on_disk: Answer<bool>,
    /// How Docker's own socket lies.
    pub docker: Answer<Place>,
    /// Who else has Docker's socket: containers, by name. Absent where there is no Docker.
    #[serde(default = "unasked")]
    pub sharers: Answer<BTreeSet<String>>,
    /// Settings of the interfaces, `all` among them: `ipv4/all/rp_filter` and so on. Absent where there is no such network.
    pub interfaces: Answer<BTreeMap<String, String>>,
}

fn unasked() -> Answer<BTreeSet<String>> {
    Answer::Unknown("these facts do not say".to_owned())
}

impl Network {
    pub(super) fn gather(signers: &[Signer], engines: &Engines) -> Self {
        let (sockets, sniffers) = sockets::gather();
        // Another engine than the usual one is known where a signer is in it.
        let named = signers.iter().filter_map(Signer::docker).map(|docker| docker.engine.as_path());
        Self {
            sockets,
            sniffers,
            as_on_disk: as_on_disk(Path::new(FIREWALL)),
            docker: Place::look(Path::new(USUAL)),
            sharers: engines.sharers(&named.chain([Path::new(USUAL)]).collect()),
            interfaces: interfaces(),
        }
    }
}

fn as_on_disk(firewall: &Path) -> Answer<bool> {
    match Answer::of_file(firewall, || file::read_text(firewall)) {
        Answer::Is(text) => filter::is_live(&text).map_or_else(
            || Answer::Unknown(format!("{} cannot be held against the kernel's table", firewall.display())),
            Answer::Is,
        ),
        other => other.map(|_| false),
    }
}

fn interfaces() -> Answer<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for (folder, wanted) in INTERFACES {
        let folders = match names(Path::new(folder)) {
            Answer::Is(folders) => folders,
            // A kernel without IPv6.
            Answer::Absent => continue,
            Answer::Unknown(why) => return Answer::Unknown(why),
        };
        for (folder, name) in folders.iter().flat_map(|folder| wanted.iter().map(move |name| (folder, name))) {
            match read(&folder.join(name)) {
                Answer::Is(text) => {
                    let path = folder.join(name);
                    let path = path.strip_prefix("/proc/sys/net").unwrap_or(&path).to_string_lossy();
                    settings.insert(path.replace("/conf/", "/"), text.trim().to_owned());
                }
                // An interface that went away meanwhile.
                Answer::Absent => {}
                Answer::Unknown(why) => return Answer::Unknown(why),
            }
        }
    }
    if settings.is_empty() { Answer::Absent } else { Answer::Is(settings) }
}
