use std::io::Cursor;

use super::*;

fn shell() -> Vec<u8> {
    std::fs::read("/bin/sh").unwrap()
}

fn judge(content: &[u8]) -> Option<BinaryReason> {
    content_fault(&mut Cursor::new(content), content.len() as u64).map(|(reason, _)| reason)
}

#[test]
fn file_that_is_not_a_program_has_a_reason() {
    let cases: [(&[u8], Option<BinaryReason>); 7] = [
        (b"", Some(BinaryReason::Empty)),
        (b"<!DOCTYPE html><html></html>\n", Some(BinaryReason::NotAProgram)),
        (b"MZ\0\0\0\0", Some(BinaryReason::WrongArchitecture)),
        (b"#!/nowhere/sh\n", Some(BinaryReason::MissingInterpreter)),
        (b"#! /bin/sh -e\n", None),
        (b"#!", None),
        (b"\x7fELF", Some(BinaryReason::Truncated)),
    ];
    for (content, reason) in cases {
        assert_eq!(judge(content), reason, "{content:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn program_cut_at_any_length_is_truncated() {
    let whole = shell();
    assert_eq!(judge(&whole), None);
    for length in [4, 19, 63, 64, 100, 1000, 4096, whole.len() / 2, whole.len() - 1] {
        assert_eq!(judge(&whole[..length]), Some(BinaryReason::Truncated), "{length}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn program_for_another_processor_or_libc_is_reported() {
    let mut whole = shell();
    let at = whole.windows(4).position(|four| four == b"/ld-").unwrap();
    whole[at + 1] = b'x';
    assert_eq!(judge(&whole), Some(BinaryReason::MissingLoader));
    whole[18] ^= 0xff;
    assert_eq!(judge(&whole), Some(BinaryReason::WrongArchitecture));
}

#[cfg(target_os = "linux")]
#[test]
fn hostile_bytes_never_panic() {
    let whole = &shell()[..4096];
    // Any deterministic generator works.
    let mut state = 7_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % limit
    };
    for _ in 0..5000 {
        let mut content = whole[..below(whole.len())].to_vec();
        for _ in 0..below(8) {
            if let Some(at) = content.len().min(256).checked_sub(1) {
                content[below(at + 1)] = u8::try_from(below(256)).unwrap();
            }
        }
        judge(&content);
    }
}

#[test]
fn loader_errors_are_recognized() {
    let words = "p2p-node: /lib/libc.so.6: version `GLIBC_2.39' not found";
    let error = unusable_after(Path::new("/bin/sh"), None, ExitStatus::from_raw(1 << 8), words).unwrap();
    assert!(matches!(error, Error::BinaryUnusable { reason: BinaryReason::MissingLoader, .. }), "{error}");
    assert!(unusable_after(Path::new("/bin/sh"), None, ExitStatus::from_raw(78 << 8), "no").is_none());
}

#[test]
fn bare_name_is_searched_on_path_and_relative_path_in_directory() {
    assert!(resolve(Path::new("sh"), None).ends_with("sh") && resolve(Path::new("sh"), None).is_absolute());
    assert_eq!(resolve(Path::new("./sh"), Some(Path::new("/bin"))), Path::new("/bin/./sh"));
    assert_eq!(fault(Path::new("/nowhere/p2p-node")).unwrap().0, BinaryReason::Missing);
}
