//! RAD-69 Retrieve Imaging Document Set (RAD TF-3 §4.69); the answer is that of [`super::iti_43`].

use super::iti_43::{self, DocumentRequest, RequestProblem};
use crate::soap::{Envelope, Refusal};
use crate::xml::{Ns, Writer};

/// `iherad:RetrieveImagingDocumentSetRequest`; empty texts and attributes count as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetrieveImagingRequest {
    /// Studies in order.
    pub studies: Vec<StudyRequest>,
    /// `TransferSyntaxUIDList`: a set; `None` if the list is absent, an item `None` if it is empty.
    pub transfer_syntaxes: Option<Vec<Option<String>>>,
}

/// `iherad:StudyRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyRequest {
    /// `@studyInstanceUID`.
    pub study_instance_uid: Option<String>,
    /// Series in order.
    pub series: Vec<SeriesRequest>,
}

/// `iherad:SeriesRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesRequest {
    /// `@seriesInstanceUID`.
    pub series_instance_uid: Option<String>,
    /// Instances in order; `DocumentUniqueId` is the SOP Instance UID.
    pub documents: Vec<DocumentRequest>,
}

impl RetrieveImagingRequest {
    /// The first broken rule (R-01 … R-04).
    pub fn problem(&self) -> Option<RequestProblem> {
        if self.studies.is_empty() {
            return Some(RequestProblem::new("R-01", "StudyRequest"));
        }
        for study in &self.studies {
            if study.series.is_empty() {
                return Some(RequestProblem::new("R-01", "SeriesRequest"));
            }
            if study.study_instance_uid.is_none() {
                return Some(RequestProblem::new("R-02", "studyInstanceUID"));
            }
            for series in &study.series {
                if series.series_instance_uid.is_none() {
                    return Some(RequestProblem::new("R-02", "seriesInstanceUID"));
                }
                if let Some(problem) = iti_43::problem(&series.documents) {
                    return Some(problem);
                }
            }
        }
        match &self.transfer_syntaxes {
            Some(list) if !list.is_empty() && list.iter().all(Option::is_some) => None,
            _ => Some(RequestProblem::new("R-04", "TransferSyntaxUIDList")),
        }
    }

    /// The transfer syntaxes that were given.
    pub fn transfer_syntaxes(&self) -> impl Iterator<Item = &str> {
        self.transfer_syntaxes.iter().flatten().flatten().map(String::as_str)
    }

    /// Instances asked for.
    pub fn instance_count(&self) -> usize {
        self.studies.iter().flat_map(|study| &study.series).map(|series| series.documents.len()).sum()
    }
}

/// Reads the request.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`].
pub fn read(envelope: &Envelope<'_>) -> Result<RetrieveImagingRequest, Refusal> {
    let (mut reader, _) = envelope.body(Ns::Xdsi, "RetrieveImagingDocumentSetRequest")?;
    let mut request = RetrieveImagingRequest::default();
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Xdsi, "StudyRequest") => {
                let study_instance_uid = child.attribute("studyInstanceUID").and_then(iti_43::non_empty);
                let mut study = StudyRequest { study_instance_uid, series: Vec::new() };
                while let Some(inner) = reader.child()? {
                    if !inner.is(Ns::Xdsi, "SeriesRequest") {
                        reader.unknown(&inner)?;
                        continue;
                    }
                    let series_instance_uid = inner.attribute("seriesInstanceUID").and_then(iti_43::non_empty);
                    study.series.push(SeriesRequest { series_instance_uid, documents: iti_43::read_document_requests(&mut reader)? });
                }
                request.studies.push(study);
            }
            (Ns::Xdsi, "TransferSyntaxUIDList") => {
                let list = request.transfer_syntaxes.get_or_insert_with(Vec::new);
                while let Some(inner) = reader.child()? {
                    if inner.is(Ns::Xdsi, "TransferSyntaxUID") {
                        list.push(iti_43::non_empty(reader.text()?));
                    } else {
                        reader.unknown(&inner)?;
                    }
                }
            }
            _ => reader.unknown(&child)?,
        }
    }
    Ok(request)
}

/// Writes the Body's child.
pub fn encode(request: &RetrieveImagingRequest) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Xdsi, "RetrieveImagingDocumentSetRequest").declare(Ns::Xdsi).declare(Ns::Xdsb);
    for study in &request.studies {
        writer.start(Ns::Xdsi, "StudyRequest").attribute_if("studyInstanceUID", study.study_instance_uid.as_deref());
        for series in &study.series {
            writer.start(Ns::Xdsi, "SeriesRequest").attribute_if("seriesInstanceUID", series.series_instance_uid.as_deref());
            iti_43::write_document_requests(&mut writer, &series.documents);
            writer.end();
        }
        writer.end();
    }
    if request.transfer_syntaxes.is_some() {
        writer.start(Ns::Xdsi, "TransferSyntaxUIDList");
        for uid in request.transfer_syntaxes() {
            writer.leaf(Ns::Xdsi, "TransferSyntaxUID", uid);
        }
        writer.end();
    }
    writer.finish()
}
