//! Nodes behind NAT, hosts with IPv6 only, and addresses that change, in network namespaces.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::Child;
use crate::lab::Lab;

/// Longest time for which a test waits for a delivery: AutoNAT and the dials of an unreachable node
/// take up to a minute.
const DELIVERY: Duration = Duration::from_secs(90);

/// Sends a message and waits until it is delivered.
fn deliver(from: &mut Child, to: &Value, id: &str) {
    let recipient = &to["address"];
    from.command(json!({"type":"send","peerId":recipient,"data":id,"route":"direct","ttlMs":80_000,"id":id}));
    let is_delivery = |event: &Value| event["type"] == "delivery" && event["requestId"] == id;
    let delivery = from.expect_within(DELIVERY, &format!("the delivery of {id}"), is_delivery);
    assert_eq!(delivery["state"], "delivered", "{delivery}");
}

/// Returns the address of a bootstrap node, for `--bootstrap`.
fn entry(ready: &Value, ip: &str, transport: &str) -> String {
    let is_it = |addr: &&str| addr.contains(ip) && addr.contains(transport);
    let addrs = ready["addrs"].as_array().unwrap().iter().filter_map(Value::as_str);
    addrs.clone().find(is_it).unwrap_or_else(|| panic!("no {ip} {transport} in {ready}")).to_owned()
}

/// Waits until a node has reservations at relays.
fn reserved(node: &mut Child) {
    let has_reservation =
        |status: &Value| status["counters"]["relay_reservations"].as_u64().is_some_and(|count| count > 0);
    node.until_within(DELIVERY, "reservations", has_reservation);
}

/// A bootstrap node and two nodes that only relays reach.
fn two_nodes(lab: &Lab, transport: &str, flags: [&[&str]; 2]) -> (Child, [(Child, Value); 2]) {
    let (boot, ready) = lab.node("boot", 1, &["--role", "bootstrap"]);
    let entry = entry(&ready, "10.7.0.1", transport);
    let bootstrap = ["--bootstrap", &entry];
    let mut a = lab.node("a", 2, &[&bootstrap, flags[0]].concat());
    let mut b = lab.node("b", 3, &[&bootstrap, flags[1]].concat());
    reserved(&mut a.0);
    reserved(&mut b.0);
    (boot, [a, b])
}

/// Ends the bootstrap node, and with it every relayed connection. Then mail passes only directly.
fn assert_direct(mut boot: Child, [(a, a_ready), (b, b_ready)]: &mut [(Child, Value); 2]) {
    boot.kill();
    deliver(a, b_ready, "a to b without relay");
    deliver(b, a_ready, "b to a without relay");
}

#[test]
#[ignore = "needs root and network namespaces, and takes half a minute"]
fn node_behind_nat_is_reached_through_a_relay_and_then_directly() {
    for transport in ["/tcp/", "/quic-v1"] {
        let Some(mut lab) = Lab::new() else { return };
        lab.host("boot", "10.7.0.1/24");
        lab.host_behind_nat("a", "router", "10.7.0.2/24", "192.168.1");
        lab.host("b", "10.7.0.3/24");
        // The other node names no address of its own, so that the first dial goes through the relay.
        let (boot, mut nodes) = two_nodes(&lab, transport, [&[], &["--reachability", "unreachable"]]);
        let [(_, a_ready), (b, _)] = &mut nodes;
        deliver(b, a_ready, "through the relay");
        // Over TCP, punching a hole needs two SYNs that cross. The router refuses the one of the node
        // without NAT if it comes first, so the attempt may fail each time.
        if transport == "/quic-v1" {
            until_direct(&mut nodes);
            assert_direct(boot, &mut nodes);
        }
    }
}

/// Waits until each of the nodes has a direct connection to the other one, beside the one to the
/// bootstrap node.
fn until_direct(nodes: &mut [(Child, Value); 2]) {
    for (node, _) in nodes {
        node.until_within(DELIVERY, "a direct connection", |status| {
            status["relayedPeers"] == 0 && status["peers"] == 2
        });
    }
}

