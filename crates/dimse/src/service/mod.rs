//! Which operation a command asks for, and its answer (PS3.7 §9, §10, Annex C; PS3.4 Annexes A, B, C, F, J and R).
//!
//! [`Dispatcher`] looks at the commands of one association. What it refuses it has already answered; [`storage`],
//! [`storage_commitment`], [`mpps`], [`instance_availability`], [`query_retrieve`] and [`verification`] make the answers of the
//! operations that are performed. [`normalized`] is what the N-CREATE and N-SET of several of them share.

pub mod data_set;
pub mod instance_availability;
pub mod mpps;
pub mod normalized;
pub mod query_retrieve;
pub mod storage;
pub mod storage_commitment;
pub mod verification;

use crate::message::command_set::{CommandField, CommandSet, Element};
use crate::status::Status;

/// What to do with a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Dispatched {
    /// Perform the operation, answer it, and tell [`Dispatcher::answered`].
    Perform,
    /// Send this response. Fragments of a data set that still come belong to nothing and are dropped.
    Refuse(CommandSet),
    /// Stop the operation with this Message ID, which is under way.
    Cancel(u16),
    /// The response to a request of ours.
    Response,
    /// A cancel request for an operation that is not under way (any more); nothing to do (PS3.7 §9.3.2.3).
    Nothing,
}

/// Admits the operations of one association.
///
/// # Bounds
/// At most [`OPERATIONS_MAX`] operations are under way; asynchronous operations are not agreed, so one is what a peer may
/// have.
#[derive(Debug)]
pub struct Dispatcher {
    supported: &'static [CommandField],
    under_way: Vec<u16>,
}

/// Operations that may be under way on one association.
pub const OPERATIONS_MAX: usize = 16;

impl Dispatcher {
    /// A dispatcher that knows these requests.
    pub fn new(supported: &'static [CommandField]) -> Self {
        Dispatcher { supported, under_way: Vec::new() }
    }

    /// Judges a command: 0211H if the operation is not in the list, 0210H if its Message ID is in use, 0212H if it has a
    /// data set where it may not or none where it must, or a UID that is none; 0213H above the bound.
    pub fn dispatch(&mut self, command: &CommandSet) -> Dispatched {
        let (field, message_id) = (command.command_field(), command.message_id());
        if field.is_response() {
            return Dispatched::Response;
        }
        if field == CommandField::C_CANCEL_RQ {
            return if self.under_way.contains(&message_id) { Dispatched::Cancel(message_id) } else { Dispatched::Nothing };
        }
        let status = if !self.supported.contains(&field) {
            Status::UNRECOGNIZED_OPERATION
        } else if self.under_way.contains(&message_id) {
            Status::DUPLICATE_INVOCATION
        } else if is_mistyped(command) {
            Status::MISTYPED_ARGUMENT
        } else if self.under_way.len() >= OPERATIONS_MAX {
            Status::RESOURCE_LIMITATION
        } else {
            self.under_way.push(message_id);
            return Dispatched::Perform;
        };
        Dispatched::Refuse(CommandSet::response(command, status))
    }

    /// The final response to this message has been sent: its Message ID is free again.
    pub fn answered(&mut self, message_id: u16) {
        self.under_way.retain(|id| *id != message_id);
    }
}

