//! Push notifications without a public web hook: the URLs of programs stay on their machine.
//!
//! The gateway of the asker replaces the URL by a name, `p2p-push:<id>`. The gateway of the server replaces
//! the name by a URL of its own, which leads back to the asker. A notification then travels as a request to
//! the asker, whose gateway knows the URL.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy::primitives::Address;
use p2p_node_wire::identity::NodeKey;
use reqwest::Url;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::call::Refusal;

/// The kind of requests that carry notifications.
pub(super) const KIND: &str = "a2a.push";

/// The header with the token of a notification (A2A 1.0, section 4.3.3).
pub(super) const TOKEN: &str = "X-A2A-Notification-Token";

/// What stands for a URL between agents.
const SCHEME: &str = "p2p-push:";

/// Length of an id, in bytes: random, so that no other agent can guess it.
const ID_BYTES: usize = 16;

/// Domain of the signature in the path of a notification.
const PLACE_DOMAIN: &str = "p2p-node/a2a-push/v1";

/// Maximum number of URLs that the gateway remembers. The oldest goes first. Our choice: a program has
/// few web hooks, and names them in each task.
pub(super) const MAX_HOOKS: usize = 4096;

/// Longest URL, in bytes. Our choice.
pub(super) const MAX_URL_BYTES: usize = 2048;

/// The configuration of notifications in a message, by both names that a server of A2A accepts.
const CONFIGS: [&str; 2] = ["taskPushNotificationConfig", "task_push_notification_config"];

#[derive(Debug)]
struct Hook {
    id: String,
    agent: Address,
    url: Url,
}

/// The URLs of the programs of this agent.
#[derive(Debug, Default)]
pub(super) struct Hooks(Mutex<VecDeque<Hook>>);

impl Hooks {
    fn hooks(&self) -> MutexGuard<'_, VecDeque<Hook>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the URLs of a call to an agent by names.
    ///
    /// # Errors
    /// Fails if a URL is not of this machine: the gateway calls nobody else.
    pub(super) fn hide(&self, call: &mut Value, agent: Address) -> Result<(), Refusal> {
        for url in urls_of(call) {
            let text = url.as_str().unwrap_or_default();
            let hook = local(text).ok_or_else(|| {
                Refusal::invalid_params(
                    "the URL for notifications must be http://127.0.0.1:PORT/…: a web hook on the gateway's machine",
                )
            })?;
            *url = Value::from(format!("{SCHEME}{}", self.name(hook, agent)?));
        }
        Ok(())
    }

    /// Returns the id of a URL for an agent.
    fn name(&self, url: Url, agent: Address) -> Result<String, Refusal> {
        let mut hooks = self.hooks();
        if let Some(known) = hooks.iter().find(|hook| hook.agent == agent && hook.url == url) {
            return Ok(known.id.clone());
        }
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| {
            Refusal::invalid_params(format!("the system gives no random numbers: {error}"))
        })?;
        let id = hex::encode(bytes);
        if hooks.len() == MAX_HOOKS {
            hooks.pop_front();
        }
        hooks.push_back(Hook { id: id.clone(), agent, url });
        Ok(id)
    }

    /// Puts the URLs of the program back into an answer of an agent.
    pub(super) fn show(&self, answer: &mut Value, agent: Address) {
        each_text(answer, &mut |text| {
            let id = text.strip_prefix(SCHEME)?;
            self.url(id, agent).map(String::from)
        });
    }

    /// Returns the URL for which an agent has a name.
    pub(super) fn url(&self, id: &str, agent: Address) -> Option<Url> {
        let hooks = self.hooks();
        hooks.iter().find(|hook| hook.id == id && hook.agent == agent).map(|hook| hook.url.clone())
    }
}

/// Reads the URL of a web hook on this machine.
fn local(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL_BYTES)?;
    let host = url.host_str()?;
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    (url.scheme() == "http" && is_local).then_some(url)
}

