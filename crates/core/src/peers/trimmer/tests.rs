use libp2p_identity::PeerId;
use p2p_node_protocol::{Event, PROTOCOL_VERSION};

use super::*;
use crate::Core;
use crate::effect::Effect;
use crate::gate::access_list::Subject;
use crate::peers::candidate::Candidate;
use crate::peers::limits::ConnectionLimits;
use crate::peers::links::PeerReport;
use crate::testing::{TestCore as _, core_with};

/// What the components above need, in a test.
#[derive(Default)]
struct Wanted(BTreeSet<String>);

impl Needs for Wanted {
    fn topics(&self) -> BTreeSet<String> {
        self.0.clone()
    }

    fn has_mail(&self, _agent: &Address) -> bool {
        false
    }
}

/// A core with the watermarks 4 and 6.
fn small_core() -> Core {
    let mut core = core_with(|config| {
        config.connections =
            ConnectionLimits { high_watermark: 6, low_watermark: 4, target: 4, min: 2, ..config.connections };
    });
    core.cx.replies.clients.parent.protocol_v1 = PROTOCOL_VERSION == 1;
    core
}

fn connect(core: &mut Core, number: usize) -> Vec<PeerId> {
    let peers: Vec<PeerId> = (0..number).map(|_| PeerId::random()).collect();
    for peer in &peers {
        let Core { peers, local, directory, cx, .. } = core;
        peers.on_connected(*peer, false, local, directory, cx);
        core.admit(*peer);
    }
    peers
}

fn disconnect(core: &mut Core, peer: PeerId) {
    core.peers.on_disconnected(peer, None, &core.directory, &mut core.cx);
}

/// Runs a check after some time, and more until the core trims no more. Disconnects the trimmed peers
/// and returns them.
fn trimmed_after(core: &mut Core, wanted: &Wanted, time: Duration) -> Vec<PeerId> {
    let mut trimmed = Vec::new();
    let mut chosen = check_after(core, wanted, time);
    while !chosen.is_empty() {
        chosen.iter().for_each(|peer| disconnect(core, *peer));
        trimmed.extend(chosen);
        chosen = check_after(core, wanted, INTERVAL);
    }
    trimmed
}

/// Runs a check after some time and returns the trimmed peers.
fn check_after(core: &mut Core, wanted: &Wanted, time: Duration) -> Vec<PeerId> {
    core.cx.now.mono += time;
    let Core { peers, gate, directory, cx, .. } = core;
    peers.trim_connections(wanted, gate, directory, cx);
    let closed = |effect: &Effect| match effect {
        Effect::Network(NetworkCommand::Disconnect { peer }) => Some(*peer),
        _ => None,
    };
    let peers: Vec<PeerId> = core.cx.effects.iter().filter_map(closed).collect();
    core.cx.effects.retain(|effect| closed(effect).is_none());
    peers
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn connections_above_the_high_watermark_are_trimmed_down_to_the_low_one() {
    let mut core = small_core();
    connect(&mut core, 6);
    assert_eq!(core.peers.trim_deadline(), None);
    assert_eq!(trimmed_after(&mut core, &Wanted::default(), MINUTE), []);
    connect(&mut core, 1);
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    assert_eq!(trimmed.len(), 3);
    assert_eq!(core.cx.stats.get(Counter::ConnectionsTrimmed), 3);
    assert_eq!(core.peers.table.connections_len(), 4);
    assert_eq!(core.peers.trim_deadline(), None);
}

#[test]
fn young_connections_stay_until_their_grace_ends() {
    let mut core = small_core();
    connect(&mut core, 7);
    assert_eq!(trimmed_after(&mut core, &Wanted::default(), Duration::from_secs(29)), []);
    let due = core.peers.trim_deadline().expect("a next check");
    assert_eq!(due, core.cx.now.mono + INTERVAL);
    assert_eq!(trimmed_after(&mut core, &Wanted::default(), INTERVAL).len(), 3);
}

#[test]
fn checks_keep_their_interval() {
    let mut core = small_core();
    connect(&mut core, 16);
    assert_eq!(check_after(&mut core, &Wanted::default(), Duration::from_secs(25)), []);
    assert_eq!(check_after(&mut core, &Wanted::default(), Duration::from_secs(9)), []);
    assert_eq!(
        check_after(&mut core, &Wanted::default(), Duration::from_secs(1)).len(),
        3,
        "a quarter of 12"
    );
}

#[test]
fn bootstrap_peers_relays_servers_and_allowed_nodes_are_kept() {
    let mut core = small_core();
    let peers = connect(&mut core, 12);
    let Core { peers: component, gate, cx, .. } = &mut core;
    let addr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    component.add_candidate(Candidate::bootstrap(peers[0], addr), cx);
    component.relays.reserve_for_test(peers[1]);
    component.on_dht_mode(peers[2], true, Vec::new(), cx);
    gate.access_list.set(Subject::Node(peers[3]), Some(AccessRule::Allowed)).expect("room");
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    let mut expected = peers[4..].to_vec();
    expected.sort();
    let mut sorted = trimmed.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "all others go");
}

