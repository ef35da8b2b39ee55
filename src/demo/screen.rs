//! What the person at the terminal sees.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

/// Width to which lines are shortened where there is no terminal to ask, in characters.
const DEFAULT_WIDTH: usize = 160;

/// Narrowest width to which lines are shortened: below it nothing could be read.
const MIN_WIDTH: usize = 40;

/// Room for the longest label, `bootstrap`.
const LABEL_WIDTH: usize = 9;

/// Where the demo is shown, and how.
pub struct Screen {
    out: Mutex<Box<dyn Write + Send>>,
    width: usize,
    colours: bool,
}

impl Screen {
    /// The process's stdout: as wide as the terminal, coloured on a terminal unless `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub fn stdout() -> Self {
        let out = std::io::stdout();
        let terminal = out.is_terminal();
        let width = match rustix::termios::tcgetwinsize(&out) {
            Ok(size) if terminal && size.ws_col > 0 => usize::from(size.ws_col),
            _ => DEFAULT_WIDTH,
        };
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen::new(Box::new(out), width, terminal && !unwanted)
    }

    /// A screen of `width` characters; it is taken to be at least 40 wide.
    pub fn new(out: Box<dyn Write + Send>, width: usize, colours: bool) -> Self {
        Screen { out: Mutex::new(out), width: width.max(MIN_WIDTH), colours }
    }

    /// Shows a line that went to (`>`) or came from (`<`) a node.
    pub(super) fn line(&self, name: &str, direction: char, text: &str) {
        let label = format!("{name:<LABEL_WIDTH$} {direction} ");
        let text = shorten(text, self.width - label.len());
        if self.colours {
            self.write(&format!("{}{label}\x1b[0m{text}\n", colour(name)));
        } else {
            self.write(&format!("{label}{text}\n"));
        }
    }

    /// Says what comes next.
    pub(super) fn note(&self, text: &str) {
        if self.colours {
            self.write(&format!("\x1b[1m# {text}\x1b[0m\n"));
        } else {
            self.write(&format!("# {text}\n"));
        }
    }

    fn write(&self, text: &str) {
        // A screen that went away, as with `| head`, is no reason to fail.
        if let Ok(mut out) = self.out.lock() {
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

fn colour(name: &str) -> &'static str {
    match name {
        "alice" => "\x1b[36m",
        "bob" => "\x1b[35m",
        _ => "\x1b[33m",
    }
}

fn shorten(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_fits_is_whole_and_a_longer_one_ends_in_an_ellipsis() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüx", 3), "äö…");
    }
}
