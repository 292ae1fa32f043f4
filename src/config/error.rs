//! Where a configuration is wrong: the error type and the search for the line.
//!
//! In: the text of the file, a byte offset or a dotted key. Out: `file:line: what is wrong`. The line of a key is found
//! by parsing the text a second time with spans, only when there is an error to report. Not here: what is wrong.

use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used. The fault is the operator's, and the message says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// Where the value came from.
    pub place: Place,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigError {
    pub(super) fn file(path: &Path, line: Option<usize>, message: String) -> Self {
        Self { place: Place::File { path: path.to_owned(), line }, message }
    }
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, and the line (from 1) where it is known.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, if the error belongs to one.
        line: Option<usize>,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The line, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The line on which a dotted key, or the nearest table above it, is set. `None` when it is nowhere in the file.
pub(super) fn line_of_key(text: &str, dotted: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for part in dotted.split('.') {
        let Some((key, value)) = table.get_key_value(part) else { break };
        found = Some(line_of(text, key.span().start));
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found
}
