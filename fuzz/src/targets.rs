//! One file a target, or a few targets that belong together.

pub mod bundle;
pub mod certificate;
pub mod json;
pub mod keys;
pub mod lattice;
pub mod names;
pub mod policy;
pub mod record;
pub mod safetensors;
pub mod sha256;
pub mod statement;
pub mod table;
pub mod tree;
