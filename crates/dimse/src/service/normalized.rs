//! N-CREATE and N-SET: what the services that use them share (PS3.7 §10.1.3, §10.1.5, Annex C).

use dicom_core::Tag;

use super::data_set::ReadError;
use crate::message::command_set::{CommandSet, Element};
use crate::status::Status;

/// Why an operation is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Status (0000,0900).
    pub status: Status,
    /// Attribute Identifier List (0000,1005): goes with 0105H, 0106H, 0120H and 0121H.
    pub attributes: Vec<Tag>,
    /// Error Comment (0000,0902), at most 64 characters of the default repertoire; empty for none.
    pub comment: &'static str,
    /// Error ID (0000,0903), which some services define.
    pub error_id: Option<u16>,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Refused { status, attributes: Vec::new(), comment: "", error_id: None }
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        let (status, attribute) = match error {
            ReadError::Missing(tag) => (Status::MISSING_ATTRIBUTE, Some(tag)),
            ReadError::Invalid(tag) => (Status::INVALID_ATTRIBUTE_VALUE, Some(tag)),
            ReadError::TooMany(_) => (Status::RESOURCE_LIMITATION, None),
            ReadError::TransferSyntax | ReadError::Malformed(_) => (Status::PROCESSING_FAILURE, None),
        };
        Refused { attributes: attribute.into_iter().collect(), ..Refused::from(status) }
    }
}

/// The response, without a data set. `sop_instance_uid` is what was created or set: an SCP gives one to an instance that came
/// without (PS3.7 §10.1.5.1.4).
pub fn response(request: &CommandSet, sop_instance_uid: Option<&str>, done: Result<(), &Refused>) -> CommandSet {
    let mut response = CommandSet::response(request, done.err().map_or(Status::SUCCESS, |refused| refused.status));
    if let Some(uid) = sop_instance_uid {
        response.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, uid);
    }
    if let Err(refused) = done {
        if !refused.attributes.is_empty() {
            response.set_tags(Element::ATTRIBUTE_IDENTIFIER_LIST, &refused.attributes);
        }
        if !refused.comment.is_empty() {
            response.set_text(Element::ERROR_COMMENT, refused.comment);
        }
        if let Some(id) = refused.error_id {
            response.set_unsigned(Element::ERROR_ID, id);
        }
    }
    response
}

/// The SOP instance that an N-CREATE-RQ of this SOP class names; `None`: the SCP names it.
///
/// # Errors
/// 0118H for another SOP class than `sop_class_uid`, 0117H for a UID that is none.
pub fn check_create(command: &CommandSet, sop_class_uid: &str) -> Result<Option<String>, Refused> {
    if command.uid(Element::AFFECTED_SOP_CLASS_UID) != Some(sop_class_uid) {
        return Err(Status::NO_SUCH_SOP_CLASS.into());
    }
    match command.uid(Element::AFFECTED_SOP_INSTANCE_UID) {
        None => Ok(None),
        Some(uid) if is_uid(uid) => Ok(Some(uid.to_owned())),
        Some(_) => Err(Status::INVALID_SOP_INSTANCE.into()),
    }
}

/// The SOP instance that an N-SET-RQ of this SOP class names.
///
/// # Errors
/// 0118H for another SOP class than `sop_class_uid`, 0112H for none or a UID that is none: there is no such instance.
pub fn check_set(command: &CommandSet, sop_class_uid: &str) -> Result<String, Refused> {
    if command.uid(Element::REQUESTED_SOP_CLASS_UID) != Some(sop_class_uid) {
        return Err(Status::NO_SUCH_SOP_CLASS.into());
    }
    let uid = command.uid(Element::REQUESTED_SOP_INSTANCE_UID).filter(|uid| is_uid(uid));
    uid.map(str::to_owned).ok_or_else(|| Status::NO_SUCH_SOP_INSTANCE.into())
}

/// Digits and dots, at most 64 (PS3.5 §9.1).
fn is_uid(uid: &str) -> bool {
    uid.len() <= 64 && uid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::command_set::CommandField;

    const CLASS: &str = "1.2.840.10008.3.1.2.3.3";

    fn create(uid: &str) -> CommandSet {
        let mut command = CommandSet::request(CommandField::N_CREATE_RQ, 3, true);
        command.set_uid(Element::AFFECTED_SOP_CLASS_UID, CLASS);
        command.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, uid);
        command
    }

    fn set(uid: &str) -> CommandSet {
        let mut command = CommandSet::request(CommandField::N_SET_RQ, 3, true);
        command.set_uid(Element::REQUESTED_SOP_CLASS_UID, CLASS);
        command.set_uid(Element::REQUESTED_SOP_INSTANCE_UID, uid);
        command
    }

    #[test]
    fn an_instance_is_named_by_the_requester_or_by_us() {
        assert_eq!(check_create(&create("1.2.3"), CLASS), Ok(Some("1.2.3".to_owned())));
        assert_eq!(check_create(&create(""), CLASS), Ok(None));
        assert_eq!(check_create(&create("1.2.x"), CLASS), Err(Status(0x0117).into()));
        assert_eq!(check_create(&create("1.2.3"), "1.2.840.10008.5.1.4.33"), Err(Status(0x0118).into()));
        assert_eq!(check_set(&set("1.2.3"), CLASS), Ok("1.2.3".to_owned()));
        assert_eq!(check_set(&set(""), CLASS), Err(Status(0x0112).into()));
        assert_eq!(check_set(&set("1.2.3"), "1.2"), Err(Status(0x0118).into()));
    }

    #[test]
    fn a_response_names_the_instance_and_what_was_wrong() {
        let done = CommandSet::decode(response(&create(""), Some("2.25.1"), Ok(())).encode()).unwrap();
        assert_eq!((done.command_field(), done.message_id(), done.status()), (CommandField(0x8140), 3, Some(Status::SUCCESS)));
        assert_eq!(done.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some("2.25.1"));
        let refused = Refused::from(ReadError::Missing(Tag(0x0040, 0x0252)));
        let refused = CommandSet::decode(response(&set("1.2.3"), None, Err(&refused)).encode()).unwrap();
        assert_eq!((refused.command_field(), refused.status()), (CommandField(0x8120), Some(Status(0x0120))));
        assert_eq!(refused.tags(Element::ATTRIBUTE_IDENTIFIER_LIST), [Tag(0x0040, 0x0252)]);
        assert_eq!(refused.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some("1.2.3"));
    }
}
