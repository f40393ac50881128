//! HTTPS: the listener and the routes.
//!
//! Every route enters through [`enter`] (or, for SOAP, its own steps in the same order): whose certificate, what its row
//! allows, who asks. What PS3.18 knows and is not served here answers 501; what nobody knows, 404.

pub mod enrol;
pub mod problem;
pub mod qido;
pub mod receipts;
pub mod reconcile;
pub mod server;
pub mod soap;
pub mod stow;
pub mod wado;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};
use futures::FutureExt as _;
use http::{HeaderMap, Method, StatusCode, Uri};
use idr_profile::xua::{Code, RequestFacts, Transaction};

use crate::assertion::{self, Asked, Authenticated};
use crate::central::Central;
use crate::peer;
pub use idr_host::pace;
use problem::Problem;
use server::Client;

/// Longest request target, bytes (BD-10).
const TARGET_BYTES_MAX: usize = 8_192;

/// What stands at a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// SOAP messages: the transactions of [`soap::TRANSACTIONS`].
    Soap,
    /// Enrolment: by certificate alone, and nothing of a patient ([`enrol`]).
    Enrolment,
    /// One transaction: what the handler [`enter`]s with, and so the guard of the route (profile 05 §9).
    One(Transaction),
}

/// A method at a path.
#[derive(Debug)]
pub struct Route {
    /// Pattern.
    pub path: &'static str,
    /// The method; `GET` stands for `HEAD` too.
    pub method: Method,
    /// What it serves.
    pub serves: Serves,
    at: fn(MethodFilter) -> MethodRouter<Arc<Central>>,
}

/// Every route that a handler of ours answers. The router is made of this table, and the tests ask of it which routes read.
pub static ROUTES: [Route; 22] = [
    Route { path: soap::GATEWAY, method: Method::POST, serves: Serves::Soap, at: |method| on(method, soap::gateway) },
    Route {
        path: "/dicomweb/studies",
        method: Method::POST,
        serves: Serves::One(Transaction::StowRs),
        at: |method| on(method, stow::store),
    },
    Route {
        path: "/dicomweb/studies",
        method: Method::GET,
        serves: Serves::One(Transaction::QidoRs),
        at: |method| on(method, qido::studies),
    },
    Route {
        path: "/dicomweb/series",
        method: Method::GET,
        serves: Serves::One(Transaction::QidoRs),
        at: |method| on(method, qido::series),
    },
    Route {
        path: "/dicomweb/instances",
        method: Method::GET,
        serves: Serves::One(Transaction::QidoRs),
        at: |method| on(method, qido::instances),
    },
    Route {
        path: "/dicomweb/studies/{study}/series",
        method: Method::GET,
        serves: Serves::One(Transaction::QidoRs),
        at: |method| on(method, qido::series_of_study),
    },
    Route {
        path: "/dicomweb/studies/{study}/instances",
        method: Method::GET,
        serves: Serves::One(Transaction::QidoRs),
        at: |method| on(method, qido::instances_of_study),
    },
    Route {
        path: "/dicomweb/studies/{study}/series/{series}/instances",
        method: Method::GET,
        serves: Serves::One(Transaction::QidoRs),
        at: |method| on(method, qido::instances_of_series),
    },
    Route {
        path: "/dicomweb/studies/{study}",
        method: Method::POST,
        serves: Serves::One(Transaction::StowRs),
        at: |method| on(method, stow::store_in_study),
    },
    Route {
        path: "/dicomweb/studies/{study}",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::study),
    },
    Route {
        path: "/dicomweb/studies/{study}/metadata",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::study_metadata),
    },
    Route {
        path: "/dicomweb/studies/{study}/series/{series}",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::series),
    },
    Route {
        path: "/dicomweb/studies/{study}/series/{series}/metadata",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::series_metadata),
    },
    Route {
        path: "/dicomweb/studies/{study}/receipts",
        method: Method::GET,
        serves: Serves::One(Transaction::Receipts),
        at: |method| on(method, receipts::list),
    },
    Route {
        path: "/dicomweb/studies/{study}/series/{series}/instances/{instance}",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::instance),
    },
    Route {
        path: "/dicomweb/studies/{study}/series/{series}/instances/{instance}/metadata",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::instance_metadata),
    },
    Route {
        path: "/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
        method: Method::GET,
        serves: Serves::One(Transaction::WadoRs),
        at: |method| on(method, wado::frames),
    },
    Route { path: "/wado", method: Method::GET, serves: Serves::One(Transaction::WadoUri), at: |method| on(method, wado::by_parameters) },
    Route {
        path: "/custody/v1/reconcile",
        method: Method::POST,
        serves: Serves::One(Transaction::Reconcile),
        at: |method| on(method, reconcile::compare),
    },
    Route { path: "/enrol/v1/nonce", method: Method::GET, serves: Serves::Enrolment, at: |method| on(method, enrol::nonce) },
    Route { path: "/enrol/v1/confirm", method: Method::POST, serves: Serves::Enrolment, at: |method| on(method, enrol::confirm) },
    Route { path: "/enrol/v1/renew", method: Method::POST, serves: Serves::Enrolment, at: |method| on(method, enrol::renew) },
];

