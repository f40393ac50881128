//! Two centres in memory, one asking the other through its router with real assertions; and neighbours that say what they may not.

mod hostile;
mod query;
mod repository;
mod retrieve;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use idr_ihe::transaction::registry_response::RegistryResponse;
use idr_profile::access::Claims;
use idr_profile::xds::XdsRules;
use idr_profile::xua::Trust;
use tower::ServiceExt as _;

use super::Cause;
use super::wire::Wire;
use crate::testing::soap::{Answer, envelope, message_id, plain};
use crate::testing::{DISTRICT, HOSPITAL, Instance, OTHER, PKI, Party, World, trust};

/// homeCommunityId of the neighbour.
pub const NEIGHBOUR: &str = "urn:oid:1.2.246.10.90000099.12.1";
/// A community that is not configured.
pub const NOWHERE: &str = "urn:oid:1.2.246.10.90000098.12.1";

/// That of both centres; assertions of the tests list it.
pub const AUDIENCE: &str = "urn:x-idr:audience:central";

/// What a wire does with the answer of the neighbour: the whole HTTP answer, as text.
pub type Change = Arc<dyn Fn(String) -> String + Send + Sync>;

/// A neighbour that is asked in memory, as the gateway of the asking centre's organisation.
#[derive(Clone)]
pub struct Beside {
    router: axum::Router,
    change: Option<Change>,
    pub asked: Arc<AtomicUsize>,
}

impl Beside {
    pub fn new(world: &World) -> Self {
        Self { router: world.router.clone(), change: None, asked: Arc::default() }
    }

    pub fn that_says(self, change: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self { change: Some(Arc::new(change)), ..self }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Wire for Beside {
    async fn post(&self, content_type: &str, message: Bytes) -> Result<Response<Body>, Cause> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut request = Request::post("/ihe/gateway").header(CONTENT_TYPE, content_type).body(Body::from(message)).expect("a request");
        request.extensions_mut().insert(PKI.district.client());
        let response = self.router.clone().oneshot(request).await.expect("the router always answers");
        let Some(change) = &self.change else { return Ok(response) };
        let (mut head, body) = response.into_parts();
        let body = to_bytes(body, 1 << 28).await.expect("a whole body");
        head.headers.remove(http::header::CONTENT_LENGTH);
        // Latin-1, so that documents come back as they were.
        let text = change(body.iter().map(|byte| char::from(*byte)).collect());
        Ok(Response::from_parts(head, Body::from(text.chars().map(|letter| letter as u8).collect::<Vec<u8>>())))
    }
}

/// A wire that never answers.
pub struct Silent;

#[async_trait]
impl Wire for Silent {
    async fn post(&self, _: &str, _: Bytes) -> Result<Response<Body>, Cause> {
        std::future::pending().await
    }
}

/// A wire that never answers, and counts what it is asked.
#[derive(Clone, Default)]
pub struct Held(pub Arc<AtomicUsize>);

#[async_trait]
impl Wire for Held {
    async fn post(&self, _: &str, _: Bytes) -> Result<Response<Body>, Cause> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// The neighbouring centre: another community, whose repository has the same id, which lets the asking centre speak for its clients.
pub async fn neighbour() -> World {
    let own = crate::testing::soap::HOME.trim_start_matches("urn:oid:");
    let its = format!("home_community = \"{}\"", NEIGHBOUR.trim_start_matches("urn:oid:"));
    let world = World::with("", &[(&format!("home_community = \"{own}\""), &its)]).await;
    let mut text = trust();
    for organisation in [HOSPITAL, OTHER] {
        let entity = format!("entity_id = \"urn:oid:{organisation}\"\n");
        text = text.replace(&entity, &format!("{entity}tls_organisations = [\"{organisation}\", \"{DISTRICT}\"]\n"));
    }
    world.central.trust.store(Arc::new(Trust::parse(&text, &mut |_| Err(std::io::Error::other("no files"))).expect("a valid file")));
    world
}

/// The row of a community, as text that stands before the peers.
pub fn row(home: &str, more: &str) -> String {
    format!(
        "[[community]]\nhome = \"{}\"\nendpoint = \"https://gateway.example/{home}\"\n\
         pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]\n\
         audience = \"{AUDIENCE}\"\ntransactions = [\"ITI-38\", \"ITI-39\", \"RAD-75\"]\n{more}\n",
        home.trim_start_matches("urn:oid:")
    )
}

/// A centre with these rows; `wires`: by what the endpoint ends with.
pub async fn asking(rows: &str, changes: &[(&str, &str)], wires: Vec<(&str, Box<dyn Wire>)>) -> World {
    let mut wires: Vec<(String, Option<Box<dyn Wire>>)> = wires.into_iter().map(|(at, wire)| (at.to_owned(), Some(wire))).collect();
    let rows = format!("{rows}\n[[peer]]");
    let with_rows = [("[[peer]]\nname = ", format!("{}\nname = ", rows))];
    let mut all: Vec<(&str, &str)> = with_rows.iter().map(|(from, to)| (*from, to.as_str())).collect();
    all.extend(changes);
    World::asking(XdsRules::shipped(), "", &all, &mut |endpoint, _| {
        let found = wires.iter_mut().find(|(at, _)| endpoint.ends_with(at.as_str()));
        found.and_then(|(_, wire)| wire.take()).ok_or_else(|| anyhow::anyhow!("nothing is at {endpoint}"))
    })
    .await
}

/// A centre with a manifest of its own, and two communities that it asks by patient: the neighbour with another, and one that is
/// silent for a second.
pub async fn one_of_two_answers() -> (World, World) {
    let there = neighbour().await;
    let wires: Vec<(&str, Box<dyn Wire>)> = vec![(NEIGHBOUR, Box::new(Beside::new(&there))), (NOWHERE, Box::new(Silent))];
    let rows = row(NOWHERE, "query_by_patient = true\ntimeout_seconds = 1") + &row(NEIGHBOUR, "query_by_patient = true");
    let here = asking(&rows, &[("failures_max = 5", "failures_max = 2")], wires).await;
    here.registered(&[Instance::ct(1)]).await;
    there.registered(&[Instance::ct(2)]).await;
    (here, there)
}

/// Asks a centre with fresh claims.
pub async fn ask(world: &World, party: &Party, claims: &Claims, action: &str, body: &str) -> Answer {
    world.soap(party, plain(envelope(&party.security(claims), action, &message_id(), body))).await
}

/// errorCode and location of each error.
pub fn errors(response: &RegistryResponse) -> Vec<(&str, Option<&str>)> {
    response.errors.iter().map(|error| (error.error_code.as_str(), error.location.as_deref())).collect()
}
