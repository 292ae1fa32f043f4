//! Scenario files: a command with its options, named and explained.
//!
//! In: TOML with `command`, an optional `about`, and a table `options` whose keys are the command's
//! long options. Out: the arguments that a person would have typed. So an option has one name and
//! one default, and an unknown key is the command line's own error.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use toml::Value;

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    command: String,
    /// What the scenario is for.
    #[serde(default)]
    about: String,
    #[serde(default)]
    options: toml::Table,
}

/// The command line that a file stands for, and what it is for. `more` follows and wins.
pub(crate) fn arguments(path: &Path, more: &[String]) -> Result<(Vec<String>, String)> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (mut arguments, about) = parse(&text).with_context(|| path.display().to_string())?;
    arguments.extend_from_slice(more);
    Ok((arguments, about))
}

fn parse(text: &str) -> Result<(Vec<String>, String)> {
    let File { command, about, options } = toml::from_str(text)?;
    if command == "run" {
        bail!("a scenario does not run scenarios");
    }
    let mut arguments = vec![command];
    for (key, value) in &options {
        let option = format!("--{key}");
        match value {
            Value::Boolean(false) => {}
            Value::Boolean(true) => arguments.push(option),
            Value::Array(values) => {
                let values: Result<Vec<String>> =
                    values.iter().map(|one| scalar(key, one)).collect();
                arguments.extend([option, values?.join(",")]);
            }
            value => arguments.extend([option, scalar(key, value)?]),
        }
    }
    Ok((arguments, about))
}

fn scalar(key: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => bail!("{key} cannot be {other}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{arguments, parse};
    use crate::Arguments;

    #[test]
    fn options_become_arguments() {
        let text = "command = \"echo\"\n[options]\nconnections = [1, 64]\ngate = true\n\
                    null = false\nseconds = 0.5\npeers = \"none\"\n";
        let (arguments, _) = parse(text).unwrap();
        assert_eq!(arguments[0], "echo");
        for expected in [["--connections", "1,64"], ["--seconds", "0.5"], ["--peers", "none"]] {
            assert!(arguments.windows(2).any(|two| two == expected), "{expected:?}");
        }
        assert!(arguments.contains(&"--gate".into()) && !arguments.contains(&"--null".into()));
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        assert!(parse("command = \"echo\"\nconnections = 1\n").is_err());
        assert!(parse("options = {}\n").is_err());
        assert!(parse("command = \"run\"\n").is_err());
        assert!(parse("command = \"echo\"\noptions = { x = { y = 1 } }\n").is_err());
        let (arguments, _) = parse("command = \"echo\"\noptions = { sekonds = 1 }\n").unwrap();
        assert!(Arguments::try_parse_from([vec!["x".into()], arguments].concat()).is_err());
    }

    /// Every committed scenario is one that the command line takes, also with options on top.
    #[test]
    fn committed_scenarios() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let (arguments, about) = arguments(&path, &["--results".into(), "x".into()]).unwrap();
            assert!(!about.is_empty(), "{} says what it is for", path.display());
            let parsed = Arguments::try_parse_from([vec!["x".into()], arguments].concat());
            assert!(parsed.is_ok(), "{}: {}", path.display(), parsed.unwrap_err());
            count += 1;
        }
        assert!(count >= 5);
    }
}
