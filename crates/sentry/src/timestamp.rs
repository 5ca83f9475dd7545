//! Timestamps over HTTP (RFC 3161, section 3.4).

use std::sync::Arc;
use std::time::Duration;

use sentry_trust::{SignError, Signable, Signer, TimestampError, Timestamper};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Longest response in bytes; one of more could not stand in a bundle.
const MAX_RESPONSE: u64 = sentry_bundle::limits::MAX_TIMESTAMP_BYTES as u64;

/// How long an authority has to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A timestamp authority behind a URL, `http:` or `https:`. What it answers is signed, so the connection need not be secret.
#[derive(Debug)]
pub struct HttpTimestamper {
    url: String,
    agent: ureq::Agent,
}

impl HttpTimestamper {
    /// An authority. Nothing is sent yet.
    pub fn new(url: &str) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).tls_config(tls).build().new_agent();
        Self { url: url.to_owned(), agent }
    }
}

impl Timestamper for HttpTimestamper {
    fn timestamp(&self, query: &[u8]) -> Result<Vec<u8>, TimestampError> {
        let unavailable = |error: ureq::Error| TimestampError::Unavailable { reason: format!("{}: {error}", self.url) };
        let request = self.agent.post(&self.url).content_type("application/timestamp-query");
        let mut response = request.send(query).map_err(unavailable)?;
        response.body_mut().with_config().limit(MAX_RESPONSE).read_to_vec().map_err(unavailable)
    }
}

/// Signs a statement, and has the signature timestamped by the authority at a URL, if there is one.
///
/// # Errors
/// Any [`SignError`].
pub fn sign_and_timestamp<S: Signable>(statement: &S, signer: &dyn Signer, url: Option<&str>) -> Result<String, SignError> {
    let timestamper = url.map(HttpTimestamper::new);
    sentry_trust::sign(statement, signer, timestamper.as_ref().map(|timestamper| timestamper as &dyn Timestamper))
}
