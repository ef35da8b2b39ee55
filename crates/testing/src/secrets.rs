//! A search for secrets in `Debug` output.

use std::fmt::Debug;

/// Returns a secret whose bytes do not occur elsewhere in `Debug` output.
pub fn secret() -> [u8; 32] {
    std::array::from_fn(|at| (at * 37 + 101) as u8)
}

/// Checks that no form of `Debug` shows four bytes in a row of [`secret`].
///
/// # Panics
/// Panics if one does.
pub fn check(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}"), format!("{value:x?}"), format!("{value:X?}")] {
        let plain: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        for bytes in secret().windows(4) {
            let in_list = |form: fn(&u8) -> String| bytes.iter().map(form).collect::<Vec<_>>().join(",");
            for shown in [
                in_list(|byte| byte.to_string()),
                in_list(|byte| format!("{byte:x}")),
                in_list(|byte| format!("{byte:02X}")),
                bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
            ] {
                assert!(!plain.contains(&shown), "{what} shows {shown}: {text}");
            }
        }
    }
}

/// Returns bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_in_debug_output_is_found() {
        let shown: [&dyn Debug; 3] = [&secret(), &Some(secret().to_vec()), &hex(&secret())];
        for value in shown {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check("", value))).is_err());
        }
    }
}
