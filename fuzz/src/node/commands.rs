//! Lines of a parent: mostly valid commands, and some invalid ones.

use p2p_node_core::{MAX_DIRECT_BYTES, MAX_TOPIC_BYTES};
use p2p_node_protocol::MAX_LINE_BYTES;
use serde_json::{Map, Value, json};

use super::super::material::{OTHERS, TOPICS, party};
use super::super::source::Source;

/// Returns one line without its newline; `last` is the id of the last message.
pub fn line(source: &mut Source<'_>, last: &str) -> Vec<u8> {
    let mut fields = Map::new();
    if source.flag() {
        fields.insert("id".to_owned(), id(source));
    }
    let kind = match source.below(16) {
        0..=4 => mail(source, &mut fields),
        5..=7 => broadcast(source, &mut fields),
        8 | 9 => discover(source, &mut fields),
        10 => topic(source, &mut fields, "subscribe"),
        11 => topic(source, &mut fields, "unsubscribe"),
        12 => about_others(source, &mut fields, last),
        13 => connect(source, &mut fields),
        // An ended node covers little code, so `shutdown` is rare.
        14 if source.byte() > 240 => "shutdown",
        14 if source.flag() => request(source, &mut fields),
        14 => answering(source, &mut fields),
        _ => return source.chunk().to_vec(),
    };
    fields.insert("type".to_owned(), kind.into());
    if source.byte() > 232 {
        // An invalid field.
        let key = source.pick(&["peerId", "topic", "data", "id", "ttlMs", "port", "timeoutMs", "encoding"]);
        let value = source.json();
        fields.insert(key.to_owned(), value);
    }
    Value::Object(fields).to_string().into_bytes()
}

/// Returns one of so few ids that some are used twice at the same time.
fn id(source: &mut Source<'_>) -> Value {
    match source.byte() {
        number @ 0..=223 => (number % 8).into(),
        224..=254 => source.text().into(),
        255 => source.json(),
    }
}

fn set(fields: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(key.to_owned(), value);
    }
}

