//! Storing and reading records in the DHT.

use std::time::Duration;

use bytes::Bytes;
use p2p_node::io::swarm::{KEY_BYTES, MAX_QUERIES};
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Role;

use super::node::{Node, config, pair};

const LIFETIME: Duration = Duration::from_secs(60);

async fn until_server_seen(node: &mut Node, server: &Node) {
    let known = |input: &Input| match input {
        Input::DhtMode { peer, serves: true, addrs } => Some((*peer, addrs.clone())),
        _ => None,
    };
    let (peer, addrs) = node.expect("server", known).await;
    assert_eq!(peer, server.peer);
    node.apply(NetworkCommand::AddServer { peer, addrs }).await;
}

async fn until_record_put(node: &mut Node) -> bool {
    node.expect("end of put", |input| match input {
        Input::RecordPut { stored } => Some(*stored),
        _ => None,
    })
    .await
}

async fn until_query_ended(node: &mut Node) -> Token {
    node.expect("end of query", |input| match input {
        Input::QueryEnded { token } => Some(*token),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn record_stored_by_the_server_is_found() {
    let mut server = Node::listening(config(9, Role::Bootstrap)).await;
    let (mut a, mut b) = pair().await;
    for node in [&mut a, &mut b] {
        node.dial(&server).await;
        until_server_seen(node, &server).await;
    }
    let key = Bytes::from(vec![3; KEY_BYTES]);
    let value = Bytes::from_static(b"record");
    a.apply(NetworkCommand::PutRecord { key: key.clone(), value: value.clone(), lifetime: LIFETIME }).await;
    let offered = server
        .expect("offer", |input| match input {
            Input::RecordOffered { peer, key, value } => Some((*peer, key.clone(), value.clone())),
            _ => None,
        })
        .await;
    assert_eq!(offered, (a.peer, key.clone(), value.clone()));
    assert!(until_record_put(&mut a).await);

    // The server has not stored the offered record, and the owner's own store does not answer.
    for node in [&mut a, &mut b] {
        node.apply(NetworkCommand::GetRecord { token: 1, key: key.clone() }).await;
        assert_eq!(until_query_ended(node).await, 1);
        assert!(!node.has(|input| matches!(input, Input::RecordFound { .. })));
    }

    server
        .apply(NetworkCommand::StoreDhtRecord { key: key.clone(), value: value.clone(), lifetime: LIFETIME })
        .await;
    for node in [&mut a, &mut b] {
        node.apply(NetworkCommand::GetRecord { token: 2, key: key.clone() }).await;
        let found = node
            .expect("record", |input| match input {
                Input::RecordFound { token, value, .. } => Some((*token, value.clone())),
                _ => None,
            })
            .await;
        assert_eq!(found, (2, value.clone()));
    }
    b.apply(NetworkCommand::StopQuery { token: 2 }).await;
    assert_eq!(until_query_ended(&mut b).await, 2);
    assert!(!b.has(|input| matches!(input, Input::QueryEnded { .. } | Input::DhtMode { serves: true, .. })));
}

#[tokio::test]
async fn record_without_a_server_is_neither_stored_nor_found() {
    let (mut a, mut b) = pair().await;
    let key = Bytes::from(vec![3; KEY_BYTES]);
    a.apply(NetworkCommand::PutRecord { key: key.clone(), value: Bytes::new(), lifetime: LIFETIME }).await;
    assert!(!until_record_put(&mut a).await);
    b.apply(NetworkCommand::GetRecord { token: 1, key }).await;
    assert_eq!(until_query_ended(&mut b).await, 1);
    assert!(!b.has(|input| matches!(input, Input::RecordOffered { .. } | Input::RecordFound { .. })));
}

#[tokio::test]
async fn dht_queries_are_bounded() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let key = Bytes::from(vec![3; KEY_BYTES]);
    let above_limit = MAX_QUERIES as Token;
    a.apply_all(
        (0..=above_limit).map(|token| NetworkCommand::GetRecord { token, key: key.clone() }).collect(),
    )
    .await;
    assert_eq!(until_query_ended(&mut a).await, above_limit);
    for _ in 0..MAX_QUERIES {
        assert!(until_query_ended(&mut a).await < above_limit);
    }
}
