//! Errors: each becomes an exception that `sentry._errors` defines.

use pyo3::prelude::*;
use sentry::{Error, Verdict};

/// The exception for an error.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let differences: Vec<_> = error
        .differences()
        .iter()
        .map(|difference| {
            let shard = difference.shard.map(|shard| (shard.start, shard.end));
            (
                difference.kind.name(),
                &difference.file,
                shard,
                &difference.tensor,
                &difference.source,
                difference.sample,
                &difference.field,
                &difference.expected,
                &difference.found,
                difference.to_string(),
            )
        })
        .collect();
    let rejected = error.verdict() == Verdict::Rejected;
    let make = || {
        let module = PyModule::import(py, "sentry._errors")?;
        module.getattr("from_native")?.call1((error.code(), rejected, error.to_string(), differences))
    };
    make().map_or_else(|failure| failure, PyErr::from_value)
}

/// An error of the caller's.
pub fn usage(py: Python<'_>, message: impl Into<String>) -> PyErr {
    let make = || PyModule::import(py, "sentry._errors")?.getattr("UsageError")?.call1((message.into(),));
    make().map_or_else(|failure| failure, PyErr::from_value)
}

/// Turns a result of the library into one of Python.
pub trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T, E: Into<Error>> OrRaise<T> for Result<T, E> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, &error.into()))
    }
}
