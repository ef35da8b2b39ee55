//! Finds the paths that a Rust source names. It reads tokens, not types: enough to hold the arrows, and short.

/// The paths that non-test code names: those of `use` trees in full, with `crate::` put for `self` and `super`,
/// and the others as written. `module` is the file's own path, such as `crate::core::delivery`.
pub fn paths(source: &str, module: &str) -> Vec<String> {
    let code = strip(without_tests(source));
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some((start, token)) = next_word(rest) {
        if token == "use" {
            let tree = &rest[start + 3..];
            let end = tree.find(';').unwrap_or(tree.len());
            expand("", &tree[..end], &mut found);
            rest = &tree[end..];
        } else {
            let (path, length) = path_at(&rest[start..]);
            found.push(path);
            rest = &rest[start + length..];
        }
    }
    found.iter().map(|path| absolute(path, module)).collect()
}

/// The module that a file is, such as `crate::core::delivery` for `src/core/delivery/mod.rs`.
pub fn module_of(file: &str) -> String {
    let path = file.rsplit_once("src/").map_or(file, |(_, path)| path).trim_end_matches(".rs");
    let parts = path.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main"));
    ["crate"].into_iter().chain(parts).collect::<Vec<_>>().join("::")
}

/// By convention the tests of a file are its end.
fn without_tests(source: &str) -> &str {
    source.split_once("#[cfg(test)]").map_or(source, |(code, _)| code)
}

/// Blanks out comments and what is inside string and character literals.
fn strip(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            literal_end(rest, '"')
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let (start, end) = if rest.starts_with("r\"") { (2, "\"") } else { (3, "\"#") };
            rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len())
        } else if first == '\'' && is_char_literal(rest) {
            literal_end(rest, '\'')
        } else {
            0
        };
        if skip == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[skip..];
        }
    }
    out
}

fn literal_end(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_char_literal(rest: &str) -> bool {
    let mut letters = rest.chars().skip(1);
    letters.next() == Some('\\') || letters.next() == Some('\'')
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn next_word(text: &str) -> Option<(usize, &str)> {
    let start = text.find(is_word)?;
    let length = text[start..].find(|letter| !is_word(letter)).unwrap_or(text.len() - start);
    Some((start, &text[start..start + length]))
}

/// The path that begins with the word at the start of `text`, and its length there.
fn path_at(text: &str) -> (String, usize) {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let word = text[length..].find(|letter| !is_word(letter)).unwrap_or(text.len() - length);
        path.push_str(&text[length..length + word]);
        length += word;
        let more = text[length..].starts_with("::") && text[length + 2..].starts_with(is_word);
        if !more {
            return (path, length);
        }
        path.push_str("::");
        length += 2;
    }
}

/// Writes out the tree of a `use`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some(brace) = tree.find('{') {
        let prefix = format!("{prefix}{}", tree[..brace].trim());
        let (mut depth, mut start) = (0, brace + 1);
        for (at, letter) in tree.char_indices().skip(brace) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (letter == ',' && depth == 1) || depth == 0 {
                expand(&prefix, &tree[start..at], found);
                start = at + 1;
            }
            if depth == 0 {
                return;
            }
        }
    } else if !tree.is_empty() {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        let path = format!("{prefix}{name}");
        found.push(path.trim_end_matches("::self").to_owned());
    }
}

fn absolute(path: &str, module: &str) -> String {
    let (mut base, mut rest) = (module, path.trim_start_matches("::"));
    let mut relative = false;
    loop {
        if let Some(tail) = rest.strip_prefix("self::") {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("super::") {
            base = base.rsplit_once("::").map_or("crate", |(parent, _)| parent);
            rest = tail;
        } else {
            return if relative { format!("{base}::{rest}") } else { rest.to_owned() };
        }
        relative = true;
    }
}

#[test]
fn use_trees_are_written_out_and_relative_paths_made_absolute() {
    let source = "use std::{fs, io::{self, Read as _}, time::*};\nuse super::super::io::Net;\n";
    let expected = ["std::fs", "std::io", "std::io::Read", "std::time::*", "crate::io::Net"];
    assert_eq!(paths(source, "crate::core::delivery")[..5], expected);
}

#[test]
fn comments_strings_and_tests_name_nothing() {
    let source = r##"
        // tokio::spawn
        /* tokio::spawn */
        fn f<'a>(x: &'a str) { let _ = ("tokio::a \" tokio::b", r"tokio::c", r#"tokio::d"#, '"', "tokio::e"); }
        #[cfg(test)]
        mod tests { use tokio::time; }
    "##;
    let found = paths(source, "crate::core");
    assert!(found.iter().all(|path| !path.contains("tokio")), "{found:?}");
    assert!(
        paths("let t = std::time::Instant::now();", "crate").contains(&"std::time::Instant::now".to_owned())
    );
}

#[test]
fn a_file_is_a_module() {
    assert_eq!(module_of("src/core/delivery/mod.rs"), "crate::core::delivery");
    assert_eq!(module_of("src/io/crypto.rs"), "crate::io::crypto");
    assert_eq!(module_of("sdk/rust/src/lib.rs"), "crate");
}
