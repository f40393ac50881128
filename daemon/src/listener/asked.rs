//! C-FIND, C-GET and C-MOVE on an association: one response or sub-operation at a time, the socket is looked at in between.

use bytes::Bytes;
use idr_dimse::message::command_set::{CommandField, CommandSet, Element, Priority};
use idr_dimse::service::query_retrieve::{self as service, Identifier, Service};
use idr_dimse::service::storage::Outcome;
use idr_dimse::status::Status;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Association;
use crate::query::retrieval::{Next, Object};
use crate::query::{Finding, Found, Mover, Retrieval};

/// A query or retrieve under way.
pub(super) struct Asked {
    command: CommandSet,
    context_id: u8,
    cancelled: bool,
    doing: Doing,
}

enum Doing {
    Finding(Box<Finding>),
    Retrieving {
        retrieval: Box<Retrieval>,
        /// Message ID and SOP Instance UID of the C-STORE-RQ that waits for its answer.
        sent: Option<(u16, String)>,
    },
    Moving {
        retrieval: Box<Retrieval>,
        mover: Box<Mover>,
    },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Association<S> {
    /// A request is complete.
    pub(super) async fn ask(&mut self, context_id: u8, command: CommandSet, identifier: Option<Vec<u8>>) {
        match self.begin(context_id, &command, identifier).await {
            Ok(doing) => self.asked = Some(Asked { command, context_id, cancelled: false, doing }),
            Err((status, cause)) => {
                let inbound = self.admitted.as_ref().map(|admitted| admitted.row.name.as_str());
                tracing::warn!(inbound, %status, "a query is refused: {cause}");
                let mut response = CommandSet::response(&command, status);
                response.set_text(Element::ERROR_COMMENT, &cause.chars().take(64).collect::<String>());
                self.answer(context_id, &command, &response);
            }
        }
    }

    async fn begin(&mut self, context_id: u8, command: &CommandSet, identifier: Option<Vec<u8>>) -> Result<Doing, (Status, String)> {
        let because = |status: Status| move |cause: &str| (status, cause.to_owned());
        let context = self.channel.context(context_id);
        let (Some(context), Some(admitted)) = (context, &self.admitted) else {
            return Err(because(Status::PROCESSING_FAILURE)("no presentation context"));
        };
        let field = command.command_field();
        let (model, service) = match service::service_of(&context.abstract_syntax) {
            Some((model, Service::Find)) if field == CommandField::C_FIND_RQ => (model, Service::Find),
            Some((model, Service::Get)) if field == CommandField::C_GET_RQ => (model, Service::Get),
            Some((model, Service::Move)) if field == CommandField::C_MOVE_RQ => (model, Service::Move),
            _ => return Err(because(Status::UNRECOGNIZED_OPERATION)("not an operation of this presentation context")),
        };
        if command.uid(Element::AFFECTED_SOP_CLASS_UID) != Some(&context.abstract_syntax) {
            return Err(because(Status::SOP_CLASS_NOT_SUPPORTED)("SOP class differs from presentation context"));
        }
        if !self.is_still_admitted() {
            return Err(because(Status::NOT_AUTHORIZED)("the row of this device was removed or changed"));
        }
        if self.asked.is_some() {
            return Err(because(Status::OUT_OF_RESOURCES)("another query is under way on this association"));
        }
        let Some(bytes) = identifier else {
            return Err(because(Status::DATA_SET_DOES_NOT_MATCH_SOP_CLASS)("the identifier is too long"));
        };
        let identifier = Identifier::read(&context.transfer_syntax, &bytes, model, service);
        let identifier = identifier.map_err(|error| (error.status(), error.to_string()))?;
        let query = &self.ingress.query;
        let asker = query.asker(admitted, self.ingress.may_query(&admitted.row));
        let busy = |status: Status| (status, "it cannot be answered now, or asks for too much".to_owned());
        match service {
            Service::Find => query.begin_find(asker, identifier).await.map(|finding| Doing::Finding(Box::new(finding))).map_err(busy),
            Service::Move => {
                let destination = command.text(Element::MOVE_DESTINATION).unwrap_or_default().into_owned();
                if !query.has_destination(&admitted.tenant, &destination) {
                    return Err(because(Status::MOVE_DESTINATION_UNKNOWN)("this move destination is not configured"));
                }
                let retrieval = query.begin_retrieve(asker.clone(), (model, &identifier), &destination).await.map_err(busy)?;
                let mover = asker.and_then(|asker| query.mover(&asker, &destination, command.message_id(), &retrieval));
                Ok(match mover {
                    Some(mover) => Doing::Moving { retrieval: Box::new(retrieval), mover: Box::new(mover) },
                    // Who may not ask is told that there is nothing.
                    None => Doing::Retrieving { retrieval: Box::new(retrieval), sent: None },
                })
            }
            Service::Get => {
                let retrieval = query.begin_retrieve(asker, (model, &identifier), "itself").await.map_err(busy)?;
                Ok(Doing::Retrieving { retrieval: Box::new(retrieval), sent: None })
            }
        }
    }

    /// Whether there is something to do now, without waiting for the peer.
    pub(super) fn may_go_on(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| !matches!(asked.doing, Doing::Retrieving { sent: Some(_), .. })) && self.in_flight.is_none()
    }

