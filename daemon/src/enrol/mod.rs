//! Joining the centre, and care of the keys that come of it (profile 10 §6, §7): `cert join` (also `enrol`), `cert rotate`, and
//! renewal by itself.
//!
//! [`join`] and [`renewal`] are what is done, [`calls`] what is said to the centre, [`ring`] where keys lie, [`edit`] how files of
//! the configuration are changed.
//!
//! # On disk
//! `<state>/keys/enrolled/<name>/`, mode 0700: `tls.key`, `sign.key` (mode 0600, made here, never sent), `tls.pem`, `sign.pem`,
//! `answer.json`. `<state>/keys/current` is a link to the one in use, and what `[centre]` and `[assertion]` name: all four files
//! change at once, by one rename, and the main file stays as it is when certificates are renewed.
//!
//! # Failure
//! Every step is durable before the next, and each can be given again: with keys that are there the centre gives the same answer,
//! and an answer that is there is not asked for again.

pub mod calls;
pub mod edit;
pub mod join;
pub mod renewal;
pub mod ring;
