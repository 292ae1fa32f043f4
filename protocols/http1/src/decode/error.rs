//! What a client can do wrong, with the status and the name its answer carries.

/// A request that could not be read. The answer is an error and the end of the connection: where
/// the next request would begin is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct Error {
    /// Which rule.
    pub kind: ErrorKind,
    /// The offset of the byte that broke it, in the input presented to the call that found it.
    pub offset: usize,
}

impl Error {
    /// The status of the answer.
    pub const fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The stable name for an error body.
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
}

macro_rules! error_kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:literal, $code:literal, $message:literal;)+) => {
        /// The rules a client can break, and what it can ask for that we lack (501, 505, 417).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ #[error($message)] $name,)+
        }

        impl ErrorKind {
            /// The status of the answer.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// The stable name for an error body.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Every kind there is.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

error_kinds! {
    /// The first byte of a TLS handshake.
    TlsOnPlainPort = 400, "tls_on_plain_port", "the client speaks TLS to a plain HTTP port";
    /// The first byte can't begin a method.
    NotHttp = 400, "not_http", "the client does not speak HTTP/1.1";
    /// RFC 9112 2.2: we take no line that ends in LF alone.
    BareLineFeed = 400, "bare_line_feed", "a line ends in LF without CR";
    /// RFC 9112 2.2.
    BareCarriageReturn = 400, "bare_carriage_return", "a CR stands without LF";
    /// RFC 9112 3: method, one space, target, one space, version.
    BadRequestLine = 400, "bad_request_line", "the request line is not `METHOD target HTTP/1.1`";
    /// RFC 9112 3.2.
    BadTarget = 400, "bad_target", "the request target is neither a path nor an http URL";
    /// A limit of ours.
    TargetTooLong = 414, "target_too_long", "the request target is longer than this server accepts";
    /// RFC 9110 15.6.6.
    UnsupportedVersion = 505, "unsupported_version", "only HTTP/1.0 and HTTP/1.1 are spoken here";
    /// A limit of ours.
    HeadTooLarge = 431, "head_too_large", "the request head is larger than this server accepts";
    /// A limit of ours.
    TooManyHeaders = 431, "too_many_headers", "the request has more header fields than this server accepts";
    /// RFC 9112 5.2.
    ObsoleteFold = 400, "obsolete_fold", "a header line begins with whitespace";
    /// RFC 9112 5.1.
    SpaceBeforeColon = 400, "space_before_colon", "whitespace stands between a header name and its colon";
    /// RFC 9110 5.1.
    BadHeaderName = 400, "bad_header_name", "a header name is empty or has a byte that is not allowed";
    /// RFC 9110 5.5.
    BadHeaderValue = 400, "bad_header_value", "a header value has a control byte";
    /// RFC 9112 3.2.
    MissingHost = 400, "missing_host", "an HTTP/1.1 request needs a Host header";
    /// RFC 9112 3.2.
    DuplicateHost = 400, "duplicate_host", "the request has more than one Host header";
    /// RFC 9112 3.2.
    BadHost = 400, "bad_host", "the Host header is not `host` or `host:port`";
    /// RFC 9112 3.2: both name the same host. A proxy that goes by the other of the two sent this elsewhere.
    HostMismatch = 400, "host_mismatch", "the request target names another host than the Host header";
    /// RFC 9110 8.6.
    BadContentLength = 400, "bad_content_length", "Content-Length is not a decimal number";
    /// RFC 9112 6.3: we take no list and no repetition, also not of equal values.
    DuplicateContentLength = 400, "duplicate_content_length", "the request has more than one Content-Length";
    /// RFC 9112 6.1, 6.3: the sign of a smuggled request.
    LengthAndTransferEncoding = 400, "length_and_transfer_encoding", "the request has both Content-Length and Transfer-Encoding";
    /// RFC 9112 6.1: HTTP/1.0 has no transfer codings.
    TransferEncodingInHttp10 = 400, "transfer_encoding_in_http10", "an HTTP/1.0 request has Transfer-Encoding";
    /// RFC 9112 6.1, 6.3.
    BadTransferEncoding = 400, "bad_transfer_encoding", "Transfer-Encoding is not exactly `chunked`";
    /// RFC 9112 6.1.
    UnsupportedTransferCoding = 501, "unsupported_transfer_coding", "only the transfer coding `chunked` is understood here";
    /// RFC 9110 10.1.1.
    UnsupportedExpectation = 417, "unsupported_expectation", "only `Expect: 100-continue` is understood here";
    /// A limit of ours.
    BodyTooLarge = 413, "body_too_large", "the request body is larger than this server accepts";
    /// What follows the head of an upgrade is the new protocol, for everyone on the way.
    UpgradeWithBody = 400, "upgrade_with_body", "a WebSocket upgrade must not have a body";
    /// RFC 9112 7.1.
    BadChunkSize = 400, "bad_chunk_size", "a chunk size is not a hexadecimal number";
    /// RFC 9112 7.1.1, and a limit of ours.
    BadChunkExtension = 400, "bad_chunk_extension", "a chunk extension is not `;name` or `;name=value`, or is too long";
    /// RFC 9112 7.1.
    BadChunkEnd = 400, "bad_chunk_end", "a chunk is longer than its size";
    /// RFC 9112 7.1.2.
    BadTrailer = 400, "bad_trailer", "a trailer line is not a header field";
    /// RFC 9110 6.5.1: what frames, routes or steers a message cannot come behind it.
    ForbiddenTrailer = 400, "forbidden_trailer", "a trailer is a field that frames or routes a message";
    /// A limit of ours.
    TrailersTooLarge = 431, "trailers_too_large", "the trailers are larger than this server accepts";
}
