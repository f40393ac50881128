//! Store Instances Response Module (PS3.18 Table I.1-1), in DICOM JSON (PS3.18 Annex F) or the Native DICOM Model
//! (PS3.19 Annex A.1).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::body::Body;
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use idr_dimse::status::Status;
use serde_json::{Value, json};

/// Most Warning headers (01 §4.4).
const WARNINGS_MAX: usize = 10;

/// Media type of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Xml,
}

/// What became of a part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Its instance is held, durably.
    pub stored: bool,
    /// 0000H, B007H, or why not.
    pub status: Status,
    /// Error Comment of the rule.
    pub comment: Option<String>,
    pub sop_class_uid: Option<String>,
    pub sop_instance_uid: Option<String>,
    /// It is no `application/dicom`.
    pub other_type: bool,
}

impl Part {
    pub fn failed(status: Status) -> Self {
        Self { stored: false, status, comment: None, sop_class_uid: None, sop_instance_uid: None, other_type: false }
    }

    fn warned(&self) -> bool {
        self.stored && self.status != Status::SUCCESS
    }
}

/// The form that the client prefers; JSON where it has no preference (PS3.18 §10.5.3); `None`: neither.
pub(super) fn form(headers: &HeaderMap) -> Option<Form> {
    let ranges = super::accepted(headers);
    if ranges.is_empty() {
        return Some(Form::Json);
    }
    // The most specific range that fits counts (RFC 9110 §12.5.1).
    let weight = |names: &[&str]| names.iter().find_map(|name| ranges.iter().find(|(range, _)| range == name)).map_or(0.0, |(_, q)| *q);
    let json = weight(&["application/dicom+json", "application/json", "application/*", "*/*"]);
    let xml = weight(&["application/dicom+xml", "application/*", "*/*"]);
    match (json > 0.0, xml > 0.0) {
        (false, false) => None,
        _ if xml > json => Some(Form::Xml),
        _ => Some(Form::Json),
    }
}

/// 200, 202 or 409 with a result for each part, and the comments of the rules (01 §4.4, §4.5).
pub(super) fn response(parts: &[Part], form: Form) -> Response<Body> {
    let stored = parts.iter().filter(|part| part.stored).count();
    let status = match stored {
        0 => StatusCode::CONFLICT,
        n if n == parts.len() && !parts.iter().any(Part::warned) => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    let (body, media_type) = match form {
        Form::Json => (json_of(parts).to_string(), "application/dicom+json"),
        Form::Xml => (xml_of(parts), "application/dicom+xml"),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let mut told = BTreeSet::new();
    for comment in parts.iter().filter(|part| !part.stored).filter_map(|part| part.comment.as_deref()) {
        if told.len() < WARNINGS_MAX
            && told.insert(comment)
            && let Ok(value) = HeaderValue::from_str(&format!("299 idr \"{comment}\""))
        {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

/// An attribute of an item: tag, keyword, VR, value.
type Attribute = (&'static str, &'static str, &'static str, Value);

/// Items of a sequence.
struct Sequence {
    tag: &'static str,
    keyword: &'static str,
    items: Vec<Vec<Attribute>>,
}

/// Failed SOP Sequence, Referenced SOP Sequence, Other Failures Sequence; those without items are left out.
fn sequences(parts: &[Part]) -> Vec<Sequence> {
    let mut failed = Sequence { tag: "00081198", keyword: "FailedSOPSequence", items: Vec::new() };
    let mut stored = Sequence { tag: "00081199", keyword: "ReferencedSOPSequence", items: Vec::new() };
    let mut other = Sequence { tag: "0008119A", keyword: "OtherFailuresSequence", items: Vec::new() };
    for part in parts {
        let attribute = |tag, keyword, vr, value| (tag, keyword, vr, value);
        let mut item = Vec::new();
        if let Some(class) = &part.sop_class_uid {
            item.push(attribute("00081150", "ReferencedSOPClassUID", "UI", json!(class)));
        }
        if let Some(instance) = &part.sop_instance_uid {
            item.push(attribute("00081155", "ReferencedSOPInstanceUID", "UI", json!(instance)));
        }
        if part.stored {
            // Type 2: nothing is retrieved from a site.
            item.push(attribute("00081190", "RetrieveURL", "UR", Value::Null));
            if part.warned() {
                item.push(attribute("00081196", "WarningReason", "US", json!(part.status.0)));
            }
            stored.items.push(item);
        } else if part.sop_instance_uid.is_some() {
            item.push(attribute("00081197", "FailureReason", "US", json!(part.status.0)));
            failed.items.push(item);
        } else {
            other.items.push(vec![attribute("00081197", "FailureReason", "US", json!(part.status.0))]);
        }
    }
    [failed, stored, other].into_iter().filter(|sequence| !sequence.items.is_empty()).collect()
}

fn json_of(parts: &[Part]) -> Value {
    let mut data_set = json!({ "00081190": { "vr": "UR" } });
    for Sequence { tag, items, .. } in sequences(parts) {
        let items: Vec<Value> = items
            .into_iter()
            .map(|item| {
                let attribute = |(tag, _, vr, value): Attribute| {
                    let attribute = if value.is_null() { json!({ "vr": vr }) } else { json!({ "vr": vr, "Value": [value] }) };
                    (tag.to_owned(), attribute)
                };
                Value::Object(item.into_iter().map(attribute).collect())
            })
            .collect();
        data_set[tag] = json!({ "vr": "SQ", "Value": items });
    }
    data_set
}

/// No value needs escaping: UIDs and numbers.
fn xml_of(parts: &[Part]) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NativeDicomModel xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" \
         xml:space=\"preserve\"><DicomAttribute tag=\"00081190\" vr=\"UR\" keyword=\"RetrieveURL\"/>",
    );
    let mut put = |text: std::fmt::Arguments| xml.write_fmt(text).expect("writing to memory");
    for Sequence { tag, keyword, items } in sequences(parts) {
        put(format_args!("<DicomAttribute tag=\"{tag}\" vr=\"SQ\" keyword=\"{keyword}\">"));
        for (number, item) in (1..).zip(items) {
            put(format_args!("<Item number=\"{number}\">"));
            for (tag, keyword, vr, value) in item {
                put(format_args!("<DicomAttribute tag=\"{tag}\" vr=\"{vr}\" keyword=\"{keyword}\""));
                match value {
                    Value::Null => put(format_args!("/>")),
                    Value::String(text) => put(format_args!("><Value number=\"1\">{text}</Value></DicomAttribute>")),
                    value => put(format_args!("><Value number=\"1\">{value}</Value></DicomAttribute>")),
                }
            }
            put(format_args!("</Item>"));
        }
        put(format_args!("</DicomAttribute>"));
    }
    xml.push_str("</NativeDicomModel>");
    xml
}
