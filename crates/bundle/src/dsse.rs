//! The bytes that a DSSE signature is over.

use crate::uris::PAYLOAD_TYPE;

/// A payload in DSSE's pre-authentication encoding. Only [`pae`] makes it, so that a signature is never
/// over anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaeBytes(Vec<u8>);

impl PaeBytes {
    /// The bytes to sign or to verify.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Encodes the raw bytes of a payload, never a re-serialised form of it:
/// `DSSEv1 SP len(type) SP type SP len(payload) SP payload`, lengths in decimal
/// (DSSE protocol, version 1.0.0, "Signature Definition").
pub fn pae(payload: &[u8]) -> PaeBytes {
    let header = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    PaeBytes([header.as_bytes(), payload].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_of_bytes() {
        assert_eq!(pae("{}\u{e9}".as_bytes()).as_bytes(), "DSSEv1 28 application/vnd.in-toto+json 4 {}\u{e9}".as_bytes());
    }
}
