//! Names of ENS in commands: which commands wait, in which order they go on, and what the node asks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use p2p_node_core::chain::ChainEvent;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_core::usage::Usage;
use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::mesh::{CONNECT, FaultDecision, Mesh, agent_key};

/// Time until a server of the chain has answered.
const ANSWER: Duration = Duration::from_millis(150);

/// Returns a mesh of a bootstrap node, Ann (node 1), who knows RPC servers, and Bob (node 2), whose name is
/// `bob.eth`.
fn mesh() -> Mesh {
    mesh_with(true)
}

fn mesh_with(resolves_names: bool) -> Mesh {
    let mut mesh = Mesh::new(1);
    for number in [2, 3] {
        let node = mesh.add_with(number, Role::Full, CONNECT, |config| {
            config.has_chain = resolves_names && number == 2;
        });
        mesh.connect(node, 0);
    }
    mesh.connect(1, 2);
    mesh.advance(Duration::from_secs(2));
    mesh.registry().names.insert("bob.eth".to_owned(), agent_key(3).address());
    mesh
}

/// Sends mail of Ann to a name; `id` is its data and its id.
fn send(mesh: &mut Mesh, name: &str, id: u64) {
    mesh.command(1, &json!({"type": "send", "peerId": name, "data": id, "id": id}).to_string());
}

/// Returns the answer of Ann's node to a command.
fn answer(mesh: &Mesh, id: u64) -> Option<Value> {
    mesh.nodes[1].lines.iter().find(|line| line["id"] == id).cloned()
}

fn code(mesh: &Mesh, id: u64) -> Value {
    answer(mesh, id).unwrap_or_default()["code"].clone()
}

fn count(mesh: &Mesh, counter: Counter) -> u64 {
    mesh.nodes[1].core.stats().get(counter)
}

/// The answers of the chain that a test holds back.
type Held = Rc<RefCell<Vec<ChainEvent>>>;

/// Holds every answer of the chain back, as if no server answered.
fn hold_answers(mesh: &mut Mesh) -> Held {
    let held = Held::default();
    let answers = Rc::clone(&held);
    mesh.faults = Box::new(move |_, input| match input {
        Input::Chain(event) => {
            answers.borrow_mut().push(event.clone());
            FaultDecision::Drop
        }
        _ => FaultDecision::Deliver,
    });
    held
}

/// Lets Ann's node have the answers.
fn release(mesh: &mut Mesh, held: &Held) {
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    for event in held.take() {
        mesh.input(1, Input::Chain(event));
    }
}

fn usage(mesh: &Mesh, name: &str) -> Usage {
    mesh.nodes[1].core.usage().into_iter().find(|usage| usage.name == name).unwrap()
}

#[test]
fn mail_to_a_name_goes_to_its_address_in_order_and_asks_once() {
    let mut mesh = mesh();
    let held = hold_answers(&mut mesh);
    for id in 0..3 {
        send(&mut mesh, if id == 1 { "BOB.eth" } else { "bob.eth" }, id);
    }
    assert_eq!((answer(&mesh, 0), mesh.received(2)), (None, Vec::new()));
    release(&mut mesh, &held);
    send(&mut mesh, "bob.eth", 3);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), [0, 1, 2, 3]);
    for id in 0..4 {
        let answer = answer(&mesh, id).unwrap();
        assert_eq!(
            (&answer["delivery"], &answer["address"]),
            (&json!("accepted"), &json!(mesh.nodes[2].address))
        );
    }
    assert_eq!((mesh.registry().reads, count(&mesh, Counter::NameReads)), (1, 1));
    // An answer to mail by address tells no address.
    mesh.command(
        1,
        &json!({"type": "send", "peerId": mesh.nodes[2].address, "data": 4, "id": 4}).to_string(),
    );
    mesh.advance(Duration::from_secs(1));
    assert_eq!(answer(&mesh, 4).unwrap()["address"], Value::Null);
}

#[test]
fn commands_for_other_agents_do_not_wait_for_a_name() {
    let mut mesh = mesh();
    hold_answers(&mut mesh);
    send(&mut mesh, "bob.eth", 1);
    let bob = mesh.nodes[2].address.clone();
    send(&mut mesh, &bob, 2);
    mesh.command(1, r#"{"type":"ping","id":3}"#);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), [2]);
    assert!(answer(&mesh, 3).is_some() && answer(&mesh, 1).is_none());
}

#[test]
fn name_without_an_address_is_not_found_and_the_node_asks_again_a_minute_later() {
    let mut mesh = mesh();
    for id in [1, 2] {
        send(&mut mesh, "carl.eth", id);
        mesh.advance(ANSWER);
        assert_eq!(code(&mesh, id), "NAME_NOT_FOUND");
    }
    assert_eq!(count(&mesh, Counter::NameReads), 1);
    let bob = agent_key(3).address();
    mesh.registry().names.insert("carl.eth".to_owned(), bob);
    mesh.advance(Duration::from_secs(60));
    send(&mut mesh, "carl.eth", 3);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), [3]);
}

