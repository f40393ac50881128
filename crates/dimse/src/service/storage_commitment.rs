//! Storage Commitment Push Model: N-ACTION and N-EVENT-REPORT (PS3.4 Annex J, PS3.7 §10.1.1, §10.1.4).
//!
//! The SCU lists instances in [`ActionInformation`] (N-ACTION-RQ); the SCP answers that it has taken the request, and later
//! tells in [`EventInformation`] (N-EVENT-REPORT-RQ) for which of them it takes responsibility. [`check_action`] judges the
//! command set, [`ActionInformation::read`] the data set.
//!
//! # Roles
//! On the association that the SCU opened it has its role without negotiation. An SCP that opens one to report proposes the
//! SCP role by role selection: [`REPORTING_ROLES`] (PS3.4 §J.3.3, PS3.7 D.3.3.4).
//!
//! # Bounds
//! [`ActionInformation::read`] and [`EventInformation::read`] keep at most as many references as they are told to, each of two
//! UIDs of at most 64 characters, and skip whatever else stands in the data set, down to [`DEPTH_MAX`] levels.

use bytes::Bytes;
use dicom_core::Tag;
pub use dicom_dictionary_std::uids::{
    STORAGE_COMMITMENT_PUSH_MODEL as SOP_CLASS_UID, STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE as SOP_INSTANCE_UID,
};

use crate::association::negotiation::Roles;
use crate::message::command_set::{CommandField, CommandSet, Element};
use crate::status::Status;

pub use super::data_set::{DEPTH_MAX, ReadError, Reference, TRANSFER_SYNTAXES};
use super::data_set::{REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID, Reader, Writer};

/// Action Type ID of a request (PS3.4 Table J.3-1).
pub const ACTION_TYPE_REQUEST: u16 = 1;
/// Event Type ID: all instances are committed (PS3.4 Table J.3-2).
pub const EVENT_TYPE_SUCCESSFUL: u16 = 1;
/// Event Type ID: failures exist (PS3.4 Table J.3-2).
pub const EVENT_TYPE_FAILURES_EXIST: u16 = 2;
/// Roles of a requestor that reports.
pub const REPORTING_ROLES: Roles = Roles { scu: false, scp: true };

const TRANSACTION_UID: Tag = Tag(0x0008, 0x1195);
const FAILURE_REASON: Tag = Tag(0x0008, 0x1197);
const FAILED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1198);
const REFERENCED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1199);

/// Failure Reason (0008,1197) (PS3.3 §C.14.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureReason(pub u16);

impl FailureReason {
    /// Processing failure.
    pub const PROCESSING_FAILURE: FailureReason = FailureReason(0x0110);
    /// No such object instance.
    pub const NO_SUCH_OBJECT_INSTANCE: FailureReason = FailureReason(0x0112);
    /// Class / instance conflict: the instance is known with another SOP class.
    pub const CLASS_INSTANCE_CONFLICT: FailureReason = FailureReason(0x0119);
    /// Referenced SOP class not supported.
    pub const SOP_CLASS_NOT_SUPPORTED: FailureReason = FailureReason(0x0122);
    /// Duplicate Transaction UID.
    pub const DUPLICATE_TRANSACTION_UID: FailureReason = FailureReason(0x0131);
    /// Resource limitation.
    pub const RESOURCE_LIMITATION: FailureReason = FailureReason(0x0213);
}

/// The data set of an N-ACTION-RQ (PS3.4 Table J.3-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionInformation {
    /// Transaction UID (0008,1195).
    pub transaction_uid: String,
    /// Referenced SOP Sequence (0008,1199), at least one item.
    pub references: Vec<Reference>,
}

/// The data set of an N-EVENT-REPORT-RQ (PS3.4 Table J.3-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventInformation {
    /// Transaction UID (0008,1195) of the request.
    pub transaction_uid: String,
    /// Referenced SOP Sequence (0008,1199): the SCP has taken responsibility.
    pub committed: Vec<Reference>,
    /// Failed SOP Sequence (0008,1198): it has not, and why.
    pub failed: Vec<(Reference, FailureReason)>,
}

/// N-ACTION-RQ (PS3.7 §10.1.4.1); the [`ActionInformation`] follows.
pub fn action_request(message_id: u16) -> CommandSet {
    let mut command = CommandSet::request(CommandField::N_ACTION_RQ, message_id, true);
    command.set_uid(Element::REQUESTED_SOP_CLASS_UID, SOP_CLASS_UID);
    command.set_uid(Element::REQUESTED_SOP_INSTANCE_UID, SOP_INSTANCE_UID);
    command.set_unsigned(Element::ACTION_TYPE_ID, ACTION_TYPE_REQUEST);
    command
}

