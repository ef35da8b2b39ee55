//! `report` and `status` of real nodes: the figures equal what the test sent.

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

/// Mail of each priority: high, medium, low.
const MAIL: [(&str, u64); 3] = [("high", 4), ("medium", 5), ("low", 3)];
const BROADCASTS: u64 = 3;

fn report(node: &mut Child) -> Value {
    node.command(json!({"type":"report","id":"report"}));
    node.answer("report")["report"].clone()
}

/// Sends the mail and the broadcasts, and waits until all have arrived.
fn exchange(sender: &mut Child, recipient: &Child, address: &str) {
    for (priority, count) in MAIL {
        for number in 0..count {
            let id = format!("{priority}-{number}");
            sender.command(json!({"type":"send","peerId":address,"data":id,"priority":priority,"id":id}));
        }
    }
    for number in 0..BROADCASTS {
        sender.command(json!({"type":"send","topic":"news","data":format!("news-{number}")}));
    }
    for (priority, count) in MAIL {
        for number in 0..count {
            let id = format!("{priority}-{number}");
            recipient.expect("the message", |event| event["data"] == id.as_str());
            let delivery = sender
                .expect("delivery", |event| event["type"] == "delivery" && event["requestId"] == id.as_str());
            assert_eq!(delivery["state"], "delivered");
        }
    }
    for number in 0..BROADCASTS {
        recipient.expect("the broadcast", |event| event["data"] == format!("news-{number}"));
    }
}

#[test]
fn reports_of_real_nodes_equal_what_was_sent() {
    let (mut server, ready) = Child::join(0xC1, 0, &["--role", "bootstrap", "--observe"], &[]);
    let entry = [tcp_address(&ready)];
    let (mut recipient, recipient_ready) = Child::join(0xC2, 0, &[], &entry);
    let (mut sender, sender_ready) = Child::join(0xC3, 0, &["--capability", "consensus"], &entry);
    recipient.command(json!({"type":"subscribe","topic":"news","id":"subscribe"}));
    recipient.answer("subscribe");
    sender.until("the subscriber", |status| status["peers"].as_u64() >= Some(2));
    let address = recipient_ready["address"].as_str().unwrap();
    exchange(&mut sender, &recipient, address);

    let all: u64 = MAIL.iter().map(|(_, count)| count).sum();
    let (sent, received) = (report(&mut sender), report(&mut recipient));
    assert_eq!(sent["messages"]["sent"], all + BROADCASTS);
    assert_eq!([&sent["messages"]["delivered"], &sent["messages"]["received"]], [all, 0]);
    assert_eq!([&received["messages"]["received"], &received["messages"]["sent"]], [all + BROADCASTS, 0]);
    for (priority, count) in MAIL {
        let broadcasts = if priority == "medium" { BROADCASTS } else { 0 };
        let (of_sender, of_recipient) =
            (&sent["messages"]["byPriority"][priority], &received["messages"]["byPriority"][priority]);
        assert_eq!([&of_sender["sent"], &of_sender["delivered"]], [count + broadcasts, count]);
        assert_eq!(of_recipient["received"], count + broadcasts);
    }
    assert_eq!(sent["latency"]["ackMs"]["count"], all);
    assert!(sent["latency"]["ackMs"]["p50"].as_f64() <= sent["latency"]["ackMs"]["p99"].as_f64());
    assert!(sent["bandwidth"]["mail"]["outBytes"].as_u64() > Some(0), "{sent}");
    assert!(received["bandwidth"]["mail"]["inBytes"].as_u64() > Some(0), "{received}");
    let topic = &received["topics"][0];
    assert_eq!([&topic["topic"], &topic["received"]], [&json!("news"), &json!(BROADCASTS)]);
    assert!(
        (received["metrics"]["messageRate"].as_f64().unwrap() * 60.0 - (all + BROADCASTS) as f64).abs()
            < 1e-6
    );

    let status = sender.until("a ping", |status| status["latency"]["pingMs"]["count"].as_u64() > Some(0));
    assert_eq!([&status["role"], &status["dht"]["mode"]], ["full", "client"]);
    assert_eq!(status["messages"]["sent"], all + BROADCASTS);
    assert_eq!(status["peersByRole"], json!({"bootstrap":1,"full":1}));
    sender.command(json!({"type":"peers","id":"peers"}));
    let peers = sender.answer("peers");
    let peer = |id: &Value| {
        peers["connected"].as_array().unwrap().iter().find(|peer| peer["peerId"] == *id).unwrap()
    };
    assert_eq!(peer(&recipient_ready["peerId"])["messagesOut"], all);
    assert_eq!(peer(&ready["peerId"])["messagesOut"], 0);

    let seen = report(&mut server);
    let causes = seen["metrics"]["causes"].as_array().unwrap();
    assert_eq!(seen["metrics"]["activePeers"], 2);
    assert_eq!((causes[0]["cause"].as_str(), causes[0]["penalty"].as_f64()), (Some("few_peers"), Some(40.0)));
    assert_eq!(seen["metrics"]["consensusParticipation"], 0.5);
    assert_eq!(seen["metrics"]["healthScore"], 60.0);
    let nodes = seen["topology"]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["peerId"] == sender_ready["peerId"]).unwrap();
    assert_eq!([&node["address"], &node["capabilities"]], [&sender_ready["address"], &json!(["consensus"])]);
    assert_eq!(seen["distribution"]["byRole"], json!({"bootstrap":1,"full":2}));
}
