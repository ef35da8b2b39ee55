use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::record::RecordHash;
use p2p_node_wire::time::Instant;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use p2p_node_protocol::{Priority, Route};
use redb::StorageBackend;
use redb::backends::FileBackend;
use tempfile::TempDir;

use super::*;
use crate::disk::testing::synced;
use p2p_node_core::outgoing::OutgoingMessage;
use p2p_node_core::replies::reply_to::ReplyTo;
use p2p_node_wire::envelope::Encoding;

/// Whose store it is.
pub(super) const ANN: Address = Address::repeat_byte(0xa1);
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn row(number: u8, seq: u64) -> HighestSeen {
    HighestSeen { address: Address::repeat_byte(number), generation: 1, seq, hash: RecordHash([number; 32]) }
}

pub(super) fn open(directory: &TempDir) -> (Store, Vec<HighestSeen>) {
    let (store, snapshot) = Store::open(directory.path(), "dev", ANN, 77, &[7; 16]).expect("opened");
    (store, snapshot.highest_seen)
}

pub(super) fn some_mail() -> PersistedMessage {
    let draft = OutgoingMessage {
        data: Bytes::from_static(b"1"),
        encoding: Encoding::Json,
        kind: String::new(),
        priority: Priority::Medium,
        sent_at_ms: 0,
        asked_at: None,
        expires: Instant::ZERO,
        reply_to: String::new(),
        conversation: String::new(),
        hops: 0,
        trace: None,
        call: None,
        file: None,
        route: Route::Auto,
        command: ReplyTo::PARENT,
    };
    PersistedMessage {
        recipient: Address::repeat_byte(1),
        stream: StreamId([1; 16]),
        seq: 1,
        sent_as: None,
        position: 1,
        expires_at_ms: 9,
        draft,
    }
}

pub(super) async fn next(store: &mut Store) -> Input {
    tokio::time::timeout(PATIENCE, store.next()).await.expect("a report")
}

#[tokio::test]
async fn close_writes_queued_rows_and_the_last_of_each_agent() {
    let directory = directory();
    let (store, rows) = open(&directory);
    assert!(rows.is_empty());
    for seq in 1..=100 {
        store.put_highest_seen(row(1, seq));
    }
    store.put_highest_seen(row(2, 1000));
    store.close().await;
    let (store, rows) = open(&directory);
    assert_eq!(rows, [row(1, 100), row(2, 1000)]);
    store.close().await;
}

#[tokio::test]
async fn close_writes_last_access_rule_of_each_subject() {
    let directory = directory();
    let (store, _) = open(&directory);
    let (ann, bob) = (Subject::Agent(Address::repeat_byte(1)), Subject::Agent(Address::repeat_byte(2)));
    store.put_access_rule(1, ann, Some(AccessRule::Blocked));
    store.put_access_rule(2, ann, None);
    store.put_access_rule(3, bob, Some(AccessRule::Allowed));
    store.close().await;
    let (_, snapshot) = Store::open(directory.path(), "dev", ANN, 77, &[7; 16]).expect("opened");
    assert_eq!(snapshot.access_rules, [(bob, AccessRule::Allowed)]);
}

#[tokio::test]
async fn access_rule_is_on_the_disk_when_it_is_reported() {
    let directory = directory();
    let (mut store, _) = open(&directory);
    let ann = Subject::Agent(Address::repeat_byte(1));
    store.put_access_rule(1, ann, Some(AccessRule::Blocked));
    assert!(matches!(next(&mut store).await, Input::Persisted { through: 1 }));
    // A copy, because the database itself is locked. Nothing else is written.
    let copy = tempfile::tempdir().expect("a directory");
    fs::copy(directory.path().join(STORE_FILE), copy.path().join(STORE_FILE)).expect("copied");
    let (_, snapshot) = Store::open(copy.path(), "dev", ANN, 77, &[7; 16]).expect("opened");
    assert_eq!(snapshot.access_rules, [(ann, AccessRule::Blocked)]);
}

