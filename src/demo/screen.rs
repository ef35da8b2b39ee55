//! Terminal output of the demo.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

/// Width of the output, in characters, if stdout is not a terminal. Longer lines are shortened.
const DEFAULT_WIDTH: usize = 160;

/// Minimum width of the output, in characters. Shorter lines would not be readable.
const MIN_WIDTH: usize = 40;

/// Width of the longest label, `bootstrap`, in characters.
const LABEL_WIDTH: usize = 9;

/// Output of the demo.
pub struct Screen {
    out: Mutex<Box<dyn Write + Send>>,
    width: usize,
    colours: bool,
}

impl Screen {
    /// Returns a screen on stdout with the width of the terminal. Uses colours on a terminal unless
    /// `NO_COLOR` is set (<https://no-color.org>).
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

    /// Returns a screen of `width` characters, at least [`MIN_WIDTH`].
    pub fn new(out: Box<dyn Write + Send>, width: usize, colours: bool) -> Self {
        Screen { out: Mutex::new(out), width: width.max(MIN_WIDTH), colours }
    }

    /// Shows a line to (`>`) or from (`<`) a node.
    pub(super) fn line(&self, name: &str, direction: char, text: &str) {
        let label = format!("{name:<LABEL_WIDTH$} {direction} ");
        let text = shorten(text, self.width - label.len());
        if self.colours {
            self.write(&format!("{}{label}\x1b[0m{text}\n", colour(name)));
        } else {
            self.write(&format!("{label}{text}\n"));
        }
    }

    /// Shows a heading.
    pub(super) fn note(&self, text: &str) {
        if self.colours {
            self.write(&format!("\x1b[1m# {text}\x1b[0m\n"));
        } else {
            self.write(&format!("# {text}\n"));
        }
    }

    fn write(&self, text: &str) {
        // Ignores write errors: stdout may be closed, as with `| head`.
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
    fn short_line_is_complete_and_long_line_ends_in_ellipsis() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüx", 3), "äö…");
    }
}
