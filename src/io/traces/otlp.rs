//! The messages of OTLP that carry spans: opentelemetry/proto/collector/trace/v1 and trace/v1 of
//! version 1 of the protocol, with the fields that the node sets.

use p2p_node_core::tracer::{self, SpanName};
use p2p_node_protocol::{Priority, Route};
use prost::{Message, Oneof};

use super::TracesConfig;

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = 1)]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = 1)]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = 2)]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = 1)]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = 1)]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = 2)]
    spans: Vec<Span>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(string, tag = 2)]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = 1)]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = 2)]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = 4)]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = 5)]
    name: String,
    #[prost(int32, tag = 6)]
    kind: i32,
    #[prost(fixed64, tag = 7)]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = 8)]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = 9)]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = 15)]
    status: Option<Status>,
    #[prost(fixed32, tag = 16)]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = 2)]
    message: String,
    #[prost(int32, tag = 3)]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = 1)]
    key: String,
    #[prost(message, optional, tag = 2)]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    String(String),
}

/// `SPAN_KIND_PRODUCER` and `SPAN_KIND_CONSUMER`.
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::String(value.into())) }) }
}

/// Returns the request with these spans.
pub(super) fn request(config: &TracesConfig, spans: Vec<tracer::Span>) -> Request {
    let attributes = vec![
        attribute("service.name", &config.service_name),
        attribute("service.version", config.version),
        attribute("service.instance.id", &config.instance),
    ];
    let scope = Scope { name: "p2p-node".to_owned(), version: config.version.to_owned() };
    let spans = spans.into_iter().map(span_of).collect();
    Request {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }],
    }
}

fn span_of(span: tracer::Span) -> Span {
    let (name, kind) = match span.name {
        SpanName::Send => ("send", PRODUCER),
        SpanName::Deliver => ("deliver", CONSUMER),
    };
    let priority = match span.priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
    };
    let route = span.route.map(|route| match route {
        Route::Auto => "auto",
        Route::Direct => "direct",
        Route::Gossip => "gossip",
    });
    let mut attributes = vec![
        attribute("messaging.system", "p2p-node"),
        attribute("messaging.operation.name", name),
        attribute("messaging.message.id", span.message_id),
        attribute("p2p_node.priority", priority),
        attribute("p2p_node.outcome", span.outcome),
    ];
    attributes.extend(route.map(|route| attribute("p2p_node.route", route)));
    attributes.extend((!span.kind.is_empty()).then(|| attribute("p2p_node.kind", span.kind)));
    let is_error = !matches!(span.outcome, "delivered" | "published");
    Span {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        parent_span_id: span.parent.map_or(Vec::new(), |parent| parent.to_vec()),
        name: name.to_owned(),
        kind,
        start_time_unix_nano: span.start_ms.saturating_mul(1_000_000),
        end_time_unix_nano: span.end_ms.saturating_mul(1_000_000),
        attributes,
        status: is_error.then(|| Status { message: span.outcome.to_owned(), code: ERROR }),
        flags: span.context.flags.into(),
    }
}
