//! Files of messages with the Rust SDK and the real binary.

use p2p_node_sdk::{Event, SendOptions, TransferDirection};
use tempfile::TempDir;

use crate::sdk::{close, first_addr, message, next, node};

#[tokio::test]
async fn file_arrives_whole_with_its_message() {
    let home = TempDir::new().unwrap();
    let (path, content) = (home.path().join("a file.bin"), vec![7; 3 << 20]);
    std::fs::write(&path, &content).unwrap();
    let (sender, _events) = node(&home).open().await.unwrap();
    let directory = home.path().join("received");
    let with_directory = node(&home).args(["--files-dir", directory.to_str().unwrap()]);
    let (other, mut events) = with_directory.bootstrap_peers([first_addr(&sender)]).open().await.unwrap();
    let options = SendOptions { file: Some(path), ..SendOptions::default() };
    let sent = sender.send_with(other.address(), &1, options).await.unwrap();
    let Event::Transfer(transfer) = next(&mut events, |event| matches!(event, Event::Transfer(_))).await
    else {
        unreachable!()
    };
    assert_eq!((transfer.direction, &transfer.message_id), (TransferDirection::Receive, &sent.message_id));
    let message = message(&mut events).await;
    let file = message.file.clone().expect("a file");
    assert_eq!((message.message_id.as_str(), file.size), (sent.message_id.as_str(), content.len() as u64));
    assert_eq!(file.name.as_deref(), Some("a file.bin"));
    assert!(std::fs::read(&file.path).unwrap() == content);
    other.ack(&message).await.unwrap();
    sent.delivered().await.unwrap();
    let missing = SendOptions { file: Some(home.path().join("missing")), ..SendOptions::default() };
    let error = sender.send_with(other.address(), &1, missing).await.unwrap_err();
    assert_eq!(error.code(), "FILE_UNAVAILABLE");
    close(&sender).await;
    close(&other).await;
}