/// Whether an N-ACTION-RQ asks for storage commitment.
///
/// # Errors
/// The status of the response: 0118H for another SOP class, 0112H for another SOP instance than the well-known one, 0123H for
/// another action.
pub fn check_action(command: &CommandSet) -> Result<(), Status> {
    if command.uid(Element::REQUESTED_SOP_CLASS_UID) != Some(SOP_CLASS_UID) {
        return Err(Status::NO_SUCH_SOP_CLASS);
    }
    if command.uid(Element::REQUESTED_SOP_INSTANCE_UID) != Some(SOP_INSTANCE_UID) {
        return Err(Status::NO_SUCH_SOP_INSTANCE);
    }
    if command.unsigned(Element::ACTION_TYPE_ID) != Some(ACTION_TYPE_REQUEST) {
        return Err(Status::NO_SUCH_ACTION_TYPE);
    }
    Ok(())
}

/// N-ACTION-RSP, without a data set (PS3.7 §10.1.4.1).
pub fn action_response(request: &CommandSet, status: Status) -> CommandSet {
    let mut response = CommandSet::response(request, status);
    if let Some(action) = request.unsigned(Element::ACTION_TYPE_ID) {
        response.set_unsigned(Element::ACTION_TYPE_ID, action);
    }
    response
}

/// N-EVENT-REPORT-RQ (PS3.7 §10.1.1.1); the [`EventInformation`] follows.
pub fn event_report_request(message_id: u16, event_type: u16) -> CommandSet {
    let mut command = CommandSet::request(CommandField::N_EVENT_REPORT_RQ, message_id, true);
    command.set_uid(Element::AFFECTED_SOP_CLASS_UID, SOP_CLASS_UID);
    command.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, SOP_INSTANCE_UID);
    command.set_unsigned(Element::EVENT_TYPE_ID, event_type);
    command
}

/// The status of an N-EVENT-REPORT-RSP to the request with this Message ID; `None` if it is another command. A response
/// without a status counts as a processing failure.
pub fn event_report_status(command: &CommandSet, message_id: u16) -> Option<Status> {
    let answers = command.command_field() == CommandField::N_EVENT_REPORT_RSP && command.message_id() == message_id;
    answers.then(|| command.status().unwrap_or(Status::PROCESSING_FAILURE))
}

/// Whether an N-EVENT-REPORT-RQ is a report of storage commitment; its Event Type ID, whatever that is (profile 03 §4.6: the
/// lists decide).
///
/// # Errors
/// The status of the response: 0118H for another SOP class, 0112H for another SOP instance than the well-known one.
pub fn check_event_report(command: &CommandSet) -> Result<u16, Status> {
    if command.uid(Element::AFFECTED_SOP_CLASS_UID) != Some(SOP_CLASS_UID) {
        return Err(Status::NO_SUCH_SOP_CLASS);
    }
    if command.uid(Element::AFFECTED_SOP_INSTANCE_UID) != Some(SOP_INSTANCE_UID) {
        return Err(Status::NO_SUCH_SOP_INSTANCE);
    }
    Ok(command.unsigned(Element::EVENT_TYPE_ID).unwrap_or_default())
}

/// N-EVENT-REPORT-RSP, without a data set (PS3.7 §10.1.1.1).
pub fn event_report_response(request: &CommandSet, status: Status) -> CommandSet {
    let mut response = CommandSet::response(request, status);
    if let Some(event_type) = request.unsigned(Element::EVENT_TYPE_ID) {
        response.set_unsigned(Element::EVENT_TYPE_ID, event_type);
    }
    response
}

/// The status of an N-ACTION-RSP to the request with this Message ID; `None` if it is another command. A response without a
/// status counts as a processing failure.
pub fn action_status(command: &CommandSet, message_id: u16) -> Option<Status> {
    let answers = command.command_field() == CommandField::N_ACTION_RSP && command.message_id() == message_id;
    answers.then(|| command.status().unwrap_or(Status::PROCESSING_FAILURE))
}

/// Most bytes of a data set with so many references: two UIDs to each, and what peers put beside them.
pub fn data_set_bytes_max(references_max: usize) -> usize {
    65_536 + 512 * references_max
}

