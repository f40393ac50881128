//! The repository: documents by uniqueId (ITI-43, and ITI-39 between communities; profile 08 §7, §11).
//!
//! A document is given if one of the entries that have it is permitted; the decision is made before its bytes are opened and
//! again before they leave. Documents and imaging have one repositoryUniqueId.
//!
//! A document of another repository of the community ([`crate::config::Repository`] with an endpoint, H-13) is decided about in the same
//! way before anything is asked; what comes must have hash, size and media type of its entry, and is given as one of ours would be.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use idr_ihe::soap::MediaType;
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_profile::access::{AccessUnit, UnitId};
use idr_profile::xds::RegistryProblem;
use idr_profile::xds::request::{RetrieveProblem, RetrieveService, request_problem};
use idr_profile::xua::Refusal;

use crate::archive::retrieve::{Retrieval, Stored};
use crate::assertion::Authenticated;
use crate::central::Central;
use crate::consent::gate;
use crate::consent::log::Mention;
use crate::federation::retrieve::{self, Question};
use crate::https::soap::documents::{self, Exchange, Item};
use crate::objects::{ByteStream, ObjectError, ObjectKey, Reader};
use crate::store::query::{Place, StoredDocument};
use crate::store::{StoreError, Tx};

/// Answers ITI-43 and ITI-39. `security`: the assertion as it came, for other communities.
///
/// # Errors
/// A gate, or the audit store.
pub async fn answer(
    central: &Arc<Central>,
    who: Authenticated,
    exchange: Exchange,
    requests: Vec<DocumentRequest>,
    security: &str,
) -> Result<Response, Refusal> {
    let errors = &central.errors;
    if let Some(problem) = iti_43::problem(&requests) {
        return exchange.failed(central, &who, vec![request_problem(errors, &problem, SERVICE)]).await;
    }
    let limit = central.xds.retrieve.max_documents;
    if requests.len() > limit {
        let problem = RetrieveProblem::Limit { limit: limit as u64 }.problem(errors, SERVICE, None, None);
        return exchange.failed(central, &who, vec![problem]).await;
    }
    let now = central.now();
    let decision = who.request(None);
    let transaction = exchange.transaction;
    let (mut questions, mut uids): (Vec<Question<'_>>, Vec<&str>) = (Vec::new(), Vec::new());
    for (place, request) in requests.iter().enumerate() {
        if let Some(asked) = retrieve::community_of(central, transaction, request) {
            retrieve::add(&mut questions, asked, place, request, mention_of(request));
        }
    }
    let mut elsewhere: Vec<(&str, &str)> = Vec::new();
    for request in requests.iter().filter(|request| retrieve::repository_of(central, transaction, request).is_some()) {
        let document = named(request);
        if !elsewhere.contains(&document) {
            elsewhere.push(document);
        }
    }
    let own = |request: &&DocumentRequest| {
        let other = retrieve::community_of(central, transaction, request).is_some();
        !other && retrieve::repository_of(central, transaction, request).is_none()
    };
    for uid in requests.iter().filter(own).filter_map(|request| request.document_unique_id.as_deref()) {
        if !uids.contains(&uid) {
            uids.push(uid);
        }
    }
    let found = async {
        let mut tx = central.store.read().await?;
        let state = gate::state(&mut tx, &who, now).await?;
        if let Err(refused) = gate::check(central, &who, &decision, &state, now) {
            return Ok(Err(refused));
        }
        let mut candidates = Vec::new();
        for uid in &uids {
            candidates.extend(tx.document(&central.config.central.repository_unique_id, uid).await?);
        }
        for (repository, uid) in &elsewhere {
            candidates.extend(tx.document_elsewhere(repository, uid).await?);
        }
        Ok::<_, StoreError>(gate::decide(central, &who, decision, state, candidates, now))
    };
    let mut decided = match found.await {
        Ok(Ok(decided)) => decided,
        Ok(Err(refused)) => return Err(gate::refused(central, &who, refused).await),
        Err(error) => return exchange.store_failed(central, &who, &error).await,
    };
    // A document with several entries comes once for each: the first permitted one is the one that is used.
    let mut first: HashMap<(String, String), usize> = HashMap::new();
    decided.gated.disclosed.retain(|disclosed| {
        let (next, document) = (first.len(), disclosed.payload());
        match first.entry((document.repository.clone(), document.unique_id.clone())) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(next);
                true
            }
        }
    });
    let retrieval = Retrieval::begin(central.clone(), who.clone(), decided).await?;
    let permitted = |request: &DocumentRequest| {
        let (repository, uid) = named(request);
        first.get(&(repository.to_owned(), uid.to_owned())).copied()
    };
    // Of another repository what was permitted is asked for, once, and nothing else (09 §8 D-16).
    let mut fetching: HashMap<usize, usize> = HashMap::new();
    for (place, request) in requests.iter().enumerate() {
        if let (Some(remote), Some(index)) = (retrieve::repository_of(central, transaction, request), permitted(request))
            && !fetching.contains_key(&index)
        {
            fetching.insert(index, place);
            retrieve::add(&mut questions, (remote, "ITI-43"), place, request, mention_of(request));
        }
    }
    for question in &mut questions {
        let asked: Vec<DocumentRequest> = question.documents.iter().map(|(_, request)| request.clone()).collect();
        question.body = iti_43::encode(&asked);
    }
    let mut fetched = retrieve::ask(central, &who, security, &questions).await?;
    let mut missing: HashMap<usize, RegistryProblem> = HashMap::new();
    for (index, place) in &fetching {
        let document = retrieval.items().nth(*index);
        let problem = match (fetched.documents.remove(place), fetched.problems.remove(place), document) {
            (Some(came), _, Some(document)) if is_registered(document, &came) => {
                if let Place::Elsewhere(key) = &document.place {
                    // Set once: a document is fetched once for a request.
                    let _ = key.set(came.key().clone());
                }
                continue;
            }
            (Some(_), ..) => {
                tracing::error!(code = "IDR-R-09", "a document of another repository has not the hash, size or media type of its entry");
                RetrieveProblem::Unreadable.problem(errors, SERVICE, requests[*place].document_unique_id.as_deref(), None)
            }
            (None, Some(problem), _) => problem,
            // The repository says why.
            (None, None, _) => RetrieveProblem::NotAvailable.problem(errors, SERVICE, requests[*place].document_unique_id.as_deref(), None),
        };
        missing.insert(*index, problem);
    }
    let item = |(place, request): (usize, &DocumentRequest)| {
        if retrieve::community_of(central, transaction, request).is_some() {
            return Item::fetched(place, request, &fetched);
        }
        let found = permitted(request);
        match found.and_then(|index| missing.get(&index)) {
            Some(problem) => Some(Item::missing(request, problem.clone())),
            None => Some(documents::item(central, transaction, request, || found.ok_or(RetrieveProblem::NotAvailable))),
        }
    };
    let items = requests.iter().enumerate().filter_map(item).collect();
    exchange.stream(central, retrieval, items, fetched, None).await
}

