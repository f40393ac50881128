//! ITI-43 and RAD-69 for documents of other communities, asked by ITI-39 and RAD-75 (H-07, H-11), and ITI-43 to other repositories of
//! the own community for what was permitted here (H-13): one request to each for all that is asked of it, since an assertion may be
//! used once there.
//!
//! # What is taken of an answer
//! Documents that were asked for, each with its community, once for each time it was asked for, and with a part of its own;
//! instances as DICOM files with the UIDs that they were asked for by. Anything else, and the whole answer is refused. Documents are staged until the message is
//! whole: what does not arrive whole is not there, and the own documents are not held up by a slow stream.
//! Errors of the community are passed on as they are; they say why a document is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use idr_ihe::soap::xop::Content;
use idr_ihe::soap::{Envelope, MediaType};
use idr_ihe::transaction::iti_43::{self, DocumentRequest, DocumentResponse};
use idr_ihe::transaction::registry_response::{RegistryError, Severity, Status};
use idr_profile::scan::{Limits, Part10Reader, tags};
use idr_profile::xds::request::{RetrieveProblem, RetrieveService};
use idr_profile::xds::{Answerer, RegistryProblem};
use idr_profile::xua::{Refusal, Transaction};
use tokio::time::Instant;

use super::{Cause, Message, Remote, judged, record, unavailable};
use crate::assertion::Authenticated;
use crate::central::Central;
use crate::consent::log::Mention;
use crate::https::soap::receive::{Part, Staged};
use crate::https::soap::{community, documents, resource_of};
use crate::objects::ObjectKey;

/// What of a client's request goes to one community.
pub struct Question<'a> {
    /// Who.
    pub remote: &'a Remote,
    /// By which transaction: `ITI-39`, `RAD-75`, or `ITI-43` to a repository.
    pub number: &'static str,
    /// The Body's child.
    pub body: String,
    /// Its documents, in the order of the request, with their place in the client's request.
    pub documents: Vec<(usize, DocumentRequest)>,
    /// What the record names.
    pub mentions: Vec<Mention>,
}

/// A document that came.
pub struct Document {
    /// Where it is staged, and how long.
    pub part: Part,
    /// As the community says.
    pub response: DocumentResponse,
}

/// What came of all questions.
#[derive(Default)]
pub struct Fetched {
    /// By place in the client's request.
    pub documents: HashMap<usize, Document>,
    /// Why others are missing: by place in the client's request.
    pub problems: HashMap<usize, RegistryProblem>,
    /// What communities said.
    pub errors: Vec<RegistryError>,
    /// The staged documents; gone when dropped.
    pub staged: Vec<Staged>,
}

/// The community that a document is asked of: not our own, in a request that is asked on, and one that may be asked so.
pub fn community_of<'a>(central: &'a Central, transaction: Transaction, document: &DocumentRequest) -> Option<(&'a Remote, &'static str)> {
    let number = asked_by(transaction)?;
    Some((central.federation.community(document.home_community_id.as_deref()?, number)?, number))
}

/// The repository of the own community that a document is asked of, besides the own one.
pub fn repository_of<'a>(central: &'a Central, transaction: Transaction, document: &DocumentRequest) -> Option<&'a Remote> {
    let at_home = match document.home_community_id.as_deref() {
        Some(home) => home == community::own(central),
        None => !documents::is_required(central, transaction),
    };
    let asked = transaction == Transaction::Iti43 && at_home;
    central.federation.repository(document.repository_unique_id.as_deref()?).filter(|_| asked)
}

/// Puts a document among the questions, in the order in which communities are named first.
pub fn add<'a>(
    questions: &mut Vec<Question<'a>>,
    (remote, number): (&'a Remote, &'static str),
    place: usize,
    document: &DocumentRequest,
    mention: Mention,
) {
    let at = questions.iter().position(|question| question.remote.id == remote.id).unwrap_or_else(|| {
        questions.push(Question { remote, number, body: String::new(), documents: Vec::new(), mentions: Vec::new() });
        questions.len() - 1
    });
    let question = &mut questions[at];
    question.documents.push((place, document.clone()));
    question.mentions.push(mention);
}

/// The transaction by which another community is asked, if the client's is asked on (H-05).
pub fn asked_by(transaction: Transaction) -> Option<&'static str> {
    match transaction {
        Transaction::Iti43 => Some("ITI-39"),
        Transaction::Rad69 => Some("RAD-75"),
        _ => None,
    }
}

