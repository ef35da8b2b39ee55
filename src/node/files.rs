//! Starts the driver of files.

use std::io;
use std::path::{Path, PathBuf};

use super::start::StartError;
use crate::config::Config;
use crate::io::files::Files;
use crate::io::swarm::SwarmDriver;
use p2p_node_store::disk::make_directory;

/// Longest path of the directory for received files, in bytes. Our choice: each `message` with a file carries it.
const MAX_FILES_DIR_BYTES: usize = 1024;

/// Starts the driver of files. Creates the directory for received files, if there is to be one.
pub(super) fn open_files(config: &Config, net: &mut SwarmDriver) -> Result<Files, StartError> {
    let directory = config
        .files_dir
        .as_deref()
        .map(|path| open_directory(path).map_err(|why| StartError::FilesDir { path: path.to_owned(), why }));
    let lacks_streams = || StartError::System("the swarm has no streams for files".to_owned());
    let streams = net.take_file_streams().ok_or_else(lacks_streams)?;
    Ok(Files::new(directory.transpose()?, config.data_dir.is_some(), streams))
}

/// Creates a directory, and returns its absolute path, as messages name it.
fn open_directory(path: &Path) -> io::Result<PathBuf> {
    make_directory(path)?;
    let path = path.canonicalize()?;
    match path.to_str() {
        Some(text) if text.len() <= MAX_FILES_DIR_BYTES => Ok(path),
        _ => {
            let why = format!("the path is no UTF-8, or has more than {MAX_FILES_DIR_BYTES} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidFilename, why))
        }
    }
}
