//! Why a signature does not count.

use std::fmt;

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not of version 4, with a signed time.
    OtherForm,
    /// It is not over a document's bytes: over a text, or a key.
    NotOfBytes,
    /// Its hash is not SHA-2 or SHA-3 with at least 256 bits.
    WeakHash,
    /// Its key is RSA with less than 2048 bits, DSA, or of an unknown kind.
    WeakKey,
    /// It marks something as critical that is not known here.
    NotUnderstood,
    /// It was made in the future.
    Future,
    /// It was made after the day on which the release was pinned.
    AfterPin,
    /// It has expired itself.
    Expired,
    /// It was made before its key.
    BeforeKey,
    /// It was made when its key had expired.
    AfterExpiry,
    /// Its key was revoked, and nothing that it made is believed.
    Revoked,
    /// It was made when its key had been given up.
    AfterRevocation,
    /// No self-signature that may be believed says that its key is the signer's.
    NotBound,
    /// Its key is bound, but never signed that it wants to be.
    NotSignedBack,
    /// Its key is not for signing.
    NotForSigning,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherForm => "it is not of version 4 with a signed time, as gpg makes them",
            Self::NotOfBytes => "it is not a signature over a file's bytes",
            Self::WeakHash => "its hash is weak",
            Self::WeakKey => "its key is weak",
            Self::NotUnderstood => "it has a critical part that lsm does not know",
            Self::Future => "it was made in the future, by this machine's clock",
            Self::AfterPin => "it was made after the day on which the release was pinned",
            Self::Expired => "it has expired",
            Self::BeforeKey => "it was made before its key",
            Self::AfterExpiry => "it was made after its key had expired",
            Self::Revoked => "its key was revoked",
            Self::AfterRevocation => "it was made after its key had been given up",
            Self::NotBound => "no valid self-signature says that its key is the signer's",
            Self::NotSignedBack => "its key has not signed the binding to the signer's primary key",
            Self::NotForSigning => "its key is not for signing",
        })
    }
}
