//! Two programs that answer each message at once: the node stops them and tells both.

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

/// The default of `--max-hops`.
const MAX_HOPS: u64 = 256;

/// Answers each message until the node rejects a reply. Returns the hops of the last message, and the
/// `delivery` of the rejected reply if it was one of this program.
fn answer(child: &mut Child) -> (u64, Option<Value>) {
    let mut hops = 0;
    loop {
        let event = child.expect("any line", |_| true);
        match event["type"].as_str() {
            Some("message") => {
                hops = event["hops"].as_u64().unwrap_or_default();
                let (to, id) = (&event["from"], &event["messageId"]);
                child.command(json!({"type": "send", "peerId": to, "data": "thanks", "replyTo": id}));
            }
            Some("delivery") if event["state"] == "rejected" => return (hops, Some(event)),
            Some("error") if event["code"] == "TOO_MANY_HOPS" => return (hops, None),
            _ => {}
        }
    }
}

#[test]
fn programs_that_answer_each_other_for_ever_are_stopped_and_told() {
    let (mut one, ready) = Child::join(0xc6, 0, &[], &[]);
    let (mut other, other_ready) = Child::join(0xc7, 0, &[], &[tcp_address(&ready)]);
    one.command(json!({"type": "send", "peerId": other_ready["address"], "data": "hello"}));
    let answering = std::thread::spawn(move || {
        let outcome = answer(&mut other);
        (other, outcome)
    });
    let (hops, none) = answer(&mut one);
    let (_other, (other_hops, rejected)) = answering.join().unwrap();
    // The first message has no hops, so `one` gets the odd numbers, and rejects the last reply.
    assert_eq!((hops, other_hops, none), (MAX_HOPS - 1, MAX_HOPS, None));
    assert_eq!(rejected.expect("a rejected reply")["code"], "TOO_MANY_HOPS");
    one.until("a guarded message", |status| status["counters"]["flow_guarded"] == 1);
    let told = one.seen().iter().filter(|event| event["type"] == "error").count();
    assert_eq!(told, 0, "the node tells of the sender once");
}
