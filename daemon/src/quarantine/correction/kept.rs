//! Orders of correction, as they are given and as they are kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger;
use crate::spool::{Entry, SpoolId, State, Tenant};

/// What an operator orders. Its values are patient data: they go over the socket and into the ledger, into no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Object, or Study Instance UID.
    pub target: String,
    /// `(gggg,eeee)=value`, as given.
    pub sets: Vec<String>,
    /// Code value of the reason.
    pub reason: String,
    /// Code of CID 7011.
    pub modifier: Option<String>,
    /// Study Instance UID of the right order.
    pub study_uid: Option<String>,
    /// Why, in the operator's words.
    pub note: String,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({}, {})", self.target, self.reason)
    }
}

/// How far a correction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Successors and notes are being made; nothing of it is forwarded.
    Replacing,
    /// All of them are durable and the originals superseded; they go to the centre in the order of profile 01 §8.3.
    Following,
    /// All of it is on its way as any other object is.
    Done,
}

/// An order that was begun.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// [`ledger::Kept::FORMAT`].
    pub format: u32,
    /// Correction id: random, it names nobody.
    pub id: String,
    pub at: Timestamp,
    pub user: u32,
    pub tenant: Tenant,
    pub study_uid: String,
    /// Study of the successors.
    pub corrected_study_uid: String,
    /// None for the whole study.
    pub series_uid: Option<String>,
    pub asked: Asked,
    /// SOP Instance UID of each original and of its successor.
    pub instances: BTreeMap<String, String>,
    /// SOP Instance UID of each rejection note, and of the forwarded originals that it names.
    pub notes: BTreeMap<String, BTreeSet<String>>,
    pub phase: Phase,
}

impl ledger::Kept for Kept {
    const FOLDER: &'static str = "corrections";
    const FORMAT: u32 = 2;
    const UNREADABLE: &'static str = "a correction cannot be read; if it was under way its objects stay quarantined(correction)";

    fn format(&self) -> u32 {
        self.format
    }
}

impl Kept {
    /// The same command for the same unit.
    pub fn is(&self, tenant: &Tenant, study_uid: &str, asked: &Asked) -> bool {
        let same =
            |a: &Asked, b: &Asked| (&a.sets, &a.reason, &a.modifier, &a.study_uid) == (&b.sets, &b.reason, &b.modifier, &b.study_uid);
        self.tenant == *tenant && self.study_uid == study_uid && same(&self.asked, asked)
    }

    /// The successors belong to another study than their originals.
    pub fn moves_study(&self) -> bool {
        self.study_uid != self.corrected_study_uid
    }

    /// It is one of the originals, superseded by this correction.
    pub fn superseded(&self, entry: &Entry) -> bool {
        successor(entry).is_some_and(|by| by.correction == self.id)
    }
}

/// What stands in [`Progress::memo`](crate::spool::Progress::memo) of a superseded object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Successor {
    /// Correction id.
    pub correction: String,
    /// Code value of the reason.
    pub reason: String,
    /// The new object.
    pub object: SpoolId,
    /// Its SOP Instance UID.
    pub sop_instance_uid: String,
}

/// What stands in [`Progress::memo`](crate::spool::Progress::memo) of an original that waits for its correction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waits {
    /// Correction id.
    pub correction: String,
    /// The state in which it was before.
    pub was: State,
}

impl Waits {
    /// `None` if an object waits for no correction of its own.
    pub fn of(entry: &Entry) -> Option<Self> {
        let waits = matches!(&entry.progress.state, State::Quarantined(cause) if cause.as_str() == super::CAUSE);
        serde_json::from_str(entry.progress.memo.as_ref().filter(|_| waits)?).ok()
    }
}

/// What stands in the place of an object; `None` if it is not superseded.
pub(crate) fn successor(entry: &Entry) -> Option<Successor> {
    let memo = (entry.progress.state == State::Superseded).then_some(entry.progress.memo.as_ref()).flatten()?;
    serde_json::from_str(memo).ok()
}
