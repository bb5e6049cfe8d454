//! The launch policy of a signer's lnd.

use crate::error::Result;
use crate::spec::Instance;
use askama::Template;
use std::path::Path;

/// What every lnd reads besides its own files: names, the local time, the size of large pages, the length of a backlog.
const READ: [&str; 6] = [
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/localtime",
    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
    "/proc/sys/net/core/somaxconn",
];

/// What a signer's lnd may reach. A path may begin with `$CREDENTIALS_DIRECTORY`.
pub struct LaunchPolicy<'a> {
    /// Which signer.
    pub instance: &'a Instance,
    /// Files and folders of its own to read.
    pub read: &'a [&'a Path],
    /// Files and folders to write.
    pub write: &'a [&'a Path],
    /// TCP ports to listen on.
    pub listen: &'a [u16],
    /// Its unix socket.
    pub socket: &'a Path,
    /// Its socket is for its group too.
    pub group: bool,
    /// Its database is SQLite's.
    pub sqlite: bool,
    /// How many processes and threads its user may have, where that user is lnd's own.
    pub processes: Option<u64>,
}

#[derive(Template)]
#[template(path = "launch.toml", escape = "none")]
struct Text<'a> {
    instance: &'a Instance,
    read: Vec<String>,
    write: Vec<String>,
    listen: &'a [u16],
    socket: String,
    group: bool,
    sqlite: bool,
    processes: Option<u64>,
}

/// The text of a launch policy ([`crate::sandbox::policy`] reads it).
///
/// # Errors
/// Where the template cannot be rendered.
pub fn render_launch_policy(policy: &LaunchPolicy<'_>) -> Result<String> {
    let known = READ.iter().map(Path::new);
    super::render(&Text {
        instance: policy.instance,
        read: policy.read.iter().copied().chain(known).map(quote).collect(),
        write: policy.write.iter().copied().map(quote).collect(),
        listen: policy.listen,
        socket: quote(policy.socket),
        group: policy.group,
        sqlite: policy.sqlite,
        processes: policy.processes,
    })
}

/// A path as TOML writes a text.
fn quote(path: &Path) -> String {
    toml::Value::from(path.display().to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::policy::Policy;

    #[test]
    fn what_is_rendered_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (odd, socket) = (Path::new("/home/a \"b\"\\c/signer"), Path::new("/run/lsm/signer/lnd.sock"));
        let policy = LaunchPolicy {
            instance: &Instance::default(),
            read: &[Path::new("/etc/lsm/signer-lnd.conf")],
            write: &[odd],
            listen: &[10012, 10013],
            socket,
            group: true,
            sqlite: true,
            processes: Some(256),
        };
        let path = dir.path().join("launch.toml");
        std::fs::write(&path, render_launch_policy(&policy).unwrap()).unwrap();
        let read = Policy::read(&path).unwrap();
        assert!(read.sqlite && read.group);
        assert_eq!((&read.write[..], &read.listen[..]), (&[odd.to_owned()][..], &[10012, 10013][..]));
        assert_eq!((read.read[0].as_path(), read.socket.as_deref()), (policy.read[0], Some(socket)));
        assert_eq!(
            (read.read.len(), read.limits.processes, read.limits.files),
            (1 + READ.len(), Some(256), Some(4096))
        );
    }
}
