//! What `--tui` shows: an overview, the peers with a search, the topics and the events.

use std::collections::VecDeque;

use p2p_node_protocol::{NetworkReport, ReportNode};
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, List, ListItem, Paragraph, Row, Table, Tabs, Wrap};
use serde_json::Value;

use super::ExplorerError;
use super::client::Piece;
use crate::terminal::is_hidden;

/// Maximum number of events that the view keeps. Our choice: some screens.
const MAX_EVENTS: usize = 500;
/// Maximum length of the search, in characters.
const MAX_SEARCH: usize = 64;

const TABS: [&str; 4] = ["1 Overview", "2 Peers", "3 Topics", "4 Events"];

/// What is on the screen.
#[derive(Default)]
pub(super) struct View {
    report: Option<NetworkReport>,
    /// Newest first.
    events: VecDeque<String>,
    tab: usize,
    search: String,
    is_typing: bool,
    /// First line of the list on the screen.
    top: usize,
    failure: Option<String>,
}

/// Returns a text of a stranger without characters that a terminal obeys or that turn the line around.
fn clean(text: &str) -> String {
    text.chars().map(|character| if is_hidden(character) { '\u{fffd}' } else { character }).collect()
}

fn number(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}{unit}"))
}

impl View {
    /// Takes an event of the stream.
    pub(super) fn on_piece(&mut self, piece: &Piece) {
        self.failure = None;
        match &*piece.name {
            "report" => match serde_json::from_str(&piece.data) {
                Ok(report) => self.report = Some(report),
                Err(error) => self.failure = Some(format!("the report cannot be read: {error}")),
            },
            "event" => {
                let Ok(event) = serde_json::from_str::<Value>(&piece.data) else { return };
                let text = |name: &str| clean(event[name].as_str().unwrap_or_default());
                let line = [text("kind"), text("topic"), text("peerId"), text("text")]
                    .into_iter()
                    .filter(|part| !part.is_empty());
                self.events.truncate(MAX_EVENTS - 1);
                self.events.push_front(line.collect::<Vec<_>>().join("  "));
            }
            _ => {}
        }
    }

    /// Shows that the node does not answer.
    pub(super) fn failed(&mut self, error: &ExplorerError) {
        self.failure = Some(clean(&error.to_string()));
    }

    /// Appends a character to the search, if there is room.
    fn type_character(&mut self, character: char) {
        if self.search.chars().count() < MAX_SEARCH && !character.is_control() {
            self.search.push(character);
            self.top = 0;
        }
    }

    /// Handles a key; `None` stands for a changed size. Returns `false` to quit.
    pub(super) fn on_key(&mut self, key: Option<KeyEvent>) -> bool {
        let Some(key) = key else { return true };
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return false,
            KeyCode::Esc | KeyCode::Enter if self.is_typing => self.is_typing = false,
            KeyCode::Backspace if self.is_typing => drop(self.search.pop()),
            KeyCode::Char(character) if self.is_typing => self.type_character(character),
            KeyCode::Char('q') => return false,
            KeyCode::Char('/') => (self.tab, self.is_typing, self.top) = (1, true, 0),
            KeyCode::Esc => self.search.clear(),
            KeyCode::Char(digit @ '1'..='4') => (self.tab, self.top) = (digit as usize - '1' as usize, 0),
            KeyCode::Tab | KeyCode::Right => (self.tab, self.top) = ((self.tab + 1) % TABS.len(), 0),
            KeyCode::BackTab | KeyCode::Left => {
                (self.tab, self.top) = ((self.tab + TABS.len() - 1) % TABS.len(), 0);
            }
            KeyCode::Down | KeyCode::Char('j') => {
                self.top = (self.top + 1).min(self.lines().saturating_sub(1))
            }
            KeyCode::Up | KeyCode::Char('k') => self.top = self.top.saturating_sub(1),
            _ => {}
        }
        true
    }

    /// Number of lines of the list on the screen.
    fn lines(&self) -> usize {
        match self.tab {
            1 => self.found().len(),
            2 => self.report.as_ref().map_or(0, |report| report.topics.len()),
            3 => self.events.len(),
            _ => 0,
        }
    }

    /// Returns the nodes that the search finds.
    fn found(&self) -> Vec<&ReportNode> {
        let search = self.search.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&search);
        let matches = |node: &&ReportNode| {
            has(&node.peer_id)
                || node.address.as_deref().is_some_and(has)
                || node.name.as_deref().is_some_and(has)
                || node.region.as_deref().is_some_and(has)
                || node.capabilities.iter().any(|capability| has(capability))
        };
        self.report.iter().flat_map(|report| &report.topology.nodes).filter(matches).collect()
    }

    /// Draws the screen.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)])
                .areas(frame.area());
        let tabs =
            Tabs::new(TABS).select(self.tab).highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_widget(tabs, head);
        match (&self.report, self.tab) {
            (None, 0..=2) => frame.render_widget(Paragraph::new("waiting for the node"), body),
            (Some(report), 0) => overview(report, frame, body),
            (_, 1) => self.peers(frame, body),
            (Some(report), 2) => topics(report, self.top, frame, body),
            _ => {
                let events = self.events.iter().skip(self.top).map(|event| ListItem::new(event.as_str()));
                frame.render_widget(List::new(events).block(Block::bordered().title("Events")), body);
            }
        }
        let foot_text = match (&self.failure, self.is_typing) {
            (Some(failure), _) => Span::styled(failure.as_str(), Style::new().fg(Color::Red)),
            (None, true) => Span::raw(format!("search: {}▏  enter ends", self.search)),
            (None, false) => Span::raw("q quit  tab next  / search peers  ↑↓ scroll"),
        };
        frame.render_widget(foot_text, foot);
    }

    fn peers(&self, frame: &mut Frame<'_>, area: Rect) {
        let found = self.found();
        let rows = found.iter().skip(self.top).map(|node| {
            let state = match (node.is_self, node.is_connected, node.is_active) {
                (true, ..) => "self",
                (_, true, _) => "connected",
                (.., true) => "active",
                _ => "quiet",
            };
            let style = match state {
                "quiet" => Style::new().fg(Color::DarkGray),
                "self" => Style::new().add_modifier(Modifier::BOLD),
                _ => Style::new(),
            };
            let text = |text: &Option<String>| clean(text.as_deref().unwrap_or("–"));
            let role = serde_json::to_value(node.role).ok();
            let role = role.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            Row::new([
                Cell::new(text(&node.name)),
                Cell::new(role),
                Cell::new(state),
                Cell::new(number(node.latency_ms, " ms")),
                Cell::new(number(node.health_score, "")),
                Cell::new(text(&node.address)),
                Cell::new(clean(&node.peer_id)),
            ])
            .style(style)
        });
        let widths = [
            Constraint::Length(16),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(10),
            Constraint::Length(6),
            Constraint::Length(42),
            Constraint::Min(12),
        ];
        let title = match self.search.as_str() {
            "" => format!("{} nodes", found.len()),
            search => format!("{} nodes with “{search}”", found.len()),
        };
        let head = Row::new(["name", "role", "state", "ping", "health", "agent", "peer"]);
        let head = head.style(Style::new().add_modifier(Modifier::UNDERLINED));
        let table = Table::new(rows, widths).header(head).block(Block::bordered().title(title));
        frame.render_widget(table, area);
    }
}

