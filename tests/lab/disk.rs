//! What a host's root is on: a layer over the pristine system, a small one, or an ext4 image whose power can be cut.

use super::process::Done;
use super::site::tool;
use super::wait_for;
use nix::libc;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kinds of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// A layer on this machine's own disk, where it can carry one, else in memory.
    Layer,
    /// A layer that takes only so many megabytes more than the pristine system.
    Small(u64),
    /// A file system of its own in a file.
    Image,
}

/// The bytes of a disk image; most of it is a hole.
const IMAGE_SIZE: u64 = 1500 << 20;

impl Disk {
    /// Lays a new disk with the system `pristine` and mounts it at `root`; what it is made of is kept in `folder`.
    #[track_caller]
    pub fn lay(self, pristine: &Path, folder: &Path, root: &Path) {
        fs::create_dir_all(root).expect("a folder for the host");
        let layers = folder.join("disk");
        match self {
            Self::Image => {
                make_image(pristine, &image(folder), IMAGE_SIZE);
                // Another host's mount namespace begins with copies of this one's mounts: what is unmounted here has to go
                // there too, or the old file system lives on below the next one (mount_namespaces(7), shared subtrees).
                call("mount", &["--bind", &text(folder), &text(folder)]).ok();
                call("mount", &["--make-shared", &text(folder)]).ok();
                mount_image(folder, root);
                return;
            }
            Self::Layer => {
                fs::create_dir(&layers).expect("a folder for the host");
                // A machine whose disk is itself an overlay cannot carry another one: memory can.
                if overlay(pristine, &layers, root).code == 0 {
                    return;
                }
                memory(&layers, "size=2g");
            }
            Self::Small(megabytes) => {
                fs::create_dir(&layers).expect("a folder for the host");
                memory(&layers, &format!("size={megabytes}m"));
            }
        }
        overlay(pristine, &layers, root).ok();
    }
}

/// The image of a host whose things are in `folder`.
pub fn image(folder: &Path) -> PathBuf {
    folder.join("image")
}

/// Makes an ext4 file system of so many bytes with the system `pristine` in the new file `file`.
#[track_caller]
pub fn make_image(pristine: &Path, file: &Path, size: u64) {
    make_blank(file, size);
    let lazily = "lazy_itable_init=1,lazy_journal_init=1";
    call("mkfs.ext4", &["-q", "-F", "-E", lazily, "-d", &text(pristine), &text(file)]).ok();
}

/// Makes the file of a disk on which there is nothing yet.
#[track_caller]
pub fn make_blank(file: &Path, size: u64) {
    File::create(file).and_then(|file| file.set_len(size)).expect("a file for the disk");
}

/// Mounts the image in `folder` at `root`: the kernel replays what its journal has.
#[track_caller]
pub fn mount_image(folder: &Path, root: &Path) {
    // Not every five seconds, as by default: what nobody has synced is still lost when a busy machine is slow to the cut.
    call("mount", &["-o", "loop,commit=300", &text(&image(folder)), &text(root)]).ok();
}

/// Unmounts what [`mount_image`] did, and returns when nothing of it is left. All that ran on it has ended.
#[track_caller]
pub fn unmount_image(folder: &Path, root: &Path) {
    call("umount", &[&text(root)]).ok();
    let image = text(&image(folder));
    wait_for("the end of the image's device", Duration::from_secs(30), || {
        call("losetup", &["--associated", &image]).ok().is_empty().then_some(())
    });
}

/// What a cut of the power does to the ext4 file system at `root`: from this moment on nothing reaches the image, and what
/// has not reached it yet is lost, the file system's own journal not excepted.
///
/// # Panics
/// Where the kernel refuses.
pub fn cut_power(root: &Path) {
    /// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (fs/ext4/ext4.h).
    const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
    const WITHOUT_FLUSHING: u32 = 2;
    let folder = File::open(root).expect("it is mounted");
    // SAFETY: the kernel reads one u32 from the pointer, which is valid for the call.
    let answer = unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &WITHOUT_FLUSHING) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Mounts at `root` the folder `pristine` with a writable layer kept in `layers`.
fn overlay(pristine: &Path, layers: &Path, root: &Path) -> Done {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    fs::create_dir_all(&upper).expect("a folder for the layer");
    fs::create_dir_all(&work).expect("a folder for the layer");
    let options = format!("lowerdir={},upperdir={},workdir={}", text(pristine), text(&upper), text(&work));
    call("mount", &["-t", "overlay", "-o", &options, "overlay", &text(root)])
}

fn memory(at: &Path, size: &str) {
    call("mount", &["-t", "tmpfs", "-o", size, "tmpfs", &text(at)]).ok();
}

fn call(name: &str, args: &[&str]) -> Done {
    tool(name, &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