#[tokio::test]
async fn highest_seen_rows_are_written_in_background() {
    let directory = directory();
    let (store, _) = open(&directory);
    store.put_highest_seen(row(1, 1));
    let written = async {
        loop {
            // A copy, because the database itself is locked; one that is taken amid a write may be
            // damaged.
            let copy = tempfile::tempdir().expect("a directory");
            fs::copy(directory.path().join(STORE_FILE), copy.path().join(STORE_FILE)).expect("copied");
            if open(&copy).1 == [row(1, 1)] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("written");
}

#[tokio::test]
async fn two_processes_do_not_share_a_data_directory() {
    let directory = directory();
    let (store, _) = open(&directory);
    let error = Store::open(directory.path(), "dev", ANN, 77, &[7; 16]).expect_err("taken");
    assert_eq!((error.code(), error.exit_code()), (ErrorCode::IdentityInUse, ExitCode::InUse));
    store.close().await;
    open(&directory);
}

#[tokio::test]
async fn damaged_database_is_moved_aside_and_reported() {
    let directory = directory();
    fs::write(directory.path().join(STORE_FILE), "no database").expect("written");
    let (mut store, rows) = open(&directory);
    assert!(rows.is_empty());
    let Input::StoreFailed { reason } = next(&mut store).await else { panic!("no report") };
    assert!(reason.contains("node.redb.corrupt-77"), "{reason}");
    let aside = directory.path().join("node.redb.corrupt-77");
    assert_eq!(fs::read(aside).expect("there"), b"no database");
    store.put_highest_seen(row(1, 1));
    assert!(matches!(next(&mut store).await, Input::StoreRecovered));
    store.close().await;
    assert_eq!(open(&directory).1, [row(1, 1)]);
}

#[test]
fn unusable_store_fails_to_open_with_code_and_exit_code() {
    let home = directory();
    let refused = |data_dir: &Path| {
        let error = Store::open(data_dir, "dev", ANN, 77, &[7; 16]).expect_err("refused");
        assert!(error.to_string().contains(&data_dir.display().to_string()), "{error}");
        (error.code(), error.exit_code())
    };
    let data_dir = home.path().join("file");
    fs::write(&data_dir, "in the way").expect("written");
    assert_eq!(refused(&data_dir), (ErrorCode::InvalidArgument, ExitCode::Config));
    let data_dir = home.path().join("data");
    fs::create_dir_all(data_dir.join(STORE_FILE)).expect("made");
    assert_eq!(refused(&data_dir), (ErrorCode::InvalidArgument, ExitCode::Config));
    let unavailable = |cause| OpenError::Unavailable { path: data_dir.clone(), reason: String::new(), cause };
    for (cause, code, exit_code) in [
        (Cause::Passing, ErrorCode::StoreUnavailable, ExitCode::Io),
        (Cause::Permission, ErrorCode::InvalidArgument, ExitCode::NoPermission),
    ] {
        assert_eq!((unavailable(cause).code(), unavailable(cause).exit_code()), (code, exit_code));
    }
}

#[tokio::test]
async fn store_of_another_agent_is_rejected() {
    let home = directory();
    let (store, _) = open(&home);
    store.put_highest_seen(row(1, 1));
    store.close().await;
    let other = Address::repeat_byte(0xb0);
    let error = Store::open(home.path(), "dev", other, 77, &[7; 16]).expect_err("refused");
    assert_eq!((error.code(), error.exit_code()), (ErrorCode::DataDirMismatch, ExitCode::Config));
    let report = error.to_string();
    assert!(report.contains(&ANN.to_string()) && report.contains(&other.to_string()), "{report}");
    Store::open(home.path(), "main", other, 77, &[7; 16]).expect_err("on every network");
    assert_eq!(open(&home).1, [row(1, 1)], "nothing happened to it");
}

#[test]
fn new_and_moved_database_names_are_synced_to_disk() {
    let home = directory();
    let data_dir = home.path().join("data");
    let path = data_dir.join(STORE_FILE);
    synced();
    drop(Store::open(&data_dir, "dev", ANN, 77, &[7; 16]).expect("made"));
    assert_eq!(synced(), [data_dir.clone(), path.clone()]);
    let damaged = home.path().join("damaged");
    fs::create_dir(&damaged).expect("made");
    fs::write(damaged.join(STORE_FILE), "no database").expect("written");
    drop(Store::open(&damaged, "dev", ANN, 77, &[7; 16]).expect("begun anew"));
    assert_eq!(synced(), vec![damaged.join(STORE_FILE); 2], "moved, and made");
}

#[test]
fn damaged_database_stays_in_place_if_replacement_fails() {
    let home = directory();
    let (path, aside) = (home.path().join(STORE_FILE), home.path().join("aside"));
    fs::write(&path, "no database").expect("written");
    let mut no_room: Open = Box::new(|| Err(io::Error::from(io::ErrorKind::StorageFull).into()));
    let error = replace_damaged(&path, &aside, Vec::new(), &mut no_room).expect_err("no room");
    assert!(matches!(error, FileError::Io { cause: Cause::Passing, .. }), "{error}");
    assert_eq!(fs::read(&path).expect("there"), b"no database");
    assert!(!aside.exists());
}

#[tokio::test]
async fn io_error_while_opening_store_is_not_reported_as_damage() {
    for (is_new, fails_once) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut refused = 0;
        for operations in 0.. {
            let home = directory();
            if !is_new {
                let (store, _) = open(&home);
                store.put_highest_seen(row(1, 1));
                store.close().await;
            }
            let left = Arc::new(AtomicU64::new(operations));
            let disk = Disk { file: backend(&home), left, reads_fail: true, fails_once };
            match Database::on(disk, "dev", ANN) {
                Ok(_) => break,
                Err(FileError::Io { cause: Cause::Passing, .. }) => refused += 1,
                Err(error) => panic!("after {operations} operations: {error}"),
            }
            let rows = if is_new { vec![] } else { vec![row(1, 1)] };
            assert_eq!(open(&home).1, rows, "after {operations} operations");
        }
        assert!(refused > 5, "opening takes more than {refused} operations");
    }
}

/// A disk that fails after so many more changes, or reads and changes.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    left: Arc<AtomicU64>,
    reads_fail: bool,
    fails_once: bool,
}

