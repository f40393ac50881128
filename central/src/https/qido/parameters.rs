//! The query of a search (PS3.18 §8.3.4, §10.6.1.2).
//!
//! A key that is an attribute and is not searched by here is refused: an answer without it would hold more than was asked for.
//! Names that are no attribute are ignored, as the standard wants it.

use axum::extract::Query;
use http::Uri;
use idr_dimse::service::query_retrieve::Level;
use idr_dimse::service::query_retrieve::matching::Matching;
use idr_ihe::metadata::PatientId;
use idr_profile::scan::{Tag, json};

use super::attributes::{ATTRIBUTES, Attribute, ISSUER_OF_PATIENT_ID, PATIENT_ID, attribute};
use crate::https::stow::is_uid;

/// A search as it was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Keys with a value, each once.
    pub keys: Vec<(Tag, String)>,
    /// Attributes to give back beside those that always are; `all`: all of them.
    pub include: Vec<Tag>,
    /// Matches to give at most.
    pub limit: Option<usize>,
    /// Matches to pass over.
    pub offset: usize,
    /// Fuzzy matching of names was asked for, which is not done.
    pub fuzzy: bool,
}

/// The parameter that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

/// Reads the query of a search at `level`.
///
/// # Errors
/// [`Malformed`].
pub fn read(uri: &Uri, level: Level) -> Result<Parameters, Malformed> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| Malformed("query".to_owned()))?;
    let mut read = Parameters::default();
    for (name, value) in pairs {
        let malformed = || Malformed(name.chars().take(64).collect());
        match name.as_str() {
            "limit" => read.limit = Some(value.parse().ok().filter(|limit| *limit > 0).ok_or_else(malformed)?),
            "offset" => read.offset = value.parse().map_err(|_| malformed())?,
            "fuzzymatching" => read.fuzzy = value.parse().map_err(|_| malformed())?,
            "includefield" => {
                for field in value.split(',') {
                    match field {
                        "all" => read.include.extend(ATTRIBUTES.iter().map(|attribute| attribute.tag)),
                        field => read.include.push(json::tag(field).ok_or_else(malformed)?),
                    }
                }
            }
            // A path into a sequence.
            path if path.split_once('.').is_some_and(|(head, _)| json::tag(head).is_some()) => return Err(malformed()),
            _ => {
                let Some(tag) = json::tag(&name) else { continue };
                let known = attribute(tag).filter(|attribute| searched(attribute, level)).ok_or_else(malformed)?;
                if read.keys.iter().any(|(other, _)| *other == tag) {
                    return Err(malformed());
                }
                let value = if known.matching == Matching::Uid { value.replace(',', "\\") } else { value };
                if known.matching == Matching::Uid && !value.is_empty() && !value.split('\\').all(is_uid) {
                    return Err(malformed());
                }
                if !value.is_empty() {
                    read.keys.push((tag, value));
                }
            }
        }
    }
    Ok(read)
}

fn searched(attribute: &Attribute, level: Level) -> bool {
    attribute.level <= level
        && attribute.matching != Matching::No
        && (level == Level::Study || attribute.tag != super::attributes::MODALITIES_IN_STUDY)
}

impl Parameters {
    /// The value of a key.
    pub fn key(&self, tag: Tag) -> Option<&str> {
        self.keys.iter().find(|(key, _)| *key == tag).map(|(_, value)| value.as_str())
    }

    /// UIDs of a key; none: any.
    pub fn uids(&self, tag: Tag) -> Vec<String> {
        self.key(tag).into_iter().flat_map(|value| value.split('\\')).map(str::to_owned).collect()
    }

    /// The one patient that the query names: id and issuer without wildcards.
    pub fn patient(&self) -> Option<PatientId> {
        let exact = |tag| self.key(tag).filter(|value| !value.contains(['*', '?']));
        Some(PatientId { id: exact(PATIENT_ID)?.to_owned(), authority: exact(ISSUER_OF_PATIENT_ID)?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str, level: Level) -> Result<Parameters, Malformed> {
        read(&format!("/dicomweb/studies?{text}").parse().expect("a target"), level)
    }

    #[test]
    fn a_query_is_read_as_the_standard_has_it() {
        let read = query(
            "StudyDate=20260101-20260131&0020000D=1.2,1.3&PatientName=%C3%96hman*&limit=5&offset=10&fuzzymatching=true&\
             includefield=StudyDescription,00080062&includefield=00080005&_=17&PatientID=",
            Level::Study,
        )
        .expect("read");
        assert_eq!(read.key(Tag(0x0008, 0x0020)), Some("20260101-20260131"));
        assert_eq!(read.uids(Tag(0x0020, 0x000D)), ["1.2", "1.3"]);
        assert_eq!(read.key(Tag(0x0010, 0x0010)), Some("Öhman*"));
        assert_eq!((read.limit, read.offset, read.fuzzy, read.keys.len()), (Some(5), 10, true, 3));
        assert_eq!(read.include, [Tag(0x0008, 0x1030), Tag(0x0008, 0x0062), Tag(0x0008, 0x0005)]);
    }

    #[test]
    fn what_cannot_be_searched_by_is_named() {
        for (text, level, field) in [
            ("limit=0", Level::Study, "limit"),
            ("limit=-1", Level::Study, "limit"),
            ("offset=x", Level::Study, "offset"),
            ("fuzzymatching=maybe", Level::Study, "fuzzymatching"),
            ("includefield=Nothing", Level::Study, "includefield"),
            ("PatientComments=a", Level::Study, "PatientComments"),
            ("SeriesInstanceUID=1.2", Level::Study, "SeriesInstanceUID"),
            ("ModalitiesInStudy=CT", Level::Series, "ModalitiesInStudy"),
            ("NumberOfStudyRelatedSeries=1", Level::Study, "NumberOfStudyRelatedSeries"),
            ("StudyInstanceUID=1.2*", Level::Study, "StudyInstanceUID"),
            ("PatientID=1&PatientID=2", Level::Study, "PatientID"),
            ("RequestAttributesSequence.RequestedProcedureID=1", Level::Series, "RequestAttributesSequence.RequestedProcedureID"),
        ] {
            assert_eq!(query(text, level), Err(Malformed(field.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_patient_is_named_by_id_and_issuer() {
        let named = query("PatientID=010190-900P&IssuerOfPatientID=1.2.246.21", Level::Study).expect("read").patient();
        assert_eq!(named, Some(PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() }));
        for text in ["PatientID=010190-900P", "PatientID=0101*&IssuerOfPatientID=1.2.246.21"] {
            assert_eq!(query(text, Level::Study).expect("read").patient(), None, "{text}");
        }
    }
}
