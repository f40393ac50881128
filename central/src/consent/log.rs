//! The records of a decision (profile 05 §10, 07 §2), and their order around the answer (07 §6.4).
//!
//! A read is opened with one record per kind and access unit, or, for a query, per source register ([`By`]); omissions (X), one
//! per access unit, go with it. Beside them the decision record goes to the `decision` stream. A read that may be told nothing is
//! opened too, with an empty list: an answer never costs more or less for what was left out of it.
//!
//! # Bounds
//! Documents in a record ≤ 1 000 and series ≤ 100; more go into attachment notes, named by the digest of the list. Units in a
//! decision note ≤ 64.

use std::collections::{BTreeSet, HashMap, HashSet};

use idr_ihe::manifest::IMPLEMENTATION_CLASS_UID;
use idr_profile::access::{AccessUnit, Basis, Claims, Kind as Who, LogKind, OmissionRecord, Operation, PatientState, Permit, Request};
use idr_profile::receipt::canonical;
use idr_profile::xua::Refusal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::gate::Decided;
use crate::assertion::{Asked, Authenticated};
use crate::audit::{
    AssertionRef, Closing, Delivered, Emergency, Entry, Kind, Note, Object, Opening, Outcome, Purpose, Record, Representation, Source,
    Stream, Tls, User,
};
use crate::central::Central;

/// What one record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// One access unit: retrieves, stores.
    Unit,
    /// One register with the same basis: queries.
    Source,
}

/// What a record says of one disclosed thing.
#[derive(Debug, Clone, Default)]
pub struct Mention {
    /// uniqueId of a document, set or folder; entryUUID of an association.
    pub document: Option<String>,
    /// uniqueId, if the document is a manifest.
    pub manifest: Option<String>,
    /// Study Instance UID.
    pub study: Option<String>,
    /// Series Instance UID.
    pub series: Option<String>,
    /// SOP Class UID, for instances.
    pub sop_class: Option<String>,
}

/// What is written before an answer.
pub struct Papers {
    openings: Vec<Record>,
    notes: Vec<Entry>,
}

/// OID and version of this program.
pub fn software() -> String {
    format!("{IMPLEMENTATION_CLASS_UID}/{}", env!("CARGO_PKG_VERSION"))
}

/// A record with what is known of the request and, if `claims` is given, of the requester.
pub fn record(central: &Central, asked: &Asked, claims: Option<&Claims>, kind: Kind, operation: Operation, outcome: Outcome) -> Record {
    let software = software();
    let node = &central.config.central.node;
    let (id, number, request_id) = (central.new_id(), asked.number(), &asked.request_id);
    let mut record = Record::new(id, central.now(), kind, node, &software, number, operation.name(), outcome, request_id);
    record.tls = Tls { sha256: Some(asked.client.sha256.to_string()), organisation: None };
    record.peer = Some(asked.client.address.ip().to_string());
    record.policy_hash = Some(central.policy_sha256.clone());
    if let Some(claims) = claims {
        requester(&mut record, claims);
    }
    record
}

fn requester(record: &mut Record, claims: &Claims) {
    record.user = User {
        id: Some(claims.name_id.clone()),
        qualifier: Some(claims.name_qualifier.clone()),
        name: Some(claims.name.clone()),
        role: Some(claims.role.code.clone()),
        on_behalf: None,
    };
    record.organisation = Some(claims.organisation_id.clone());
    record.unit.clone_from(&claims.unit);
    record.controller.clone_from(&claims.controller);
    record.register.clone_from(&claims.register);
    record.specifier = claims.specifier.as_ref().map(|specifier| specifier.as_str().to_owned());
    record.purpose = Purpose {
        internal: name(&claims.purpose),
        code: Some(claims.purpose_code.code.clone()),
        system: Some(claims.purpose_code.system.clone()),
    };
    record.service_event.clone_from(&claims.service_event);
    record.care_reason = claims.care_reason.as_ref().map(|reason| reason.code.clone());
    if claims.emergency_reason.is_some() || claims.emergency_text.is_some() {
        let reason = claims.emergency_reason.as_ref().map(|reason| reason.code.clone());
        record.emergency = Some(Emergency { reason, text: claims.emergency_text.clone() });
    }
    record.representation = claims.representation.as_ref().map(|representation| Representation {
        code: Some(representation.code.clone()),
        source: Some(representation.source.clone()),
        checked: Some(representation.checked.to_string()),
    });
    record.assertion = AssertionRef {
        id: Some(claims.assertion_id.clone()),
        issuer: Some(claims.issuer.clone()),
        sha256: Some(claims.assertion_sha256.clone()),
    };
}

