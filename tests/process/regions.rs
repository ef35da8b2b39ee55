//! The region file: a node joins through its preferred region, and follows changes of the file.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, tcp_address, test_key};

fn write(path: &Path, regions: Value) {
    std::fs::write(path, json!({"network": "dev", "regions": regions}).to_string()).unwrap();
}

/// Starts a node with a region file.
fn start(path: &Path, args: &[&str]) -> Child {
    let args = [&["--region-file", path.to_str().unwrap()], args].concat();
    Child::spawn(&[&args[..], &["--connect"]].concat(), &[("PRIVATE_KEY", &test_key(0xf1))])
}

fn expect_connected(child: &Child, ready: &Value) {
    child.expect("a connection", |event| {
        event["type"] == "peer_connected" && event["peerId"] == ready["peerId"]
    });
}

#[test]
fn node_joins_through_its_region_and_follows_changes_of_the_file() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("regions.json");
    let (mut east, east_ready) = Child::join(0xf2, 0, &["--role", "bootstrap"], &[]);
    let (sea, sea_ready) = Child::join(0xf3, 0, &["--role", "bootstrap"], &[]);
    let east_addr = tcp_address(&east_ready);
    write(&path, json!({"us-east": [east_addr], "us-west": [], "eu-west": [], "sea": []}));
    let mut node = start(&path, &["--region", "us-east,us-west"]);
    expect_connected(&node, &east_ready);

    // A line that cannot be read changes nothing.
    std::fs::write(&path, "{").unwrap();
    node.expect("a warning", |event| {
        event["type"] == "log" && event["message"].as_str().unwrap().contains("keeps the earlier content")
    });
    write(&path, json!({"us-east": [east_addr], "sea": [tcp_address(&sea_ready)]}));
    // Without a connection to a preferred region, the node dials the others.
    east.kill();
    expect_connected(&node, &sea_ready);
    node.command(json!({"type":"shutdown","id":"end"}));
    assert!(node.wait().success());
    drop(sea);
}

#[test]
fn invalid_region_file_refuses_the_start() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("regions.json");
    for text in [None, Some("{"), Some(r#"{"network":"main","regions":{}}"#)] {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let (code, lines, _) = start(&path, &[]).finish();
        assert_eq!((code, &lines[0]["code"]), (78, &json!("INVALID_ARGUMENT")), "{lines:?}");
        assert!(lines[0]["message"].as_str().unwrap().contains("regions.json"), "{lines:?}");
    }
}
