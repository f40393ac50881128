//! ITI-18, ITI-38 between communities and ITI-51 over many patients: stored queries (profile 08 §8, §10; 05 §9).
//!
//! The look-up gives candidates; each is decided; limits, the single-patient rule and the order count what is permitted only.
//! Equal state and request give equal bytes (08 §6.2).
//!
//! A technical user reconciles: its own register's entries, whatever the patient (05 E3).
//!
//! A query that names another community, or a patient whom another community may know, is also asked there
//! ([`federation::query`]): after the own gates, and beside what the own registry answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use idr_ihe::ebxml::rim::{Object, ObjectRef, RegistryObjectList};
use idr_ihe::ebxml::{Placement, encode};
use idr_ihe::metadata::{Association, Code, DocumentEntry, PatientId, Submission};
use idr_ihe::soap::{Envelope, Refusal as SoapRefusal};
use idr_ihe::transaction::iti_18::{
    AdhocQueryRequest, CodeValue, Content, DocumentFilter as Wanted, ObjectIds, Query, QueryError, Results, ReturnType, Selection,
    TimeRange as Range, encode_response, interpret, read,
};
use idr_ihe::transaction::registry_response::{RegistryError, RegistryResponse, Severity, Status};
use idr_profile::access::{Disclosed, Gate, PatientState};
use idr_profile::xds::request::{query_options, query_problem};
use idr_profile::xds::{Answerer, RegistryProblem};
use idr_profile::xua::{Refusal, Transaction};
use jiff::Timestamp;

use crate::assertion::Authenticated;
use crate::audit::Outcome;
use crate::central::Central;
use crate::consent::disclosure;
use crate::consent::gate::{self, Decided};
use crate::consent::log::{self, By, Mention};
use crate::federation;
use crate::federation::query::{Question, Told};
use crate::https::soap::{community, resource_problem};
use crate::store::graph::{Graph, Seeds, Thing};
use crate::store::query::{DocumentFilter, Names, TimeRange, Versions};
use crate::store::{StoreError, Tx};

/// A query as it was read.
pub struct Received {
    query: Result<Query, Vec<QueryError>>,
    selection: Option<Selection>,
    sent_id: Option<String>,
    spans_patients: bool,
}

impl Received {
    /// Reads the body and checks the parameters.
    ///
    /// # Errors
    /// S-12, S-32; broken query rules are answered by [`answer`].
    pub fn read(central: &Central, envelope: &Envelope<'_>, transaction: Transaction) -> Result<Self, SoapRefusal> {
        let request: AdhocQueryRequest = read(envelope)?;
        let extra = [central.slots.controller_id.as_str(), central.slots.register_code.as_str()];
        let query = interpret(&request, &query_options(&central.xds, transaction == Transaction::Iti51, &extra));
        let selection = query.as_ref().ok().map(Query::selection);
        let sent_id = request.query.and_then(|query| query.object.id);
        Ok(Self { query, selection, sent_id, spans_patients: transaction.spans_patients() })
    }

    /// The patient that the query names (V16); none of a query over many.
    pub fn patient(&self) -> Option<PatientId> {
        self.selection.as_ref().filter(|_| !self.spans_patients).and_then(patient_of)
    }
}

fn patient_of(selection: &Selection) -> Option<PatientId> {
    match selection {
        Selection::FindDocuments(filter) => filter.patients.first().cloned(),
        Selection::FindSubmissionSets(filter) => Some(filter.patient.clone()),
        Selection::FindFolders(filter) => filter.patients.first().cloned(),
        Selection::GetAll(filter) => Some(filter.patient.clone()),
        _ => None,
    }
}

