//! ITI-18 to other communities: who is asked (H-03, H-04, H-06), by ITI-38, and what of their answers is told (H-11).
//!
//! # What is taken of an answer
//! All of it or nothing. Each object names the community that was asked; entries, sets and folders are about the assertion's
//! patient; there are no more of them than allowed, and of the kind that was asked for. An object without community is
//! XDSMissingHomeCommunityId, everything else XDSUnavailableCommunity. XDSUnknownPatientId of a community is no error: it knows
//! nothing of the patient. Other errors are passed on as they are.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use idr_ihe::ebxml::rim::{Object, RegistryObject};
use idr_ihe::ebxml::scheme;
use idr_ihe::metadata::PatientId;
use idr_ihe::soap::Envelope;
use idr_ihe::transaction::iti_18::{self, Query, QueryError, ReturnType};
use idr_ihe::transaction::registry_response::{RegistryError, Severity, Status};
use idr_profile::access::Operation;
use idr_profile::xds::{Key, RegistryProblem, RequireHome};
use idr_profile::xua::{Refusal, Transaction};
use tokio::time::Instant;

use super::{Cause, Message, Remote, judged, record, unavailable};
use crate::assertion::Authenticated;
use crate::central::Central;
use crate::https::soap::community;

const NUMBER: &str = "ITI-38";

/// Who answers a query.
pub struct Route<'a> {
    /// The own registry.
    pub own: bool,
    /// Other communities, in the order of their rows.
    pub others: Vec<&'a Remote>,
}

/// Who answers `query`; `by_patient`: it names one.
///
/// # Errors
/// `home` is no community that could be asked (H-05, H-06). Q-15: it has to be named (H-04, H-05).
pub fn route<'a>(central: &'a Central, who: &Authenticated, query: &Query, by_patient: bool) -> Result<Route<'a>, QueryError> {
    // A technical user reconciles its own entries, which are here; what another gateway asks is answered here or not at all.
    let asks_others = who.transaction == Transaction::Iti18 && who.operation() == Operation::Search && who.claims().patient.is_some();
    let communities = &central.federation.communities;
    match &query.home {
        Some(home) if *home == community::own(central) => Ok(Route { own: true, others: Vec::new() }),
        Some(home) => match central.federation.community(home, NUMBER).filter(|_| asks_others) {
            Some(other) => Ok(Route { own: false, others: vec![other] }),
            None => Err(QueryError::new("Q-14", Some("home"))),
        },
        None if by_patient => {
            let asked =
                |remote: &&Remote| asks_others && remote.query_by_patient && remote.may_be_asked(NUMBER) && remote.is_audience_of(who);
            Ok(Route { own: true, others: communities.iter().filter(asked).collect() })
        }
        None => {
            let federated = asks_others && !communities.is_empty();
            let required = central.xds.require_home == RequireHome::Always || federated;
            if required || community::is_cross_gateway(who.transaction) {
                return Err(QueryError::new("Q-15", Some("home")));
            }
            Ok(Route { own: true, others: Vec::new() })
        }
    }
}

/// A query as it goes out.
pub struct Question<'a> {
    /// The Body's child, as the client sent it.
    pub body: &'a str,
    /// The client's `wsse:Security`.
    pub security: &'a str,
    /// What is asked for.
    pub returned: ReturnType,
    /// The ids of the patient that answers may be about.
    pub patients: &'a [PatientId],
}

/// What a community told.
#[derive(Debug)]
pub struct Told {
    /// Its objects.
    pub objects: Vec<Object>,
    /// Its errors, or ours about it.
    pub errors: Vec<RegistryError>,
    /// It answered the query, if only in part.
    pub succeeded: bool,
}

impl Told {
    /// Why there is no answer.
    fn nothing(problem: &RegistryProblem) -> Self {
        Self { objects: Vec::new(), errors: vec![problem.registry_error()], succeeded: false }
    }
}

/// Asks communities side by side. Each has an answer: its own, or why there is none.
///
/// # Errors
/// IDR-X-32, before a question leaves or its answer is told.
pub async fn ask(central: &Arc<Central>, who: &Authenticated, others: &[&Remote], question: &Question<'_>) -> Result<Vec<Told>, Refusal> {
    let bounds = &central.config.federation;
    let until = Instant::now() + Duration::from_secs(bounds.query_seconds);
    let Some(_place) = central.federation.place() else {
        return Ok(others.iter().map(|remote| Told::nothing(&unavailable(central, &remote.id, None))).collect());
    };
    let one = |(at, remote)| async move { (at, one(central, who, remote, question, until).await) };
    let asked: Vec<BoxFuture<'_, _>> = others.iter().copied().enumerate().map(|other| one(other).boxed()).collect();
    // Who is slow keeps nobody from being asked.
    let mut told: Vec<(usize, Result<Told, Refusal>)> = stream::iter(asked).buffer_unordered(bounds.parallel_max).collect().await;
    told.sort_unstable_by_key(|(at, _)| *at);
    told.into_iter().map(|(_, told)| told).collect()
}

