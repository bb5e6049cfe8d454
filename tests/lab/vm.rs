//! A real machine: the pristine Debian with its own kernel in an emulator, for what a container cannot show.

use super::disk;
use super::process::{self, Daemon, Done};
use super::site::Site;
use super::{LSM, wait_for};
use data_encoding::BASE64;
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the test's `lsm` is inside.
pub const LSM_INSIDE: &str = "/root/lsm";
/// Its address, on the network card that leads nowhere.
pub const ADDRESS: &str = "10.0.2.15";
/// Whom it sees when this machine dials [`Vm::door`].
pub const GATEWAY: &str = "10.0.2.2";
/// The port of a signer.
const SIGNER: u16 = 10012;

const SIZE: u64 = 3 << 30;
const SECOND_SIZE: u64 = 256 << 20;
/// Everything is emulated, and the test machine may have other work.
const PATIENCE: Duration = Duration::from_secs(900);

/// What every boot has on the kernel's command line.
const COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0";

/// Takes scripts, one in base64 on each line, and answers each with its exit code and what it said. It needs neither
/// network nor login, so that nothing that a test breaks there cuts it off.
const SHELL: &str = r#"#!/bin/bash
exec 3<>/dev/virtio-ports/lab
while read -r line <&3; do
    base64 -d <<<"$line" >/run/lab.script
    sh /run/lab.script >/run/lab.out 2>/run/lab.err </dev/null 3>&-
    printf '%s:%s:%s\n' $? "$(base64 -w0 /run/lab.out)" "$(base64 -w0 /run/lab.err)" >&3
done
"#;
const SHELL_UNIT: &str = "[Unit]
Description=A shell for the test outside
After=dev-virtio\\x2dports-lab.device
BindsTo=dev-virtio\\x2dports-lab.device

[Service]
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
WorkingDirectory=/root
ExecStart=/opt/lab-shell
Restart=always
RestartSec=1
Delegate=yes

[Install]
WantedBy=multi-user.target
";
const NETWORK_UNIT: &str = "[Unit]
Description=The address of this host
DefaultDependencies=no
Wants=network.target sys-subsystem-net-devices-eth0.device
After=local-fs.target network-pre.target sys-subsystem-net-devices-eth0.device
Before=network.target network-online.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip address add 10.0.2.15/24 dev eth0
ExecStart=/sbin/ip link set eth0 up

[Install]
WantedBy=multi-user.target
";

/// What a machine boots by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS: nothing proves what boots.
    Bios,
    /// UEFI that starts what is signed alone.
    SecureBoot,
}

/// A machine. Dropped, it is gone with its disks.
pub struct Vm {
    site: Site,
    running: Option<Running>,
    has_tpm: bool,
    /// Where this machine dials, on loopback, to reach port [`SIGNER`] of that one.
    pub door: SocketAddr,
}

struct Running {
    emulator: Daemon,
    /// It ends with the emulator.
    _tpm: Option<Daemon>,
    wire: RefCell<BufReader<UnixStream>>,
}

impl Vm {
    /// Sets up a machine with `lsm` at [`LSM_INSIDE`] and the files of `more`, each with its path inside. It does not run.
    /// `None`, said as a skip, where this machine cannot.
    #[track_caller]
    pub fn set_up(more: &[(&Path, &str)]) -> Option<Self> {
        let pristine = pristine();
        if let Some(reason) = lacking(&pristine) {
            super::skip(&reason);
            return None;
        }
        let vm = Self { site: Site::make(), running: None, has_tpm: false, door: free_door() };
        let folder = &vm.site.folder;
        disk::make_image(&pristine, &disk::image(folder), SIZE);
        disk::make_blank(&folder.join("second"), SECOND_SIZE);
        for part in ["vmlinuz", "initrd.img"] {
            fs::copy(pristine.join(part), folder.join(part)).expect("the kernel is copied");
        }
        vm.fill(more);
        Some(vm)
    }

