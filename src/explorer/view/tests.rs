//! The screen of a network, drawn into memory.

use p2p_node_protocol::{HealthCause, HealthPenalty, NetworkReport, ReportNode, TopicReport};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::{MAX_EVENTS, View, clean};
use crate::explorer::ExplorerError;
use crate::explorer::client::Piece;

fn piece(name: &str, data: impl serde::Serialize) -> Piece {
    Piece { name: name.to_owned(), data: serde_json::to_string(&data).unwrap() }
}

fn report() -> NetworkReport {
    let mut report = NetworkReport::default();
    report.metrics.health_score = 55.0;
    report.metrics.active_peers = 1;
    let text = "only 1 active peer".to_owned();
    report.metrics.causes.push(HealthPenalty {
        cause: HealthCause::FewPeers,
        penalty: 45.0,
        value: 1.0,
        text,
    });
    let node = |name: &str, peer: &str| ReportNode {
        peer_id: peer.to_owned(),
        name: Some(name.to_owned()),
        is_connected: true,
        ..ReportNode::default()
    };
    report.topology.nodes = vec![node("alice", "12D3KooA"), node("b\u{1b}[31mob\u{202e}", "12D3KooB")];
    report.topics.push(TopicReport {
        topic: "news\u{7}".to_owned(),
        mesh_peers: 3,
        ..TopicReport::default()
    });
    report
}

fn screen(view: &View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(140, 30)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(140);
    lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
}

fn press(view: &mut View, code: KeyCode) -> bool {
    view.on_key(Some(KeyEvent::new(code, KeyModifiers::NONE)))
}

#[test]
fn overview_shows_health_and_its_causes_in_words() {
    let mut view = View::default();
    assert!(screen(&view).contains("waiting for the node"));
    view.on_piece(&piece("report", report()));
    let text = screen(&view);
    assert!(text.contains("Health 55 of 100") && text.contains("−45  only 1 active peer"), "{text}");
}

#[test]
fn names_of_strangers_are_shown_without_characters_that_a_terminal_obeys() {
    let mut view = View::default();
    view.on_piece(&piece("report", report()));
    press(&mut view, KeyCode::Char('2'));
    let text = screen(&view);
    assert!(text.contains("b\u{fffd}[31mob\u{fffd}") && text.contains("2 nodes"), "{text}");
    press(&mut view, KeyCode::Tab);
    assert!(screen(&view).contains("news\u{fffd}"));
    view.on_piece(&piece("event", json!({"kind":"log","text":"a\u{9b}2J\nb"})));
    press(&mut view, KeyCode::Char('4'));
    let text = screen(&view);
    assert!(text.contains("log  a\u{fffd}2J\u{fffd}b"), "{text}");
    view.failed(&ExplorerError::Url("\u{1b}c".to_owned()));
    assert!(!screen(&view).contains('\u{1b}'));
    assert_eq!(clean("naïve 名前"), "naïve 名前");
}

#[test]
fn search_finds_peers_and_keys_leave_it_and_quit() {
    let mut view = View::default();
    view.on_piece(&piece("report", report()));
    press(&mut view, KeyCode::Char('/'));
    "ALIq".chars().for_each(|character| assert!(press(&mut view, KeyCode::Char(character))));
    press(&mut view, KeyCode::Backspace);
    let text = screen(&view);
    assert!(text.contains("1 nodes with") && text.contains("alice") && !text.contains("12D3KooB"), "{text}");
    assert!(press(&mut view, KeyCode::Enter) && press(&mut view, KeyCode::Esc));
    assert!(screen(&view).contains("2 nodes"));
    assert!(!press(&mut view, KeyCode::Char('q')));
    assert!(!view.on_key(Some(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL))));
}

#[test]
fn view_keeps_a_limited_number_of_events_newest_first() {
    let mut view = View::default();
    (0..MAX_EVENTS + 10)
        .for_each(|number| view.on_piece(&piece("event", json!({"kind":"log","text":number.to_string()}))));
    assert_eq!(view.events.len(), MAX_EVENTS);
    assert_eq!(view.events[0], format!("log  {}", MAX_EVENTS + 9));
    press(&mut view, KeyCode::Char('4'));
    (0..2 * MAX_EVENTS).for_each(|_| assert!(press(&mut view, KeyCode::Down)));
    assert_eq!(view.top, MAX_EVENTS - 1);
}
