use std::fs;
use std::os::unix::fs::PermissionsExt;

use alloy_primitives::Address;
use p2p_node_wire::record::RecordHash;
use tempfile::TempDir;

use super::*;

/// Whose file it is.
const ANN: Address = Address::repeat_byte(0xa1);

fn row(number: u64, generation: u64, seq: u64) -> HighestSeen {
    let mut address = [0; 20];
    address[..8].copy_from_slice(&number.to_be_bytes());
    HighestSeen { address: Address::from(address), generation, seq, hash: RecordHash([number as u8; 32]) }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn rows(path: &Path) -> Vec<HighestSeen> {
    Database::open(path, "dev", ANN).expect("opened").1.highest_seen
}

fn write(file: &mut Database, highest_seen: &[HighestSeen]) -> Result<(), FileError> {
    file.write(&Changes { highest_seen: highest_seen.to_vec(), ..Changes::default() })
}

#[test]
fn reopened_database_has_last_access_rules() {
    let directory = directory();
    let path = directory.path().join("db");
    let (mut file, _) = Database::open(&path, "dev", ANN).expect("made");
    let agent = Subject::Agent(Address::repeat_byte(1));
    let node = Subject::Node(libp2p_identity::PeerId::random());
    let set = |file: &mut Database, access_rules: &[(Subject, Option<AccessRule>)]| {
        file.write(&Changes { access_rules: access_rules.to_vec(), ..Changes::default() }).expect("written");
    };
    set(&mut file, &[(agent, Some(AccessRule::Blocked)), (node, Some(AccessRule::Blocked))]);
    set(&mut file, &[(agent, Some(AccessRule::Allowed)), (node, None)]);
    drop(file);
    let (_, snapshot) = Database::open(&path, "dev", ANN).expect("opened");
    assert_eq!(snapshot.access_rules, [(agent, AccessRule::Allowed)]);
}

#[test]
fn rows_are_read_oldest_first_and_separate_by_network() {
    let directory = directory();
    let path = directory.path().join("db");
    let (mut file, none) = Database::open(&path, "dev", ANN).expect("made");
    assert_eq!(none, Snapshot::default());
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    write(&mut file, &[row(1, 0, 30), row(2, 5, 10), row(3, 0, 20)]).expect("written");
    drop(file);
    assert_eq!(rows(&path), [row(2, 5, 10), row(3, 0, 20), row(1, 0, 30)]);
    assert!(Database::open(&path, "other", ANN).expect("opened").1 == Snapshot::default());
}

#[test]
fn highest_seen_row_never_decreases() {
    let directory = directory();
    let path = directory.path().join("db");
    let (mut file, _) = Database::open(&path, "dev", ANN).expect("made");
    write(&mut file, &[row(1, 5, 10)]).expect("written");
    let other = HighestSeen { hash: RecordHash([7; 32]), ..row(1, 5, 10) };
    write(&mut file, &[row(1, 4, 99)]).expect("written");
    write(&mut file, &[other]).expect("written");
    drop(file);
    assert_eq!(rows(&path), [row(1, 5, 10)]);
    let (mut file, _) = Database::open(&path, "dev", ANN).expect("opened");
    write(&mut file, &[row(1, 6, 1)]).expect("written");
    drop(file);
    assert_eq!(rows(&path), [row(1, 6, 1)]);
}

#[test]
fn rows_above_limit_evict_the_oldest_that_revoke_no_key() {
    let directory = directory();
    let path = directory.path().join("db");
    let (mut file, _) = Database::open(&path, "dev", ANN).expect("made");
    let generation = |number| u64::from(number == 1);
    let row = |number: u64| row(number, generation(number), 1 + number);
    let mut all: Vec<HighestSeen> = (0..MAX_ROWS as u64 + 3).map(row).collect();
    write(&mut file, &all[1..MAX_ROWS]).expect("written");
    write(&mut file, &[all[0].clone()]).expect("written");
    write(&mut file, &all[MAX_ROWS..]).expect("written");
    drop(file);
    // The row of a revocation stays, although it is old.
    let kept: Vec<HighestSeen> = [all.remove(1)].into_iter().chain(all.drain(3..)).collect();
    assert_eq!(rows(&path), kept);
}

#[test]
fn database_opens_in_one_process_at_a_time() {
    let directory = directory();
    let path = directory.path().join("db");
    let (file, _) = Database::open(&path, "dev", ANN).expect("made");
    assert!(matches!(Database::open(&path, "dev", ANN), Err(FileError::InUse)));
    drop(file);
    Database::open(&path, "dev", ANN).expect("free again");
}

/// A database of some pages, as bytes.
fn image(directory: &TempDir) -> (Vec<u8>, Vec<HighestSeen>) {
    let path = directory.path().join("image");
    let kept: Vec<HighestSeen> = (0..500).map(|number| row(number, number % 7, 1 + number)).collect();
    let (mut file, _) = Database::open(&path, "dev", ANN).expect("made");
    write(&mut file, &kept).expect("written");
    drop(file);
    (fs::read(path).expect("there"), kept)
}

#[test]
fn damaged_file_is_reported_and_yields_no_altered_rows() {
    let directory = directory();
    let (image, kept) = image(&directory);
    let path = directory.path().join("damaged");
    let mut reported = 0;
    let mut check = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).expect("written");
        match Database::open(&path, "dev", ANN) {
            Ok((_, Snapshot { highest_seen, .. })) => {
                assert!(highest_seen == kept || highest_seen.is_empty(), "{what}: other rows");
            }
            Err(FileError::Damaged(_) | FileError::DamagedPages { .. }) => reported += 1,
            Err(error) => panic!("{what}: {error}"),
        }
    };
    check(b"nonsense", "a short file");
    check(&vec![0xA5; image.len()], "another file");
    for part in 0..16 {
        let length = 1 + image.len() * part / 16;
        check(&image[..length], &format!("cut to {length}"));
    }
    // The head closely, then places all over.
    let places = (0..512).step_by(5).chain((512..image.len()).step_by(image.len() / 64 + 1));
    for at in places {
        let mut bent = image.clone();
        bent[at] ^= 0x10;
        check(&bent, &format!("bent at {at}"));
    }
    assert!(reported > 16, "only {reported} were seen");
}

#[test]
fn malformed_row_is_reported_as_damage() {
    let directory = directory();
    let path = directory.path().join("db");
    let (file, _) = Database::open(&path, "dev", ANN).expect("made");
    let write = file.database.begin_write().expect("begun");
    write
        .open_table(Floors::new(&file.highest_seen))
        .expect("a table")
        .insert(&[1; KEY_BYTES], &[2_u8, 0][..])
        .expect("inserted");
    write.commit().expect("written");
    drop(file);
    assert!(matches!(Database::open(&path, "dev", ANN), Err(FileError::Damaged(_))));
}
