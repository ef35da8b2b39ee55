//! The plain text format of Prometheus, version 0.0.4, which tools without OpenMetrics read.

/// Converts the OpenMetrics format. Counters and infos carry their suffix in the head as well, and there are
/// no units and no end mark.
pub fn plain_text(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    // The text of the metric whose type is not known yet.
    let mut help = None;
    for line in open.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').map(|(_, help)| help);
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = text.split_once(' ') else { continue };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some(help) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
