//! Calls of A2A: the methods of JSON-RPC, their answers and their errors.

use p2p_node_protocol::ErrorEvent;
use serde_json::{Value, json};

/// The methods of A2A 1.x. Others are not passed on: methods of earlier versions name web hooks in other
/// places.
const METHODS: [&str; 11] = [
    "SendMessage",
    "SendStreamingMessage",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
    EXTENDED_CARD,
];

/// The method whose answer is a card.
pub(super) const EXTENDED_CARD: &str = "GetExtendedAgentCard";

/// Why a call has no result: a code of JSON-RPC or A2A, its name, and text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: i64,
    reason: &'static str,
    message: String,
}

/// Declares refusals: constructors with their codes and names (A2A 1.0, section 9.5).
macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident: $code:literal, $reason:literal;)+) => {
        impl Refusal {
            $($(#[doc = $doc])+
            pub(super) fn $name(message: impl Into<String>) -> Self {
                Refusal { code: $code, reason: $reason, message: message.into() }
            })+
        }
    };
}

refusals! {
    /// The body is not JSON.
    not_json: -32700, "PARSE_ERROR";
    /// The body is no request of JSON-RPC.
    invalid_request: -32600, "INVALID_REQUEST";
    /// A2A has no such method.
    unknown_method: -32601, "METHOD_NOT_FOUND";
    /// The parameters cannot be passed on.
    invalid_params: -32602, "INVALID_PARAMS";
    /// The agent answered with something else than A2A.
    invalid_answer: -32006, "INVALID_AGENT_RESPONSE";
    /// The client speaks another version of A2A.
    other_version: -32009, "VERSION_NOT_SUPPORTED";
}

impl Refusal {
    /// Returns what went wrong, for people.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the answer to the call with this id.
    pub(super) fn answer_to(&self, id: &Value) -> Value {
        error(id, self.code, &self.message, json!({"code": self.reason}), self.reason)
    }
}

fn error(id: &Value, code: i64, message: &str, metadata: Value, reason: &str) -> Value {
    let info = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "p2p-node",
        "metadata": metadata,
    }]);
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": info}})
}

/// Returns the answer to a call that the network did not carry out. The code of the pipe protocol is its
/// `reason`, and that of the handler, if the agent's gateway failed, the `handlerCode` beside it.
pub(super) fn failure(id: &Value, event: &ErrorEvent) -> Value {
    let code = event.code.as_str();
    let handler = event.details.as_ref().and_then(|details| details["code"].as_str());
    let metadata = match handler {
        Some(handler) => json!({"code": code, "handlerCode": handler}),
        None => json!({"code": code}),
    };
    error(id, -32603, &event.message, metadata, code)
}

/// Returns the id of a call, as its answer repeats it.
pub(super) fn id_of(call: &Value) -> Value {
    match &call["id"] {
        id @ (Value::String(_) | Value::Number(_)) => id.clone(),
        _ => Value::Null,
    }
}

/// Checks that a call is one of A2A. Returns its method.
pub(super) fn check(call: &Value) -> Result<&'static str, Refusal> {
    if call["jsonrpc"] != "2.0" || !(call["id"] == id_of(call)) {
        return Err(Refusal::invalid_request("the body must be one request of JSON-RPC 2.0"));
    }
    let method =
        call["method"].as_str().ok_or_else(|| Refusal::invalid_request("`method` must be a text"))?;
    let known = METHODS.iter().find(|known| **known == method);
    let known = known.ok_or_else(|| Refusal::unknown_method(format!("A2A 1.0 has no method {method:?}")))?;
    match &call["params"] {
        Value::Null | Value::Object(_) => Ok(known),
        _ => Err(Refusal::invalid_params("`params` must be an object")),
    }
}

/// Returns `true` if the answer to a method is a stream.
pub(super) fn is_stream(method: &str) -> bool {
    matches!(method, "SendStreamingMessage" | "SubscribeToTask")
}

/// Returns the answer of an agent, which may be anything, as one to the call with this id.
pub(super) fn answer(id: &Value, given: Value) -> Value {
    let Value::Object(mut given) = given else { return invalid(id) };
    match (given.remove("result"), given.remove("error")) {
        (Some(result), None) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        (None, Some(error)) if error["code"].is_i64() && error["message"].is_string() => {
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
        _ => invalid(id),
    }
}

fn invalid(id: &Value) -> Value {
    Refusal::invalid_answer("the agent's answer is not one of A2A").answer_to(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a2a_pass_and_others_have_the_code_of_their_fault() {
        let call = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}});
        assert!(METHODS.iter().all(|method| check(&call(method)) == Ok(method)));
        for (wrong, code) in [
            (json!([call("GetTask")]), -32600),
            (json!({"jsonrpc": "1.0", "id": 1, "method": "GetTask"}), -32600),
            (json!({"jsonrpc": "2.0", "id": {}, "method": "GetTask"}), -32600),
            (json!({"jsonrpc": "2.0", "id": 1}), -32600),
            (call("message/send"), -32601),
            (json!({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": []}), -32602),
        ] {
            assert_eq!(check(&wrong).unwrap_err().code, code, "{wrong}");
        }
    }

    #[test]
    fn answer_of_an_agent_is_rebuilt_or_refused() {
        let id = json!("mine");
        let result = answer(&id, json!({"id": "other", "result": null, "more": 1}));
        assert_eq!(result, json!({"jsonrpc": "2.0", "id": "mine", "result": null}));
        let error = answer(&id, json!({"error": {"code": -32001, "message": "no task"}}));
        assert_eq!((&error["id"], &error["error"]["code"]), (&id, &json!(-32001)));
        for hostile in [
            json!(1),
            json!([]),
            json!({}),
            json!({"result": 1, "error": {"code": 1, "message": "x"}}),
            json!({"error": "x"}),
            json!({"error": {"code": "x", "message": "x"}}),
        ] {
            assert_eq!(answer(&id, hostile)["error"]["code"], -32006);
        }
    }
}
