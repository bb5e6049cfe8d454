//! Values that must not leak: wiped when dropped, never printed, never serialised.

use secrecy::{ExposeSecret, SecretSlice};

/// Secret bytes. `Debug` shows nothing of them; there is no `Display`, `Serialize` or `Clone`.
#[derive(Debug)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes over `bytes`; the buffer is wiped when the secret is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        // A boxed slice needs exact capacity: a reallocation would leave an unwiped copy behind.
        let mut bytes = zeroize::Zeroizing::new(bytes);
        let exact = bytes.as_slice().to_vec().into_boxed_slice();
        zeroize::Zeroize::zeroize(&mut *bytes);
        Self(SecretSlice::from(exact))
    }

    /// A new password of 32 characters from `[A-Za-z0-9]` (about 190 bits), from the kernel's generator.
    ///
    /// # Panics
    /// Where the kernel gives no random bytes: nothing safe can be done then.
    pub fn generate_password() -> Self {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        const LENGTH: usize = 32;
        let mut password = Vec::with_capacity(LENGTH);
        let mut byte = zeroize::Zeroizing::new([0_u8; 1]);
        while password.len() < LENGTH {
            getrandom::fill(&mut *byte).expect("the kernel's random generator answers");
            // 248 is the largest multiple of 62 in a byte: reject above it, so that no letter is favoured.
            if byte[0] < 248 {
                password.push(ALPHABET[usize::from(byte[0] % 62)]);
            }
        }
        Self::new(password)
    }

    /// The same once more, wiped by itself; for what has to keep one of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::new(self.expose().to_vec())
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_password_is_long_plain_and_new_each_time() {
        let (a, b) = (Secret::generate_password(), Secret::generate_password());
        assert_eq!(a.expose().len(), 32);
        assert!(a.expose().iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(a.expose(), b.expose());
    }

    #[test]
    fn debug_shows_nothing_of_the_bytes() {
        let shown = format!("{:?}", Secret::new(b"hunter2".to_vec()));
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }
}