impl ActionInformation {
    /// Reads the data set of an N-ACTION-RQ; the caller bounds its length.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::TooMany`] with more than `references_max` items.
    pub fn read(transfer_syntax: &str, bytes: &[u8], references_max: usize) -> Result<Self, ReadError> {
        let Lists { transaction_uid, referenced, .. } = Lists::read(Reader::new(transfer_syntax, bytes)?, references_max)?;
        if referenced.is_empty() {
            return Err(ReadError::Missing(REFERENCED_SOP_SEQUENCE));
        }
        Ok(ActionInformation { transaction_uid, references: referenced })
    }

    /// The bytes of the data set.
    ///
    /// # Errors
    /// [`ReadError::TransferSyntax`].
    pub fn encode(&self, transfer_syntax: &str) -> Result<Bytes, ReadError> {
        let writer = Writer::new(transfer_syntax)?;
        let references = self.references.iter().map(|reference| (reference, None));
        Ok([writer.uid(TRANSACTION_UID, &self.transaction_uid), items(&writer, REFERENCED_SOP_SEQUENCE, references)].concat().into())
    }
}

impl EventInformation {
    /// [`EVENT_TYPE_SUCCESSFUL`] or [`EVENT_TYPE_FAILURES_EXIST`].
    pub fn event_type(&self) -> u16 {
        if self.failed.is_empty() { EVENT_TYPE_SUCCESSFUL } else { EVENT_TYPE_FAILURES_EXIST }
    }

    /// Reads the data set of an N-EVENT-REPORT-RQ; the caller bounds its length.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::TooMany`] with more than `references_max` items in both lists together.
    pub fn read(transfer_syntax: &str, bytes: &[u8], references_max: usize) -> Result<Self, ReadError> {
        let Lists { transaction_uid, referenced, failed } = Lists::read(Reader::new(transfer_syntax, bytes)?, references_max)?;
        Ok(EventInformation { transaction_uid, committed: referenced, failed })
    }

    /// The bytes of the data set. A list without items is left out: both sequences are of Type 1C.
    ///
    /// # Errors
    /// [`ReadError::TransferSyntax`].
    pub fn encode(&self, transfer_syntax: &str) -> Result<Bytes, ReadError> {
        let writer = Writer::new(transfer_syntax)?;
        let mut bytes = writer.uid(TRANSACTION_UID, &self.transaction_uid);
        if !self.failed.is_empty() {
            let references = self.failed.iter().map(|(reference, reason)| (reference, Some(*reason)));
            bytes.extend(items(&writer, FAILED_SOP_SEQUENCE, references));
        }
        if !self.committed.is_empty() {
            let references = self.committed.iter().map(|reference| (reference, None));
            bytes.extend(items(&writer, REFERENCED_SOP_SEQUENCE, references));
        }
        Ok(bytes.into())
    }
}

/// What stands in either data set.
#[derive(Default)]
struct Lists {
    transaction_uid: String,
    referenced: Vec<Reference>,
    failed: Vec<(Reference, FailureReason)>,
}

impl Lists {
    fn read(mut reader: Reader<'_>, references_max: usize) -> Result<Self, ReadError> {
        let mut lists = Lists::default();
        while let Some(header) = reader.next()? {
            match header.tag {
                TRANSACTION_UID => lists.transaction_uid = reader.uid(&header)?,
                REFERENCED_SOP_SEQUENCE | FAILED_SOP_SEQUENCE => {
                    let failed = header.tag == FAILED_SOP_SEQUENCE;
                    reader.items(&header, |reader, end| {
                        if lists.referenced.len() + lists.failed.len() >= references_max {
                            return Err(ReadError::TooMany(references_max));
                        }
                        let (reference, reason) = reference(reader, end)?;
                        match failed {
                            true => lists.failed.push((reference, reason.ok_or(ReadError::Missing(FAILURE_REASON))?)),
                            false => lists.referenced.push(reference),
                        }
                        Ok(())
                    })?;
                }
                _ => reader.skip(&header, 0)?,
            }
        }
        if lists.transaction_uid.is_empty() {
            return Err(ReadError::Missing(TRANSACTION_UID));
        }
        Ok(lists)
    }
}