/// Answers a query: the Body's child, of whatever status. `text`: the query as it was sent, for the decision log and for other
/// communities; `security`: the assertion as it came, for them.
///
/// # Errors
/// A gate, or the audit store.
pub async fn answer(
    central: &Arc<Central>,
    who: &Authenticated,
    received: Received,
    text: &str,
    security: &str,
) -> Result<String, Refusal> {
    let Received { query, selection, sent_id, .. } = received;
    let (query, selection) = match (query, selection) {
        (Ok(query), Some(selection)) => (query, selection),
        (Err(errors), _) => {
            let problem = |error: &QueryError| {
                let id = sent_id.as_deref().filter(|_| error.rule == "Q-01");
                query_problem(&central.errors, error, id, None)
            };
            let problems: Vec<RegistryProblem> = errors.iter().map(problem).collect();
            return refused(central, who, &problems).await;
        }
        (Ok(_), None) => return refused(central, who, &[problem(central, &QueryError::new("Q-01", Some("id")))]).await,
    };
    let route = match federation::query::route(central, who, &query, patient_of(&selection).is_some()) {
        Ok(route) => route,
        Err(error) => return refused(central, who, &[problem(central, &error)]).await,
    };
    let (own, patients) = match find(central, who, selection, route.own).await {
        Ok(Ok(decided)) => {
            let mut patients = decided.state.ids.clone();
            patients.extend(who.claims().patient.as_ref().map(|patient| central.canonical(patient)));
            let opening = decided.open(central, who, By::Source, Some(text), mention).await?;
            let told = told(central, decided, &query, &community::own(central), who.transaction);
            let status = told.as_ref().map_or_else(|problem| problem.code(), |_| "Success".to_owned());
            let outcome = if told.is_ok() { Outcome::Permit } else { Outcome::Failed };
            log::close(central, opening, outcome, None, &status).await;
            (told.map_err(|problem| *problem), patients)
        }
        Ok(Err(gate)) => return Err(gate::refused(central, who, gate).await),
        Err(StoreError::TooMany { limit }) => {
            // Told after the gates: others may still be asked.
            let problem = problem(central, &QueryError::too_many_results(limit));
            let body = refused(central, who, std::slice::from_ref(&problem)).await?;
            if route.others.is_empty() {
                return Ok(body);
            }
            (Err(problem), who.claims().patient.iter().map(|patient| central.canonical(patient)).collect())
        }
        Err(error) => return refused(central, who, &[resource_problem(central, &error, Answerer::Registry)]).await,
    };
    if route.others.is_empty() {
        return Ok(match own {
            Ok(objects) => encode_response(&RegistryResponse::SUCCESS, Results::List(&objects)),
            Err(problem) => failed(central, who.transaction, problem),
        });
    }
    let question = Question { body: text, security, returned: query.return_type, patients: &patients };
    let others = federation::query::ask(central, who, &route.others, &question).await?;
    let own = own.map_err(|problem| community::located(central, who.transaction, problem).registry_error());
    Ok(merged(route.own.then_some(own), others))
}

/// The answers of the own registry and of others as one: PartialSuccess if some succeeded (H-11).
fn merged(own: Option<Result<RegistryObjectList, RegistryError>>, others: Vec<Told>) -> String {
    let (mut list, mut errors, mut succeeded) = (RegistryObjectList::default(), Vec::new(), false);
    match own {
        Some(Ok(objects)) => (list, succeeded) = (objects, true),
        Some(Err(error)) => errors.push(error),
        None => {}
    }
    for told in others {
        list.objects.extend(told.objects);
        errors.extend(told.errors);
        succeeded |= told.succeeded;
    }
    let status = match (succeeded, errors.iter().any(|error| error.severity == Severity::Error)) {
        (true, false) => Status::Success,
        (true, true) => Status::PartialSuccess,
        (false, _) => Status::Failure,
    };
    encode_response(&RegistryResponse { status, errors }, Results::List(&list))
}

/// The answer to a query that fails for reasons of the node.
pub fn failed(central: &Central, transaction: Transaction, problem: RegistryProblem) -> String {
    let problem = community::located(central, transaction, problem);
    encode_response(&RegistryResponse::failure(vec![problem.registry_error()]), Results::None)
}

fn problem(central: &Central, error: &QueryError) -> RegistryProblem {
    query_problem(&central.errors, error, None, None)
}

/// A query that was not carried out: recorded as a use without result.
async fn refused(central: &Central, who: &Authenticated, problems: &[RegistryProblem]) -> Result<String, Refusal> {
    let mut record = who.record(central, crate::audit::Kind::U, Outcome::Failed);
    record.status = problems.first().map(RegistryProblem::code);
    if let Err(error) = central.audit.append(vec![crate::audit::Entry::Record(Box::new(record))]).await {
        tracing::error!(cause = %error, "a query cannot be recorded");
        return Err(Refusal::unavailable("the audit store takes no records"));
    }
    let located = problems.iter().map(|problem| community::located(central, who.transaction, problem.clone()));
    let errors = located.map(|problem| problem.registry_error()).collect();
    Ok(encode_response(&RegistryResponse::failure(errors), Results::None))
}

