//! Rejects dependency versions with known security bugs. `deny.toml` bans the same versions; this
//! test needs no tool and no database.

use super::read;

/// Crate, and the oldest version without the defects named beside it.
const FLOORS: [(&str, Version); 10] = [
    // Lets in none of the versions below.
    ("libp2p", (0, 57, 1)),
    // GHSA-gc42-3jg7-rxr2, GHSA-xqmp-fxgv-xvq5, RUSTSEC-2026-0536, GHSA-vrx6-jcp8-vm7m.
    ("libp2p-gossipsub", (0, 50, 1)),
    // GHSA-5hq8-qhww-jm7q.
    ("libp2p-quic", (0, 14, 0)),
    // Unbounded registrations and cookies.
    ("libp2p-rendezvous", (0, 17, 1)),
    // RUSTSEC-2026-0037, RUSTSEC-2026-0185.
    ("quinn-proto", (0, 11, 15)),
    // CVE-2026-32314, CVE-2026-31814, and a lost waker that stalls split streams.
    ("yamux", (0, 14, 1)),
    // RUSTSEC-2026-0118, RUSTSEC-2026-0119, RUSTSEC-2026-0120.
    ("hickory-proto", (0, 26, 1)),
    ("hickory-resolver", (0, 26, 1)),
    // RUSTSEC-2026-0104.
    ("rustls-webpki", (0, 103, 13)),
    // Secret-dependent lookups.
    ("ml-kem", (0, 3, 4)),
];

type Version = (u64, u64, u64);

/// The packages of a lock file that are below a floor.
fn below(lock: &str) -> Vec<String> {
    let mut found = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.and_then(|line| line.strip_suffix('"')).expect("a package has a name and a version")
        };
        let (name, text) = (field("name"), field("version"));
        let floor = FLOORS.iter().find(|(known, _)| *known == name);
        if floor.is_some_and(|(_, floor)| version(text) < *floor) {
            found.push(format!("{name} {text}"));
        }
    }
    found
}

/// A pre-release counts as the version before the one that it leads to.
fn version(text: &str) -> Version {
    let (core, pre_release) = match text.split_once(['-', '+']) {
        Some((core, rest)) => (core, text[core.len()..].starts_with('-') && !rest.is_empty()),
        None => (text, false),
    };
    let mut parts = core.split('.').map(|part| part.parse::<u64>().expect("a number"));
    let mut next = || parts.next().expect("three numbers");
    let (major, minor, patch) = (next(), next(), next());
    if !pre_release {
        (major, minor, patch)
    } else if patch > 0 {
        (major, minor, patch - 1)
    } else {
        (major, minor.saturating_sub(1), u64::MAX)
    }
}

#[test]
fn nothing_in_the_lock_file_is_below_its_floor() {
    let lock = read("Cargo.lock");
    assert!(lock.contains("name = \"libp2p-gossipsub\""), "the lock file is not the one of the node");
    assert_eq!(below(&lock), Vec::<String>::new());
}

#[test]
fn deny_toml_names_the_same_floors() {
    let deny = read("deny.toml");
    for (name, (major, minor, patch)) in FLOORS {
        let entry = format!("crate = \"{name}:<{major}.{minor}.{patch}\"");
        assert!(deny.contains(&entry), "deny.toml lacks {entry}");
    }
}

#[test]
fn the_check_sees_what_is_too_old() {
    let lock = |version: &str| format!("[[package]]\nname = \"yamux\"\nversion = \"{version}\"\n");
    for old in ["0.12.1", "0.13.10", "0.14.0", "0.14.1-rc.1"] {
        assert_eq!(below(&lock(old)), [format!("yamux {old}")]);
    }
    for fine in ["0.14.1", "0.14.10", "0.15.0", "1.0.0", "0.14.1+build"] {
        assert_eq!(below(&lock(fine)), Vec::<String>::new(), "{fine}");
    }
}