/// Sets what a permit for a unit says.
pub fn permitted(record: &mut Record, unit: &AccessUnit, permit: &Permit, request: &Request) {
    of_unit(record, unit, request);
    record.basis = Some(permit.basis().name().to_owned());
    match permit.basis() {
        Basis::Outsourced(id) => record.basis_ref = Some(id.clone()),
        Basis::Emergency { overridden_denials } => record.overridden_denials.clone_from(overridden_denials),
        _ => {}
    }
    record.rule = Some(permit.rule().id().to_owned());
    record.store_version = Some(permit.store_version());
}

fn of_unit(record: &mut Record, unit: &AccessUnit, request: &Request) {
    record.patient = Some(unit.patient.clone());
    record.patient_as_asked = request.patient.clone().filter(|asked| *asked != unit.patient);
    record.source = Some(Source {
        controller: Some(unit.controller.clone()),
        register: Some(unit.register.clone()),
        specifier: unit.specifier.as_ref().map(|specifier| specifier.as_str().to_owned()),
        unit: unit.unit.clone(),
        service_event: unit.service_event.clone(),
    });
}

struct Group<'a> {
    unit: &'a AccessUnit,
    permit: &'a Permit,
    mentions: Vec<Mention>,
}

/// Everything that is written before the answer to a read leaves.
pub fn papers<T>(
    central: &Central,
    who: &Authenticated,
    decided: &Decided<T>,
    by: By,
    query: Option<&str>,
    mention: impl Fn(&T) -> Mention,
) -> Papers {
    let decision_id = central.new_id();
    let mut papers = Papers { openings: Vec::new(), notes: Vec::new() };
    let base = |kind, outcome| {
        let mut record = who.record(central, kind, outcome);
        record.decision_id = Some(decision_id);
        record.store_version = Some(decided.gated.store_version);
        record
    };
    for group in groups(decided, by, mention) {
        let (object, attachment) = object(&group.mentions);
        for kind in group.permit.logs() {
            let mut record = base(kind_of(*kind), Outcome::Permit);
            permitted(&mut record, group.unit, group.permit, &decided.request);
            if by == By::Source
                && let Some(source) = &mut record.source
            {
                (source.unit, source.service_event) = (None, None);
            }
            record.recipient = (record.kind == Kind::D).then(|| who.claims().organisation_id.clone());
            record.object = Some(object.clone());
            if let Some((digest, items)) = &attachment {
                papers.notes.extend(attachments(central, record.kind.stream(), digest, items));
            }
            papers.openings.push(record);
        }
    }
    if papers.openings.is_empty() {
        // Nothing may be told, or nothing is there: the request itself is the use.
        let view = matches!(who.claims().kind, Who::Citizen | Who::Guardian);
        let mut record = base(if view { Kind::C } else { Kind::U }, Outcome::Permit);
        record.patient = decided.request.patient.clone().or_else(|| decided.state.ids.first().cloned());
        record.object = Some(Object::default());
        record.rule = Some("G".to_owned());
        papers.openings.push(record);
    }
    papers.omitted(central, &distinct(&decided.gated.omitted), &decided.request, &base);
    papers.notes.extend(decision_notes(central, who, decided, decision_id, query));
    papers
}

impl Papers {
    fn omitted(&mut self, central: &Central, omitted: &[&OmissionRecord], request: &Request, base: &impl Fn(Kind, Outcome) -> Record) {
        if omitted.len() > LIST_MAX {
            let items: Vec<String> = omitted.iter().map(|record| format!("{} {}", record.unit().id, record.rule())).collect();
            let digest = list_digest(&items);
            self.notes.extend(attachments(central, Stream::Use, &digest, &items));
            let mut record = base(Kind::X, Outcome::Omit);
            record.object = Some(Object { list_sha256: Some(digest), ..Object::default() });
            self.openings.push(record);
            return;
        }
        for omission in omitted {
            let mut record = base(Kind::X, Outcome::Omit);
            of_unit(&mut record, omission.unit(), request);
            record.object = Some(Object { documents: vec![omission.unit().id.to_string()], ..Object::default() });
            record.rule = Some(omission.rule().id().to_owned());
            self.openings.push(record);
        }
    }
}

