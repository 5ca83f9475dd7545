//! A digest together with the algorithm that made it.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::{Algorithm, HashError};

/// Longest digest of any [`Algorithm`], in bytes.
pub(crate) const MAX_LEN: usize = 64;

/// A digest. Two are equal only if their algorithms are equal too.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// The digest, then zeroes up to `MAX_LEN`.
    bytes: [u8; MAX_LEN],
}

impl Digest {
    /// Takes the raw bytes of a digest.
    ///
    /// # Errors
    /// [`HashError::DigestLength`] if `bytes` has not the algorithm's length.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, HashError> {
        if bytes.len() != algorithm.digest_len() {
            return Err(HashError::DigestLength { algorithm, expected: algorithm.digest_len(), found: bytes.len() });
        }
        let mut padded = [0; MAX_LEN];
        padded[..bytes.len()].copy_from_slice(bytes);
        Ok(Self { algorithm, bytes: padded })
    }

    /// Reads lower-case hexadecimal, the one form that statements may use.
    ///
    /// # Errors
    /// [`HashError::DigestEncoding`] for anything but pairs of `0-9a-f`, and
    /// [`HashError::DigestLength`] for another length than the algorithm's.
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Result<Self, HashError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| HashError::DigestEncoding { text: text.chars().take(160).collect() })?;
        Self::from_bytes(algorithm, &bytes)
    }

    /// The algorithm that made this digest.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes, [`Algorithm::digest_len`] of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// The digest in lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_lower_case_and_of_the_exact_length() {
        let digest = Algorithm::Sha256.digest(b"");
        let hex = digest.to_hex();
        assert_eq!(Digest::from_hex(Algorithm::Sha256, &hex), Ok(digest));
        for wrong in [hex.to_uppercase(), format!(" {hex}"), format!("{hex}\n"), "0g".into(), hex[1..].into()] {
            assert!(matches!(Digest::from_hex(Algorithm::Sha256, &wrong), Err(HashError::DigestEncoding { .. })));
        }
        for (algorithm, wrong) in [(Algorithm::Sha256, &hex[2..]), (Algorithm::Blake2b, &hex[..]), (Algorithm::Sha256, "")] {
            assert!(matches!(Digest::from_hex(algorithm, wrong), Err(HashError::DigestLength { .. })));
        }
    }

    #[test]
    fn equal_bytes_of_two_algorithms_differ() {
        let bytes = [7; 32];
        assert_ne!(Digest::from_bytes(Algorithm::Sha256, &bytes), Digest::from_bytes(Algorithm::Blake3, &bytes));
    }
}
