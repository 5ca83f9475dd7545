//! One file a command: arguments in, library call, report out.

pub mod bench;
pub mod dataset;
pub mod diff;
pub mod doctor;
pub mod hash;
pub mod inspect;
pub mod keygen;
pub mod load;
pub mod policy;
pub mod shell;
pub mod sign;
pub mod verify;
