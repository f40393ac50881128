//! Query and retrieve: C-FIND, C-MOVE, C-GET (PS3.4 Annex C; PS3.7 §9.1.2 to §9.1.4).
//!
//! [`service_of`] says what a SOP class is for, [`Identifier`] is the data set of a request or response, [`matching`] whether a
//! value matches a key. The hierarchy of PS3.4 §C.4.1.2.1 is asked for: no relational queries.
//!
//! # Bounds
//! Keys of an identifier: [`KEYS_MAX`]; the caller bounds its length (BD-08).

pub mod matching;

use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::uids;

use super::data_set::{ReadError, Reader, Writer};
use crate::message::command_set::{CommandSet, Element};
use crate::status::Status;

/// Keys of one identifier (BD-08).
pub const KEYS_MAX: usize = 256;
/// Query/Retrieve Level.
pub const QUERY_RETRIEVE_LEVEL: Tag = Tag(0x0008, 0x0052);
/// Specific Character Set.
pub const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
/// Failed SOP Instance UID List.
pub const FAILED_SOP_INSTANCE_UID_LIST: Tag = Tag(0x0008, 0x0058);
/// Retrieve: complete, one or more failures or warnings (PS3.4 Table C.4-2, C.4-3).
pub const SUB_OPERATIONS_WITH_FAILURES: Status = Status(0xB000);

/// Information model (PS3.4 §C.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// Patient Root.
    PatientRoot,
    /// Study Root.
    StudyRoot,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// C-FIND.
    Find,
    /// C-MOVE.
    Move,
    /// C-GET.
    Get,
}

/// The SOP classes of this service, with what each is for.
pub const SOP_CLASSES: [(&str, Model, Service); 6] = [
    (uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, Model::PatientRoot, Service::Find),
    (uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE, Model::PatientRoot, Service::Move),
    (uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, Model::PatientRoot, Service::Get),
    (uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, Model::StudyRoot, Service::Find),
    (uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE, Model::StudyRoot, Service::Move),
    (uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, Model::StudyRoot, Service::Get),
];

/// What a SOP class is for; `None` if it is none of this service.
pub fn service_of(sop_class_uid: &str) -> Option<(Model, Service)> {
    SOP_CLASSES.iter().find(|(uid, ..)| *uid == sop_class_uid).map(|(_, model, service)| (*model, *service))
}

/// Query/Retrieve Level (0008,0052), from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `PATIENT`.
    Patient,
    /// `STUDY`.
    Study,
    /// `SERIES`.
    Series,
    /// `IMAGE`.
    Image,
}

impl Level {
    /// All, from the top.
    pub const ALL: [Self; 4] = [Self::Patient, Self::Study, Self::Series, Self::Image];

    /// As the element has it.
    pub const fn value(self) -> &'static str {
        match self {
            Level::Patient => "PATIENT",
            Level::Study => "STUDY",
            Level::Series => "SERIES",
            Level::Image => "IMAGE",
        }
    }

    /// Its unique key (PS3.4 §C.6).
    pub const fn unique_key(self) -> Tag {
        match self {
            Level::Patient => Tag(0x0010, 0x0020),
            Level::Study => Tag(0x0020, 0x000D),
            Level::Series => Tag(0x0020, 0x000E),
            Level::Image => Tag(0x0008, 0x0018),
        }
    }
}

/// One element of an identifier. `Debug` shows no value.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its tag.
    pub tag: Tag,
    /// Its VR; `None` in Implicit VR.
    pub vr: Option<[u8; 2]>,
    /// Its value without trailing padding, undecoded; empty for a sequence.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, {} bytes <redacted>)", self.tag, self.value.len())
    }
}

/// The data set of a request: what is asked for at which level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// Query/Retrieve Level.
    pub level: Level,
    /// All other elements of even groups but group lengths, in the order of the data set.
    pub keys: Vec<Key>,
}

/// Why an identifier is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The level is absent, or the information model does not have it.
    #[error("the query/retrieve level is missing or none of the information model")]
    Level,
    /// A unique key above the level is absent or has not one value.
    #[error("{0} must have one value")]
    UniqueKey(Tag),
    /// A retrieve without the unique key of its level.
    #[error("{0} must say what to retrieve")]
    NothingAsked(Tag),
}

