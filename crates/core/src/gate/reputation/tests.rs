use std::time::Duration;

use p2p_node_wire::time::Instant;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn node() -> Party {
    Party::Node(PeerId::random())
}

fn is(score: f64, expected: f64) -> bool {
    (score - expected).abs() < 1e-9
}

fn now() -> Now {
    Now { mono: Instant::from_secs(100), unix_ms: 1_790_000_000_000 }
}

/// Commits faults until the party is to be banned, and bans it. Returns their number.
fn ban(reputations: &mut Reputations, party: Party, conduct: Conduct, at: Instant) -> usize {
    let faults = (1..100).find(|_| reputations.apply(party, conduct, 1.0, 0.0, at)).expect("a ban");
    reputations.ban(party, conduct, None, at);
    faults
}

#[test]
fn party_below_threshold_is_to_be_banned_and_not_on_it() {
    let (mut reputations, at) = (Reputations::default(), now().mono);
    for (conduct, faults) in [(Conduct::InvalidMail, 4), (Conduct::Equivocation, 3)] {
        assert_eq!(ban(&mut reputations, node(), conduct, at), faults, "{conduct:?}");
    }
    let on_it = node();
    let standing = Standing::after_ban(0, at);
    reputations.nodes.set(on_it, standing, at);
    assert!(is(reputations.score(&on_it, at), THRESHOLD));
    assert!(!reputations.apply(on_it, Conduct::MailAccepted, 1.0, 0.0, at));
}

#[test]
fn reputation_recovers_evenly_to_the_threshold_while_a_ban_lasts() {
    let (mut reputations, at, party) = (Reputations::default(), now().mono, node());
    ban(&mut reputations, party, Conduct::InvalidMail, at);
    assert!(is(reputations.score(&party, at), 0.2));
    assert!(is(reputations.score(&party, at + HOUR / 2), 0.25));
    assert!(!reputations.apply(party, Conduct::InvalidMail, 1.0, 0.0, at), "a ban leaves it to time");
    assert!(is(reputations.score(&party, at), 0.2));
    assert_eq!(reputations.end_bans(at + HOUR - Duration::from_millis(1)), []);
    assert_eq!(reputations.next_end(), Some(at + HOUR));
    assert_eq!(reputations.end_bans(at + HOUR), [party]);
    assert!(is(reputations.score(&party, at + HOUR), THRESHOLD));
    assert_eq!((reputations.next_end(), reputations.lens()), (None, [0, 1, 0, 0]));
}

#[test]
fn each_further_ban_takes_twice_as_long_up_to_half_a_day_until_a_day_without() {
    let (mut reputations, mut at, party) = (Reputations::default(), now().mono, node());
    let mut lengths = Vec::new();
    for _ in 0..6 {
        ban(&mut reputations, party, Conduct::InvalidMail, at);
        let until = reputations.next_end().expect("a ban");
        lengths.push(until.saturating_since(at).as_secs() / 3600);
        at = until;
        reputations.end_bans(at);
    }
    assert_eq!(lengths, [1, 2, 4, 8, 12, 12]);
    at += 24 * HOUR;
    ban(&mut reputations, party, Conduct::InvalidMail, at);
    assert_eq!(reputations.next_end(), Some(at + HOUR));
}

#[test]
fn pardon_ends_ban_and_gives_full_reputation() {
    let (mut reputations, at, party) = (Reputations::default(), now().mono, node());
    ban(&mut reputations, party, Conduct::InvalidMail, at);
    assert!(reputations.pardon(&party) && !reputations.pardon(&party));
    assert!(is(reputations.score(&party, at), 1.0) && reputations.are_full());
    reputations.apply(party, Conduct::InvalidMail, 1.0, 0.0, at);
    assert!(!reputations.pardon(&party) && is(reputations.score(&party, at), 1.0));
}

#[test]
fn full_list_of_bans_ends_the_one_that_would_end_first() {
    let (mut reputations, at) = (Reputations::default(), now().mono);
    let first = node();
    reputations.ban(first, Conduct::InvalidMail, None, at);
    for number in 1..MAX_BANS as u64 {
        let later = at + Duration::from_millis(number);
        assert_eq!(reputations.ban(node(), Conduct::InvalidMail, None, later).1, None);
    }
    assert_eq!(reputations.ban(node(), Conduct::InvalidMail, None, at + HOUR).1, Some(first));
    assert_eq!(reputations.lens()[3], MAX_BANS);
}

#[test]
fn restored_ban_ends_at_its_time_by_the_wall_clock_and_after_half_a_day_at_most() {
    let now = now();
    let bans = |until_ms| PersistedBan { until_ms, reason: Conduct::InvalidMail, number: 2, host: None };
    let (lasting, over, from_the_future) = (node(), node(), node());
    let persisted = [
        (lasting, bans(now.unix_ms + 60_000)),
        (over, bans(now.unix_ms - 1)),
        (from_the_future, bans(u64::MAX)),
    ];
    let mut reputations = Reputations::new(&persisted, now);
    assert_eq!(reputations.end_bans(now.mono), [over]);
    assert_eq!(reputations.ban_of(&lasting).map(|ban| ban.until_ms(now)), Some(now.unix_ms + 60_000));
    assert_eq!(reputations.ban_of(&lasting).map(|ban| ban.persisted(now)), Some(persisted[0].1));
    let longest = reputations.ban_of(&from_the_future).map(|ban| ban.until);
    assert_eq!(longest, Some(now.mono + 12 * HOUR));
}

#[test]
fn nodes_of_a_host_count_only_for_it() {
    let (mut reputations, at) = (Reputations::default(), now().mono);
    let (host, other) = (Host::of_ip([192, 0, 2, 1].into()), Host::of_ip([192, 0, 2, 2].into()));
    for host in [host, host, other] {
        reputations.ban(node(), Conduct::InvalidMail, Some(host), at);
    }
    assert_eq!((reputations.banned_nodes(host), reputations.banned_nodes(other)), (2, 1));
    let address = Address::repeat_byte(1);
    let Party::Node(peer) = node() else { unreachable!("a node") };
    assert!(!reputations.is_banned(&address, &peer));
    reputations.ban(Party::Agent(address), Conduct::InvalidMail, None, at);
    assert!(reputations.is_banned(&address, &peer));
    reputations.pardon(&Party::Agent(address));
    reputations.ban(Party::Node(peer), Conduct::InvalidMail, None, at);
    assert!(reputations.is_banned(&address, &peer));
}

#[test]
fn word_of_the_registry_makes_a_ban_nearer_and_alone_bans_nobody() {
    let at = Instant::from_secs(1_000);
    let node = PeerId::random();
    let agent = Address::repeat_byte(7);
    let faults = |prior: f64| {
        let mut reputations = Reputations::default();
        assert_eq!(reputations.of_peer(Some(agent), &node, prior, at), rounded(1.0 - prior));
        assert!(!reputations.apply(Party::Agent(agent), Conduct::MailAccepted, 1.0, prior, at));
        (1..10).find(|_| reputations.apply(Party::Agent(agent), Conduct::InvalidMail, 1.0, prior, at))
    };
    assert_eq!((faults(0.0), faults(0.4)), (Some(4), Some(2)));
}
