//! Sub-operations of a C-MOVE: C-STORE to a destination of the configuration, on one association of our own (PS3.4 §C.4.2.2).
//!
//! # Failure
//! An association that cannot be opened fails everything that is left, at once: the device asks again. One that ends early fails
//! the instance in flight, and the next one opens another.

use std::collections::BTreeSet;

use idr_dimse::limits::Limits;
use idr_dimse::message::command_set::{CommandSet, Element, Priority};
use idr_dimse::status::Status;
use idr_host::outbound::store::{Unstored, store};

use super::Asker;
use super::retrieval::Object;
use crate::outbound::{self, Bits, Failure, Session, Target, Waits};

/// Presentation contexts of one association (PS3.8 §9.3.2.2: odd identifiers to 255).
const CONTEXTS_MAX: usize = 128;

/// Sends instances to a destination.
pub struct Mover {
    target: Target,
    /// Our AE title there: the one that who asks has called.
    calling: String,
    /// AE title and Message ID of the C-MOVE.
    originator: (String, u16),
    kinds: Vec<(String, String)>,
    limits: Limits,
    waits: Waits,
    session: Option<Session>,
    unreachable: bool,
}

impl Mover {
    /// To a destination, for these SOP classes and transfer syntaxes; beyond 128 of them the rest has no presentation context.
    pub(super) fn new(
        target: Target,
        asker: &Asker,
        message_id: u16,
        kinds: BTreeSet<(String, String)>,
        limits: Limits,
        waits: Waits,
    ) -> Self {
        Self {
            target,
            calling: asker.called_ae.clone(),
            originator: (asker.calling_ae.clone(), message_id),
            kinds: kinds.into_iter().take(CONTEXTS_MAX).collect(),
            limits,
            waits,
            session: None,
            unreachable: false,
        }
    }

    /// Sends one instance as it is held; the status of the answer, `None` if there is none.
    pub async fn send(&mut self, object: Object) -> Option<Status> {
        if self.unreachable {
            return None;
        }
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match self.open().await {
                Ok(session) => session,
                Err(error) => {
                    tracing::warn!(destination = self.target.ae_title, cause = %error, "a move destination cannot be reached");
                    self.unreachable = true;
                    return None;
                }
            },
        };
        match self.store(&mut session, object).await {
            Ok(status) => {
                self.session = Some(session);
                status
            }
            Err(error) => {
                tracing::warn!(destination = self.target.ae_title, cause = %error, "an instance was not moved");
                None
            }
        }
    }

    /// Ends the association, if there is one.
    pub async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.release().await;
        }
    }

    async fn open(&self) -> Result<Session, Failure> {
        let mut request = outbound::request(&self.calling, &self.target.ae_title);
        for (sop_class, transfer_syntax) in &self.kinds {
            request.propose(sop_class, &[transfer_syntax]);
        }
        Session::open(&self.target, request, self.limits, self.waits).await
    }

    async fn store(&self, session: &mut Session, object: Object) -> Result<Option<Status>, Failure> {
        let fits = |context: &&idr_dimse::association::Context| {
            context.abstract_syntax == object.sop_class && context.transfer_syntax == object.transfer_syntax
        };
        let Some(context_id) = session.contexts().iter().find(fits).map(|context| context.id) else {
            tracing::info!(
                destination = self.target.ae_title,
                sop_class = object.sop_class,
                transfer_syntax = object.transfer_syntax,
                "a move destination does not take an instance as it is held"
            );
            return Ok(None);
        };
        let message_id = session.next_message_id();
        let mut command = CommandSet::c_store_rq(message_id, &object.sop_class, &object.sop_instance, Priority::Medium);
        command.set_text(Element::MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE, &self.originator.0);
        command.set_unsigned(Element::MOVE_ORIGINATOR_MESSAGE_ID, self.originator.1);
        match store(session, context_id, &command, &mut Bits(object.stored)).await {
            Ok(outcome) => Ok(Some(outcome.status)),
            Err(Unstored::Association(failure)) => Err(failure),
            Err(Unstored::Source { begun: false, .. }) => Ok(None),
            // A transfer of altered bytes cannot end well: its association ends before the last fragment.
            Err(Unstored::Source { error, begun: true }) => Err(std::io::Error::other(error).into()),
        }
    }
}
