//! Floods of frames with invalid signatures.

use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, PublishOutcome};
use serde_json::json;

use crate::child::TIMEOUT;
use crate::fixture::Fixture;
use crate::forge::{Forger, corrupt, topic};
use crate::peer::Hostile;

/// A topic to which the victim subscribes while it runs.
const LATE: &str = "late";
/// Forged frames of each identity: those of one second.
const FRAMES: u64 = 1_000;
/// Identities that forge one after the other. Each is banned.
const FORGERS: u8 = 5;
/// Memory that the later identities may cost, in MiB. Debug builds and allocators need some reserve.
const MAX_GROWN: u64 = 10;

/// Sends the forged frames as fast as they are written, and returns how many left before the victim hung up.
async fn forge(hostile: &mut Hostile, is_old: bool) -> u64 {
    let mut sent = 0;
    for number in 0..FRAMES {
        let frame = hostile.forger.frame(topic(LATE), number.to_string(), |body| {
            body.created_at_ms -= if is_old { 600_000 } else { 0 };
        });
        if hostile.publish(LATE, corrupt(&frame, 3)).await == PublishOutcome::Sent {
            sent += 1;
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_invalid_signatures_a_second_end_in_bans_and_harm_nobody() {
    let mut fixture = Fixture::with("full", &["--limits", "on"]);
    let answer = fixture.victim.request(json!({"type":"subscribe","topic":LATE}));
    assert_eq!(answer["type"], "result", "{answer}");
    let mut before = (0, 0);
    for number in 0..FORGERS {
        let mut hostile = Hostile::join(Forger::new(0x40 + number), &fixture.victim).await;
        hostile.subscribed(&fixture.victim, LATE).await;
        // An old time is no way to get away with it.
        let sent = forge(&mut hostile, number % 2 == 1).await;
        assert!(sent > 0);
        let peer = hostile.node.peer.to_string();
        let banned = fixture
            .victim
            .child
            .expect("a ban", |event| event["type"] == "peer_banned" && event["peerId"] == peer.as_str());
        assert_eq!(
            (&banned["reason"], &banned["score"]),
            (&json!("invalid_gossip"), &json!(0.2)),
            "{banned}"
        );
        let hung_up = hostile.node.expect("end of the connection", |input| {
            matches!(input, Input::Disconnected { .. }).then_some(())
        });
        tokio::time::timeout(TIMEOUT, hung_up).await.expect("the victim hangs up");
        fixture.check_honest_traffic();
        let victim = fixture.victim.peer();
        hostile.node.apply(NetworkCommand::Dial { peer: victim, addrs: fixture.victim.addrs() }).await;
        drop(hostile);
        if number == 0 {
            before = (fixture.victim.memory(), fixture.victim.descriptors());
        }
    }
    let grown = fixture.victim.memory().saturating_sub(before.0) >> 20;
    assert!(grown <= MAX_GROWN, "{grown} MiB");
    assert!(fixture.victim.descriptors() <= before.1 + usize::from(FORGERS), "descriptors leak");
    let counters = fixture.victim.counters();
    // Each node, and its agent, which its admission named.
    assert_eq!(counters["peers_banned"], 2 * u64::from(FORGERS), "{counters:?}");
    // A ban takes four frames. The victim does not read what was on its way meanwhile.
    assert_eq!(counters["frames_forged"], 4 * u64::from(FORGERS), "{counters:?}");
    fixture.assert_no_events(&["message", "error"]);
}