    /// Does the next step of what is under way.
    pub(super) async fn go_on(&mut self) -> std::io::Result<()> {
        let Some(mut asked) = self.asked.take() else { return Ok(()) };
        let over = match &mut asked.doing {
            Doing::Finding(_) if asked.cancelled => {
                self.answer(asked.context_id, &asked.command, &service::find_response(&asked.command, Status::CANCEL, false));
                true
            }
            Doing::Finding(finding) => match finding.next().await {
                Found::Nothing => false,
                Found::Match(elements, status) => {
                    let syntax = self.channel.context(asked.context_id).map(|context| context.transfer_syntax.clone()).unwrap_or_default();
                    match service::encode(&syntax, elements) {
                        Ok(data) => self.send(asked.context_id, &service::find_response(&asked.command, status, true), data),
                        Err(_) => tracing::debug!("the association ended before the answer"),
                    }
                    false
                }
                Found::End(status) => {
                    self.answer(asked.context_id, &asked.command, &service::find_response(&asked.command, status, false));
                    true
                }
            },
            Doing::Moving { retrieval, mover } if asked.cancelled => {
                mover.close().await;
                retrieval.cancel();
                self.finish(asked.context_id, &asked.command, retrieval, Status::CANCEL);
                true
            }
            Doing::Moving { retrieval, mover } => match retrieval.next().await {
                Next::End => {
                    mover.close().await;
                    let status = retrieval.counts().status();
                    self.finish(asked.context_id, &asked.command, retrieval, status);
                    true
                }
                Next::Failed => false,
                Next::Object(object) => {
                    let uid = object.sop_instance.clone();
                    retrieval.ended(&uid, mover.send(object).await);
                    if retrieval.counts().remaining > 0 {
                        let pending = service::retrieve_response(&asked.command, Status::PENDING, retrieval.counts(), false);
                        self.respond(asked.context_id, &pending);
                    }
                    false
                }
            },
            Doing::Retrieving { retrieval, .. } if asked.cancelled => {
                retrieval.cancel();
                self.finish(asked.context_id, &asked.command, retrieval, Status::CANCEL);
                true
            }
            Doing::Retrieving { retrieval, sent } => match retrieval.next().await {
                Next::End => {
                    let status = retrieval.counts().status();
                    self.finish(asked.context_id, &asked.command, retrieval, status);
                    true
                }
                Next::Failed => false,
                Next::Object(object) => {
                    let uid = object.sop_instance.clone();
                    match self.store(object).await? {
                        Some(message_id) => *sent = Some((message_id, uid)),
                        None => retrieval.ended(&uid, None),
                    }
                    false
                }
            },
        };
        if !over {
            self.asked = Some(asked);
        }
        Ok(())
    }

