//! The tracer: the spans of messages, and the trace contexts that travel with them
//! (docs/adr/0063-tracing.md).

use std::time::Duration;

use p2p_node_protocol::{Counter, Delivery, Message, Priority, Route};
use p2p_node_wire::time::Instant;
use p2p_node_wire::trace_context::TraceContext;

use crate::backoff::Jitter;
use crate::cx::Cx;
use crate::effect::Effect;
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::input::Now;
use crate::outgoing::OutgoingMessage;

/// Spans of each name that the node records: 100 a second and 500 at once, our choice. A person looks at some of
/// them; the spans of each message of a burst took a third of its throughput (docs/benchmarks.md). The bursts of
/// both names fit into the queue of the exporter.
pub const SPANS: Quota =
    Quota { burst: 500, interval: Duration::from_millis(10), max_keys: 2, at_limit: AtLimit::Refuse };

/// What a span measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpanName {
    /// From the acceptance of a message to its end.
    Send,
    /// From the arrival of a message to its hand-over to the writer of the parent's lines.
    Deliver,
}

/// A finished span. It has no payload, no address and no topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it measures.
    pub name: SpanName,
    /// Its trace and its id.
    pub context: TraceContext,
    /// Id of the span that caused it, if there is one.
    pub parent: Option<[u8; 8]>,
    /// Its begin, in ms since 1970.
    pub start_ms: u64,
    /// Its end, in ms since 1970.
    pub end_ms: u64,
    /// Id of the message.
    pub message_id: String,
    /// Kind of the message; may be empty.
    pub kind: String,
    /// Priority of the message.
    pub priority: Priority,
    /// Route of the message, if it had one.
    pub route: Option<Route>,
    /// The outcome: `published` for a broadcast that left, `delivered` at the recipient, else the state of
    /// the `delivery`.
    pub outcome: &'static str,
}

/// The trace of an outgoing message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendTrace {
    /// The context that travels with the message.
    pub context: TraceContext,
    /// Id of the span of the node's parent.
    pub parent: Option<[u8; 8]>,
    /// `true` if the context names a span that this node ends.
    pub is_recorded: bool,
}

/// Makes spans, if the configuration asks for them. Parent-based sampling with a limit: a new trace is
/// recorded, and one that began elsewhere if it says so, up to [`SPANS`].
#[derive(Debug)]
pub(crate) struct Tracer {
    /// Random ids; absent if the node makes no spans.
    ids: Option<Jitter>,
    limiter: RateLimiter<SpanName>,
    /// Until when spans of each name are above the limit, so that a message of a burst costs a comparison.
    refused_until: [Instant; SPANS.max_keys],
    /// Spans above the limit since the last [`Tracer::take_dropped`].
    dropped: u64,
}

impl Tracer {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Tracer {
            ids: seed.map(Jitter::new),
            limiter: RateLimiter::new(SPANS),
            refused_until: Default::default(),
            dropped: 0,
        }
    }

    /// Returns the number of spans that were above the limit since the last call.
    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Returns `true` if one more span of this name is within the limit, and counts it.
    fn admit(&mut self, name: SpanName, now: Instant) -> bool {
        let refused_until = &mut self.refused_until[name as usize];
        if now < *refused_until {
            return false;
        }
        let is_admitted = self.limiter.admit(name, now);
        *refused_until = now + self.limiter.wait(&name, 1, now).unwrap_or_default();
        is_admitted
    }

    /// Begins a span with this parent. Without a recorded span the message has the context of the
    /// parent, if there is one.
    fn begin(&mut self, name: SpanName, parent: Option<TraceContext>, now: Instant) -> Option<SendTrace> {
        let as_it_is = parent.map(|context| SendTrace { context, parent: None, is_recorded: false });
        if self.ids.is_none() || parent.is_some_and(|parent| !parent.is_sampled()) {
            return as_it_is;
        }
        if !self.admit(name, now) {
            self.dropped += 1;
            return as_it_is;
        }
        let ids = self.ids.as_mut()?;
        let mut id = || ids.seed().max(1).to_be_bytes();
        let span_id = id();
        let context = match parent {
            Some(parent) => TraceContext { span_id, ..parent },
            None => {
                let mut trace_id = [0; 16];
                trace_id[..8].copy_from_slice(&id());
                trace_id[8..].copy_from_slice(&id());
                TraceContext::new_trace(trace_id, span_id)
            }
        };
        Some(SendTrace { context, parent: parent.map(|parent| parent.span_id), is_recorded: true })
    }

    /// Ends the delivery of a message to the parent, and puts the context of that span into it.
    pub(crate) fn end_deliver(&mut self, message: &mut Message, now: Now) -> Option<Effect> {
        self.ids.as_ref()?;
        let sender = message.traceparent.as_deref().and_then(TraceContext::parse);
        let SendTrace { context, parent, is_recorded: true } =
            self.begin(SpanName::Deliver, sender, now.mono)?
        else {
            return None;
        };
        message.traceparent = Some(context.to_string());
        Some(Effect::Span(Box::new(Span {
            name: SpanName::Deliver,
            context,
            parent,
            start_ms: message.received_at_ms,
            end_ms: now.unix_ms.max(message.received_at_ms),
            message_id: message.message_id.clone(),
            kind: message.kind.clone().unwrap_or_default(),
            priority: message.priority,
            route: Some(message.route),
            outcome: "delivered",
        })))
    }
}

