use std::collections::BTreeSet;

use crate::time::Instant;

use proptest::prelude::*;

use super::*;

const KEY: NodePublicKey = NodePublicKey([1; 32]);
const START: Instant = Instant::from_secs(1000);

fn key(number: usize) -> NodePublicKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    NodePublicKey(key)
}

fn at(mono: Instant) -> Now {
    Now { mono, unix_ms: 1_790_000_000_000 + mono.since_start().as_millis() as u64 }
}

fn stamp(key: &NodePublicKey, boot: u64, counter: u64, created: Instant) -> FrameId {
    FrameId { key: *key, boot, counter, created_ms: at(created).unix_ms }
}

/// Checks a frame that was made at `now`.
fn check(windows: &ReplayWindows, key: &NodePublicKey, boot: u64, counter: u64, now: Instant) -> Replay {
    windows.check(&stamp(key, boot, counter, now), at(now))
}

fn commit(windows: &mut ReplayWindows, key: &NodePublicKey, boot: u64, counter: u64, now: Instant) -> Replay {
    windows.commit(&stamp(key, boot, counter, now), at(now))
}

#[test]
fn counter_is_fresh_once() {
    let mut windows = ReplayWindows::default();
    for counter in [5, 7, 6, 0, 2000, 1999] {
        assert_eq!(check(&windows, &KEY, 1, counter, START), Replay::Fresh);
        assert_eq!(commit(&mut windows, &KEY, 1, counter, START), Replay::Fresh);
        assert_eq!(check(&windows, &KEY, 1, counter, START), Replay::Seen);
        assert_eq!(commit(&mut windows, &KEY, 1, counter, START), Replay::Seen);
    }
}

#[test]
fn window_ends_exactly_at_its_size() {
    let mut windows = ReplayWindows::default();
    commit(&mut windows, &KEY, 1, 5000, START);
    assert_eq!(check(&windows, &KEY, 1, 5000 - 1023, START), Replay::Fresh);
    assert_eq!(check(&windows, &KEY, 1, 5000 - 1024, START), Replay::TooOld);
    assert_eq!(commit(&mut windows, &KEY, 1, 5000 - 1024, START), Replay::TooOld);
    assert_eq!(commit(&mut windows, &KEY, 1, u64::MAX, START), Replay::Fresh);
    assert_eq!(commit(&mut windows, &KEY, 1, u64::MAX - 1, START), Replay::Fresh);
    assert_eq!(commit(&mut windows, &KEY, 1, 5001, START), Replay::TooOld);
}

#[test]
fn each_process_and_node_has_its_own_window() {
    let mut windows = ReplayWindows::default();
    commit(&mut windows, &KEY, 1, 5, START);
    assert_eq!(check(&windows, &KEY, 2, 5, START), Replay::Fresh);
    assert_eq!(check(&windows, &NodePublicKey([2; 32]), 1, 5, START), Replay::Fresh);
}

#[test]
fn full_table_evicts_least_recently_used_window_for_new_node() {
    let mut windows = ReplayWindows::default();
    assert!(windows.is_empty());
    let millis = |number: usize| START + Duration::from_millis(number as u64);
    for number in 0..MAX_WINDOWS {
        assert_eq!(commit(&mut windows, &key(number), 1, 1, millis(number)), Replay::Fresh);
    }
    // A key that sends again keeps its window; the window of the least recently active key is
    // evicted.
    assert_eq!(commit(&mut windows, &key(0), 1, 2, millis(MAX_WINDOWS)), Replay::Fresh);
    let newcomer = key(MAX_WINDOWS);
    assert_eq!(check(&windows, &newcomer, 1, 1, millis(MAX_WINDOWS + 1)), Replay::Fresh);
    assert_eq!(commit(&mut windows, &newcomer, 1, 1, millis(MAX_WINDOWS + 1)), Replay::Fresh);
    assert_eq!(windows.len(), MAX_WINDOWS);
    assert!(!windows.is_empty());
    assert_eq!(check(&windows, &key(0), 1, 2, millis(MAX_WINDOWS + 2)), Replay::Seen);
    // Counters of the evicted window are not fresh again, nor is any frame as old as that window.
    assert_eq!(
        windows.check(&stamp(&key(1), 1, 1, millis(1)), at(millis(MAX_WINDOWS + 2))),
        Replay::Forgotten
    );
    assert_eq!(
        windows.check(&stamp(&NodePublicKey([9; 32]), 1, 1, millis(1)), at(millis(MAX_WINDOWS + 2))),
        Replay::Forgotten
    );
    assert_eq!(check(&windows, &key(1), 1, 2, millis(MAX_WINDOWS + 2)), Replay::Fresh, "a new frame is");
}

#[test]
fn flood_of_nodes_excludes_no_other_node() {
    let mut windows = ReplayWindows::default();
    for number in 0..3 * MAX_WINDOWS {
        let now = START + Duration::from_millis(number as u64);
        assert_eq!(commit(&mut windows, &key(number), 1, 1, now), Replay::Fresh);
        if number % 1000 == 0 {
            assert_eq!(commit(&mut windows, &KEY, 1, number as u64, now), Replay::Fresh);
        }
    }
    assert_eq!(windows.len(), MAX_WINDOWS);
}

