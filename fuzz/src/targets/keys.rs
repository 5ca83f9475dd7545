//! Key files and signatures.

use std::sync::LazyLock;

use sentry_trust::{PrivateKey, PublicKey};

/// A published key of the OpenSSF specification's samples would do as well; nobody has signed the message with it.
const PUBLIC: &[u8] = include_bytes!("../../keys/p256.pub");
static KEY: LazyLock<PublicKey> = LazyLock::new(|| PublicKey::from_pem(PUBLIC).expect("a key"));

pub fn public(data: &[u8]) -> bool {
    let Ok(key) = PublicKey::from_pem(data).or_else(|_| PublicKey::from_spki(data)) else { return false };
    let again = PublicKey::from_pem(key.to_pem().as_bytes()).expect("what is written is read");
    assert_eq!((again.to_pem(), again.algorithm()), (key.to_pem(), key.algorithm()));
    assert!(key.verify_message(b"message", b"no signature").is_err());
    true
}

pub fn private(data: &[u8]) -> bool {
    // An encrypted key may ask for a long derivation, which is its owner's choice and not a finding.
    if data.windows(9).any(|word| word == b"ENCRYPTED") {
        return false;
    }
    let Ok(key) = PrivateKey::from_pem(data, None) else { return false };
    let again = PrivateKey::from_pem(key.to_pem(None).expect("a key is written").as_bytes(), None).expect("what is written is read");
    assert_eq!(again.public().to_pem(), key.public().to_pem());
    true
}

pub fn signature(data: &[u8]) -> bool {
    assert!(KEY.verify_message(b"a message that nobody has signed", data).is_err());
    false
}