async fn one(
    central: &Arc<Central>,
    who: &Authenticated,
    remote: &Remote,
    question: &Question<'_>,
    until: Instant,
) -> Result<Told, Refusal> {
    if !remote.is_audience_of(who) {
        let problem = unavailable(central, &remote.id, None);
        return Ok(Told::nothing(&problem));
    }
    let opening = record::open(central, who, remote, NUMBER, &[]).await?;
    let message = Message {
        number: NUMBER,
        body: question.body,
        security: question.security,
        answer_bytes_max: central.config.federation.query_bytes_max,
        documents_max: 0,
        head: remote.timeout,
        until: until.min(Instant::now() + remote.timeout),
    };
    let answered = remote.ask(central, &message, |envelope, _| read(central, remote, question, envelope)).await;
    let problem = match answered {
        Ok(Ok(told)) => {
            let items: Vec<String> = told.objects.iter().filter_map(named).collect();
            record::came(central, who, remote, NUMBER, &items).await?;
            let whole = told.succeeded && !told.errors.iter().any(|error| error.severity == Severity::Error);
            opening.answered(whole, (items.len() as u64, 0)).await;
            return Ok(told);
        }
        Ok(Err(problem)) => *problem,
        Err(_) => unavailable(central, &remote.id, None),
    };
    opening.failed(&problem.code()).await;
    Ok(Told::nothing(&problem))
}

/// What of an answer is told; the inner error: it breaks H-02.
fn read(
    central: &Central,
    remote: &Remote,
    question: &Question<'_>,
    envelope: &Envelope<'_>,
) -> Result<Result<Told, Box<RegistryProblem>>, Cause> {
    let answer = iti_18::read_response(envelope).map_err(|_| Cause::Answer("it is no AdhocQueryResponse"))?;
    judged(central.config.federation.errors_max, &answer.registry)?;
    let objects = answer.objects.objects;
    if objects.len() > central.config.federation.objects_max {
        return Err(Cause::Answer("it has more objects than allowed"));
    }
    if answer.registry.status == Status::Failure && !objects.is_empty() {
        return Err(Cause::Answer("it failed and has objects"));
    }
    for object in &objects {
        match object_of(object, question) {
            Ok(None) => {}
            Ok(Some(home)) if home == remote.id => {}
            Ok(Some("")) => {
                let keys = [(Key::Home, remote.id.clone())];
                let text = "homeCommunityId is missing";
                return Ok(Err(Box::new(central.errors.problem("H-11", "XDSMissingHomeCommunityId", text, &keys, None))));
            }
            Ok(Some(_)) => return Err(Cause::Answer("an object is of another community")),
            Err(problem) => return Err(Cause::Answer(problem)),
        }
        if !about(object, question.patients, central) {
            return Err(Cause::Answer("an object is about another patient"));
        }
    }
    let errors: Vec<RegistryError> = answer.registry.errors.into_iter().filter(|error| error.error_code != "XDSUnknownPatientId").collect();
    let failed = answer.registry.status == Status::Failure && errors.iter().any(|error| error.severity == Severity::Error);
    Ok(Ok(Told { objects, errors, succeeded: !failed }))
}

/// The community that an object names, empty if it should and does not; `None` for what names none (H-02).
fn object_of<'a>(object: &'a Object, question: &Question<'_>) -> Result<Option<&'a str>, &'static str> {
    let leaf = question.returned == ReturnType::LeafClass;
    match object {
        Object::ObjectRef(reference) => Ok(Some(reference.home.as_deref().unwrap_or_default())),
        Object::ExtrinsicObject(_) | Object::RegistryPackage(_) if leaf => {
            Ok(Some(object.object().and_then(|object| object.home.as_deref()).unwrap_or_default()))
        }
        // It need not name any, and no other one than it comes from.
        Object::Association(association) if leaf => Ok(association.object.home.as_deref()),
        Object::Classification(_) if leaf => Err("a classification stands beside its object"),
        Object::Other(_) => Err("an object is of a class that no query gives"),
        _ => Err("whole objects came where references were asked for"),
    }
}

/// Whether an entry, set or folder is about one of `patients`. What names no patient is not.
fn about(object: &Object, patients: &[PatientId], central: &Central) -> bool {
    let schemes = match object {
        Object::ExtrinsicObject(_) => &[scheme::document_entry::PATIENT_ID][..],
        Object::RegistryPackage(_) => &[scheme::submission_set::PATIENT_ID, scheme::folder::PATIENT_ID][..],
        _ => return true,
    };
    let Some(object) = object.object() else { return false };
    let mut named = schemes.iter().flat_map(|scheme| object.identified(scheme)).map(|identifier| identifier.value.as_deref()).peekable();
    named.peek().is_some()
        && named.all(|value| {
            value.and_then(|value| PatientId::parse_cx(value).ok()).is_some_and(|id| patients.contains(&central.canonical(&id)))
        })
}

/// How a record names an object: uniqueId of an entry, set or folder, else its id.
fn named(object: &Object) -> Option<String> {
    let unique = |object: &RegistryObject| {
        let schemes = [scheme::document_entry::UNIQUE_ID, scheme::submission_set::UNIQUE_ID, scheme::folder::UNIQUE_ID];
        schemes.iter().find_map(|scheme| object.identified(scheme).next()?.value.clone())
    };
    let name = object.object().and_then(unique).or_else(|| object.id().map(str::to_owned))?;
    Some(name.chars().take(128).collect())
}
