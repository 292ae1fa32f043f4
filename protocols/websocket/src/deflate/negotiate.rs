//! Which parameters both sides agree on (RFC 7692 7.1).
//!
//! In: the `Sec-WebSocket-Extensions` fields of a request and the operator's settings; or, as the
//! client, those of an answer and what was offered. Out: an [`Agreement`], which writes the answer,
//! or none. Invariants: an offer with a parameter that is unknown, given twice, or has a value it
//! may not have is declined (7.1), never accepted in part; the answer holds nothing that the offer
//! did not allow; the window answered is never larger than the one asked for.

use std::fmt;

use super::{Settings, WindowBits, WindowClass};
use crate::handshake::extensions::{Extension, extensions};

/// The extension's registered token (RFC 7692 7).
pub const NAME: &str = "permessage-deflate";

/// What both sides agreed on: the parameters of the server's answer, field for field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreement {
    /// The server compresses each message by itself (RFC 7692 7.1.1.1).
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself (RFC 7692 7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's window as answered; absent: 15 (RFC 7692 7.1.2.1).
    pub server_max_window_bits: Option<WindowBits>,
    /// The client's window as answered; absent: 15 (RFC 7692 7.1.2.2).
    pub client_max_window_bits: Option<WindowBits>,
}

impl Agreement {
    /// The window that a server with these settings compresses with. It may be smaller than agreed.
    pub fn server_window(&self, settings: &Settings) -> WindowBits {
        self.server_max_window_bits.unwrap_or(WindowBits::MAX).min(settings.server_max_window_bits)
    }

    /// The window that a client with these settings compresses with.
    pub fn client_window(&self, settings: &Settings) -> WindowBits {
        self.client_max_window_bits.unwrap_or(WindowBits::MAX).min(settings.client_max_window_bits)
    }

    /// With whom this peer shares what the server compresses; `None` if with nobody.
    pub fn window_class(&self, settings: &Settings) -> Option<WindowClass> {
        self.server_no_context_takeover.then(|| WindowClass::new(self.server_window(settings)))
    }
}

/// The value of `Sec-WebSocket-Extensions` that answers.
impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(NAME)?;
        if self.server_no_context_takeover {
            out.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            out.write_str("; client_no_context_takeover")?;
        }
        if let Some(window) = self.server_max_window_bits {
            write!(out, "; server_max_window_bits={}", window.bits())?;
        }
        if let Some(window) = self.client_max_window_bits {
            write!(out, "; client_max_window_bits={}", window.bits())?;
        }
        Ok(())
    }
}

/// The first acceptable offer of permessage-deflate in the fields of a request, if any.
///
/// The handshake's check has refused requests whose fields break the grammar; here such a field
/// offers nothing from the mistake on.
pub fn negotiate<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    settings: &Settings,
) -> Option<Agreement> {
    if !settings.enabled {
        return None;
    }
    headers
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"))
        .flat_map(|(_, value)| extensions(value))
        .filter_map(Result::ok)
        .filter(|extension| extension.name == NAME.as_bytes())
        .find_map(|extension| accept(&Parameters::read(extension)?, settings))
}

/// The answer to one offer; `None` declines it.
fn accept(offer: &Parameters, settings: &Settings) -> Option<Agreement> {
    let server_max_window_bits = match offer.server_max_window_bits {
        Given::No => None,
        // RFC 7692 7.1.2.1: the value is required.
        Given::Bare => return None,
        // 8 is more than we can promise to keep to; every larger value can be kept to or undercut.
        Given::Bits(bits) => Some(WindowBits::new(bits)?.min(settings.server_max_window_bits)),
    };
    // RFC 7692 7.1.2.2: only who has offered the parameter can be asked. A client that announces a
    // window no larger than ours needs no answer.
    let client_max_window_bits = match offer.client_max_window_bits {
        Given::No => None,
        Given::Bare => Some(settings.client_max_window_bits).filter(|bits| *bits < WindowBits::MAX),
        Given::Bits(bits) => {
            Some(settings.client_max_window_bits).filter(|ours| ours.bits() < bits)
        }
    };
    Some(Agreement {
        // RFC 7692 7.1.1.1: asked for, it is answered; and it may be answered without being asked.
        server_no_context_takeover: offer.server_no_context_takeover
            || !settings.server_context_takeover,
        client_no_context_takeover: offer.client_no_context_takeover
            || !settings.client_context_takeover,
        server_max_window_bits,
        client_max_window_bits,
    })
}

/// What a client offers, field for field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// Asks the server to compress each message by itself.
    pub server_no_context_takeover: bool,
    /// Announces that each of our messages is compressed by itself.
    pub client_no_context_takeover: bool,
    /// Asks the server for a window no larger than this.
    pub server_max_window_bits: Option<WindowBits>,
    /// Whether the server may limit our window.
    pub client_max_window_bits: ClientWindow,
}

/// What a client says of its own window (RFC 7692 7.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientWindow {
    /// Nothing: the server may not limit it.
    #[default]
    Unsaid,
    /// The server may limit it.
    Limitable,
    /// The server may limit it, and it is no larger than this anyway.
    AtMost(WindowBits),
}

