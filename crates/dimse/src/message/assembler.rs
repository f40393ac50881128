//! Presentation data values in, command sets and data set fragments out (PS3.8 Annex E).
//!
//! # Bounds
//! A command set is kept until its last fragment, up to the length given to [`Assembler::new`]. Of a data set nothing is
//! kept.

use bytes::{Bytes, BytesMut};

use super::MessageError;
use super::command_set::CommandSet;
use crate::pdu::{Fragment, Pdv};

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A complete command set.
    Command {
        /// Presentation context of the message.
        context_id: u8,
        /// The command set.
        command: CommandSet,
    },
    /// A fragment of the data set of the last command.
    Data {
        /// Presentation context of the message.
        context_id: u8,
        /// The fragment, possibly empty.
        fragment: Bytes,
        /// The data set is complete.
        last: bool,
    },
}

/// Follows the messages of one direction of an association.
#[derive(Debug)]
pub struct Assembler {
    command_length_max: usize,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Command,
    MoreCommand { context_id: u8, so_far: BytesMut },
    Data { context_id: u8 },
}

impl Assembler {
    /// An assembler between messages; `command_length_max` in bytes.
    pub fn new(command_length_max: usize) -> Self {
        Assembler { command_length_max, expected: Expected::Command }
    }

    /// Whether no message is incomplete.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.expected, Expected::Command)
    }

    /// Takes the next presentation data value; `None` while a command set is incomplete.
    ///
    /// # Errors
    /// The value does not continue the message under way, or its command set is too long or not acceptable. The assembler
    /// cannot be used afterwards; the association has to be aborted.
    pub fn push(&mut self, pdv: Pdv) -> Result<Option<Part>, MessageError> {
        let Pdv { context_id, kind, last, data } = pdv;
        let command = match (std::mem::replace(&mut self.expected, Expected::Command), kind) {
            (Expected::MoreCommand { context_id: expected, .. } | Expected::Data { context_id: expected }, _) if expected != context_id => {
                return Err(MessageError::Interleaved { expected, found: context_id });
            }
            (Expected::Command | Expected::MoreCommand { .. }, Fragment::Data) => return Err(MessageError::CommandExpected(context_id)),
            (Expected::Data { .. }, Fragment::Command) => return Err(MessageError::DataExpected(context_id)),
            (Expected::Data { .. }, Fragment::Data) => {
                if !last {
                    self.expected = Expected::Data { context_id };
                }
                return Ok(Some(Part::Data { context_id, fragment: data, last }));
            }
            // Nearly always: the whole command set in one fragment, and nothing to copy.
            (Expected::Command, Fragment::Command) if last => self.bounded(data.len()).map(|()| data)?,
            (Expected::Command, Fragment::Command) => return self.more(context_id, BytesMut::new(), &data),
            (Expected::MoreCommand { so_far, .. }, Fragment::Command) if !last => return self.more(context_id, so_far, &data),
            (Expected::MoreCommand { mut so_far, .. }, Fragment::Command) => {
                self.bounded(so_far.len() + data.len())?;
                so_far.extend_from_slice(&data);
                so_far.freeze()
            }
        };
        let command = CommandSet::decode(command).map_err(MessageError::Command)?;
        if command.has_data_set() {
            self.expected = Expected::Data { context_id };
        }
        Ok(Some(Part::Command { context_id, command }))
    }

    fn more(&mut self, context_id: u8, mut so_far: BytesMut, data: &[u8]) -> Result<Option<Part>, MessageError> {
        self.bounded(so_far.len() + data.len())?;
        so_far.extend_from_slice(data);
        self.expected = Expected::MoreCommand { context_id, so_far };
        Ok(None)
    }

    fn bounded(&self, length: usize) -> Result<(), MessageError> {
        if length > self.command_length_max { Err(MessageError::CommandTooLong(self.command_length_max)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::command_set::Priority;
    use crate::status::Status;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn pdv(context_id: u8, kind: Fragment, last: bool, data: impl Into<Bytes>) -> Pdv {
        Pdv { context_id, kind, last, data: data.into() }
    }

    fn store() -> Bytes {
        CommandSet::c_store_rq(7, CT, "1.2.3", Priority::Medium).encode()
    }

    #[test]
    fn a_message_in_fragments_of_two_bytes_gives_the_command_and_every_data_fragment() {
        let mut assembler = Assembler::new(65_536);
        let command = store();
        let mut parts = Vec::new();
        for start in (0..command.len()).step_by(2) {
            let last = start + 2 == command.len();
            parts.extend(assembler.push(pdv(1, Fragment::Command, last, command.slice(start..start + 2))).unwrap());
        }
        parts.extend(assembler.push(pdv(1, Fragment::Data, false, "ab")).unwrap());
        assert!(!assembler.is_between_messages());
        parts.extend(assembler.push(pdv(1, Fragment::Data, true, "")).unwrap());
        assert!(assembler.is_between_messages());
        let expected = CommandSet::decode(store()).unwrap();
        assert_eq!(
            parts,
            [
                Part::Command { context_id: 1, command: expected },
                Part::Data { context_id: 1, fragment: "ab".into(), last: false },
                Part::Data { context_id: 1, fragment: "".into(), last: true },
            ]
        );
    }

    #[test]
    fn a_data_fragment_is_a_slice_of_what_was_received() {
        let mut assembler = Assembler::new(65_536);
        assembler.push(pdv(1, Fragment::Command, true, store())).unwrap();
        let received = Bytes::from(vec![0; 1000]);
        let Some(Part::Data { fragment, .. }) = assembler.push(pdv(1, Fragment::Data, false, received.clone())).unwrap() else {
            panic!("a data fragment was pushed")
        };
        assert_eq!(fragment.as_ptr(), received.as_ptr());
    }

    #[test]
    fn what_does_not_continue_the_message_is_refused() {
        let begun = |pdvs: &[Pdv]| {
            let mut assembler = Assembler::new(65_536);
            for pdv in pdvs {
                assembler.push(pdv.clone()).unwrap();
            }
            assembler
        };
        let in_data = [pdv(1, Fragment::Command, true, store())];
        let in_command = [pdv(1, Fragment::Command, false, store())];
        let cases = [
            (&[][..], pdv(1, Fragment::Data, true, "ab"), MessageError::CommandExpected(1)),
            (&in_command, pdv(1, Fragment::Data, true, "ab"), MessageError::CommandExpected(1)),
            (&in_data, pdv(1, Fragment::Command, true, store()), MessageError::DataExpected(1)),
            (&in_data, pdv(3, Fragment::Data, true, "ab"), MessageError::Interleaved { expected: 1, found: 3 }),
            (&in_command, pdv(3, Fragment::Command, true, store()), MessageError::Interleaved { expected: 1, found: 3 }),
        ];
        for (before, pdv, error) in cases {
            assert_eq!(begun(before).push(pdv), Err(error));
        }
    }

    #[test]
    fn data_after_a_command_that_announces_none_is_refused() {
        let mut assembler = Assembler::new(65_536);
        let response = CommandSet::response(&CommandSet::decode(store()).unwrap(), Status::SUCCESS);
        assembler.push(pdv(1, Fragment::Command, true, response.encode())).unwrap();
        assert_eq!(assembler.push(pdv(1, Fragment::Data, true, "ab")), Err(MessageError::CommandExpected(1)));
    }

    #[test]
    fn a_command_set_is_taken_up_to_its_bound_and_not_a_byte_more() {
        let command = store();
        let mut exact = Assembler::new(command.len());
        assert!(exact.push(pdv(1, Fragment::Command, true, command.clone())).is_ok());
        let error = MessageError::CommandTooLong(command.len() - 1);
        let mut whole = Assembler::new(command.len() - 1);
        assert_eq!(whole.push(pdv(1, Fragment::Command, true, command.clone())), Err(error));
        let mut in_fragments = Assembler::new(command.len() - 1);
        assert_eq!(in_fragments.push(pdv(1, Fragment::Command, false, command.slice(..10))), Ok(None));
        assert_eq!(in_fragments.push(pdv(1, Fragment::Command, false, command.slice(10..))), Err(error));
    }
}
