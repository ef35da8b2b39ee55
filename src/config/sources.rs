//! Where the value of a setting comes from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::env::EnvFile;
use super::{ConfigError, Origin, Secret};

/// Where values come from, in order of precedence below the command line. An empty value counts as none.
pub(super) struct Sources<'a> {
    named: Option<(PathBuf, EnvFile)>,
    environment: &'a dyn Fn(&str) -> Option<OsString>,
    dot_env: Option<(PathBuf, EnvFile)>,
}

impl<'a> Sources<'a> {
    pub(super) fn read(
        named: Option<&Path>,
        environment: &'a dyn Fn(&str) -> Option<OsString>,
        directory: &Path,
    ) -> Result<Self, ConfigError> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |error| ConfigError::EnvFile(path, error)
        };
        let named = match named {
            None => None,
            Some(path) => {
                let file = EnvFile::read(&directory.join(path)).map_err(wrong(path))?;
                let file = file.ok_or_else(|| ConfigError::EnvFileMissing(path.to_owned()))?;
                Some((path.to_owned(), file))
            }
        };
        let path = Path::new(".env");
        let dot_env = EnvFile::read_shared(&directory.join(path)).map_err(wrong(path))?;
        let dot_env = dot_env.map(|file| (path.to_owned(), file));
        Ok(Sources { named, environment, dot_env })
    }

    /// The value that counts, read by `parse`.
    pub(super) fn setting<T>(
        &self,
        flag: &'static str,
        given: Option<String>,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let found = match given {
            Some(text) => Some((Origin::Flag(flag), Zeroizing::new(text))),
            None => self.variable(variable)?,
        };
        let Some((origin, text)) = found else { return Ok(None) };
        match parse(&text) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(ConfigError::Setting { origin, reason }),
        }
    }

    /// A value that is never taken from the command line, where other users of the machine could see it; and the env file
    /// that it came from, which nobody but its owner may read.
    pub(super) fn secret(
        &self,
        variable: &'static str,
    ) -> Result<(Option<Secret>, Option<PathBuf>), ConfigError> {
        let Some((origin, text)) = self.variable(variable)? else { return Ok((None, None)) };
        let Origin::File(_, path) = origin else { return Ok((Some(Secret(text)), None)) };
        let files = self.named.iter().chain(&self.dot_env);
        if let Some((path, file)) = files.into_iter().find(|(known, _)| *known == path) {
            file.check_secret(path, variable)?;
        }
        Ok((Some(Secret(text)), Some(path)))
    }

    fn variable(&self, name: &'static str) -> Result<Option<(Origin, Zeroizing<String>)>, ConfigError> {
        let in_file = |source: &Option<(PathBuf, EnvFile)>| {
            let (path, file) = source.as_ref()?;
            let text = file.get(name).filter(|text| !text.is_empty())?;
            Some((Origin::File(name, path.clone()), Zeroizing::new(text.to_owned())))
        };
        if let Some(found) = in_file(&self.named) {
            return Ok(Some(found));
        }
        match (self.environment)(name).map(OsString::into_string) {
            Some(Ok(text)) if is_service_link(name, &text) => Ok(in_file(&self.dot_env)),
            Some(Ok(text)) if !text.is_empty() => Ok(Some((Origin::Environment(name), Zeroizing::new(text)))),
            Some(Err(_)) => Err(ConfigError::Setting {
                origin: Origin::Environment(name),
                reason: "it is not UTF-8".to_owned(),
            }),
            _ => Ok(in_file(&self.dot_env)),
        }
    }
}

/// Whether Kubernetes set this variable: it gives every container `<SERVICE>_PORT=tcp://…` of each service of its namespace, and
/// `p2p-node` is what a service of nodes is called. No port is written so.
fn is_service_link(name: &str, text: &str) -> bool {
    name == "P2P_NODE_PORT" && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}
