//! What the tools do.

use std::time::Duration;

use p2p_node_protocol::Response;
use p2p_node_sdk::{AskOptions, DiscoverOptions, SendOptions};
use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::agent::{Agent, Failure};
use super::inbox::{Counts, MAX_MAIL};
use super::tools::{
    AskAgent, BlockAgent, CheckInbox, DiscoverAgents, MAX_IDS, MAX_LIMIT, MAX_WAIT, MyIdentity, Publish,
    SendMessage, Subscribe, WaitForMessages,
};
use super::view::{self, MAX_DATA, MAX_RESULT, WARNING};

/// Largest number of agents in a result. Our choice: some pages.
const MAX_AGENTS: usize = 100;

type Result<T> = std::result::Result<T, Failure>;

impl Agent {
    /// Calls a tool. Returns `None` if there is no such tool.
    pub(super) async fn call(&self, tool: &str, arguments: JsonObject) -> Option<Result<Value>> {
        /// Reads the arguments of a tool and calls it.
        macro_rules! call {
            ($method:ident) => {
                match read(arguments) {
                    Ok(arguments) => self.$method(arguments).await,
                    Err(failure) => Err(failure),
                }
            };
        }
        Some(match tool {
            "send_message" => call!(send_message),
            "ask_agent" => call!(ask_agent),
            "check_inbox" => call!(check_inbox),
            "wait_for_messages" => call!(wait_for_messages),
            "discover_agents" => call!(discover_agents),
            "subscribe" => call!(subscribe),
            "publish" => call!(publish),
            "my_identity" => call!(my_identity),
            "block_agent" => call!(block_agent),
            _ => return None,
        })
    }

    async fn send_message(&self, arguments: SendMessage) -> Result<Value> {
        let SendMessage { to, data, kind, reply_to, conversation_id, wait_seconds } = arguments;
        let wait = seconds("wait_seconds", wait_seconds, 0, MAX_WAIT)?;
        let options = SendOptions { kind, reply_to, conversation_id, ..SendOptions::default() };
        let sent = self.node.send_with(to, &data, options).await?;
        let state = match timeout(wait, sent.delivered()).await {
            Ok(delivery) => delivery.map(|_| "delivered")?,
            // The node goes on with it.
            Err(_) => "accepted",
        };
        Ok(json!({"messageId": sent.message_id, "state": state}))
    }

    async fn ask_agent(&self, arguments: AskAgent) -> Result<Value> {
        let AskAgent { agent, data, kind, timeout_seconds } = arguments;
        let deadline = seconds("timeout_seconds", timeout_seconds, 1, 3600)?;
        let options = AskOptions { kind, deadline: Some(deadline), ..AskOptions::default() };
        let mut parts = self.node.ask_stream(agent, &data, options)?;
        let (mut answers, mut bytes, mut is_truncated) = (Vec::new(), 0, false);
        while let Some(part) = parts.next().await? {
            bytes += part.data.as_ref().map_or(0, |data| data.get().len());
            if bytes > MAX_RESULT {
                // Dropping the parts tells the handler to stop.
                is_truncated = true;
                break;
            }
            answers.push(part);
        }
        let from = answers.first().map(|part| part.from.clone());
        let mut views: Vec<Value> = answers.iter().map(part_view).collect();
        let mut result = json!({"warning": WARNING, "from": from});
        match views.len() {
            1 => result["answer"] = views.remove(0),
            _ => result["parts"] = views.into(),
        }
        if is_truncated {
            result["truncatedAtBytes"] = MAX_RESULT.into();
        }
        Ok(result)
    }

    async fn check_inbox(&self, arguments: CheckInbox) -> Result<Value> {
        let CheckInbox { acknowledge, limit, again } = arguments;
        let limit = number("limit", limit, 1, MAX_LIMIT as u64)? as usize;
        let mut result = self.acknowledgements(&acknowledge).await?;
        self.read_inbox(&mut result, limit, again);
        Ok(result)
    }

    async fn wait_for_messages(&self, arguments: WaitForMessages) -> Result<Value> {
        let WaitForMessages { acknowledge, limit, timeout_seconds } = arguments;
        let limit = number("limit", limit, 1, MAX_LIMIT as u64)? as usize;
        let deadline = Instant::now() + seconds("timeout_seconds", timeout_seconds, 1, MAX_WAIT)?;
        let mut result = self.acknowledgements(&acknowledge).await?;
        let mut arrivals = self.arrivals();
        while self.unread() == 0 && timeout_at(deadline, arrivals.changed()).await.is_ok() {}
        self.read_inbox(&mut result, limit, false);
        Ok(result)
    }

    /// Acknowledges messages, and returns what a result says of it.
    async fn acknowledgements(&self, ids: &[String]) -> Result<Value> {
        if !Agent::acknowledges(&self.node) {
            return Err(Failure::invalid(
                "the daemon acknowledges messages itself, so those that you have not read would be lost with this host: stop it, and this server starts one; or start it with `--ack manual`",
            ));
        }
        if ids.len() > MAX_IDS {
            return Err(Failure::invalid(format!("`acknowledge` has at most {MAX_IDS} ids")));
        }
        let mut result = json!({});
        if ids.is_empty() {
            return Ok(result);
        }
        let acknowledged = self.acknowledge(ids).await;
        result["acknowledged"] = acknowledged.count.into();
        for (name, ids) in
            [("unknownIds", acknowledged.unknown), ("unconfirmedIds", acknowledged.unconfirmed)]
        {
            if !ids.is_empty() {
                result[name] = ids.into();
            }
        }
        Ok(result)
    }

