//! What is kept of a reconciliation for each study: since when the centre is known to hold all of it (profile 11 §5, 03 §3).
//!
//! A note of the study in the journal, `agreed`, with the instant before which everything that was compared had been read here. It is
//! written once for what was registered by then, not with every run, and taken back before anything else is done about a difference.
//! So it costs a line of the journal for each study, survives what the journal survives, and is gone from the moment on at which a
//! run has found that the centre lacks something.

use std::collections::BTreeMap;

use idr_profile::receipt::reconcile::Found;
use jiff::Timestamp;

use super::{Findings, Forward, acknowledged};
use crate::spool::{SpoolError, Tenant};

/// Name of the note.
pub const AGREED: &str = "agreed";

/// When a reconciliation found that the centre holds everything of a study; `None`: never, or not since it found a difference.
pub fn since(notes: &BTreeMap<String, String>) -> Option<Timestamp> {
    notes.get(AGREED)?.parse().ok()
}

/// A study that is being compared, by its UID.
pub(super) type Looked = BTreeMap<String, Look>;

/// What was read of it here, and what has come out so far.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Before it was read.
    pub at: Timestamp,
    /// When the state of a member that is here changed last.
    pub newest: Timestamp,
    /// Nothing of it is missing, different or undetermined.
    pub whole: bool,
    /// What is missing or different.
    pub differences: Vec<(String, Found)>,
}

impl Forward {
    /// Notes which studies the centre holds all of, unless that stands there already for what is registered now; and marks the
    /// differences that somebody has acknowledged.
    pub(super) async fn agree(&self, tenant: &Tenant, looked: Looked, found: &mut Findings) -> Result<(), SpoolError> {
        for (study_uid, look) in looked {
            let Some(study) = self.spool.study(tenant, &study_uid).await? else { continue };
            let differences = || look.differences.iter().map(|(uid, what)| (uid.as_str(), *what));
            if !look.differences.is_empty() && acknowledged::holds(&study.notes, differences()) {
                found.acknowledge(tenant, &study_uid, look.differences.len() as u64);
            }
            if look.whole && since(&study.notes) < Some(look.newest) {
                self.note(tenant, &study_uid, AGREED, Some(look.at.to_string())).await?;
            }
        }
        Ok(())
    }

    /// The centre does not hold all of a study: what said that it does is taken back.
    pub(super) async fn disagree(&self, tenant: &Tenant, study_uid: &str, looked: &mut Looked) -> Result<(), SpoolError> {
        if let Some(look) = looked.get_mut(study_uid) {
            look.whole = false;
        }
        let noted = self.spool.study(tenant, study_uid).await?.is_some_and(|study| study.notes.contains_key(AGREED));
        if noted { self.note(tenant, study_uid, AGREED, None).await } else { Ok(()) }
    }
}
