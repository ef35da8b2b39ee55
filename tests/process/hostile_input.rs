//! Arbitrary input lines: the node answers every line, and no line ends the process.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::Child;

const MAX_LINE: usize = 1 << 20;

fn connected() -> Child {
    let mut child = Child::spawn(&["--log-level", "off"], &[]);
    child.command(json!({"type":"connect","protocol":1,"id":"connect"}));
    child.answer("connect");
    child
}

/// Writes a line and returns its error.
fn error(child: &mut Child, line: &[u8]) -> Value {
    child.write(line);
    child.write(b"\n");
    child.expect("an error", |event| event["type"] == "error")
}

/// Returns a `ping` whose line has exactly this many bytes.
fn ping(id: u32, bytes: usize) -> Vec<u8> {
    let (head, tail) = (format!(r#"{{"type":"ping","id":{id},"pad":""#), r#""}"#);
    let pad = "x".repeat(bytes - head.len() - tail.len());
    format!("{head}{pad}{tail}").into_bytes()
}

#[test]
fn bad_line_is_answered_and_the_next_command_executed() {
    let mut child = connected();
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"type":"send","topic":"t","data":{open}{close},"id":"deep"}}"#).into_bytes()
    };
    let cases: Vec<(Vec<u8>, &str, Value)> = vec![
        (b"\0".to_vec(), "INVALID_JSON", Value::Null),
        (b"{\"type\":\"ping\",\"id\":\"a\0b\"}".to_vec(), "INVALID_JSON", Value::Null),
        (br#"{"type":"send","topic":"t","data":"\ud800","id":1}"#.to_vec(), "INVALID_ARGUMENT", json!(1)),
        (br#"{"type":"send","topic":"\ud800","data":1,"id":2}"#.to_vec(), "INVALID_ARGUMENT", json!(2)),
        (br#"{"type":"ping","id":"\ud800"}"#.to_vec(), "INVALID_ARGUMENT", Value::Null),
        (br#"{"type":"send","topic":"t","data":1e999,"id":3}"#.to_vec(), "INVALID_ARGUMENT", json!(3)),
        (br#"{"type":"ping","type":"shutdown","id":4}"#.to_vec(), "INVALID_ARGUMENT", json!(4)),
        (br#"{"type":"ping","id":5,"id":6}"#.to_vec(), "INVALID_ARGUMENT", Value::Null),
        (br#"{"type":"send","topic":"t","data":1,"data":2,"id":7}"#.to_vec(), "INVALID_ARGUMENT", json!(7)),
        (br#"{"type":"ping","id":9007199254740992}"#.to_vec(), "INVALID_ARGUMENT", Value::Null),
        (br#"{"type":"ping","id":1.5}"#.to_vec(), "INVALID_ARGUMENT", Value::Null),
        (b"{\"type\":\"ping\xC3\x28\",\"id\":8}".to_vec(), "INVALID_UTF8", json!(8)),
        (deep(33), "INVALID_ARGUMENT", json!("deep")),
        (deep(100_000), "INVALID_ARGUMENT", json!("deep")),
        ("[".repeat(1_000_000).into_bytes(), "INVALID_JSON", Value::Null),
        ("{\"a\":".repeat(200_000).into_bytes(), "INVALID_JSON", Value::Null),
        (br#"{"type":"ping","id":9}{"type":"ping","id":10}"#.to_vec(), "INVALID_JSON", json!(9)),
        (vec![b'x'; MAX_LINE + 1], "LINE_TOO_LONG", Value::Null),
        (vec![b'x'; 5 * MAX_LINE], "LINE_TOO_LONG", Value::Null),
    ];
    for (number, (line, code, id)) in cases.into_iter().enumerate() {
        let answer = error(&mut child, &line);
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        assert_eq!((&answer["code"], &answer["id"]), (&json!(code), &id), "{shown}: {answer}");
        let ping_id = format!("ping-{number}");
        child.command(json!({"type":"ping","id":ping_id}));
        assert_eq!(child.answer(&ping_id)["type"], "result");
    }
    child.write(&deep(32));
    child.write(b"\n");
    assert_eq!(child.answer("deep")["type"], "result", "the greatest depth");
}

#[test]
fn line_at_the_length_limit_is_executed_and_longer_one_refused() {
    let mut child = connected();
    child.write(&ping(1, MAX_LINE - 1));
    child.write(b"\r\n");
    child.write(&ping(2, MAX_LINE));
    child.write(b"\n");
    let answer = error(&mut child, &ping(3, MAX_LINE + 1));
    assert_eq!(answer["code"], "LINE_TOO_LONG");
    for id in [1, 2] {
        child.expect("an answer", |event| event["id"] == id);
    }
    // A line in two writes, and a last line without a newline.
    child.write(b"{\"type\":\"send\",\"topic\":\"t\",\"data\":\"\xC3");
    child.write(b"\xA9\",\"id\":4}\n{\"type\":\"ping\",\"id\":5}");
    let (code, lines, _) = child.finish();
    assert!(lines.iter().any(|line| line["id"] == 4 && line["type"] == "result"), "{lines:?}");
    assert!(lines.iter().any(|line| line["id"] == 5 && line["type"] == "result"), "{lines:?}");
    assert_eq!(code, 75, "the broadcast had no subscribers");
}

#[test]
fn truncated_last_line_is_reported() {
    let mut child = connected();
    child.write(b"{\"type\":\"ping\",\"id\":1}\n{\"type\":\"send\",\"topic\":");
    let (code, lines, _) = child.finish();
    assert_eq!(code, 0);
    assert!(lines.iter().any(|line| line["code"] == "INVALID_JSON"), "{lines:?}");
    assert_eq!(lines.last().unwrap()["type"], "closing");
}

#[test]
fn line_written_byte_by_byte_is_executed() {
    let mut child = connected();
    let line = "\u{FEFF}{\"type\":\"ping\",\"id\":\"ж\u{1F600}\"}\r\n";
    for byte in line.trim_start_matches('\u{FEFF}').bytes() {
        child.write(&[byte]);
    }
    assert_eq!(child.answer("ж\u{1F600}")["type"], "result");
}

#[test]
fn flood_of_commands_is_answered_in_bounded_memory() {
    const COMMANDS: usize = 200_000;
    let mut child = connected();
    let mut stdin = child.take_stdin();
    let pid = child.id();
    let writer = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for number in 0..COMMANDS {
            // Every tenth line is invalid.
            let end = if number % 10 == 0 { "" } else { "}" };
            lines.extend_from_slice(format!("{{\"type\":\"ping\",\"id\":{number}{end}\n").as_bytes());
            if lines.len() > 1 << 16 {
                stdin.write_all(&lines).unwrap();
                lines.clear();
            }
        }
        stdin.write_all(&lines).unwrap();
        stdin
    });
    let (mut answers, mut errors) = (0, 0);
    for _ in 0..COMMANDS {
        let line = child.expect_within(Duration::from_secs(60), "an answer", |event| {
            event["type"] == "result" || event["type"] == "error"
        });
        match line["type"].as_str() {
            Some("result") => {
                // In order: the numbers that are no multiple of ten.
                let expected = answers + answers / 9 + 1;
                assert_eq!(line["id"], expected);
                answers += 1;
            }
            _ => {
                assert_eq!(line["code"], "INVALID_JSON");
                errors += 1;
            }
        }
    }
    assert_eq!((answers, errors), (COMMANDS / 10 * 9, COMMANDS / 10));
    let memory = crate::child::resident_mib(pid);
    assert!(memory.is_none_or(|mib| mib < 100), "{memory:?} MiB");
    drop(writer.join().unwrap());
}
