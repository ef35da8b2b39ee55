use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use p2p_node_core::effect::ExitCode;

use super::place::{Place, SocketError};
use super::{Door, default_path};

#[test]
fn socket_and_its_directory_are_private() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("run/node.sock");
    let (place, _listener) = Place::listen(&path).expect("listens");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&home.path().join("run"))), (0o600, 0o700));
    drop(place);
    assert!(!path.exists());
}

#[test]
fn directory_that_others_can_write_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let open = home.path().join("open");
    std::fs::create_dir(&open).expect("created");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("set");
    let error = Place::listen(&open.join("node.sock")).expect_err("refused");
    assert!(error.to_string().contains("not a private directory"), "{error}");
}

#[test]
fn stale_socket_is_replaced_and_one_in_use_is_not() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("node.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "as a killed process leaves it");
    let (_place, listener) = Place::listen(&path).expect("replaced");
    let error = Place::listen(&path).expect_err("in use");
    assert_eq!(error.exit_code(), ExitCode::InUse, "{error}");
    UnixStream::connect(&path).expect("the first one listens");
    drop(listener);
}

#[test]
fn socket_of_another_program_and_other_files_stay() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("node.sock");
    let other = UnixListener::bind(&path).expect("bound");
    assert!(matches!(Place::listen(&path), Err(SocketError::InUse(_))));
    drop(other);
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "text").expect("written");
    assert!(matches!(Place::listen(&path), Err(SocketError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "text");
}

#[test]
fn default_path_depends_on_the_identity() {
    let path = |network: &str, peer: &str| default_path(network, peer, "").expect("a path");
    assert_eq!(path("dev", "a"), path("dev", "a"));
    assert_ne!(path("dev", "a"), path("dev", "b"));
    assert_ne!(path("dev", "a"), path("main", "a"));
    assert!(path("dev", "a").as_os_str().len() < 108);
}

#[tokio::test]
async fn door_opens_within_a_runtime() {
    let home = tempfile::tempdir().expect("a directory");
    let door = Door::open(&home.path().join("node.sock")).expect("open");
    assert_eq!((door.is_empty(), door.len()), (true, 0));
}
