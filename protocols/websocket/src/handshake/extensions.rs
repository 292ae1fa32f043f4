//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 9.1).
//!
//! In: one field value. Out: its extensions in order, each with its parameters, or that the value
//! breaks the grammar. Invariants: nothing is allocated or copied; a value is read once from left
//! to right; what is handed out obeys the grammar, a quoted value also behind its quotes (it must be
//! a token there). It knows no extension by name.
//!
//! Empty elements of the list are skipped, as lists of HTTP are read (RFC 9110 5.6.1.2), but a list
//! of nothing else is malformed. Space and tab may stand between any two parts.

/// The value breaks the grammar: the handshake fails (RFC 6455 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extension<'a> {
    /// The extension's registered token.
    pub(crate) name: &'a [u8],
    /// What follows it, which was seen to obey the grammar.
    rest: &'a [u8],
}

/// One parameter of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Option<Value<'a>>,
}

/// A value as it was written, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value<'a>(&'a [u8]);

/// The extensions of one field value; after a [`Malformed`] nothing more comes.
#[derive(Debug, Clone)]
pub(crate) struct Extensions<'a> {
    scanner: Scanner<'a>,
    none_yet: bool,
}

/// Reads one field value.
pub(crate) const fn extensions(value: &[u8]) -> Extensions<'_> {
    Extensions { scanner: Scanner { rest: value }, none_yet: true }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.scanner.take(b',') {}
        if self.scanner.rest.is_empty() {
            return std::mem::take(&mut self.none_yet).then_some(Err(Malformed));
        }
        self.none_yet = false;
        let extension = self.scanner.extension();
        if extension.is_err() {
            self.scanner.rest = &[];
        }
        Some(extension)
    }
}

impl<'a> Extension<'a> {
    /// Its parameters in order.
    pub(crate) fn parameters(self) -> impl Iterator<Item = Parameter<'a>> {
        let mut scanner = Scanner { rest: self.rest };
        // The scanner has been over this part before, so there is no error that could end it early.
        std::iter::from_fn(move || scanner.take(b';').then(|| scanner.parameter().ok()).flatten())
    }
}

impl Value<'_> {
    /// A decimal number without leading zeros, below 256.
    pub(crate) fn number(self) -> Option<u8> {
        let mut number: u8 = 0;
        for (at, byte) in self.bytes().enumerate() {
            if !byte.is_ascii_digit() || (at > 0 && number == 0) {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(byte - b'0')?;
        }
        Some(number)
    }

    /// The token that is meant. A backslash is no character of a token, so where one stands, it
    /// quotes the next (RFC 9110 5.6.4).
    fn bytes(self) -> impl Iterator<Item = u8> {
        let mut bytes = self.0.iter().copied();
        std::iter::from_fn(move || match bytes.next() {
            Some(b'\\') => bytes.next(),
            byte => byte,
        })
    }
}