impl IdentifierError {
    /// The status that tells the peer: A900H, C000H for bytes that are no data set, A700H for more keys than the bound.
    pub fn status(self) -> Status {
        match self {
            IdentifierError::Read(ReadError::TooMany(_)) => Status::OUT_OF_RESOURCES,
            IdentifierError::Read(ReadError::Malformed(_) | ReadError::TransferSyntax) => Status::CANNOT_UNDERSTAND,
            _ => Status::DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
        }
    }
}

impl Identifier {
    /// Reads the data set of a request, and checks the level and the unique keys above it.
    ///
    /// # Errors
    /// [`IdentifierError`].
    pub fn read(transfer_syntax: &str, bytes: &[u8], model: Model, service: Service) -> Result<Self, IdentifierError> {
        let mut reader = Reader::new(transfer_syntax, bytes)?;
        let (mut level, mut keys) = (None, Vec::new());
        while let Some(header) = reader.next()? {
            if header.tag == QUERY_RETRIEVE_LEVEL {
                let value = reader.value(&header)?.trim_ascii();
                level = Level::ALL.into_iter().find(|level| level.value().as_bytes() == value);
                continue;
            }
            let sequence = header.vr == Some(*b"SQ") || header.length.is_none();
            let value = if sequence {
                reader.skip(&header, 0)?;
                Vec::new()
            } else {
                let value = reader.value(&header)?;
                let end = value.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
                value[..end].to_vec()
            };
            // Group lengths and private elements are no keys of ours.
            if header.tag.1 == 0 || header.tag.0 % 2 == 1 {
                continue;
            }
            if keys.len() >= KEYS_MAX {
                return Err(ReadError::TooMany(KEYS_MAX).into());
            }
            keys.push(Key { tag: header.tag, vr: header.vr, value });
        }
        let lowest = match model {
            Model::PatientRoot => Level::Patient,
            Model::StudyRoot => Level::Study,
        };
        let level = level.filter(|level| *level >= lowest).ok_or(IdentifierError::Level)?;
        let identifier = Identifier { level, keys };
        for above in Level::ALL.into_iter().filter(|above| (lowest..level).contains(above)) {
            let key = identifier.value(above.unique_key());
            if key.is_empty() || key.contains(&b'\\') || key.iter().any(|byte| matches!(byte, b'*' | b'?')) {
                return Err(IdentifierError::UniqueKey(above.unique_key()));
            }
        }
        let key = identifier.value(level.unique_key());
        if service != Service::Find && (key.is_empty() || key.iter().any(|byte| matches!(byte, b'*' | b'?'))) {
            return Err(IdentifierError::NothingAsked(level.unique_key()));
        }
        Ok(identifier)
    }

    /// The value of a key; empty if it is absent: both match everything.
    pub fn value(&self, tag: Tag) -> &[u8] {
        self.keys.iter().find(|key| key.tag == tag).map_or(&[], |key| &key.value)
    }

    /// The UIDs of a key; none if it is absent or empty. What is no UID matches nothing, and is kept as it is.
    pub fn uids(&self, tag: Tag) -> Vec<String> {
        let values = self.value(tag).split(|byte| *byte == b'\\');
        values.filter(|uid| !uid.is_empty()).map(|uid| String::from_utf8_lossy(uid.trim_ascii()).into_owned()).collect()
    }
}

/// An element of a response.
#[derive(Clone, PartialEq, Eq)]
pub struct Returned {
    /// Its tag.
    pub tag: Tag,
    /// Its VR.
    pub vr: [u8; 2],
    /// Its value, encoded, without padding; at most 65 534 bytes, what is more is cut.
    pub value: Vec<u8>,
}

/// The data set of a response: the elements in the order of their tags, each once.
///
/// # Errors
/// [`ReadError::TransferSyntax`].
pub fn encode(transfer_syntax: &str, mut elements: Vec<Returned>) -> Result<Bytes, ReadError> {
    let writer = Writer::new(transfer_syntax)?;
    elements.sort_by_key(|element| element.tag);
    elements.dedup_by_key(|element| element.tag);
    let mut bytes = Vec::new();
    for Returned { tag, vr, mut value } in elements {
        value.truncate(65_534);
        if value.len() % 2 == 1 {
            value.push(if vr == *b"UI" { 0 } else { b' ' });
        }
        bytes.extend(writer.element(tag, vr, &value));
    }
    Ok(bytes.into())
}

/// C-FIND-RSP; `with_identifier` says that a data set follows.
pub fn find_response(request: &CommandSet, status: Status, with_identifier: bool) -> CommandSet {
    let mut response = CommandSet::response(request, status);
    if with_identifier {
        response.set_unsigned(Element::COMMAND_DATA_SET_TYPE, 1);
    }
    response
}

