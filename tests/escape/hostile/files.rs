//! Files: what is others', and what would make others trip.

use crate::sys::{HERE, NOTHING, Tried, append, c, open, plain, read, read_from, sys};
use crate::{Attempt, CONF, FOLDER, POLICY, World, root, user};

const O_DIRECTORY: usize = 0o200000;
const S_IFBLK: usize = 0o060000;
const S_IFIFO: usize = 0o010000;

pub const ALL: &[Attempt] = &[
    root("read /etc/shadow", "secret", |_| text("/etc/shadow")),
    root("read a file in root's home", "secret", |_| text("/root/secret")),
    user("read a file in another user's home", "secret", |_| text("/home/other/secret")),
    user("read a file that all may read", "secret", |_| text("/srv/secret")),
    user("list the folder of all users", "said", |_| list("/home")),
    root("read the sealed credentials of all signers", "secret", |_| text("/etc/credstore.encrypted/other")),
    root("read another signer's folder", "secret", |_| text("/var/lib/lsm/other/secret")),
    root("read /etc/shadow through /proc/1/root", "secret", |_| text("/proc/1/root/etc/shadow")),
    root("read /etc/shadow by its file handle", "secret", by_handle),
    root("read a disk through a device node in /dev", "said", |w| disk(w, "/dev/escape")),
    root("read a disk through a device node of its own", "said", |w| disk(w, &format!("{FOLDER}/disk"))),
    root("read the kernel's memory image", "said", |_| open("/proc/kcore", 0).map(|_| String::new())),
    user("read another process's environment", "secret", |w| text(&format!("/proc/{}/environ", w.get("victim")))),
    user("watch another user's home for changes", "said", |_| watch("/home/other")),
    root("watch all files of the host (fanotify)", "said", |_| plain(sys!(FANOTIFY_INIT, 0, 0))),
    root("write into /etc", "file /etc/escaped", |w| leave(w, "/etc/escaped")),
    root("write beside its own program", "file /usr/local/lib/lsm/lnd/escaped", |w| {
        leave(w, "/usr/local/lib/lsm/lnd/escaped")
    }),
    root("change its own settings", "file /etc/lsm/signer-lnd.conf", |w| leave(w, CONF)),
    root("change its own sandbox", "file /etc/lsm/signer-launch.toml", |w| leave(w, POLICY)),
    root("write into another signer's folder", "file /var/lib/lsm/other/escaped", |w| {
        leave(w, "/var/lib/lsm/other/escaped")
    }),
    user("write a file that all may write", "file /srv/board", |w| leave(w, "/srv/board")),
    user("write into the host's /tmp", "file /tmp/escaped", |w| leave(w, "/tmp/escaped")),
    user("write into the host's /var/tmp", "file /var/tmp/escaped", |w| leave(w, "/var/tmp/escaped")),
    user("write into the host's /dev/shm", "file /dev/shm/escaped", |w| leave(w, "/dev/shm/escaped")),
    root("write a kernel setting", "said", |_| rewrite("/proc/sys/net/ipv4/ip_default_ttl")),
    root("write the program for core dumps", "said", |_| rewrite("/proc/sys/kernel/core_pattern")),
    root("leave its control group", "said", |_| append("/sys/fs/cgroup/init.scope/cgroup.procs", "0\n").map(|()| String::new())),
    root("write the kernel's log", "said", |_| append("/dev/kmsg", "escaped\n").map(|()| String::new())),
    user("make a pipe in its own folder", "said", |_| {
        plain(sys!(MKNODAT, HERE, c(&format!("{FOLDER}/pipe")).as_ptr(), S_IFIFO | 0o666, 0))
    }),
    user("make a link out of its own folder", "said", |_| {
        plain(sys!(SYMLINK, c"/etc/shadow".as_ptr(), c(&format!("{FOLDER}/link")).as_ptr()))
    }),
    root("make a second name for /etc/shadow", "said", |_| {
        plain(sys!(LINK, c"/etc/shadow".as_ptr(), c(&format!("{FOLDER}/shadow")).as_ptr()))
    }),
    user("make a file of its own setuid", "said", |_| chmod("own", 0o4755)),
    user("open its own folder to all", "said", |_| plain(sys!(CHMOD, c(FOLDER).as_ptr(), 0o777))),
    user("give a file of its own to others by an attribute", "said", |_| {
        append(&format!("{FOLDER}/own"), "x")?;
        let own = c(&format!("{FOLDER}/own"));
        plain(sys!(SETXATTR, own.as_ptr(), c"user.escaped".as_ptr(), c"x".as_ptr(), 1, 0))
    }),
];

fn text(path: &str) -> Tried {
    Ok(one_line(&read(path)?))
}

/// A result is a line.
pub fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(['\n', '\0'], " ")
}

fn list(path: &str) -> Tried {
    let folder = open(path, O_DIRECTORY)?;
    let mut entries = [0_u8; 4096];
    plain(sys!(GETDENTS64, folder, entries.as_mut_ptr(), entries.len()))
}

fn leave(world: &World, path: &str) -> Tried {
    append(path, &format!("\n# {}\n", world.token())).map(|()| String::new())
}

/// Writes to a setting what it is already.
fn rewrite(path: &str) -> Tried {
    let old = read(path)?;
    let file = open(path, 1)?;
    plain(sys!(WRITE, file, old.as_ptr(), old.len()))
}

fn disk(world: &World, node: &str) -> Tried {
    sys!(MKNODAT, HERE, c(node).as_ptr(), S_IFBLK | 0o600, world.number("disk"))?;
    let file = open(node, 0)?;
    let mut sector = [0_u8; 512];
    plain(sys!(READ, file, sector.as_mut_ptr(), sector.len()))
}

fn watch(path: &str) -> Tried {
    let watcher = sys!(INOTIFY_INIT1, 0)?;
    plain(sys!(INOTIFY_ADD_WATCH, watcher, c(path).as_ptr(), 0x100 | 0x2))
}

fn chmod(name: &str, mode: usize) -> Tried {
    let path = format!("{FOLDER}/{name}");
    append(&path, "x")?;
    plain(sys!(CHMOD, c(&path).as_ptr(), mode))
}

fn by_handle(_: &World) -> Tried {
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let mut mount = 0_u32;
    sys!(NAME_TO_HANDLE_AT, HERE, c"/etc/shadow".as_ptr(), handle.as_mut_ptr(), &raw mut mount, 0)?;
    let near = open("/etc", O_DIRECTORY)?;
    let file = sys!(OPEN_BY_HANDLE_AT, near, handle.as_ptr(), 0)?;
    let text = read_from(file)?;
    if text.is_empty() { Err(NOTHING) } else { Ok(one_line(&text)) }
}
