//! Ethereum addresses in text form.

use alloy_primitives::Address;

/// Number of digits of an address: two for each of its 20 bytes.
const DIGITS: usize = 40;

/// The reasons why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not `0x` and 40 hexadecimal digits.
    #[error("an Ethereum address is 0x and 40 hexadecimal digits")]
    NotHex,
    /// The mix of upper and lower case does not match the checksum of the address.
    #[error(
        "the upper and lower case letters of this address do not match its checksum (EIP-55), so a digit may be wrong: compare the address \
         with its source, or write it all in lower case if it is right"
    )]
    Checksum,
}

/// Reads an address. Digits in one case have no checksum; digits in mixed case must match the
/// EIP-55 checksum.
///
/// # Errors
/// Fails when the text is not an address, or when its checksum is wrong.
pub fn parse_address(text: &str) -> Result<Address, AddressError> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or(AddressError::NotHex)?;
    let mut address = [0; DIGITS / 2];
    hex::decode_to_slice(digits, &mut address).map_err(|_| AddressError::NotHex)?;
    let address = Address::from(address);
    let has = |is_of: fn(&u8) -> bool| digits.bytes().any(|digit| is_of(&digit));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    if is_mixed && address.to_checksum(None)[2..] != *digits {
        return Err(AddressError::Checksum);
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Examples from EIP-55, the first of each kind.
    const CHECKSUMMED: [&str; 4] = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    ];

    #[test]
    fn correct_checksum_and_no_checksum_are_accepted() {
        for text in CHECKSUMMED {
            let address = parse_address(text).unwrap();
            assert_eq!(address.to_string(), text);
            let digits = &text[2..];
            for same in [digits.to_lowercase(), digits.to_uppercase()] {
                assert_eq!(parse_address(&format!("0x{same}")), Ok(address));
                assert_eq!(parse_address(&format!("0X{same}")), Ok(address));
            }
        }
    }

    #[test]
    fn wrong_checksum_is_rejected() {
        for wrong in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee",
            "0xDe709f2102306220921060314715629080e2fb77",
        ] {
            assert_eq!(parse_address(wrong), Err(AddressError::Checksum), "{wrong}");
        }
    }

    #[test]
    fn malformed_address_is_rejected() {
        let bare = &CHECKSUMMED[0][2..];
        for none in [
            "",
            "0x",
            bare,
            &format!("0x{bare}0"),
            &format!("0x{}", &bare[1..]),
            &format!("0x0x{}", &bare[2..]),
        ] {
            assert_eq!(parse_address(none), Err(AddressError::NotHex), "{none}");
        }
        assert_eq!(parse_address(&format!("0x{}é", &bare[2..])), Err(AddressError::NotHex));
    }

    proptest! {
        #[test]
        fn parsed_address_equals_printed_address(bytes: [u8; 20], flipped in 0usize..40) {
            let address = Address::from(bytes);
            let text = address.to_string();
            prop_assert_eq!(parse_address(&text), Ok(address));
            // A checksum never matches with one letter in the other case.
            let mut other = text.into_bytes();
            let digit = &mut other[2 + flipped];
            if digit.is_ascii_alphabetic() {
                *digit ^= 0x20;
                let read = parse_address(std::str::from_utf8(&other).unwrap());
                let is_mixed = other[2..].iter().any(u8::is_ascii_uppercase) && other[2..].iter().any(u8::is_ascii_lowercase);
                prop_assert_eq!(read, if is_mixed { Err(AddressError::Checksum) } else { Ok(address) });
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,50}|0[xX][0-9a-fA-FgG]{38,42}") {
            let _ = parse_address(&text);
        }
    }
}