/// Sub-operations of a retrieve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubOperations {
    /// Not begun.
    pub remaining: usize,
    /// Done.
    pub completed: usize,
    /// Not done.
    pub failed: usize,
    /// Done, with a remark.
    pub warning: usize,
}

impl SubOperations {
    /// The status at the end (PS3.4 Tables C.4-2 and C.4-3): 0000H, B000H, or A702H if none was done.
    pub fn status(&self) -> Status {
        match (self.failed + self.warning, self.completed + self.warning) {
            (0, _) => Status::SUCCESS,
            (_, 0) => Status::UNABLE_TO_PERFORM_SUB_OPERATIONS,
            _ => SUB_OPERATIONS_WITH_FAILURES,
        }
    }
}

/// C-MOVE-RSP or C-GET-RSP with its counts; the remaining ones go with pending and cancelled alone (PS3.7 §9.1.3.1.9).
pub fn retrieve_response(request: &CommandSet, status: Status, counts: &SubOperations, with_identifier: bool) -> CommandSet {
    let mut response = find_response(request, status, with_identifier);
    let number = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    if status.is_pending() || status == Status::CANCEL {
        response.set_unsigned(Element::NUMBER_OF_REMAINING_SUB_OPERATIONS, number(counts.remaining));
    }
    response.set_unsigned(Element::NUMBER_OF_COMPLETED_SUB_OPERATIONS, number(counts.completed));
    response.set_unsigned(Element::NUMBER_OF_FAILED_SUB_OPERATIONS, number(counts.failed));
    response.set_unsigned(Element::NUMBER_OF_WARNING_SUB_OPERATIONS, number(counts.warning));
    response
}

