//! `p2p-node ask`

use p2p_node_protocol::{Event as NodeEvent, Response};
use p2p_node_sdk::{AskOptions, Builder, Error};
use serde_json::value::RawValue;

use super::output::{self, Output};
use super::session::Session;
use super::{ShellError, data};
use crate::config::AskArgs;
use crate::terminal::escaped;

pub(super) async fn run(args: AskArgs, out: &mut Output) -> Result<(), ShellError> {
    let data = data::read(&args.data, args.format)?;
    let session = Session::open(&args.node, Builder::default().inbox(false)).await?;
    let options = AskOptions { kind: args.kind, deadline: Some(args.timeout), ..AskOptions::default() };
    let asked = ask(&session, args.to, &data, options, out).await;
    session.end().await;
    asked
}

async fn ask(
    session: &Session,
    to: String,
    data: &data::Data,
    options: AskOptions,
    out: &mut Output,
) -> Result<(), ShellError> {
    let failed = |error: Error| ShellError::Asked(Box::new(error));
    let mut parts = session.node.ask_stream(to, data, options).map_err(failed)?;
    while let Some(part) = parts.next().await.map_err(failed)? {
        let event = NodeEvent::Response(Box::new(part));
        out.event(&event, || match &event {
            NodeEvent::Response(part) => text(part),
            _ => String::new(),
        })?;
    }
    Ok(())
}

/// Returns a part of an answer as lines for people. The answer may have several lines of its own.
fn text(part: &Response) -> String {
    let data = part.data.as_deref().unwrap_or(RawValue::NULL);
    let lines: Vec<String> = output::data(data, part.encoding).lines().map(escaped).collect();
    lines.join("\n") + "\n"
}