/// Known to PS3.18, and not served by any method: rendered, bulk data, UPS.
const NOT_SERVED: [&str; 5] = [
    "/dicomweb/studies/{study}/series/{series}/instances/{instance}/{*rest}",
    "/dicomweb/studies/{study}/series/{series}/{resource}",
    "/dicomweb/studies/{study}/{resource}",
    "/dicomweb/workitems",
    "/dicomweb/workitems/{*rest}",
];

/// The router of [`ROUTES`].
pub fn router(central: Arc<Central>) -> Router {
    let served = ROUTES.iter().fold(Router::new(), |router, route| {
        let method = MethodFilter::try_from(route.method.clone()).expect("the methods of the table are known to the router");
        router.route(route.path, (route.at)(method))
    });
    NOT_SERVED
        .into_iter()
        .fold(served, |router, path| router.route(path, any(not_implemented)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(central.clone(), guarded))
        .layer(middleware::from_fn_with_state(central.clone(), problem::identified))
        .with_state(central)
}

/// Bounds the target, counts the answer, and ends a request that panics with 500 and an incident (09 §7).
async fn guarded(State(central): State<Arc<Central>>, request: Request, next: Next) -> Response {
    let begin = tokio::time::Instant::now();
    let request_id = problem::request_id(request.headers()).unwrap_or_default();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let response = if target > TARGET_BYTES_MAX {
        Problem::new("W-11", StatusCode::URI_TOO_LONG).response(&central, &request_id)
    } else {
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                central.counters.panics.add(1);
                let incident = problem::incident(&central, &Panicked);
                Problem::internal(&incident).response(&central, &request_id)
            }
        }
    };
    central.counters.requests.observe(begin.elapsed());
    if let Some(counter) = central.counters.answers.get(usize::from(response.status().as_u16() / 100).saturating_sub(1)) {
        counter.add(1);
    }
    response
}

/// A request ended in a panic; where and why stands in the journal before this.
#[derive(Debug, thiserror::Error)]
#[error("a request ended in a panic")]
struct Panicked;

/// The steps before every HTTP route: row of the certificate, transaction in the row, assertion. Nothing of the body is read.
///
/// # Errors
/// The answer, when it ends here; recorded.
pub async fn enter(
    central: &Central,
    client: &Client,
    headers: &HeaderMap,
    uri: &Uri,
    transaction: Transaction,
) -> Result<Authenticated, Box<Response>> {
    enter_with(central, client, headers, uri, RequestFacts::of(transaction)).await
}

/// As [`enter`], for a request that names its patient.
///
/// # Errors
/// As [`enter`].
pub async fn enter_with(
    central: &Central,
    client: &Client,
    headers: &HeaderMap,
    uri: &Uri,
    facts: RequestFacts<'_>,
) -> Result<Authenticated, Box<Response>> {
    let transaction = facts.transaction;
    let request_id = problem::request_id(headers).unwrap_or_default();
    let asked = Asked { transaction: Some(transaction), request_id: request_id.clone(), client: client.clone() };
    let answer = |problem: Problem| Box::new(problem.response(central, &request_id));
    let turned_away = |refusal: idr_profile::xua::Refusal| match refusal.code {
        Code::Unavailable => answer(Problem::refused(central, &refusal)),
        _ => answer(Problem::not_admitted()),
    };
    let peer = peer::admitted(central, &asked).await.map_err(turned_away)?;
    if !peer.may_use(transaction) {
        let cause = format!("the row {} does not list {}", peer.row.name, peer::number(transaction));
        return Err(turned_away(peer::turn_away(central, &asked, "IDR-T-12", &cause).await));
    }
    if let Err(refusal) = assertion::no_token_in_query(uri) {
        let refusal = assertion::refused(central, &asked, None, refusal).await;
        return Err(answer(Problem::refused(central, &refusal)));
    }
    let authenticated = assertion::authenticate_http(central, client, headers, facts).await;
    authenticated.map_err(|refusal| answer(Problem::refused(central, &refusal)))
}

async fn not_implemented(State(central): State<Arc<Central>>, headers: HeaderMap) -> Response {
    let problem = Problem::new("W-18", StatusCode::NOT_IMPLEMENTED);
    problem.response(&central, &problem::request_id(&headers).unwrap_or_default())
}

async fn not_found(State(central): State<Arc<Central>>, headers: HeaderMap) -> Response {
    Problem::not_found().response(&central, &problem::request_id(&headers).unwrap_or_default())
}

/// `Allow` is added by the router, which knows the methods of the route.
async fn method_not_allowed(State(central): State<Arc<Central>>, headers: HeaderMap) -> Response {
    let problem = Problem::new("W-05", StatusCode::METHOD_NOT_ALLOWED);
    problem.response(&central, &problem::request_id(&headers).unwrap_or_default())
}

#[cfg(test)]
mod tests;
