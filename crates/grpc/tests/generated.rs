//! Checks that the generated code is that of the `.proto`. `UPDATE_FILES=1` writes it.

use std::fs;
use std::path::{Path, PathBuf};

/// The generated files, in `src/generated`.
const CODE: &str = "p2pnode.v1.rs";
const DESCRIPTORS: &str = "p2pnode.v1.bin";

fn generated(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated").join(name)
}

/// Returns the code and the descriptors of the `.proto`.
fn generate() -> [(&'static str, Vec<u8>); 2] {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut descriptors = protox::compile(["p2pnode/v1/node.proto"], [&protos]).expect("a valid .proto");
    let directory = std::env::temp_dir().join(format!("p2p-node-grpc-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .out_dir(&directory)
        .compile_fds(descriptors.clone())
        .expect("generated code");
    let code = fs::read(directory.join(CODE)).expect("one package");
    fs::remove_dir_all(&directory).expect("removed");
    // Who reflects asks for types, not for comments: they are half of the bytes.
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    [(CODE, code), (DESCRIPTORS, prost::Message::encode_to_vec(&descriptors))]
}

#[test]
fn generated_code_is_that_of_the_proto() {
    for (name, expected) in generate() {
        if std::env::var_os("UPDATE_FILES").is_some() {
            fs::write(generated(name), expected).expect("written");
        } else {
            let found = fs::read(generated(name)).expect("a file");
            assert!(
                found == expected,
                "{name} is not that of the .proto: run `UPDATE_FILES=1 cargo test -p p2p-node-grpc`"
            );
        }
    }
}
