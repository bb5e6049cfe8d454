//! A host with a dockerd, and all that a signer in a container could change on it.

use super::{Stage, list_hashed};
use crate::lab::host::Debian;

/// Where an install could change something, but for what systemd and dockerd write for themselves.
const FOLDERS: &str = "/etc /usr/local /var/lib /root /home /run -xdev \\( -path /run/systemd -o -path /run/log -o -path '/run/docker*' \
    -o -path /run/containerd -o -path /var/lib/containerd -o -path /root/out -o -path /var/lib/systemd -o -path /run/netns \\) -prune -o";
/// Everything else that it could, the engine's things included. What dockerd keeps to itself does not count: its own rules
/// come back in another order. Of Debian's own programs size and time say enough.
const STATE: &str = "
find /usr -xdev -path /usr/local -prune -o -printf '%p %y %m %U:%G %s %T@ %l\\n' | LC_ALL=C sort
systemctl list-unit-files --no-legend --no-pager
docker ps -a --format '{{.Names}} {{.Image}}'; docker images -a -q; docker volume ls -q; docker network ls --format '{{.Name}}'
iptables-save | grep -v '^[:#]'; nft list tables
";

impl Stage {
    /// Boots a host with a dockerd, and brings the newest release's archive there.
    pub fn in_docker(name: &str) -> Option<Self> {
        Self::boot_of(Debian::Docker, name)
    }

    /// That of this host.
    pub fn state_in_docker(&self) -> Vec<String> {
        let state = list_hashed(FOLDERS, "-type f -a -not -name lock") + STATE;
        self.host.sh(&state).ok().lines().map(str::to_owned).collect()
    }
}
