//! Command sets: group 0000 in Implicit VR Little Endian (PS3.7 §6.3.1, Annex E).
//!
//! [`CommandSet`] keeps the elements as bytes and reads them on demand, so an element that this crate has no use for is
//! neither lost nor a reason to fail. Requests and responses are made by the constructors; any element can be set.
//!
//! # Standard
//! Laxer than PS3.7 on receipt: the group length is not needed and not believed, the order of elements does not matter, and
//! values of odd length are taken (peers forget the padding of AE titles). Written sets are in order, even and exact.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use dicom_core::Tag;

use crate::status::Status;

/// An element of group 0000, by its element number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(pub u16);

#[allow(missing_docs, reason = "the names are the keywords of PS3.7 Annex E")]
impl Element {
    pub const COMMAND_GROUP_LENGTH: Element = Element(0x0000);
    pub const AFFECTED_SOP_CLASS_UID: Element = Element(0x0002);
    pub const REQUESTED_SOP_CLASS_UID: Element = Element(0x0003);
    pub const COMMAND_FIELD: Element = Element(0x0100);
    pub const MESSAGE_ID: Element = Element(0x0110);
    pub const MESSAGE_ID_BEING_RESPONDED_TO: Element = Element(0x0120);
    pub const MOVE_DESTINATION: Element = Element(0x0600);
    pub const PRIORITY: Element = Element(0x0700);
    pub const COMMAND_DATA_SET_TYPE: Element = Element(0x0800);
    pub const STATUS: Element = Element(0x0900);
    pub const OFFENDING_ELEMENT: Element = Element(0x0901);
    pub const ERROR_COMMENT: Element = Element(0x0902);
    pub const ERROR_ID: Element = Element(0x0903);
    pub const AFFECTED_SOP_INSTANCE_UID: Element = Element(0x1000);
    pub const REQUESTED_SOP_INSTANCE_UID: Element = Element(0x1001);
    pub const EVENT_TYPE_ID: Element = Element(0x1002);
    pub const ATTRIBUTE_IDENTIFIER_LIST: Element = Element(0x1005);
    pub const ACTION_TYPE_ID: Element = Element(0x1008);
    pub const NUMBER_OF_REMAINING_SUB_OPERATIONS: Element = Element(0x1020);
    pub const NUMBER_OF_COMPLETED_SUB_OPERATIONS: Element = Element(0x1021);
    pub const NUMBER_OF_FAILED_SUB_OPERATIONS: Element = Element(0x1022);
    pub const NUMBER_OF_WARNING_SUB_OPERATIONS: Element = Element(0x1023);
    pub const MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE: Element = Element(0x1030);
    pub const MOVE_ORIGINATOR_MESSAGE_ID: Element = Element(0x1031);

    /// The elements of VR US; each has one value, of two bytes.
    const UNSIGNED: [Element; 14] = [
        Element::COMMAND_FIELD,
        Element::MESSAGE_ID,
        Element::MESSAGE_ID_BEING_RESPONDED_TO,
        Element::PRIORITY,
        Element::COMMAND_DATA_SET_TYPE,
        Element::STATUS,
        Element::ERROR_ID,
        Element::EVENT_TYPE_ID,
        Element::ACTION_TYPE_ID,
        Element::NUMBER_OF_REMAINING_SUB_OPERATIONS,
        Element::NUMBER_OF_COMPLETED_SUB_OPERATIONS,
        Element::NUMBER_OF_FAILED_SUB_OPERATIONS,
        Element::NUMBER_OF_WARNING_SUB_OPERATIONS,
        Element::MOVE_ORIGINATOR_MESSAGE_ID,
    ];
    /// The elements of VR AT; each value has four bytes.
    const TAGS: [Element; 2] = [Element::OFFENDING_ELEMENT, Element::ATTRIBUTE_IDENTIFIER_LIST];
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(0000,{:04X})", self.0)
    }
}

/// Command Field (0000,0100) (PS3.7 §E.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandField(pub u16);