fn overview(report: &NetworkReport, frame: &mut Frame<'_>, area: Rect) {
    let metrics = &report.metrics;
    let color = match metrics.health_score {
        score if score >= 80.0 => Color::Green,
        score if score >= 50.0 => Color::Yellow,
        _ => Color::Red,
    };
    let health = format!("Health {:.0} of 100", metrics.health_score);
    let mut lines = vec![Line::styled(health, Style::new().fg(color).add_modifier(Modifier::BOLD))];
    lines.extend(
        metrics
            .causes
            .iter()
            .map(|cause| Line::raw(format!("  −{:.0}  {}", cause.penalty, clean(&cause.text)))),
    );
    lines.extend(figures(report));
    let text = Paragraph::new(lines).wrap(Wrap { trim: false }).block(Block::bordered().title("Network"));
    frame.render_widget(text, area);
}

/// Returns the figures of the overview, one a line.
fn figures(report: &NetworkReport) -> Vec<Line<'static>> {
    let metrics = &report.metrics;
    let messages = &report.messages;
    let (acks, pings) = (&report.latency.ack_ms, &report.latency.ping_ms);
    let line = |name: &str, value: String| Line::raw(format!("{name:<12}{value}"));
    let mut lines = vec![
        Line::raw(""),
        line("peers", format!("{} active of {} known", metrics.active_peers, metrics.total_peers)),
        line("rate", format!("{:.1} messages/s", metrics.message_rate)),
        line(
            "sent",
            format!("{}, {} delivered, {} expired", messages.sent, messages.delivered, messages.expired),
        ),
        line(
            "received",
            format!("{}, {} duplicate, {} dropped", messages.received, messages.duplicate, messages.dropped),
        ),
        line(
            "acks",
            format!(
                "p50 {}  p95 {}  p99 {}",
                number(acks.p50, " ms"),
                number(acks.p95, " ms"),
                number(acks.p99, " ms")
            ),
        ),
        line(
            "pings",
            format!(
                "p50 {}  p95 {}  p99 {}",
                number(pings.p50, " ms"),
                number(pings.p95, " ms"),
                number(pings.p99, " ms")
            ),
        ),
        line("load", format!("{:.0} %", report.load * 100.0)),
        line("bans", report.bans.to_string()),
        Line::raw(""),
    ];
    let of = |counts: &std::collections::BTreeMap<String, usize>| {
        let parts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {}", clean(name))).collect();
        parts.join(", ")
    };
    lines.push(line("roles", of(&report.distribution.by_role)));
    lines.push(line("versions", of(&report.distribution.by_version)));
    lines.push(line("can", of(&report.distribution.by_capability)));
    lines
}

fn topics(report: &NetworkReport, top: usize, frame: &mut Frame<'_>, area: Rect) {
    let rows = report.topics.iter().skip(top).map(|topic| {
        Row::new([
            clean(&topic.topic),
            topic.mesh_peers.to_string(),
            topic.subscribers.to_string(),
            format!("{:.1}/s", topic.rate),
            topic.received.to_string(),
            topic.sent.to_string(),
        ])
    });
    let widths = [
        Constraint::Min(20),
        Constraint::Length(6),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
    ];
    let head = Row::new(["topic", "mesh", "subscribers", "rate", "received", "sent"]);
    let head = head.style(Style::new().add_modifier(Modifier::UNDERLINED));
    frame.render_widget(Table::new(rows, widths).header(head).block(Block::bordered().title("Topics")), area);
}

#[cfg(test)]
mod tests;