#[derive(Debug, Clone)]
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// `token *( ";" extension-param )`, up to the comma or the end.
    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token()?;
        let start = self.rest;
        while self.take(b';') {
            self.parameter()?;
        }
        let rest = &start[..start.len() - self.rest.len()];
        match self.rest.first() {
            None | Some(b',') => Ok(Extension { name, rest }),
            Some(_) => Err(Malformed),
        }
    }

    /// `token [ "=" ( token | quoted-string ) ]`
    fn parameter(&mut self) -> Result<Parameter<'a>, Malformed> {
        let name = self.token()?;
        if !self.take(b'=') {
            return Ok(Parameter { name, value: None });
        }
        let value = if self.take(b'"') { self.quoted()? } else { Value(self.token()?) };
        Ok(Parameter { name, value: Some(value) })
    }

    /// At least one character of a token.
    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        self.skip_space();
        let length = self.rest.iter().position(|byte| !is_token(*byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.skip_space();
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// What stands between the quotes; the first one is consumed.
    fn quoted(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.rest;
        let mut at = 0;
        loop {
            match start.get(at) {
                Some(b'"') if at > 0 => break,
                Some(b'\\') if start.get(at + 1).is_some_and(|byte| is_token(*byte)) => at += 2,
                Some(byte) if is_token(*byte) => at += 1,
                _ => return Err(Malformed),
            }
        }
        self.rest = &start[at + 1..];
        self.skip_space();
        Ok(Value(&start[..at]))
    }

    /// Whether this byte is next, behind spaces; if so it is consumed, and the spaces are anyway.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let Some((first, rest)) = self.rest.split_first() else { return false };
        let is_next = *first == byte;
        if is_next {
            self.rest = rest;
        }
        is_next
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

/// A character of a token (RFC 9110 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list written out again in one way.
    fn read(value: &str) -> Option<String> {
        let mut out = Vec::new();
        for extension in extensions(value.as_bytes()) {
            let extension = extension.ok()?;
            let mut text = String::from_utf8(extension.name.to_vec()).unwrap();
            for parameter in extension.parameters() {
                text.push(';');
                text.push_str(std::str::from_utf8(parameter.name).unwrap());
                if let Some(value) = parameter.value {
                    text.push('=');
                    text.extend(value.bytes().map(char::from));
                }
            }
            out.push(text);
        }
        Some(out.join(","))
    }

    /// RFC 6455 9.1 and RFC 7692 5.2 and 7.1.3, and what the grammar also allows.
    #[test]
    fn lists() {
        for (value, list) in [
            ("foo", "foo"),
            ("bar; baz=2", "bar;baz=2"),
            ("foo, bar; baz=2", "foo,bar;baz=2"),
            ("deflate-stream", "deflate-stream"),
            (
                "mux; max-channels=4; flow-control, deflate-stream",
                "mux;max-channels=4;flow-control,deflate-stream",
            ),
            ("private-extension", "private-extension"),
            ("a;b=\"10\"", "a;b=10"),
            ("a;b=\"1\\0\"", "a;b=10"),
            (" a\t;\tb =\t\"x\" ; c , d ", "a;b=x;c,d"),
            (",, a ,, b,", "a,b"),
            ("a;b;b;b=1", "a;b;b;b=1"),
        ] {
            assert_eq!(read(value).as_deref(), Some(list), "{value:?}");
        }
    }

    #[test]
    fn what_is_no_list() {
        for value in [
            "",
            " ",
            ",",
            " , ,",
            "a b",
            "a;",
            "a; ;b",
            ";a",
            "a;=1",
            "a;b=",
            "a;b= ;c",
            "a;b=\"",
            "a;b=\"1",
            "a;b=\"\"",
            "a;b=\"1\\\"",
            "a;b=\"1 0\"",
            "a;b=\"1,0\"",
            "a;b=\"1\"0",
            "a;b=1 0",
            "a;b=1=0",
            "a/b",
            "a;b=(c)",
            "a;b=\"\\ \"",
            "a, b;",
            "a;b=\u{e9}",
            "a\r\nb",
            "a;b=\"\\",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
        // What came before the mistake was handed out, nothing after it.
        let mut list = extensions(b"a, b c, d");
        assert!(list.next().is_some_and(|first| first.is_ok()));
        assert_eq!(list.next(), Some(Err(Malformed)));
        assert_eq!(list.next(), None);
    }

    #[test]
    fn numbers() {
        for (text, number) in [
            ("8", Some(8)),
            ("15", Some(15)),
            ("0", Some(0)),
            ("255", Some(255)),
            ("256", None),
            ("99999999999999999999", None),
            ("08", None),
            ("00", None),
            ("+8", None),
            ("-8", None),
            ("8.0", None),
            ("8a", None),
            ("\\1\\5", Some(15)),
        ] {
            assert_eq!(Value(text.as_bytes()).number(), number, "{text:?}");
        }
    }
}