#[allow(missing_docs, reason = "the names are those of PS3.7 Table E.1-1")]
impl CommandField {
    pub const C_STORE_RQ: CommandField = CommandField(0x0001);
    pub const C_STORE_RSP: CommandField = CommandField(0x8001);
    pub const C_GET_RQ: CommandField = CommandField(0x0010);
    pub const C_FIND_RQ: CommandField = CommandField(0x0020);
    pub const C_MOVE_RQ: CommandField = CommandField(0x0021);
    pub const C_ECHO_RQ: CommandField = CommandField(0x0030);
    pub const C_ECHO_RSP: CommandField = CommandField(0x8030);
    pub const N_EVENT_REPORT_RQ: CommandField = CommandField(0x0100);
    pub const N_EVENT_REPORT_RSP: CommandField = CommandField(0x8100);
    pub const N_GET_RQ: CommandField = CommandField(0x0110);
    pub const N_SET_RQ: CommandField = CommandField(0x0120);
    pub const N_ACTION_RQ: CommandField = CommandField(0x0130);
    pub const N_ACTION_RSP: CommandField = CommandField(0x8130);
    pub const N_CREATE_RQ: CommandField = CommandField(0x0140);
    pub const N_DELETE_RQ: CommandField = CommandField(0x0150);
    pub const C_CANCEL_RQ: CommandField = CommandField(0x0FFF);

    /// Whether this is a response.
    pub const fn is_response(self) -> bool {
        self.0 & 0x8000 != 0
    }

    /// The response to this request.
    pub const fn response(self) -> CommandField {
        CommandField(self.0 | 0x8000)
    }
}

/// Priority (0000,0700). A request for service without a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u16)]
pub enum Priority {
    /// 0000H.
    #[default]
    Medium = 0,
    /// 0001H.
    High = 1,
    /// 0002H.
    Low = 2,
}

/// Value of Command Data Set Type (0000,0800) when there is no data set.
const NO_DATA_SET: u16 = 0x0101;
/// Value when there is one; PS3.7 leaves it open, this one is what most programs send.
const DATA_SET: u16 = 0x0001;

/// Why bytes are not an acceptable command set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandSetError {
    /// The bytes end inside an element.
    #[error("it ends inside an element, after {0} bytes")]
    CutOff(usize),
    /// An element of another group.
    #[error("it contains {0}, which is not of group 0000")]
    Group(Tag),
    /// An element occurs twice.
    #[error("{0} occurs twice")]
    Repeated(Element),
    /// The length does not fit the value representation.
    #[error("{0} has a length that its value representation does not allow")]
    Length(Element),
    /// A mandatory element is absent.
    #[error("{0} is missing")]
    Missing(Element),
}

/// A command set. It has a Command Field, a Message ID (requests) or Message ID Being Responded To (responses and C-CANCEL),
/// and a Command Data Set Type. `Debug` shows no text or UID of the peer's.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSet {
    elements: BTreeMap<Element, Bytes>,
}

impl CommandSet {
    /// A request without a SOP class and without other elements; add them with the setters.
    pub fn request(field: CommandField, message_id: u16, has_data_set: bool) -> Self {
        CommandSet::new(field, Element::MESSAGE_ID, message_id, has_data_set)
    }

    /// The response to `request`, without a data set: Message ID, SOP class and instance are those of the request.
    pub fn response(request: &CommandSet, status: Status) -> Self {
        let field = request.command_field().response();
        let mut response = CommandSet::new(field, Element::MESSAGE_ID_BEING_RESPONDED_TO, request.message_id(), false);
        response.set_unsigned(Element::STATUS, status.0);
        // A response names what was affected, also where the request named what was requested (PS3.7 §10.1).
        let affected = [
            (Element::AFFECTED_SOP_CLASS_UID, Element::REQUESTED_SOP_CLASS_UID),
            (Element::AFFECTED_SOP_INSTANCE_UID, Element::REQUESTED_SOP_INSTANCE_UID),
        ];
        for (affected, requested) in affected {
            let uid = request.uid(affected).or_else(|| request.uid(requested)).map(str::to_owned);
            if let Some(uid) = uid {
                response.set_uid(affected, &uid);
            }
        }
        response
    }

    /// C-ECHO-RQ (PS3.7 §9.3.5.1).
    pub fn c_echo_rq(message_id: u16) -> Self {
        let mut command = CommandSet::request(CommandField::C_ECHO_RQ, message_id, false);
        command.set_uid(Element::AFFECTED_SOP_CLASS_UID, dicom_dictionary_std::uids::VERIFICATION);
        command
    }

