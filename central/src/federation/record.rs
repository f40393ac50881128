//! The records of a question to others (profile 07 §4: the initiating gateway writes the row of the responding one): opened before
//! the question leaves, since it says of whom somebody asks, and closed with what came of it.
//!
//! What came is named by a note of the use log: the record is older than the answer.

use std::sync::Arc;

use idr_profile::access::Kind as Who;
use idr_profile::xua::Refusal;
use serde_json::json;
use tokio::task::JoinHandle;

use super::Remote;
use crate::assertion::Authenticated;
use crate::audit::{Delivered, Entry, Extent, Kind, Note, Opening, Outcome, Stream};
use crate::central::Central;
use crate::consent::log::{self, Mention};

/// Opens the record of a question; `mentions`: what it names.
///
/// # Errors
/// IDR-X-32: the question must not leave.
pub async fn open(
    central: &Arc<Central>,
    who: &Authenticated,
    remote: &Remote,
    number: &str,
    mentions: &[Mention],
) -> Result<Opened, Refusal> {
    let kind = if matches!(who.claims().kind, Who::Citizen | Who::Guardian) { Kind::C } else { Kind::U };
    let mut record = who.record(central, kind, Outcome::Permit);
    record.transaction = number.to_owned();
    record.patient.clone_from(&who.claims().patient);
    record.recipient = Some(remote.id.clone());
    record.rule = Some("G".to_owned());
    let (object, attached) = log::about(central, kind, mentions);
    record.object = Some(object);
    match tokio::try_join!(central.audit.open(vec![record]), central.audit.append(attached)) {
        Ok((opening, ())) => Ok(Opened { central: central.clone(), opening: Some(opening) }),
        Err(error) => Err(refused(&error)),
    }
}

/// What a peer gave, before it is told: uniqueIds of documents, or ids of what has none.
///
/// # Errors
/// IDR-X-32: the answer must not leave.
pub async fn came(central: &Central, who: &Authenticated, remote: &Remote, number: &str, items: &[String]) -> Result<(), Refusal> {
    let notes = items.chunks(ATTACHED_MAX).map(|items| {
        let data = json!({ "request_id": who.asked.request_id, "transaction": number, "from": remote.id, "items": items });
        Entry::Note(Stream::Use, Note { id: Some(central.new_id()), time: central.now(), event: "told_by_another".to_owned(), data })
    });
    let notes: Vec<Entry> = notes.collect();
    if notes.is_empty() {
        return Ok(());
    }
    central.audit.append(notes).await.map_err(|error| refused(&error))
}

/// The open record of a question. Dropped, because the client left or the answer may not be told, it is closed as failed.
pub struct Opened {
    central: Arc<Central>,
    opening: Option<Opening>,
}

impl Opened {
    /// Closes it: how many things and bytes came, and whether that is all that was asked for.
    pub async fn answered(mut self, whole: bool, (instances, bytes): (u64, u64)) {
        let (outcome, extent, status) = match (whole, instances) {
            (true, _) => (Outcome::Permit, Extent::Complete, "Success"),
            (false, 0) => (Outcome::Failed, Extent::None, "Failure"),
            (false, _) => (Outcome::Permit, Extent::Partial, "PartialSuccess"),
        };
        if let Some(closing) = self.end(outcome, Delivered { extent, instances, bytes }, status) {
            let _ = closing.await;
        }
    }

    /// Closes it: nothing came, for this reason.
    pub async fn failed(mut self, status: &str) {
        if let Some(closing) = self.end(Outcome::Failed, NOTHING, status) {
            let _ = closing.await;
        }
    }

    /// Goes on by itself, whoever waits for it or does not.
    fn end(&mut self, outcome: Outcome, delivered: Delivered, status: &str) -> Option<JoinHandle<()>> {
        // Without a runtime the recovery closes it.
        let (opening, runtime) = (self.opening.take()?, tokio::runtime::Handle::try_current().ok()?);
        let (central, status) = (self.central.clone(), status.to_owned());
        Some(runtime.spawn(async move { log::close(&central, opening, outcome, Some(delivered), &status).await }))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.end(Outcome::Failed, NOTHING, "Aborted"));
    }
}

const NOTHING: Delivered = Delivered { extent: Extent::None, instances: 0, bytes: 0 };

fn refused(error: &impl std::error::Error) -> Refusal {
    tracing::error!(cause = %error, "nothing is asked of others without its record");
    Refusal::unavailable("the audit store takes no records")
}

/// Items of one note.
const ATTACHED_MAX: usize = 1500;