/// Whether the query asked for it.
type Keep = Box<dyn Fn(&Thing) -> bool + Send>;

/// The look-up, with what is to be answered of it.
struct Looked {
    graph: Graph,
    keep: Keep,
}

/// `own`: the own registry is looked through; else only the gates are asked.
async fn find(central: &Central, who: &Authenticated, selection: Selection, own: bool) -> Result<Result<Decided<Thing>, Gate>, StoreError> {
    let now = central.now();
    let spans_patients = who.transaction.spans_patients();
    let named = patient_of(&selection).filter(|_| !spans_patients);
    let request = who.request(named.map(|patient| central.canonical(&patient)));
    let mut tx = central.store.read().await?;
    let state = gate::state(&mut tx, who, now).await?;
    if let Err(refused) = gate::check(central, who, &request, &state, now) {
        return Ok(Err(refused));
    }
    // Bounds the look-up, before decisions: well above what may be answered.
    let limit = central.xds.query.max_objectref.saturating_mul(2);
    let looked = match own {
        true => look_up(central, &mut tx, selection, limit).await?,
        false => Looked { graph: Graph::default(), keep: Box::new(|_| true) },
    };
    drop(tx);
    Ok(decide(central, who, request, state, looked, now))
}

fn decide(
    central: &Central,
    who: &Authenticated,
    request: idr_profile::access::Request,
    state: PatientState,
    looked: Looked,
    now: Timestamp,
) -> Result<Decided<Thing>, Gate> {
    let Looked { graph: Graph { candidates, dependents, wanted }, keep } = looked;
    let mut decided = gate::decide(central, who, request, state, candidates, now)?;
    let mut dependents = decided.gated.dependents(dependents);
    dependents.retain(|thing| wanted.contains(thing.payload().entry_uuid()));
    // What only proves that something else may be shown is not told.
    decided.gated.disclosed.retain(|thing| wanted.contains(thing.payload().entry_uuid()) && keep(thing.payload()));
    dependents.retain(|thing| keep(thing.payload()));
    decided.dependents = dependents;
    Ok(decided)
}

async fn look_up(central: &Central, tx: &mut Tx, selection: Selection, limit: usize) -> Result<Looked, StoreError> {
    let all = |graph| Looked { graph, keep: Box::new(|_| true) };
    Ok(match selection {
        Selection::FindDocuments(wanted) => {
            let (filter, mut graph) = (filter(central, &wanted), Graph::default());
            for patient in each(central, &wanted.patients)? {
                let left = limit.saturating_sub(graph.candidates.len());
                join(&mut graph, tx.documents_of(&patient, &filter, left).await?);
            }
            let excluded = Wanted { patients: Vec::new(), ..*wanted };
            Looked { graph, keep: Box::new(move |thing| matches!(thing, Thing::Entry(entry) if excluded.matches(entry))) }
        }
        Selection::GetDocuments { ids, all_versions } => all(tx.graph(Seeds::Entries(names(&ids), versions(all_versions)), limit).await?),
        Selection::GetRelatedDocuments { ids, association_types, entry_types } => {
            let graph = tx.graph(Seeds::Related(names(&ids), &association_types), limit).await?;
            let keep = move |thing: &Thing| !matches!(thing, Thing::Entry(entry) if !entry_types.contains(&entry.entry_type));
            Looked { graph, keep: Box::new(keep) }
        }
        Selection::FindSubmissionSets(wanted) => {
            let graph = tx.graph(Seeds::SetsOf(&central.canonical(&wanted.patient)), limit).await?;
            let keep = move |thing: &Thing| match thing {
                Thing::Set(set) => {
                    let mut filter = wanted.clone();
                    filter.patient = set.patient_id.clone();
                    filter.matches(set)
                }
                _ => false,
            };
            Looked { graph, keep: Box::new(keep) }
        }
        Selection::FindFolders(mut wanted) => {
            let patients = std::mem::take(&mut wanted.patients);
            let mut graph = Graph::default();
            for patient in each(central, &patients)? {
                let left = limit.saturating_sub(graph.candidates.len());
                join(&mut graph, tx.graph(Seeds::FoldersOf(&patient), left).await?);
            }
            Looked { graph, keep: Box::new(move |thing| matches!(thing, Thing::Folder(folder) if wanted.matches(folder))) }
        }
        Selection::GetAll(wanted) => {
            let graph = tx.graph(Seeds::AllOf(&central.canonical(&wanted.patient)), limit).await?;
            let keep = move |thing: &Thing| match thing {
                Thing::Entry(entry) => {
                    entry.status.is_some_and(|status| wanted.entry_statuses.contains(&status)) && wanted.content.matches(entry)
                }
                Thing::Set(set) => set.status.is_some_and(|status| wanted.submission_set_statuses.contains(&status)),
                Thing::Folder(folder) => folder.status.is_some_and(|status| wanted.folder_statuses.contains(&status)),
                Thing::Association(_) => true,
            };
            Looked { graph, keep: Box::new(keep) }
        }
        Selection::GetFolders { ids, all_versions } => all(tx.graph(Seeds::Folders(names(&ids), versions(all_versions)), limit).await?),
        Selection::GetAssociations { uuids, statuses } => {
            let graph = tx.graph(Seeds::AssociationsOf(&uuids), limit).await?;
            Looked { graph, keep: of_status(statuses) }
        }
        Selection::GetDocumentsAndAssociations { ids, statuses } => {
            let graph = tx.graph(Seeds::EntriesWithAssociations(names(&ids)), limit).await?;
            Looked { graph, keep: of_status(statuses) }
        }
        Selection::GetSubmissionSets { uuids } => all(tx.graph(Seeds::SetsWith(&uuids), limit).await?),
        Selection::GetSubmissionSetAndContents { ids, content } => {
            let graph = tx.graph(Seeds::SetAndContents(names(&ids)), limit).await?;
            Looked { graph, keep: of_content(content) }
        }
        Selection::GetFolderAndContents { ids, content } => {
            let graph = tx.graph(Seeds::FolderAndContents(names(&ids)), limit).await?;
            Looked { graph, keep: of_content(content) }
        }
        Selection::GetFoldersForDocument { ids } => all(tx.graph(Seeds::FoldersWith(names(&ids)), limit).await?),
    })
}

