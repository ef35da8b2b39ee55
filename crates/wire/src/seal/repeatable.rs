//! Deterministic random numbers for simulations and tests, which must be repeatable. Keys made with
//! them are not secret.

use std::convert::Infallible;

use hpke::rand_core::{TryCryptoRng, TryRng};

use crate::identity::hash_fields;

const DOMAIN: &[u8] = b"p2p-node/repeatable/v1";

/// A random number generator that hashes a seed and a counter.
#[derive(Clone, Debug)]
pub struct DeterministicRng {
    seed: u64,
    number: u64,
}

impl DeterministicRng {
    /// Creates the generator for a seed.
    pub fn new(seed: u64) -> Self {
        DeterministicRng { seed, number: 0 }
    }
}

impl TryRng for DeterministicRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(32) {
            self.number += 1;
            let hash = hash_fields(&[DOMAIN, &self.seed.to_be_bytes(), &self.number.to_be_bytes()]);
            chunk.copy_from_slice(&hash[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for DeterministicRng {}
