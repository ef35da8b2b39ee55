//! Finds the value of a setting in its sources, in order of precedence.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::env::EnvFile;
use super::{ConfigError, Origin, Secret};

/// Values of a flag on the command line.
pub(super) trait Given {
    /// Returns the values as one text, or `None` if the flag is absent.
    fn text(&self) -> Option<String>;
}

impl Given for Option<String> {
    fn text(&self) -> Option<String> {
        self.clone()
    }
}

impl Given for Vec<String> {
    fn text(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.join(","))
    }
}

/// Sources of values below the command line, in order of precedence. An empty value counts as
/// unset.
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

    /// Parses the value of the source with the highest precedence.
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

    /// Returns a secret, and the env file that contains it. Secrets have no flag, because other
    /// users of the machine can see the command line.
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
                reason: "the value is not UTF-8".to_owned(),
            }),
            _ => Ok(in_file(&self.dot_env)),
        }
    }
}

/// Returns `true` if Kubernetes set this variable. For each service of the namespace Kubernetes
/// sets `<SERVICE>_PORT=tcp://…`, and `p2p-node` is a likely name for a service. Such a value is
/// never a port that a user configured.
fn is_service_link(name: &str, text: &str) -> bool {
    name == "P2P_NODE_PORT" && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}
