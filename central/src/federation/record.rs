//! The records of a question to others (profile 07 §4: the initiating gateway writes the row of the responding one): opened before
//! the question leaves, since it says of whom somebody asks, and closed with what came of it.
//!
//! What came is named by a note of the use log: the record is older than the answer.

use idr_profile::access::Kind as Who;
use idr_profile::xua::Refusal;
use serde_json::json;

use super::Remote;
use crate::assertion::Authenticated;
use crate::audit::{Delivered, Entry, Extent, Kind, Note, Opening, Outcome, Stream};
use crate::central::Central;
use crate::consent::log::{self, Mention};

/// Opens the record of a question; `mentions`: what it names.
///
/// # Errors
/// IDR-X-32: the question must not leave.
pub async fn open(central: &Central, who: &Authenticated, remote: &Remote, number: &str, mentions: &[Mention]) -> Result<Opening, Refusal> {
    let kind = if matches!(who.claims().kind, Who::Citizen | Who::Guardian) { Kind::C } else { Kind::U };
    let mut record = who.record(central, kind, Outcome::Permit);
    record.transaction = number.to_owned();
    record.patient.clone_from(&who.claims().patient);
    record.recipient = Some(remote.id.clone());
    record.rule = Some("G".to_owned());
    let (object, attached) = log::about(central, kind, mentions);
    record.object = Some(object);
    match tokio::try_join!(central.audit.open(vec![record]), central.audit.append(attached)) {
        Ok((opening, ())) => Ok(opening),
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

/// Closes the record: how many things and bytes came.
pub async fn close(central: &Central, opening: Opening, result: Result<(u64, u64), &str>) {
    let (outcome, delivered, status) = match result {
        Ok((instances, bytes)) => (Outcome::Permit, Delivered { extent: Extent::Complete, instances, bytes }, "Success"),
        Err(status) => (Outcome::Failed, Delivered { extent: Extent::None, instances: 0, bytes: 0 }, status),
    };
    log::close(central, opening, outcome, Some(delivered), status).await;
}

fn refused(error: &impl std::error::Error) -> Refusal {
    tracing::error!(cause = %error, "nothing is asked of others without its record");
    Refusal::unavailable("the audit store takes no records")
}

/// Items of one note.
const ATTACHED_MAX: usize = 1500;