    /// Puts what the test needs onto the disk.
    #[track_caller]
    fn fill(&self, more: &[(&Path, &str)]) {
        let (folder, root) = (&self.site.folder, self.site.folder.join("root"));
        fs::create_dir(&root).expect("a folder");
        disk::mount_image(folder, &root);
        let units = root.join("etc/systemd/system");
        let wants = units.join("multi-user.target.wants");
        fs::create_dir_all(&wants).expect("a folder");
        for (name, unit) in [("lab-shell.service", SHELL_UNIT), ("host-network.service", NETWORK_UNIT)] {
            fs::write(units.join(name), unit).expect("the unit is written");
            symlink(Path::new("..").join(name), wants.join(name)).expect("the unit's link");
        }
        let shell = root.join("opt/lab-shell");
        fs::write(&shell, SHELL).expect("the shell is written");
        fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).expect("the mode is set");
        let lsm = program();
        for (from, to) in more.iter().copied().chain([(lsm.as_path(), LSM_INSIDE)]) {
            let to = root.join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().expect("a folder")).expect("the folder is made");
            process::copy_program(from, &to);
        }
        disk::unmount_image(folder, &root);
    }

    /// Boots with `words` on the kernel's command line, and waits until the boot is over.
    #[track_caller]
    pub fn boot(&mut self, firmware: Firmware, words: &str) {
        assert!(self.running.is_none(), "the machine already runs");
        let (folder, port) = (&self.site.folder, self.site.folder.join("port"));
        let _ = fs::remove_file(&port);
        let tpm = self.has_tpm.then(|| self.start_tpm());
        let mut emulator = Daemon::start(self.emulator(firmware, words), &folder.join("emulator"));
        let wire = wait_for("the emulator", Duration::from_secs(30), || {
            assert!(emulator.alive(), "the emulator ended: {}", self.console());
            UnixStream::connect(&port).ok()
        });
        wire.set_read_timeout(Some(PATIENCE)).expect("a limit");
        self.running = Some(Running { emulator, _tpm: tpm, wire: RefCell::new(BufReader::new(wire)) });
        // A machine that is degraded has booted too.
        self.sh("systemctl is-system-running --wait");
    }

    fn emulator(&self, firmware: Firmware, words: &str) -> Command {
        let folder = &self.site.folder;
        let shown = |name: &str| folder.join(name).display().to_string();
        let mut command = self.site.command("emulator", EMULATOR);
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-display", "none"]);
        command.args(["-nodefaults", "-no-reboot", "-kernel", &shown("vmlinuz"), "-initrd", &shown("initrd.img")]);
        command.args(["-append", &format!("{COMMAND_LINE} {words}"), "-serial", &format!("file:{}", shown("console"))]);
        for (name, id) in [("image", "a"), ("second", "b")] {
            command.args(["-drive", &format!("file={},format=raw,if=virtio,cache=unsafe,id={id}", shown(name))]);
        }
        let door = format!("hostfwd=tcp:{}-{ADDRESS}:{SIGNER}", self.door);
        command.args(["-nic", &format!("user,model=virtio-net-pci,restrict=on,{door}"), "-device", "virtio-serial"]);
        command.args(["-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng"]);
        command.args(["-chardev", &format!("socket,path={},server=on,wait=off,id=lab", shown("port"))]);
        command.args(["-device", "virtserialport,chardev=lab,name=lab"]);
        if self.has_tpm {
            command.args(["-chardev", &format!("socket,id=tpm,path={}", shown("tpm-door"))]);
            command.args(["-tpmdev", "emulator,id=chip,chardev=tpm", "-device", "tpm-tis,tpmdev=chip"]);
        }
        if firmware == Firmware::SecureBoot {
            // The variables of a machine as it is sold. What the emulator itself hands it, the kernel, it starts unasked.
            let (code, variables) = (format!("{UEFI}/{UEFI_CODE}"), shown("variables"));
            fs::copy(Path::new(UEFI).join(UEFI_VARIABLES), &variables).expect("the variables are copied");
            command.args(["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]);
            command.args(["-drive", &format!("if=pflash,format=raw,unit=0,file={code},readonly=on")]);
            command.args(["-drive", &format!("if=pflash,format=raw,unit=1,file={variables}")]);
        }
        command
    }

    /// From the next boot on it has a new TPM, in the place of any that it had. False, said as a skip, where this machine has none
    /// to give.
    #[track_caller]
    pub fn put_in_tpm(&mut self) -> bool {
        assert!(self.running.is_none(), "the machine runs");
        if lsm::host::program::find(TPM).is_none() {
            super::skip(&format!("this machine has no {TPM}"));
            return false;
        }
        let folder = self.site.folder.join("tpm");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        self.has_tpm = true;
        true
    }

    fn start_tpm(&self) -> Daemon {
        let (state, door) = (self.site.folder.join("tpm"), self.site.folder.join("tpm-door"));
        let _ = fs::remove_file(&door);
        let mut command = self.site.command("tpm", TPM);
        command.args(["socket", "--tpm2", "--terminate", "--tpmstate", &format!("dir={}", state.display())]);
        command.args(["--ctrl", &format!("type=unixio,path={}", door.display())]);
        let mut tpm = Daemon::start(command, &self.site.folder.join("tpm-said"));
        wait_for("the TPM", Duration::from_secs(30), || {
            assert!(tpm.alive(), "the TPM ended");
            door.exists().then_some(())
        });
        tpm
    }

    /// Shuts down as `systemctl poweroff` does.
    #[track_caller]
    pub fn stop(&mut self) {
        // A moment later: the shell ends with the machine, and would not get to answer.
        self.sh("systemd-run --quiet sh -c 'sleep 2 && systemctl poweroff'").ok();
        let mut running = self.running.take().expect("the machine runs");
        wait_for("the machine's end", PATIENCE, || (!running.emulator.alive()).then_some(()));
    }

    /// Runs a shell script inside, as root, to its end.
    ///
    /// # Panics
    /// Where the machine does not answer.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Done {
        let running = self.running.as_ref().expect("the machine runs");
        let mut wire = running.wire.borrow_mut();
        let asked = writeln!(wire.get_mut(), "{}", BASE64.encode(script.as_bytes()));
        let mut answer = String::new();
        if let Err(e) = asked.and_then(|()| wire.read_line(&mut answer)) {
            panic!("{script}: {e}: {}", self.console());
        }
        let mut parts = answer.trim_end().split(':');
        let code = parts.next().and_then(|code| code.parse().ok());
        let mut text = || {
            let bytes = BASE64.decode(parts.next().unwrap_or_default().as_bytes()).expect("base64");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text(), text());
        Done { code: code.unwrap_or_else(|| panic!("{script}: {answer}: {}", self.console())), stdout, stderr }
    }

    /// Runs `lsm` inside with these arguments, in which there is nothing for a shell to change.
    #[track_caller]
    pub fn lsm(&self, args: &str) -> Done {
        self.sh(&format!("{LSM_INSIDE} {args}"))
    }

    /// What the console has shown, its end.
    fn console(&self) -> String {
        let text = |name: &str| fs::read(self.site.folder.join(name)).unwrap_or_default();
        let all = [text("emulator"), text("console")].concat();
        String::from_utf8_lossy(&all[all.len().saturating_sub(3000)..]).into_owned()
    }
}

