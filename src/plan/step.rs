//! What a plan is made of. A step's description, its dry run and its effect come from the same value.

mod describe;
mod reach;

pub use crate::plan::parts::{Access, Door, Guarded, Port, Process, Runner, SeedSink};

use crate::engine::{Bounds, Image, Object};
use crate::host::credential::Keep;
use crate::plan::parts::octal;
use crate::plan::prior::{Database, Prior};
use crate::plan::register::Entry;
use crate::spec::{Network, San};
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Permission bits of lncli, which anybody may run.
pub const LNCLI_MODE: u32 = 0o755;

/// One change of the machine. A closed set: who adds one says how it is described, seen to be done, and performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// A folder.
    Folder {
        /// Where.
        path: PathBuf,
        /// For whom.
        access: Access,
        /// It is lsm's with all that comes into it, and goes as a whole.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        whole: bool,
    },
    /// A text file without secrets.
    Text {
        /// Where.
        path: PathBuf,
        /// For whom.
        access: Access,
        /// What it says; plans and journals show its hash.
        #[serde(rename = "sha256", serialize_with = "text_hash")]
        text: String,
    },
    /// The running lsm, copied to where units find it.
    Lsm {
        /// Where.
        path: PathBuf,
        /// The hash of the running lsm.
        sha256: String,
    },
    /// A verified lnd, unpacked into the folder of its version.
    Release {
        /// The version.
        version: String,
        /// The folder.
        folder: PathBuf,
        /// Permission bits of lnd itself.
        #[serde(serialize_with = "octal")]
        lnd_mode: u32,
        /// The pinned hash of lnd itself, where one is known.
        lnd_sha256: Option<String>,
        /// The pinned hash of lncli, where one is known.
        lncli_sha256: Option<String>,
    },
    /// Users by sysusers.d(5). File and users are one step: a boot after a power cut makes the users of a file that is there.
    Users {
        /// The file that names them.
        file: PathBuf,
        /// What it says; plans and journals show its hash.
        #[serde(rename = "sha256", serialize_with = "text_hash")]
        text: String,
        /// The users.
        names: Vec<String>,
    },
    /// Folders by tmpfiles.d(5), with what a plain folder step cannot give: default ACLs, and again at every boot. With their
    /// file, as users with theirs.
    Folders {
        /// The file that names them.
        file: PathBuf,
        /// What it says; plans and journals show its hash.
        #[serde(rename = "sha256", serialize_with = "text_hash")]
        text: String,
        /// The folders.
        folders: Vec<PathBuf>,
        /// Those of them in which a default ACL keeps what is new from all others.
        closed: Vec<PathBuf>,
    },
    /// The mode and owner that lsm gave to a file or folder and that somebody changed. What is not there is not made.
    Tighten {
        /// Where.
        path: PathBuf,
        /// For whom.
        access: Access,
    },
    /// What a file or folder that is there gives to more users than it should is taken from them.
    Close {
        /// Where.
        path: PathBuf,
        /// Permission bits, as in chmod(2).
        #[serde(serialize_with = "octal")]
        mode: u32,
        /// Root's from now on; else whose it is.
        to_root: bool,
    },
    /// Settings of the kernel, by sysctl.d(5). File and settings are one step: a boot after a power cut sets what is in the
    /// file.
    Sysctl {
        /// The file.
        file: PathBuf,
        /// What it says; plans and journals show its hash.
        #[serde(rename = "sha256", serialize_with = "text_hash")]
        text: String,
        /// Each setting, a file below /proc/sys, and its value.
        settings: Vec<(PathBuf, String)>,
    },
    /// A unit that runs reads its settings again, once a program has found no fault in them.
    Reload {
        /// The unit.
        unit: String,
        /// The program with its arguments.
        check: Vec<String>,
        /// The files whose change asks for it.
        after: Vec<PathBuf>,
    },
    /// A file that somebody else put beside lsm's own, and that changes what they mean.
    Remove {
        /// Where.
        path: PathBuf,
    },
    /// The wallet's password, made here or taken from a file.
    Password {
        /// Where it is kept.
        keep: Keep,
        /// The operator's own password.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<PathBuf>,
    },
    /// The signer's certificate and its key.
    Certificate {
        /// The certificate.
        path: PathBuf,
        /// Where its key is kept.
        key: Keep,
        /// What it is valid for.
        names: Vec<San>,
    },
    /// systemd reads its unit files again.
    ReloadUnits {
        /// The files whose change asks for it.
        after: Vec<PathBuf>,
        /// The units whose files, changed by whomever, ask for it too.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        of: Vec<String>,
    },
    /// The packet filter is loaded, now and at every boot.
    Firewall {
        /// The unit that loads it.
        unit: String,
        /// The link that enables the unit.
        link: PathBuf,
        /// The file that it loads.
        file: PathBuf,
        /// What the file says.
        #[serde(rename = "sha256", serialize_with = "text_hash")]
        text: String,
        /// The files whose change asks for it too.
        after: Vec<PathBuf>,
    },
    /// An lnd's database from before lsm, copied; the lnd is stopped and keeps its own.
    Adopt {
        /// Its folder.
        from: PathBuf,
        /// The container that it runs in.
        #[serde(skip_serializing_if = "Option::is_none")]
        container: Option<Object>,
        /// The folder that it is copied to.
        to: PathBuf,
        /// Whose it is then.
        owner: String,
        /// The wallet's receipt, with which all of this is done.
        receipt: PathBuf,
    },
    /// The wallet.
    Wallet {
        /// What runs lnd meanwhile.
        runner: Runner,
        /// How it is reached.
        door: Door,
        /// The password.
        password: Keep,
        /// Where the words go.
        seed: SeedSink,
        /// lnd's own folder.
        data: PathBuf,
        /// lnd's wallet database in it.
        database: PathBuf,
        /// The receipt: birthday and identity.
        receipt: PathBuf,
        /// The network, which the receipt names.
        network: Network,
        /// The user whose it is, where it has one of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// The engine's volume that it is in.
        #[serde(skip_serializing_if = "Option::is_none")]
        volume: Option<Object>,
    },
    /// The macaroon with which the guard registers with lnd, baked while lnd has no port.
    GuardMacaroon {
        /// What runs lnd meanwhile, locked at first.
        runner: Runner,
        /// How it is reached.
        door: Door,
        /// The wallet's password.
        password: Keep,
        /// Where it is kept.
        keep: Keep,
        /// lnd's unit, which is stopped.
        unit: String,
    },
    /// A unit is enabled and runs, with what the files in `after` now say.
    Service {
        /// The unit.
        unit: String,
        /// The link that enables it.
        link: PathBuf,
        /// The files whose change asks for a restart.
        after: Vec<PathBuf>,
        /// It is started, or started anew; `false` where it runs as it should and is only to be enabled.
        anew: bool,
        /// Units that go with it: a change of theirs asks for a restart too.
        with: Vec<String>,
        /// The program that its main process has to be.
        #[serde(skip_serializing_if = "Option::is_none")]
        program: Option<PathBuf>,
    },
    /// A unit that is wanted no more: stopped and disabled.
    Retire {
        /// The unit.
        unit: String,
        /// The link that enables it.
        link: PathBuf,
    },
    /// Connections to a signer's port end whose peer may not connect any more.
    Cut {
        /// The unit that holds the port: while it does not run there are none.
        unit: String,
        /// The port, with the address that it listens on.
        address: SocketAddr,
        /// Who may connect, this host itself included.
        peers: Vec<IpNet>,
        /// The files whose change asks for it.
        after: Vec<PathBuf>,
    },
    /// The signer is stopped and lnd's database copied, for another lnd to start on it.
    Snapshot {
        /// The version that had it until now.
        from: String,
        /// The version that gets it.
        to: String,
        /// The database and its copy.
        database: Database,
        /// How the running lnd is reached, to be asked what it knows.
        door: Door,
        /// The folder of a bundle that says it where lnd does not run.
        bundle: PathBuf,
        /// The units that stop with lnd's.
        stops: Vec<String>,
    },
    /// The wallet's password is another one: what unlocks it at every start, and then lnd's own two databases.
    ChangePassword {
        /// What runs lnd meanwhile.
        runner: Runner,
        /// How it is reached.
        door: Door,
        /// Where the password is kept.
        place: Keep,
        /// Where the other one is: the new one at first, then the old one.
        aside: Keep,
        /// The database, its copy, and by what it is known which of the two is where.
        database: Database,
        /// The wallet's receipt.
        receipt: PathBuf,
    },
    /// The lnd that was started is the wanted one, has the same keys, and signs through the public port.
    Prove {
        /// The wanted version.
        version: String,
        /// How it is reached.
        door: Door,
        /// The public port.
        #[serde(flatten)]
        port: Port,
        /// The copy of the database that says what the earlier lnd knew.
        copy: PathBuf,
        /// The files whose change asks for a proof.
        after: Vec<PathBuf>,
    },
    /// A bundle is exported again where the lnd that was started has other calls for it.
    Refresh {
        /// The bundle's step.
        bundle: Box<Step>,
        /// The copy of the database that says what the earlier lnd knew.
        copy: PathBuf,
        /// The files whose change asks for a look.
        after: Vec<PathBuf>,
    },
    /// What is lsm's own and nobody goes back to any more.
    Discard {
        /// The folders, or files.
        folders: Vec<PathBuf>,
        /// The images.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        objects: Vec<Object>,
    },
    /// Something is again what it was.
    Restore {
        /// What it was.
        to: Prior,
    },
    /// An image of lsm's own is in an engine.
    Image {
        /// The engine's socket.
        engine: PathBuf,
        /// What it holds.
        image: Image,
    },
    /// A network of an engine's, for lsm's containers alone.
    Network {
        /// The network.
        object: Object,
        /// What it leads to.
        bounds: Bounds,
    },
    /// A volume of an engine's.
    Volume {
        /// The volume.
        object: Object,
    },
    /// A container runs that is made of this, and its lnd can sign.
    Container {
        /// The container.
        object: Object,
        /// What it is made of, in the API's JSON; plans and journals show its hash.
        #[serde(rename = "sha256", serialize_with = "text_hash")]
        body: String,
        /// Its image.
        image: Image,
        /// How its lnd is reached.
        door: Door,
        /// The files whose change asks for another one.
        after: Vec<PathBuf>,
    },
    /// lnd as a process.
    Start {
        /// The process.
        process: Process,
        /// How it is reached.
        door: Door,
    },
    /// The credentials bundle.
    Bundle {
        /// Its folder.
        folder: PathBuf,
        /// The operator named the folder: nothing there is ever taken back.
        given: bool,
        /// One was handed to the operator before: it need not be here any more.
        handed: bool,
        /// The age recipient to whom a copy is encrypted, which is then all that is written.
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypt_to: Option<String>,
        /// How the signer is reached.
        door: Door,
        /// The wallet's receipt.
        receipt: PathBuf,
        /// Where the watch-only side dials.
        hosts: Vec<String>,
        /// With MuSig2.
        taproot_channels: bool,
        /// Where it is kept which root key its macaroon hangs on; without it on the first one.
        #[serde(skip_serializing_if = "Option::is_none")]
        register: Option<PathBuf>,
        /// Where the signer's next certificate is, while there is one: then the bundle has both.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<PathBuf>,
        /// The files whose change asks for another bundle.
        after: Vec<PathBuf>,
    },
    /// A macaroon on a root key of its own, for the operator.
    Bake {
        /// How lnd is reached.
        door: Door,
        /// Where it is kept what was baked.
        register: PathBuf,
        /// What it is.
        entry: Entry,
        /// The file that it is written to, which is not there yet.
        out: PathBuf,
    },
    /// A root key goes, and with it every macaroon on it.
    Revoke {
        /// How lnd is reached.
        door: Door,
        /// The root key.
        root_key: u64,
    },
    /// The bundle's macaroon on a new root key: it signs through the public port, then it is exported.
    Rotate {
        /// The bundle's step.
        bundle: Box<Step>,
        /// The new root key.
        root_key: u64,
        /// The public port.
        port: Port,
        /// The files whose change asks for it.
        after: Vec<PathBuf>,
    },
    /// lnd replaces every root key: an admin macaroon leaked, and who had it can have baked others.
    RenewRootKeys {
        /// What runs lnd meanwhile, locked.
        runner: Runner,
        /// How it is reached.
        door: Door,
        /// The wallet's password, which stays.
        password: Keep,
        /// lnd's unit, or the name of its container.
        unit: String,
        /// The container, where it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        container: Option<Object>,
        /// The public port.
        port: Port,
        /// The guard, which gets another macaroon.
        #[serde(skip_serializing_if = "Option::is_none")]
        guard: Option<Guarded>,
    },
    /// The next certificate takes the place of the one in force, and so does its key.
    Switch {
        /// The certificate in force.
        path: PathBuf,
        /// Its key.
        key: Keep,
        /// The next certificate.
        next: PathBuf,
        /// Its key.
        next_key: Keep,
    },
    /// A signature through the public port.
    Sign {
        /// How lnd is reached.
        door: Door,
        /// The public port.
        port: Port,
        /// The files whose change asks for it.
        after: Vec<PathBuf>,
    },
}

/// The hash under which a text stands in plans and journals.
pub fn hash_text(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn text_hash<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hash_text(text))
}
