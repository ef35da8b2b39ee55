use p2p_node_wire::message_id::StreamId;

use crate::mail::inbound::digests::Digests;
use crate::mail::inbound::unacked::*;

const KEY: Key = (Address::repeat_byte(1), StreamId([1; 16]));

#[test]
fn capacity_leaves_room_for_other_senders_and_fits_one_message() {
    let mut unacked = Unacked::default();
    assert!(unacked.has_room(&KEY.0, Budget::of(1, MAX_UNACKED_BYTES + 1)));
    unacked.insert(KEY, 1, MAX_UNACKED_BYTES / 2 - 10);
    assert!(unacked.has_room(&KEY.0, Budget::of(1, 10)) && !unacked.has_room(&KEY.0, Budget::of(1, 21)));
    let other = Address::repeat_byte(2);
    assert!(unacked.has_room(&other, Budget::of(1, MAX_UNACKED_BYTES / 2)));
    assert!(!unacked.has_room(&other, Budget::of(1, MAX_UNACKED_BYTES / 2 + 11)));
    unacked.remove(&KEY, 1);
    assert_eq!((unacked.len(), unacked.bytes(), unacked.by_sender.len()), (0, 0, 0));
}

#[test]
fn one_sender_cannot_use_the_share_of_the_next() {
    let mut unacked = Unacked::default();
    unacked.set_limit(100);
    let fill = |unacked: &mut Unacked, sender: u8| {
        let key = (Address::repeat_byte(sender), StreamId([1; 16]));
        let credit = unacked.credit(&key.0);
        let taken = (1..).take_while(|seq| {
            let has_room = unacked.has_room(&key.0, Budget::of(1, 1));
            has_room.then(|| unacked.insert(key, *seq, 1)).is_some()
        });
        let taken = taken.count();
        assert!(taken.abs_diff(credit) <= 1, "{taken} {credit}");
        taken
    };
    let shares: Vec<usize> = (1..=6).map(|sender| fill(&mut unacked, sender)).collect();
    assert_eq!(shares, [50, 25, 13, 6, 3, 2]);
    assert!(unacked.len() <= 100);
}

#[test]
fn persisted_write_releases_everything_up_to_its_number() {
    let mut unacked = Unacked::default();
    let other = (KEY.0, StreamId([2; 16]));
    for seq in 1..=6 {
        unacked.insert(KEY, seq, 10);
        unacked.insert(other, seq, 100);
    }
    unacked.commit(&StreamCheckpoint {
        sender: KEY.0,
        stream: KEY.1,
        next: 3,
        delivered_up_to: 7,
        out_of_order: vec![5],
        digests: Digests::default(),
    });
    let name = message_name(&KEY.0, &KEY.1);
    let left: Vec<u64> = (1..=6)
        .filter(|seq| unacked.ack(&(name, *seq), ClientId::PARENT) == AckMeaning::Complete(KEY))
        .collect();
    assert_eq!((left, unacked.bytes()), (vec![3, 4, 6], 630));
    unacked.forget(&other);
    assert_eq!((unacked.len(), unacked.bytes()), (3, 30));
}
