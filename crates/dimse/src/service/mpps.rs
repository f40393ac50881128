//! Modality Performed Procedure Step: N-CREATE and N-SET (PS3.4 Annex F.7).
//!
//! A device says that it has begun ([`Creation`], N-CREATE), and later that it has ended and what it has made
//! ([`Modification`], N-SET). [`Step`] is what is known of one; [`Step::set`] is the state machine of PS3.4 Table F.7.2-2.
//! Of all that a device says, here is read what tells whether a study is complete: state, studies, instances.
//!
//! # Bounds
//! At most as many instances as the caller says, at most [`STUDIES_MAX`] studies; the caller bounds the length of a data set.
//!
//! # Standard
//! Laxer than PS3.4 Table F.7.2-1, because a device that is refused tells nobody anything: of the attributes that must be there
//! at the creation those are asked for that [`REQUIRED`] names; a step may end without a series; attributes that may not be
//! set are read past, unless they name another study.

use dicom_core::Tag;
pub use dicom_dictionary_std::uids::MODALITY_PERFORMED_PROCEDURE_STEP as SOP_CLASS_UID;

use super::data_set::{Header, REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID, ReadError, Reader, Reference};
use super::normalized::Refused;
use crate::status::Status;

/// Studies that one step names.
pub const STUDIES_MAX: usize = 64;
/// Attributes of Type 1 without which no step is created, beside the study of its Scheduled Step Attributes Sequence.
pub const REQUIRED: [Tag; 5] = [MODALITY, STATION_AE_TITLE, START_DATE, START_TIME, STATUS];
/// Error ID (0000,0903) of an N-SET after the final state (PS3.4 Table F.7.2-2).
pub const NO_LONGER_UPDATED: u16 = 0xA710;

const MODALITY: Tag = Tag(0x0008, 0x0060);
const REFERENCED_IMAGE_SEQUENCE: Tag = Tag(0x0008, 0x1140);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const REFERENCED_NON_IMAGE_SEQUENCE: Tag = Tag(0x0040, 0x0220);
const STATION_AE_TITLE: Tag = Tag(0x0040, 0x0241);
const START_DATE: Tag = Tag(0x0040, 0x0244);
const START_TIME: Tag = Tag(0x0040, 0x0245);
const STATUS: Tag = Tag(0x0040, 0x0252);
const SCHEDULED_STEP_ATTRIBUTES_SEQUENCE: Tag = Tag(0x0040, 0x0270);
const PERFORMED_SERIES_SEQUENCE: Tag = Tag(0x0040, 0x0340);

/// Performed Procedure Step Status (0040,0252).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// `IN PROGRESS`.
    InProgress,
    /// `COMPLETED`.
    Completed,
    /// `DISCONTINUED`.
    Discontinued,
}

impl State {
    /// Whether nothing follows.
    pub const fn is_final(self) -> bool {
        !matches!(self, State::InProgress)
    }
}

/// The data set of an N-CREATE-RQ; its state is `IN PROGRESS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Study Instance UIDs of the Scheduled Step Attributes Sequence (0040,0270), each once, at least one.
    pub study_uids: Vec<String>,
    /// Instances of the Performed Series Sequence (0040,0340).
    pub instances: Vec<Reference>,
}

/// The data set of an N-SET-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modification {
    /// The new state, if it says one.
    pub state: Option<State>,
    /// Studies, if it names them (it may not).
    pub study_uids: Vec<String>,
    /// Instances, if it has the Performed Series Sequence (0040,0340): they take the place of those before.
    pub instances: Option<Vec<Reference>>,
}

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its state.
    pub state: State,
    /// Its studies.
    pub study_uids: Vec<String>,
    /// What it has made, both image and other.
    pub instances: Vec<Reference>,
}

impl From<Creation> for Step {
    fn from(creation: Creation) -> Self {
        Step { state: State::InProgress, study_uids: creation.study_uids, instances: creation.instances }
    }
}

