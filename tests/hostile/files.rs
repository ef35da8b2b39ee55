//! Senders of files that send something else, and peers that ask for files of others.

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use p2p_node::io::byte_streams::{BoxedStream, OpenStream, Streams};
use p2p_node_wire::envelope::{FileOffer, Response};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::fixture::{Fixture, Real};
use crate::forge::{Forger, messages};
use crate::peer::Hostile;

const SIZE: u64 = 3 << 20;

fn victim(directory: &TempDir) -> Fixture {
    Fixture::with("bootstrap", &["--files-dir", directory.path().to_str().unwrap()])
}

/// Offers a file to the victim, which then opens a stream. Returns it, after the hash.
async fn offer(hostile: &mut Hostile, streams: &mut Streams, real: &Real, number: u8) -> BoxedStream {
    let hash = Bytes::copy_from_slice(&[number; 32]);
    let offered = FileOffer { hash, size: SIZE, name: "a".to_owned() };
    let scope = p2p_node_wire::envelope::Scope::NodeKey(node_key(real));
    let frame = hostile.forger.frame(scope, Bytes::from_static(b"1"), |body| {
        messages(body)[0].stream = crate::forge::stream(100 + number);
        messages(body)[0].file = Some(Box::new(offered));
    });
    let response = hostile.sealed_mail(real, frame).await;
    assert!(matches!(response, Some(Response::Ack(_))), "{response:?}");
    let (peer, mut stream) = streams.incoming.recv().await.expect("a stream of the victim");
    assert_eq!(peer, real.peer());
    let mut asked = [0; 32];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, [number; 32]);
    stream
}

fn node_key(real: &Real) -> Bytes {
    let key = libp2p::identity::PublicKey::try_decode_protobuf(&real.peer().to_bytes()[2..]).unwrap();
    Bytes::copy_from_slice(&key.try_into_ed25519().unwrap().to_bytes())
}

/// Returns the names in the directory for received files.
fn names(directory: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(directory.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_and_endless_bytes_are_not_taken_and_leave_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let mut fixture = victim(&directory);
    let mut hostile = Hostile::join(Forger::new(3), &fixture.victim).await;
    let mut streams = hostile.node.streams.take().unwrap();
    let garbage = vec![7; (1 << 20) + 4096];
    let length = |bytes: u32| [&[0_u8][..], &bytes.to_be_bytes()].concat();
    let attacks: [(u8, Vec<Vec<u8>>); 2] = [
        // Bytes of another file.
        (1, vec![vec![0], length(1 << 20), garbage.clone()]),
        // More bytes than the range can have, for ever.
        (2, [vec![vec![0], length(u32::MAX)], vec![garbage; 64]].concat()),
    ];
    for (number, writes) in attacks {
        let mut stream = offer(&mut hostile, &mut streams, &fixture.victim, number).await;
        for bytes in writes {
            // The victim closes the stream when it has seen enough.
            let _ = stream.write_all(&bytes).await;
        }
        let _ = stream.flush().await;
        fixture.victim.child.expect("the end of the transfer", |event| {
            event["type"] == "transfer" && event["code"] == "FILE_CHANGED"
        });
        fixture.victim.until_counted("file_transfers_failed", number.into());
    }
    assert!(names(&directory).is_empty(), "{:?}", names(&directory));
    fixture.assert_no_events(&["message"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sender_that_refuses_its_own_file_or_answers_nonsense_costs_one_failed_transfer() {
    let directory = TempDir::new().unwrap();
    let mut fixture = victim(&directory);
    let mut hostile = Hostile::join(Forger::new(3), &fixture.victim).await;
    let mut streams = hostile.node.streams.take().unwrap();
    // The second one is a status of no version.
    for (number, status) in [(1, 1), (2, 9)] {
        let mut stream = offer(&mut hostile, &mut streams, &fixture.victim, number).await;
        stream.write_all(&[status]).await.unwrap();
        stream.flush().await.unwrap();
        fixture.victim.until_counted("file_transfers_failed", number.into());
    }
    fixture.assert_no_events(&["message"]);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_was_not_offered_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut fixture = victim(&directory);
    let mut hostile = Hostile::join(Forger::new(3), &fixture.victim).await;
    let streams = hostile.node.streams.take().unwrap();
    let (reply, opened) = oneshot::channel();
    let peer = fixture.victim.peer();
    assert!(streams.open.send(OpenStream { peer, reply }).await.is_ok());
    let mut stream = opened.await.unwrap();
    stream.write_all(&[1; 32]).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [1]);
    fixture.victim.until_counted("file_requests_refused", 1);
    fixture.check_honest_traffic();
}
