//! A Sigstore bundle: what is read is written and read again alike.

use sentry_bundle::{Bundle, Statement, pae};

pub fn run(data: &[u8]) -> bool {
    let Ok(bundle) = Bundle::parse(data) else { return false };
    assert!(pae(&bundle.payload).as_bytes().ends_with(&bundle.payload));
    let _ = Statement::is_legacy(&bundle.payload);
    let _ = Statement::parse(&bundle.payload);
    // Not every form that is read is written.
    if let Ok(json) = bundle.to_json() {
        assert_eq!(Bundle::parse(json.as_bytes()).expect("what is written is read"), bundle);
    }
    true
}