/// One omission per access unit and rule (05 §10), however many things of the unit were found.
fn distinct(omitted: &[OmissionRecord]) -> Vec<&OmissionRecord> {
    let mut known = HashSet::new();
    omitted.iter().filter(|record| known.insert((&record.unit().id, record.rule()))).collect()
}

fn groups<'a, T>(decided: &'a Decided<T>, by: By, mention: impl Fn(&T) -> Mention) -> Vec<Group<'a>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for disclosed in decided.told() {
        let (unit, permit) = (disclosed.unit(), disclosed.permit());
        let specifier = unit.specifier.as_ref().map_or("", |specifier| specifier.as_str());
        let key = match by {
            By::Unit => unit.id.0.clone(),
            By::Source => {
                format!("{} {} {} {specifier} {:?} {}", unit.patient.to_cx(), unit.controller, unit.register, permit.basis(), permit.rule())
            }
        };
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(Group { unit, permit, mentions: Vec::new() });
            groups.len() - 1
        });
        groups[place].mentions.push(mention(disclosed.payload()));
    }
    groups
}

/// The object of a record; a list that is too long becomes its digest and the attachment.
fn object(mentions: &[Mention]) -> (Object, Option<(String, Vec<String>)>) {
    let distinct =
        |value: fn(&Mention) -> &Option<String>| mentions.iter().filter_map(|mention| value(mention).clone()).collect::<BTreeSet<_>>();
    let (documents, series) = (distinct(|mention| &mention.document), distinct(|mention| &mention.series));
    let mut object = Object {
        study: distinct(|mention| &mention.study).into_iter().next(),
        manifest: distinct(|mention| &mention.manifest).into_iter().next(),
        ..Object::default()
    };
    for class in mentions.iter().filter_map(|mention| mention.sop_class.clone()) {
        *object.sop_classes.entry(class).or_insert(0) += 1;
    }
    if documents.len() <= LIST_MAX && series.len() <= SERIES_MAX {
        (object.documents, object.series) = (documents.into_iter().collect(), series.into_iter().collect());
        return (object, None);
    }
    let items: Vec<String> = documents.into_iter().chain(series).collect();
    let digest = list_digest(&items);
    object.list_sha256 = Some(digest.clone());
    (object, Some((digest, items)))
}

/// The object of a record of `kind`, with the notes that hold a list which is too long for it.
pub fn about(central: &Central, kind: Kind, mentions: &[Mention]) -> (Object, Vec<Entry>) {
    let (object, attachment) = object(mentions);
    let notes = attachment.map(|(digest, items)| attachments(central, kind.stream(), &digest, &items)).unwrap_or_default();
    (object, notes)
}

fn list_digest(items: &[String]) -> String {
    hex::encode(Sha256::digest(items.join("\n")))
}

fn attachments(central: &Central, stream: Stream, digest: &str, items: &[String]) -> Vec<Entry> {
    let parts = items.chunks(ATTACHED_MAX);
    let of = parts.len();
    parts
        .enumerate()
        .map(|(part, items)| {
            let data = json!({ "list_sha256": digest, "part": part + 1, "of": of, "items": items });
            Entry::Note(stream, Note { id: Some(central.new_id()), time: central.now(), event: "attachment".to_owned(), data })
        })
        .collect()
}

