//! Statements: what is read is written, and the second reading is the first.

use sentry_bundle::{BundleError, Statement};

pub fn run(data: &[u8]) -> bool {
    let statement = match Statement::parse(data) {
        Ok(statement) => statement,
        // No fuzzer finds the digest of what it has changed: put it in, and what lies behind is reached.
        Err(BundleError::RootMismatch { expected, found }) => {
            let text = std::str::from_utf8(data).expect("a statement is UTF-8").replacen(&expected, &found, 1);
            match Statement::parse(text.as_bytes()) {
                Ok(statement) => statement,
                Err(_) => return false,
            }
        }
        Err(_) => return false,
    };
    let again = Statement::parse(&statement.to_payload()).expect("what is written is read");
    assert_eq!(again, statement);
    true
}
