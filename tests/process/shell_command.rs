//! Test harness: one-shot commands, and a daemon for them with an agent that is connected to it.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, command};
use crate::daemon::Daemon;

/// A running command.
pub struct Running {
    process: std::process::Child,
    _home: TempDir,
}

/// What a command that has ended left.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Running {
    pub fn start(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Running {
        let home = TempDir::new().unwrap();
        let mut command = command(home.path());
        command.args(args).envs(env.iter().copied());
        Running::start_in(home, command, input)
    }

    pub fn start_in(home: TempDir, mut command: Command, input: &[u8]) -> Running {
        let mut process = command.spawn().unwrap();
        process.stdin.take().unwrap().write_all(input).unwrap();
        Running { process, _home: home }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.process.id() as i32).unwrap(), signal).unwrap();
    }

    /// Reads the next line of its output.
    pub fn line(&mut self) -> String {
        let stdout = self.process.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            assert_eq!(
                stdout.read(&mut byte).unwrap(),
                1,
                "the output ends: {:?}",
                String::from_utf8_lossy(&line)
            );
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Waits for the end. Its output fits into a pipe.
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + TIMEOUT;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the command does not end");
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        let (mut out, mut err) = (String::new(), String::new());
        self.process.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Ended { code: status.code().unwrap_or(-1), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A daemon, and an agent that is connected to it.
pub struct Pair {
    pub daemon: Daemon,
    pub address: String,
    pub peer: Child,
    pub peer_address: String,
}

impl Pair {
    pub fn start(args: &[&str]) -> Pair {
        let daemon = Daemon::start(args);
        let (watcher, ready) = daemon.attach(json!({"inbox": false}));
        drop(watcher);
        let mut peer = daemon.peer(&ready);
        let peer_address = peer.until("there", |_| true)["address"].as_str().unwrap().to_owned();
        Pair { daemon, address: ready["address"].as_str().unwrap().to_owned(), peer, peer_address }
    }

    pub fn start_command(&self, args: &[&str]) -> Running {
        let path = self.daemon.path();
        let at = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        let args = [&args[..at], &["--socket", path.to_str().unwrap()], &args[at..]].concat();
        Running::start(&args, &[], b"")
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        self.start_command(args).end()
    }

    /// Lets the peer send texts to the daemon's agent.
    pub fn send_to_daemon(&mut self, texts: &[&str]) {
        for text in texts {
            self.peer.command(json!({"type":"send","id":text,"peerId":self.address,"data":text}));
        }
    }

    pub fn is_delivered(&self, id: &str) {
        self.peer.expect("delivery", |event| event["requestId"] == id && event["state"] == "delivered");
    }
}
