//! Splitting bytes into lines.

use p2p_node_protocol::line::{Framed, Framer, HEAD_BYTES};
use proptest::prelude::*;

const LIMIT: usize = 16;

/// Returns the lines that a framer finds in `chunks`; `None` stands for a line over the limit.
fn frame<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut framer = Framer::new(LIMIT);
    let mut lines = Vec::new();
    let mut collect = |framed: Framed<'_>| {
        lines.push(match framed {
            Framed::Line { bytes: line, .. } => Some(line.to_vec()),
            Framed::TooLong { .. } => None,
        });
    };
    for chunk in chunks {
        framer.push(chunk, &mut collect);
    }
    framer.finish(&mut collect);
    lines
}

fn check(input: &[u8], lines: &[Option<&str>]) {
    let lines: Vec<_> = lines.iter().map(|line| line.map(|line| line.as_bytes().to_vec())).collect();
    assert_eq!(frame([input]), lines, "{:?}", String::from_utf8_lossy(input));
}

#[test]
fn lines_end_with_lf_crlf_or_the_stream() {
    check(b"", &[]);
    check(b"a\nb\n", &[Some("a"), Some("b")]);
    check(b"a\r\nb\r\n", &[Some("a"), Some("b")]);
    check(b"a\nb", &[Some("a"), Some("b")]);
    check(b"a\nb\r", &[Some("a"), Some("b")]);
    check(b"a\rb\n", &[Some("a\rb")]);
}

#[test]
fn blank_lines_are_skipped() {
    check(b"\n\r\n \t \n\na\n\n", &[Some("a")]);
}

#[test]
fn byte_order_mark_is_stripped_only_at_the_start_of_the_stream() {
    check(b"\xEF\xBB\xBFa\n", &[Some("a")]);
    check(b"\xEF\xBB\xBF\n", &[]);
    check(b"a\n\xEF\xBB\xBFb\n", &[Some("a"), Some("\u{feff}b")]);
}

#[test]
fn length_limit_excludes_line_ending_and_byte_order_mark() {
    let line = |length: usize| "x".repeat(length);
    for length in [LIMIT - 1, LIMIT] {
        let line = line(length);
        check(format!("{line}\n").as_bytes(), &[Some(&line)]);
        check(format!("{line}\r\n").as_bytes(), &[Some(&line)]);
        check(format!("\u{feff}{line}\r\n").as_bytes(), &[Some(&line)]);
        check(line.as_bytes(), &[Some(&line)]);
    }
    for length in [LIMIT + 1, LIMIT + 4, LIMIT + 5, 10 * LIMIT] {
        let line = line(length);
        check(format!("{line}\n").as_bytes(), &[None]);
        check(format!("{line}\r\n").as_bytes(), &[None]);
        check(line.as_bytes(), &[None]);
    }
}

#[test]
fn line_over_the_limit_is_reported_once_and_the_next_is_read() {
    let long = "x".repeat(100 * LIMIT);
    let input = format!("a\n{long}\nb\n{long}\n{long}\nc");
    let reported = [Some("a"), None, Some("b"), None, None, Some("c")];
    check(input.as_bytes(), &reported);
    let pieces: Vec<&[u8]> = input.as_bytes().chunks(LIMIT).collect();
    assert_eq!(frame(pieces), frame([input.as_bytes()]));
}

#[test]
fn line_over_the_limit_is_reported_before_it_ends() {
    let mut framer = Framer::new(LIMIT);
    let mut reported = 0;
    for _ in 0..1000 {
        framer.push(&[b'x'; LIMIT], |framed| {
            assert_eq!(framed, Framed::TooLong { number: 1, head: &[b'x'; LIMIT] });
            reported += 1;
        });
    }
    assert_eq!(reported, 1);
}

#[test]
fn line_numbers_count_blank_lines_and_lines_over_the_limit() {
    let long = "x".repeat(2 * LIMIT);
    let input = format!("\u{feff}\r\na\n\n{long}\n{long}\r\nb\n{long}");
    for size in [1, 5, input.len()] {
        let mut framer = Framer::new(LIMIT);
        let mut numbers = Vec::new();
        let mut record = |framed: Framed<'_>| match framed {
            Framed::Line { number, .. } => numbers.push(number),
            Framed::TooLong { number, head } => {
                assert_eq!(head, &long.as_bytes()[..LIMIT]);
                numbers.push(number);
            }
        };
        input.as_bytes().chunks(size).for_each(|chunk| framer.push(chunk, &mut record));
        framer.finish(&mut record);
        assert_eq!(numbers, [2, 4, 5, 6, 7]);
    }
}

#[test]
fn line_over_the_limit_keeps_only_its_head() {
    let mut framer = Framer::new(3 * HEAD_BYTES);
    let mut reported = Vec::new();
    for piece in 0..8_u8 {
        framer.push(&[b'a' + piece; HEAD_BYTES / 2 * 3], |framed| match framed {
            Framed::TooLong { head, .. } => reported.push(head.to_vec()),
            Framed::Line { .. } => panic!("a line"),
        });
    }
    assert_eq!(reported, [vec![b'a'; HEAD_BYTES]]);
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_chunk_sizes(
        input in "(\u{feff})?([ax]{0,20}(\r?\n|\r)| {0,20}\n|[é\u{feff}]{0,7}\n){0,8}[a ]{0,20}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let input = input.as_bytes();
        let whole = frame([input]);
        for cut in 0..=input.len() {
            let (head, tail) = input.split_at(cut);
            prop_assert_eq!(&frame([head, tail]), &whole);
        }
        prop_assert_eq!(&frame(input.chunks(1)), &whole);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&frame(cuts.windows(2).map(|ends| &input[ends[0]..ends[1]])), &whole);
    }

    #[test]
    fn lines_are_not_blank_within_the_limit_and_without_newline(
        input in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
    ) {
        for line in frame([&input[..]]).into_iter().flatten() {
            prop_assert!(!line.trim_ascii().is_empty() && line.len() <= LIMIT && !line.contains(&b'\n'));
        }
    }
}