#[test]
#[ignore = "needs root and network namespaces, and takes half a minute"]
fn nodes_behind_two_nats_exchange_mail_through_a_relay_and_then_directly() {
    for transport in ["/tcp/", "/quic-v1"] {
        let Some(mut lab) = Lab::new() else { return };
        lab.host("boot", "10.7.0.1/24");
        lab.host_behind_nat("a", "router-a", "10.7.0.2/24", "192.168.1");
        lab.host_behind_nat("b", "router-b", "10.7.0.3/24", "192.168.2");
        let (boot, mut nodes) = two_nodes(&lab, transport, [&[], &[]]);
        let [(a, a_ready), (b, b_ready)] = &mut nodes;
        deliver(b, a_ready, "b to a");
        deliver(a, b_ready, "a to b");
        until_direct(&mut nodes);
        assert_direct(boot, &mut nodes);
    }
}

#[test]
#[ignore = "needs root and network namespaces, and takes half a minute"]
fn nodes_whose_nats_admit_no_hole_punching_exchange_large_mail_through_a_relay() {
    let Some(mut lab) = Lab::new() else { return };
    lab.host("boot", "10.7.0.1/24");
    lab.host_behind_nat("a", "router-a", "10.7.0.2/24", "192.168.1");
    lab.host_behind_nat("b", "router-b", "10.7.0.3/24", "192.168.2");
    lab.restrict("router-a", Some("10.7.0.1"));
    lab.restrict("router-b", Some("10.7.0.1"));
    let (_boot, mut nodes) = two_nodes(&lab, "/tcp/", [&[], &[]]);
    let [(a, a_ready), (b, b_ready)] = &mut nodes;
    deliver(b, a_ready, "b to a");
    deliver(a, b_ready, "a to b");
    let text = "x".repeat(900 << 10);
    for number in 0..4 {
        a.command(json!({"type":"send","peerId":b_ready["address"],"data":[number, text],"ttlMs":80_000,"id":number}));
        let delivery = a.expect_within(DELIVERY, "a delivery", |event| {
            event["type"] == "delivery" && event["requestId"] == number
        });
        assert_eq!(delivery["state"], "delivered", "{delivery}");
    }
    for number in 0..4 {
        let message =
            b.expect("the mail", |event| event["type"] == "message" && event["data"][0].is_number());
        assert_eq!(message["data"][0], number);
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn nodes_on_hosts_with_ipv6_only_exchange_mail() {
    let Some(mut lab) = Lab::new() else { return };
    for (number, host) in ["boot", "a", "b"].into_iter().enumerate() {
        lab.host(host, &format!("fd07::{}/64", number + 1));
    }
    let (_boot, ready) = lab.node("boot", 1, &["--role", "bootstrap"]);
    let entry = entry(&ready, "fd07::1", "/tcp/");
    let (mut a, a_ready) = lab.node("a", 2, &["--bootstrap", &entry]);
    let (mut b, b_ready) = lab.node("b", 3, &["--bootstrap", &entry]);
    deliver(&mut a, &b_ready, "a to b");
    deliver(&mut b, &a_ready, "b to a");
}

#[test]
#[ignore = "needs root and network namespaces"]
fn node_with_both_ip_versions_serves_hosts_that_have_one_each() {
    let Some(mut lab) = Lab::new() else { return };
    lab.host("both", "10.7.0.1/24");
    lab.add_address("both", "fd07::1/64");
    lab.host("four", "10.7.0.2/24");
    lab.run("four", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    lab.host("six", "fd07::3/64");
    let (mut both, both_ready) = lab.node("both", 1, &["--role", "bootstrap"]);
    let entries = [entry(&both_ready, "10.7.0.1", "/tcp/"), entry(&both_ready, "fd07::1", "/tcp/")];
    let (mut four, four_ready) = lab.node("four", 2, &["--bootstrap", &entries[0]]);
    let (mut six, six_ready) = lab.node("six", 3, &["--bootstrap", &entries[1]]);
    both.command(json!({"type":"subscribe","topic":"news","id":"subscribe"}));
    both.expect("the answer", |event| event["id"] == "subscribe");
    for (node, ready) in [(&mut four, &four_ready), (&mut six, &six_ready)] {
        deliver(node, &both_ready, "to both");
        deliver(&mut both, ready, ready["peerId"].as_str().unwrap());
        node.command(json!({"type":"subscribe","topic":"news","id":"subscribe"}));
        let greeting = format!("hello of {}", ready["address"]);
        node.command(json!({"type":"send","topic":"news","data":greeting}));
        // A node announces its subscription before it broadcasts.
        both.expect("the greeting", |event| event["data"] == greeting);
    }
    four.command(json!({"type":"send","topic":"news","data":"of four"}));
    six.expect("the broadcast", |event| event["type"] == "message" && event["data"] == "of four");
    six.command(json!({"type":"send","topic":"news","data":"of six"}));
    four.expect("the broadcast", |event| event["type"] == "message" && event["data"] == "of six");
    // The hosts have no common IP version, so their broadcasts passed through the third node.
    for (node, other) in [(&mut four, &six_ready), (&mut six, &four_ready)] {
        node.command(json!({"type":"peers","id":"peers"}));
        let peers = node.expect("its peers", |event| event["id"] == "peers");
        let connected = peers["connected"].as_array().unwrap();
        assert!(connected.iter().all(|peer| peer["peerId"] != other["peerId"]), "{peers}");
    }
}

#[test]
#[ignore = "needs root and network namespaces, and takes a minute"]
fn no_mail_is_lost_when_the_address_of_an_interface_changes() {
    const MAILS: u64 = 20;
    let Some(mut lab) = Lab::new() else { return };
    lab.host("boot", "10.7.0.1/24");
    lab.host("a", "10.7.0.2/24");
    lab.host("b", "10.7.0.3/24");
    let (_boot, ready) = lab.node("boot", 1, &["--role", "bootstrap"]);
    let entry = entry(&ready, "10.7.0.1", "/tcp/");
    let (mut a, a_ready) = lab.node("a", 2, &["--bootstrap", &entry]);
    let (mut b, b_ready) = lab.node("b", 3, &["--bootstrap", &entry]);
    deliver(&mut a, &b_ready, "a to b");
    for number in 0..MAILS {
        if number == MAILS / 2 {
            lab.run("a", "ip addr del 10.7.0.2/24 dev eth0 && ip addr add 10.7.0.9/24 dev eth0");
        }
        for (node, to) in [(&mut a, &b_ready), (&mut b, &a_ready)] {
            let to = &to["address"];
            node.command(json!({"type":"send","peerId":to,"data":number,"ttlMs":80_000,"id":number}));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let changed = Instant::now();
    for node in [&a, &b] {
        for number in 0..MAILS {
            let delivery = node.expect_within(DELIVERY, "a delivery", |event| {
                event["type"] == "delivery" && event["requestId"] == number
            });
            assert_eq!(delivery["state"], "delivered", "{delivery}");
        }
    }
    for node in [&a, &b] {
        for number in 0..MAILS {
            node.expect("the mail", |event| event["type"] == "message" && event["data"] == number);
        }
        let is_mail = |event: &Value| event["type"] == "message" && event["data"].is_number();
        assert_eq!(node.take(is_mail), None, "a message came twice");
    }
    println!("all mail was delivered {:?} after the last was sent", changed.elapsed());
}

#[test]
#[ignore = "needs root and network namespaces"]
fn nodes_of_one_local_network_find_each_other_by_mdns_alone() {
    let Some(mut lab) = Lab::new() else { return };
    lab.host("a", "10.7.0.1/24");
    lab.host("b", "10.7.0.2/24");
    let (mut a, a_ready) = lab.node("a", 1, &[]);
    let (mut b, b_ready) = lab.node("b", 2, &[]);
    deliver(&mut a, &b_ready, "a to b");
    deliver(&mut b, &a_ready, "b to a");
}