/// What a decision was made of, so that it can be made again ([`super::replay`], 05 §13).
fn decision_notes<T>(central: &Central, who: &Authenticated, decided: &Decided<T>, id: uuid::Uuid, query: Option<&str>) -> Vec<Entry> {
    let mut known = HashSet::new();
    let units = decided.told().filter(|disclosed| known.insert((&disclosed.unit().id, disclosed.permit().rule())));
    let permitted = units.map(|disclosed| {
        let permit = disclosed.permit();
        json!({ "unit": disclosed.unit(), "result": "permit", "rule": permit.rule().id(), "basis": permit.basis().name() })
    });
    let omitted = distinct(&decided.gated.omitted)
        .into_iter()
        .map(|record| json!({ "unit": record.unit(), "result": "omit", "rule": record.rule().id() }));
    let units: Vec<Value> = permitted.chain(omitted).collect();
    let state = serde_json::to_value(&decided.state).unwrap_or_default();
    let canonical_state = canonical(&state).unwrap_or_default();
    let mut chunks: Vec<&[Value]> = units.chunks(UNITS_MAX).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let of = chunks.len();
    let note = |(part, units): (usize, &[Value])| {
        let mut data = json!({
            "decision_id": id,
            "part": part + 1,
            "of": of,
            "request_id": who.asked.request_id,
            "operation": decided.request.operation.name(),
            "patient": decided.request.patient,
            "assertion_sha256": who.claims().assertion_sha256,
            "state_sha256": hex::encode(Sha256::digest(&canonical_state)),
            "declarations": declared(&decided.state),
            "store_version": decided.gated.store_version,
            "policy_hash": central.policy_sha256,
            "rule_sets": central.config.central.rule_sets,
            "evaluated_at": decided.at.to_string(),
            "units": units,
        });
        if part == 0 {
            data["subject"] = json!(who.claims());
            data["limits"] = json!(who.subject.limits());
            if canonical_state.len() <= STATE_MAX {
                data["state"] = state.clone();
            }
            if let Some(query) = query {
                data["query"] =
                    if query.len() <= QUERY_MAX { json!(query) } else { json!({ "sha256": hex::encode(Sha256::digest(query)) }) };
            }
        }
        Entry::Note(Stream::Decision, Note { id: Some(central.new_id()), time: central.now(), event: "decision".to_owned(), data })
    };
    chunks.into_iter().enumerate().map(note).collect()
}

fn declared(state: &PatientState) -> Vec<&str> {
    let denials = state.denials.iter().map(|denial| denial.id.as_str());
    denials.chain(state.authorisations.iter().map(|authorisation| authorisation.id.as_str())).take(LIST_MAX).collect()
}

/// The files that decisions follow from now on, for the decision log: a decision names them by their hash.
pub fn policy_note(central: &Central) -> Entry {
    let data = json!({ "policy_hash": central.policy_sha256, "files": central.policy_files.to_json() });
    Entry::Note(Stream::Decision, Note { id: Some(central.new_id()), time: central.now(), event: "policy".to_owned(), data })
}

/// Keeps the papers; returns when all of them are on stable storage.
///
/// # Errors
/// IDR-X-32: the answer must not leave.
pub async fn open(central: &Central, papers: Papers) -> Result<Opening, Refusal> {
    match tokio::try_join!(central.audit.open(papers.openings), central.audit.append(papers.notes)) {
        Ok((opening, ())) => Ok(opening),
        Err(error) => {
            tracing::error!(cause = %error, "nothing is disclosed without its record");
            Err(Refusal::unavailable("the audit store takes no records"))
        }
    }
}

/// Says what came of an opening. A failure is left to the recovery, which closes it as unknown.
pub async fn close(central: &Central, opening: Opening, outcome: Outcome, delivered: Option<Delivered>, status: &str) {
    let closing = Closing { time: central.now(), outcome, delivered, status: Some(status.to_owned()) };
    if let Err(error) = central.audit.close(opening, closing).await {
        tracing::error!(cause = %error, "a closing record could not be kept; the recovery will close it");
    }
}

fn kind_of(kind: LogKind) -> Kind {
    match kind {
        LogKind::U => Kind::U,
        LogKind::D => Kind::D,
        LogKind::C => Kind::C,
        LogKind::S => Kind::S,
        LogKind::N => Kind::N,
        LogKind::X => Kind::X,
        LogKind::R => Kind::R,
    }
}

/// A value that serde writes as one string.
fn name(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// Documents inside a record (07 §2).
const LIST_MAX: usize = 1000;
/// Series inside a record (07 §2).
const SERIES_MAX: usize = 100;
/// Items of one attachment note: 1 500 uniqueIds of 128 characters stay below the bound of a record.
const ATTACHED_MAX: usize = 1500;
/// Units of one decision note.
const UNITS_MAX: usize = 64;
/// Bytes of a patient's state that are kept with the decision, so that it can be made again by the log alone; of a larger one its
/// digest stays.
const STATE_MAX: usize = 65_536;
/// Bytes of a query that are kept as they are.
const QUERY_MAX: usize = 65_536;
