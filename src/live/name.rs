//! The name of a live stream: `{app}/{name}`.
//!
//! In: text from a URL or an RTMP command. Out: [`StreamName`], which cannot be wrong, or what is
//! wrong with it, in words for whoever typed it. Names become paths, so they cannot leave a folder,
//! hide behind an extension that a protocol appends, or need escaping.
//!
//! Deliberately absent: `@rendition`, which is refused by name until several renditions of a stream
//! make one playlist.

use std::fmt;
use std::sync::Arc;

/// The longest app or name, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// A valid `{app}/{name}`. Cloning it is a count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    full: Arc<str>,
    app_length: usize,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no `/`.
    #[error("a stream is APP/NAME, as in live/cam")]
    NoApp,
    /// The app or the name is empty.
    #[error("a stream's app and name have at least one character")]
    Empty,
    /// The app or the name is too long.
    #[error("a stream name has at most {NAME_BYTES_MAX} characters")]
    TooLong,
    /// A character that is not allowed, or not there.
    #[error(
        "character {0:?} in a stream name; allowed are letters and digits of ASCII, '_', '-' and, \
         after the first, '.'"
    )]
    Character(char),
    /// Two dots in a row.
    #[error("two dots in a row in a stream name")]
    Dots,
    /// An extension that a protocol appends.
    #[error("a stream name cannot end in {0}, which is part of URLs")]
    Extension(&'static str),
    /// `name@rendition`.
    #[error(
        "renditions (name@rendition) are not supported yet: publish without the part from '@' on"
    )]
    Rendition,
}

impl StreamName {
    /// Reads `{app}/{name}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (app, name) = text.split_once('/').ok_or(NameError::NoApp)?;
        Self::from_parts(app, name)
    }

    /// Joins an app and a name.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_parts(app: &str, name: &str) -> Result<Self, NameError> {
        check(app)?;
        check(name)?;
        Ok(Self { full: format!("{app}/{name}").into(), app_length: app.len() })
    }

    /// `{app}/{name}`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// The part before the `/`.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.full[..self.app_length]
    }

    /// The part after the `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.full[self.app_length + 1..]
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StreamName({})", self.full)
    }
}

fn check(part: &str) -> Result<(), NameError> {
    if part.is_empty() {
        return Err(NameError::Empty);
    }
    if part.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    for (index, character) in part.char_indices() {
        match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => {}
            '.' if index > 0 => {}
            '@' if index > 0 => return Err(NameError::Rendition),
            other => return Err(NameError::Character(other)),
        }
    }
    if part.contains("..") {
        return Err(NameError::Dots);
    }
    match EXTENSIONS.into_iter().find(|extension| part.ends_with(extension)) {
        Some(extension) => Err(NameError::Extension(extension)),
        None => Ok(()),
    }
}

const EXTENSIONS: [&str; 3] = [".flv", ".m3u8", ".mpd"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_one_rule_at_a_time() {
        let long = format!("live/{}", "a".repeat(NAME_BYTES_MAX));
        for good in ["live/cam", "live/a", "live/-x_1.2", "a.b/c.mp4", &long] {
            let name = StreamName::parse(good).expect("a valid name");
            assert_eq!(name.as_str(), good);
            assert_eq!(format!("{}/{}", name.app(), name.name()), good);
        }
        let too_long = format!("live/{}", "a".repeat(NAME_BYTES_MAX + 1));
        for (bad, why) in [
            ("live", NameError::NoApp),
            ("/cam", NameError::Empty),
            ("live/", NameError::Empty),
            (too_long.as_str(), NameError::TooLong),
            ("live/.cam", NameError::Character('.')),
            ("live/a b", NameError::Character(' ')),
            ("live/a/b", NameError::Character('/')),
            ("live/caf\u{e9}", NameError::Character('\u{e9}')),
            ("live/a..b", NameError::Dots),
            ("live/cam.flv", NameError::Extension(".flv")),
            ("live/cam.m3u8", NameError::Extension(".m3u8")),
            ("live/cam.mpd", NameError::Extension(".mpd")),
            ("live/cam@720p", NameError::Rendition),
        ] {
            assert_eq!(StreamName::parse(bad), Err(why), "{bad}");
        }
    }
}
