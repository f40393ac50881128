//! QIDO-RS: studies, series and instances of a patient (PS3.18 §10.6).
//!
//! The index says what is stored and under which access unit; each unit is decided; what is permitted is read from the headers of
//! the objects, one for each series of a match. Counts, pages and modalities are those of what is permitted alone (05 §8 rule 2),
//! and an answer without a match is 204 whatever was left out. A patient is shown under the id that survived merges.
//!
//! # Order
//! Row, assertion, query, places; look-up and state of one commit point; gate; headers; opening records of what will be told; answer.
//!
//! # Bounds
//! `qido.max_results` permitted matches without `limit`, of twice as many candidates; `timeout.query`.

mod attributes;
mod matched;
mod parameters;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use idr_dimse::service::query_retrieve::Level;
use idr_profile::access::Disclosed;
use idr_profile::xua::{RequestFacts, Transaction};
use serde_json::Value;

use self::matched::Matches;
use self::parameters::{Malformed, Parameters};
use super::problem::Problem;
use super::wado::{Call, RETRY_SECONDS, Target, media};
use super::{enter_with, server::Client};
use crate::assertion::Authenticated;
use crate::audit::Outcome;
use crate::central::{Central, Work};
use crate::consent::gate::{self, Decided, Unanswered};
use crate::consent::log::{self, By, Mention};
use crate::store::StoreError;
use crate::store::search::{Gathered, Sought};

/// `GET /dicomweb/studies`.
pub async fn studies(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, uri: Uri, headers: HeaderMap) -> Response {
    search(Call { central, client, headers, uri }, Level::Study, None).await
}

/// `GET /dicomweb/series`.
pub async fn series(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, uri: Uri, headers: HeaderMap) -> Response {
    search(Call { central, client, headers, uri }, Level::Series, None).await
}

/// `GET /dicomweb/instances`.
pub async fn instances(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    search(Call { central, client, headers, uri }, Level::Image, None).await
}

/// `GET /dicomweb/studies/{study}/series`.
pub async fn series_of_study(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path(study): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let below = Target { study, series: None, instance: None };
    search(Call { central, client, headers, uri }, Level::Series, Some(below)).await
}

/// `GET /dicomweb/studies/{study}/instances`.
pub async fn instances_of_study(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path(study): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let below = Target { study, series: None, instance: None };
    search(Call { central, client, headers, uri }, Level::Image, Some(below)).await
}

/// `GET /dicomweb/studies/{study}/series/{series}/instances`.
pub async fn instances_of_series(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let below = Target { study, series: Some(series), instance: None };
    search(Call { central, client, headers, uri }, Level::Image, Some(below)).await
}

/// What is asked.
struct Search {
    level: Level,
    below: Option<Target>,
    parameters: Parameters,
}

/// The answer of a search whose records are open.
struct Found {
    objects: Vec<Value>,
    /// Permitted matches after the last one given.
    remaining: usize,
}

/// Why there is none.
enum Failed {
    Problem(Problem),
    Unanswered(Unanswered),
}

impl<E: Into<Unanswered>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Unanswered(error.into())
    }
}

async fn search(call: Call, level: Level, below: Option<Target>) -> Response {
    let central = &call.central;
    let parameters = parameters::read(&call.uri, level);
    // Who asks is judged before how: a query that cannot be read names nobody.
    let named = parameters.as_ref().ok().and_then(Parameters::patient).map(|patient| central.canonical(&patient));
    let facts = RequestFacts { patient: named.as_ref(), ..RequestFacts::of(Transaction::QidoRs) };
    let who = match enter_with(central, &call.client, &call.headers, &call.uri, facts).await {
        Ok(who) => who,
        Err(response) => return *response,
    };
    if below.as_ref().is_some_and(|target| !target.is_valid()) {
        return call.answer(&Problem::bad_request());
    }
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(Malformed(field)) => return call.answer(&Problem::bad_request().with("field", &field)),
    };
    if !media::takes_json(&call.headers) {
        return call.answer(&Problem::new("W-06", StatusCode::NOT_ACCEPTABLE));
    }
    let Some(_place) = central.places.take(Work::Query).await else { return call.answer(&Problem::unavailable(RETRY_SECONDS)) };
    let fuzzy = parameters.fuzzy;
    let search = Search { level, below, parameters };
    let limit = Duration::from_secs(u64::from(central.xds.timeout.query));
    match tokio::time::timeout(limit, search.answer(central, &who, call.uri.query())).await {
        Ok(Ok(found)) => respond(central, found, fuzzy),
        Ok(Err(Failed::Problem(problem))) => call.answer(&problem),
        Ok(Err(Failed::Unanswered(Unanswered::Refused(refusal)))) => call.answer(&Problem::refused(central, &refusal)),
        Ok(Err(Failed::Unanswered(Unanswered::Store(StoreError::TooMany { .. })))) => call.answer(&too_many(central.xds.qido.max_results)),
        Ok(Err(Failed::Unanswered(Unanswered::Store(error)))) => {
            tracing::error!(cause = %error, "a search cannot be answered");
            call.answer(&Problem::unavailable(RETRY_SECONDS))
        }
        Err(_) => call.answer(&Problem::unavailable(RETRY_SECONDS)),
    }
}