/// Asks communities side by side.
///
/// # Errors
/// IDR-X-32, before a question leaves or its answer is told.
pub async fn ask(central: &Arc<Central>, who: &Authenticated, security: &str, questions: &[Question<'_>]) -> Result<Fetched, Refusal> {
    let bounds = &central.config.federation;
    let until = Instant::now() + Duration::from_secs(bounds.retrieve_seconds);
    if questions.is_empty() {
        return Ok(Fetched::default());
    }
    let mut fetched = Fetched::default();
    let Some(_place) = central.federation.place() else {
        fetched.problems.extend(questions.iter().flat_map(|question| question.all_away(central)));
        return Ok(fetched);
    };
    let one = |(at, question)| async move { (at, one(central, who, security, question, until).await) };
    let asked: Vec<BoxFuture<'_, _>> = questions.iter().enumerate().map(|question| one(question).boxed()).collect();
    // Who is slow keeps nobody from being asked.
    let mut all: Vec<(usize, Result<Fetched, Refusal>)> = stream::iter(asked).buffer_unordered(bounds.parallel_max).collect().await;
    all.sort_unstable_by_key(|(at, _)| *at);
    for (_, one) in all {
        let one = one?;
        fetched.documents.extend(one.documents);
        fetched.problems.extend(one.problems);
        fetched.errors.extend(one.errors);
        fetched.staged.extend(one.staged);
    }
    Ok(fetched)
}

async fn one(
    central: &Arc<Central>,
    who: &Authenticated,
    security: &str,
    question: &Question<'_>,
    until: Instant,
) -> Result<Fetched, Refusal> {
    let (remote, number) = (question.remote, question.number);
    if !remote.is_audience_of(who) {
        return Ok(Fetched { problems: question.all_away(central), ..Fetched::default() });
    }
    let opening = record::open(central, who, remote, number, &question.mentions).await?;
    let message = Message {
        number,
        body: &question.body,
        security,
        answer_bytes_max: central.config.federation.retrieve_bytes_max,
        documents_max: question.documents.len(),
        head: remote.timeout,
        until,
    };
    let answered = match central.space.is_short() {
        true => Err(Cause::NoRoom),
        false => remote.ask(central, &message, |envelope, staged| taken(central, question, envelope, staged)).await,
    };
    let answered = match answered {
        Ok(taken) if number == "RAD-75" && !are_instances(central, question, &taken.0).await => {
            tracing::warn!(peer = %remote.id, transaction = number, "an instance of another community is not the one that was asked for; its answer is refused");
            Err(Cause::Answer("an instance is not the one that was asked for"))
        }
        answered => answered,
    };
    let (documents, errors, staged) = match answered {
        Ok(answered) => answered,
        Err(cause) => {
            let problem = |document: &DocumentRequest| match cause {
                Cause::NoRoom => resource_of(central, "B-03", Answerer::Repository, &[]),
                _ => question.away(central, document),
            };
            let problems: HashMap<usize, RegistryProblem> =
                question.documents.iter().map(|(place, document)| (*place, problem(document))).collect();
            let status = problems.values().next().map(RegistryProblem::code).unwrap_or_default();
            opening.failed(&status).await;
            return Ok(Fetched { problems, ..Fetched::default() });
        }
    };
    let items: Vec<String> = documents.values().map(|document| document.response.document_unique_id.clone()).collect();
    record::came(central, who, remote, number, &items).await?;
    let bytes = documents.values().map(|document| document.part.written.size()).sum();
    opening.answered(items.len() == question.documents.len(), (items.len() as u64, bytes)).await;
    let mut problems = HashMap::new();
    // What a community leaves out without a word (09 §1.5). An error that names none of the documents may be about each of them.
    let said: Vec<&RegistryError> = errors.iter().filter(|error| error.severity == Severity::Error).collect();
    let asked = || question.documents.iter().filter_map(|(_, document)| document.document_unique_id.as_deref());
    if said.iter().all(|error| asked().any(|uid| names(error, uid))) {
        let is_told = |document: &DocumentRequest| {
            document.document_unique_id.as_deref().is_some_and(|uid| said.iter().any(|error| names(error, uid)))
        };
        let missing = question.documents.iter().filter(|(place, document)| !documents.contains_key(place) && !is_told(document));
        problems.extend(missing.map(|(place, document)| (*place, question.away(central, document))));
    }
    // What a repository of our own says of a document is told by us, as of one of ours.
    let errors = if number == "ITI-43" { Vec::new() } else { errors };
    Ok(Fetched { documents, problems, errors, staged: vec![staged] })
}

/// Whether an error is about a document.
fn names(error: &RegistryError, uid: &str) -> bool {
    error.location.as_deref() == Some(uid)
        || error.code_context.split(|letter: char| letter != '.' && !letter.is_ascii_digit()).any(|word| word == uid)
}

impl Question<'_> {
    /// Whether a document may name this community: that which was asked; a repository of our own need not name any.
    fn is_at_home(&self, central: &Central, home: Option<&str>) -> bool {
        match self.number {
            "ITI-43" => home.is_none_or(|home| home == community::own(central)),
            _ => home == Some(&self.remote.id),
        }
    }

    /// All of its documents, by their place.
    fn all_away(&self, central: &Central) -> HashMap<usize, RegistryProblem> {
        self.documents.iter().map(|(place, document)| (*place, self.away(central, document))).collect()
    }

    /// XDSUnavailableCommunity; of a repository R-11.
    fn away(&self, central: &Central, document: &DocumentRequest) -> RegistryProblem {
        let document = document.document_unique_id.as_deref();
        match self.number {
            "ITI-43" => RetrieveProblem::SourceAway.problem(&central.errors, RetrieveService::Documents, document, None),
            _ => unavailable(central, &self.remote.id, document),
        }
    }
}