/// The patients of a query, each once. One over many that names none would look at everybody's: too many.
fn each(central: &Central, patients: &[PatientId]) -> Result<BTreeSet<PatientId>, StoreError> {
    match patients.is_empty() {
        true => Err(StoreError::TooMany { limit: central.xds.query.max_objectref }),
        false => Ok(patients.iter().map(|patient| central.canonical(patient)).collect()),
    }
}

fn join(all: &mut Graph, graph: Graph) {
    all.candidates.extend(graph.candidates);
    all.dependents.extend(graph.dependents);
    all.wanted.extend(graph.wanted);
}

fn of_status(statuses: Vec<idr_ihe::metadata::AvailabilityStatus>) -> Keep {
    Box::new(move |thing| match thing {
        Thing::Association(association) if !statuses.is_empty() => association.status.is_some_and(|status| statuses.contains(&status)),
        _ => true,
    })
}

fn of_content(content: Content) -> Keep {
    Box::new(move |thing| !matches!(thing, Thing::Entry(entry) if !content.matches(entry)))
}

fn names(ids: &ObjectIds) -> Names<'_> {
    match ids {
        ObjectIds::EntryUuid(ids) => Names::EntryUuids(ids),
        ObjectIds::UniqueId(ids) => Names::UniqueIds(ids),
        ObjectIds::LogicalId(ids) => Names::LogicalIds(ids),
    }
}

fn versions(all: bool) -> Versions {
    if all { Versions::All } else { Versions::Latest }
}

fn filter(central: &Central, wanted: &Wanted) -> DocumentFilter {
    let codes = |values: &[CodeValue]| values.iter().map(code).collect::<Vec<_>>();
    let groups = |groups: &[Vec<CodeValue>]| groups.iter().map(|group| codes(group)).collect();
    let range = |range: &Range| TimeRange { from: range.from.clone(), to: range.to.clone() };
    let extra = |name: &str| wanted.extra.iter().filter(|(slot, _)| slot == name).flat_map(|(_, values)| values.clone()).collect();
    DocumentFilter {
        statuses: wanted.statuses.clone(),
        types: wanted.entry_types.clone(),
        class_codes: codes(&wanted.class_codes),
        type_codes: codes(&wanted.type_codes),
        practice_settings: codes(&wanted.practice_setting_codes),
        facility_types: codes(&wanted.facility_type_codes),
        format_codes: codes(&wanted.format_codes),
        event_codes: groups(&wanted.event_codes),
        confidentiality_codes: groups(&wanted.confidentiality_codes),
        reference_ids: wanted.reference_ids.clone(),
        author_persons: wanted.author_persons.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        creation_time: range(&wanted.creation_time),
        service_start_time: range(&wanted.service_start_time),
        service_stop_time: range(&wanted.service_stop_time),
        controllers: extra(&central.slots.controller_id),
        registers: extra(&central.slots.register_code),
    }
}