#[test]
fn discover_and_registry_accept_names() {
    let mut mesh = mesh();
    mesh.command(1, r#"{"type":"discover","address":"bob.eth","id":1}"#);
    mesh.advance(Duration::from_secs(1));
    let found = answer(&mesh, 1).unwrap();
    let bob = json!(mesh.nodes[2].address);
    assert_eq!((&found["count"], &found["address"]), (&json!(1), &bob));
    mesh.command(1, r#"{"type":"discover","address":"carl.eth","id":2}"#);
    mesh.command(1, r#"{"type":"registry","address":"carl.eth","id":3}"#);
    mesh.command(1, r#"{"type":"registry","address":"bob.eth","id":4}"#);
    mesh.advance(ANSWER);
    let codes = [2, 3, 4].map(|id| code(&mesh, id));
    assert_eq!(codes, ["NAME_NOT_FOUND", "NAME_NOT_FOUND", "NO_REGISTRY"]);
}

#[test]
fn names_that_the_node_does_not_accept_cause_no_read() {
    let mut mesh = mesh();
    let letters = "b\u{43e}b.eth";
    for (id, name) in [letters, "bob..eth", ".", "xn--bb-jlc.eth", "bob.eth "].into_iter().enumerate() {
        send(&mut mesh, name, id as u64);
        assert_eq!(code(&mesh, id as u64), "INVALID_ARGUMENT", "{name:?}");
    }
    // A `send` that names a topic as well, and rules, which would follow another agent if the name changed.
    mesh.command(1, r#"{"type":"send","peerId":"bob.eth","topic":"t","data":1,"id":10}"#);
    mesh.command(1, r#"{"type":"block","peerId":"bob.eth","id":11}"#);
    assert_eq!([code(&mesh, 10), code(&mesh, 11)], ["INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
    mesh.advance(ANSWER);
    assert_eq!(mesh.registry().reads, 0);
}

#[test]
fn node_without_servers_refuses_names_and_asks_nobody() {
    let mut mesh = mesh_with(false);
    send(&mut mesh, "bob.eth", 1);
    mesh.advance(ANSWER);
    let refused = answer(&mesh, 1).unwrap();
    assert_eq!(refused["code"], "INVALID_ARGUMENT");
    assert!(refused["message"].as_str().unwrap().contains("RPC_URL"), "{refused}");
    assert_eq!(mesh.registry().reads, 0);
}

#[test]
fn command_waits_for_ten_seconds_at_most_and_ends_with_those_behind_it() {
    let mut mesh = mesh();
    hold_answers(&mut mesh);
    send(&mut mesh, "bob.eth", 1);
    mesh.advance(Duration::from_secs(6));
    send(&mut mesh, "bob.eth", 2);
    mesh.advance(Duration::from_millis(3_999));
    assert_eq!(answer(&mesh, 1), None);
    mesh.advance(Duration::from_millis(1));
    assert_eq!([code(&mesh, 1), code(&mesh, 2)], ["NAME_UNAVAILABLE", "NAME_UNAVAILABLE"]);
    assert_eq!(answer(&mesh, 1).unwrap()["retryable"], true);
    assert_eq!(count(&mesh, Counter::NameReadsFailed), 1);
}

#[test]
fn old_address_counts_while_no_server_answers_and_a_new_one_when_they_do() {
    let mut mesh = mesh();
    send(&mut mesh, "bob.eth", 1);
    mesh.advance(Duration::from_secs(700));
    mesh.registry().is_down = true;
    send(&mut mesh, "bob.eth", 2);
    mesh.advance(ANSWER);
    // At once, since the read failed a short time ago.
    send(&mut mesh, "bob.eth", 3);
    assert!(answer(&mesh, 3).is_some());
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), [1, 2, 3]);
    assert_eq!((count(&mesh, Counter::NamesStale), count(&mesh, Counter::NameReads)), (2, 2));
    // The name is given to another agent.
    mesh.registry().is_down = false;
    let bootstrap = agent_key(1).address();
    mesh.registry().names.insert("bob.eth".to_owned(), bootstrap);
    mesh.advance(Duration::from_secs(30));
    send(&mut mesh, "bob.eth", 4);
    mesh.advance(Duration::from_secs(1));
    assert_eq!((mesh.received(2), mesh.received(0)), (vec![1, 2, 3], vec![4]));
    // A day later without a server, the node no longer knows.
    mesh.registry().is_down = true;
    for _ in 0..24 {
        mesh.advance(Duration::from_secs(3_600));
    }
    send(&mut mesh, "bob.eth", 5);
    mesh.advance(ANSWER);
    assert_eq!(code(&mesh, 5), "NAME_UNAVAILABLE");
}

#[test]
fn name_in_use_makes_nobody_wait() {
    let mut mesh = mesh();
    send(&mut mesh, "bob.eth", 0);
    mesh.advance(Duration::from_secs(1));
    // An hour of mail, one each minute.
    for id in 1..=60 {
        send(&mut mesh, "bob.eth", id);
        assert!(answer(&mesh, id).is_some(), "{id} waits");
        mesh.advance(Duration::from_secs(60));
    }
    let reads = count(&mesh, Counter::NameReads);
    assert!((7..=9).contains(&reads), "{reads} reads in an hour");
    assert_eq!(mesh.received(2).len(), 61);
}

#[test]
fn names_and_waiting_commands_have_limits_and_the_others_are_busy() {
    let mut mesh = mesh();
    hold_answers(&mut mesh);
    let limit = usage(&mesh, "reads of names").limit;
    for number in 0..=limit as u64 {
        send(&mut mesh, &format!("a{number}.eth"), number);
    }
    assert_eq!([code(&mesh, 0), code(&mesh, limit as u64)], [Value::Null, json!("BUSY")]);
    // Commands for a name that is asked for still wait, as many as may be unanswered.
    let mut id = 1_000;
    while mesh.reads_stdin(1) {
        send(&mut mesh, "a0.eth", id);
        assert_eq!(answer(&mesh, id), None);
        id += 1;
    }
    let waiting = usage(&mesh, "commands that wait for addresses");
    assert_eq!(waiting.size, waiting.limit);
    mesh.queue_command(1, r#"{"type":"send","peerId":"a0.eth","data":1,"id":1}"#);
    send(&mut mesh, "a0.eth", id);
    assert_eq!(code(&mesh, id), "BUSY");
    assert_eq!(count(&mesh, Counter::NamesRefused), 2);
    mesh.advance(Duration::from_secs(10));
    assert!(mesh.reads_stdin(1));
    assert_eq!(
        (usage(&mesh, "commands that wait for addresses").size, code(&mesh, 1_000)),
        (0, json!("NAME_UNAVAILABLE"))
    );
    // Reads that no server answers stay on their way.
    assert_eq!(usage(&mesh, "reads of names").size, limit);
}

#[test]
fn cancelled_command_goes_nowhere() {
    let mut mesh = mesh();
    let held = hold_answers(&mut mesh);
    for id in [1, 2, 3] {
        send(&mut mesh, "bob.eth", id);
    }
    mesh.command(1, r#"{"type":"cancel","target":2,"id":9}"#);
    assert_eq!((code(&mesh, 2), &answer(&mesh, 9).unwrap()["cancelled"]), (json!("CANCELLED"), &json!(true)));
    release(&mut mesh, &held);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), [1, 3]);
}

#[test]
fn id_of_a_waiting_command_is_taken() {
    let mut mesh = mesh();
    let held = hold_answers(&mut mesh);
    send(&mut mesh, "bob.eth", 1);
    mesh.command(1, r#"{"type":"ping","id":1}"#);
    let error = mesh.lines(1, "error")[0].clone();
    assert_eq!(error["code"], "DUPLICATE_ID");
    release(&mut mesh, &held);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(answer(&mesh, 1).unwrap()["delivery"], "accepted");
}

#[test]
fn mail_to_a_name_before_the_end_of_stdin_is_delivered() {
    let mut mesh = mesh();
    let held = hold_answers(&mut mesh);
    send(&mut mesh, "bob.eth", 1);
    mesh.input(1, Input::StdinClosed);
    mesh.advance(Duration::from_secs(1));
    assert_eq!((mesh.received(2), mesh.nodes[1].exit), (Vec::new(), None));
    release(&mut mesh, &held);
    mesh.advance(Duration::from_secs(3));
    assert_eq!(mesh.received(2), [1]);
    assert_eq!(mesh.nodes[1].exit, Some(ExitCode::Ok));
    assert_eq!(mesh.lines(1, "delivery")[0]["state"], "delivered");
}

#[test]
fn commands_that_wait_at_the_end_of_the_drain_are_answered_and_count_as_undelivered() {
    for signals in [1, 2] {
        let mut mesh = mesh();
        hold_answers(&mut mesh);
        send(&mut mesh, "bob.eth", 1);
        mesh.command(1, r#"{"type":"discover","address":"bob.eth","id":2}"#);
        (0..signals).for_each(|_| mesh.input(1, Input::Signal));
        mesh.advance(Duration::from_secs(8));
        assert_eq!(mesh.nodes[1].exit, Some(ExitCode::Undelivered));
        if signals == 1 {
            assert_eq!([code(&mesh, 1), code(&mesh, 2)], ["SHUTTING_DOWN", "SHUTTING_DOWN"]);
        }
    }
}