    /// Adds the next messages to a result.
    fn read_inbox(&self, result: &mut Value, limit: usize, again: bool) {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let Counts { unacknowledged, unread, dropped } = self.inbox().read(again, |entry| {
            let message = view::message(&entry.message, entry.is_shown);
            bytes += message.to_string().len();
            let fits = messages.len() < limit && (messages.is_empty() || bytes <= MAX_RESULT);
            messages.extend(fits.then_some(message));
            fits
        });
        if !messages.is_empty() {
            result["warning"] = WARNING.into();
        }
        result["messages"] = messages.into();
        result["unread"] = unread.into();
        result["unacknowledged"] = unacknowledged.into();
        if dropped > 0 {
            result["droppedBroadcasts"] = dropped.into();
        }
        if unacknowledged >= MAX_MAIL {
            result["hint"] = "The inbox is full: acknowledge messages, so that others can come.".into();
        }
    }

    async fn discover_agents(&self, arguments: DiscoverAgents) -> Result<Value> {
        let DiscoverAgents { address, capability, topic } = arguments;
        self.agents(DiscoverOptions { address, capability, topic, look_for: None }).await
    }

    /// Finds agents.
    pub(super) async fn agents(&self, options: DiscoverOptions) -> Result<Value> {
        let found = self.node.discover(options).await?;
        let agents: Vec<Value> = found.iter().take(MAX_AGENTS).map(view::agent).collect();
        let is_complete = found.complete && found.len() <= MAX_AGENTS;
        Ok(json!({"warning": WARNING, "agents": agents, "count": found.len(), "isComplete": is_complete}))
    }

    async fn subscribe(&self, arguments: Subscribe) -> Result<Value> {
        let Subscribe { topic, undo } = arguments;
        match undo {
            true => self.node.unsubscribe(&topic).await?,
            false => self.node.subscribe(&topic).await?,
        }
        Ok(json!({"topic": topic, "isSubscribed": !undo}))
    }

    async fn publish(&self, arguments: Publish) -> Result<Value> {
        let Publish { topic, data, kind } = arguments;
        let options = SendOptions { kind, ..SendOptions::default() };
        let published = self.node.publish_with(topic, &data, options).await?;
        Ok(json!({"messageId": published.message_id, "reachedAtOnce": published.peers}))
    }

    async fn my_identity(&self, _arguments: MyIdentity) -> Result<Value> {
        let (ready, status) = (self.node.ready(), self.node.status().await?);
        let Counts { unacknowledged, unread, .. } = self.inbox().counts();
        Ok(json!({
            "address": ready.address,
            "peerId": ready.peer_id,
            "name": ready.name,
            "network": ready.network,
            "connectedPeers": status.peers,
            "knownAgents": status.agents,
            "topics": status.topics,
            "isDurable": ready.durable,
            "unread": unread,
            "unacknowledged": unacknowledged,
        }))
    }

    async fn block_agent(&self, arguments: BlockAgent) -> Result<Value> {
        let BlockAgent { agent, undo } = arguments;
        match undo {
            true => self.node.unblock(&agent).await?,
            false => self.node.block(&agent).await?,
        }
        Ok(json!({"agent": agent, "isBlocked": !undo}))
    }
}

/// Reads the arguments of a tool.
fn read<T: DeserializeOwned>(arguments: JsonObject) -> Result<T> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| Failure::invalid(error.to_string()))
}

fn number(name: &str, number: u64, least: u64, most: u64) -> Result<u64> {
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(Failure::invalid(format!("`{name}` must be {least} to {most}, not {number}"))),
    }
}

fn seconds(name: &str, seconds: u64, least: u64, most: u64) -> Result<Duration> {
    number(name, seconds, least, most).map(Duration::from_secs)
}

/// Returns a part of an answer as a host gets it.
fn part_view(part: &Response) -> Value {
    let data = part.data.as_deref().unwrap_or(RawValue::NULL);
    match view::data(data, if part.last && part.part == 0 { MAX_RESULT } else { MAX_DATA }) {
        Ok(data) => data,
        Err(preview) => json!({"preview": preview, "dataBytes": data.get().len()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked_and_unknown_ones_refused() {
        let arguments = |value: Value| value.as_object().unwrap().clone();
        let read_ask: AskAgent = read(arguments(json!({"agent": "0x1", "data": [1]}))).unwrap();
        assert_eq!((read_ask.timeout_seconds, read_ask.kind), (30, None));
        let unknown = read::<CheckInbox>(arguments(json!({"acknowledged": []}))).unwrap_err().to_json();
        assert_eq!(unknown["error"]["code"], "INVALID_ARGUMENT");
        assert!(seconds("wait_seconds", MAX_WAIT + 1, 0, MAX_WAIT).is_err());
        assert!(number("limit", 0, 1, 100).is_err() && number("limit", 100, 1, 100).is_ok());
    }
}
