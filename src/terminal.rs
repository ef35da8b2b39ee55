//! Texts of strangers on a terminal.

/// Returns `true` for a character that a terminal obeys, or that hides text or turns it around.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}')
}

/// Returns a text on one line, with escapes as in Rust for hidden characters.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => escaped.extend(character.escape_default()),
            _ if is_hidden(character) => escaped.extend(character.escape_unicode()),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_letters_of_all_scripts_are_not() {
        assert_eq!(escaped("\u{1b}[2J\u{7}\u{9b}A"), "\\u{1b}[2J\\u{7}\\u{9b}A");
        assert_eq!(escaped("a\r\nb\tc"), "a\\r\\nb\\tc");
        assert_eq!(escaped("\u{202e}txt.exe\u{2066}\u{feff}"), "\\u{202e}txt.exe\\u{2066}\\u{feff}");
        for plain in ["e\u{301}", "नमस्ते", "日本語", "\"quoted\" \\ it's", "🙂"] {
            assert_eq!(escaped(plain), plain);
        }
    }
}
