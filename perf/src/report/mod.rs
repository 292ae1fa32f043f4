//! stub
use std::path::Path;
pub(crate) fn write(_record: &Path, _output: &Path) -> anyhow::Result<()> {
    Ok(())
}
