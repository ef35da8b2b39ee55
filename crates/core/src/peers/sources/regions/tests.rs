use super::*;
use crate::Core;
use crate::input::Now;
use crate::lifecycle::Phase;
use crate::source::SourceEvent;
use crate::testing::{START, TestCore as _, core_with};

/// Two regions with one peer each.
struct World {
    core: Core,
    east: PeerId,
    sea: PeerId,
}

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")
}

impl World {
    fn new(preferred: &[&str]) -> Self {
        let (east, sea) = (PeerId::random(), PeerId::random());
        let preferred = preferred.iter().map(|name| (*name).to_owned()).collect();
        let mut core = core_with(|config| config.preferred_regions = preferred);
        core.cx.phase = Phase::Ready;
        let mut world = World { core, east, sea };
        world.load(&[("us-east", east, 1), ("sea", sea, 2)]);
        world
    }

    fn load(&mut self, entries: &[(&str, PeerId, u16)]) {
        let mut regions = Regions::new();
        for (name, peer, port) in entries {
            regions.entry((*name).to_owned()).or_default().push((*peer, addr(*port)));
        }
        self.core.peers.on_source(SourceEvent::Regions(regions), &mut self.core.cx);
    }

    /// Returns the bootstrap peers at this time.
    fn at(&mut self, secs: u64) -> BTreeSet<PeerId> {
        self.core.cx.now = Now { mono: Instant::from_millis(secs * 1000), unix_ms: START.unix_ms };
        self.core.peers.poll_regions(&mut self.core.cx);
        let table = &self.core.peers.table;
        [self.east, self.sea].into_iter().filter(|peer| table.is_bootstrap(peer)).collect()
    }

    fn connect(&mut self, peer: PeerId) {
        let Core { peers, local, directory, cx, .. } = &mut self.core;
        peers.on_connected(peer, true, local, directory, cx);
    }

    fn disconnect(&mut self, peer: PeerId) {
        let Core { peers, directory, cx, .. } = &mut self.core;
        peers.on_disconnected(peer, None, directory, cx);
    }
}

#[test]
fn peers_of_other_regions_are_dialled_while_no_preferred_one_is_connected() {
    let mut world = World::new(&["sea"]);
    let (near, all) = (BTreeSet::from([world.sea]), BTreeSet::from([world.sea, world.east]));
    assert_eq!(world.at(0), near);
    assert_eq!(world.core.peers.region_deadline(), Some(Instant::from_millis(5000)));
    assert_eq!(world.at(4), near);
    assert_eq!(world.at(5), all);
    world.connect(world.sea);
    assert_eq!(world.at(6), near);
    assert_eq!(world.at(60), near);
    world.disconnect(world.sea);
    assert_eq!(world.at(61), near);
    assert_eq!(world.at(66), all);
}

#[test]
fn all_regions_count_without_a_known_preference() {
    let mut world = World::new(&[]);
    assert_eq!(world.at(0).len(), 2);
    let mut world = World::new(&["mars"]);
    assert_eq!(world.at(0).len(), 2);
    assert!(format!("{:?}", world.core.lines()).contains("no region `mars`"));
}

#[test]
fn changed_file_replaces_peers_and_addresses_but_not_configured_peers() {
    let mut world = World::new(&[]);
    let configured = PeerId::random();
    world.core.peers.add_candidate(Candidate::bootstrap(configured, addr(9)), &mut world.core.cx);
    world.load(&[("sea", world.sea, 3), ("sea", configured, 4)]);
    assert_eq!(world.at(0), BTreeSet::from([world.sea]));
    assert_eq!(world.core.peers.regions.dialled, BTreeMap::from([(world.sea, vec![addr(3)])]));
    world.load(&[]);
    assert!(world.at(1).is_empty());
    assert!(world.core.peers.table.is_bootstrap(&configured), "the configuration still names it");
}