fn too_many(limit: usize) -> Problem {
    Problem::new("W-22", StatusCode::PAYLOAD_TOO_LARGE).with("limit", &limit.to_string())
}

impl Search {
    async fn answer(&self, central: &Arc<Central>, who: &Authenticated, query: Option<&str>) -> Result<Found, Failed> {
        let (max_results, parameters) = (central.xds.qido.max_results, &self.parameters);
        let mut decided = self.decide(central, who).await?;
        let matches = Matches::of(self.level, self.below.as_ref(), &decided);
        let evaluated = matches.evaluate(central, &decided, parameters, max_results).await;
        if parameters.limit.is_none() && evaluated.total.saturating_sub(parameters.offset) > max_results {
            return Err(Failed::Problem(too_many(max_results)));
        }
        let (objects, remaining) = (evaluated.objects, evaluated.remaining);
        // Records name what is told, and nothing beside it.
        let told: BTreeSet<usize> = evaluated.told;
        let mut index = 0;
        decided.gated.disclosed.retain(|_: &Disclosed<Gathered>| {
            index += 1;
            told.contains(&(index - 1))
        });
        let level = self.level;
        let mention = move |found: &Gathered| Mention {
            study: Some(found.first.study_uid.clone()),
            series: (level >= Level::Series).then(|| found.first.series_uid.clone()),
            ..Mention::default()
        };
        let opening = decided.open(central, who, By::Source, Some(query.unwrap_or_default()), mention).await?;
        log::close(central, opening, Outcome::Permit, None, if objects.is_empty() { "204" } else { "200" }).await;
        Ok(Found { objects, remaining })
    }

    async fn decide(&self, central: &Arc<Central>, who: &Authenticated) -> Result<Decided<Gathered>, Failed> {
        let now = central.now();
        let request = who.request(self.parameters.patient().map(|patient| central.canonical(&patient)));
        let mut tx = central.store.read().await.map_err(Unanswered::from)?;
        let state = gate::state(&mut tx, who, now).await.map_err(Unanswered::from)?;
        if let Err(refused) = gate::check(central, who, &request, &state, now) {
            drop(tx);
            return Err(Unanswered::from(gate::refused(central, who, refused).await).into());
        }
        let uids = |level: Level| self.parameters.uids(level.unique_key());
        let below = |of: fn(&Target) -> Option<&String>, asked: Vec<String>| -> Option<Vec<String>> {
            match self.below.as_ref().and_then(of) {
                // Asked for another than the path names: nothing is both.
                Some(uid) if !asked.is_empty() && !asked.contains(uid) => None,
                Some(uid) => Some(vec![uid.clone()]),
                None => Some(asked),
            }
        };
        let studies = below(|target| Some(&target.study), uids(Level::Study));
        let series = below(|target| target.series.as_ref(), uids(Level::Series));
        let candidates = match (studies, series) {
            (Some(studies), Some(series)) => {
                let instances = uids(Level::Image);
                let patient = who.claims().patient.as_ref();
                if patient.is_none() && studies.is_empty() {
                    return Err(Failed::Problem(Problem::bad_request().with("field", "StudyInstanceUID")));
                }
                let sought = Sought { patient, studies: &studies, series: &series, instances: &instances };
                let limit = central.xds.qido.max_results.saturating_mul(2);
                match tx.gathered(sought, self.level == Level::Image, limit).await {
                    // That there is too much is told to those alone who may see some of it.
                    Err(too_many @ StoreError::TooMany { .. }) => {
                        let series = tx.gathered(sought, false, limit).await.map_err(Unanswered::from)?;
                        drop(tx);
                        return match gate::decide(central, who, request, state, series, now) {
                            Ok(decided) if decided.gated.disclosed.is_empty() => Ok(decided),
                            Ok(_) => Err(Unanswered::from(too_many).into()),
                            Err(refused) => Err(Unanswered::from(gate::refused(central, who, refused).await).into()),
                        };
                    }
                    found => found.map_err(Unanswered::from)?,
                }
            }
            _ => Vec::new(),
        };
        drop(tx);
        match gate::decide(central, who, request, state, candidates, now) {
            Ok(decided) => Ok(decided),
            Err(refused) => Err(Unanswered::from(gate::refused(central, who, refused).await).into()),
        }
    }
}

fn respond(central: &Central, found: Found, fuzzy: bool) -> Response {
    let empty = found.objects.is_empty();
    let mut response = Response::new(if empty { Body::empty() } else { Body::from(Value::Array(found.objects).to_string()) });
    if empty {
        *response.status_mut() = StatusCode::NO_CONTENT;
    } else {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/dicom+json"));
    }
    let mut warn = |text: String| {
        let value = format!("299 {}/dicomweb \"{text}\"", central.config.https.public_url);
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(WARNING, value);
        }
    };
    // The texts of PS3.18 §8.3.4.
    if fuzzy {
        warn("The fuzzymatching parameter is not supported. Only literal matching has been performed.".to_owned());
    }
    if found.remaining > 0 {
        warn(format!("There are {} additional results that can be requested", found.remaining));
    }
    response
}
