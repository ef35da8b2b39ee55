//! Rejects dependency versions with known security bugs. `deny.toml` bans the same versions; this
//! test needs no tool and no database.

use super::read;

/// Crates, and their oldest versions without the listed defects.
const MINIMUM_VERSIONS: [(&str, Version); 10] = [
    // Allows only versions of the crates below that have no listed defect.
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

/// Returns the packages of a lock file that are older than their minimum version.
fn outdated(lock: &str) -> Vec<String> {
    let mut found = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.and_then(|line| line.strip_suffix('"')).expect("a package has a name and a version")
        };
        let (name, text) = (field("name"), field("version"));
        let minimum = MINIMUM_VERSIONS.iter().find(|(known, _)| *known == name);
        if minimum.is_some_and(|(_, minimum)| version(text) < *minimum) {
            found.push(format!("{name} {text}"));
        }
    }
    found
}

/// Returns a version, where a pre-release counts as the version before its release.
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
fn locked_versions_are_at_least_the_minimum() {
    let lock = read("Cargo.lock");
    assert!(lock.contains("name = \"libp2p-gossipsub\""), "not the lock file of the node");
    assert_eq!(outdated(&lock), Vec::<String>::new());
}

#[test]
fn deny_toml_has_the_same_minimum_versions() {
    let deny = read("deny.toml");
    for (name, (major, minor, patch)) in MINIMUM_VERSIONS {
        let entry = format!("crate = \"{name}:<{major}.{minor}.{patch}\"");
        assert!(deny.contains(&entry), "deny.toml lacks {entry}");
    }
}

#[test]
fn outdated_versions_are_detected() {
    let lock = |version: &str| format!("[[package]]\nname = \"yamux\"\nversion = \"{version}\"\n");
    for old in ["0.12.1", "0.13.10", "0.14.0", "0.14.1-rc.1"] {
        assert_eq!(outdated(&lock(old)), [format!("yamux {old}")]);
    }
    for fine in ["0.14.1", "0.14.10", "0.15.0", "1.0.0", "0.14.1+build"] {
        assert_eq!(outdated(&lock(fine)), Vec::<String>::new(), "{fine}");
    }
}
