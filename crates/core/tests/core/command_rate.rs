//! How fast a client may write while other clients need the node.

use std::time::Duration;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::{ClientEvent, Input};
use p2p_node_protocol::line::decode_request;
use p2p_node_protocol::{Counter, Role};

use crate::mesh::{CONNECT, Mesh};

const PING: &str = r#"{"type":"ping"}"#;
/// Commands a second, and at once, that a client may write while others need the node.
const RATE: usize = 20_000;
const AT_ONCE: usize = 2 * 1024;
/// Longer than a pause of a client that writes ordinary commands.
const PAUSE: Duration = Duration::from_millis(11);

fn node() -> (Mesh, usize) {
    let mut mesh = Mesh::new(1);
    let node = mesh.add_with(2, Role::Full, CONNECT, |config| config.has_parent = false);
    (mesh, node)
}

/// Writes as many lines as the node reads, up to `limit`, and returns their number.
fn flood(mesh: &mut Mesh, node: usize, client: ClientId, line: &str, limit: usize) -> usize {
    let now = mesh.clock_of(node);
    for written in 0..limit {
        if !mesh.nodes[node].core.can_accept_command(client) {
            return written;
        }
        let input = match decode_request(line.as_bytes()) {
            Ok(request) => Input::Command { client, request },
            Err(error) => Input::BadLine { client, error },
        };
        mesh.nodes[node].core.handle(input, now);
        mesh.settle();
    }
    limit
}

#[test]
fn client_that_floods_pauses_while_another_takes_mail() {
    let (mut mesh, node) = node();
    let (flooding, _other) = (mesh.attach(node, 1, r#","inbox":false"#), mesh.attach(node, 2, ""));
    assert_eq!(flood(&mut mesh, node, flooding, PING, RATE), AT_ONCE);
    let mut written = 0;
    for _ in 0..1000 {
        mesh.advance(Duration::from_millis(1));
        written += flood(&mut mesh, node, flooding, PING, RATE);
    }
    assert!((RATE - 400..=RATE + 400).contains(&written), "{written} in a second");
    let pauses = mesh.nodes[node].core.stats().get(Counter::ClientPauses);
    assert!((80..=101).contains(&pauses), "{pauses}");
}

#[test]
fn lines_that_are_no_commands_count_too() {
    let (mut mesh, node) = node();
    let (flooding, _other) = (mesh.attach(node, 1, r#","inbox":false"#), mesh.attach(node, 2, ""));
    assert_eq!(flood(&mut mesh, node, flooding, "?", RATE), AT_ONCE);
}

#[test]
fn command_that_describes_the_node_counts_a_hundred_times() {
    let (mut mesh, node) = node();
    let (flooding, _other) = (mesh.attach(node, 1, r#","inbox":false"#), mesh.attach(node, 2, ""));
    let status = r#"{"type":"status","id":1}"#;
    assert_eq!(flood(&mut mesh, node, flooding, status, RATE), AT_ONCE.div_ceil(100));
}

#[test]
fn client_that_is_alone_or_beside_those_that_need_nothing_never_pauses() {
    let (mut mesh, node) = node();
    let client = mesh.attach(node, 1, "");
    assert_eq!(flood(&mut mesh, node, client, PING, 2 * RATE), 2 * RATE);
    let silent = mesh.attach(node, 2, r#","inbox":false"#);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(
        flood(&mut mesh, node, client, PING, 2 * RATE),
        2 * RATE,
        "it has written nothing for a second"
    );
    mesh.client_command(node, silent, PING);
    assert_eq!(flood(&mut mesh, node, client, PING, 2 * RATE), AT_ONCE, "it wrote a moment ago");
    mesh.client_event(node, silent, ClientEvent::Detached);
    mesh.advance(PAUSE);
    assert_eq!(flood(&mut mesh, node, client, PING, 2 * RATE), 2 * RATE, "it has gone");
}

#[test]
fn parent_that_floods_pauses_as_a_client_does() {
    let mut mesh = Mesh::new(1);
    let client = mesh.attach(0, 1, "");
    assert_eq!(flood(&mut mesh, 0, ClientId::PARENT, PING, RATE), AT_ONCE);
    mesh.client_event(0, client, ClientEvent::Detached);
    mesh.advance(PAUSE);
    assert_eq!(flood(&mut mesh, 0, ClientId::PARENT, PING, RATE), RATE);
}
