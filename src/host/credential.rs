//! Secrets at rest: sealed by systemd-creds(1) to this machine, or in a plain 0600 file where that is absent.

use crate::error::{Code, Error, Result};
use crate::host::file::{self, Access};
use crate::host::program::Program;
use crate::host::user::Owner;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const CANNOT_SEAL: Code = Code::lacking("E-HOST-030");
const CANNOT_OPEN: Code = Code::refused("E-HOST-031");

/// A sealed password is some hundred bytes, a sealed key a few thousand.
const LIMIT: u64 = 1 << 16;

/// Where a secret is kept, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Sealed to this machine under a name that goes into the seal: by its TPM too where it has one, by the host's key
    /// alone otherwise.
    Sealed {
        /// The credential's name.
        name: String,
        /// The sealed file.
        path: PathBuf,
    },
    /// As it is, 0600.
    Plain {
        /// The file.
        path: PathBuf,
        /// The number of the user and group whose it is; without one it is of the user who runs lsm.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<u32>,
    },
}

impl Keep {
    /// The file that holds it.
    pub fn path(&self) -> &Path {
        match self {
            Self::Sealed { path, .. } | Self::Plain { path, .. } => path,
        }
    }

    /// True where it is sealed.
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed { .. })
    }

    /// Stores `secret`, never over a file that is there. Gives why the machine's TPM has no part in the seal, where it has one that
    /// could not be used.
    ///
    /// # Errors
    /// Where it cannot be sealed or written, or a file is there already.
    pub fn store(&self, secret: Secret) -> Result<Option<Error>> {
        let (bytes, why) = match self {
            Self::Plain { path, .. } => return file::create(path, secret.expose(), self.access()).map(|()| None),
            Self::Sealed { name, .. } => seal(name, secret)?,
        };
        file::create(self.path(), &bytes, self.access()).map(|()| why)
    }

    /// Replaces what it keeps by what `other` keeps, as that is: sealed under the same name, or plain.
    ///
    /// # Errors
    /// Where one cannot be read or the other not written.
    pub fn take_over(&self, other: &Self) -> Result<()> {
        let bytes = Secret::new(file::read(other.path(), LIMIT)?);
        file::replace(self.path(), bytes.expose(), self.access())
    }

    fn access(&self) -> Access {
        let own = |id: u32| Access::owned(0o600, Owner { uid: id, gid: id });
        match self {
            Self::Plain { owner: Some(owner), .. } => own(*owner),
            Self::Plain { .. } | Self::Sealed { .. } => Access::mode(0o600),
        }
    }

    /// Reads the secret back.
    ///
    /// # Errors
    /// Where it cannot be read or unsealed on this machine.
    pub fn load(&self) -> Result<Secret> {
        match self {
            Self::Plain { path, .. } => file::read(path, LIMIT).map(Secret::new),
            Self::Sealed { name, path } => decrypt(name).arg(path).arg("-").run().map(Secret::new).map_err(|e| {
                Error::new(CANNOT_OPEN, format!("{} cannot be unsealed on this machine", path.display())).because(e)
            }),
        }
    }
}

/// Seals to the TPM and the host's key where there is a TPM that opens it again, else to the host's key, and says why not to the TPM.
fn seal(name: &str, secret: Secret) -> Result<(Vec<u8>, Option<Error>)> {
    let has_tpm = Program::new("systemd-creds").args(["has-tpm2", "--quiet"]).output()?.status.success();
    let by_tpm = has_tpm.then(|| {
        let sealed = seal_by(BY_TPM, name, secret.copy())?;
        // systemd looks for no library of the TPM's before it says that there is one, and seals what it cannot open.
        let opened = decrypt(name).args(["-", "-"]).input(Secret::new(sealed.clone())).run().map(Secret::new)?;
        let is_same = opened.expose() == secret.expose();
        is_same
            .then_some(sealed)
            .ok_or_else(|| Error::new(CANNOT_OPEN, format!("what opens of {name} is something else")))
    });
    match by_tpm {
        Some(Ok(sealed)) => Ok((sealed, None)),
        refused => Ok((seal_by(&["--with-key=host"], name, secret)?, refused.and_then(Result::err))),
    }
}

/// To the one register (PCR) that neither firmware nor system extends, the application's own (TCG PC Client Platform Firmware Profile,
/// PCR usage): all others change with updates and would lock the signer out, and without any systemd 252 opens nothing that it has
/// sealed (src/shared/creds-util.c, "TPM2 PCR bank invalid").
const BY_TPM: &[&str] = &["--with-key=host+tpm2", "--tpm2-pcrs=23"];

fn seal_by(key: &[&str], name: &str, secret: Secret) -> Result<Vec<u8>> {
    let sealer = Program::new("systemd-creds").arg("encrypt").arg(format!("--name={name}")).args(key).args(["-", "-"]);
    sealer.input(secret).run().map_err(|e| Error::new(CANNOT_SEAL, format!("cannot seal {name}")).because(e))
}

fn decrypt(name: &str) -> Program {
    Program::new("systemd-creds").arg("decrypt").arg(format!("--name={name}"))
}
