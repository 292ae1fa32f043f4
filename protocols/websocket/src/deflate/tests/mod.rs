//! permessage-deflate against the standard's examples, every combination of its parameters, and
//! streams that are broken in every way there is.

mod frames;
mod negotiation;
mod states;
