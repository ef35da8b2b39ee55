use super::*;

const ANN: Address = Address::repeat_byte(1);
const NOW: Instant = Instant::from_secs(100);

fn node(number: u64) -> PeerId {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    p2p_node_wire::identity::NodeKey::from_seed(seed).peer_id()
}

/// Forwards a frame that its author itself sent.
fn forward(limits: &mut AuthorLimits, author: Author<'_>, bytes: usize, now: Instant) -> bool {
    forward_from(limits, author, *author.node, bytes, now)
}

fn forward_from(
    limits: &mut AuthorLimits,
    author: Author<'_>,
    from: PeerId,
    bytes: usize,
    now: Instant,
) -> bool {
    let passage = Passage { author, from, topic: TopicKind::OfAgents };
    limits.admit(passage, bytes, now)
}

#[test]
fn forwarding_limits_frames_and_bytes_of_each_author_but_allowed_ones() {
    let mut limits = AuthorLimits::default();
    let node = PeerId::random();
    let author = |tier| Author { agent: &ANN, node: &node, tier, is_met: true };
    let mut count =
        |tier, bytes, now| (0..2_000).filter(|_| forward(&mut limits, author(tier), bytes, now)).count();
    assert_eq!(count(Tier::Known, 100, NOW), 100);
    assert_eq!(count(Tier::Stranger, 100, NOW + Duration::from_secs(1)), 20);
    assert_eq!(count(Tier::Allowed, 100, NOW), 2_000);
    let later = NOW + Duration::from_secs(60);
    assert_eq!(count(Tier::Known, 1 << 20, later), 10, "five seconds of 2 MiB");
}

#[test]
fn strangers_that_flood_share_what_a_parent_takes_of_strangers_and_leave_room_for_quiet_ones() {
    let of_one = |limits: &mut AuthorLimits, number: u8, now| {
        let node = node(number.into());
        let agent = Address::repeat_byte(number);
        let author = Author { agent: &agent, node: &node, tier: Tier::Stranger, is_met: true };
        forward(limits, author, 100, now)
    };
    for (floods, each_second) in [(1, 21), (5, 48), (10, 50), (20, 51)] {
        let mut limits = AuthorLimits::default();
        let mut forwarded = 0;
        for millis in (0..60_000).step_by(10) {
            let now = NOW + Duration::from_millis(millis);
            forwarded += (0..floods).filter(|number| of_one(&mut limits, *number, now)).count();
        }
        assert_eq!(forwarded / 60, each_second, "{floods}");
        let end = NOW + Duration::from_secs(60);
        let quiet = (0..40).filter(|number| of_one(&mut limits, 100 + number % 20, end)).count();
        assert_eq!(quiet, 40, "{floods}: two frames of each of twenty quiet strangers");
        assert!(limits.usage().all(|usage| usage.size <= usage.limit));
    }
}

#[test]
fn strangers_share_bytes_and_leave_room_for_small_frames_and_for_the_topics_of_nodes() {
    let mut limits = AuthorLimits::default();
    let nodes: Vec<PeerId> = (0..20).map(|_| PeerId::random()).collect();
    let author = |node| Author { agent: &ANN, node, tier: Tier::Stranger, is_met: true };
    for (bytes, alone) in [(60 << 10, 2), (1 << 10, 170)] {
        let mut strangers = StrangerFrames::new();
        let mut room = |_: &usize| {
            let has_room = strangers.has_room(&nodes[0], &nodes[0], bytes, NOW);
            if has_room {
                strangers.bytes.shared.record(nodes[0], nodes[0], bytes, NOW);
            }
            has_room
        };
        assert_eq!((0..1_000).filter(&mut room).count(), alone);
    }
    let strangers = &mut limits.of_strangers[TopicKind::OfAgents as usize][1];
    for _ in 0..100 {
        for node in &nodes {
            if strangers.has_room(node, node, 17 << 10, NOW) {
                strangers.record(*node, *node, 17 << 10, NOW);
            }
        }
    }
    assert!(!strangers.has_room(&nodes[0], &nodes[0], 17 << 10, NOW));
    let quiet = PeerId::random();
    let sent = (0..8).filter(|_| forward(&mut limits, author(&quiet), 600, NOW)).count();
    assert_eq!(sent, 8, "a quiet stranger");
    let passage = |topic| Passage { author: author(&nodes[0]), from: nodes[0], topic };
    assert!(limits.has_room(passage(TopicKind::OfNodes), 60 << 10, NOW));
    let later = NOW + Duration::from_secs(2);
    assert!(limits.has_room(passage(TopicKind::OfAgents), 60 << 10, later));
}

