//! Peer exchange alone: the only contact of a newcomer forwards no gossip and serves no DHT.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::{FindAgents, FoundAgents, Step, WIRE_VERSION, strict_decode};
use prost::Message as _;
use serde_json::json;

use crate::fixture::{HONEST, Real, VICTIM};
use crate::forge::{Forger, corrupt};
use crate::peer::{Hostile, entry, introduction};

fn found(records: Vec<Bytes>) -> Bytes {
    FoundAgents { version: WIRE_VERSION, records, ..FoundAgents::default() }.encode_to_vec().into()
}

/// Returns the record of a real node, from its challenge.
async fn record_of(real: &Real) -> Bytes {
    let mut reader = Hostile::start(Forger::fake(1), Role::Full).await;
    reader.dial(real).await;
    let own = introduction(reader.forger.record(|_| {}));
    let Step::Challenge(challenge) = reader.step(real, Step::Connect(own)).await else {
        panic!("no challenge");
    };
    challenge.responder.unwrap().record
}

impl Hostile {
    /// Waits for a question that satisfies the condition.
    async fn question(&mut self, is_wanted: impl Fn(&FindAgents) -> bool) -> Token {
        self.node
            .expect("a question", |input| match input {
                Input::FindRequestReceived { token, body, .. } => {
                    is_wanted(&strict_decode(body).unwrap()).then_some(*token)
                }
                _ => None,
            })
            .await
    }
}

/// Returns a contact, and a newcomer whose only bootstrap peer it is.
async fn contact_and_newcomer() -> (Hostile, Real) {
    let mut contact = Hostile::start(Forger::fake(2), Role::Full).await;
    let newcomer = Real::join(VICTIM, &[], &[entry(&contact)]);
    contact.accept(contact.forger.record(|_| {})).await;
    (contact, newcomer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn newcomer_joins_by_the_verified_records_of_its_only_contact() {
    let agent = Real::join(HONEST, &[], &[]);
    let record = record_of(&agent).await;
    let (mut contact, mut newcomer) = contact_and_newcomer().await;
    let stranger = Forger::fake(3);
    let forged = corrupt(&stranger.record(|_| {}), 3);
    let token = contact.question(|question| question.address.is_empty()).await;
    let body = found(vec![forged, record]);
    contact.node.apply(NetworkCommand::AnswerFind { token, body }).await;
    newcomer.child.expect("a connection to the agent", |event| {
        event["type"] == "peer_connected" && event["peerId"] == agent.ready["peerId"]
    });
    newcomer.until_counted("records_forged", 1);
    let dialled = newcomer.take_events(&["peer_connected"]);
    assert!(dialled.iter().all(|event| event["peerId"] == contact.node.peer.to_string()), "{dialled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mail_reaches_agent_whose_record_only_a_peer_has() {
    let agent = Real::join(HONEST, &[], &[]);
    let record = record_of(&agent).await;
    let (mut contact, mut newcomer) = contact_and_newcomer().await;
    newcomer.child.command(json!({"type":"send","peerId":agent.address(),"data":1,"id":"mail"}));
    let wanted = Forger::new(HONEST).agent.address();
    let token = contact.question(|question| question.address == wanted.as_slice()).await;
    // First a record of another agent, which is no answer.
    let other = found(vec![Forger::fake(4).record(|_| {})]);
    contact.node.apply(NetworkCommand::AnswerFind { token, body: other }).await;
    newcomer.until_counted("records_misplaced", 1);
    let token = contact.question(|question| question.address == wanted.as_slice()).await;
    contact.node.apply(NetworkCommand::AnswerFind { token, body: found(vec![record]) }).await;
    let delivery = newcomer.child.expect("delivery", |event| event["type"] == "delivery");
    assert_eq!((&delivery["requestId"], &delivery["state"]), (&json!("mail"), &json!("delivered")));
}
