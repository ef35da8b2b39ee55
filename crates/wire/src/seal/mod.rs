//! Encryption: only the recipient can read mail.
//!
//! The node uses HPKE (RFC 9180) in base mode with X-Wing, HKDF-SHA256 and a cipher that both
//! processors do fast. It encrypts the first frame on a connection to the recipient's KEM key, and both sides derive the
//! keys of a session from that. Without a connection it encrypts every frame to the KEM key. The
//! signature around the frame proves who sent it.

pub mod hpke;
pub mod kem;
pub mod padding;
pub mod repeatable;
pub mod session;
pub mod suite;
