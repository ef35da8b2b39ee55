use super::*;

#[test]
fn stream_limit_evicts_the_least_recently_used() {
    let mut inbox = Inbox::default();
    let mut ready = Vec::new();
    for index in 0..MAX_STREAMS as u64 + 10 {
        let mut message = message(0, 1, 0, 1);
        message.stream = Bytes::from([index.to_be_bytes(), [0; 8]].concat());
        inbox.insert(stranger(index), message, Instant::from_secs(index), &mut ready);
    }
    assert_eq!(inbox.len(), MAX_STREAMS);
    let first: StreamId = StreamId([0; 16]);
    assert_eq!(inbox.next_seq(&stranger(0), &first), 0);
}

#[test]
fn stream_limit_spares_streams_with_open_mail() {
    let mut inbox = Inbox::new(AckPolicy::Manual);
    let mut ready = Vec::new();
    let open = (sender(1), StreamId([1; 16]));
    inbox.insert(open.0, message(1, 1, 0, 1), Instant::ZERO, &mut ready);
    inbox.deliver(open, 1);
    let mut flood = |inbox: &mut Inbox, first: u64| {
        for index in first..first + 2 * MAX_STREAMS as u64 {
            let mut message = message(0, 1, 0, 1);
            message.stream = Bytes::from([index.to_be_bytes(), [0; 8]].concat());
            inbox.insert(stranger(index), message, Instant::from_secs(index), &mut ready);
        }
        assert_eq!(inbox.len(), MAX_STREAMS);
    };
    flood(&mut inbox, 0);
    assert_eq!(inbox.next_seq(&open.0, &open.1), 2);
    assert!(inbox.mark_acked(open, 1));
    flood(&mut inbox, 1 << 32);
    assert_eq!(inbox.next_seq(&open.0, &open.1), 0, "evicted once its mail has ended");
}

#[test]
fn sender_with_too_many_streams_evicts_its_own() {
    let mut inbox = Inbox::default();
    inbox.insert(sender(2), message(9, 1, 0, 1), Instant::ZERO, &mut Vec::new());
    for number in 0..MAX_STREAMS as u64 {
        let stream = Bytes::from([number.to_be_bytes(), [0; 8]].concat());
        let buffered = Message { stream, ..message(0, 2, 1, 1000) };
        inbox.insert(sender(1), buffered, Instant::from_millis(number), &mut Vec::new());
    }
    assert_eq!(inbox.len(), SENDER_STREAMS + 1);
    assert_eq!(inbox.next_seq(&sender(2), &StreamId([9; 16])), 2);
    assert!(inbox.buffered_bytes() <= SENDER_STREAMS * 2000, "{}", inbox.buffered_bytes());
    assert_eq!(inbox.drain_dropped(), (MAX_STREAMS - SENDER_STREAMS) as u64);
    assert_eq!(inbox.drain_dropped(), 0);
}
