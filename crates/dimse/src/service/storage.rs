//! Storage: C-STORE (PS3.4 Annex B, PS3.7 §9.3.1).

use dicom_core::Tag;

use crate::message::command_set::{CommandField, CommandSet, Element};
use crate::status::Status;

/// Most values of Offending Element (0000,0901) in a response.
pub const OFFENDING_ELEMENTS_MAX: usize = 16;
/// Most characters of Error Comment (0000,0902), VR LO.
pub const ERROR_COMMENT_LENGTH_MAX: usize = 64;

/// The parameters of a C-STORE-RQ, as the peer gave them: whether they are acceptable is for the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRequest {
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002); `None` if absent or empty.
    pub sop_class_uid: Option<String>,
    /// Affected SOP Instance UID (0000,1000); `None` if absent or empty.
    pub sop_instance_uid: Option<String>,
    /// Move Originator Application Entity Title and Message ID (0000,1030), (0000,1031): the instance comes by C-MOVE.
    pub move_originator: Option<(String, u16)>,
}

impl StoreRequest {
    /// Reads a command set; `None` if it is another command.
    pub fn read(command: &CommandSet) -> Option<Self> {
        if command.command_field() != CommandField::C_STORE_RQ {
            return None;
        }
        let originator = command.text(Element::MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE);
        Some(StoreRequest {
            message_id: command.message_id(),
            sop_class_uid: command.uid(Element::AFFECTED_SOP_CLASS_UID).map(str::to_owned),
            sop_instance_uid: command.uid(Element::AFFECTED_SOP_INSTANCE_UID).map(str::to_owned),
            move_originator: originator
                .map(|title| (title.into_owned(), command.unsigned(Element::MOVE_ORIGINATOR_MESSAGE_ID).unwrap_or_default())),
        })
    }
}

/// How a C-STORE ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Status (0000,0900).
    pub status: Status,
    /// Offending Element (0000,0901).
    pub offending_elements: Vec<Tag>,
    /// Error Comment (0000,0902); empty for none.
    pub error_comment: String,
}

impl Outcome {
    /// Only a status.
    pub fn new(status: Status) -> Self {
        Outcome { status, offending_elements: Vec::new(), error_comment: String::new() }
    }

    /// Reads a C-STORE-RSP; `None` if it is another command or has no status.
    pub fn read(command: &CommandSet) -> Option<Self> {
        if command.command_field() != CommandField::C_STORE_RSP {
            return None;
        }
        Some(Outcome {
            status: command.status()?,
            offending_elements: command.tags(Element::OFFENDING_ELEMENT),
            error_comment: command.text(Element::ERROR_COMMENT).unwrap_or_default().into_owned(),
        })
    }
}

/// The C-STORE-RSP. Offending elements go with A9xx and Cxxx only, in ascending order, the first
/// [`OFFENDING_ELEMENTS_MAX`]; the comment is cut at [`ERROR_COMMENT_LENGTH_MAX`], and a character that LO does not allow in
/// the default repertoire becomes `?`.
pub fn response(request: &CommandSet, outcome: &Outcome) -> CommandSet {
    let mut response = CommandSet::response(request, outcome.status);
    if outcome.status.has_offending_elements() && !outcome.offending_elements.is_empty() {
        let mut tags = outcome.offending_elements.clone();
        tags.sort_unstable();
        tags.dedup();
        tags.truncate(OFFENDING_ELEMENTS_MAX);
        response.set_tags(Element::OFFENDING_ELEMENT, &tags);
    }
    if !outcome.error_comment.is_empty() {
        let allowed = |character: char| if matches!(character, ' '..='~') && character != '\\' { character } else { '?' };
        let comment: String = outcome.error_comment.chars().take(ERROR_COMMENT_LENGTH_MAX).map(allowed).collect();
        response.set_text(Element::ERROR_COMMENT, &comment);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::command_set::Priority;

    fn request() -> CommandSet {
        CommandSet::c_store_rq(7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3", Priority::Medium)
    }

    fn read_back(outcome: &Outcome) -> Outcome {
        Outcome::read(&CommandSet::decode(response(&request(), outcome).encode()).unwrap()).unwrap()
    }

    #[test]
    fn a_failure_names_the_offending_elements_in_order_and_the_comment() {
        let outcome = Outcome {
            status: Status(0xC122),
            offending_elements: vec![Tag(0x0020, 0x000D), Tag(0x0008, 0x0018), Tag(0x0020, 0x000D)],
            error_comment: "D122 UID invalid".to_owned(),
        };
        let expected = Outcome { offending_elements: vec![Tag(0x0008, 0x0018), Tag(0x0020, 0x000D)], ..outcome.clone() };
        assert_eq!(read_back(&outcome), expected);
    }

    #[test]
    fn only_a9xx_and_cxxx_name_offending_elements() {
        for (status, named) in [(0xA900, 1), (0xA9FF, 1), (0xC000, 1), (0xCFFF, 1), (0xA700, 0), (0x0122, 0), (0xB007, 0)] {
            let outcome = Outcome { offending_elements: vec![Tag(0x0008, 0x0018)], ..Outcome::new(Status(status)) };
            assert_eq!(read_back(&outcome).offending_elements.len(), named, "{status:04X}");
        }
    }

    #[test]
    fn no_more_than_sixteen_elements_and_sixty_four_characters_are_sent() {
        let outcome = Outcome {
            status: Status(0xC122),
            offending_elements: (0..40).rev().map(|element| Tag(0x0008, element)).collect(),
            error_comment: "x".repeat(65),
        };
        let sent = read_back(&outcome);
        assert_eq!(sent.offending_elements, (0..16).map(|element| Tag(0x0008, element)).collect::<Vec<_>>());
        assert_eq!(sent.error_comment, "x".repeat(64));
    }

    #[test]
    fn a_comment_has_only_characters_that_every_peer_can_show() {
        let outcome = Outcome { error_comment: "ä\\b\n~".to_owned(), ..Outcome::new(Status::PROCESSING_FAILURE) };
        assert_eq!(read_back(&outcome).error_comment, "??b?~");
    }

    #[test]
    fn a_request_without_uids_can_be_read_and_answered() {
        let command = CommandSet::request(CommandField::C_STORE_RQ, 9, true);
        let read = StoreRequest::read(&command).unwrap();
        assert_eq!((read.message_id, read.sop_class_uid, read.sop_instance_uid), (9, None, None));
        assert_eq!(Outcome::read(&response(&command, &Outcome::new(Status::SUCCESS))), Some(Outcome::new(Status::SUCCESS)));
    }
}