#[test]
fn clients_of_this_relay_stay_until_their_last_reservation_ends() {
    let mut core = small_core();
    let peers = connect(&mut core, 12);
    let client = peers[0];
    for report in [PeerReport::ReservationMade, PeerReport::ReservationMade, PeerReport::ReservationEnded] {
        core.peers.on_peer_report(client, report, &mut core.cx);
    }
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    assert!(trimmed.len() == 8 && !trimmed.contains(&client), "{trimmed:?}");
    core.peers.on_peer_report(client, PeerReport::ReservationEnded, &mut core.cx);
    let newcomers = connect(&mut core, 6);
    core.peers.on_peer_report(newcomers[0], PeerReport::ReservationMade, &mut core.cx);
    core.cx.now.mono += MINUTE;
    newcomers.iter().for_each(|peer| core.peers.touch(peer, &core.cx));
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    assert!(trimmed.contains(&client) && !trimmed.contains(&newcomers[0]), "{trimmed:?}");
}

#[test]
fn at_most_eight_servers_are_kept() {
    let mut core = small_core();
    let peers = connect(&mut core, 12);
    peers.iter().for_each(|peer| core.peers.on_dht_mode(*peer, true, Vec::new(), &mut core.cx));
    assert_eq!(trimmed_after(&mut core, &Wanted::default(), MINUTE).len(), 12 - SERVERS);
}

#[test]
fn subscribers_of_a_topic_stay_as_far_as_gossip_needs_them() {
    let mut core = small_core();
    let peers = connect(&mut core, 12);
    let wanted = Wanted(BTreeSet::from(["thin".to_owned(), "thick".to_owned()]));
    for (number, peer) in peers.iter().enumerate() {
        let topic = if number < 2 { "thin" } else { "thick" };
        let Core { peers, local, directory, cx, .. } = &mut core;
        peers.on_subscribed(*peer, topic.to_owned(), local, directory, cx);
    }
    let trimmed = trimmed_after(&mut core, &wanted, MINUTE);
    assert_eq!(trimmed.len(), 10 - MESH_LOW, "two of the thin topic and four of the other stay");
    assert!(!trimmed.contains(&peers[0]) && !trimmed.contains(&peers[1]));
}

#[test]
fn peers_of_least_value_go_first_and_of_equal_ones_those_idle_longest() {
    let mut core = small_core();
    let peers = connect(&mut core, 7);
    core.peers.on_peer_report(peers[5], PeerReport::RoundTrip(Duration::from_millis(700)), &mut core.cx);
    core.cx.now.mono += MINUTE;
    for peer in
        peers.iter().enumerate().filter(|(number, _)| ![2, 5, 6].contains(number)).map(|(_, peer)| peer)
    {
        core.peers.touch(peer, &core.cx);
    }
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    assert_eq!(trimmed[0], peers[5], "the slow one first");
    assert_eq!(BTreeSet::from([trimmed[1], trimmed[2]]), BTreeSet::from([peers[2], peers[6]]));
}

#[test]
fn trimmed_peer_is_reported_with_the_reason_and_gets_no_grace_when_it_returns() {
    let mut core = small_core();
    connect(&mut core, 7);
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    let now = core.cx.now.mono;
    for peer in &trimmed {
        assert!(core.peers.trimmer.is_trimmed(peer, now), "the dialer does not select the peer");
        assert!(!core.peers.is_unreachable(peer, now), "mail may dial the peer");
    }
    let reasons: Vec<String> = core
        .lines()
        .into_iter()
        .filter_map(|event| match event {
            Event::PeerDisconnected(ended) => ended.reason,
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 3);
    assert!(reasons.iter().all(|reason| reason.starts_with("trimmed: ")), "{reasons:?}");
    let Core { peers, local, directory, cx, .. } = &mut core;
    peers.on_connected(trimmed[0], false, local, directory, cx);
    let strangers = connect(&mut core, 2);
    assert_eq!(core.peers.table.connections_len(), 7);
    let again = check_after(&mut core, &Wanted::default(), INTERVAL);
    assert!(again.contains(&trimmed[0]) && !strangers.iter().any(|peer| again.contains(peer)), "{again:?}");
    core.cx.now.mono += PAUSE;
    assert!(!core.peers.trimmer.is_trimmed(&trimmed[0], core.cx.now.mono), "the pause ends");
}

#[test]
fn mail_to_a_trimmed_peer_gives_it_grace_again() {
    let mut core = small_core();
    connect(&mut core, 7);
    let trimmed = trimmed_after(&mut core, &Wanted::default(), MINUTE);
    let peer = trimmed[0];
    assert!(core.peers.trimmer.is_trimmed(&peer, core.cx.now.mono));
    let addr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    core.peers.dial_for_mail(Candidate::bootstrap(peer, addr), &mut core.cx);
    assert!(!core.peers.trimmer.is_trimmed(&peer, core.cx.now.mono));
}

#[test]
fn trimmed_peers_are_bounded_and_the_one_whose_pause_ends_first_goes() {
    let mut core = small_core();
    let peers: Vec<PeerId> = (0..=MAX_TRIMMED).map(|_| PeerId::random()).collect();
    let at = |number: usize| Instant::from_millis(number as u64);
    for (number, peer) in peers.iter().enumerate() {
        core.peers.trimmer.remember(*peer, at(number));
    }
    assert_eq!(core.peers.trimmer.len(), MAX_TRIMMED);
    let is_trimmed = |number: usize| core.peers.trimmer.is_trimmed(&peers[number], at(MAX_TRIMMED));
    assert!(!is_trimmed(0) && is_trimmed(1) && is_trimmed(MAX_TRIMMED));
}