fn mail(source: &mut Source<'_>, fields: &mut Map<String, Value>) -> &'static str {
    let other = party(1 + source.below(OTHERS));
    let to = match source.below(8) {
        0 => other.node.peer_id().to_string(),
        1 => other.agent.address().to_string().to_lowercase(),
        2 => format!("0x{:040x}", source.byte()),
        3 if source.flag() => source.text(),
        4 if source.flag() => party(0).agent.address().to_string(),
        _ => other.agent.address().to_string(),
    };
    fields.insert("peerId".to_owned(), to.into());
    let route = |source: &mut Source<'_>| source.pick(&["auto", "direct", "gossip"]).into();
    set(fields, "route", source.optional(route));
    content(source, fields, MAX_DIRECT_BYTES);
    "send"
}

fn broadcast(source: &mut Source<'_>, fields: &mut Map<String, Value>) -> &'static str {
    fields.insert("topic".to_owned(), source.pick(&TOPICS).into());
    content(source, fields, MAX_TOPIC_BYTES);
    "send"
}

fn request(source: &mut Source<'_>, fields: &mut Map<String, Value>) -> &'static str {
    let agent = |source: &mut Source<'_>| party(1 + source.below(OTHERS)).agent.address().to_string();
    match source.below(4) {
        0 => {
            fields.insert("peerIds".to_owned(), source.list(3, agent).into());
            set(fields, "quorum", source.optional(|source| source.below(4).into()));
        }
        1 => drop(broadcast(source, fields)),
        _ => {
            fields.insert("peerId".to_owned(), agent(source).into());
            set(fields, "stream", source.optional(|source| source.flag().into()));
            set(fields, "credit", source.optional(|source| source.number().into()));
        }
    }
    content(source, fields, MAX_DIRECT_BYTES);
    set(fields, "deadlineMs", source.optional(|source| source.number().into()));
    "request"
}

fn answering(source: &mut Source<'_>, fields: &mut Map<String, Value>) -> &'static str {
    match source.below(4) {
        0 => {
            fields.insert("kinds".to_owned(), source.list(3, |source| source.pick(&["*", "a", ""])).into());
            "handle"
        }
        1 => {
            fields.insert("target".to_owned(), id(source));
            fields.insert("parts".to_owned(), source.number().into());
            "credit"
        }
        _ => {
            fields.insert("ticket".to_owned(), format!("0000000000000001-{}", source.below(8)).into());
            if source.flag() {
                fields.insert("error".to_owned(), json!({ "code": "CODE", "message": source.text() }));
            } else {
                content(source, fields, MAX_DIRECT_BYTES);
            }
            set(fields, "last", source.optional(|source| source.flag().into()));
            "respond"
        }
    }
}

fn content(source: &mut Source<'_>, fields: &mut Map<String, Value>, limit: usize) {
    let data = match source.byte() {
        0..=127 => json!(source.byte()),
        128..=191 => source.json(),
        192..=247 => "x".repeat(source.u16().into()).into(),
        // With its quotes about as long as the limit.
        248..=251 => "x".repeat((limit - 8).min(MAX_LINE_BYTES - 512) + source.below(16)).into(),
        _ => {
            fields.insert("encoding".to_owned(), "base64".into());
            source.pick(&["", "AAAA", "AA==", "A", "_-_-"]).into()
        }
    };
    fields.insert("data".to_owned(), data);
    let priority = |source: &mut Source<'_>| source.pick(&["high", "medium", "low"]).into();
    set(fields, "priority", source.optional(priority));
    set(fields, "ttlMs", source.optional(|source| source.number().into()));
    set(fields, "kind", source.optional(|source| source.text().into()));
    if source.byte() == 255 {
        set(fields, "replyTo", source.optional(|source| source.text().into()));
        set(fields, "conversationId", source.optional(|source| source.text().into()));
    }
}

fn discover(source: &mut Source<'_>, fields: &mut Map<String, Value>) -> &'static str {
    match source.below(4) {
        0 => set(fields, "topic", Some(source.pick(&TOPICS).into())),
        1 => set(fields, "capability", Some("review".into())),
        2 => {
            let address = party(1 + source.below(OTHERS)).agent.address();
            set(fields, "address", Some(address.to_string().into()));
        }
        _ => {}
    }
    set(fields, "timeoutMs", source.optional(|source| source.number().into()));
    "discover"
}

fn topic(source: &mut Source<'_>, fields: &mut Map<String, Value>, kind: &'static str) -> &'static str {
    let topic = match source.byte() {
        0..=199 => source.pick(&TOPICS).to_owned(),
        200..=249 => format!("topic {}", source.byte()),
        _ => source.text(),
    };
    fields.insert("topic".to_owned(), topic.into());
    kind
}

fn about_others(source: &mut Source<'_>, fields: &mut Map<String, Value>, last: &str) -> &'static str {
    let kind = source.pick(&["status", "ping", "peers", "block", "allow", "unblock", "cancel", "ack"]);
    let other = party(source.below(OTHERS + 1));
    match kind {
        "block" | "allow" | "unblock" => {
            let node = source.flag();
            let of = if node { other.node.peer_id().to_string() } else { other.agent.address().to_string() };
            fields.insert("peerId".to_owned(), of.into());
        }
        "cancel" => drop(fields.insert("target".to_owned(), id(source))),
        "ack" => drop(fields.insert("messageId".to_owned(), last.into())),
        _ => {}
    }
    kind
}

fn connect(source: &mut Source<'_>, fields: &mut Map<String, Value>) -> &'static str {
    let protocol = |source: &mut Source<'_>| source.pick(&[1, 1, 1, 0, 2]).into();
    set(fields, "protocol", source.optional(protocol));
    let lines = |source: &mut Source<'_>| source.pick(&[4096, 65_536, 4095, MAX_LINE_BYTES]).into();
    set(fields, "maxLineBytes", source.optional(lines));
    let peer = |source: &mut Source<'_>| match source.below(3) {
        0 => source.text().into(),
        _ => {
            let peer = party(source.below(OTHERS + 1)).node.peer_id();
            format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}").into()
        }
    };
    set(fields, "bootstrapPeers", source.optional(|source| Value::Array(source.list(3, peer))));
    "connect"
}
