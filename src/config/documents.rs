//! The settings as documents show them: `.env.example` and the table in `docs/operations.md`.

use std::fmt::Write;

use super::declare::Setting;
use super::settings::SETTINGS;

/// Maximum length of a line of `.env.example`.
const WIDTH: usize = 100;

const ENV_EXAMPLE_HEAD: &str = "\
# Settings of p2p-node, generated from src/config/settings.rs. Copy this file to `.env` (read from
# the working directory) or to another name (`p2p-node -e .env.agent1`), and run `chmod 600` on it.
#
# Order: flag, file named by -e, environment, `.env`, default. An empty value counts as none, and the
# node ignores variables that it does not know.
";

/// Returns the contents of `.env.example`.
pub fn env_example() -> String {
    let mut out = ENV_EXAMPLE_HEAD.to_owned();
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            let _ = write!(out, "\n# --- {group} ---\n");
        }
        out.push('\n');
        comment(&mut out, &sentences(setting));
        let _ = writeln!(out, "{}=", setting.variable);
    }
    out
}

/// Returns the table of settings, one line each, with its head.
pub fn table_of_settings() -> String {
    let mut out = String::from("| flag | variable | default | meaning |\n|---|---|---|---|\n");
    out.push_str("| `-e`, `--env-file` | | unset | Env file with any of these variables |\n");
    for setting in SETTINGS {
        let short = setting.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let flag = setting.flag.map(|flag| format!("{short}`{flag}` ")).unwrap_or_default();
        let default = default_of(setting).unwrap_or("unset");
        let meaning = setting.meaning.replace('<', "\\<");
        let _ = writeln!(out, "| {flag}| `{}` | {default} | {meaning} |", setting.variable);
    }
    out
}

fn default_of(setting: &Setting) -> Option<&'static str> {
    let text = setting.default.strip_prefix("default")?;
    Some(text.trim_start_matches(':').trim_start())
}

/// Returns the meaning, the default and the notes as sentences.
fn sentences(setting: &Setting) -> String {
    let mut text = format!("{}.", setting.meaning);
    if let Some(default) = default_of(setting) {
        let _ = write!(text, " Default: {default}.");
    }
    if !setting.notes.is_empty() {
        let _ = write!(text, " {}", setting.notes);
    }
    text
}

fn comment(out: &mut String, text: &str) {
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 && length + 1 + word.len() <= WIDTH {
            out.push(' ');
            length += 1;
        } else {
            out.push_str(if length > 0 { "\n# " } else { "# " });
            length = 2;
        }
        out.push_str(word);
        length += word.len();
    }
    out.push('\n');
}