fn reference(reader: &mut Reader<'_>, end: Option<usize>) -> Result<(Reference, Option<FailureReason>), ReadError> {
    let (mut class, mut instance, mut reason) = (String::new(), String::new(), None);
    while let Some(header) = reader.next_of_item(end)? {
        match header.tag {
            REFERENCED_SOP_CLASS_UID => class = reader.uid(&header)?,
            REFERENCED_SOP_INSTANCE_UID => instance = reader.uid(&header)?,
            FAILURE_REASON => {
                let value = reader.value(&header)?;
                let value = value.try_into().map_err(|_| ReadError::Invalid(FAILURE_REASON))?;
                reason = Some(FailureReason(u16::from_le_bytes(value)));
            }
            _ => reader.skip(&header, 0)?,
        }
    }
    if class.is_empty() {
        return Err(ReadError::Missing(REFERENCED_SOP_CLASS_UID));
    }
    if instance.is_empty() {
        return Err(ReadError::Missing(REFERENCED_SOP_INSTANCE_UID));
    }
    Ok((Reference { sop_class_uid: class, sop_instance_uid: instance }, reason))
}

fn items<'r>(writer: &Writer, tag: Tag, references: impl Iterator<Item = (&'r Reference, Option<FailureReason>)>) -> Vec<u8> {
    let item = |(reference, reason): (&Reference, Option<FailureReason>)| {
        let mut item = writer.uid(REFERENCED_SOP_CLASS_UID, &reference.sop_class_uid);
        item.extend(writer.uid(REFERENCED_SOP_INSTANCE_UID, &reference.sop_instance_uid));
        if let Some(FailureReason(reason)) = reason {
            item.extend(writer.element(FAILURE_REASON, *b"US", &reason.to_le_bytes()));
        }
        item
    };
    writer.sequence(tag, references.map(item))
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids::EXPLICIT_VR_LITTLE_ENDIAN;
    use proptest::prelude::*;

    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn reference(number: usize) -> Reference {
        Reference { sop_class_uid: CT.to_owned(), sop_instance_uid: format!("1.2.3.{number}") }
    }

    fn action(count: usize) -> ActionInformation {
        ActionInformation { transaction_uid: "1.2.99".to_owned(), references: (0..count).map(reference).collect() }
    }

    fn read(bytes: &[u8]) -> Result<ActionInformation, ReadError> {
        ActionInformation::read(EXPLICIT_VR_LITTLE_ENDIAN, bytes, 10)
    }

    #[test]
    fn the_command_sets_have_the_elements_of_the_standard() {
        let request = CommandSet::decode(action_request(7).encode()).unwrap();
        assert_eq!((request.command_field(), request.message_id(), request.has_data_set()), (CommandField(0x0130), 7, true));
        assert_eq!(request.uid(Element::REQUESTED_SOP_CLASS_UID), Some("1.2.840.10008.1.20.1"));
        assert_eq!(request.uid(Element::REQUESTED_SOP_INSTANCE_UID), Some("1.2.840.10008.1.20.1.1"));
        assert_eq!(request.unsigned(Element::ACTION_TYPE_ID), Some(1));
        let response = CommandSet::decode(action_response(&request, Status::SUCCESS).encode()).unwrap();
        assert_eq!((response.command_field(), response.message_id()), (CommandField(0x8130), 7));
        assert_eq!((response.status(), response.unsigned(Element::ACTION_TYPE_ID)), (Some(Status::SUCCESS), Some(1)));
        assert_eq!(response.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some("1.2.840.10008.1.20.1.1"));
        let report = CommandSet::decode(event_report_request(9, EVENT_TYPE_FAILURES_EXIST).encode()).unwrap();
        assert_eq!((report.command_field(), report.message_id(), report.has_data_set()), (CommandField(0x0100), 9, true));
        assert_eq!(report.uid(Element::AFFECTED_SOP_CLASS_UID), Some("1.2.840.10008.1.20.1"));
        assert_eq!(report.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some("1.2.840.10008.1.20.1.1"));
        assert_eq!(report.unsigned(Element::EVENT_TYPE_ID), Some(2));
    }

    #[test]
    fn only_the_response_to_the_report_is_its_answer() {
        let report = event_report_request(9, EVENT_TYPE_SUCCESSFUL);
        assert_eq!(event_report_status(&CommandSet::response(&report, Status(0x0112)), 9), Some(Status(0x0112)));
        assert_eq!(event_report_status(&CommandSet::response(&report, Status::SUCCESS), 8), None);
        assert_eq!(event_report_status(&CommandSet::response(&action_request(9), Status::SUCCESS), 9), None);
    }

    #[test]
    fn a_report_is_known_by_its_class_and_instance_and_its_response_names_its_event() {
        let report = event_report_request(9, EVENT_TYPE_FAILURES_EXIST);
        assert_eq!(check_event_report(&report), Ok(2));
        let mut other = event_report_request(9, 7);
        assert_eq!(check_event_report(&other), Ok(7), "what it says is for its lists");
        other.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, "1.2");
        assert_eq!(check_event_report(&other), Err(Status(0x0112)));
        other.set_uid(Element::AFFECTED_SOP_CLASS_UID, CT);
        assert_eq!(check_event_report(&other), Err(Status(0x0118)));
        let response = CommandSet::decode(event_report_response(&report, Status::SUCCESS).encode()).unwrap();
        assert_eq!((event_report_status(&response, 9), response.unsigned(Element::EVENT_TYPE_ID)), (Some(Status::SUCCESS), Some(2)));
        let action = action_request(4);
        assert_eq!(action_status(&action_response(&action, Status(0x0213)), 4), Some(Status(0x0213)));
        assert_eq!(action_status(&action_response(&action, Status(0x0213)), 5), None);
        assert_eq!(action_status(&response, 9), None);
    }

    #[test]
    fn another_class_instance_or_action_has_its_own_status() {
        assert_eq!(check_action(&action_request(1)), Ok(()));
        let with = |change: fn(&mut CommandSet)| {
            let mut command = action_request(1);
            change(&mut command);
            check_action(&command)
        };
        assert_eq!(with(|command| command.set_uid(Element::REQUESTED_SOP_CLASS_UID, CT)), Err(Status(0x0118)));
        assert_eq!(with(|command| command.set_uid(Element::REQUESTED_SOP_INSTANCE_UID, "1.2")), Err(Status(0x0112)));
        assert_eq!(with(|command| command.set_unsigned(Element::ACTION_TYPE_ID, 2)), Err(Status(0x0123)));
        assert_eq!(check_action(&CommandSet::request(CommandField::N_ACTION_RQ, 1, true)), Err(Status(0x0118)));
    }

    #[test]
    fn a_request_has_the_bytes_of_the_standard() {
        let mut expected = b"\x08\x00\x95\x11UI\x06\x001.2.99".to_vec();
        expected.extend(b"\x08\x00\x99\x11SQ\x00\x00\x38\x00\x00\x00");
        expected.extend(b"\xFE\xFF\x00\xE0\x30\x00\x00\x00");
        expected.extend(b"\x08\x00\x50\x11UI\x1A\x001.2.840.10008.5.1.4.1.1.2\x00");
        expected.extend(b"\x08\x00\x55\x11UI\x06\x001.2.3\x00");
        let information = ActionInformation {
            transaction_uid: "1.2.99".to_owned(),
            references: vec![Reference { sop_class_uid: CT.to_owned(), sop_instance_uid: "1.2.3".to_owned() }],
        };
        assert_eq!(information.encode(EXPLICIT_VR_LITTLE_ENDIAN).unwrap(), expected);
    }

    #[test]
    fn an_empty_list_is_left_out_of_a_report() {
        for (committed, failed, event_type) in [(2, 0, 1), (0, 2, 2), (1, 1, 2)] {
            let report = EventInformation {
                transaction_uid: "1.2.99".to_owned(),
                committed: (0..committed).map(reference).collect(),
                failed: (0..failed).map(|number| (reference(number), FailureReason::NO_SUCH_OBJECT_INSTANCE)).collect(),
            };
            assert_eq!(report.event_type(), event_type);
            let bytes = report.encode(EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
            let has = |element: &[u8]| bytes.windows(element.len()).any(|window| window == element);
            assert_eq!((has(b"\x08\x00\x98\x11SQ"), has(b"\x08\x00\x99\x11SQ")), (failed > 0, committed > 0));
        }
    }

    #[test]
    fn one_item_more_than_the_bound_is_refused() {
        let bytes = |count| action(count).encode(EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
        assert_eq!(read(&bytes(10)), Ok(action(10)));
        assert_eq!(read(&bytes(11)), Err(ReadError::TooMany(10)));
        assert_eq!(ReadError::TooMany(10).status(), Status::RESOURCE_LIMITATION);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let transaction = b"\x08\x00\x95\x11UI\x06\x001.2.99";
        let sequence = b"\x08\x00\x99\x11SQ\x00\x00\x00\x00\x00\x00";
        assert_eq!(read(b""), Err(ReadError::Missing(TRANSACTION_UID)));
        assert_eq!(read(transaction), Err(ReadError::Missing(REFERENCED_SOP_SEQUENCE)));
        assert_eq!(read(&[&transaction[..], sequence].concat()), Err(ReadError::Missing(REFERENCED_SOP_SEQUENCE)));
        assert_eq!(read(b"\x08\x00\x95\x11UI\x06\x001.2.9x"), Err(ReadError::Invalid(TRANSACTION_UID)));
        let empty_item = b"\x08\x00\x99\x11SQ\x00\x00\x08\x00\x00\x00\xFE\xFF\x00\xE0\x00\x00\x00\x00";
        assert_eq!(read(&[&transaction[..], empty_item].concat()), Err(ReadError::Missing(REFERENCED_SOP_CLASS_UID)));
        assert_eq!(ReadError::Missing(TRANSACTION_UID).status(), Status::INVALID_ARGUMENT_VALUE);
        let other = ActionInformation::read("1.2.840.10008.1.2.2", transaction, 10);
        assert_eq!(other, Err(ReadError::TransferSyntax));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_wherever_it_stands() {
        let whole = action(2).encode(EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
        for cut in 1..whole.len() {
            // Between the elements the bytes are a data set, though not a whole request.
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
        let overlong = b"\x08\x00\x99\x11SQ\x00\x00\x10\x00\x00\x00\xFE\xFF\x00\xE0\x20\x00\x00\x00\x08\x00\x50\x11UI\x00\x00";
        assert!(matches!(read(overlong), Err(ReadError::Malformed(_))));
    }

    #[test]
    fn undefined_lengths_and_other_elements_are_read_past() {
        let mut bytes = b"\x08\x00\x05\x00CS\x0A\x00ISO_IR 192".to_vec();
        // Referenced Performed Procedure Step Sequence, of undefined length, with a sequence inside.
        bytes.extend(b"\x08\x00\x11\x11SQ\x00\x00\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
        bytes.extend(b"\x08\x00\x15\x11SQ\x00\x00\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\x00\x00\x00\x00\xFE\xFF\xDD\xE0\x00\x00\x00\x00");
        bytes.extend(b"\xFE\xFF\x0D\xE0\x00\x00\x00\x00\xFE\xFF\xDD\xE0\x00\x00\x00\x00");
        bytes.extend(b"\x08\x00\x95\x11UI\x06\x001.2.99");
        bytes.extend(b"\x08\x00\x99\x11SQ\x00\x00\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
        bytes.extend(b"\x08\x00\x54\x00AE\x04\x00PACS\x08\x00\x50\x11UI\x04\x001.2\x00\x08\x00\x55\x11UI\x04\x001.2.");
        bytes.extend(b"\xFE\xFF\x0D\xE0\x00\x00\x00\x00\xFE\xFF\xDD\xE0\x00\x00\x00\x00");
        let information = read(&bytes).unwrap();
        assert_eq!(information.transaction_uid, "1.2.99");
        assert_eq!(information.references, [Reference { sop_class_uid: "1.2".to_owned(), sop_instance_uid: "1.2.".to_owned() }]);
    }

    #[test]
    fn sequences_deeper_than_the_bound_are_refused() {
        let open = b"\x08\x00\x11\x11SQ\x00\x00\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF";
        let bytes = open.repeat(100_000);
        assert!(matches!(read(&bytes), Err(ReadError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>, explicit: bool) {
            let syntax = TRANSFER_SYNTAXES[usize::from(explicit)];
            let _ = ActionInformation::read(syntax, &bytes, 10);
            let _ = EventInformation::read(syntax, &bytes, 10);
        }

        #[test]
        fn a_request_with_a_flipped_byte_is_read_or_refused_without_a_panic(at in 0usize..200, value: u8, explicit: bool) {
            let syntax = TRANSFER_SYNTAXES[usize::from(explicit)];
            let mut bytes = action(3).encode(syntax).unwrap().to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = ActionInformation::read(syntax, &bytes, 10);
        }

        #[test]
        fn what_is_encoded_is_read(committed in 0usize..5, reasons in prop::collection::vec(any::<u16>(), 0..5), explicit: bool) {
            let syntax = TRANSFER_SYNTAXES[usize::from(explicit)];
            let report = EventInformation {
                transaction_uid: "1.2.99".to_owned(),
                committed: (0..committed).map(reference).collect(),
                failed: reasons.into_iter().enumerate().map(|(number, reason)| (reference(number), FailureReason(reason))).collect(),
            };
            prop_assert_eq!(EventInformation::read(syntax, &report.encode(syntax).unwrap(), 10), Ok(report));
            let request = action(committed + 1);
            prop_assert_eq!(ActionInformation::read(syntax, &request.encode(syntax).unwrap(), 10), Ok(request));
        }
    }
}
