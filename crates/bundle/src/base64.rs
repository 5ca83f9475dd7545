//! Base64 with one spelling: the standard alphabet with padding, or as a whole the URL-safe one, which DSSE
//! allows. No white space, no spare bits, no mixed alphabets.

use data_encoding::{BASE64, BASE64URL};

use crate::BundleError;

pub(crate) fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, BundleError> {
    let encoding = if text.contains(['-', '_']) { BASE64URL } else { BASE64 };
    // The library reads several padded texts in a row as one.
    if text.trim_end_matches('=').contains('=') {
        return Err(BundleError::Base64 { field, reason: "padding inside the text".to_owned() });
    }
    encoding.decode(text.as_bytes()).map_err(|error| BundleError::Base64 { field, reason: error.to_string() })
}

/// As [`decode`], with the standard alphabet alone.
pub(crate) fn decode_standard(field: &'static str, text: &str) -> Result<Vec<u8>, BundleError> {
    if text.contains(['-', '_']) {
        return Err(BundleError::Base64 { field, reason: "not the standard alphabet".to_owned() });
    }
    decode(field, text)
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        assert_eq!(decode("sig", "+/8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode("sig", "-_8=").unwrap(), [0xfb, 0xff]);
        for bad in ["+_8=", "+/9=", "+/8", "+/8=\n", " +/8=", "+/8==", "+/ 8=", "+/8=+/8=", "===="] {
            assert!(matches!(decode("sig", bad), Err(BundleError::Base64 { .. })), "{bad}");
        }
    }
}
