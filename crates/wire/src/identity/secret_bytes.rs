//! Secret bytes that are wiped when dropped, and never shown.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

/// 32 secret bytes: a key, or a seed of keys. They are zeroised on drop and never printed.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<[u8; 32]>);

impl From<[u8; 32]> for SecretBytes {
    fn from(bytes: [u8; 32]) -> Self {
        SecretBytes(Zeroizing::new(bytes))
    }
}

impl From<Zeroizing<[u8; 32]>> for SecretBytes {
    fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
        SecretBytes(bytes)
    }
}

impl Deref for SecretBytes {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
