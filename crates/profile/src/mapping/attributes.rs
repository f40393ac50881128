//! What of an instance goes into manifest and metadata (profile 02 §3, §4).

use super::time::Dates;
use crate::scan::DataSet;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use idr_ihe::manifest::CodeItem;
use idr_ihe::metadata::is_oid;
use std::fmt;

/// Values of one instance, decoded. A `String` is empty where the attribute is absent or empty; an `Option` keeps absent
/// and empty apart, because a type 3 attribute is copied as it stands. `Debug` prints nothing of it.
#[derive(Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the keywords of PS3.6")]
pub struct Attributes {
    pub study_date: String,
    pub study_time: String,
    pub series_date: String,
    pub series_time: String,
    pub acquisition_date: String,
    pub acquisition_time: String,
    pub acquisition_date_time: String,
    pub content_date: String,
    pub content_time: String,
    pub timezone_offset: String,
    pub accession_number: String,
    /// ISO OID of (0008,0051).
    pub accession_issuer: Option<String>,
    pub modality: String,
    pub institution_name: Option<String>,
    pub institution_code: Option<Vec<Coded>>,
    pub referring_physician_name: String,
    pub study_description: Option<String>,
    pub procedure_code: Option<Vec<Coded>>,
    /// Value 1 of (0008,1050) with item 1 of (0008,1052).
    pub performing_physician: PersonName,
    /// Value 1 of (0008,1070) with item 1 of (0008,1072).
    pub operator: PersonName,
    /// Items of (0008,2218).
    pub anatomic_region: Vec<Coded>,
    pub body_part_examined: String,
    pub patient_name: String,
    pub patient_id: String,
    pub issuer_of_patient_id: Option<String>,
    pub patient_birth_date: String,
    pub patient_sex: String,
    pub study_id: String,
    /// Items of (0040,0275).
    pub requests: Vec<Request>,
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attributes(<redacted>)")
    }
}

/// Item of a code sequence.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Coded {
    /// As it is copied.
    pub item: CodeItem,
    /// OID of its scheme: from (0008,010C), else from the item of (0008,0110) with its designator, else a designator that is
    /// an OID (01 D406).
    pub scheme: Option<String>,
}

/// A person with the first code of its identification sequence.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PersonName {
    /// PN.
    pub name: String,
    /// Code value of (0040,1101) item 1.
    pub id: Option<String>,
    /// OID of its scheme.
    pub scheme: Option<String>,
}

/// Item of Request Attributes Sequence (0040,0275).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// (0008,0050)
    pub accession_number: String,
    /// ISO OID of (0008,0051).
    pub accession_issuer: Option<String>,
    /// (0032,1060)
    pub description: String,
    /// (0032,1064)
    pub code: Vec<Coded>,
    /// (0040,1001)
    pub procedure_id: String,
    /// (0040,2016)
    pub placer_order_number: String,
    /// ISO OID of (0040,0026).
    pub placer_issuer: Option<String>,
    /// (0040,2017)
    pub filler_order_number: String,
}

/// Items of one sequence taken; a manifest needs no more, and a hostile object has many.
const ITEMS_MAX: usize = 64;

impl Attributes {
    /// Takes them from a data set that was walked.
    pub fn of(data_set: DataSet<'_>) -> Self {
        let text = |tag| data_set.text(tag).unwrap_or_default();
        let optional = |tag| data_set.element(tag).map(|element| element.text().unwrap_or_default());
        let codes = |tag| data_set.element(tag).map(|_| coded(data_set, data_set, tag));
        Self {
            study_date: text(tags::STUDY_DATE),
            study_time: text(tags::STUDY_TIME),
            series_date: text(tags::SERIES_DATE),
            series_time: text(tags::SERIES_TIME),
            acquisition_date: text(tags::ACQUISITION_DATE),
            acquisition_time: text(tags::ACQUISITION_TIME),
            acquisition_date_time: text(tags::ACQUISITION_DATE_TIME),
            content_date: text(tags::CONTENT_DATE),
            content_time: text(tags::CONTENT_TIME),
            timezone_offset: text(tags::TIMEZONE_OFFSET_FROM_UTC),
            accession_number: text(tags::ACCESSION_NUMBER),
            accession_issuer: issuer(data_set, tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE),
            modality: data_set.first_text(tags::MODALITY).unwrap_or_default(),
            institution_name: optional(tags::INSTITUTION_NAME),
            institution_code: codes(tags::INSTITUTION_CODE_SEQUENCE),
            referring_physician_name: text(tags::REFERRING_PHYSICIAN_NAME),
            study_description: optional(tags::STUDY_DESCRIPTION),
            procedure_code: codes(tags::PROCEDURE_CODE_SEQUENCE),
            performing_physician: person(data_set, tags::PERFORMING_PHYSICIAN_NAME, tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE),
            operator: person(data_set, tags::OPERATORS_NAME, tags::OPERATOR_IDENTIFICATION_SEQUENCE),
            anatomic_region: coded(data_set, data_set, tags::ANATOMIC_REGION_SEQUENCE),
            body_part_examined: data_set.first_text(tags::BODY_PART_EXAMINED).unwrap_or_default(),
            patient_name: text(tags::PATIENT_NAME),
            patient_id: text(tags::PATIENT_ID),
            issuer_of_patient_id: optional(tags::ISSUER_OF_PATIENT_ID),
            patient_birth_date: text(tags::PATIENT_BIRTH_DATE),
            patient_sex: text(tags::PATIENT_SEX),
            study_id: text(tags::STUDY_ID),
            requests: data_set.items(tags::REQUEST_ATTRIBUTES_SEQUENCE).take(ITEMS_MAX).map(|item| request(data_set, item)).collect(),
        }
    }