    /// C-STORE-RQ (PS3.7 §9.3.1.1); its data set follows.
    pub fn c_store_rq(message_id: u16, sop_class_uid: &str, sop_instance_uid: &str, priority: Priority) -> Self {
        let mut command = CommandSet::request(CommandField::C_STORE_RQ, message_id, true);
        command.set_uid(Element::AFFECTED_SOP_CLASS_UID, sop_class_uid);
        command.set_unsigned(Element::PRIORITY, priority as u16);
        command.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, sop_instance_uid);
        command
    }

    /// C-CANCEL-RQ for the request with this Message ID (PS3.7 §9.3.2.3).
    pub fn c_cancel_rq(message_id: u16) -> Self {
        CommandSet::new(CommandField::C_CANCEL_RQ, Element::MESSAGE_ID_BEING_RESPONDED_TO, message_id, false)
    }

    fn new(field: CommandField, id: Element, message_id: u16, has_data_set: bool) -> Self {
        let mut command = CommandSet { elements: BTreeMap::new() };
        command.set_unsigned(Element::COMMAND_FIELD, field.0);
        command.set_unsigned(id, message_id);
        command.set_unsigned(Element::COMMAND_DATA_SET_TYPE, if has_data_set { DATA_SET } else { NO_DATA_SET });
        command
    }

    /// Reads a complete command set. Values are slices of `bytes`; the caller bounds its length.
    ///
    /// # Errors
    /// It is not a sequence of elements of group 0000 in Implicit VR Little Endian, or Command Field, Message ID or Command
    /// Data Set Type is absent (profile rule D012).
    pub fn decode(mut bytes: Bytes) -> Result<Self, CommandSetError> {
        let whole = bytes.len();
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let cut_off = CommandSetError::CutOff(whole);
            let &[g0, g1, e0, e1, l0, l1, l2, l3, ..] = &bytes[..] else { return Err(cut_off) };
            let (group, element) = (u16::from_le_bytes([g0, g1]), Element(u16::from_le_bytes([e0, e1])));
            if group != 0 {
                return Err(CommandSetError::Group(Tag(group, element.0)));
            }
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            bytes.advance(8);
            if length > bytes.len() {
                return Err(cut_off);
            }
            let value = bytes.split_to(length);
            let length_fits = match element {
                _ if Element::UNSIGNED.contains(&element) => length == 2,
                _ if Element::TAGS.contains(&element) => length.is_multiple_of(4),
                _ => true,
            };
            if !length_fits {
                return Err(CommandSetError::Length(element));
            }
            if element != Element::COMMAND_GROUP_LENGTH && elements.insert(element, value).is_some() {
                return Err(CommandSetError::Repeated(element));
            }
        }
        let command = CommandSet { elements };
        for element in [Element::COMMAND_FIELD, command.message_id_element(), Element::COMMAND_DATA_SET_TYPE] {
            command.unsigned(element).ok_or(CommandSetError::Missing(element))?;
        }
        Ok(command)
    }

    /// The bytes of the command set, in order and with its group length.
    pub fn encode(&self) -> Bytes {
        let length: usize = self.elements.values().map(|value| 8 + value.len()).sum();
        let mut out = BytesMut::with_capacity(12 + length);
        let mut put = |element: Element, value: &[u8]| {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&element.0.to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        };
        put(Element::COMMAND_GROUP_LENGTH, &(length as u32).to_le_bytes());
        self.elements.iter().for_each(|(element, value)| put(*element, value));
        out.freeze()
    }

    /// Command Field (0000,0100).
    pub fn command_field(&self) -> CommandField {
        CommandField(self.unsigned(Element::COMMAND_FIELD).unwrap_or_default())
    }

    /// Message ID (0000,0110) of a request; Message ID Being Responded To (0000,0120) of a response and of C-CANCEL.
    pub fn message_id(&self) -> u16 {
        self.unsigned(self.message_id_element()).unwrap_or_default()
    }

    /// Whether a data set follows: Command Data Set Type (0000,0800) other than 0101H.
    pub fn has_data_set(&self) -> bool {
        self.unsigned(Element::COMMAND_DATA_SET_TYPE).is_some_and(|value| value != NO_DATA_SET)
    }

    /// Status (0000,0900) of a response.
    pub fn status(&self) -> Option<Status> {
        self.unsigned(Element::STATUS).map(Status)
    }

    /// Whether a peer answers this command: all requests but C-CANCEL.
    pub fn awaits_response(&self) -> bool {
        !self.command_field().is_response() && self.command_field() != CommandField::C_CANCEL_RQ
    }

    /// Whether this is a response and no other follows for its request.
    pub fn is_final_response(&self) -> bool {
        self.command_field().is_response() && !self.status().is_some_and(Status::is_pending)
    }

    /// The value as received or set, with its padding.
    pub fn value(&self, element: Element) -> Option<&[u8]> {
        self.elements.get(&element).map(|value| &value[..])
    }

    /// A value of VR US; `None` if absent or of another length.
    pub fn unsigned(&self, element: Element) -> Option<u16> {
        self.value(element)?.try_into().ok().map(u16::from_le_bytes)
    }

    /// A value of VR UI without padding; `None` if absent, empty or not ISO 646.
    pub fn uid(&self, element: Element) -> Option<&str> {
        let uid = std::str::from_utf8(self.value(element)?).ok()?.trim_end_matches(['\0', ' ']);
        (!uid.is_empty() && uid.is_ascii()).then_some(uid)
    }

    /// A value of VR AE or LO without leading and trailing spaces; what is not ISO 646 becomes U+FFFD.
    pub fn text(&self, element: Element) -> Option<Cow<'_, str>> {
        let value = self.value(element)?;
        match std::str::from_utf8(value) {
            Ok(text) if text.is_ascii() => Some(Cow::Borrowed(text.trim_matches(PADDING))),
            _ => {
                let text: String =
                    value.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER }).collect();
                Some(Cow::Owned(text.trim_matches(PADDING).to_owned()))
            }
        }
    }

    /// Values of VR AT; empty if absent.
    pub fn tags(&self, element: Element) -> Vec<Tag> {
        let value = self.value(element).unwrap_or_default();
        let tag = |bytes: &[u8; 4]| Tag(u16::from_le_bytes([bytes[0], bytes[1]]), u16::from_le_bytes([bytes[2], bytes[3]]));
        value.as_chunks::<4>().0.iter().map(tag).collect()
    }

    /// Sets a value of VR US.
    pub fn set_unsigned(&mut self, element: Element, value: u16) {
        self.elements.insert(element, Bytes::copy_from_slice(&value.to_le_bytes()));
    }

    /// Sets a value of VR UI, padded with NUL.
    pub fn set_uid(&mut self, element: Element, uid: &str) {
        self.elements.insert(element, padded(uid, 0));
    }

    /// Sets a value of VR AE or LO, padded with a space.
    pub fn set_text(&mut self, element: Element, text: &str) {
        self.elements.insert(element, padded(text, b' '));
    }

    /// Sets values of VR AT.
    pub fn set_tags(&mut self, element: Element, tags: &[Tag]) {
        let words = tags.iter().flat_map(|tag| [tag.0, tag.1]);
        self.elements.insert(element, words.flat_map(u16::to_le_bytes).collect());
    }

    fn message_id_element(&self) -> Element {
        let field = self.command_field();
        if field.is_response() || field == CommandField::C_CANCEL_RQ { Element::MESSAGE_ID_BEING_RESPONDED_TO } else { Element::MESSAGE_ID }
    }
}

