use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// Constructor of one kind of lock.
type Take = Box<dyn Fn(&str) -> io::Result<Attempt>>;

/// Returns all kinds of locks on this system, each with a unique scope.
fn kinds(directory: &tempfile::TempDir) -> Vec<(Take, String)> {
    let path = directory.path().join("locks");
    let scope = path.display().to_string();
    vec![(Box::new(take), scope.clone()), (Box::new(move |name| file::take_in(&path, name)), scope)]
}

fn acquire(take: &Take, peer: &str, scope: &str) -> (Result<Option<IdentityLock>, InUse>, Vec<String>) {
    let mut notices = Vec::new();
    let lock = acquire_by(take, peer, scope, &mut |notice| notices.push(notice));
    (lock, notices)
}

#[test]
fn second_holder_is_rejected_until_first_releases_lock() {
    let directory = tempfile::tempdir().unwrap();
    for (take, scope) in kinds(&directory) {
        let at_once = |peer: &str, scope: &str| acquire(&take, peer, scope);
        let (first, notices) = at_once(PEER, &scope);
        assert!(first.as_ref().is_ok_and(Option::is_some) && notices.is_empty(), "{notices:?}");
        let (second, _) = at_once(PEER, &scope);
        let error = second.unwrap_err();
        assert_eq!((error.code(), error.exit_code()), (ErrorCode::IdentityInUse, ExitCode::InUse));
        let holder = format!("process {}", std::process::id());
        assert_eq!(error, InUse { peer_id: PEER.to_owned(), holder });
        assert!(at_once("another", &scope).0.unwrap().is_some(), "another identity is free");
        assert!(at_once(PEER, "elsewhere").0.unwrap().is_some(), "so is another scope");
        drop(first);
        assert!(at_once(PEER, &scope).0.unwrap().is_some(), "free again");
    }
}

#[test]
fn node_runs_without_lock_support_and_reports_it() {
    let refuse: Take = Box::new(|_| Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)));
    let of_others: Take = Box::new(|_| Ok(Attempt::InUse { pid: Some(1), is_ours: false }));
    for take in [refuse, of_others] {
        let (lock, notices) = acquire(&take, PEER, "");
        assert!(lock.unwrap().is_none());
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert!(notice.contains("will not be noticed"), "{notice}");
    }
}

#[test]
fn public_directory_and_symbolic_link_are_rejected() {
    let temporary = tempfile::tempdir().unwrap();
    let (open, link): (PathBuf, PathBuf) = (temporary.path().join("open"), temporary.path().join("link"));
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(temporary.path(), &link).unwrap();
    for directory in [&open, &link] {
        let error = file::take_in(directory, PEER).unwrap_err();
        assert!(error.to_string().contains("private directory of this user"), "{error}");
    }
}

#[test]
fn lock_name_has_bounded_length_for_any_scope() {
    assert_ne!(name(PEER, ""), name(PEER, "a"));
    assert_ne!(name(PEER, "b"), name(PEER, "a"));
    let longest = name(PEER, &"x/\0".repeat(1000));
    assert!(longest.len() <= 90 && !longest.contains(['/', '\0']), "{longest}");
}

#[cfg(target_os = "linux")]
#[test]
fn repeated_queries_of_lock_holder_never_block() {
    let directory = tempfile::tempdir().unwrap();
    let name = name(PEER, &directory.path().display().to_string());
    let _held = socket::take(&name).unwrap();
    for _ in 0..200 {
        assert!(matches!(socket::take(&name).unwrap(), Attempt::InUse { is_ours: true, .. }));
    }
}
