//! Finds the binary of the node.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::Error;

/// The environment variable that names the binary if the builder does not.
pub(crate) const BINARY_VARIABLE: &str = "P2P_NODE_BIN";

/// The file name of the binary that the SDK searches for in directories.
const BINARY_NAME: &str = "p2p-node";

/// Finds the binary: the builder's path, else the variable's path, else beside this program, else
/// in `path`, if given.
pub(crate) fn locate(
    named: Option<PathBuf>,
    variable: Option<OsString>,
    path: Option<OsString>,
) -> Result<PathBuf, Error> {
    if let Some(path) = named.or_else(|| variable.filter(|path| !path.is_empty()).map(PathBuf::from)) {
        return Ok(path);
    }
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let path = path.unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path)).map(|place| place.join(BINARY_NAME));
    let mut searched = format!("{BINARY_VARIABLE} (not set)");
    for place in places {
        if place.is_file() {
            return Ok(place);
        }
        searched.push_str(&format!(", {}", place.display()));
    }
    Err(Error::BinaryNotFound { searched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_is_searched_by_name_variable_directory_and_path() {
        let find = |named: Option<&str>, variable: Option<&str>, path: Option<&str>| {
            locate(named.map(PathBuf::from), variable.map(OsString::from), path.map(OsString::from))
        };
        assert_eq!(find(Some("/a"), Some("/b"), Some("/c")).ok(), Some(PathBuf::from("/a")));
        assert_eq!(find(None, Some("/b"), Some("/c")).ok(), Some(PathBuf::from("/b")));
        let beside = std::env::current_exe().unwrap().with_file_name(BINARY_NAME).display().to_string();
        for (path, is_searched) in [(None, false), (Some("/nowhere:/never"), true)] {
            let missing = find(None, Some(""), path).unwrap_err();
            assert_eq!(missing.code(), "BINARY_NOT_FOUND");
            let message = missing.to_string();
            assert!(message.contains("P2P_NODE_BIN") && message.contains(&beside), "{message}");
            assert_eq!(message.contains("/nowhere/p2p-node, /never/p2p-node"), is_searched, "{message}");
        }
        let directory = std::env::temp_dir().join(format!("p2p-node-sdk-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(BINARY_NAME), "").unwrap();
        let found = find(None, None, Some(&format!("/nowhere:{}", directory.display())));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found.ok(), Some(directory.join(BINARY_NAME)));
    }
}