const EMULATOR: &str = "qemu-system-x86_64";
const TPM: &str = "swtpm";
/// Where Debian has the firmware, and which.
const UEFI: &str = "/usr/share/OVMF";
const UEFI_CODE: &str = "OVMF_CODE_4M.secboot.fd";
const UEFI_VARIABLES: &str = "OVMF_VARS_4M.ms.fd";

/// An address on loopback at which nobody listened just now.
fn free_door() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// The pristine system with a kernel, which `tests/run --long` built.
fn pristine() -> PathBuf {
    std::env::var_os("LSM_TEST_VM").map_or_else(|| super::cache().join("root-vm"), PathBuf::from)
}

/// The lsm that needs no library where there is one: the C library inside is older than this machine's may be.
fn program() -> PathBuf {
    let fixed = std::env::var_os("LSM_TEST_STATIC").map(PathBuf::from).filter(|path| path.is_file());
    fixed.unwrap_or_else(|| LSM.into())
}

/// Why this machine cannot emulate another, where it cannot.
fn lacking(pristine: &Path) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a machine's disk is made by root".to_owned());
    }
    let program = ["mkfs.ext4", EMULATOR].into_iter().find(|name| lsm::host::program::find(name).is_none());
    if let Some(program) = program {
        return Some(format!("this machine has no {program}"));
    }
    if !Path::new(UEFI).join(UEFI_CODE).is_file() {
        return Some(format!("this machine has no {UEFI}/{UEFI_CODE}"));
    }
    let is_there = pristine.join("vmlinuz").exists();
    (!is_there).then(|| format!("there is no pristine machine at {} (tests/run --long builds it)", pristine.display()))
}
