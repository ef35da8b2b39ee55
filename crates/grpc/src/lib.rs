//! The gRPC interface of a node: the types and the service of `proto/p2pnode/v1/node.proto`.
//!
//! A test makes the code in `src/generated` from the `.proto`, so that no build needs `protoc`. After a
//! change run `UPDATE_FILES=1 cargo test -p p2p-node-grpc`.

/// Version 1 of the interface.
pub mod v1 {
    #![allow(missing_docs, clippy::unwrap_used, clippy::option_option)]

    include!("generated/p2pnode.v1.rs");
}

/// The `.proto` as a `google.protobuf.FileDescriptorSet`, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/p2pnode.v1.bin");
