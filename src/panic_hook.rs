//! Panic hook: reports a panic on any thread as an `error` event and exits with code 70. A
//! supervisor can restart a process that exited, but cannot detect one that has lost a thread.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use p2p_node_protocol::{ErrorCode, ErrorEvent, Event};

use crate::pipe::CrashReporter;
use p2p_node_core::effect::ExitCode;
use p2p_node_store::catch_panic::is_catching;

/// Maximum time to write the `error` event; the same time as for the last lines of a normal exit.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum length of the panic text in the event, in characters. A panic text may contain values of
/// any size.
const MAX_TEXT: usize = 500;

/// Installs the panic hook. Panics that [`p2p_node_store::catch_panic`] catches do not end the
/// process.
pub fn end_process_on_panic(crash_reporter: CrashReporter) {
    let report = std::panic::take_hook();
    let ending = AtomicBool::new(false);
    std::panic::set_hook(Box::new(move |info| {
        if is_catching() {
            return;
        }
        if ending.swap(true, Ordering::SeqCst) {
            // Another panic is being reported, possibly on this thread. Gives the report time to
            // finish; it exits the process.
            std::thread::sleep(2 * TIMEOUT);
            exit();
        }
        let event = Event::Error(Box::new(ErrorEvent::new(ErrorCode::Internal, describe(info))));
        crash_reporter.write_blocking(event, TIMEOUT);
        report(info);
        exit();
    }));
}

fn exit() -> ! {
    std::process::exit(ExitCode::Software as i32)
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("no text");
    let text: String = text.chars().take(MAX_TEXT).collect();
    let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("(unnamed)");
    format!("bug in the node, which exits now: thread {thread} panicked{place}: {text}; please report it")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::pipe::Pipe;

    #[test]
    #[ignore = "ends this process; run by the test below"]
    fn panic_test_child() {
        let pipe = Pipe::stdio().expect("a pipe");
        end_process_on_panic(pipe.crash_reporter());
        assert_eq!(p2p_node_store::catch_panic::catch_panic(|| -> u8 { panic!("expected") }), None);
        let numbered = ErrorEvent::new(ErrorCode::Busy, "before");
        pipe.output.send(vec![(Event::Error(Box::new(numbered)), true)]).expect("room");
        let thread = std::thread::Builder::new().name("worker".to_owned());
        let end = thread.spawn(|| panic!("a number that cannot be: {}", 7)).expect("a thread").join();
        panic!("it survived: {end:?}");
    }

    #[test]
    fn panic_on_any_thread_is_reported_and_ends_process() {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "panic_hook::tests::panic_test_child", "--ignored", "--nocapture"])
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
