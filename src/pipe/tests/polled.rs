//! Pipes and sockets that the loop itself reads and writes.

use super::*;

/// Returns the lines that the parent reads until the end.
fn read_rest(mut parent: ParentEnd) -> Vec<String> {
    std::iter::from_fn(|| parent.read_line().unwrap()).collect()
}

#[tokio::test]
async fn polled_pipe_carries_lines_both_ways_without_a_hand_over() {
    let (mut pipe, mut parent) = Pipe::memory().unwrap();
    assert!(pipe.input.try_recv().is_none());
    parent.write_line(r#"{"type":"ping","id":7}"#).unwrap();
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Lines(lines)) if lines.len() == 1));
    pipe.output.send(vec![(closing("a"), true)]).unwrap();
    assert_eq!(pipe.progress.written(), 1, "the loop itself writes");
    assert_eq!(parent.read_line().unwrap().unwrap(), r#"{"type":"closing","reason":"a","seq":1}"#);
    parent.input.write_all(br#"{"type":"ping"}"#).unwrap();
    let ParentEnd { input, output } = parent;
    drop(input);
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Lines(lines)) if lines.len() == 1));
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Ended)));
    assert!(pipe.input.recv().await.is_none());
    drop(output);
}

#[tokio::test]
async fn polled_output_that_is_full_is_finished_by_the_thread_in_order() {
    const LINES: usize = 2_000;
    let (pipe, parent) = Pipe::memory().unwrap();
    for at in 0..LINES {
        pipe.output.send(vec![(closing("x".repeat(100)), true), (closing(at.to_string()), false)]).unwrap();
    }
    assert!(pipe.progress.written() < 2 * LINES as u64, "the pipe holds 64 KiB");
    let reading = thread::spawn(move || read_rest(parent));
    assert!(pipe.output.finish(PATIENCE));
    let lines = reading.join().unwrap();
    assert_eq!(lines.len(), 2 * LINES);
    for (at, pair) in lines.chunks(2).enumerate() {
        assert!(pair[0].ends_with(&format!("\"seq\":{}}}", at + 1)), "{}", pair[0]);
        assert!(pair[1].contains(&format!("\"{at}\"")), "{}", pair[1]);
    }
    assert_eq!(pipe.progress.written(), 2 * LINES as u64);
}

#[tokio::test]
async fn polled_socket_carries_lines_and_keeps_its_flags() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let shared = OwnedFd::from(ours.try_clone().unwrap());
    let mut pipe = Pipe::open(ours.try_clone().unwrap().into(), ours.into()).unwrap();
    let mut parent = BufReader::new(theirs);
    parent.get_mut().write_all(b"{\"type\":\"ping\"}\n").unwrap();
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Lines(lines)) if lines.len() == 1));
    pipe.output.send(vec![(closing("a"), false)]).unwrap();
    assert_eq!(pipe.progress.written(), 1);
    let mut line = String::new();
    parent.read_line(&mut line).unwrap();
    assert!(line.contains("closing"));
    assert!(!rustix::fs::fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK));
    drop(parent);
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Ended)));
    pipe.output.send(vec![(closing("b"), false)]).unwrap();
    while !pipe.progress.closed() {
        pipe.progress.changed().await;
    }
    assert_eq!(pipe.progress.failure(), None);
}

#[tokio::test]
async fn a_file_is_read_and_written_by_threads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input");
    std::fs::write(&path, "{\"type\":\"ping\"}\n").unwrap();
    let input = std::fs::File::open(&path).unwrap();
    let output = std::fs::File::create(dir.path().join("output")).unwrap();
    let mut pipe = Pipe::open(input.into(), output.into()).unwrap();
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Lines(lines)) if lines.len() == 1));
    assert!(matches!(pipe.input.recv().await, Some(InputChunk::Ended)));
    pipe.output.send(vec![(closing("a"), false)]).unwrap();
    assert!(pipe.output.finish(PATIENCE));
    assert!(std::fs::read_to_string(dir.path().join("output")).unwrap().contains("closing"));
}

async fn recv_within(pipe: &mut Pipe) -> Option<InputChunk> {
    tokio::time::timeout(PATIENCE, pipe.input.recv()).await.expect("the end is reported")
}

#[tokio::test]
async fn named_pipe_ends_when_its_writers_closed_it_before_the_start() {
    for text in ["", "{\"type\":\"ping\"}\n"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let writer = thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, text).unwrap()
        });
        let input = std::fs::File::open(&path).unwrap();
        writer.join().unwrap();
        let (_reader, output) = io::pipe().unwrap();
        let mut pipe = Pipe::open(input.into(), output.into()).unwrap();
        if !text.is_empty() {
            assert!(
                matches!(recv_within(&mut pipe).await, Some(InputChunk::Lines(lines)) if lines.len() == 1)
            );
        }
        assert!(matches!(recv_within(&mut pipe).await, Some(InputChunk::Ended)), "{text:?}");
    }
}

#[tokio::test]
async fn polled_pipe_ends_when_its_writer_closed_it_before_the_start() {
    for text in ["", "{\"type\":\"ping\"}\n"] {
        let (input, mut writer) = io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        let (_reader, output) = io::pipe().unwrap();
        let mut pipe = Pipe::open(input.into(), output.into()).unwrap();
        if !text.is_empty() {
            assert!(
                matches!(recv_within(&mut pipe).await, Some(InputChunk::Lines(lines)) if lines.len() == 1)
            );
        }
        assert!(matches!(recv_within(&mut pipe).await, Some(InputChunk::Ended)), "{text:?}");
    }
}
