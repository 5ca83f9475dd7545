//! Who may sign, and what is true once they have.
//!
//! This crate is the only one that makes a [`Verified`]: code that holds a `Verified<Model>` has a signature that
//! was checked against a key its caller trusts *and* bytes that were checked against that signature.
//!
//! ```text
//! UnverifiedBundle ─verify(key)─► Verified<Statement>       ─confirm(listing, measured)─► Verified<Model>
//!                                                           ─confirm_load(loaded)───────► Verified<Vec<R>>: the bytes
//!                               ► Verified<ModelStatement>  ─confirm_tensors(measured)──► Verified<ModelInMemory>
//! ```
//!
//! There is no other path, no flag that skips a step, and no boolean to forget: each arrow consumes its
//! left side and either returns its right side or an error.
//!
//! Signing is here as well ([`Signer`]), on the CPU with aws-lc's constant-time code; every signature is
//! verified before it is handed out.

#![forbid(unsafe_code)]

mod compare;
mod error;
mod key;
mod loaded;
mod memory;
mod sealed;
mod signer;
mod verified;

pub use compare::{Difference, DifferenceKind, Listing, Pairing, differences, pair_names};
pub use error::{KeyError, SignError, SignatureError, VerifyError};
pub use key::{KeyAlgorithm, PrivateKey, PublicKey};
pub use memory::ModelInMemory;
pub use signer::{Signable, Signer, sign};
pub use verified::{Identity, Model, ModelStatement, SignedStatement, TrustedKey, UnverifiedBundle, Verified, Verifier};
