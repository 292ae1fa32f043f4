//! The files of the console and the examples, inside the binary.
//!
//! In: a request's path. Out: the file's bytes with the header values that belong to them. The
//! files are `web/` as it is in the source, so what is served is what is read; the build script adds
//! them in gzip and brotli. A file belongs here once it is in the table below.
//!
//! Invariants (tested): every link between the files leads to a file here or a route of the server;
//! nothing refers to another host, so that it works offline; nothing turns text into HTML.
//!
//! Deliberately absent: the state the console polls (`/console/state.json`, made by the server).

use crate::memory::Payload;
use std::sync::LazyLock;

/// A file to serve.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// For `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub bytes: &'static [u8],
    /// The same as a payload, so that it is sent by reference.
    pub payload: &'static Payload,
    /// For `ETag`, with its quotes; changes exactly when the bytes do.
    pub etag: &'static str,
    /// The same in gzip, where that is smaller.
    pub gzip: Option<&'static Coded>,
    /// The same in brotli, where that is smaller.
    pub brotli: Option<&'static Coded>,
    /// For `Content-Security-Policy`.
    pub content_security_policy: &'static str,
}

/// A file in a content coding.
#[derive(Debug)]
pub struct Coded {
    /// The body.
    pub payload: Payload,
    /// Another tag for other bytes (RFC 9110 8.8.3.3).
    pub etag: String,
}

/// The file at this path (without query), if there is one.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let path = match path {
        "/" | "/console" | "/console/" => "/console/index.html",
        "/examples" | "/examples/" => "/examples/index.html",
        // What browsers ask for when a page names no icon.
        "/favicon.ico" => "/console/icon.svg",
        path => path,
    };
    let index = FILES.iter().position(|file| file.path == path)?;
    let (file, etag, payload) = (FILES.get(index)?, ETAGS.get(index)?, PAYLOADS.get(index)?);
    let (gzip, brotli) = CODED.get(index)?;
    Some(Asset {
        content_type: file.content_type,
        bytes: file.bytes,
        payload,
        etag,
        gzip: gzip.as_ref(),
        brotli: brotli.as_ref(),
        content_security_policy: if path.starts_with("/examples/") {
            EXAMPLES_CONTENT_SECURITY_POLICY
        } else {
            CONTENT_SECURITY_POLICY
        },
    })
}

/// Every path that [`asset`] knows by its own name.
pub fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.path)
}

/// For the console: its own files only; `blob:` for media source extensions and the player's
/// worker; `'self'` in `connect-src` includes WebSockets of the same origin (CSP 3, 6.7.2.8).
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; \
     worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// For the examples: the same, but a page may carry its script, because being one short file is
/// what they are for. They are static and show text as text.
pub const EXAMPLES_CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     script-src 'self' 'unsafe-inline'; style-src 'self'; img-src 'self' data:; \
     media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Empty where it is not worth it, as the next.
    gzip: &'static [u8],
    brotli: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! files {
    ($($path:literal $content_type:ident,)*) => {
        [$(File {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../web", $path)),
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/web", $path, ".gz")),
            brotli: include_bytes!(concat!(env!("OUT_DIR"), "/web", $path, ".br")),
        },)*]
    };
}

static FILES: [File; 15] = files! {
    "/console/index.html" HTML,
    "/console/console.css" CSS,
    "/console/console.js" JAVASCRIPT,
    "/console/channel.js" JAVASCRIPT,
    "/console/dom.js" JAVASCRIPT,
    "/console/figures.js" JAVASCRIPT,
    "/console/player.js" JAVASCRIPT,
    "/console/icon.svg" SVG,
    "/examples/index.html" HTML,
    "/examples/chat.html" HTML,
    "/examples/player.html" HTML,
    "/examples/ticker.html" HTML,
    "/examples/examples.css" CSS,
    "/vendor/hls.min.js" JAVASCRIPT,
    "/vendor/hls.LICENSE.txt" TEXT,
};

/// Copied once, at the first request.
static PAYLOADS: LazyLock<Vec<Payload>> =
    LazyLock::new(|| FILES.iter().map(|file| Payload::copied_from(file.bytes)).collect());

/// Made once, at the first request: too many bytes to hash while compiling.
static ETAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| FILES.iter().map(|file| etag(file.bytes)).collect());

/// In gzip and in brotli, in the order of the files; copied once, at the first request.
static CODED: LazyLock<Vec<(Option<Coded>, Option<Coded>)>> = LazyLock::new(|| {
    let coded = |file: &File, name: &str, body: &[u8]| {
        let plain = etag(file.bytes);
        let etag = format!("{}-{name}\"", plain.trim_end_matches('"'));
        (!body.is_empty()).then(|| Coded { payload: Payload::copied_from(body), etag })
    };
    FILES
        .iter()
        .map(|file| (coded(file, "gzip", file.gzip), coded(file, "br", file.brotli)))
        .collect()
});

