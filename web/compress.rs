//! The build script: the console's files in gzip and in brotli, as small as they get.
//!
//! In: `web/console`, `web/examples` and `web/vendor`. Out: `web/FOLDER/FILE.gz` and `.br` below `OUT_DIR`, for every
//! file; an empty one where the compressed form would not be smaller. Done here and not at the start of the server,
//! because the compressor of brotli leaves tens of megabytes with the allocator.

#![expect(clippy::print_stdout, reason = "a build script speaks to Cargo on its standard output")]

use flate2::{Compress, Compression, FlushCompress, Status};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let root = variable("CARGO_MANIFEST_DIR")?.join("web");
    let out = variable("OUT_DIR")?.join("web");
    for folder in ["console", "examples", "vendor"] {
        fs::create_dir_all(out.join(folder))?;
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let file = out.join(folder).join(entry.file_name());
                compress(&entry.path(), &file)?;
            }
        }
    }
    println!("cargo::rerun-if-changed=web/compress.rs");
    Ok(())
}

fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let body = fs::read(from)?;
    let named = |ending: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let smaller = |coded: Vec<u8>| {
        let is_worth_it = body.len() >= BODY_BYTES_MIN && coded.len() < body.len();
        if is_worth_it { coded } else { Vec::new() }
    };
    fs::write(named(".gz"), smaller(gzip(&body)?))?;
    fs::write(named(".br"), smaller(brotli(&body)?))
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + 1024);
    let mut state = Compress::new_gzip(Compression::best(), 15);
    match state.compress_vec(body, &mut out, FlushCompress::Finish)? {
        Status::StreamEnd => Ok(out),
        status => Err(io::Error::other(format!("gzip came to no end: {status:?}"))),
    }
}

fn brotli(mut body: &[u8]) -> io::Result<Vec<u8>> {
    let parameters =
        brotli::enc::BrotliEncoderParams { size_hint: body.len(), ..Default::default() };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut body, &mut out, &parameters)?;
    Ok(out)
}

/// A shorter file fits into one packet as it is (`TEXT_BYTES_MIN` of the server).
const BODY_BYTES_MIN: usize = 1400;
