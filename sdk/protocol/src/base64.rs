//! Base64 with padding (RFC 4648 §4), for `encoding: "base64"`.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes for the `data` of a message with `encoding: "base64"`.
pub fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0u32, |group, (at, &byte)| group | u32::from(byte) << (16 - 8 * at));
        for at in 0..4 {
            // A byte fills one character and begins the next.
            let sextet = (group >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

/// Decodes base64. Returns `None` unless [`encode_base64`] would write the same text.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let sextets = digits.bytes().map(sextet).collect::<Option<Vec<u8>>>()?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in sextets.chunks(4) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0, |group, (at, &sextet)| group | u32::from(sextet) << (18 - 6 * at));
        bytes.extend((1..chunk.len()).map(|at| (group >> (24 - 8 * at)) as u8));
    }
    (encode_base64(&bytes) == text).then_some(bytes)
}

fn sextet(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_of_rfc_4648_match() {
        let examples = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, text) in examples.into_iter().enumerate() {
            let bytes = &b"foobar"[..length];
            assert_eq!((encode_base64(bytes), decode_base64(text)), (text.to_owned(), Some(bytes.to_vec())));
        }
        for text in ["Zg", "Zg=", "Zh==", "Z", "Zm9v=", "Zm 9v", "Zm-v", "=", "====", "Zg==Zg=="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoded_bytes_decode_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode_base64(&encode_base64(&bytes)), Some(bytes));
        }
    }
}