fn backend(directory: &TempDir) -> FileBackend {
    let mut options = fs::OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).open(directory.path().join(STORE_FILE));
    FileBackend::new(file.expect("a file")).expect("a backend")
}

/// For a disk that does not fail.
const ROOM: u64 = u64::MAX / 2;

impl Disk {
    fn room(&self) -> io::Result<()> {
        let one_less = |left: u64| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if left.is_err() && self.fails_once {
            self.left.store(ROOM, Ordering::SeqCst);
        }
        left.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

/// A store on such a disk.
fn failing(directory: &TempDir) -> (Store, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(ROOM));
    let attempt = Box::new({
        let (path, left) = (directory.path().join(STORE_FILE), Arc::clone(&left));
        move || {
            let file = FileBackend::new(fs::OpenOptions::new().read(true).write(true).open(&path)?)?;
            Database::on(
                Disk { file, left: Arc::clone(&left), reads_fail: false, fails_once: false },
                "dev",
                ANN,
            )
        }
    });
    drop(backend(directory));
    let (file, _) = attempt().expect("made");
    let reserve = Reserve::new(directory.path().join(RESERVE_FILE));
    let owner = Owner::of(directory.path(), &[7; 16]).expect("asked").expect("nobody's");
    (Store::start(Some(file), attempt, reserve, owner, None).expect("a thread"), left)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.reads_fail {
            self.room()?;
        }
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.file.write(offset, data)
    }
}

#[tokio::test]
async fn full_disk_is_reported_and_queued_rows_are_written_later() {
    let directory = directory();
    let (mut store, left) = failing(&directory);
    left.store(0, Ordering::SeqCst);
    store.put_highest_seen(row(1, 1));
    for _ in 0..2 {
        let Input::StoreFailed { reason } = next(&mut store).await else { panic!("no report") };
        assert!(reason.contains("writing the store failed"), "{reason}");
        store.put_highest_seen(row(1, 2));
        store.put_highest_seen(row(2, 3));
    }
    left.store(ROOM, Ordering::SeqCst);
    assert!(matches!(next(&mut store).await, Input::StoreRecovered));
    store.close().await;
    assert_eq!(open(&directory).1, [row(1, 2), row(2, 3)]);
}

#[tokio::test]
async fn message_is_on_disk_exactly_if_persisted_was_reported() {
    let mut failed = 0;
    for changes in 0.. {
        let directory = directory();
        let (mut store, left) = failing(&directory);
        left.store(changes, Ordering::SeqCst);
        store.put_message(1, some_mail());
        let was_persisted = match next(&mut store).await {
            Input::Persisted { through: 1 } => true,
            Input::PersistFailed { through: 1, .. } => false,
            other => panic!("{other:?}"),
        };
        left.store(ROOM, Ordering::SeqCst);
        store.close().await;
        let (_, snapshot) = Store::open(directory.path(), "dev", ANN, 77, &[7; 16]).expect("opened");
        assert_eq!(!snapshot.messages.is_empty(), was_persisted, "after {changes} changes");
        if was_persisted {
            break;
        }
        failed += 1;
    }
    assert!(failed > 5, "a write takes more than {failed} changes");
}

#[tokio::test]
async fn renumbered_message_stays_on_disk_when_write_fails() {
    for changes in 0.. {
        let directory = directory();
        let (mut store, left) = failing(&directory);
        store.put_message(1, some_mail());
        assert!(matches!(next(&mut store).await, Input::Persisted { through: 1 }));
        left.store(changes, Ordering::SeqCst);
        let renamed = PersistedMessage { sent_as: Some((StreamId([2; 16]), 7)), position: 2, ..some_mail() };
        store.put_message(2, renamed.clone());
        let was_persisted = match next(&mut store).await {
            Input::Persisted { through: 2 } => true,
            Input::PersistFailed { through: 2, .. } => false,
            other => panic!("{other:?}"),
        };
        left.store(ROOM, Ordering::SeqCst);
        store.close().await;
        let (_, snapshot) = Store::open(directory.path(), "dev", ANN, 77, &[7; 16]).expect("opened");
        assert_eq!(snapshot.messages.len(), 1, "after {changes} changes");
        if was_persisted {
            assert_eq!((snapshot.messages, changes > 0), (vec![renamed], true));
            break;
        }
    }
}
