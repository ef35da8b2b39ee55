//! Ids and hashes: types of their own, so that the compiler tells them apart.

/// Declares a type for an id or hash of a fixed number of bytes. It dereferences to its bytes, and
/// is shown in hexadecimal digits.
macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $length:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl std::ops::Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $length]> for $name {
            fn from(bytes: [u8; $length]) -> Self {
                $name(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map($name)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    };
}
pub(crate) use fixed_bytes;

#[cfg(test)]
mod tests {
    fixed_bytes!(
        /// Two bytes.
        Two,
        2
    );

    #[test]
    fn bytes_of_another_length_are_rejected() {
        assert_eq!(Two::try_from([1u8, 2].as_slice()).ok(), Some(Two([1, 2])));
        assert!(Two::try_from([1u8].as_slice()).is_err() && Two::try_from([1u8; 3].as_slice()).is_err());
    }

    #[test]
    fn debug_output_is_hexadecimal() {
        assert_eq!(format!("{:?}", Two([0x0a, 0xff])), "0aff");
    }
}
