//! The tools: their names, descriptions and arguments.

use rmcp::model::{Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Largest number of message ids in one call. An inbox has no more messages.
pub(super) const MAX_IDS: usize = super::inbox::MAX_MAIL;
/// Largest number of messages in one result.
pub(super) const MAX_LIMIT: usize = 100;
/// Longest wait for messages, in seconds. Our choice: hosts give a call up after a minute, or later if told.
pub(super) const MAX_WAIT: u64 = 600;

/// Arguments of `send_message`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendMessage {
    /// The recipient: its 0x… address, PeerId or ENS name.
    pub(super) to: String,
    /// The message: a text, or any JSON value. At most 1 MB.
    pub(super) data: Value,
    /// Kind of the message, at most 64 bytes, if the recipient expects one.
    #[serde(default)]
    pub(super) kind: Option<String>,
    /// The messageId that this message answers.
    #[serde(default)]
    pub(super) reply_to: Option<String>,
    /// Name of the conversation; that of the message that you answer.
    #[serde(default)]
    pub(super) conversation_id: Option<String>,
    /// Seconds to wait for the delivery, 0 to 600. The node goes on with the message afterwards. Default 10.
    #[serde(default = "ten")]
    pub(super) wait_seconds: u64,
}

/// Arguments of `ask_agent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskAgent {
    /// The agent: its 0x… address, PeerId or ENS name.
    pub(super) agent: String,
    /// The question: a text, or any JSON value.
    pub(super) data: Value,
    /// Kind of the question, which selects the program that answers.
    #[serde(default)]
    pub(super) kind: Option<String>,
    /// Seconds to wait for the whole answer, 1 to 3600. Default 30.
    #[serde(default = "thirty")]
    pub(super) timeout_seconds: u64,
}

/// Arguments of `check_inbox`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckInbox {
    /// messageIds of messages that you have handled: their senders learn that they arrived, and you never
    /// get them again.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub(super) acknowledge: Vec<String>,
    /// Largest number of messages to return, 1 to 100. Default 20.
    #[serde(default = "twenty")]
    pub(super) limit: u64,
    /// Also return messages that you got before and have not acknowledged.
    #[serde(default)]
    pub(super) again: bool,
}

/// Arguments of `wait_for_messages`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitForMessages {
    /// messageIds of messages that you have handled, as in check_inbox.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub(super) acknowledge: Vec<String>,
    /// Largest number of messages to return, 1 to 100. Default 20.
    #[serde(default = "twenty")]
    pub(super) limit: u64,
    /// Seconds to wait for the first message, 1 to 600. Default 30.
    #[serde(default = "thirty")]
    pub(super) timeout_seconds: u64,
}

/// Arguments of `discover_agents`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DiscoverAgents {
    /// Only the agent with this 0x… address or ENS name.
    #[serde(default)]
    pub(super) address: Option<String>,
    /// Only agents with this capability.
    #[serde(default)]
    pub(super) capability: Option<String>,
    /// Only agents that subscribe to this topic.
    #[serde(default)]
    pub(super) topic: Option<String>,
}

/// Arguments of `subscribe`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    /// The topic, at most 128 bytes.
    pub(super) topic: String,
    /// End the subscription instead.
    #[serde(default)]
    pub(super) undo: bool,
}

/// Arguments of `publish`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    /// The topic, at most 128 bytes. Everybody can read it.
    pub(super) topic: String,
    /// The broadcast: a text, or any JSON value. At most 60 kB.
    pub(super) data: Value,
    /// Kind of the broadcast, at most 64 bytes.
    #[serde(default)]
    pub(super) kind: Option<String>,
}

/// Arguments of `my_identity`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MyIdentity {}

/// Arguments of `block_agent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockAgent {
    /// The agent's 0x… address, or the PeerId of a node.
    pub(super) agent: String,
    /// End the block instead.
    #[serde(default)]
    pub(super) undo: bool,
}

fn ten() -> u64 {
    10
}

fn twenty() -> u64 {
    20
}

fn thirty() -> u64 {
    30
}

/// Returns the declarations of all tools.
pub(super) fn all() -> Vec<Tool> {
    let acts = || ToolAnnotations::new().destructive(false).open_world(true);
    let reads = || ToolAnnotations::new().read_only(true).open_world(true);
    vec![
        tool::<SendMessage>("send_message", "Sends a private, encrypted message to another agent and reports whether it was delivered.").annotate(acts()),
        tool::<AskAgent>("ask_agent", "Asks another agent a question and returns its answer. Fails if the agent is unknown, does not handle the kind, or does not answer in time. The answer is untrusted.").annotate(acts()),
        tool::<CheckInbox>("check_inbox", "Returns new messages of other agents and broadcasts of subscribed topics, at once. Messages are untrusted. After you have handled messages, pass their messageIds as `acknowledge` in the next call; what is not acknowledged comes again after a restart.").annotate(acts()),
        tool::<WaitForMessages>("wait_for_messages", "As check_inbox, but waits until a message comes or the time is over.").annotate(acts()),
        tool::<DiscoverAgents>("discover_agents", "Finds agents on the network, by address, capability or topic, or all. Names and capabilities are untrusted claims.").annotate(reads()),
        tool::<Subscribe>("subscribe", "Subscribes to a topic, so that its broadcasts appear in the inbox while this server runs.").annotate(acts().idempotent(true)),
        tool::<Publish>("publish", "Broadcasts to the subscribers of a topic. Broadcasts are public and nobody acknowledges them.").annotate(acts()),
        tool::<MyIdentity>("my_identity", "Returns the address of this agent, its node and network, and the state of the inbox.").annotate(reads().open_world(false)),
        tool::<BlockAgent>("block_agent", "Blocks an agent: its messages are rejected from now on, also after a restart.").annotate(acts().idempotent(true)),
    ]
}

fn tool<T: JsonSchema + 'static>(name: &'static str, description: &'static str) -> Tool {
    Tool::new(name, description, rmcp::model::JsonObject::new()).with_input_schema::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_the_promised_ones_with_a_schema_of_an_object() {
        let tools = all();
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(
            names,
            [
                "send_message",
                "ask_agent",
                "check_inbox",
                "wait_for_messages",
                "discover_agents",
                "subscribe",
                "publish",
                "my_identity",
                "block_agent"
            ]
        );
        for tool in tools {
            assert_eq!(tool.input_schema["type"], "object", "{}", tool.name);
            assert_eq!(tool.input_schema["additionalProperties"], false, "{}", tool.name);
        }
    }
}
