//! What the commands write to stdout: lines for people, or events as JSON.

use std::io::{self, Write};

use p2p_node_protocol::line::encode_event;
use p2p_node_protocol::{Encoding, Event};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ShellError;
use crate::terminal::escaped;

/// The output of a command.
pub(super) struct Output {
    out: Box<dyn Write>,
    is_json: bool,
}

impl Output {
    pub(super) fn new(out: impl Write + 'static, is_json: bool) -> Self {
        Output { out: Box::new(out), is_json }
    }

    /// Writes an event, as JSON or as lines of text.
    pub(super) fn event(&mut self, event: &Event, text: impl FnOnce() -> String) -> Result<(), ShellError> {
        let mut line = Vec::new();
        match self.is_json {
            true => encode_event(event, None, &mut line),
            false => line = text().into_bytes(),
        }
        self.write(&line).map_err(ShellError::Output)
    }

    /// Writes an object that is no event.
    pub(super) fn object(&mut self, object: &Value, text: impl FnOnce() -> String) -> Result<(), ShellError> {
        let line = if self.is_json { format!("{object}\n") } else { text() };
        self.write(line.as_bytes()).map_err(ShellError::Output)
    }

    /// Writes why the command failed, for a program that reads JSON.
    pub(super) fn error(&mut self, error: &ShellError) -> io::Result<()> {
        match self.is_json {
            true => self.write(format!("{}\n", error.to_json()).as_bytes()),
            false => Ok(()),
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.out.write_all(text)?;
        self.out.flush()
    }
}

/// Returns data of another agent as text: a string without its quotes, other JSON as it came.
pub(super) fn data(data: &RawValue, encoding: Option<Encoding>) -> String {
    match (encoding, serde_json::from_str::<String>(data.get())) {
        (None, Ok(text)) => text,
        (Some(_), Ok(text)) => format!("base64:{text}"),
        (_, Err(_)) => data.get().to_owned(),
    }
}

/// Returns a name that another agent chose, in quotes.
pub(super) fn quoted(text: &str) -> String {
    escaped(&Value::from(text).to_string())
}

/// Returns a time as in RFC 3339, in seconds.
pub(super) fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Returns the date of a day, counted from 1970. The years begin in March, so that the leap day is the last
/// one; an era has the 146,097 days of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_of_the_calendar() {
        // From `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_942_667, "2026-11-29T08:57:47Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds * 1000 + 999), text);
        }
    }

    #[test]
    fn data_of_others_shows_strings_bytes_and_json() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(data(&raw(r#""a\nb""#), None), "a\nb");
        assert_eq!(data(&raw(r#""AAE=""#), Some(Encoding::Base64)), "base64:AAE=");
        assert_eq!(data(&raw(r#"{"b":1,"a":[2]}"#), None), r#"{"b":1,"a":[2]}"#);
        assert_eq!(quoted("a\" \u{1b}"), "\"a\\\" \\u001b\"");
    }
}
