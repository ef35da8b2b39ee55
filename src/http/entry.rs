//! An event as followers of the node see it: a line of text, and who or what it is about.

use std::borrow::Cow;
use std::fmt;

use p2p_node_protocol::{Delivery, Event, Level};
use serde::{Serialize, Serializer};

/// Longest text of an event, in characters. Names and reasons that peers supply are shorter.
const MAX_TEXT: usize = 300;

/// An event of the stream. The loop writes one for each message, so it borrows what it can.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<&'a str>,
    #[serde(serialize_with = "as_text")]
    text: Text<'a>,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
}

/// The text of an event. The texts of messages and deliveries are written without an allocation.
#[derive(Debug)]
enum Text<'a> {
    From(&'a str),
    Delivery(&'a Delivery),
    Other(Cow<'a, str>),
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Text::From(sender) => write!(formatter, "from {sender}"),
            Text::Delivery(Delivery { state, code: Some(code), .. }) => {
                write!(formatter, "{} ({code})", state.as_str())
            }
            Text::Delivery(Delivery { state, .. }) => formatter.write_str(state.as_str()),
            Text::Other(text) => formatter.write_str(text),
        }
    }
}

fn as_text<S: Serializer>(text: &Text<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

impl<'a> Entry<'a> {
    /// Returns what followers see of an event, or `None` if it is none of theirs. Never has a payload.
    pub(super) fn of(event: &'a Event, time_ms: u64) -> Option<Self> {
        let entry = |kind, text, peer_id| Entry { kind, text, peer_id, time_ms, topic: None };
        Some(match event {
            Event::PeerConnected(peer) => entry("peer_connected", other("connected"), Some(&peer.peer_id)),
            Event::PeerDisconnected(peer) => {
                let text = match &peer.reason {
                    Some(reason) => other(format!("disconnected: {reason}")),
                    None => other("disconnected"),
                };
                entry("peer_disconnected", text, Some(&peer.peer_id))
            }
            Event::PeerDiscovered(peer) => {
                let name = peer.name.as_deref().unwrap_or_default();
                let text = other(format!("{} {name}", peer.address));
                entry("peer_discovered", text, Some(&peer.peer_id))
            }
            Event::PeerBanned(ban) => {
                entry("peer_banned", other(format!("banned: {}", ban.reason)), ban.peer_id.as_deref())
            }
            Event::Message(message) => {
                let topic = message.topic.as_deref();
                let kind = if topic.is_some() { "broadcast" } else { "message" };
                Entry { topic, ..entry(kind, Text::From(&message.from), Some(&message.peer_id)) }
            }
            Event::Delivery(delivery) => entry("delivery", Text::Delivery(delivery), None),
            Event::Log(log) if log.level != Level::Debug => {
                entry("log", other(format!("{}: {}", log.namespace, log.message)), None)
            }
            _ => return None,
        })
    }
}

/// Returns the first [`MAX_TEXT`] characters of a text.
fn other<'a>(text: impl Into<Cow<'a, str>>) -> Text<'a> {
    let mut text = text.into();
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.to_mut().truncate(end);
    }
    Text::Other(text)
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::{Log, line::decode_event};

    use super::*;

    fn log(level: Level, message: String) -> Event {
        Event::Log(Box::new(Log { level, namespace: "test".to_owned(), message, meta: None }))
    }

    fn json(event: &Event) -> Option<String> {
        Entry::of(event, 7).map(|entry| serde_json::to_string(&entry).unwrap())
    }

    #[test]
    fn payloads_and_debug_logs_are_not_among_the_events() {
        let message = r#"{"type":"message","from":"0x01","data":"secret payload","peerId":"p","messageId":"m","priority":"medium","sentAtMs":1,"receivedAtMs":1,"route":"direct","trust":"verified"}"#;
        let event = decode_event(message.as_bytes()).unwrap().unwrap();
        let expected = r#"{"kind":"message","peerId":"p","text":"from 0x01","timeMs":7}"#;
        assert_eq!(json(&event).as_deref(), Some(expected));
        assert_eq!(json(&log(Level::Debug, "text".to_owned())), None);
    }

    #[test]
    fn peers_have_their_reasons_and_names() {
        for (line, expected) in [
            (
                r#"{"type":"peer_connected","peerId":"p"}"#,
                r#"{"kind":"peer_connected","peerId":"p","text":"connected","timeMs":7}"#,
            ),
            (
                r#"{"type":"peer_disconnected","peerId":"p"}"#,
                r#"{"kind":"peer_disconnected","peerId":"p","text":"disconnected","timeMs":7}"#,
            ),
            (
                r#"{"type":"peer_disconnected","peerId":"p","reason":"idle"}"#,
                r#"{"kind":"peer_disconnected","peerId":"p","text":"disconnected: idle","timeMs":7}"#,
            ),
            (
                r#"{"type":"peer_discovered","peerId":"p","address":"0x01","name":"n","topics":[],"trust":"verified","role":"full","addrs":[],"capabilities":[],"expiresAtMs":9}"#,
                r#"{"kind":"peer_discovered","peerId":"p","text":"0x01 n","timeMs":7}"#,
            ),
            (
                r#"{"type":"peer_banned","reason":"forged","score":0.1,"untilMs":9}"#,
                r#"{"kind":"peer_banned","text":"banned: forged","timeMs":7}"#,
            ),
        ] {
            let event = decode_event(line.as_bytes()).unwrap().unwrap();
            assert_eq!(json(&event).as_deref(), Some(expected));
        }
    }

    #[test]
    fn broadcasts_name_their_topic_and_deliveries_their_code() {
        let message = r#"{"type":"message","topic":"t","from":"0x01","data":1,"peerId":"p","messageId":"m","priority":"medium","sentAtMs":1,"receivedAtMs":1,"route":"direct","trust":"verified"}"#;
        let delivery =
            r#"{"type":"delivery","messageId":"m","state":"failed","code":"CANCELLED","attempts":1}"#;
        for (line, expected) in [
            (message, r#"{"kind":"broadcast","peerId":"p","text":"from 0x01","timeMs":7,"topic":"t"}"#),
            (delivery, r#"{"kind":"delivery","text":"failed (CANCELLED)","timeMs":7}"#),
        ] {
            let event = decode_event(line.as_bytes()).unwrap().unwrap();
            assert_eq!(json(&event).as_deref(), Some(expected));
        }
    }

    #[test]
    fn text_that_is_too_long_ends_after_a_whole_character() {
        let long = log(Level::Info, "ä".repeat(MAX_TEXT));
        let text = Entry::of(&long, 7).unwrap().text;
        assert_eq!(text.to_string(), format!("test: {}", "ä".repeat(MAX_TEXT - "test: ".len())));
    }
}
