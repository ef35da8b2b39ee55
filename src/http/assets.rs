//! The files of the explorer page, which are part of the binary.

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Declares the files: their types and names.
macro_rules! assets {
    ($($kind:ident $name:literal,)*) => {
        /// The files by their paths.
        pub(super) const ASSETS: &[(&str, &str, &str)] =
            &[$((concat!("/", $name), $kind, include_str!(concat!("page/", $name)))),*];
    };
}

assets! {
    HTML "index.html",
    STYLE "explorer.css",
    SCRIPT "events.js",
    SCRIPT "explorer.js",
    SCRIPT "feed.js",
    SCRIPT "layout.js",
    SCRIPT "list.js",
    SCRIPT "map.js",
    SCRIPT "panel.js",
    SCRIPT "plots.js",
    SCRIPT "text.js",
    SCRIPT "traffic.js",
}

/// Returns the type and the text of a file of the page.
pub(super) fn asset(path: &str) -> Option<(&'static str, &'static str)> {
    let path = if path == "/" { "/index.html" } else { path };
    ASSETS.iter().find(|(name, ..)| *name == path).map(|(_, kind, text)| (*kind, *text))
}
