//! Texts that are one text in two encodings: percent-encoded, quoted, with HTML entities, as hex digits, in base64.

use super::difference::{quote, units};
use crate::value::{push_go_string, push_json_string, unquote};
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine;
use percent_encoding::percent_decode;

/// Shorter texts have hex digits and base64 that other keys are by chance.
const SHORTEST: usize = 4;
/// What Go's html.EscapeString writes for each character (src/html/escape.go), and two more that others write.
const ENTITIES: [(&str, &str); 7] =
    [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];

/// A text that the wanted one is in another encoding.
struct Twin {
    bytes: Vec<u8>,
    how: &'static str,
    /// Whether the stored text is the encoded one.
    stored_is_encoded: bool,
}

/// The wanted text's forms in each encoding.
pub struct Encodings {
    twins: Vec<Twin>,
}

impl Encodings {
    /// Takes the wanted text to each encoding and out of each.
    pub fn of(wanted: &[u8]) -> Encodings {
        let mut encodings = Encodings { twins: Vec::new() };
        let mut go = Vec::new();
        push_go_string(&mut go, wanted);
        let mut json = Vec::new();
        push_json_string(&mut json, wanted);
        encodings.add(wanted, go, "in quotes", true);
        encodings.add(wanted, json, "as a JSON string", true);
        let text = std::str::from_utf8(wanted).ok();
        if let Some(text) = text {
            encodings.add(wanted, escape(text).into_bytes(), "with HTML entities", true);
            encodings.add(wanted, unescape(text).into_bytes(), "with HTML entities", false);
            encodings.add(wanted, unquote(text).unwrap_or_default(), "in quotes", false);
        }
        encodings.add(wanted, percent_decode(wanted).collect(), "percent-encoded", false);
        encodings.add(wanted, from_query(wanted), "as a URL query", false);
        if wanted.len() >= SHORTEST {
            encodings.add(wanted, hex(wanted).into_bytes(), "as hex digits", true);
            encodings.add(wanted, hex(wanted).to_ascii_uppercase().into_bytes(), "as hex digits", true);
            encodings.add(wanted, STANDARD.encode(wanted).into_bytes(), "in base64", true);
            encodings.add(wanted, URL_SAFE_NO_PAD.encode(wanted).into_bytes(), "in base64", true);
            let bytes = from_hex(wanted).filter(|bytes| bytes.len() >= SHORTEST);
            encodings.add(wanted, bytes.unwrap_or_default(), "as hex digits", false);
            let bytes = STANDARD.decode(wanted).or_else(|_| URL_SAFE_NO_PAD.decode(wanted));
            encodings.add(wanted, bytes.ok().filter(|b| b.len() >= SHORTEST).unwrap_or_default(), "in base64", false);
        }
        encodings
    }

    fn add(&mut self, wanted: &[u8], bytes: Vec<u8>, how: &'static str, stored_is_encoded: bool) {
        if bytes != wanted && !bytes.is_empty() && self.twins.iter().all(|twin| twin.bytes != bytes) {
            self.twins.push(Twin { bytes, how, stored_is_encoded });
        }
    }

    /// How the stored text is the wanted one in another encoding: the encoding, and whether it is the stored one's.
    pub fn compare(&self, wanted: &[u8], stored: &[u8]) -> Option<(&'static str, bool)> {
        if let Some(twin) = self.twins.iter().find(|twin| twin.bytes == stored) {
            return Some((twin.how, twin.stored_is_encoded));
        }
        // Which characters are escaped is the encoder's choice, so the stored text is decoded.
        if stored.len() <= wanted.len() || memchr::memchr(b'%', stored).is_none() {
            return None;
        }
        match percent_decode(stored).eq(wanted.iter().copied()) {
            true => Some(("percent-encoded", true)),
            false => (from_query(stored) == wanted).then_some(("as a URL query", true)),
        }
    }

    /// `"a%20b" is "a b" percent-encoded`.
    pub fn detail(wanted: &[u8], stored: &[u8], (how, stored_is_encoded): (&str, bool)) -> String {
        let (wanted, stored) = (quote(&units(wanted)), quote(&units(stored)));
        match stored_is_encoded {
            true => format!("{stored} is {wanted} {how}"),
            false => format!("{stored}, where {wanted} is the same {how}"),
        }
    }
}

fn escape(text: &str) -> String {
    let entity = |c: char| ENTITIES.iter().find(|(_, plain)| plain.starts_with(c)).map(|(entity, _)| *entity);
    text.chars().fold(String::new(), |mut out, c| {
        match entity(c) {
            Some(entity) => out += entity,
            None => out.push(c),
        }
        out
    })
}

fn unescape(text: &str) -> String {
    ENTITIES.iter().fold(text.to_string(), |text, (entity, plain)| text.replace(entity, plain))
}

/// Out of a URL's query, where a plus is a space.
fn from_query(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| Some((char::from(pair[0]).to_digit(16)? << 4 | char::from(pair[1]).to_digit(16)?) as u8);
    text.chunks(2).map(|two| if two.len() == 2 { pair(two) } else { None }).collect()
}
