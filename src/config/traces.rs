//! The settings of traces, by the names of OpenTelemetry.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Config, ConfigError, Secret};
use crate::io::traces::TracesConfig;
use crate::node::VERSION;

impl Config {
    /// Returns where the node exports its spans, if the configuration names a collector.
    ///
    /// # Errors
    /// Fails if `OTEL_EXPORTER_OTLP_HEADERS` is malformed. The error does not show it.
    pub fn traces(&self, peer_id: String) -> Result<Option<TracesConfig>, ConfigError> {
        let Some(url) = self.otlp_endpoint.clone() else { return Ok(None) };
        let headers = headers(self.otlp_headers.as_ref().map(Secret::expose).unwrap_or_default());
        let headers = headers.ok_or(ConfigError::TraceHeaders)?;
        let service_name = self.service_name.clone();
        Ok(Some(TracesConfig { url, headers, service_name, version: VERSION, instance: peer_id }))
    }
}

/// Parses the base URL of a collector and returns the URL for traces.
pub(super) fn otlp_endpoint(text: &str) -> Result<Url, String> {
    let invalid = || "the value must be an http or https URL".to_owned();
    let mut url = Url::parse(text.trim()).map_err(|_| invalid())?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(invalid());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL must not contain a password: put it into OTEL_EXPORTER_OTLP_HEADERS".to_owned());
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// Parses `name=value` pairs, separated by commas, with percent-encoded values.
fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let mut value = HeaderValue::from_bytes(&percent_decoded(value.trim())?).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::try_from(name.trim()).ok()?, value);
    }
    Some(headers)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.extend(hex::decode(code).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_a_base_url_without_password() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector.example/otlp/", "https://collector.example/otlp/v1/traces"),
        ] {
            assert_eq!(otlp_endpoint(text).unwrap().as_str(), url);
        }
        for bad in ["", "collector:4318", "grpc://collector", "data:x", "http://user:secret@collector"] {
            let error = otlp_endpoint(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let parsed = headers("x-key=a%20secret%2C, authorization=Basic abc=").unwrap();
        assert_eq!(
            (&parsed["x-key"], &parsed["authorization"]),
            (&"a secret,".parse().unwrap(), &"Basic abc=".parse().unwrap())
        );
        assert!(!format!("{parsed:?}").contains("secret"));
        for bad in ["x", "x=%zz", "x=%2", "a b=c", "x=a%0Ab"] {
            assert!(headers(bad).is_none(), "{bad}");
        }
    }
}
