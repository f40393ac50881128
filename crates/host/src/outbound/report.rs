//! One report on an association of our own (profile 10 F16): [`super::Session`] with the service of storage commitment.
//!
//! # Standard
//! PS3.4 §J.3.3: we propose the SCP role. Many devices accept the presentation context and leave the role selection out of their
//! answer: the report is sent to them too, they asked for it.

use idr_dimse::association::negotiation::Request;
use idr_dimse::limits::Limits;
use idr_dimse::service::storage_commitment::{self as service, EventInformation};
use idr_dimse::status::Status;

use super::{Failure, Session, Target, Waits};

/// Why a report has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// No association, or it ended before the answer.
    #[error(transparent)]
    Association(#[from] Failure),
    /// The presentation context was not accepted.
    #[error("the device does not accept storage commitment")]
    NotAccepted,
    /// The report cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[from] service::ReadError),
}

/// Opens an association by `request`, which proposes nothing yet, sends the report and gives the device's answer.
///
/// # Errors
/// [`Undelivered`].
pub async fn deliver(
    target: &Target,
    mut request: Request,
    information: &EventInformation,
    limits: Limits,
    waits: Waits,
) -> Result<Status, Undelivered> {
    request.propose(service::SOP_CLASS_UID, &service::TRANSFER_SYNTAXES);
    request.roles.push((service::SOP_CLASS_UID.to_owned(), service::REPORTING_ROLES));
    let mut session = Session::open(target, request, limits, waits).await?;
    let accepted = session.contexts().iter().find(|context| context.abstract_syntax == service::SOP_CLASS_UID);
    let Some((context_id, transfer_syntax)) = accepted.map(|context| (context.id, context.transfer_syntax.clone())) else {
        session.release().await;
        return Err(Undelivered::NotAccepted);
    };
    let data = information.encode(&transfer_syntax)?;
    let message_id = session.next_message_id();
    session.command(context_id, &service::event_report_request(message_id, information.event_type())).await?;
    session.data(context_id, data, true).await?;
    loop {
        if let Some(status) = service::event_report_status(&session.received().await?, message_id) {
            session.release().await;
            return Ok(status);
        }
    }
}
