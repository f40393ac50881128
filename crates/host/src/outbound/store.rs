//! C-STORE of one instance on an association of our own (PS3.4 §B.2, PS3.7 §9.3.1): the bytes of its data set as they are held.
//!
//! # Failure
//! An instance whose bytes end in an error is not ended on the wire: the caller aborts the association. What cannot be read at
//! all is not begun.

use std::future::Future;

use bytes::Bytes;
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::service::storage::Outcome;

use super::{Failure, Session};

/// Where the bytes of a data set come from, in pieces; all but the last of an even length.
pub trait Pieces: Send {
    /// Why there are no more.
    type Error: Send;

    /// The next bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}

/// Why an instance has no answer.
#[derive(Debug)]
pub enum Unstored<E> {
    /// The association, or it ended before the answer: the result is unknown.
    Association(Failure),
    /// The bytes.
    Source {
        /// What kept them from being read.
        error: E,
        /// The message had begun: the association is of no use any more.
        begun: bool,
    },
}

/// Sends an instance on an accepted presentation context by this C-STORE-RQ; the peer's answer, a final one or not.
///
/// # Errors
/// [`Unstored`].
pub async fn store<P: Pieces>(
    session: &mut Session,
    context_id: u8,
    command: &CommandSet,
    pieces: &mut P,
) -> Result<Outcome, Unstored<P::Error>> {
    let of_source = |begun| move |error| Unstored::Source { error, begun };
    let mut piece = pieces.next().await.map_err(of_source(false))?;
    session.command(context_id, command).await.map_err(Unstored::Association)?;
    loop {
        let next = match piece {
            Some(_) => pieces.next().await.map_err(of_source(true))?,
            None => None,
        };
        session.data(context_id, piece.unwrap_or_default(), next.is_none()).await.map_err(Unstored::Association)?;
        if next.is_none() {
            break;
        }
        piece = next;
    }
    loop {
        let response = session.received().await.map_err(Unstored::Association)?;
        if response.command_field() == CommandField::C_STORE_RSP
            && response.message_id() == command.message_id()
            && let Some(outcome) = Outcome::read(&response)
        {
            return Ok(outcome);
        }
    }
}
