//! Bounds on bundles, checked before anything of that size is allocated or parsed.

/// Longest bundle file in bytes. A million resources with annotations take about this much.
pub const MAX_BUNDLE_BYTES: u64 = 256 << 20;

/// Most certificates of a chain: a leaf, a root and more intermediates than any real authority has.
pub const MAX_CHAIN: usize = 8;

/// Most timestamps of a signature: several authorities, for those who trust different ones.
pub const MAX_TIMESTAMPS: usize = 8;

/// Longest timestamp in bytes. Real ones have a few thousand, with the authority's certificates.
pub const MAX_TIMESTAMP_BYTES: usize = 64 << 10;

/// Largest integer that every JSON reader keeps exact: 2^53 - 1.
pub const MAX_JSON_INTEGER: u64 = (1 << 53) - 1;
