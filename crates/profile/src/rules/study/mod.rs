//! Stage T: the rules that ask all instances of a study together (profile 01 §5 D437, D438, D7, D8, §6).
//!
//! Each instance is read once into a [`StudyInstance`] and put into a [`Gathering`], which keeps of it what the rules ask for
//! and no value of the patient. What the index of the site knows of other studies is given as [`Known`]. [`Gathering::judge`]
//! says what was found and whom it is about.
//!
//! # Order
//! Everything in a [`Gathering`] is a set, and who came first is told by the receive times that the instances carry: the
//! findings are a function of the set, not of the order of putting in (§6.2, §12.4).
//!
//! # Bounds
//! About 150 bytes for each instance, 16 for each reference that a PR, SR or KO makes to its own study, of these at most
//! [`REFERENCES_MAX`]; of different values of one attribute [`VALUES_MAX`] are told apart, which is more than a rule asks.
//!
//! # Standard
//! PS3.3 §A.1.2 and §C.17; rejection notes: IHE RAD TF-2 §4.66, PS3.16 CID 7010 and 7011.

mod gathering;
mod instance;
mod key_object;

pub use gathering::{Concerns, Controlled, Copy, Effect, Gathering, Known, Patient, StudyFinding};
pub use instance::{StudyInstance, accession_name, content_outside_pixels};
pub use key_object::rejects_others;

/// References that are remembered of one study; with more, those missing are not told (D724, D735).
pub const REFERENCES_MAX: usize = 1_000_000;
/// Values of one attribute that are told apart.
pub const VALUES_MAX: usize = 16;

/// Name of a value or UID within one evaluation: the beginning of its SHA-256.
pub(super) type Name = [u8; 16];

pub(super) fn name(bytes: &[u8]) -> Name {
    use sha2::{Digest as _, Sha256};
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    *digest.first_chunk().expect("32 bytes have 16")
}

#[cfg(test)]
mod tests;
