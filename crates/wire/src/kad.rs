//! Places in the key space of Kademlia.

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

/// Returns the bucket of a peer in the routing table of a node: the number of leading bits that their
/// Kademlia keys have in common, which are the SHA-256 hashes of the PeerIds. Half of all peers are in
/// bucket 0.
pub fn kad_bucket(node: &PeerId, peer: &PeerId) -> u32 {
    let key = |peer: &PeerId| -> [u8; 32] { Sha256::digest(peer.to_bytes()).into() };
    let mut common = 0;
    for (one, other) in key(node).into_iter().zip(key(peer)) {
        let zeros = (one ^ other).leading_zeros();
        common += zeros;
        if zeros < u8::BITS {
            break;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_all_peers_are_in_each_next_bucket() {
        let node = PeerId::random();
        assert_eq!(kad_bucket(&node, &node), 256);
        let mut buckets = [0; 257];
        for _ in 0..1000 {
            buckets[kad_bucket(&node, &PeerId::random()) as usize] += 1;
        }
        assert!((400..600).contains(&buckets[0]) && (180..320).contains(&buckets[1]), "{buckets:?}");
    }
}
