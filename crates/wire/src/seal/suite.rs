//! The cipher suites. They differ in the cipher alone: which one is fast depends on the processor.

use ring::aead::{AES_256_GCM, Algorithm, CHACHA20_POLY1305};

/// A cipher suite of HPKE, and of the sessions that begin with it. See
/// `docs/adr/0033-cipher-by-processor.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suite {
    /// X-Wing, HKDF-SHA256 and ChaCha20-Poly1305: fast on every processor.
    #[default]
    ChaCha20Poly1305,
    /// X-Wing, HKDF-SHA256 and AES-256-GCM: faster on processors with instructions for AES, slow on
    /// others.
    Aes256Gcm,
}

impl Suite {
    /// All suites.
    pub const ALL: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];

    /// Returns the suite that this processor prefers.
    pub fn of_this_processor() -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        let has_aes =
            std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull");
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
    }

    /// Returns the suite with this number in a KEM key or frame.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// Returns the number of the suite in KEM keys and frames.
    pub fn number(self) -> u32 {
        match self {
            Suite::ChaCha20Poly1305 => 1,
            Suite::Aes256Gcm => 2,
        }
    }

    /// Returns the suite for mail between two nodes that prefer these suites: AES-256-GCM if it is
    /// fast at both ends.
    pub fn between(self, other: Self) -> Self {
        if self == other { self } else { Suite::ChaCha20Poly1305 }
    }

    /// Returns the cipher of the sessions.
    pub(super) fn cipher(self) -> &'static Algorithm {
        match self {
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_numbers_of_their_own_and_other_numbers_are_unknown() {
        assert_eq!(Suite::ALL.map(Suite::number), [1, 2]);
        assert_eq!(
            [0, 1, 2, 3].map(Suite::from_number),
            [None, Some(Suite::ALL[0]), Some(Suite::ALL[1]), None]
        );
    }

    #[test]
    fn aes_is_used_only_if_both_ends_prefer_it() {
        let (chacha, aes) = (Suite::ChaCha20Poly1305, Suite::Aes256Gcm);
        assert_eq!(aes.between(aes), aes);
        assert_eq!([chacha.between(aes), aes.between(chacha), chacha.between(chacha)], [chacha; 3]);
    }
}
