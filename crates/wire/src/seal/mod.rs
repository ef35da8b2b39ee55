//! Sealing: mail that only its recipient can read.
//!
//! HPKE (RFC 9180) in base mode with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305. The first frame on a connection is sealed to the
//! recipient's KEM key, and both ends take the keys of a session from that; where there is no connection every frame is sealed so.
//! Who sent it is proven by the frame's signature, outside.

pub mod hpke;
pub mod kem;
pub mod padding;
pub mod repeatable;
pub mod session;

/// The algorithms: X-Wing, HKDF-SHA256 and ChaCha20-Poly1305. Others will have other numbers.
pub const SUITE: u32 = 1;
