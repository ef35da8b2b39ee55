use super::*;

const RELAYED: bool = true;
const DIRECT: bool = false;

/// Connections whose probes answer when a test says so.
struct Fixture {
    links: Links,
    peer: PeerId,
    now: Instant,
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

impl Fixture {
    /// Creates connections to a peer. `decides` says which of the two nodes ends duplicates.
    fn new(connections: &[bool], decides: bool) -> Self {
        let mut ids = [PeerId::random(), PeerId::random()];
        ids.sort();
        let [local, peer] = if decides { ids } else { [ids[1], ids[0]] };
        let mut fixture = Fixture { links: Links::new(local), peer, now: Instant::now() };
        for (number, is_relayed) in connections.iter().enumerate() {
            fixture.links.on_established(peer, id(number), *is_relayed);
        }
        fixture
    }

    fn answer(&mut self, number: usize) {
        let now = self.now;
        let links = self.links.peers.get_mut(&self.peer).expect("the peer");
        links[number].probe = Probe::Answered(now);
    }

    /// Lets time pass and decides. Returns what the node does.
    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.links.actions.clear();
        self.links.judge(self.peer, self.now);
        let name = |action: &ToSwarm<Superseded, SendProbe>| match action {
            ToSwarm::CloseConnection { .. } => "close all".to_owned(),
            ToSwarm::GenerateEvent(Superseded { connection, is_last_call, .. }) => {
                format!("end {connection}{}", if *is_last_call { " at once" } else { "" })
            }
            other => format!("{other:?}"),
        };
        self.links.actions.iter().map(name).collect()
    }
}

#[test]
fn second_connection_makes_the_node_probe_both() {
    let one = Fixture::new(&[DIRECT], true);
    assert!(one.links.actions.is_empty() && one.links.watched.is_empty());
    let two = Fixture::new(&[DIRECT, DIRECT], true);
    assert_eq!(two.links.actions.len(), 2);
}

#[test]
fn silent_old_connection_beside_an_answering_new_one_ends_all() {
    let mut fixture = Fixture::new(&[DIRECT, DIRECT], false);
    assert!(fixture.after(PROBE_TIMEOUT).is_empty(), "a slow peer answers on neither");
    fixture.answer(1);
    assert!(fixture.after(PROBE_LEAD / 2).is_empty());
    assert_eq!(fixture.after(PROBE_LEAD), ["close all"]);
    assert!(fixture.after(PROBE_LEAD).is_empty(), "the connections are ended once");
}

#[test]
fn answering_connections_stay_until_one_side_ends_the_younger() {
    for decides in [true, false] {
        let mut fixture = Fixture::new(&[DIRECT, DIRECT], decides);
        fixture.answer(0);
        fixture.answer(1);
        assert!(fixture.after(Duration::ZERO).is_empty());
        let ended = fixture.after(DUPLICATE_LINGER);
        assert_eq!(ended, if decides { vec!["end 1"] } else { vec![] });
    }
}

#[test]
fn relayed_connection_ends_beside_a_direct_one_after_its_mail() {
    for order in [[RELAYED, DIRECT], [DIRECT, RELAYED]] {
        let mut fixture = Fixture::new(&order, false);
        fixture.answer(0);
        fixture.answer(1);
        assert!(fixture.after(Duration::ZERO).is_empty());
        let relayed = if order[0] { 0 } else { 1 };
        assert_eq!(fixture.after(RELAYED_LINGER), [format!("end {relayed}")]);
        assert!(fixture.after(RECONSIDER / 2).is_empty());
        assert_eq!(fixture.after(RECONSIDER), [format!("end {relayed}")]);
        assert_eq!(fixture.after(MAIL_TIMEOUT), [format!("end {relayed} at once")]);
    }
}

#[test]
fn relayed_connection_stays_until_the_direct_one_has_answered() {
    let mut fixture = Fixture::new(&[RELAYED, DIRECT], true);
    fixture.answer(0);
    assert!(fixture.after(Duration::ZERO).is_empty());
    assert!(fixture.after(2 * RELAYED_LINGER).is_empty());
}

#[test]
fn silent_connection_ends_after_a_change_of_the_network() {
    let mut fixture = Fixture::new(&[DIRECT], true);
    fixture.links.probe_all();
    assert!(fixture.after(PROBE_TIMEOUT / 2).is_empty());
    assert_eq!(fixture.after(PROBE_TIMEOUT), ["close all"]);
    let mut alive = Fixture::new(&[DIRECT], true);
    alive.links.probe_all();
    alive.answer(0);
    assert!(alive.after(2 * PROBE_TIMEOUT).is_empty());
}

#[test]
fn relayed_connection_without_a_direct_one_is_renewed_less_and_less_often() {
    let mut fixture = Fixture::new(&[RELAYED], true);
    let moment = Duration::from_millis(100);
    assert!(fixture.after(RENEW_AFTER - moment).is_empty());
    assert_eq!(fixture.after(2 * moment), ["end 0"]);
    assert!(fixture.after(RECONSIDER / 2).is_empty());
    assert_eq!(fixture.after(RECONSIDER), ["end 0"], "mail was in flight");
    let again = |links: &mut Links, peer| links.count_renewal(peer, RELAYED);
    let Fixture { links, peer, .. } = &mut fixture;
    assert_eq!(again(links, *peer), Some(2 * RENEW_AFTER));
    assert_eq!(again(links, *peer), Some(4 * RENEW_AFTER));
    assert_eq!(links.count_renewal(*peer, DIRECT), None);
    assert_eq!(again(links, *peer), Some(RENEW_AFTER));
    for _ in 0..2 * MAX_RENEWALS {
        again(links, PeerId::random());
    }
    assert!(links.renewals.len() <= MAX_RENEWALS);
}

#[test]
fn one_of_two_nodes_renews_relayed_connections_and_none_beside_a_direct_one() {
    assert!(Fixture::new(&[RELAYED], false).after(2 * RENEW_AFTER).is_empty());
    let mut fixture = Fixture::new(&[RELAYED, DIRECT], true);
    assert!(fixture.after(2 * RENEW_AFTER).is_empty(), "the direct one has not answered");
}