fn is_id(id: &str) -> bool {
    id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The places of the gateway to which the server of this agent sends notifications.
#[derive(Debug)]
pub(super) struct Places {
    /// The URL of the gateway.
    pub(super) gateway: String,
    /// Proves that the gateway made a place, also before a restart.
    pub(super) key: NodeKey,
}

impl Places {
    /// Replaces the names in a call of `asker` by URLs of this gateway.
    ///
    /// # Errors
    /// Fails for anything but a name: another agent must not choose whom the server calls.
    pub(super) fn lead_here(&self, call: &mut Value, asker: Address) -> Result<(), Refusal> {
        for url in urls_of(call) {
            let name = url.as_str().and_then(|name| name.strip_prefix(SCHEME));
            let id = name.filter(|id| is_id(id)).ok_or_else(|| {
                Refusal::invalid_params(
                    "the URL for notifications must be a name that the asker's gateway made",
                )
            })?;
            *url = Value::from(format!("{}/push/{asker}/{id}/{}", self.gateway, self.proof(asker, id)));
        }
        Ok(())
    }

    /// Puts the names back into an answer of the server of this agent.
    pub(super) fn lead_away(&self, answer: &mut Value, asker: Address) {
        let prefix = format!("{}/push/{asker}/", self.gateway);
        each_text(answer, &mut |text| {
            let (id, _) = text.strip_prefix(&prefix)?.split_once('/')?;
            Some(format!("{SCHEME}{id}"))
        });
    }

    /// Returns `true` if the gateway made this place.
    pub(super) fn is_genuine(&self, asker: Address, id: &str, proof: &str) -> bool {
        self.proof(asker, id).as_bytes().ct_eq(proof.as_bytes()).into()
    }

    /// The signature is the same each time, and nobody without the key can make it.
    fn proof(&self, asker: Address, id: &str) -> String {
        let signature = self.key.sign(PLACE_DOMAIN, &[asker.as_slice(), id.as_bytes()].concat());
        hex::encode(&Sha256::digest(signature)[..ID_BYTES])
    }
}

/// Returns the URLs for notifications in a call.
fn urls_of(call: &mut Value) -> Vec<&mut Value> {
    let is_config = call["method"] == "CreateTaskPushNotificationConfig";
    let Some(Value::Object(params)) = call.get_mut("params") else { return Vec::new() };
    if is_config {
        return params.get_mut("url").into_iter().collect();
    }
    let Some(Value::Object(configuration)) = params.get_mut("configuration") else { return Vec::new() };
    let configs = configuration.iter_mut().filter(|(name, _)| CONFIGS.contains(&name.as_str()));
    configs.filter_map(|(_, config)| config.get_mut("url")).collect()
}

/// Replaces texts of a value, at any depth.
fn each_text(value: &mut Value, replace: &mut impl FnMut(&str) -> Option<String>) {
    match value {
        Value::String(text) => *text = replace(text).unwrap_or_else(|| std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, replace)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each_text(field, replace)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places() -> Places {
        Places { gateway: "http://127.0.0.1:8420".to_owned(), key: NodeKey::from_seed([1; 32]) }
    }

    fn agent(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    fn with_url(url: &str) -> [Value; 3] {
        let config = json!({"url": url, "token": "t"});
        [
            json!({"method": "CreateTaskPushNotificationConfig", "params": {"taskId": "1", "url": url}}),
            json!({"method": "SendMessage", "params": {"configuration": {"taskPushNotificationConfig": config}}}),
            json!({"method": "SendMessage", "params": {"configuration": {"task_push_notification_config": config}}}),
        ]
    }

    #[test]
    fn url_of_a_program_never_leaves_its_machine_and_comes_back_for_its_agent_alone() {
        let hooks = Hooks::default();
        for call in with_url("http://127.0.0.1:1/hook") {
            let mut sent = call.clone();
            hooks.hide(&mut sent, agent(1)).unwrap();
            assert!(!sent.to_string().contains("127.0.0.1"), "{sent}");
            let of_another = sent.clone();
            places().lead_here(&mut sent, agent(9)).unwrap();
            assert!(sent.to_string().contains("http://127.0.0.1:8420/push/0x0909"), "{sent}");
            places().lead_away(&mut sent, agent(9));
            assert_eq!(sent, of_another);
            let mut shown = sent.clone();
            hooks.show(&mut shown, agent(2));
            assert_eq!(shown, sent, "another agent");
            hooks.show(&mut shown, agent(1));
            assert_eq!(shown, call);
        }
        assert_eq!(hooks.hooks().len(), 1);
    }

    #[test]
    fn web_hook_of_another_machine_is_refused() {
        for url in [
            "http://10.0.0.1/",
            "http://169.254.169.254/x",
            "https://127.0.0.1/",
            "file:///etc",
            "http://localhost.example/",
            "",
            &format!("http://127.0.0.1/{}", "x".repeat(MAX_URL_BYTES)),
        ] {
            for mut call in with_url(url) {
                assert!(Hooks::default().hide(&mut call, agent(1)).is_err(), "{url}");
            }
        }
        for url in ["http://localhost:1/", "http://[::1]:1/x", "http://127.1.2.3/"] {
            assert!(local(url).is_some(), "{url}");
        }
    }

    #[test]
    fn agent_cannot_choose_whom_the_server_of_another_calls() {
        let long = format!("{SCHEME}{}", "0".repeat(33));
        for url in ["http://127.0.0.1:1/", "http://10.0.0.1/", "p2p-push:../../x", &long] {
            for mut call in with_url(url) {
                assert!(places().lead_here(&mut call, agent(9)).is_err(), "{url}");
            }
        }
    }

    #[test]
    fn oldest_web_hook_goes_when_there_are_too_many() {
        let hooks = Hooks::default();
        let url = |number: usize| Url::parse(&format!("http://127.0.0.1/{number}")).unwrap();
        let first = hooks.name(url(0), agent(1)).unwrap();
        for number in 1..=MAX_HOOKS {
            hooks.name(url(number), agent(1)).unwrap();
        }
        assert_eq!(hooks.hooks().len(), MAX_HOOKS);
        assert_eq!(hooks.url(&first, agent(1)), None);
    }

    #[test]
    fn only_the_gateway_makes_places_for_notifications() {
        let (id, other) = ("0".repeat(32), "1".repeat(32));
        let proof = places().proof(agent(1), &id);
        assert!(places().is_genuine(agent(1), &id, &proof));
        let stranger = Places { key: NodeKey::from_seed([2; 32]), ..places() };
        assert!(!places().is_genuine(agent(1), &id, &stranger.proof(agent(1), &id)));
        assert!(!places().is_genuine(agent(2), &id, &proof));
        assert!(!places().is_genuine(agent(1), &other, &proof));
        assert!(!places().is_genuine(agent(1), &id, ""));
    }
}