#[test]
fn backward_clock_jump_excludes_no_node() {
    let mut windows = ReplayWindows::default();
    for number in 0..=MAX_WINDOWS {
        commit(&mut windows, &key(number), 1, 1, START);
    }
    let hour = 3_600_000;
    let back = Now { unix_ms: at(START).unix_ms - hour, ..at(START + Duration::from_secs(1)) };
    let fresh = FrameId { created_ms: back.unix_ms + 1, ..stamp(&KEY, 1, 1, START) };
    assert_eq!(windows.check(&fresh, back), Replay::Forgotten);
    windows.clock_jumped(-(hour as i64));
    assert_eq!(windows.check(&fresh, back), Replay::Fresh);
}

#[test]
fn node_with_many_processes_fills_only_its_own_share() {
    let mut windows = ReplayWindows::default();
    for boot in 0..MAX_BOOTS_PER_KEY as u64 {
        assert_eq!(commit(&mut windows, &KEY, boot, 1, START), Replay::Fresh);
    }
    assert_eq!(check(&windows, &KEY, u64::MAX, 1, START), Replay::Full);
    assert_eq!(commit(&mut windows, &KEY, u64::MAX, 1, START), Replay::Full);
    assert_eq!(commit(&mut windows, &NodePublicKey([2; 32]), 1, 1, START), Replay::Fresh);
    let later = START + WINDOW_IDLE + Duration::from_millis(1);
    assert_eq!(commit(&mut windows, &KEY, u64::MAX, 1, later), Replay::Fresh);
}

#[test]
fn frequently_restarted_node_is_accepted_and_old_frames_are_not_fresh() {
    let mut windows = ReplayWindows::default();
    let born = |boot: u64| START + Duration::from_millis(10 * boot);
    for boot in 0..100 {
        assert_eq!(commit(&mut windows, &KEY, boot, 1, born(boot)), Replay::Fresh, "process {boot}");
        assert!(windows.len() <= MAX_BOOTS_PER_KEY);
        for earlier in 0..=boot {
            let again = windows.commit(&stamp(&KEY, earlier, 1, born(earlier)), at(born(boot)));
            assert_ne!(again, Replay::Fresh, "process {earlier} after {boot}");
        }
    }
    assert_eq!(commit(&mut windows, &KEY, 99, 2, born(99)), Replay::Fresh, "the latest goes on");
}

#[test]
fn short_processes_with_slow_clock_are_accepted_once() {
    let mut windows = ReplayWindows::default();
    let behind = Duration::from_secs(10);
    for boot in 0..100 {
        // Two processes a second: within ten seconds more than the node tracks.
        let now = START + Duration::from_millis(500 * boot);
        let frame = |boot: u64| stamp(&KEY, boot, 1, START + Duration::from_millis(500 * boot) - behind);
        assert_eq!(windows.commit(&frame(boot), at(now)), Replay::Fresh, "process {boot}");
        for earlier in 0..=boot {
            assert_ne!(
                windows.check(&frame(earlier), at(now)),
                Replay::Fresh,
                "process {earlier} after {boot}"
            );
        }
        assert_eq!(
            check(&windows, &NodePublicKey([2; 32]), 1, 1, now - behind),
            Replay::Fresh,
            "nobody else suffers"
        );
    }
}

#[test]
fn state_of_evicted_processes_is_bounded_and_rejects_their_frames() {
    let mut windows = ReplayWindows::default();
    let now = |number: u64| START + Duration::from_millis(number);
    let many = MAX_BOOTS_PER_KEY as u64 + 1;
    let mut number = 0;
    for node in 0..2 * MAX_OUTLIVED {
        for boot in 0..many {
            number += 1;
            assert_eq!(commit(&mut windows, &key(node), boot, 1, now(number)), Replay::Fresh);
        }
        assert!(windows.outlived() <= MAX_OUTLIVED && windows.len() <= MAX_WINDOWS);
        let first = stamp(&key(node), 0, 1, now(number + 1 - many));
        assert_eq!(windows.check(&first, at(now(number))), Replay::Forgotten, "node {node}");
    }
    assert_eq!(windows.outlived(), MAX_OUTLIVED);
    for boot in 0..many {
        commit(&mut windows, &KEY, boot, 1, now(number + boot) + WINDOW_IDLE + WINDOW_IDLE);
    }
    assert_eq!(windows.outlived(), 1, "no frame of the others can be young enough any more");
}

proptest! {
    #[test]
    fn window_agrees_with_complete_history(
        steps in prop::collection::vec(prop_oneof![9 => -1100..700i64, 1 => -5000..5000i64], 1..400),
    ) {
        let mut windows = ReplayWindows::default();
        let mut seen = BTreeSet::new();
        for step in steps {
            // Steps around the highest counter, so that the window slides, wraps and is skipped.
            let counter = seen.last().map_or(0, |highest: &u64| highest.saturating_add_signed(step));
            let expected = match seen.last() {
                Some(&highest) if highest >= counter + WINDOW_BITS => Replay::TooOld,
                _ if seen.contains(&counter) => Replay::Seen,
                _ => Replay::Fresh,
            };
            prop_assert_eq!(commit(&mut windows, &KEY, 1, counter, START), expected);
            if expected == Replay::Fresh {
                seen.insert(counter);
            }
        }
    }
}

#[test]
fn window_outlives_acceptance_time_of_frames() {
    // A frame is accepted from 30 s ahead to 2 minutes back.
    assert!(WINDOW_IDLE > Duration::from_secs(150) && WINDOW_IDLE <= Duration::from_secs(600));
}
