//! Nodes with the maximum number of topics of maximum length.

use serde_json::json;

use crate::child::Child;

/// Most subscriptions of a node.
const TOPICS: usize = 500;
/// Longest topic.
const TOPIC_BYTES: usize = 128;

#[test]
fn node_with_the_most_and_longest_topics_receives_on_each() {
    let (mut hub, ready) = Child::join(0xB1, 0, &[], &[]);
    let long = |number: usize| format!("{number:0TOPIC_BYTES$}");
    let topics: Vec<String> = (1..TOPICS).map(long).chain(["plain".to_owned()]).collect();
    for topic in &topics {
        hub.command(json!({"type":"subscribe","topic":topic,"id":topic}));
        assert_eq!(hub.answer(topic)["type"], "result");
    }
    hub.command(json!({"type":"subscribe","topic":"more","id":"more"}));
    assert_eq!(hub.answer("more")["code"], "BUSY");
    // A new peer gets all subscriptions at once.
    let (mut other, _) = Child::join(0xB2, 0, &[], &[ready["addrs"][0].as_str().unwrap().to_owned()]);
    for topic in ["plain", &long(1), &long(TOPICS - 1)] {
        other.command(json!({"type":"send","topic":topic,"data":topic,"id":topic}));
        let message =
            hub.expect("the broadcast", |event| event["type"] == "message" && event["data"] == topic);
        assert_eq!(message["topic"], topic);
    }
}