/// The identifier of a final response that names what failed; as many UIDs as fit an element of VR UI.
///
/// # Errors
/// [`ReadError::TransferSyntax`].
pub fn failed_instances(transfer_syntax: &str, uids: &[String]) -> Result<Bytes, ReadError> {
    let mut value = String::new();
    for uid in uids {
        if value.len() + 1 + uid.len() > 65_534 {
            break;
        }
        if !value.is_empty() {
            value.push('\\');
        }
        value.push_str(uid);
    }
    encode(transfer_syntax, vec![Returned { tag: FAILED_SOP_INSTANCE_UID_LIST, vr: *b"UI", value: value.into_bytes() }])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::data_set::TRANSFER_SYNTAXES;
    use super::*;
    use crate::message::command_set::CommandField;

    const STUDY: Tag = Level::Study.unique_key();
    const SERIES: Tag = Level::Series.unique_key();

    fn identifier(level: &str, keys: &[(Tag, &str)]) -> Vec<u8> {
        let element = |tag, value: &str| Returned { tag, vr: *b"LO", value: value.as_bytes().to_vec() };
        let mut elements = vec![element(QUERY_RETRIEVE_LEVEL, level)];
        elements.extend(keys.iter().map(|(tag, value)| element(*tag, value)));
        encode(TRANSFER_SYNTAXES[1], elements).unwrap().to_vec()
    }

    fn read(level: &str, keys: &[(Tag, &str)], model: Model, service: Service) -> Result<Identifier, IdentifierError> {
        Identifier::read(TRANSFER_SYNTAXES[1], &identifier(level, keys), model, service)
    }

    #[test]
    fn each_level_names_one_of_everything_above_it() {
        use Model::{PatientRoot, StudyRoot};
        let find = |level, keys: &[(Tag, &str)], model| read(level, keys, model, Service::Find).map(|found| found.level);
        assert_eq!(find("STUDY", &[], StudyRoot), Ok(Level::Study));
        assert_eq!(find("PATIENT", &[], PatientRoot), Ok(Level::Patient));
        assert_eq!(find("PATIENT", &[], StudyRoot), Err(IdentifierError::Level));
        assert_eq!(find("FRAME", &[], StudyRoot), Err(IdentifierError::Level));
        assert_eq!(find("STUDY", &[], PatientRoot), Err(IdentifierError::UniqueKey(Level::Patient.unique_key())));
        assert_eq!(find("SERIES", &[], StudyRoot), Err(IdentifierError::UniqueKey(STUDY)));
        assert_eq!(find("SERIES", &[(STUDY, "1.2\\1.3")], StudyRoot), Err(IdentifierError::UniqueKey(STUDY)));
        assert_eq!(find("SERIES", &[(STUDY, "1.2.*")], StudyRoot), Err(IdentifierError::UniqueKey(STUDY)));
        assert_eq!(find("IMAGE", &[(STUDY, "1.2")], StudyRoot), Err(IdentifierError::UniqueKey(SERIES)));
        assert_eq!(find("IMAGE", &[(STUDY, "1.2"), (SERIES, "1.3")], StudyRoot), Ok(Level::Image));
        assert_eq!(IdentifierError::Level.status(), Status(0xA900));
    }

    #[test]
    fn a_retrieve_says_what_it_wants() {
        let get = |keys: &[(Tag, &str)]| read("STUDY", keys, Model::StudyRoot, Service::Get);
        assert_eq!(get(&[]), Err(IdentifierError::NothingAsked(STUDY)));
        assert_eq!(get(&[(STUDY, "")]), Err(IdentifierError::NothingAsked(STUDY)));
        assert_eq!(get(&[(STUDY, "*")]), Err(IdentifierError::NothingAsked(STUDY)));
        assert_eq!(get(&[(STUDY, "1.2\\1.3")]).unwrap().uids(STUDY), ["1.2", "1.3"]);
    }

    #[test]
    fn sequences_private_elements_and_group_lengths_are_passed() {
        let mut bytes = b"\x08\x00\x00\x00UL\x04\x00\x00\x00\x00\x00".to_vec();
        bytes.extend(identifier("STUDY", &[(STUDY, "1.2")]));
        bytes.extend(b"\x40\x00\x75\x02SQ\x00\x00\xFF\xFF\xFF\xFF\xFE\xFF\xDD\xE0\x00\x00\x00\x00");
        bytes.extend(b"\x41\x00\x10\x00LO\x02\x00ab");
        let read = Identifier::read(TRANSFER_SYNTAXES[1], &bytes, Model::StudyRoot, Service::Find).unwrap();
        let keys: Vec<_> = read.keys.iter().map(|key| (key.tag, key.value.as_slice())).collect();
        assert_eq!(keys, [(STUDY, &b"1.2"[..]), (Tag(0x0040, 0x0275), &b""[..])]);
    }

    #[test]
    fn more_keys_than_the_bound_are_refused() {
        let keys: Vec<_> = (0..=KEYS_MAX as u16).map(|n| (Tag(0x0010, 0x1000 + n), "x")).collect();
        let refused = read("STUDY", &keys, Model::StudyRoot, Service::Find).unwrap_err();
        assert_eq!((refused, refused.status()), (IdentifierError::Read(ReadError::TooMany(256)), Status(0xA700)));
    }

    #[test]
    fn the_end_of_a_retrieve_says_how_much_of_it_was_done() {
        let counts = |completed, failed, warning| SubOperations { completed, failed, warning, remaining: 0 };
        assert_eq!(counts(0, 0, 0).status(), Status::SUCCESS);
        assert_eq!(counts(3, 0, 0).status(), Status::SUCCESS);
        assert_eq!(counts(2, 1, 0).status(), Status(0xB000));
        assert_eq!(counts(2, 0, 1).status(), Status(0xB000));
        assert_eq!(counts(0, 3, 0).status(), Status(0xA702));
        let request = CommandSet::request(CommandField::C_GET_RQ, 4, true);
        let counts = SubOperations { remaining: 5, completed: 1, failed: 2, warning: 3 };
        let remaining = |status| {
            let response = CommandSet::decode(retrieve_response(&request, status, &counts, false).encode()).unwrap();
            assert_eq!(response.unsigned(Element::NUMBER_OF_COMPLETED_SUB_OPERATIONS), Some(1));
            response.unsigned(Element::NUMBER_OF_REMAINING_SUB_OPERATIONS)
        };
        assert_eq!([Status::PENDING, Status::CANCEL, Status::SUCCESS].map(remaining), [Some(5), Some(5), None]);
    }

    #[test]
    fn a_list_of_failures_is_cut_between_two_uids() {
        let uids: Vec<String> = (0..5000).map(|n| format!("1.2.246.10.90000011.77.{n}")).collect();
        let bytes = failed_instances(TRANSFER_SYNTAXES[1], &uids).unwrap();
        let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
        assert!(bytes.len() <= 65_542 && text.split('\\').all(|uid| uids.contains(&uid.trim_end_matches('\0').to_owned())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>, explicit: bool) {
            let _ = Identifier::read(TRANSFER_SYNTAXES[usize::from(explicit)], &bytes, Model::PatientRoot, Service::Find);
        }
    }
}