type Taken = (HashMap<usize, Document>, Vec<RegistryError>, Staged);

/// What of an answer is taken.
fn taken(central: &Central, question: &Question<'_>, envelope: &Envelope<'_>, staged: Staged) -> Result<Taken, Cause> {
    let answer = iti_43::read_response(envelope).map_err(|_| Cause::Answer("it is no RetrieveDocumentSetResponse"))?;
    // One for each document is no flood.
    judged(central.config.federation.errors_max.max(question.documents.len()), &answer.registry)?;
    if answer.registry.status == Status::Failure && !answer.documents.is_empty() {
        return Err(Cause::Answer("it failed and has documents"));
    }
    let mut parts: HashMap<&str, &Part> = staged.parts.iter().filter_map(|part| Some((part.content_id.as_deref()?, part))).collect();
    let mut open: Vec<&(usize, DocumentRequest)> = question.documents.iter().collect();
    let mut documents = HashMap::new();
    for response in answer.documents {
        if !question.is_at_home(central, response.home_community_id.as_deref()) {
            return Err(Cause::Answer("a document is not of the community that was asked"));
        }
        let wanted = |(_, request): &&(usize, DocumentRequest)| {
            request.repository_unique_id.as_deref() == Some(&response.repository_unique_id)
                && request.document_unique_id.as_deref() == Some(&response.document_unique_id)
        };
        let Some(at) = open.iter().position(wanted) else {
            return Err(Cause::Answer("a document came that was not asked for"));
        };
        let (place, _) = open.remove(at);
        if !is_media_type(&response.mime_type) || question.number == "RAD-75" && response.mime_type != "application/dicom" {
            return Err(Cause::Answer("a document has no media type, or one that was not asked for"));
        }
        // One part, one document: the same bytes are not given under two names.
        let Content::Part(id) = &response.content else { return Err(Cause::Answer("a document stands in line")) };
        let Some(part) = parts.remove(id.as_str()) else { return Err(Cause::Answer("a document has no part of its own")) };
        documents.insert(*place, Document { part: part.clone(), response });
    }
    drop(parts);
    Ok((documents, answer.registry.errors, staged))
}

/// Whether each document is a DICOM file of the instance, series and study that it was asked for by.
async fn are_instances(central: &Central, question: &Question<'_>, documents: &HashMap<usize, Document>) -> bool {
    for ((place, _), mention) in question.documents.iter().zip(&question.mentions) {
        if let Some(document) = documents.get(place)
            && !is_instance(central, document, mention).await
        {
            return false;
        }
    }
    true
}

async fn is_instance(central: &Central, document: &Document, mention: &Mention) -> bool {
    let Ok(mut bytes) = central.objects.stream_back(&document.part.written).await else { return false };
    let (mut reader, mut read) = (Part10Reader::new(Limits::default()), 0);
    while let Some(Ok(chunk)) = bytes.next().await {
        reader.feed(&chunk);
        read += chunk.len();
        if read >= HEADER_BYTES {
            break;
        }
    }
    let scan = reader.finish();
    let uid = |tag| scan.header.data_set().uid(tag);
    uid(tags::SOP_INSTANCE_UID) == Some(&document.response.document_unique_id)
        && uid(tags::STUDY_INSTANCE_UID) == mention.study.as_deref()
        && uid(tags::SERIES_INSTANCE_UID) == mention.series.as_deref()
}

/// Bytes of an instance that are looked through for its UIDs, which stand near its front.
const HEADER_BYTES: usize = 4 << 20;

/// `type/subtype`, which becomes a field of ours.
fn is_media_type(text: &str) -> bool {
    text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && MediaType::parse(text).is_ok()
}

impl Document {
    /// Where it is staged.
    pub fn key(&self) -> &ObjectKey {
        self.part.written.key()
    }
}
