//! Listening when some or all addresses are unavailable.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::child::Child;
use crate::surroundings::{logs, unshared};

const VILLAGE: [&str; 2] = ["--network", "village"];

/// Starts a node in its own network, in which `script` runs first.
fn in_own_network(script: &str, args: &[&str]) -> Option<Child> {
    unshared(&["-rn"], script, args, &[])
}

fn addrs(ready: &Value) -> Vec<String> {
    ready["addrs"].as_array().unwrap().iter().map(|addr| addr.as_str().unwrap().to_owned()).collect()
}

#[test]
fn node_without_interfaces_is_ready_within_seconds_with_a_warning() {
    let Some(mut child) = in_own_network("", &VILLAGE) else { return };
    let started = Instant::now();
    child.command(json!({"type":"connect","protocol":1,"id":"c"}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(addrs(&ready), Vec::<String>::new());
    let (code, rest, stderr) = child.finish();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(logs(&rest, "no network interface serves it"), 1, "{rest:#?}");
    assert_eq!(logs(&rest, "is a network interface up?"), 1, "{rest:#?}");
}

#[test]
fn node_that_waits_for_an_address_ends_on_request() {
    for reason in ["signal", "shutdown", "eof"] {
        let Some(mut child) = in_own_network("", &VILLAGE) else { return };
        child.command(json!({"type":"connect","protocol":1,"id":"c"}));
        match reason {
            "signal" => {
                // The node has read `connect` when it answers the next command.
                child.command(json!({"type":"ping","id":"p"}));
                child.answer("p");
                child.signal(Signal::TERM);
            }
            "shutdown" => child.command(json!({"type":"shutdown","id":"s"})),
            _ => {}
        }
        let (code, rest, stderr) = child.finish();
        assert_eq!(code, 0, "{reason}: {rest:#?} {stderr}");
        assert_eq!(rest.last().unwrap()["type"], "closing", "{reason}: {rest:#?}");
    }
}

#[test]
fn node_with_only_loopback_addresses_warns_outside_dev() {
    let Some(mut child) = in_own_network("ip link set lo up", &VILLAGE) else { return };
    child.command(json!({"type":"connect","protocol":1,"id":"c"}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    let addrs = addrs(&ready);
    assert!(addrs.iter().any(|addr| addr.starts_with("/ip4/127.0.0.1/tcp/")), "{addrs:?}");
    let port = addrs[0].split('/').nth(4).unwrap().to_owned();
    assert!(addrs.iter().all(|addr| addr.split('/').nth(4) == Some(&port)), "one port: {addrs:?}");
    let (code, rest, stderr) = child.finish();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(logs(&rest, "only addresses of this machine itself"), 1, "{rest:#?}");
    let has_ipv6 = addrs.iter().any(|addr| addr.starts_with("/ip6/::1/"));
    assert_eq!(logs(&rest, "no IPv6"), usize::from(!has_ipv6), "{rest:#?}");
}

#[test]
fn node_without_ipv6_listens_on_ipv4_without_delay() {
    let script = "ip link set lo up; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || ip -6 addr flush dev lo";
    let Some(mut child) = in_own_network(script, &VILLAGE) else { return };
    child.command(json!({"type":"connect","protocol":1,"id":"c"}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    assert_eq!(addrs(&ready).len(), 2, "{ready}");
    let (code, rest, stderr) = child.finish();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((logs(&rest, "no IPv6"), logs(&rest, "no address yet")), (1, 0), "{rest:#?}");
}

#[test]
fn unavailable_address_is_reported_with_the_os_error() {
    // Addresses for documentation, which no machine has; nothing is sent there.
    for addr in ["/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/udp/0/quic-v1", "/ip6/2001:db8::1/tcp/0"] {
        let child = Child::spawn(&["--connect", "--listen", addr], &[]);
        let (code, rest, _) = child.finish();
        let error = rest.iter().find(|line| line["code"] == "LISTEN_FAILED").unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(addr) && message.contains("os error"), "{message}");
        assert_eq!((code, &error["retryable"]), (69, &json!(true)));
    }
}

#[test]
fn unsupported_listen_address_exits_78() {
    for addr in [
        "/dns4/localhost/tcp/1",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/memory/1",
        "/ip4/127.0.0.1",
    ] {
        let child = Child::spawn(&["--connect", "--listen", addr], &[]);
        let (code, rest, stderr) = child.finish();
        assert_eq!(code, 78, "{addr} {rest:#?} {stderr}");
        let error = rest.last().unwrap();
        assert_eq!((&error["code"], &error["retryable"]), (&json!("INVALID_ARGUMENT"), &json!(false)));
        assert!(error["message"].as_str().unwrap().contains(addr), "{error}");
    }
}
