//! What each step does, in the words of the dry run and of the progress line.

use crate::plan::step::{Access, Runner, SeedSink, Step};
use std::path::PathBuf;

impl Step {
    /// What it does, in the words of the dry run and of the progress line.
    pub fn describe(&self) -> String {
        match self {
            Self::Folder { path, access, .. } => format!("make the folder {} ({})", path.display(), shown(access)),
            Self::Text { path, access, .. } => format!("write {} ({})", path.display(), shown(access)),
            Self::Lsm { path, .. } => format!("copy lsm to {}", path.display()),
            Self::Release { version, folder, .. } => {
                format!("unpack the verified lnd {version} to {}", folder.display())
            }
            Self::Users { file, names, .. } => {
                format!("write {} and make the users {}", file.display(), names.join(", "))
            }
            Self::Folders { file, folders, .. } => {
                format!("write {} and make the folders {}", file.display(), list(folders))
            }
            Self::Tighten { path, access } => {
                format!("give {} its mode and owner again ({})", path.display(), shown(access))
            }
            Self::Close { path, mode, to_root } => {
                let root = if *to_root { ", root's" } else { "" };
                format!("close {} to others ({mode:04o}{root})", path.display())
            }
            Self::Sysctl { file, settings, .. } => {
                let all: Vec<String> =
                    settings.iter().map(|(name, value)| format!("{}={value}", name.display())).collect();
                format!("write {} and set {}", file.display(), all.join(", "))
            }
            Self::Reload { unit, check, .. } => {
                format!("have {unit} read its settings again, where {} finds no fault", check.join(" "))
            }
            Self::Remove { path } => format!("take away {}, which lsm did not write", path.display()),
            Self::Password { keep, from } => {
                let what = if from.is_some() { "take over" } else { "make" };
                let how = if keep.is_sealed() { "sealed to this machine" } else { "0600" };
                format!("{what} the wallet's password, {how}, in {}", keep.path().display())
            }
            Self::Certificate { path, names, .. } => {
                let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!("make the certificate {} for {names}", path.display())
            }
            Self::ReloadUnits { .. } => "let systemd read its units again".to_owned(),
            Self::Firewall { file, .. } => format!("write {} and load it, now and at every boot", file.display()),
            Self::Adopt { from, container, .. } => {
                let stop = container.as_ref().map(|object| format!("stop {object} and ")).unwrap_or_default();
                format!("{stop}copy lnd's database from {}, which stays as it is", from.display())
            }
            Self::Wallet { runner, seed, .. } => {
                let starts = match runner {
                    Runner::Unit { unit, stays: true, .. } => format!("start {unit} and "),
                    _ => String::new(),
                };
                match seed {
                    SeedSink::Adopted => format!("{starts}open the wallet with its password"),
                    SeedSink::Restored { .. } => format!("{starts}restore the wallet from its 24 words"),
                    seed => format!("{starts}create the wallet; its seed {}", shown_sink(seed)),
                }
            }
            Self::GuardMacaroon { keep, unit, .. } => {
                format!(
                    "stop {unit} where it runs, and have lnd bake the guard's macaroon to {}",
                    keep.path().display()
                )
            }
            Self::Service { unit, anew: true, .. } => format!("enable and start {unit}"),
            Self::Service { unit, .. } => format!("enable {unit}"),
            Self::Retire { unit, .. } => format!("stop and disable {unit}"),
            Self::Cut { address, .. } => format!("end the connections to {address} of those who are not allowed"),
            Self::Restore { to } => to.describe(),
            Self::Snapshot { from, database, .. } => {
                format!("stop {} and copy the database of lnd {from} to {}", database.unit, database.copy.display())
            }
            Self::Prove { version, port, .. } => {
                format!("hold lnd {version} to the same keys, and to a signature through {}", port.host)
            }
            Self::Sign { port, .. } => format!("prove a signature through {}", port.host),
            Self::Bake { entry, out, .. } => {
                let caveats: String = entry.caveats.iter().map(|caveat| format!(", {caveat}")).collect();
                let (role, key) = (&entry.role, entry.root_key);
                format!("bake a macaroon ({role}{caveats}) on root key {key} and write it to {} (0600)", out.display())
            }
            Self::Revoke { root_key, .. } => {
                format!("delete root key {root_key}: its macaroon is refused from then on")
            }
            Self::Rotate { bundle, root_key, port, .. } => format!(
                "bake the bundle's macaroon on root key {root_key}, prove a signature with it through {}, and {}",
                port.host,
                bundle.describe()
            ),
            Self::RenewRootKeys { unit, port, .. } => format!(
                "stop {unit}, have lnd replace every root key under the same password, start {unit}, and prove that the old \
                 admin macaroon is refused and a signature comes through {}",
                port.host
            ),
            Self::Switch { path, next, .. } => {
                format!("put {} with its key in the place of {}", next.display(), path.display())
            }
            Self::ChangePassword { place, .. } => {
                format!("give lnd the new password, and put it in the place of {}", place.path().display())
            }
            Self::Refresh { bundle, .. } => {
                format!("where the new lnd has other calls for it, {}", bundle.describe())
            }
            Self::Discard { folders, .. } => format!("remove what nobody goes back to: {}", list(folders)),
            Self::Image { image, .. } => {
                let programs: Vec<&str> = image.programs.iter().map(|(_, inside, _)| inside.as_str()).collect();
                format!("make the image {} of {} and nothing else", image.name, programs.join(", "))
            }
            Self::Network { object, .. } => format!("make {object}, which leads nowhere"),
            Self::Volume { object } => format!("make {object} for the wallet"),
            Self::Container { object, .. } => format!("make and start {object}"),
            Self::Start { process, .. } => format!("start {}", process.program.display()),
            Self::Bundle { folder, taproot_channels, encrypt_to, .. } => {
                let macaroon = if *taproot_channels { "signs, MuSig2 too" } else { "signs and no more" };
                let to = encrypt_to.as_ref().map(|recipient| format!(", encrypted to {recipient}")).unwrap_or_default();
                format!("export the bundle to {}{to} (its macaroon {macaroon})", folder.display())
            }
        }
    }
}

fn shown(access: &Access) -> String {
    let owner = access.owner.as_ref().map(|o| format!(", {o}")).unwrap_or_default();
    let group = access.group.as_ref().map(|g| format!(":{g}")).unwrap_or_default();
    format!("{:04o}{owner}{group}", access.mode)
}

fn shown_sink(sink: &SeedSink) -> String {
    match sink {
        SeedSink::Terminal => "is shown once on this terminal".to_owned(),
        SeedSink::File(path) => format!("is written to {} (0600)", path.display()),
        SeedSink::Age { file, recipient } => {
            format!("is written to {} (0600), encrypted to {recipient}", file.display())
        }
        SeedSink::Nowhere => "is kept nowhere".to_owned(),
        SeedSink::Adopted | SeedSink::Restored { .. } => "is its owner's".to_owned(),
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