/// One neighbour invents authors, each of which is quiet.
#[test]
fn any_number_of_quiet_authors_by_one_neighbour_leaves_room_for_those_by_another() {
    for is_met in [false, true] {
        let mut limits = AuthorLimits::default();
        let (flooder, other) = (node(1_000), node(1_001));
        let mut of_author = |number: u64, from, now| {
            let (agent, node) = (Address::left_padding_from(&number.to_be_bytes()), node(number));
            let author = Author { agent: &agent, node: &node, tier: Tier::Stranger, is_met };
            forward_from(&mut limits, author, from, 100, now)
        };
        let mut forwarded = 0;
        for second in 0..20 {
            for number in 0..200 {
                let now = NOW + Duration::from_millis(second * 1_000 + number * 5);
                forwarded += u64::from(of_author(number, flooder, now));
            }
            let now = NOW + Duration::from_millis(second * 1_000 + 999);
            assert!(of_author(500, other, now), "{is_met}: the quiet author in second {second}");
        }
        assert_eq!(forwarded, 1_047, "{is_met}: four fifths of 53 a second, and of the reserve");
        assert!(limits.usage().all(|usage| usage.size <= usage.limit));
    }
}

fn own_frames(limits: &mut AuthorLimits, created_at_ms: u64, bytes: usize, now: Now) -> Option<Conduct> {
    let peer_id = PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32][..], &[7; 32]].concat()).unwrap();
    let claim = FrameClaim { account: ANN, peer_id, created_at_ms };
    limits.check_own_frame(peer_id, &claim, bytes, now)
}

fn at(millis: u64) -> Now {
    Now { mono: Instant::from_millis(1_000_000 + millis), unix_ms: 1_700_000_000_000 + millis }
}

#[test]
fn neighbour_that_floods_with_its_own_frames_or_bytes_is_to_blame_from_the_first_one_above() {
    let first_blamed = |bytes| {
        let mut limits = AuthorLimits::default();
        (1..=200)
            .find_map(|number| own_frames(&mut limits, at(0).unix_ms, bytes, at(0)).map(|it| (number, it)))
    };
    assert_eq!(first_blamed(100), Some((101, Conduct::MessageRateExceeded)));
    assert_eq!(first_blamed(1 << 20), Some((11, Conduct::BandwidthExceeded)));
    // Nor does it help to claim that the frames are old.
    let mut limits = AuthorLimits::default();
    (0..100).for_each(|_| assert_eq!(own_frames(&mut limits, at(0).unix_ms, 100, at(0)), None));
    assert_eq!(own_frames(&mut limits, 0, 100, at(0)), Some(Conduct::MessageRateExceeded));
}

/// A node sends a burst of 88 frames and 17 a second; see `own_pace`.
#[test]
fn neighbour_that_keeps_its_pace_is_never_to_blame_after_a_stall_or_a_jump_of_a_clock() {
    let created = |number: u64| number.saturating_sub(88) * 57;
    // The stall, how far the clock of the sender jumps back after a minute, and that of this node forward.
    for (stalled_ms, back_ms, forward_ms) in
        [(0, 0, 0), (110_000, 0, 0), (600_000, 0, 0), (0, 60_000, 0), (600_000, 0, 1_800_000)]
    {
        let mut limits = AuthorLimits::default();
        for number in 0..15_000 {
            let sent = created(number);
            // The network, or the suspension of this node, holds all frames of the stall back.
            let mut arrival = at(sent.max(stalled_ms));
            arrival.unix_ms += forward_ms;
            let claimed = at(sent).unix_ms - if sent > 60_000 { back_ms } else { 0 };
            assert_eq!(own_frames(&mut limits, claimed, 100, arrival), None, "{stalled_ms} {number}");
        }
    }
}
