//! The answers to one request, with flow control.

use p2p_node_protocol::{Ask, Command, Event};

use super::{Call, CallError, Calls, Taker};

/// Number of parts of an answer that the handler may send ahead of the program. Our choice: parts of the
/// largest size fill what may wait, and smaller ones do not wait for a round trip.
pub(crate) const PARTS_AHEAD: u32 = 16;

/// The answers to one request. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Answers {
    call: Call,
    /// The parts that the program has got, and those that the handler may send.
    parts: u32,
    permitted: Option<u32>,
}

impl Answers {
    /// Sends a request.
    pub(crate) async fn ask(calls: &Calls, ask: Ask) -> Result<Self, CallError> {
        let permitted = ask.stream.then_some(PARTS_AHEAD);
        let call = calls.call(Command::Ask(Ask { credit: permitted, ..ask }), Taker::Client).await?;
        Ok(Answers { call, parts: 0, permitted })
    }

    /// Returns the next `response`, or the `result`, which is the last event.
    ///
    /// # Errors
    /// Fails with the error of the request, or if the node closes the client.
    pub(crate) async fn next(&mut self) -> Result<Event, CallError> {
        let event = self.call.next().await?;
        if let (Event::Response(_), Some(permitted)) = (&event, &mut self.permitted) {
            self.parts += 1;
            if permitted.saturating_sub(self.parts) <= PARTS_AHEAD / 2 {
                *permitted = self.parts + PARTS_AHEAD;
                self.call.permit(*permitted).await?;
            }
        }
        Ok(event)
    }
}
