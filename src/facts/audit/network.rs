//! What of the host can be reached, and whether its packet filter is the one on disk.

mod sockets;

pub(in crate::facts) use sockets::address;
pub use sockets::{Holder, Protocol, Socket};

use super::{Answer, Place, names, read};
use crate::facts::filter;
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// lsm's own filter on disk.
const FIREWALL: &str = "/etc/lsm/firewall.nft";
/// Where systemd links what starts at boot (systemd.unit(5), WantedBy=).
const WANTED: &str = "/etc/systemd/system";
/// Services that load a packet filter at boot.
const KEEPERS: &[&str] = &[
    "lsm-firewall.service",
    "nftables.service",
    "firewalld.service",
    "ufw.service",
    "netfilter-persistent.service",
    "iptables.service",
];
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
    /// Which services load a packet filter at boot.
    pub keepers: Answer<Vec<String>>,
    /// How Docker's own socket lies.
    pub docker: Answer<Place>,
    /// Settings of the interfaces, `all` among them: `ipv4/all/rp_filter` and so on. Absent where there is no such network.
    pub interfaces: Answer<BTreeMap<String, String>>,
}

impl Network {
    pub(super) fn gather() -> Self {
        let (sockets, sniffers) = sockets::gather();
        Self {
            sockets,
            sniffers,
            as_on_disk: as_on_disk(Path::new(FIREWALL)),
            keepers: keepers(Path::new(WANTED)),
            docker: Place::look(Path::new("/run/docker.sock")),
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

fn keepers(wanted: &Path) -> Answer<Vec<String>> {
    let folders = match names(wanted) {
        Answer::Is(folders) => folders,
        other => return other.map(|_| Vec::new()),
    };
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| folder.extension().is_some_and(|kind| kind == "wants")) {
        found.extend(KEEPERS.iter().filter(|keeper| folder.join(keeper).exists()).map(|keeper| (*keeper).to_owned()));
    }
    found.sort();
    found.dedup();
    Answer::Is(found)
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
