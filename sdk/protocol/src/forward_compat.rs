//! Values of later versions. An enum may get new values. An enum that commands and events share has
//! no variant for unknown values, because a command must not contain one. The decoder of an event
//! therefore reads an unknown value as `None` or as the default, and does not reject the line.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum MaybeKnown<T> {
    Known(T),
    Unknown(serde::de::IgnoredAny),
}

pub(crate) fn known_or_none<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    Ok(match Option::<MaybeKnown<T>>::deserialize(from)? {
        Some(MaybeKnown::Known(known)) => Some(known),
        Some(MaybeKnown::Unknown(_)) | None => None,
    })
}

/// Reads a value that is present as `Some`, also if it is `null`.
pub(crate) fn given<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

pub(crate) fn known_or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(match MaybeKnown::deserialize(from)? {
        MaybeKnown::Known(known) => known,
        MaybeKnown::Unknown(_) => T::default(),
    })
}