impl Cx {
    /// Begins the span of a message that the node sends.
    pub(crate) fn begin_send_span(&mut self, parent: Option<TraceContext>) -> Option<SendTrace> {
        self.tracer.begin(SpanName::Send, parent, self.now.mono)
    }

    /// Counts the spans that were above the limit.
    pub(crate) fn count_dropped_spans(&mut self) {
        let dropped = self.tracer.take_dropped();
        self.stats.add(Counter::SpansDropped, dropped);
    }

    /// Ends the span of a message that the node accepted, and names its context in the `delivery`.
    pub(crate) fn end_mail_span(&mut self, draft: &OutgoingMessage, delivery: &mut Delivery) {
        delivery.traceparent = draft.trace.map(|trace| trace.context.to_string());
        self.end_send_span(draft, &delivery.message_id, delivery.route, delivery.state.as_str());
    }

    /// Ends the span of a message or broadcast that the node accepted.
    pub(crate) fn end_send_span(
        &mut self,
        draft: &OutgoingMessage,
        message_id: &str,
        route: Option<Route>,
        outcome: &'static str,
    ) {
        let Some(SendTrace { context, parent, is_recorded: true }) = draft.trace else { return };
        self.effects.push_back(Effect::Span(Box::new(Span {
            name: SpanName::Send,
            context,
            parent,
            start_ms: draft.sent_at_ms,
            end_ms: self.now.unix_ms.max(draft.sent_at_ms),
            message_id: message_id.to_owned(),
            kind: draft.kind.clone(),
            priority: draft.priority,
            route,
            outcome,
        })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(flags: u8) -> TraceContext {
        TraceContext { trace_id: [7; 16], span_id: [8; 8], flags }
    }

    fn begin(tracer: &mut Tracer, parent: Option<TraceContext>) -> Option<SendTrace> {
        tracer.begin(SpanName::Send, parent, Instant::ZERO)
    }

    #[test]
    fn node_without_tracing_passes_the_context_on() {
        let mut tracer = Tracer::new(None);
        assert_eq!(begin(&mut tracer, None), None);
        let trace = begin(&mut tracer, Some(context(1))).unwrap();
        assert_eq!((trace.context, trace.is_recorded), (context(1), false));
    }

    #[test]
    fn span_keeps_the_trace_of_its_parent_and_has_an_id_of_its_own() {
        let mut tracer = Tracer::new(Some(1));
        let one = begin(&mut tracer, Some(context(1))).unwrap();
        assert_eq!((one.context.trace_id, one.parent, one.is_recorded), ([7; 16], Some([8; 8]), true));
        let other = begin(&mut tracer, Some(context(1))).unwrap();
        assert!(one.context.span_id != [8; 8] && one.context.span_id != other.context.span_id);
    }

    #[test]
    fn message_without_context_begins_a_recorded_trace() {
        let mut tracer = Tracer::new(Some(1));
        let (one, other) = (begin(&mut tracer, None).unwrap(), begin(&mut tracer, None).unwrap());
        assert!(one.is_recorded && one.context.is_sampled() && one.parent.is_none());
        assert_ne!(one.context.trace_id, other.context.trace_id);
    }

    #[test]
    fn trace_that_is_not_sampled_gets_no_span() {
        let trace = begin(&mut Tracer::new(Some(1)), Some(context(0))).unwrap();
        assert_eq!((trace.context, trace.is_recorded), (context(0), false));
    }

    #[test]
    fn spans_above_the_limit_are_counted_and_pass_the_context_on_until_there_is_room() {
        let mut tracer = Tracer::new(Some(1));
        for parent in [None, Some(context(1))].into_iter().cycle().take(500) {
            assert!(begin(&mut tracer, parent).unwrap().is_recorded);
        }
        assert_eq!(begin(&mut tracer, None), None, "a new trace is not recorded");
        let trace = begin(&mut tracer, Some(context(1))).unwrap();
        assert_eq!((trace.context, trace.is_recorded), (context(1), false));
        assert_eq!((tracer.take_dropped(), tracer.take_dropped()), (2, 0));
        let deliver = |tracer: &mut Tracer| tracer.begin(SpanName::Deliver, None, Instant::ZERO);
        assert!(deliver(&mut tracer).is_some(), "spans of another name have a limit of their own");
        let second = Instant::from_secs(1);
        let recorded = (0..600).filter(|_| tracer.begin(SpanName::Send, None, second).is_some()).count();
        assert_eq!(recorded, 100);
    }
}