    /// Its dates and times.
    pub fn dates(&self) -> Dates<'_> {
        Dates {
            study: (&self.study_date, &self.study_time),
            series: (&self.series_date, &self.series_time),
            acquisition: (&self.acquisition_date, &self.acquisition_time),
            acquisition_date_time: &self.acquisition_date_time,
            content: (&self.content_date, &self.content_time),
            offset: &self.timezone_offset,
        }
    }

    /// OID of the institution (01 D433): the first of (0008,0120), (0008,0119), (0008,0100) of an item of (0008,0082) that is
    /// an OID below `1.2.246.10`, a prefix `urn:oid:` removed.
    pub fn institution_oid(&self) -> Option<&str> {
        self.institution_code.iter().flatten().find_map(|Coded { item, .. }| {
            [&item.urn_code_value, &item.long_code_value, &item.code_value]
                .into_iter()
                .flatten()
                .map(|value| value.strip_prefix("urn:oid:").unwrap_or(value))
                .find(|oid| oid.starts_with("1.2.246.10.") && is_oid(oid))
        })
    }
}

/// The items to be copied.
pub(super) fn items(coded: &[Coded]) -> Vec<CodeItem> {
    coded.iter().map(|coded| coded.item.clone()).collect()
}

fn request(top: DataSet<'_>, item: DataSet<'_>) -> Request {
    let text = |tag| item.text(tag).unwrap_or_default();
    Request {
        accession_number: text(tags::ACCESSION_NUMBER),
        accession_issuer: issuer(item, tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE),
        description: text(tags::REQUESTED_PROCEDURE_DESCRIPTION),
        code: coded(top, item, tags::REQUESTED_PROCEDURE_CODE_SEQUENCE),
        procedure_id: text(tags::REQUESTED_PROCEDURE_ID),
        placer_order_number: text(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
        placer_issuer: issuer(item, tags::ORDER_PLACER_IDENTIFIER_SEQUENCE),
        filler_order_number: text(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
    }
}

/// Universal Entity ID of the first item, if it is an ISO OID.
fn issuer(level: DataSet<'_>, sequence: Tag) -> Option<String> {
    let item = level.items(sequence).next()?;
    let iso = item.first_text(tags::UNIVERSAL_ENTITY_ID_TYPE).as_deref() == Some("ISO");
    item.first_text(tags::UNIVERSAL_ENTITY_ID).filter(|oid| iso && is_oid(oid))
}

fn coded(top: DataSet<'_>, level: DataSet<'_>, sequence: Tag) -> Vec<Coded> {
    level.items(sequence).take(ITEMS_MAX).map(|item| code_item(top, item)).collect()
}

fn code_item(top: DataSet<'_>, item: DataSet<'_>) -> Coded {
    let optional = |tag| item.element(tag).map(|element| element.text().unwrap_or_default());
    let designator = item.first_text(tags::CODING_SCHEME_DESIGNATOR);
    let uid = |level: DataSet<'_>| level.uid(tags::CODING_SCHEME_UID).map(str::to_owned);
    let identified = || {
        let named = |row: &DataSet<'_>| row.first_text(tags::CODING_SCHEME_DESIGNATOR) == designator;
        top.items(tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE).take(ITEMS_MAX).find(named).and_then(uid)
    };
    let of_designator = || designator.as_deref().map(|text| text.strip_prefix("urn:oid:").unwrap_or(text).to_owned());
    Coded {
        scheme: uid(item).or_else(identified).or_else(of_designator).filter(|oid| is_oid(oid)),
        item: CodeItem {
            code_value: optional(tags::CODE_VALUE),
            coding_scheme_designator: optional(tags::CODING_SCHEME_DESIGNATOR),
            coding_scheme_version: optional(tags::CODING_SCHEME_VERSION),
            code_meaning: optional(tags::CODE_MEANING),
            coding_scheme_uid: uid(item),
            long_code_value: optional(tags::LONG_CODE_VALUE),
            urn_code_value: optional(tags::URN_CODE_VALUE),
        },
    }
}

fn person(top: DataSet<'_>, name: Tag, identification: Tag) -> PersonName {
    let code = top
        .items(identification)
        .next()
        .and_then(|item| item.items(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE).next())
        .map(|code| code_item(top, code))
        .unwrap_or_default();
    let id = code.item.code_value.or(code.item.long_code_value).filter(|id| !id.is_empty());
    PersonName { name: top.first_text(name).unwrap_or_default(), id, scheme: code.scheme }
}