/// FNV-1a over the bytes, and their number. The files are ours, so nobody looks for collisions.
fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}-{:x}\"", bytes.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    /// What pages link to that the server makes itself.
    const ROUTES: [&str; 2] = ["/metrics", "/live/demo/index.m3u8"];

    fn own_files() -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = FILES.iter().filter(|file| !file.path.starts_with("/vendor/"));
        own.map(|file| (file.path, std::str::from_utf8(file.bytes).expect("text")))
    }

    /// What stands between `before` and the next quote, each time.
    fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split(['"', '\'']).next())
    }

    #[test]
    fn every_link_leads_somewhere() {
        let mut links = 0;
        for (path, text) in own_files() {
            let mut targets: Vec<String> = Vec::new();
            for attribute in [" href=\"", " src=\"", " data-source=\""] {
                targets.extend(quoted(text, attribute).map(str::to_owned));
            }
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            targets.extend(quoted(text, "from './").map(|name| format!("{folder}/{name}")));
            for target in targets.iter().filter(|target| !target.starts_with(['?', '#'])) {
                links += 1;
                assert!(
                    asset(target).is_some() || ROUTES.contains(&target.as_str()),
                    "{path} links to {target}"
                );
            }
        }
        assert!(links > 20, "only {links} links were seen");
    }

    #[test]
    fn nothing_refers_to_another_host() {
        for (path, text) in own_files() {
            for scheme in ["http://", "https://", "ws://", "wss://", "=\"//", "url("] {
                let allowed = "http://www.w3.org/2000/svg";
                let found = text.replace(allowed, "").contains(scheme);
                assert!(!found, "{path} contains {scheme}");
            }
        }
    }

    #[test]
    fn nothing_turns_text_into_html_or_code() {
        for (path, text) in own_files() {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(way), "{path} contains {way}");
            }
            if path.starts_with("/console/") {
                assert!(!text.contains("style=\""), "{path}: refused by its own policy");
                assert!(!text.contains("<script>"), "{path}: refused by its own policy");
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let known: HashSet<&str> = paths().collect();
        for folder in ["console", "examples"] {
            let listing = std::fs::read_dir(root.join(folder)).expect("the source is there");
            for entry in listing.map(|entry| entry.expect("readable")) {
                let path = format!("/{folder}/{}", entry.file_name().to_string_lossy());
                assert!(known.contains(path.as_str()), "{path} is not served");
            }
        }
    }

    #[test]
    fn assets_carry_their_headers() {
        let root = asset("/").expect("the console");
        assert_eq!(root.content_type, "text/html; charset=utf-8");
        assert_eq!(root.bytes, asset("/console/index.html").expect("the same").bytes);
        assert!(root.etag.starts_with('"') && root.etag.ends_with('"'));
        let etags: HashSet<&str> =
            paths().map(|path| asset(path).expect("in the table").etag).collect();
        assert_eq!(etags.len(), FILES.len(), "one each");
        assert!(!root.content_security_policy.contains("unsafe"));
        let chat = asset("/examples/chat.html").expect("the example");
        assert!(chat.content_security_policy.contains("'unsafe-inline'"));
        assert!(asset("/examples/").is_some());
        for path in ["", "/console/../Cargo.toml", "/console/state.json", "/vendor/", "/CONSOLE/"] {
            assert!(asset(path).is_none(), "{path}");
        }
    }

    #[test]
    fn compressed_forms_are_smaller_and_have_tags_of_their_own() {
        let player = asset("/vendor/hls.min.js").expect("the player");
        let (gzip, brotli) = (player.gzip.expect("smaller"), player.brotli.expect("smaller"));
        assert!(brotli.payload.len() < gzip.payload.len());
        assert!(gzip.payload.len() < player.bytes.len() / 2);
        let etags: HashSet<&str> = [player.etag, &gzip.etag, &brotli.etag].into();
        assert_eq!(etags.len(), 3);
        for etag in etags {
            assert!(etag.starts_with('"') && etag.ends_with('"') && etag.matches('"').count() == 2);
        }
        let short = asset("/examples/chat.html").expect("the example");
        assert!(short.bytes.len() < 1400 && short.gzip.is_none() && short.brotli.is_none());
        let mut unpacked = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(&gzip.payload[..]);
        std::io::Read::read_to_end(&mut reader, &mut unpacked).expect("gzip");
        assert_eq!(unpacked, player.bytes);
    }

    #[test]
    fn pages_have_what_tests_and_readers_look_for() {
        let page = |path| std::str::from_utf8(asset(path).expect("a page").bytes).expect("text");
        for id in ["id=\"player\"", "id=\"messages\"", "id=\"channel\"", "id=\"events\""] {
            assert!(page("/").contains(id), "{id}");
        }
        assert_eq!(page("/examples/chat.html").trim_end().lines().count(), 10);
    }
}