fn is_mistyped(command: &CommandSet) -> bool {
    let data_set = match command.command_field() {
        CommandField::C_STORE_RQ | CommandField::C_FIND_RQ | CommandField::C_GET_RQ | CommandField::C_MOVE_RQ => Some(true),
        // Of N-ACTION and N-EVENT-REPORT there is storage commitment, whose action and report have a data set.
        CommandField::N_ACTION_RQ | CommandField::N_EVENT_REPORT_RQ => Some(true),
        // Of these the performed procedure step and the notice of availability, which consist of their data set.
        CommandField::N_CREATE_RQ | CommandField::N_SET_RQ => Some(true),
        CommandField::C_ECHO_RQ => Some(false),
        _ => None,
    };
    let uids = [
        Element::AFFECTED_SOP_CLASS_UID,
        Element::REQUESTED_SOP_CLASS_UID,
        Element::AFFECTED_SOP_INSTANCE_UID,
        Element::REQUESTED_SOP_INSTANCE_UID,
    ];
    let not_text = |element: &Element| command.value(*element).is_some_and(|value| !value.is_ascii());
    data_set.is_some_and(|needed| needed != command.has_data_set()) || uids.iter().any(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::command_set::Priority;

    const SUPPORTED: &[CommandField] = &[CommandField::C_ECHO_RQ, CommandField::C_STORE_RQ];
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn store(message_id: u16) -> CommandSet {
        CommandSet::c_store_rq(message_id, CT, "1.2.3", Priority::Medium)
    }

    fn refused(dispatched: Dispatched) -> Option<Status> {
        match dispatched {
            Dispatched::Refuse(response) => response.status(),
            _ => None,
        }
    }

    #[test]
    fn an_operation_outside_the_list_is_unrecognized() {
        let find = CommandSet::request(CommandField::C_FIND_RQ, 1, true);
        assert_eq!(refused(Dispatcher::new(SUPPORTED).dispatch(&find)), Some(Status::UNRECOGNIZED_OPERATION));
    }

    #[test]
    fn a_message_id_is_in_use_from_the_request_until_its_answer() {
        let mut dispatcher = Dispatcher::new(SUPPORTED);
        assert_eq!(dispatcher.dispatch(&store(5)), Dispatched::Perform);
        assert_eq!(refused(dispatcher.dispatch(&CommandSet::c_echo_rq(5))), Some(Status::DUPLICATE_INVOCATION));
        assert_eq!(dispatcher.dispatch(&store(6)), Dispatched::Perform);
        dispatcher.answered(5);
        assert_eq!(dispatcher.dispatch(&store(5)), Dispatched::Perform);
    }

    #[test]
    fn a_data_set_where_none_belongs_or_none_where_one_must_be_is_a_mistyped_argument() {
        let mut dispatcher = Dispatcher::new(SUPPORTED);
        let store_without = CommandSet::request(CommandField::C_STORE_RQ, 1, false);
        let echo_with = CommandSet::request(CommandField::C_ECHO_RQ, 1, true);
        assert_eq!(refused(dispatcher.dispatch(&store_without)), Some(Status::MISTYPED_ARGUMENT));
        assert_eq!(refused(dispatcher.dispatch(&echo_with)), Some(Status::MISTYPED_ARGUMENT));
    }

    #[test]
    fn a_uid_that_is_not_text_is_a_mistyped_argument() {
        let command = CommandSet::c_store_rq(1, "1.2.é", "1.2.3", Priority::Medium);
        assert_eq!(refused(Dispatcher::new(SUPPORTED).dispatch(&command)), Some(Status::MISTYPED_ARGUMENT));
    }

    #[test]
    fn operations_without_an_answer_are_bounded() {
        let mut dispatcher = Dispatcher::new(SUPPORTED);
        for message_id in 0..OPERATIONS_MAX as u16 {
            assert_eq!(dispatcher.dispatch(&store(message_id)), Dispatched::Perform);
        }
        assert_eq!(refused(dispatcher.dispatch(&store(1000))), Some(Status::RESOURCE_LIMITATION));
    }

    #[test]
    fn a_cancel_concerns_only_what_is_under_way() {
        let mut dispatcher = Dispatcher::new(SUPPORTED);
        dispatcher.dispatch(&store(5));
        assert_eq!(dispatcher.dispatch(&CommandSet::c_cancel_rq(5)), Dispatched::Cancel(5));
        assert_eq!(dispatcher.dispatch(&CommandSet::c_cancel_rq(6)), Dispatched::Nothing);
    }
}
