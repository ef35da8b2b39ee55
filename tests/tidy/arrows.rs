//! Arrows point one way: `protocol ← core ← io ← node ← main` and `protocol ← front ← node`.

use super::paths::{module_of, paths};
use super::{read, rust_files};

/// What a room of the house must do without. `allowed` are exceptions to `forbidden`.
struct Room {
    name: &'static str,
    directory: &'static str,
    forbidden: &'static [&'static str],
    allowed: &'static [&'static str],
}

const ROOMS: [Room; 5] = [
    Room {
        name: "core",
        directory: "src/core",
        forbidden: &[
            // The other rooms.
            "crate",
            "p2p_node",
            // Waiting, clocks, the world, other threads, chance.
            "async",
            "await",
            "tokio",
            "futures",
            "tracing",
            "std::time::Instant",
            "std::time::SystemTime",
            "std::fs",
            "std::io",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "std::sync",
            "std::os",
            "rustix",
            "rand",
            "getrandom",
            "OsRng",
            "thread_rng",
            "clap",
            "dotenvy",
            "anyhow",
            // Of libp2p only values.
            "libp2p",
            "libp2p_gossipsub",
        ],
        allowed: &[
            "crate::core",
            "std::net::IpAddr",
            "std::net::Ipv4Addr",
            "std::net::Ipv6Addr",
            "std::sync::Arc",
            "libp2p::PeerId",
            "libp2p::Multiaddr",
            "libp2p::identity",
            "libp2p::multiaddr",
        ],
    },
    Room {
        name: "front",
        directory: "src/front",
        forbidden: &["crate", "p2p_node", "libp2p", "alloy"],
        allowed: &["crate::front"],
    },
    Room {
        name: "io",
        directory: "src/io",
        forbidden: &["crate", "p2p_node", "clap", "dotenvy"],
        allowed: &["crate::core", "crate::io"],
    },
    Room {
        name: "protocol",
        directory: "sdk/protocol/src",
        forbidden: &[
            "async",
            "await",
            "tokio",
            "libp2p",
            "std::fs",
            "std::io",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "std::time",
            "std::sync",
        ],
        allowed: &[],
    },
    Room {
        name: "sdk",
        directory: "sdk/rust/src",
        forbidden: &["p2p_node", "libp2p", "alloy"],
        allowed: &[],
    },
];

impl Room {
    /// The paths that `source` names and may not.
    fn violations(&self, source: &str, module: &str) -> Vec<String> {
        paths(source, module).into_iter().filter(|path| self.forbids(path)).collect()
    }

    fn forbids(&self, path: &str) -> bool {
        // The word alone stands in `pub(crate)`.
        if path == "crate" || self.allowed.iter().any(|allowed| starts(path, allowed)) {
            return false;
        }
        let whole = path.trim_end_matches("::*");
        // A module that holds something forbidden brings it in under a shorter name.
        let brings_in =
            |forbidden: &&str| forbidden.contains("::") && path.contains("::") && starts(forbidden, whole);
        self.forbidden.iter().any(|forbidden| starts(path, forbidden) || brings_in(forbidden))
    }
}

/// Whether `path` is `start` or below it.
fn starts(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The part of `io` that a module belongs to, such as `crate::io::swarm`.
fn part(module: &str) -> Option<&str> {
    let inner = module.strip_prefix("crate::io::")?;
    let length = inner.find("::").unwrap_or(inner.len());
    Some(&module[.."crate::io::".len() + length])
}

/// The other parts of `io` that a part of it names.
fn neighbours(source: &str, module: &str) -> Vec<String> {
    let Some(own) = part(module) else { return Vec::new() };
    // Files and directories lie below all of them.
    let is_neighbour =
        |path: &String| part(path).is_some_and(|other| other != own && other != "crate::io::disk");
    paths(source, module).into_iter().filter(is_neighbour).collect()
}

/// The crates that a manifest names under `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if let (true, Some(end)) = (inside, line.find(['.', ' ', '='])) {
            names.push(&line[..end]);
        }
    }
    names
}

#[test]
fn every_room_keeps_to_its_own() {
    for room in &ROOMS {
        for file in rust_files(room.directory) {
            let name = file.to_str().expect("text");
            if name.ends_with("tests.rs") || name.contains("/tests/") {
                continue;
            }
            let found = room.violations(&read(&file), &module_of(name));
            assert!(found.is_empty(), "{name}: the room `{}` may not use {found:?}", room.name);
        }
    }
}

#[test]
fn the_parts_of_io_do_not_know_each_other() {
    for file in rust_files("src/io") {
        let name = file.to_str().expect("text");
        let found = neighbours(&read(&file), &module_of(name));
        assert!(found.is_empty(), "{name} uses {found:?}");
    }
    let source = "use crate::core::input::Input;\nuse super::crypto::Pool;\nuse super::swarm::mail;\n";
    assert_eq!(neighbours(source, "crate::io::swarm"), ["crate::io::crypto::Pool"]);
}

#[test]
fn the_published_crates_need_little() {
    let protocol = read("sdk/protocol/Cargo.toml");
    assert_eq!(dependencies(&protocol), ["schemars", "serde", "serde_json", "thiserror"]);
    let sdk = read("sdk/rust/Cargo.toml");
    for name in dependencies(&sdk) {
        assert!(
            [
                "futures-core",
                "getrandom",
                "p2p-node-protocol",
                "rustix",
                "serde",
                "serde_json",
                "thiserror",
                "tokio"
            ]
            .contains(&name),
            "the SDK needs {name}"
        );
    }
}

#[test]
fn the_check_sees_what_is_forbidden() {
    let core = &ROOMS[0];
    for source in [
        "use tokio::sync::mpsc;",
        "async fn f() {}",
        "fn f() { g().await }",
        "use std::time::{Duration, Instant};",
        "use std::time;",
        "use std::time::*;",
        "let now = std::time::SystemTime::now();",
        "use std::sync::Mutex;",
        "use crate::io::swarm::Net;",
        "use super::super::config::Config;",
        "use libp2p::{PeerId, Swarm};",
        "let socket = std::net::UdpSocket::bind(x);",
    ] {
        assert!(!core.violations(source, "crate::core::delivery").is_empty(), "not seen: {source}");
    }
    for source in [
        "use std::time::Duration;",
        "use std::sync::Arc;",
        "use super::input::Input;",
        "use crate::core::identity::NodeKey;",
        "use libp2p::{Multiaddr, PeerId, identity::ed25519};",
        "pub(crate) fn f() {}",
    ] {
        let found = core.violations(source, "crate::core::delivery");
        assert!(found.is_empty(), "{source}: {found:?}");
    }
    assert!(!ROOMS[1].violations("use crate::core::Core;", "crate::front::reader").is_empty());
    assert!(!ROOMS[2].violations("use crate::front::Front;", "crate::io::crypto").is_empty());
    assert!(!ROOMS[3].violations("use std::fs::File;", "crate::line").is_empty());
    assert!(!ROOMS[4].violations("use p2p_node::node;", "crate::client").is_empty());
}
