use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use p2p_node_protocol::{Priority, Route};
use redb::StorageBackend;
use redb::backends::FileBackend;
use tempfile::TempDir;

use super::*;
use crate::core::delivery::stream::Draft;
use crate::core::envelope::Encoding;

const PATIENCE: Duration = Duration::from_secs(20);

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn row(number: u8, seq: u64) -> FloorRow {
    FloorRow { address: Address::repeat_byte(number), generation: 1, seq, hash: [number; 32] }
}

fn open(directory: &TempDir) -> (Store, Vec<FloorRow>) {
    let (store, contents) = Store::open(directory.path(), "dev", 77).expect("opened");
    (store, contents.floors)
}

fn some_mail() -> KeptMail {
    let draft = Draft {
        data: Bytes::from_static(b"1"),
        encoding: Encoding::Json,
        kind: String::new(),
        priority: Priority::Medium,
        sent_at_ms: 0,
        expires: Duration::ZERO,
        reply_to: String::new(),
        conversation: String::new(),
        route: Route::Auto,
        request_id: None,
    };
    KeptMail {
        recipient: Address::repeat_byte(1),
        stream: [1; 16],
        seq: 1,
        sent_as: None,
        position: 1,
        expires_at_ms: 9,
        draft,
    }
}

async fn next(store: &mut Store) -> Input {
    tokio::time::timeout(PATIENCE, store.next()).await.expect("a report")
}

#[tokio::test]
async fn what_waits_is_written_at_the_end_and_of_one_agent_the_last() {
    let directory = directory();
    let (store, rows) = open(&directory);
    assert!(rows.is_empty());
    for seq in 1..=100 {
        store.remember(row(1, seq));
    }
    store.remember(row(2, 1000));
    store.close().await;
    let (store, rows) = open(&directory);
    assert_eq!(rows, [row(1, 100), row(2, 1000)]);
    store.close().await;
}

#[tokio::test]
async fn standings_are_written_too_and_the_last_word_counts() {
    let directory = directory();
    let (store, _) = open(&directory);
    let (ann, bob) = (Subject::Agent(Address::repeat_byte(1)), Subject::Agent(Address::repeat_byte(2)));
    assert!(store.keep(ann, Some(Standing::Blocked)) && store.keep(ann, None));
    assert!(store.keep(bob, Some(Standing::Allowed)));
    store.close().await;
    let (_, contents) = Store::open(directory.path(), "dev", 77).expect("opened");
    assert_eq!(contents.standings, [(bob, Standing::Allowed)]);
}

