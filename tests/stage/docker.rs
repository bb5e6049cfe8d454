//! A host with a dockerd, and all that a signer in a container could change on it.

use super::Stage;
use crate::lab::host::Debian;

/// Everything that an install could change, the engine's things included. What dockerd keeps to itself does not count: its
/// own rules come back in another order. Of Debian's own programs size and time say enough.
const STATE: &str = "
look() {
    find \"$@\" -xdev \\( -path /run/systemd -o -path /run/log -o -path '/run/docker*' -o -path /run/containerd \
        -o -path /var/lib/containerd -o -path /root/out -o -path /var/lib/systemd -o -path /run/netns \\) -prune \
        -o \\( -type f -a -not -name lock \\) -fprint0 /dev/fd/3 -printf '%p %y %m %U:%G\\n' -o -printf '%p %y %m %U:%G %l\\n'
}
look /etc /usr/local /var/lib /root /home /run 3>/tmp/files | LC_ALL=C sort
xargs -0 sha256sum </tmp/files | LC_ALL=C sort
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
        self.host.sh(STATE).ok().lines().map(str::to_owned).collect()
    }
}