impl Step {
    /// What an N-SET makes of it.
    ///
    /// # Errors
    /// 0110H with Error ID A710H after a final state; 0106H for other studies than those it was created with.
    pub fn set(&self, modification: Modification) -> Result<Step, Refused> {
        if self.state.is_final() {
            return Err(Refused {
                comment: "Performed Procedure Step Object may no longer be updated",
                error_id: Some(NO_LONGER_UPDATED),
                ..Status::PROCESSING_FAILURE.into()
            });
        }
        if modification.study_uids.iter().any(|uid| !self.study_uids.contains(uid)) {
            return Err(ReadError::Invalid(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE).into());
        }
        Ok(Step {
            state: modification.state.unwrap_or(self.state),
            study_uids: self.study_uids.clone(),
            instances: modification.instances.unwrap_or_else(|| self.instances.clone()),
        })
    }
}

impl Creation {
    /// Reads the data set of an N-CREATE-RQ.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Invalid`] for a state other than `IN PROGRESS`.
    pub fn read(transfer_syntax: &str, bytes: &[u8], instances_max: usize) -> Result<Self, ReadError> {
        let said = Said::read(transfer_syntax, bytes, instances_max)?;
        for tag in [SCHEDULED_STEP_ATTRIBUTES_SEQUENCE].into_iter().chain(REQUIRED) {
            if !said.present.contains(&tag) {
                return Err(ReadError::Missing(tag));
            }
        }
        if said.study_uids.is_empty() {
            return Err(ReadError::Missing(STUDY_INSTANCE_UID));
        }
        match said.state {
            Some(State::InProgress) => Ok(Creation { study_uids: said.study_uids, instances: said.instances.unwrap_or_default() }),
            _ => Err(ReadError::Invalid(STATUS)),
        }
    }
}

impl Modification {
    /// Reads the data set of an N-SET-RQ.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(transfer_syntax: &str, bytes: &[u8], instances_max: usize) -> Result<Self, ReadError> {
        let Said { state, study_uids, instances, .. } = Said::read(transfer_syntax, bytes, instances_max)?;
        Ok(Modification { state, study_uids, instances })
    }
}

/// What stands in either data set.
#[derive(Default)]
struct Said {
    state: Option<State>,
    study_uids: Vec<String>,
    instances: Option<Vec<Reference>>,
    /// Those of [`REQUIRED`] that have a value, and the sequence.
    present: Vec<Tag>,
}

impl Said {
    fn read(transfer_syntax: &str, bytes: &[u8], instances_max: usize) -> Result<Self, ReadError> {
        let mut reader = Reader::new(transfer_syntax, bytes)?;
        let mut said = Said::default();
        while let Some(header) = reader.next()? {
            match header.tag {
                STATUS => {
                    let value = reader.value(&header)?.trim_ascii();
                    if !value.is_empty() {
                        said.state = Some(state(value).ok_or(ReadError::Invalid(STATUS))?);
                        said.present.push(STATUS);
                    }
                }
                SCHEDULED_STEP_ATTRIBUTES_SEQUENCE => {
                    said.present.push(header.tag);
                    let study_uids = &mut said.study_uids;
                    reader.items(&header, |reader, end| studies(reader, end, study_uids))?;
                }
                PERFORMED_SERIES_SEQUENCE => {
                    let mut instances = Vec::new();
                    reader.items(&header, |reader, end| series(reader, end, &mut instances, instances_max))?;
                    said.instances = Some(instances);
                }
                tag if REQUIRED.contains(&tag) => {
                    if !reader.value(&header)?.trim_ascii().is_empty() {
                        said.present.push(tag);
                    }
                }
                _ => reader.skip(&header, 0)?,
            }
        }
        Ok(said)
    }
}

fn state(value: &[u8]) -> Option<State> {
    match value {
        b"IN PROGRESS" => Some(State::InProgress),
        b"COMPLETED" => Some(State::Completed),
        b"DISCONTINUED" => Some(State::Discontinued),
        _ => None,
    }
}

fn studies(reader: &mut Reader<'_>, end: Option<usize>, study_uids: &mut Vec<String>) -> Result<(), ReadError> {
    while let Some(header) = reader.next_of_item(end)? {
        if header.tag != STUDY_INSTANCE_UID {
            reader.skip(&header, 0)?;
            continue;
        }
        let uid = reader.uid(&header)?;
        if uid.is_empty() || study_uids.contains(&uid) {
            continue;
        }
        if study_uids.len() >= STUDIES_MAX {
            return Err(ReadError::TooMany(STUDIES_MAX));
        }
        study_uids.push(uid);
    }
    Ok(())
}

