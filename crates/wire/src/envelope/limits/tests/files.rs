//! Limits of the offers of files.

use super::*;
use crate::envelope::file_offer::{FILE_HASH_BYTES, FileOffer, MAX_FILE_BYTES, MAX_FILE_NAME_BYTES};

fn file() -> FileOffer {
    FileOffer { hash: bytes(FILE_HASH_BYTES), size: MAX_FILE_BYTES, name: text(MAX_FILE_NAME_BYTES) }
}

fn with_file(file: FileOffer) -> Message {
    Message { file: Some(Box::new(file)), ..message() }
}

#[test]
fn offers_of_files_are_limited_and_their_names_are_one_part_of_a_path() {
    accept(&batch(with_file(file())));
    accept(&batch(with_file(FileOffer { size: 0, name: String::new(), ..file() })));
    let named = |name: &str| with_file(FileOffer { name: name.to_owned(), ..file() });
    accept(&batch(named("..a b.txt")));
    let call = Some(Box::new(call(CallStep::Request)));
    for (field, bad) in [
        ("hash", with_file(FileOffer { hash: bytes(FILE_HASH_BYTES - 1), ..file() })),
        ("size", with_file(FileOffer { size: MAX_FILE_BYTES + 1, ..file() })),
        ("name", named(&text(MAX_FILE_NAME_BYTES + 1))),
        ("name", named(".")),
        ("name", named("..")),
        ("name", named("a/b")),
        ("name", named("a\\b")),
        ("name", named("a\nb")),
        ("name", named("a\0b")),
        ("file", Message { call, ..with_file(file()) }),
    ] {
        refuse(&batch(bad), field);
    }
}
