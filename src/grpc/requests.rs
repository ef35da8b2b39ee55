//! `Request`: the answers of agents, as fast as the client reads them.

use futures::stream::{self, StreamExt};
use p2p_node_grpc::v1;
use p2p_node_protocol::Event;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::convert;
use super::streams::Outgoing;
use crate::inner::{Answers, Calls};

/// Number of digits of a `grpc-timeout` at most: the specification of gRPC over HTTP/2.
const TIMEOUT_DIGITS: usize = 8;

/// Returns how long the client of a call waits, in milliseconds, if it says so. The deadline of the request then
/// travels to the other agent.
pub(super) fn timeout_ms(metadata: &MetadataMap) -> Option<u64> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_valid = number.len() <= TIMEOUT_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_valid)?;
    Some(match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number / 1000,
        "n" => number / 1_000_000,
        _ => return None,
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_of_a_call_is_read_in_every_unit_and_an_invalid_one_is_none() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ASCII"));
            timeout_ms(&metadata)
        };
        let units =
            [("2H", 7_200_000), ("3M", 180_000), ("5S", 5000), ("7m", 7), ("2500u", 2), ("9000000n", 9)];
        for (text, ms) in units {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        assert_eq!(read("99999999H"), Some(99_999_999 * 3_600_000));
        for text in ["", "S", "5", "123456789S", "-1S", "+1S", "5x", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout_ms(&MetadataMap::new()), None);
    }
}
