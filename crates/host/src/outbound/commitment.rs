//! Storage commitment as who asks for it (PS3.4 §J.3.2): N-ACTION, and the report on the same association.
//!
//! The report may as well come on an association of the peer; whoever waits for it here knows when to stop.
//!
//! # Bounds
//! References of a report, and the bytes of its data set: by the caller.

use idr_dimse::association::negotiation::{ContextResult, Request};
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::service::storage_commitment::{self as service, ActionInformation, EventInformation, ReadError};
use idr_dimse::status::Status;

use super::{Failure, Session};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// The association, or it ended before the answer.
    #[error(transparent)]
    Association(#[from] Failure),
    /// The presentation context was not accepted.
    #[error("the peer does not accept storage commitment")]
    NotAccepted(ContextResult),
    /// The request cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[from] ReadError),
}

/// A report that came.
pub struct Report {
    context_id: u8,
    command: CommandSet,
    /// Event Type ID and what it says; else the status that answers it.
    pub said: Result<(u16, EventInformation), Status>,
}

/// Adds the presentation context of storage commitment to a request for an association.
pub fn propose(request: &mut Request) {
    request.propose(service::SOP_CLASS_UID, &service::TRANSFER_SYNTAXES);
}

/// Sends a request for storage commitment and gives the status of its answer. A report that comes before the answer is kept.
///
/// # Errors
/// [`Unasked`].
pub async fn ask(session: &mut Session, information: &ActionInformation) -> Result<Status, Unasked> {
    let accepted = service::TRANSFER_SYNTAXES.iter().find_map(|syntax| {
        let context_id = session.result_of(service::SOP_CLASS_UID, syntax)?.ok()?;
        Some((context_id, *syntax))
    });
    let Some((context_id, syntax)) = accepted else {
        let result = session.result_of(service::SOP_CLASS_UID, service::TRANSFER_SYNTAXES[0]).and_then(Result::err);
        return Err(Unasked::NotAccepted(result.unwrap_or(ContextResult::NoReason)));
    };
    session.keep_data_sets(service::data_set_bytes_max(information.references.len()));
    let data = information.encode(syntax)?;
    let message_id = session.next_message_id();
    session.command(context_id, &service::action_request(message_id)).await?;
    session.data(context_id, data, true).await?;
    let mut early = Vec::new();
    let status = loop {
        let message = session.message().await?;
        match service::action_status(&message.command, message_id) {
            Some(status) => break status,
            None => early.push(message),
        }
    };
    early.into_iter().rev().for_each(|message| session.put_back(message));
    Ok(status)
}

/// The next report; any other request of the peer is refused. Dropped before it is over, nothing is lost but a message of which
/// only a part had come.
///
/// # Errors
/// [`Failure`].
pub async fn report(session: &mut Session, references_max: usize) -> Result<Report, Failure> {
    loop {
        let message = session.message().await?;
        if message.command.command_field().is_response() {
            continue;
        }
        if message.command.command_field() != CommandField::N_EVENT_REPORT_RQ {
            session.command(message.context_id, &CommandSet::response(&message.command, Status::UNRECOGNIZED_OPERATION)).await?;
            continue;
        }
        let context = session.contexts().iter().find(|context| context.id == message.context_id);
        let syntax = context.map(|context| context.transfer_syntax.clone()).unwrap_or_default();
        let said = read(&message.command, message.data.as_deref(), &syntax, references_max);
        return Ok(Report { context_id: message.context_id, command: message.command, said });
    }
}

/// What a report says: its Event Type ID and its lists. The listener reads by this too.
///
/// # Errors
/// The status that answers it: of the command set, 0213H for a data set beyond its bounds, 0110H for one that cannot be read
/// (profile 03 EV-PARSE).
pub fn read(command: &CommandSet, data: Option<&[u8]>, syntax: &str, references_max: usize) -> Result<(u16, EventInformation), Status> {
    let event_type = service::check_event_report(command)?;
    let data = data.ok_or(Status::RESOURCE_LIMITATION)?;
    let information = EventInformation::read(syntax, data, references_max).map_err(|_| Status::PROCESSING_FAILURE)?;
    Ok((event_type, information))
}

/// Answers a report.
///
/// # Errors
/// [`Failure`].
pub async fn answer(session: &mut Session, report: &Report, status: Status) -> Result<(), Failure> {
    session.command(report.context_id, &service::event_report_response(&report.command, status)).await
}
