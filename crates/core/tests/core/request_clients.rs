//! Requests of clients that attach, and requests that they handle.

use std::time::Duration;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::ClientEvent;
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::requests::{
    ask, assert_usage_is_within_limits, end, has_ended, mesh, requests, respond, responses,
};

const HANDLE: &str = r#"{"type":"handle","kinds":["sum"]}"#;

/// Returns the requests that a client of node 1 got.
fn client_requests(mesh: &Mesh, client: ClientId) -> Vec<Value> {
    mesh.client_lines(1, client, "request").into_iter().cloned().collect()
}

/// Writes a request of a client of node 0.
fn ask_as(mesh: &mut Mesh, client: ClientId, data: u64) {
    let peer = &mesh.nodes[1].address;
    let line = json!({"type": "request", "id": "q", "peerId": peer, "kind": "sum", "data": data, "deadlineMs": 5000});
    mesh.client_command(0, client, &line.to_string());
}

/// Returns the lines with the id of the request of a client of node 0.
fn ends(mesh: &Mesh, client: ClientId) -> Vec<Value> {
    mesh.clients[&(0, client)].lines.iter().filter(|line| line["id"] == "q").cloned().collect()
}

#[test]
fn request_that_a_client_handled_fails_when_it_goes_and_the_next_reaches_another() {
    let mut mesh = mesh(2);
    mesh.command(1, r#"{"type":"handle","kinds":[]}"#);
    let [one, two] = [1, 2].map(|number| mesh.attach(1, number, r#","inbox":false"#));
    mesh.client_command(1, one, HANDLE);
    ask(&mut mesh, "q", json!({}));
    let [request] = &client_requests(&mesh, one)[..] else { panic!("one request") };
    let respond = json!({"type": "respond", "id": "r", "ticket": request["ticket"], "data": 1}).to_string();
    mesh.client_command(1, two, HANDLE);
    mesh.client_command(1, two, &respond);
    let refused = mesh.clients[&(1, two)].lines.iter().find(|line| line["id"] == "r").unwrap();
    assert_eq!(refused["code"], "TICKET_NOT_FOUND", "a ticket is of one client");
    mesh.client_event(1, one, ClientEvent::Detached);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(end(&mesh, "q")["code"], "HANDLER_GONE");
    ask(&mut mesh, "next", json!({}));
    let [request] = &client_requests(&mesh, two)[..] else { panic!("one request") };
    let respond = json!({"type": "respond", "ticket": request["ticket"], "data": 2}).to_string();
    mesh.client_command(1, two, &respond);
    assert_eq!(responses(&mesh, "next")[0]["data"], 2);
    mesh.client_event(1, two, ClientEvent::Detached);
    ask(&mut mesh, "last", json!({}));
    assert_eq!(end(&mesh, "last")["code"], "NO_HANDLER");
    assert!(requests(&mesh, 1).is_empty(), "the parent handles no requests");
    assert_usage_is_within_limits(&mesh);
}

#[test]
fn each_client_has_its_own_requests() {
    let mut mesh = mesh(2);
    let [one, two] = [1, 2].map(|number| mesh.attach(0, number, r#","inbox":false"#));
    ask_as(&mut mesh, one, 1);
    ask_as(&mut mesh, two, 2);
    ask(&mut mesh, "q", json!({"data": 0}));
    mesh.command(0, r#"{"type":"cancel","target":"q","id":"c"}"#);
    assert_eq!(end(&mesh, "q")["code"], "CANCELLED");
    assert_eq!(respond(&mut mesh, 1, json!({"data": 0}))["code"], "TICKET_NOT_FOUND");
    let all = requests(&mesh, 1);
    let of = |data: u64| all.iter().find(|line| line["data"] == data).unwrap()["ticket"].clone();
    crate::requests::respond_to(&mut mesh, 1, &of(2), json!({"data": 20}));
    assert_eq!((ends(&mesh, one).len(), ends(&mesh, two).len()), (0, 1));
    let [response] = mesh.client_lines(0, two, "response")[..] else { panic!("one answer") };
    assert_eq!((&response["requestId"], &response["data"]), (&json!("q"), &json!(20)));
    assert!(mesh.client_lines(0, one, "response").is_empty() && responses(&mesh, "q").is_empty());
    mesh.client_event(0, one, ClientEvent::Detached);
    mesh.advance(Duration::from_millis(100));
    let cancelled: Vec<Value> =
        mesh.lines(1, "request_cancelled").iter().map(|line| line["ticket"].clone()).collect();
    assert_eq!(cancelled, [of(0), of(1)], "nobody waits for the answer any more");
}

#[test]
fn client_that_leaves_waits_for_its_requests_and_answers_no_more() {
    for by_shutdown in [false, true] {
        let mut mesh = mesh(2);
        mesh.command(0, r#"{"type":"handle","kinds":["own"]}"#);
        let client = mesh.attach(0, 1, "");
        mesh.client_command(0, client, HANDLE);
        ask_as(&mut mesh, client, 1);
        let peer = mesh.nodes[0].address.clone();
        let request = json!({"type": "request", "id": "back", "peerId": peer, "kind": "sum", "data": 1});
        mesh.command(1, &request.to_string());
        assert_eq!(mesh.client_lines(0, client, "request").len(), 1);
        match by_shutdown {
            true => mesh.client_command(0, client, r#"{"type":"shutdown","id":"s"}"#),
            false => mesh.client_event(0, client, ClientEvent::InputEnded),
        }
        mesh.advance(Duration::from_secs(1));
        let refused = mesh.nodes[1].lines.iter().find(|line| line["id"] == "back").unwrap();
        assert_eq!(refused["code"], "HANDLER_GONE");
        assert!(!has_ended(&mesh, "q") && mesh.client_lines(0, client, "closing").is_empty());
        respond(&mut mesh, 1, json!({"data": 3}));
        assert_eq!(ends(&mesh, client)[0]["type"], "result");
        mesh.advance(Duration::from_secs(1));
        assert_eq!(mesh.client_lines(0, client, "closing").len(), 1);
        assert!(mesh.clients[&(0, client)].is_closed);
    }
}
