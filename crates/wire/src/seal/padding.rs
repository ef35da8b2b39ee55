//! Padding, so that the length of a frame reveals little about its content to relays and observers.

/// Shortest padded length, in bytes: our choice, so that short messages all have the same length.
pub const FLOOR_BYTES: usize = 256;

/// Marks the end of the content. Zeros follow (ISO/IEC 7816-4).
const MARKER: u8 = 0x80;

/// Padmé (Nikitin et al., PETS 2019, §4) limits the number of non-zero leading binary digits of a
/// length to the number of digits of its exponent. Lengths up to `L` then reveal `O(log log L)`
/// bits, for at most 12 % more bytes, and 6 % from 1 MiB on.
fn padme(length: usize) -> usize {
    let exponent = length.max(2).ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_usize << (exponent - kept)) - 1;
    (length + mask) & !mask
}

/// Returns the padded length of a content of this length.
pub fn padded_len(length: usize) -> usize {
    padme(length + 1).max(FLOOR_BYTES)
}

/// Pads the content to its padded length.
pub fn pad(mut content: Vec<u8>) -> Vec<u8> {
    let length = padded_len(content.len());
    content.push(MARKER);
    content.resize(length, 0);
    content
}

/// Returns the content, or `None` when the padding is invalid.
pub fn unpad(mut padded: Vec<u8>) -> Option<Vec<u8>> {
    let marker = padded.iter().rposition(|byte| *byte != 0).filter(|at| padded[*at] == MARKER)?;
    (padded.len() == padded_len(marker)).then(|| {
        padded.truncate(marker);
        padded
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padded_lengths_match_padme_paper() {
        // Computed by hand: 9 = 1001b keeps two digits after the first, and so on.
        for (length, padded) in [(8, 8), (9, 10), (65, 72), (1000, 1024), (1025, 1088), (1 << 20, 1 << 20)] {
            assert_eq!(padme(length), padded, "{length}");
        }
        assert_eq!(padded_len(0), FLOOR_BYTES);
        assert_eq!(padded_len(255), 256);
        assert_eq!(padded_len(256), 272);
    }

    #[test]
    fn padding_adds_at_most_12_percent_and_yields_few_lengths() {
        let mut lengths = std::collections::BTreeSet::new();
        for length in 255..70_000_usize {
            let padded = padded_len(length);
            assert!(padded > length && padded * 100 <= (length + 1) * 112, "{length} becomes {padded}");
            lengths.insert(padded);
        }
        // Sixteen lengths for each doubling.
        assert_eq!(lengths.len(), 132);
    }

    proptest! {
        #[test]
        fn padded_content_round_trips(content in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let padded = pad(content.clone());
            prop_assert_eq!(padded.len(), padded_len(content.len()));
            prop_assert_eq!(unpad(padded), Some(content));
        }

        #[test]
        fn unpadding_accepts_only_the_canonical_padding(bytes in proptest::collection::vec(prop_oneof![Just(0), Just(MARKER), any::<u8>()], 0..600)) {
            if let Some(content) = unpad(bytes.clone()) {
                prop_assert_eq!(pad(content), bytes);
            }
        }
    }
}
