//! Hashes of topics: a record has them for topics whose names it has no room for.

use bytes::Bytes;

use crate::identity::keys::keccak_fields;

/// The first 4 bytes of the hash of a topic. One of a node's 500 topics has the hash of another
/// topic by chance once in 8 million.
pub type TopicHash = u32;

/// Size of a [`TopicHash`] on the wire, in bytes.
pub const TOPIC_HASH_BYTES: usize = size_of::<TopicHash>();

/// Returns the hash of a topic, without the prefix of the network.
pub fn topic_hash(topic: &str) -> TopicHash {
    let [a, b, c, d, ..] = keccak_fields(&[b"p2p-node/topic/v1", topic.as_bytes()]);
    u32::from_be_bytes([a, b, c, d])
}

/// Encodes hashes of topics: big-endian, one after the other.
pub fn encode_topic_hashes(hashes: &[TopicHash]) -> Bytes {
    hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect()
}

/// Decodes hashes of topics. Returns `None` unless they are complete and in ascending order.
pub fn decode_topic_hashes(bytes: &[u8]) -> Option<Vec<TopicHash>> {
    let (hashes, []) = bytes.as_chunks::<TOPIC_HASH_BYTES>() else { return None };
    let hashes: Vec<TopicHash> = hashes.iter().map(|hash| u32::from_be_bytes(*hash)).collect();
    hashes.is_sorted_by(|left, right| left < right).then_some(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_return_from_their_encoding_only_in_ascending_order() {
        let (low, high) = (topic_hash("a").min(topic_hash("b")), topic_hash("a").max(topic_hash("b")));
        assert_eq!(decode_topic_hashes(&encode_topic_hashes(&[low, high])), Some(vec![low, high]));
        assert_eq!(decode_topic_hashes(b""), Some(Vec::new()));
        assert_eq!(decode_topic_hashes(&encode_topic_hashes(&[high, low])), None);
        assert_eq!(decode_topic_hashes(&encode_topic_hashes(&[low, low])), None);
        assert_eq!(decode_topic_hashes(b"abcde"), None);
    }
}
