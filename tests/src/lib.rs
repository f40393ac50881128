//! Everything that stands around the two programs in a test: what goes in, who sends, who asks, and the programs themselves.
//!
//! * [`fixtures`]: persons, studies, defects, keys. All synthetic; persons have identity codes of the range 900–999 only.
//! * [`harness`]: a [`harness::World`] is one folder with a public key infrastructure, one centre and its sites, as real
//!   processes on free ports; it starts, kills, restarts and measures them.
//! * [`modality`]: a DICOM sender, over TCP or TLS.
//! * [`consumer`]: a viewer with fresh signed assertions: ITI-18, ITI-43, RAD-69, WADO-RS.
//! * [`story`]: the steps that scenarios, demo and soak share.
//! * [`soak`]: kills at random moments, and what must be true afterwards.
//! * [`spool`]: the site's spool as a library, filled with very many records.
//! * [`poll`]: waiting for a condition; nothing here sleeps for a time that was guessed.
//! * [`orthanc`]: Orthanc, a foreign archive.
//! * [`postgres`]: a PostgreSQL server of the tests' own.
//! * [`shared`]: the optional folder with third-party data.

pub mod consumer;
pub mod fixtures;
pub mod harness;
pub mod mllp;
pub mod modality;
pub mod orthanc;
pub mod poll;
pub mod postgres;
pub mod shared;
pub mod soak;
pub mod spool;
pub mod story;
