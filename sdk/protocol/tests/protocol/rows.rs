//! Reads the tables of `fixtures/protocol`.

/// Returns the rows of a table, split at tabs into this many columns; the last may contain tabs.
pub fn rows(table: &str, columns: usize) -> impl Iterator<Item = Vec<&str>> {
    table
        .lines()
        .filter(|row| !row.is_empty() && !row.starts_with('#'))
        .map(move |row| row.splitn(columns, '\t').collect())
}

/// Replaces each `<hh>` with the byte of that hexadecimal value.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, hex)) = rest.split_once('<') {
        out.extend_from_slice(before.as_bytes());
        out.push(u8::from_str_radix(&hex[..2], 16).unwrap());
        rest = hex[2..].strip_prefix('>').unwrap();
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
