//! RAD-69 Retrieve Imaging Document Set, and RAD-75 between communities: instances as MTOM parts (profile 08 §7.3, §11).
//!
//! Each instance of the request is one item of the answer, in order; an instance asked for twice is given twice. Unknown,
//! denied, rejected, of another study or series: one and the same error (09 §8 D-07). Instances go out in the transfer syntax
//! in which they are stored, or not at all: there is no codec in this program.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::response::Response;
use idr_ihe::transaction::iti_43::DocumentRequest;
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest};
use idr_profile::xds::request::{RetrieveProblem, RetrieveService, request_problem};
use idr_profile::xua::{Refusal, Transaction};

use super::Retrieval;
use crate::assertion::Authenticated;
use crate::central::Central;
use crate::consent::gate;
use crate::consent::log::Mention;
use crate::federation::retrieve::{self, Fetched, Question};
use crate::https::soap::documents::{self, Exchange, Item};
use crate::store::instances::{StoredInstance, Which};

/// Answers a request. `security`: the assertion as it came, for other communities.
///
/// # Errors
/// A gate, or the audit store.
pub async fn answer(
    central: &Arc<Central>,
    who: Authenticated,
    exchange: Exchange,
    request: RetrieveImagingRequest,
    security: &str,
) -> Result<Response, Refusal> {
    let errors = &central.errors;
    if let Some(problem) = request.problem() {
        return exchange.failed(central, &who, vec![request_problem(errors, &problem, SERVICE)]).await;
    }
    let limit = central.xds.imaging.max_instances;
    if request.instance_count() > limit {
        let problem = RetrieveProblem::Limit { limit: limit as u64 }.problem(errors, SERVICE, None, None);
        return exchange.failed(central, &who, vec![problem]).await;
    }
    let transaction = exchange.transaction;
    let now = central.now();
    let decision = who.request(None);
    let found = async {
        let mut tx = central.store.read().await?;
        let state = gate::state(&mut tx, &who, now).await?;
        if let Err(refused) = gate::check(central, &who, &decision, &state, now) {
            return Ok(Err(refused));
        }
        let mut candidates = Vec::new();
        for (study, uids) in by_study(&request, |document| retrieve::community_of(central, transaction, document).is_none()) {
            candidates.extend(tx.instances(study, Which::Instances(&uids), limit).await?);
        }
        Ok::<_, crate::store::StoreError>(gate::decide(central, &who, decision, state, candidates, now))
    };
    let decided = match found.await {
        Ok(Ok(decided)) => decided,
        Ok(Err(refused)) => return Err(gate::refused(central, &who, refused).await),
        Err(error) => return exchange.store_failed(central, &who, &error).await,
    };
    let retrieval = Retrieval::begin(central.clone(), who.clone(), decided).await?;
    let questions = questions(central, transaction, &request);
    let fetched = retrieve::ask(central, &who, security, &questions).await?;
    let items = items(central, transaction, &request, &retrieval, &fetched);
    exchange.stream(central, retrieval, items, fetched, Some(central.xds.imaging.max_response_bytes)).await
}

/// What other communities are asked: of the request each study and series in which something is theirs, and that alone.
fn questions<'a>(central: &'a Central, transaction: Transaction, request: &RetrieveImagingRequest) -> Vec<Question<'a>> {
    let mut questions: Vec<Question<'a>> = Vec::new();
    let mut place = 0..;
    for study in &request.studies {
        for series in &study.series {
            for (document, place) in series.documents.iter().zip(&mut place) {
                if let Some(asked) = retrieve::community_of(central, transaction, document) {
                    let (study, series) = (study.study_instance_uid.clone(), series.series_instance_uid.clone());
                    retrieve::add(&mut questions, asked, place, document, Mention { study, series, ..Mention::default() });
                }
            }
        }
    }
    for question in &mut questions {
        let theirs = |document: &DocumentRequest| document.home_community_id.as_deref() == Some(&question.remote.id);
        question.body = rad_69::encode(&part_of(request, theirs));
    }
    questions
}

/// The part of a request that holds these documents.
fn part_of(request: &RetrieveImagingRequest, wanted: impl Fn(&DocumentRequest) -> bool) -> RetrieveImagingRequest {
    let mut part = request.clone();
    for study in &mut part.studies {
        study.series.iter_mut().for_each(|series| series.documents.retain(&wanted));
        study.series.retain(|series| !series.documents.is_empty());
    }
    part.studies.retain(|study| !study.series.is_empty());
    part
}

/// Distinct SOP Instance UIDs of `own` documents by study, in the order of the request.
fn by_study(request: &RetrieveImagingRequest, own: impl Fn(&DocumentRequest) -> bool) -> Vec<(&str, Vec<String>)> {
    let mut studies: Vec<(&str, Vec<String>)> = Vec::new();
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    for study in &request.studies {
        let uid = study.study_instance_uid.as_deref().unwrap_or_default();
        let documents = study.series.iter().flat_map(|series| &series.documents).filter(|document| own(document));
        let uids = documents.filter_map(|document| document.document_unique_id.as_deref()).filter(|instance| seen.insert((uid, *instance)));
        let uids: Vec<String> = uids.map(str::to_owned).collect();
        if uids.is_empty() {
            continue;
        }
        match studies.iter_mut().find(|(known, _)| *known == uid) {
            Some((_, known)) => known.extend(uids),
            None => studies.push((uid, uids)),
        }
    }
    studies
}

fn items(
    central: &Central,
    transaction: Transaction,
    request: &RetrieveImagingRequest,
    retrieval: &Retrieval<StoredInstance>,
    fetched: &Fetched,
) -> Vec<Item> {
    let permitted: HashMap<(&str, &str, &str), usize> = retrieval
        .items()
        .enumerate()
        .map(|(index, instance)| ((instance.study_uid.as_str(), instance.series_uid.as_str(), instance.sop_instance_uid.as_str()), index))
        .collect();
    let syntaxes: HashSet<&str> = request.transfer_syntaxes().collect();
    let syntax_of: Vec<&str> = retrieval.items().map(|instance| instance.transfer_syntax_uid.as_str()).collect();
    let item = |study: &str, series: &str, document: &DocumentRequest, place: usize| {
        if retrieve::community_of(central, transaction, document).is_some() {
            return Item::fetched(place, document, fetched);
        }
        let uid = document.document_unique_id.as_deref().unwrap_or_default();
        Some(documents::item(central, transaction, document, || match permitted.get(&(study, series, uid)) {
            None => Err(RetrieveProblem::NotAvailable),
            Some(index) if !syntaxes.contains(syntax_of[*index]) => Err(RetrieveProblem::TransferSyntax),
            Some(index) => Ok(*index),
        }))
    };
    let mut items = Vec::with_capacity(request.instance_count());
    let mut place = 0..;
    for study in &request.studies {
        for series in &study.series {
            let study = study.study_instance_uid.as_deref().unwrap_or_default();
            let uid = series.series_instance_uid.as_deref().unwrap_or_default();
            items.extend(series.documents.iter().zip(&mut place).filter_map(|(document, place)| item(study, uid, document, place)));
        }
    }
    items
}

const SERVICE: RetrieveService = RetrieveService::Imaging;