    /// C-CANCEL.
    pub(super) fn cancel(&mut self, message_id: u16) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.command.message_id() == message_id) {
            asked.cancelled = true;
        }
    }

    /// Whether a response is to the C-STORE of a retrieve; then the next sub-operation may begin.
    pub(super) fn stored(&mut self, response: &CommandSet) -> bool {
        let Some(mut asked) = self.asked.take() else { return false };
        let mut of_it = false;
        if let Doing::Retrieving { retrieval, sent } = &mut asked.doing
            && let Some((message_id, uid)) = sent.as_ref()
            && response.message_id() == *message_id
            && response.command_field() == CommandField::C_STORE_RSP
        {
            of_it = true;
            retrieval.ended(uid, Outcome::read(response).map(|outcome| outcome.status));
            *sent = None;
            if retrieval.counts().remaining > 0 {
                let pending = service::retrieve_response(&asked.command, Status::PENDING, retrieval.counts(), false);
                self.respond(asked.context_id, &pending);
            }
        }
        self.asked = Some(asked);
        of_it
    }

    fn finish(&mut self, context_id: u8, command: &CommandSet, retrieval: &Retrieval, status: Status) {
        retrieval.close(status);
        let syntax = self.channel.context(context_id).map(|context| context.transfer_syntax.clone()).unwrap_or_default();
        let failed = Some(retrieval.failed()).filter(|failed| !failed.is_empty());
        let list = failed.and_then(|failed| service::failed_instances(&syntax, failed).ok());
        let response = service::retrieve_response(command, status, retrieval.counts(), list.is_some());
        self.dispatcher.answered(command.message_id());
        match list {
            Some(list) => self.send(context_id, &response, list),
            None => self.respond(context_id, &response),
        }
    }

    /// A response with its data set.
    fn send(&mut self, context_id: u8, response: &CommandSet, data: Bytes) {
        let sent = self.channel.send_command(context_id, response);
        if let Err(error) = sent.and_then(|()| self.channel.send_data(context_id, data, true)) {
            tracing::debug!(%error, "the association ended before the answer");
        }
    }

    /// C-STORE of one instance to the peer, in the transfer syntax that it is held in; its Message ID. `None`: no presentation
    /// context, or it cannot be read.
    async fn store(&mut self, mut object: Object) -> std::io::Result<Option<u16>> {
        let context = self.channel.contexts().iter().find(|context| {
            context.abstract_syntax == object.sop_class && context.transfer_syntax == object.transfer_syntax && context.roles.scp
        });
        let Some(context_id) = context.map(|context| context.id) else {
            tracing::info!(
                sop_class = object.sop_class,
                transfer_syntax = object.transfer_syntax,
                "an instance cannot be got: no presentation context for it as it is held"
            );
            return Ok(None);
        };
        // The first bytes before the command: what cannot be read at all is not begun.
        let Ok(mut piece) = object.stored.next().await else { return Ok(None) };
        self.message_id = self.message_id.wrapping_add(1);
        let command = CommandSet::c_store_rq(self.message_id, &object.sop_class, &object.sop_instance, Priority::Medium);
        self.channel.send_command(context_id, &command).map_err(std::io::Error::other)?;
        loop {
            // A transfer of altered bytes cannot end well: the association does.
            let next = object.stored.next().await.map_err(std::io::Error::other)?;
            let data = piece.take().unwrap_or_default();
            self.channel.send_data(context_id, data, next.is_none()).map_err(std::io::Error::other)?;
            self.channel.flush().await?;
            if next.is_none() {
                return Ok(Some(self.message_id));
            }
            piece = next;
        }
    }
}
