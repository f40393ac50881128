//! WADO-RS, and WADO-URI by RAD-55: instances of a study, a series or one of them, and what describes them (PS3.18 §10.4).
//!
//! A data set goes out byte for byte as it was stored, under file meta of our own; nothing is transcoded. Unknown, of another
//! study or series, rejected and denied are one answer: 404; of a study or series, what may be given is given, and nothing says
//! that there is more (05 §9). If one of the instances is stored in a transfer syntax that the client does not take, the answer
//! is 406: an answer that leaves out an image says nothing of it.
//!
//! # Bounds
//! `INSTANCES_MAX` instances of one answer.
//!
//! # Standard
//! PS3.18 §8.7.3, §10.4; profile 05 §9, 09 §6, §8.

mod frames;
pub mod media;
mod metadata;
mod sending;
mod uri;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, StatusCode, Uri};
use idr_profile::xua::Transaction;
use tokio::sync::OwnedSemaphorePermit;

pub use frames::frames;
pub use metadata::{instance_metadata, series_metadata, study_metadata};
pub use uri::by_parameters;

use super::enter;
use super::problem::{self, Problem};
use super::server::Client;
use super::stow::is_uid;
use crate::archive::retrieve::{self, Retrieval, Stopped};
use crate::assertion::Authenticated;
use crate::central::{Central, Work};
use crate::consent::gate::Unanswered;
use crate::store::StoreError;
use crate::store::instances::{StoredInstance, Which};

/// `Retry-After` when all places are taken or the store does not answer, seconds.
pub(super) const RETRY_SECONDS: u32 = 120;
/// Instances of one answer: rows of so many are held while it is sent.
const INSTANCES_MAX: usize = 20_000;
/// Objects looked at side by side before an answer.
const CHECKS_IN_FLIGHT: usize = 16;

/// Everything that a handler is given.
pub(super) struct Call {
    pub central: Arc<Central>,
    pub client: Client,
    pub headers: HeaderMap,
    pub uri: Uri,
}

impl Call {
    pub(super) fn request_id(&self) -> String {
        problem::request_id(&self.headers).unwrap_or_default()
    }

    pub(super) fn answer(&self, problem: &Problem) -> Response {
        problem.response(&self.central, &self.request_id())
    }
}

/// What a resource names.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub study: String,
    pub series: Option<String>,
    pub instance: Option<String>,
}

impl Target {
    pub(super) fn is_valid(&self) -> bool {
        [Some(&self.study), self.series.as_ref(), self.instance.as_ref()].into_iter().flatten().all(|uid| is_uid(uid))
    }

    fn which(&self) -> Which<'_> {
        match (&self.series, &self.instance) {
            (Some(series_uid), Some(sop_instance_uid)) => Which::Instance { series_uid, sop_instance_uid },
            (Some(series), None) => Which::Series(series),
            (None, _) => Which::Study,
        }
    }
}

/// `GET /dicomweb/studies/{study}`.
pub async fn study(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path(study): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: None, instance: None };
    instances(Call { central, client, headers, uri }, target).await.unwrap_or_else(|response| *response)
}

/// `GET /dicomweb/studies/{study}/series/{series}`.
pub async fn series(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: Some(series), instance: None };
    instances(Call { central, client, headers, uri }, target).await.unwrap_or_else(|response| *response)
}

/// `GET /dicomweb/studies/{study}/series/{series}/instances/{instance}`.
pub async fn instance(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series, instance)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: Some(series), instance: Some(instance) };
    instances(Call { central, client, headers, uri }, target).await.unwrap_or_else(|response| *response)
}

type Ended<T> = Result<T, Box<Response>>;

async fn instances(call: Call, target: Target) -> Ended<Response> {
    let ranges = media::ranges(&call.headers);
    let (retrieval, place) = found(&call, Transaction::WadoRs, &target, !ranges.is_empty()).await?;
    let single = target.instance.is_some();
    let taken = |range: &&media::MediaRange| -> bool {
        // One alone has no frame for a second.
        retrieval.items().all(|item| range.frame(&item.transfer_syntax_uid).is_some_and(|frame| single || frame == media::Frame::Multipart))
    };
    let frame = ranges.iter().find(taken).and_then(|range| range.frame(&retrieval.items().next()?.transfer_syntax_uid));
    give(&call, retrieval, place, frame).await
}

