//! `Request`: the answers of agents, as fast as the client reads them.

use futures::stream::{self, StreamExt};
use p2p_node_grpc::v1;
use p2p_node_protocol::Event;
use tonic::Status;

use super::convert;
use super::streams::Outgoing;
use crate::inner::{Answers, Calls};

/// Sends the request and returns the stream of its answers. Dropping it cancels the request.
pub(super) async fn request(
    calls: &Calls,
    request: v1::RequestRequest,
) -> Result<Outgoing<v1::RequestResponse>, Status> {
    let answers = Answers::ask(calls, convert::ask(request)?).await?;
    // `None` after the last answer.
    let stream = stream::try_unfold(Some(answers), |open| async move {
        let Some(mut answers) = open else { return Ok(None) };
        loop {
            match answers.next().await? {
                Event::Response(response) => {
                    return Ok::<_, Status>(Some((convert::answer(*response), Some(answers))));
                }
                Event::Result(answer) => return Ok(Some((convert::summary(*answer), None))),
                _ => {}
            }
        }
    });
    Ok(stream.boxed())
}