fn code(value: &CodeValue) -> Code {
    Code { code: value.code.clone(), system: value.system.clone(), display: String::new() }
}

fn mention(thing: &Thing) -> Mention {
    match thing {
        Thing::Entry(entry) => Mention { document: Some(entry.unique_id.clone()), ..Mention::default() },
        Thing::Set(set) => Mention { document: Some(set.unique_id.clone()), ..Mention::default() },
        Thing::Folder(folder) => Mention { document: Some(folder.unique_id.clone()), ..Mention::default() },
        // It has no uniqueId.
        Thing::Association(association) => Mention { document: Some(association.entry_uuid.clone()), ..Mention::default() },
    }
}

/// What the own registry tells; limits and the single-patient rule count what is permitted (05 §8 rule 2).
fn told(
    central: &Central,
    decided: Decided<Thing>,
    query: &Query,
    home: &str,
    transaction: Transaction,
) -> Result<RegistryObjectList, Box<RegistryProblem>> {
    let leaf = query.return_type == ReturnType::LeafClass;
    let told: Vec<Disclosed<Thing>> = decided.gated.disclosed.into_iter().chain(decided.dependents).collect();
    let limit = if leaf { central.xds.query.max_leafclass } else { central.xds.query.max_objectref };
    if told.len() > limit {
        return Err(Box::new(problem(central, &QueryError::too_many_results(limit))));
    }
    let mut patients = told.iter().map(|thing| &thing.unit().patient);
    let first = patients.next();
    if leaf && !transaction.spans_patients() && patients.any(|patient| Some(patient) != first) {
        return Err(Box::new(problem(central, &QueryError::new("Q-16", None))));
    }
    let objects = objects(central, told, home, query.definition.name == "GetRelatedDocuments");
    if leaf {
        return Ok(encode(&objects, Placement::Nested));
    }
    let packages = objects.submission_sets.iter().map(|set| &set.entry_uuid).chain(objects.folders.iter().map(|folder| &folder.entry_uuid));
    let all = objects.entries.iter().map(|entry| &entry.entry_uuid).chain(packages);
    let all = all.chain(objects.associations.iter().map(|association| &association.entry_uuid));
    // H-02: every ObjectRef carries the community.
    let reference = |id: &String| Object::ObjectRef(ObjectRef { id: Some(id.clone()), home: Some(home.to_owned()) });
    Ok(RegistryObjectList { objects: all.map(reference).collect() })
}

/// The objects of the answer by class, entries without what the permit withholds.
fn objects(central: &Central, told: Vec<Disclosed<Thing>>, home: &str, related: bool) -> Submission {
    let mut objects = Submission::default();
    for disclosed in told {
        let (thing, permit) = disclosed.into_parts();
        match thing {
            Thing::Entry(entry) => {
                let mut entry: DocumentEntry = disclosure::entry(*entry, &permit, &central.slots);
                entry.home_community_id = Some(home.to_owned());
                objects.entries.push(entry);
            }
            Thing::Set(set) => {
                let mut set = disclosure::submission_set(*set, &permit);
                set.home_community_id = Some(home.to_owned());
                objects.submission_sets.push(set);
            }
            Thing::Folder(mut folder) => {
                folder.home_community_id = Some(home.to_owned());
                objects.folders.push(*folder);
            }
            Thing::Association(association) => objects.associations.push(*association),
        }
    }
    if related {
        only_related(&mut objects);
    }
    objects
}

/// GetRelatedDocuments: an entry that no told association reaches is not told, nor an association to an entry that is not.
/// Without any relation the answer is empty (08 §8).
fn only_related(objects: &mut Submission) {
    let entries: Vec<String> = objects.entries.iter().map(|entry| entry.entry_uuid.clone()).collect();
    let joined = |of: &Association| entries.contains(&of.source) && entries.contains(&of.target);
    objects.associations.retain(joined);
    let associations = &objects.associations;
    objects.entries.retain(|entry| associations.iter().any(|of| of.source == entry.entry_uuid || of.target == entry.entry_uuid));
}