fn series(reader: &mut Reader<'_>, end: Option<usize>, instances: &mut Vec<Reference>, instances_max: usize) -> Result<(), ReadError> {
    while let Some(header) = reader.next_of_item(end)? {
        match header.tag {
            REFERENCED_IMAGE_SEQUENCE | REFERENCED_NON_IMAGE_SEQUENCE => references(reader, &header, instances, instances_max)?,
            _ => reader.skip(&header, 0)?,
        }
    }
    Ok(())
}

fn references(reader: &mut Reader<'_>, header: &Header, instances: &mut Vec<Reference>, instances_max: usize) -> Result<(), ReadError> {
    reader.items(header, |reader, end| {
        if instances.len() >= instances_max {
            return Err(ReadError::TooMany(instances_max));
        }
        let (mut class, mut instance) = (String::new(), String::new());
        while let Some(header) = reader.next_of_item(end)? {
            match header.tag {
                REFERENCED_SOP_CLASS_UID => class = reader.uid(&header)?,
                REFERENCED_SOP_INSTANCE_UID => instance = reader.uid(&header)?,
                _ => reader.skip(&header, 0)?,
            }
        }
        if class.is_empty() || instance.is_empty() {
            return Err(ReadError::Missing(if class.is_empty() { REFERENCED_SOP_CLASS_UID } else { REFERENCED_SOP_INSTANCE_UID }));
        }
        instances.push(Reference { sop_class_uid: class, sop_instance_uid: instance });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::data_set::{TRANSFER_SYNTAXES, Writer};
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const SR: &str = "1.2.840.10008.5.1.4.1.1.88.67";

    fn reference(class: &str, number: usize) -> Reference {
        Reference { sop_class_uid: class.to_owned(), sop_instance_uid: format!("1.2.3.{number}") }
    }

    /// A step of two studies; `images` images and one report in its series.
    struct Sample {
        status: &'static str,
        studies: Vec<&'static str>,
        images: Option<usize>,
        without: Option<Tag>,
    }

    impl Sample {
        fn encode(&self, syntax: &str) -> Vec<u8> {
            let writer = Writer::new(syntax).unwrap();
            let text = |tag: Tag, vr: [u8; 2], value: &str| {
                let padded = if value.len() % 2 == 1 { format!("{value} ") } else { value.to_owned() };
                writer.element(tag, vr, padded.as_bytes())
            };
            let item = |reference: Reference| {
                [
                    writer.uid(REFERENCED_SOP_CLASS_UID, &reference.sop_class_uid),
                    writer.uid(REFERENCED_SOP_INSTANCE_UID, &reference.sop_instance_uid),
                ]
                .concat()
            };
            let mut elements = vec![
                (MODALITY, text(MODALITY, *b"CS", "CT")),
                (Tag(0x0010, 0x0010), text(Tag(0x0010, 0x0010), *b"PN", "TESTI^Teppo")),
                (STATION_AE_TITLE, text(STATION_AE_TITLE, *b"AE", "CT01")),
                (START_DATE, text(START_DATE, *b"DA", "20261124")),
                (START_TIME, text(START_TIME, *b"TM", "120000")),
                (STATUS, text(STATUS, *b"CS", self.status)),
            ];
            if !self.studies.is_empty() {
                let studies = self.studies.iter().map(|uid| writer.uid(STUDY_INSTANCE_UID, uid));
                let sequence = writer.sequence(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, studies);
                elements.push((SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, sequence));
            }
            if let Some(images) = self.images {
                let images = writer.sequence(REFERENCED_IMAGE_SEQUENCE, (0..images).map(|n| item(reference(CT, n))));
                let report = writer.sequence(REFERENCED_NON_IMAGE_SEQUENCE, [item(reference(SR, 1000))].into_iter());
                let series = writer.sequence(PERFORMED_SERIES_SEQUENCE, [[images, report].concat()].into_iter());
                elements.push((PERFORMED_SERIES_SEQUENCE, series));
            }
            elements.into_iter().filter(|(tag, _)| Some(*tag) != self.without).flat_map(|(_, bytes)| bytes).collect()
        }
    }

    fn begun() -> Sample {
        Sample { status: "IN PROGRESS", studies: vec!["1.2.1", "1.2.2", "1.2.1"], images: None, without: None }
    }

    fn ended() -> Sample {
        Sample { status: "COMPLETED", studies: Vec::new(), images: Some(2), without: None }
    }

    fn create(sample: &Sample) -> Result<Creation, ReadError> {
        Creation::read(TRANSFER_SYNTAXES[1], &sample.encode(TRANSFER_SYNTAXES[1]), 10)
    }

    fn set(sample: &Sample) -> Result<Modification, ReadError> {
        Modification::read(TRANSFER_SYNTAXES[1], &sample.encode(TRANSFER_SYNTAXES[1]), 10)
    }

    #[test]
    fn a_step_goes_from_its_beginning_to_its_end_and_no_further() {
        for syntax in TRANSFER_SYNTAXES {
            let step = Step::from(Creation::read(syntax, &begun().encode(syntax), 10).unwrap());
            assert_eq!((step.state, step.study_uids.len(), step.instances.len()), (State::InProgress, 2, 0));
            let between = step.set(Modification { state: None, study_uids: vec!["1.2.2".to_owned()], instances: None }).unwrap();
            assert_eq!(between, step);
            let ended = between.set(Modification::read(syntax, &ended().encode(syntax), 10).unwrap()).unwrap();
            assert_eq!(ended.state, State::Completed);
            assert_eq!(ended.instances, [reference(CT, 0), reference(CT, 1), reference(SR, 1000)]);
            let refused = ended.set(set(&super::tests::ended()).unwrap()).unwrap_err();
            assert_eq!((refused.status, refused.error_id), (Status(0x0110), Some(0xA710)));
        }
    }

    #[test]
    fn what_a_step_must_have_is_asked_for_one_by_one() {
        for tag in REQUIRED {
            assert_eq!(create(&Sample { without: Some(tag), ..begun() }), Err(ReadError::Missing(tag)));
        }
        let missing = ReadError::Missing(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE);
        assert_eq!(create(&Sample { studies: Vec::new(), ..begun() }), Err(missing));
        assert_eq!(create(&Sample { studies: vec![""], ..begun() }), Err(ReadError::Missing(STUDY_INSTANCE_UID)));
        assert_eq!(Refused::from(missing).status, Status(0x0120));
    }

    #[test]
    fn a_step_is_created_in_progress_and_has_no_other_states_than_the_three() {
        assert_eq!(create(&Sample { status: "COMPLETED", ..begun() }), Err(ReadError::Invalid(STATUS)));
        assert_eq!(set(&Sample { status: "FINISHED", ..ended() }), Err(ReadError::Invalid(STATUS)));
        assert_eq!(Refused::from(ReadError::Invalid(STATUS)).status, Status(0x0106));
        assert_eq!(set(&Sample { status: "DISCONTINUED", ..ended() }).unwrap().state, Some(State::Discontinued));
    }

    #[test]
    fn a_step_cannot_be_moved_to_another_study() {
        let step = Step::from(create(&begun()).unwrap());
        let refused = step.set(Modification { state: None, study_uids: vec!["1.2.9".to_owned()], instances: None }).unwrap_err();
        assert_eq!((refused.status, refused.attributes), (Status(0x0106), vec![SCHEDULED_STEP_ATTRIBUTES_SEQUENCE]));
    }

    #[test]
    fn one_instance_more_than_the_bound_is_refused() {
        assert_eq!(set(&Sample { images: Some(9), ..ended() }).unwrap().instances.map(|list| list.len()), Some(10));
        assert_eq!(set(&Sample { images: Some(10), ..ended() }), Err(ReadError::TooMany(10)));
    }

    #[test]
    fn the_bytes_of_a_step_that_end_early_are_no_step() {
        let bytes = Sample { studies: vec!["1.2.1"], ..ended() }.encode(TRANSFER_SYNTAXES[1]);
        let whole = set(&Sample { studies: vec!["1.2.1"], ..ended() }).unwrap();
        for cut in 0..bytes.len() {
            assert_ne!(Modification::read(TRANSFER_SYNTAXES[1], &bytes[..cut], 10), Ok(whole.clone()), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>, explicit: bool) {
            let _ = Creation::read(TRANSFER_SYNTAXES[usize::from(explicit)], &bytes, 10);
        }

        #[test]
        fn a_step_with_a_flipped_byte_is_read_or_refused_without_a_panic(at in 0usize..1000, value: u8, explicit: bool) {
            let syntax = TRANSFER_SYNTAXES[usize::from(explicit)];
            let mut bytes = Sample { images: Some(3), ..begun() }.encode(syntax);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = Creation::read(syntax, &bytes, 10);
        }
    }
}