const PADDING: [char; 2] = [' ', '\0'];

fn padded(text: &str, padding: u8) -> Bytes {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(padding);
    }
    bytes.into()
}

impl fmt::Debug for CommandSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandSet({:04X}H, message {}", self.command_field().0, self.message_id())?;
        if let Some(status) = self.status() {
            write!(f, ", status {status}")?;
        }
        if self.has_data_set() {
            write!(f, ", data set follows")?;
        }
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    /// An element of group 0000 as it stands on the wire.
    fn element(number: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend(number.to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
        bytes
    }

    fn decode(elements: &[Vec<u8>]) -> Result<CommandSet, CommandSetError> {
        CommandSet::decode(elements.concat().into())
    }

    /// Command Field, Message ID and Command Data Set Type of a C-ECHO-RQ.
    fn echo() -> [Vec<u8>; 3] {
        [element(0x0100, &[0x30, 0]), element(0x0110, &[9, 0]), element(0x0800, &[1, 1])]
    }

    #[test]
    fn a_c_echo_rq_has_the_bytes_of_the_standard() {
        let mut expected = element(0x0000, &[56, 0, 0, 0]);
        expected.extend(element(0x0002, b"1.2.840.10008.1.1\0"));
        expected.extend(element(0x0100, &[0x30, 0]));
        expected.extend(element(0x0110, &[1, 0]));
        expected.extend(element(0x0800, &[1, 1]));
        assert_eq!(CommandSet::c_echo_rq(1).encode(), expected);
    }

    #[test]
    fn a_response_names_the_message_and_the_instance_of_its_request() {
        let request = CommandSet::c_store_rq(300, CT, "1.2.3", Priority::High);
        let response = CommandSet::decode(CommandSet::response(&request, Status(0xC122)).encode()).unwrap();
        assert_eq!(response.command_field(), CommandField::C_STORE_RSP);
        assert_eq!((response.message_id(), response.status(), response.has_data_set()), (300, Some(Status(0xC122)), false));
        assert_eq!(response.uid(Element::AFFECTED_SOP_CLASS_UID), Some(CT));
        assert_eq!(response.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some("1.2.3"));
    }

    #[test]
    fn the_response_to_an_n_action_names_as_affected_what_was_requested() {
        let mut request = CommandSet::request(CommandField::N_ACTION_RQ, 4, true);
        request.set_uid(Element::REQUESTED_SOP_CLASS_UID, "1.2.840.10008.1.20.1");
        request.set_uid(Element::REQUESTED_SOP_INSTANCE_UID, "1.2.840.10008.1.20.1.1");
        request.set_unsigned(Element::ACTION_TYPE_ID, 1);
        let response = CommandSet::response(&request, Status::SUCCESS);
        assert_eq!(response.uid(Element::AFFECTED_SOP_CLASS_UID), Some("1.2.840.10008.1.20.1"));
        assert_eq!(response.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some("1.2.840.10008.1.20.1.1"));
        assert_eq!(response.value(Element::REQUESTED_SOP_CLASS_UID), None);
    }

    #[test]
    fn an_odd_ae_title_and_a_wrong_group_length_are_taken() {
        let [field, id, data_set_type] = echo();
        let command = decode(&[element(0, &[1, 0, 0, 0]), id, data_set_type, field, element(0x1030, b"ABC")]).unwrap();
        assert_eq!(command.text(Element::MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE).as_deref(), Some("ABC"));
    }

    #[test]
    fn what_cannot_be_decoded_says_which_element_and_why() {
        let [field, id, data_set_type] = echo();
        let with = |extra: Vec<u8>| decode(&[field.clone(), id.clone(), data_set_type.clone(), extra]);
        let mut data_element = element(0x0010, b"X ");
        data_element[0] = 0x10;
        assert_eq!(with(data_element), Err(CommandSetError::Group(Tag(0x0010, 0x0010))));
        assert_eq!(with(element(0x0110, &[9, 0])), Err(CommandSetError::Repeated(Element::MESSAGE_ID)));
        assert_eq!(with(element(0x0900, &[0])), Err(CommandSetError::Length(Element::STATUS)));
        assert_eq!(with(element(0x0901, &[0; 6])), Err(CommandSetError::Length(Element::OFFENDING_ELEMENT)));
        assert_eq!(with(vec![0, 0, 2, 0, 0]), Err(CommandSetError::CutOff(35)));
        assert_eq!(with(vec![0, 0, 2, 0, 255, 255, 255, 255]), Err(CommandSetError::CutOff(38)));
        assert_eq!(decode(&[id.clone(), data_set_type.clone()]), Err(CommandSetError::Missing(Element::COMMAND_FIELD)));
        assert_eq!(decode(&[field.clone(), data_set_type]), Err(CommandSetError::Missing(Element::MESSAGE_ID)));
        assert_eq!(decode(&[field, id.clone()]), Err(CommandSetError::Missing(Element::COMMAND_DATA_SET_TYPE)));
        assert_eq!(decode(&[element(0x0100, &[1, 0x80]), id]), Err(CommandSetError::Missing(Element::MESSAGE_ID_BEING_RESPONDED_TO)));
    }

    #[test]
    fn debug_shows_no_uid() {
        let command = CommandSet::c_store_rq(300, CT, "1.2.3", Priority::High);
        assert_eq!(format!("{command:?}"), "CommandSet(0001H, message 300, data set follows)");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(bytes: Vec<u8>) {
            let _ = CommandSet::decode(bytes.into());
        }

        #[test]
        fn what_is_encoded_is_decoded(
            message_id: u16,
            status: u16,
            uid in "[1-9](\\.[1-9][0-9]{0,5}){1,8}",
            comment in "[!-~]([ -~]{0,62}[!-~])?",
            tags in prop::collection::vec(any::<(u16, u16)>(), 0..16),
        ) {
            let mut command = CommandSet::response(&CommandSet::c_store_rq(message_id, CT, &uid, Priority::Low), Status(status));
            let tags: Vec<Tag> = tags.into_iter().map(|(group, element)| Tag(group, element)).collect();
            command.set_text(Element::ERROR_COMMENT, &comment);
            command.set_tags(Element::OFFENDING_ELEMENT, &tags);
            let decoded = CommandSet::decode(command.encode()).unwrap();
            prop_assert_eq!(decoded.uid(Element::AFFECTED_SOP_INSTANCE_UID), Some(&uid[..]));
            prop_assert_eq!(decoded.text(Element::ERROR_COMMENT), Some(Cow::Borrowed(&comment[..])));
            prop_assert_eq!(decoded.tags(Element::OFFENDING_ELEMENT), tags);
            prop_assert_eq!(decoded, command);
        }
    }
}