#[tokio::test]
async fn what_is_remembered_is_written_without_being_asked() {
    let directory = directory();
    let (store, _) = open(&directory);
    store.remember(row(1, 1));
    let written = async {
        loop {
            // A copy, because the database itself is locked; one that is taken amid a write may be damaged.
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
    let error = Store::open(directory.path(), "dev", 77).expect_err("taken");
    assert_eq!((error.code(), error.exit_code()), (ErrorCode::IdentityInUse, ExitCode::InUse));
    store.close().await;
    open(&directory);
}

#[tokio::test]
async fn a_damaged_database_is_moved_aside_and_told_of() {
    let directory = directory();
    fs::write(directory.path().join(STORE_FILE), "no database").expect("written");
    let (mut store, rows) = open(&directory);
    assert!(rows.is_empty());
    let Input::StoreFailed { reason } = next(&mut store).await else { panic!("no report") };
    assert!(reason.contains("node.redb.corrupt-77"), "{reason}");
    let aside = directory.path().join("node.redb.corrupt-77");
    assert_eq!(fs::read(aside).expect("there"), b"no database");
    store.remember(row(1, 1));
    assert!(matches!(next(&mut store).await, Input::StoreRecovered));
    store.close().await;
    assert_eq!(open(&directory).1, [row(1, 1)]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_told_of_and_tried_again() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    fs::write(&data_dir, "in the way").expect("written");
    let (mut store, contents) = Store::open(&data_dir, "dev", 77).expect("a store");
    assert_eq!(contents, Contents::default());
    assert!(matches!(next(&mut store).await, Input::StoreFailed { .. }));
    store.remember(row(1, 1));
    assert!(matches!(next(&mut store).await, Input::StoreFailed { .. }));
    fs::remove_file(&data_dir).expect("removed");
    fs::create_dir(&data_dir).expect("made");
    assert!(matches!(next(&mut store).await, Input::StoreRecovered));
    store.close().await;
    assert_eq!(Store::open(&data_dir, "dev", 77).expect("opened").1.floors, [row(1, 1)]);
}

/// A disk that fails after so many more changes.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    left: Arc<AtomicU64>,
}

/// For a disk that does not fail.
const ROOM: u64 = u64::MAX / 2;

impl Disk {
    fn room(&self) -> io::Result<()> {
        let one_less = |left: u64| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        left.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

/// A store on such a disk.
fn failing(directory: &TempDir) -> (Store, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(ROOM));
    let attempt = Box::new({
        let (path, left) = (directory.path().join(STORE_FILE), Arc::clone(&left));
        move || {
            let mut options = fs::OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
            let file = FileBackend::new(file)?;
            File::on(Disk { file, left: Arc::clone(&left) }, "dev")
        }
    });
    let (file, _) = attempt().expect("made");
    let reserve = Reserve::new(directory.path().join(RESERVE_FILE));
    (Store::start(Some(file), attempt, reserve, None).expect("a thread"), left)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
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
async fn a_full_disk_is_reported_and_what_waited_is_written_when_there_is_room() {
    let directory = directory();
    let (mut store, left) = failing(&directory);
    left.store(0, Ordering::SeqCst);
    store.remember(row(1, 1));
    for _ in 0..2 {
        let Input::StoreFailed { reason } = next(&mut store).await else { panic!("no report") };
        assert!(reason.contains("cannot be written at present"), "{reason}");
        store.remember(row(1, 2));
        store.remember(row(2, 3));
    }
    left.store(ROOM, Ordering::SeqCst);
    assert!(matches!(next(&mut store).await, Input::StoreRecovered));
    store.close().await;
    assert_eq!(open(&directory).1, [row(1, 2), row(2, 3)]);
}

#[tokio::test]
async fn mail_is_on_the_disk_if_and_only_if_that_is_what_was_said_wherever_writing_fails() {
    let mut failed = 0;
    for changes in 0.. {
        let directory = directory();
        let (mut store, left) = failing(&directory);
        left.store(changes, Ordering::SeqCst);
        store.keep_mail(1, some_mail());
        let was_kept = match next(&mut store).await {
            Input::Kept { upto: 1 } => true,
            Input::NotKept { upto: 1, .. } => false,
            other => panic!("{other:?}"),
        };
        left.store(ROOM, Ordering::SeqCst);
        store.close().await;
        let (_, contents) = Store::open(directory.path(), "dev", 77).expect("opened");
        assert_eq!(!contents.mails.is_empty(), was_kept, "after {changes} changes");
        if was_kept {
            break;
        }
        failed += 1;
    }
    assert!(failed > 5, "a write takes more than {failed} changes");
}

#[tokio::test]
async fn mail_that_only_gets_another_name_stays_on_the_disk_wherever_writing_fails() {
    for changes in 0.. {
        let directory = directory();
        let (mut store, left) = failing(&directory);
        store.keep_mail(1, some_mail());
        assert!(matches!(next(&mut store).await, Input::Kept { upto: 1 }));
        left.store(changes, Ordering::SeqCst);
        let renamed = KeptMail { sent_as: Some(([2; 16], 7)), position: 2, ..some_mail() };
        store.keep_mail(2, renamed.clone());
        let was_kept = match next(&mut store).await {
            Input::Kept { upto: 2 } => true,
            Input::NotKept { upto: 2, .. } => false,
            other => panic!("{other:?}"),
        };
        left.store(ROOM, Ordering::SeqCst);
        store.close().await;
        let (_, contents) = Store::open(directory.path(), "dev", 77).expect("opened");
        assert_eq!(contents.mails.len(), 1, "after {changes} changes");
        if was_kept {
            assert_eq!((contents.mails, changes > 0), (vec![renamed], true));
            break;
        }
    }
}
