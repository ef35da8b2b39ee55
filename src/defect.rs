//! What a defect comes to: any panic, on whatever thread, is told to the parent and ends the process with exit code 70. A node of
//! which a part has died in silence would be worse than one that is started again.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use p2p_node_protocol::{ErrorCode, ErrorEvent, Event};

use crate::front::LastWords;
use crate::io::store::caught::is_catching;
use p2p_node_core::effect::ExitCode;

/// How long the parent has to take the last line, and stderr the report. Ours: as much as at any other end.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Longest text of a panic that is told, in characters. Ours: what it says of values may be as long as they are.
const MAX_TEXT: usize = 500;

/// From now on a panic ends the process, unless [`crate::io::store::caught`] expects it.
pub fn end_process_on_panic(last_words: LastWords) {
    let report = std::panic::take_hook();
    let ending = AtomicBool::new(false);
    std::panic::set_hook(Box::new(move |info| {
        if is_catching() {
            return;
        }
        if ending.swap(true, Ordering::SeqCst) {
            // Another thread is at it, or this one panicked while it was: the first has a word to say, and then ends everything.
            std::thread::sleep(2 * TIMEOUT);
            exit();
        }
        let event = Event::Error(Box::new(ErrorEvent::new(ErrorCode::Internal, describe(info))));
        last_words.say(event, TIMEOUT);
        report(info);
        exit();
    }));
}

fn exit() -> ! {
    std::process::exit(ExitCode::Software as i32)
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("without a word");
    let text: String = text.chars().take(MAX_TEXT).collect();
    let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    format!("a defect of the node, which ends now: thread {thread} panicked{place}: {text}")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::front::Front;

    #[test]
    #[ignore = "ends this process; run by the test below"]
    fn child_of_the_panic_test() {
        let front = Front::stdio().expect("a front");
        end_process_on_panic(front.last_words());
        assert_eq!(crate::io::store::caught::caught(|| -> u8 { panic!("expected") }), None);
        let numbered = ErrorEvent::new(ErrorCode::Busy, "before");
        front.output.send(vec![(Event::Error(Box::new(numbered)), true)]).expect("room");
        let thread = std::thread::Builder::new().name("worker".to_owned());
        let end = thread.spawn(|| panic!("a number that cannot be: {}", 7)).expect("a thread").join();
        panic!("it survived: {end:?}");
    }

    #[test]
    fn a_panic_on_any_thread_is_told_and_ends_the_process() {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "defect::tests::child_of_the_panic_test", "--ignored", "--nocapture"])
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(70), "{stdout}\n{stderr}");
        let last: serde_json::Value =
            serde_json::from_str(stdout.lines().last().expect("a line")).expect("an event");
        assert_eq!(
            (&last["type"], &last["code"], &last["seq"]),
            (&"error".into(), &"INTERNAL".into(), &2.into())
        );
        let message = last["message"].as_str().expect("a text");
        assert!(message.contains("worker") && message.contains("a number that cannot be: 7"), "{message}");
        assert!(stderr.contains("a number that cannot be: 7") && !stderr.contains("survived"), "{stderr}");
    }
}
