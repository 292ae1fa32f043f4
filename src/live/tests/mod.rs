//! Whole streams with synthetic access units, each read back by an oracle that knows only the
//! formats.

mod harness;
mod oracle;
mod scenarios;
