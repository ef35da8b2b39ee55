//! Nodes with the maximum number of topics of maximum length.

use serde_json::json;

use crate::child::Child;

/// As many as a parent may subscribe to.
const TOPICS: usize = 250;
/// As long as a topic may be.
const TOPIC_BYTES: usize = 128;

#[test]
fn a_node_with_as_many_and_as_long_topics_as_there_may_be_hears_every_one_of_them() {
    let (mut hub, ready) = Child::join(0xB1, 0, &[], &[]);
    let long = |number: usize| format!("{number:0TOPIC_BYTES$}");
    let topics: Vec<String> = (1..TOPICS).map(long).chain(["plain".to_owned()]).collect();
    for topic in &topics {
        hub.say(json!({"type":"subscribe","topic":topic,"id":topic}));
        assert_eq!(hub.answer(topic)["type"], "result");
    }
    hub.say(json!({"type":"subscribe","topic":"more","id":"more"}));
    assert_eq!(hub.answer("more")["code"], "BUSY");
    // Whoever connects now hears of all of them at once.
    let (mut other, _) = Child::join(0xB2, 0, &[], &[ready["addrs"][0].as_str().unwrap().to_owned()]);
    for topic in ["plain", &long(1), &long(TOPICS - 1)] {
        other.say(json!({"type":"send","topic":topic,"data":topic,"id":topic}));
        let heard = hub.expect("the broadcast", |event| event["type"] == "message" && event["data"] == topic);
        assert_eq!(heard["topic"], topic);
    }
}
