//! Keeps traits that decide over trust to this crate.

/// Nothing outside of this crate can implement it.
pub trait Sealed {}