/// Gives all instances of a retrieval; without a frame that the client takes: 406.
async fn give(
    call: &Call,
    mut retrieval: Retrieval<StoredInstance>,
    place: OwnedSemaphorePermit,
    frame: Option<media::Frame>,
) -> Ended<Response> {
    let Some(frame) = frame else {
        retrieval.close("406").await;
        return Err(Box::new(call.answer(&not_acceptable())));
    };
    let opened = match check(&retrieval).await {
        Ok(()) => retrieval.open(0).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(bytes) => Ok(sending::respond(&call.central, frame, retrieval, bytes, place)),
        Err(error) => Err(stopped(call, retrieval, error).await),
    }
}

/// Who asks, before what is asked can be judged.
async fn entered(call: &Call, transaction: Transaction) -> Ended<Authenticated> {
    enter(&call.central, &call.client, &call.headers, &call.uri, transaction).await
}

/// The steps of every resource up to what may be given, which is at least one instance. `acceptable`: some of what the client takes
/// could be given.
pub(super) async fn found(
    call: &Call,
    transaction: Transaction,
    target: &Target,
    acceptable: bool,
) -> Ended<(Retrieval<StoredInstance>, OwnedSemaphorePermit)> {
    let central = &call.central;
    let answer = |problem: Problem| Box::new(call.answer(&problem));
    let who = entered(call, transaction).await?;
    if !target.is_valid() {
        return Err(answer(Problem::bad_request()));
    }
    if !acceptable {
        return Err(answer(not_acceptable()));
    }
    let unavailable = || Problem::unavailable(RETRY_SECONDS);
    let Some(place) = central.places.take(Work::Retrieve).await else { return Err(answer(unavailable())) };
    let first_byte = Duration::from_secs(u64::from(central.xds.timeout.first_byte));
    let look_up = retrieve::instances(central, &who, &target.study, target.which(), INSTANCES_MAX);
    let retrieval = match tokio::time::timeout(first_byte, look_up).await {
        Err(_) => return Err(answer(unavailable())),
        Ok(Ok(retrieval)) => retrieval,
        Ok(Err(Unanswered::Refused(refusal))) => return Err(answer(Problem::refused(central, &refusal))),
        Ok(Err(Unanswered::Store(StoreError::TooMany { limit }))) => {
            let problem = Problem::new("W-22", StatusCode::PAYLOAD_TOO_LARGE).with("limit", &limit.to_string());
            return Err(answer(problem));
        }
        Ok(Err(Unanswered::Store(error))) => {
            tracing::error!(cause = %error, "instances cannot be looked up");
            return Err(answer(unavailable()));
        }
    };
    if retrieval.items().len() == 0 {
        retrieval.close("404").await;
        return Err(answer(Problem::not_found()));
    }
    Ok((retrieval, place))
}

/// Whether the bytes of all instances are there, before the first one is promised.
async fn check(retrieval: &Retrieval<StoredInstance>) -> Result<(), Stopped> {
    let checks: Vec<BoxFuture<'_, Result<(), Stopped>>> =
        (0..retrieval.items().len()).map(|index| retrieval.check(index).boxed()).collect();
    let checked: Vec<Result<(), Stopped>> = stream::iter(checks).buffered(CHECKS_IN_FLIGHT).collect().await;
    checked.into_iter().collect()
}

/// The answer to what stops before the first byte.
async fn stopped(call: &Call, retrieval: Retrieval<StoredInstance>, error: Stopped) -> Box<Response> {
    let problem = match error {
        Stopped::Withdrawn => {
            retrieval.close("404").await;
            Problem::not_found()
        }
        error => {
            let incident = problem::incident(&call.central, &error);
            retrieval.close("500").await;
            Problem::internal(&incident)
        }
    };
    Box::new(call.answer(&problem))
}

fn not_acceptable() -> Problem {
    Problem::new("W-06", StatusCode::NOT_ACCEPTABLE)
}
