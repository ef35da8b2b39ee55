use std::io::{self, Read, Write};

use serde_json::Value;
use tracing::level_filters::LevelFilter;

use super::*;

/// Returns what a subscriber writes of what `log` logs.
fn written(level: LevelFilter, format: LogFormat, log: impl FnOnce()) -> String {
    let (mut reader, pipe) = io::pipe().expect("a pipe");
    let queue = writer(pipe, format).expect("a thread");
    tracing::subscriber::with_default(subscriber(level, format, queue), log);
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("read");
    read
}

#[test]
fn full_stderr_drops_log_lines_never_blocks_and_tells_how_many() {
    let (mut reader, pipe) = io::pipe().expect("a pipe");
    let queue = writer(pipe, LogFormat::Text).expect("a thread");
    let mut line = [b'x'; 1024];
    line[1023] = b'\n';
    // The pipe holds 64 lines, the thread one, and the queue 1,024. Writing the others must not
    // block.
    for _ in 0..3 * LOG_QUEUE {
        Lossy(queue.clone()).write_all(&line).expect("never an error");
    }
    drop(queue);
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("read");
    let lines = read.lines().filter(|line| line.starts_with('x')).count();
    assert!((LOG_QUEUE..2 * LOG_QUEUE).contains(&lines), "{lines} lines");
    let dropped = 3 * LOG_QUEUE - lines;
    let notice = read.lines().last().expect("a line");
    assert!(notice.contains(&format!("{dropped} log lines were dropped")), "{notice}");
    assert!(take_dropped() >= dropped as u64);
}

#[test]
fn exit_with_a_full_queue_tells_how_many_lines_were_dropped() {
    let (mut reader, pipe) = io::pipe().expect("a pipe");
    let logging = Logging(writer(pipe, LogFormat::Json).expect("a thread"));
    for _ in 0..3 * LOG_QUEUE {
        Lossy(logging.0.clone()).write_all(&[b'x'; 1024]).expect("never an error");
    }
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("read");
        String::from_utf8(read).expect("text")
    });
    drop(logging);
    let read = reading.join().expect("the text");
    let notice: Value = serde_json::from_str(read.trim_start_matches('x')).expect("JSON");
    let lines = read.matches('x').count() / 1024;
    assert_eq!(notice["dropped"], 3 * LOG_QUEUE - lines, "{notice}");
    assert_eq!(notice["level"], "WARN");
}

#[test]
fn dropped_guard_flushes_last_line() {
    let (mut reader, pipe) = io::pipe().expect("a pipe");
    let logging = Logging(writer(pipe, LogFormat::Text).expect("a thread"));
    Lossy(logging.0.clone()).write_all(b"last words\n").expect("never an error");
    drop(logging);
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("read");
    assert_eq!(read, "last words\n");
}

#[test]
fn warnings_of_a_full_queue_to_a_slow_peer_are_shown_only_to_who_asks_for_more() {
    for (level, shown) in [(LevelFilter::WARN, false), (LevelFilter::INFO, true)] {
        let read = written(level, LogFormat::Text, || {
            tracing::warn!(target: "libp2p_gossipsub::behaviour", "Send Queue full");
            tracing::warn!(target: "libp2p_swarm", "another warning");
        });
        assert_eq!(read.contains("Send Queue full"), shown, "{level}");
        assert!(read.contains("another warning"), "{level}");
    }
}

#[test]
fn lines_with_what_libraries_carry_are_never_written() {
    for level in [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE] {
        let read = written(level, LogFormat::Text, || {
            let rpc = "the payload";
            tracing::warn!(target: "libp2p_gossipsub::behaviour", ?rpc, "Send Queue full");
            tracing::debug!(target: "libp2p_gossipsub::handler", message = ?rpc, "Sending");
            tracing::debug!(target: "hyper_util::client", "the payload");
            tracing::error!(target: "hyper_util::client", "another line");
        });
        assert!(!read.contains("the payload"), "{level}: {read}");
        assert!(read.contains("another line"), "{level}: {read}");
    }
}

#[test]
fn line_in_json_has_a_time_a_level_a_target_and_its_fields() {
    let read = written(LevelFilter::DEBUG, LogFormat::Json, || {
        let _span = tracing::info_span!("swarm", peer = "not shown").entered();
        tracing::debug!(port = 7, "it listens\non \u{1b}[31m");
    });
    assert_eq!(read.lines().count(), 1, "{read}");
    let line: Value = serde_json::from_str(&read).expect("JSON");
    assert_eq!((&line["level"], &line["message"]), (&"DEBUG".into(), &"it listens\non \u{1b}[31m".into()));
    assert_eq!((&line["port"], &line["target"]), (&7.into(), &module_path!().into()));
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    assert!(line.get("span").is_none() && line.get("spans").is_none(), "{line}");
}

#[test]
fn spans_below_the_level_are_not_made() {
    for format in [LogFormat::Text, LogFormat::Json] {
        written(LevelFilter::WARN, format, || {
            assert!(tracing::debug_span!(target: "libp2p_swarm", "connection").is_disabled(), "{format:?}");
            assert!(!tracing::warn_span!(target: "libp2p_swarm", "connection").is_disabled(), "{format:?}");
        });
    }
}