/// The value of `Sec-WebSocket-Extensions` that offers.
impl fmt::Display for Offer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = Agreement {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits,
            client_max_window_bits: None,
        };
        write!(out, "{parameters}")?;
        match self.client_max_window_bits {
            ClientWindow::Unsaid => Ok(()),
            ClientWindow::Limitable => out.write_str("; client_max_window_bits"),
            ClientWindow::AtMost(bits) => write!(out, "; client_max_window_bits={}", bits.bits()),
        }
    }
}

/// Why an answer fails the connection (RFC 7692 5.1, 7.1). The fault is the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// RFC 6455 9.1: the value breaks the grammar.
    #[error("the server's Sec-WebSocket-Extensions breaks the grammar")]
    Malformed,
    /// RFC 6455 4.1: an extension that was not offered, or one twice.
    #[error("the server accepted an extension that was not offered, or twice")]
    NotOffered,
    /// RFC 7692 7.1: a parameter that is unknown, given twice, has an invalid value, answers nothing
    /// that was offered, or is missing although its offer asks for it.
    #[error("the server's parameters for permessage-deflate do not answer the offer")]
    Parameters,
}

/// Checks the extension fields of an answer against the offer.
pub(crate) fn check_answer<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    offer: Option<&Offer>,
) -> Result<Option<Agreement>, AnswerError> {
    let mut agreement = None;
    for extension in fields.flat_map(extensions) {
        let extension = extension.map_err(|_| AnswerError::Malformed)?;
        let offer = offer
            .filter(|_| extension.name == NAME.as_bytes() && agreement.is_none())
            .ok_or(AnswerError::NotOffered)?;
        let answer = Parameters::read(extension).ok_or(AnswerError::Parameters)?;
        agreement = Some(answers(&answer, offer).ok_or(AnswerError::Parameters)?);
    }
    Ok(agreement)
}

/// The agreement, if these parameters answer the offer.
fn answers(answer: &Parameters, offer: &Offer) -> Option<Agreement> {
    // RFC 7692 7.1.1.1: who was asked for it accepts by saying so.
    if offer.server_no_context_takeover && !answer.server_no_context_takeover {
        return None;
    }
    let server_max_window_bits = match answer.server_max_window_bits {
        // RFC 7692 7.1.2.1: likewise.
        Given::No if offer.server_max_window_bits.is_none() => None,
        Given::No | Given::Bare => return None,
        Given::Bits(bits) => {
            if offer.server_max_window_bits.is_some_and(|asked| bits > asked.bits()) {
                return None;
            }
            // We inflate every window with the largest, so an 8 needs no other treatment than a 9.
            Some(WindowBits::new(bits).unwrap_or(WindowBits::MIN))
        }
    };
    let client_max_window_bits = match answer.client_max_window_bits {
        Given::No => None,
        // RFC 7692 7.1.2.2: in an answer the value is required, and only an offer allows it. An 8 is
        // a configuration that we lack, which fails the connection too (7.1).
        Given::Bits(bits) if offer.client_max_window_bits != ClientWindow::Unsaid => {
            Some(WindowBits::new(bits)?)
        }
        Given::Bare | Given::Bits(_) => return None,
    };
    Some(Agreement {
        server_no_context_takeover: answer.server_no_context_takeover,
        // What we announced binds us whether or not it was answered.
        client_no_context_takeover: answer.client_no_context_takeover
            || offer.client_no_context_takeover,
        server_max_window_bits,
        client_max_window_bits,
    })
}

/// The four parameters as they were written, each at most once and with a value it may have in an
/// offer or in an answer.
#[derive(Debug, Clone, Copy, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Given,
    client_max_window_bits: Given,
}

/// A window parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Given {
    #[default]
    No,
    /// Without a value.
    Bare,
    /// 8 to 15.
    Bits(u8),
}

impl Parameters {
    /// `None` if one is unknown, given twice or has a value that is never valid (RFC 7692 7.1).
    fn read(extension: Extension<'_>) -> Option<Self> {
        let mut read = Self::default();
        for parameter in extension.parameters() {
            let fresh = match parameter.name {
                b"server_no_context_takeover" if parameter.value.is_none() => {
                    !std::mem::replace(&mut read.server_no_context_takeover, true)
                }
                b"client_no_context_takeover" if parameter.value.is_none() => {
                    !std::mem::replace(&mut read.client_no_context_takeover, true)
                }
                b"server_max_window_bits" | b"client_max_window_bits" => {
                    let given = match parameter.value {
                        None => Given::Bare,
                        Some(value) => {
                            Given::Bits(value.number().filter(|bits| (8..=15).contains(bits))?)
                        }
                    };
                    let slot = if parameter.name.starts_with(b"server") {
                        &mut read.server_max_window_bits
                    } else {
                        &mut read.client_max_window_bits
                    };
                    std::mem::replace(slot, given) == Given::No
                }
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(read)
    }
}
