use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};

use super::*;

/// A stream whose peer says a hash or nothing, and then ends it.
struct Peer {
    hash: Vec<u8>,
    end: oneshot::Receiver<()>,
}

/// Returns the stream of a peer, and what ends it when it is dropped.
fn peer(hash: &[u8]) -> (BoxedStream, oneshot::Sender<()>) {
    let (ends, end) = oneshot::channel();
    (Box::new(Peer { hash: hash.to_vec(), end }), ends)
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let length = self.hash.len().min(buffer.len());
        if length == 0 {
            return Pin::new(&mut self.end).poll(cx).map(|_| Ok(0));
        }
        buffer[..length].copy_from_slice(&self.hash.drain(..length).collect::<Vec<_>>());
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn driver() -> (Files, mpsc::Sender<(PeerId, BoxedStream)>) {
    let (open, _) = mpsc::channel(1);
    let (arrive, incoming) = mpsc::channel(100);
    (Files::new(None, false, Streams { open, incoming }), arrive)
}

/// Returns the peer of the next request.
async fn requester(files: &mut Files) -> PeerId {
    match files.next().await {
        Input::File(FileEvent::Requested { peer, hash, .. }) => {
            assert_eq!(hash, [1; 32]);
            peer
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn streams_of_a_silent_peer_are_few_and_those_of_others_are_served() {
    let (mut files, arrive) = driver();
    let (silent, other) = (PeerId::random(), PeerId::random());
    let (mut ends, hash) = (Vec::new(), [1; 32]);
    for number in 0..=MAX_SILENT_PER_PEER {
        // The last one says what it wants.
        let (stream, end) = peer(if number < MAX_SILENT_PER_PEER { &[] } else { &hash });
        arrive.send((silent, stream)).await.unwrap();
        ends.push(end);
    }
    let (stream, _open) = peer(&[1; 32]);
    arrive.send((other, stream)).await.unwrap();
    assert_eq!(requester(&mut files).await, other, "the silent peer has too many streams");
    assert!(files.silent.iter().all(|stream| stream.peer == silent));
    assert_eq!(files.silent.len(), MAX_SILENT_PER_PEER);
    drop(ends);
    while !files.silent.is_empty() {
        tokio::select! {
            biased;
            input = files.next() => panic!("{input:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let (stream, _open) = peer(&[1; 32]);
    arrive.send((silent, stream)).await.unwrap();
    assert_eq!(requester(&mut files).await, silent);
}

#[tokio::test]
async fn silent_streams_of_many_peers_keep_out_nobody_who_says_what_it_wants() {
    let (mut files, arrive) = driver();
    let mut ends = Vec::new();
    for _ in 0..2 * MAX_SILENT {
        let (stream, end) = peer(&[]);
        arrive.send((PeerId::random(), stream)).await.unwrap();
        ends.push(end);
        tokio::select! {
            biased;
            input = files.next() => panic!("{input:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(files.silent.len(), MAX_SILENT);
    let (other, (stream, _open)) = (PeerId::random(), peer(&[1; 32]));
    arrive.send((other, stream)).await.unwrap();
    assert_eq!(requester(&mut files).await, other);
}

#[tokio::test]
async fn files_are_hashed_in_the_order_of_the_commands() {
    let (mut files, _arrive) = driver();
    let home = tempfile::tempdir().unwrap();
    for (number, content) in [(1, vec![7; 1 << 20]), (2, vec![8])] {
        let path = home.path().join(number.to_string());
        std::fs::write(&path, content).unwrap();
        files.execute(FileCommand::Hash {
            number,
            path: path.to_str().unwrap().to_owned(),
            max_bytes: 1 << 20,
        });
    }
    let path = home.path().join("1").to_str().unwrap().to_owned();
    files.execute(FileCommand::Hash { number: 3, path, max_bytes: 100 });
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        match files.next().await {
            Input::File(FileEvent::Hashed { number, outcome }) => {
                outcomes.push((number, outcome.map(|file| (file.size, file.name))));
            }
            other => panic!("{other:?}"),
        }
    }
    let large = Err(HashFault::TooLarge(1 << 20));
    assert_eq!(outcomes, [(1, Ok((1 << 20, "1".to_owned()))), (2, Ok((1, "2".to_owned()))), (3, large)]);
}

#[tokio::test]
async fn a_directory_is_listed_and_its_files_are_deleted() {
    let home = tempfile::tempdir().unwrap();
    let (open, _) = mpsc::channel(1);
    let (_arrive, incoming) = mpsc::channel(1);
    let mut files = Files::new(Some(home.path().to_owned()), false, Streams { open, incoming });
    std::fs::write(home.path().join("a"), "abc").unwrap();
    std::fs::create_dir(home.path().join("directory")).unwrap();
    files.execute(FileCommand::List);
    let stored = vec![StoredFile { name: "a".to_owned(), bytes: 3 }];
    assert!(matches!(files.next().await, Input::File(FileEvent::Stored(listed)) if listed == stored));
    files.execute(FileCommand::Remove { name: "a".to_owned() });
    while home.path().join("a").exists() {
        tokio::task::yield_now().await;
    }
}