/// repositoryUniqueId and uniqueId of a request.
fn named(request: &DocumentRequest) -> (&str, &str) {
    (request.repository_unique_id.as_deref().unwrap_or_default(), request.document_unique_id.as_deref().unwrap_or_default())
}

fn mention_of(request: &DocumentRequest) -> Mention {
    Mention { document: request.document_unique_id.clone(), ..Mention::default() }
}

/// Whether what came is what was registered.
fn is_registered(document: &StoredDocument, came: &retrieve::Document) -> bool {
    let essence = |text: &str| MediaType::parse(text).map(|media_type| media_type.essence).ok();
    came.part.sha1 == document.sha1
        && came.part.written.size() == document.size
        && essence(&came.response.mime_type) == essence(&document.mime_type)
}

#[async_trait]
impl Stored for StoredDocument {
    fn length(&self) -> u64 {
        self.size
    }

    fn media_type(&self) -> &str {
        &self.mime_type
    }

    fn mention(&self) -> Mention {
        let manifest = (self.mime_type == "application/dicom").then(|| self.unique_id.clone());
        Mention { document: Some(self.unique_id.clone()), manifest, ..Mention::default() }
    }

    async fn check(&self, objects: Reader<'_>) -> Result<(), ObjectError> {
        let key = self.object_key().ok_or(ObjectError::NotFetched)?;
        if self.size > CHECKED_WHOLE {
            let (size, _) = objects.open(key, Some(0..1)).await?;
            return if size == self.size { Ok(()) } else { Err(ObjectError::Altered { key: key.clone() }) };
        }
        let bytes = objects.read(key, CHECKED_WHOLE).await?;
        let mut sha1 = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        sha1.update(&bytes);
        match bytes.len() as u64 == self.size && hex::encode(sha1.finish()) == self.sha1 {
            true => Ok(()),
            false => Err(ObjectError::Altered { key: key.clone() }),
        }
    }

    async fn open(&self, objects: Reader<'_>) -> Result<ByteStream, ObjectError> {
        let key = self.object_key().ok_or(ObjectError::NotFetched)?;
        let (_, bytes) = objects.open(key, None).await?;
        let state = Verifying {
            bytes,
            sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
            held: None,
            expected: self.sha1.clone(),
            key: key.clone(),
            over: false,
        };
        Ok(stream::unfold(state, Verifying::next).boxed())
    }

    async fn unit_now(&self, unit: &UnitId, tx: &mut Tx) -> Result<Option<AccessUnit>, StoreError> {
        let found = tx.objects_by_id(std::slice::from_ref(&unit.0)).await?;
        Ok(found.into_iter().find_map(|state| state.unit))
    }
}

/// Gives the last chunk only after the SHA-1 of the entry has held.
struct Verifying {
    bytes: ByteStream,
    sha1: Context,
    held: Option<Bytes>,
    expected: String,
    key: ObjectKey,
    over: bool,
}

impl Verifying {
    async fn next(mut self) -> Option<(Result<Bytes, ObjectError>, Self)> {
        while !self.over {
            match self.bytes.next().await {
                Some(Ok(chunk)) => {
                    self.sha1.update(&chunk);
                    if let Some(earlier) = self.held.replace(chunk) {
                        return Some((Ok(earlier), self));
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    return Some((Err(error), self));
                }
                None => {
                    self.over = true;
                    if hex::encode(self.sha1.clone().finish()) != self.expected {
                        return Some((Err(ObjectError::Altered { key: self.key.clone() }), self));
                    }
                    return self.held.take().map(|chunk| (Ok(chunk), self));
                }
            }
        }
        None
    }
}

const SERVICE: RetrieveService = RetrieveService::Documents;
/// Documents up to this size are read and compared before the answer, so that an altered one is told as R-09.
const CHECKED_WHOLE: u64 = 1 << 20;
