//! What the centre asks others: the XCA initiating gateway (ITI-38, ITI-39, RAD-75; profile 08 §5, H-03, H-07, H-11) and documents
//! of other repositories of the own community (H-13).
//!
//! ```text
//! ITI-18 ─ gates G1–G5, own registry ─▶ route(home) ─▶ opening record ─▶ Remote::ask ─▶ checks ─▶ merged ─▶ answer
//! ITI-43, RAD-69 ─ gates, own documents ─▶ by home ─▶ opening record ─▶ Remote::ask ─▶ staged, checked ─▶ merged
//! ```
//! [`query`] and [`retrieve`] say what is asked and what of the answer is taken; [`Remote::ask`] is one exchange; [`breaker`] keeps
//! a dead peer from costing time; [`wire`] is the network.
//!
//! # Access
//! The own gates come before any question. What another community tells was decided there, by the client's own assertion, which
//! goes out unchanged, and only to whom it lists as its audience; it is never more than an answer about the assertion's patient. Nobody is asked what the own centre alone
//! may answer: a technical user reconciles here, and what another gateway asks is never asked on (H-05).
//!
//! # Failure
//! A peer that is away, late, or says what it may not say is XDSUnavailableCommunity; the own part of the answer stays. The journal
//! has the cause.
//!
//! # Bounds
//! `[federation]`: time, bytes, objects, errors, requests at once. What is received of documents lies staged beside the objects
//! until the answer has left, and is nobody's.

pub mod breaker;
pub mod query;
pub mod record;
pub mod retrieve;
pub mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use idr_host::files;
use idr_host::monitor::Counter;
use idr_ihe::metadata::is_oid;
use idr_ihe::soap::{Envelope, Framing, HeaderName, Request, multipart, write_request};
use idr_ihe::transaction::registry_response::{RegistryError, RegistryResponse};
use idr_ihe::transaction::table::{self, Frame};
use idr_ihe::xml::Limits;
use idr_profile::tls;
use idr_profile::xds::{Key, RegistryProblem};
use idr_profile::xua::Trust;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use self::breaker::{Admission, Breaker, Verdict};
use self::wire::{Https, Wire};
use crate::assertion::Authenticated;
use crate::central::Central;
use crate::config::Config;
use crate::https::soap::answer;
use crate::https::soap::body::BodyError;
use crate::https::soap::receive::{Incoming, ReceiveError, Staged};

/// Why a peer's part of an answer is missing. Said in the journal; the client learns XDSUnavailableCommunity.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It failed too often in a row.
    #[error("it failed several times in a row and is not asked for a while")]
    Paused,
    /// As many requests as allowed are under way.
    #[error("as many requests to it as allowed are under way")]
    NoPlace,
    /// Not in time.
    #[error("it did not answer in time")]
    Late,
    /// The head came in time, and not all that follows: a bound of ours.
    #[error("its answer began and was not whole within the time of federation.query_seconds or retrieve_seconds")]
    Unfinished,
    /// TCP, TLS or HTTP.
    #[error("it cannot be reached")]
    Connection(#[source] anyhow::Error),
    /// An HTTP status without a SOAP answer.
    #[error("it answered with HTTP status {0}")]
    Status(u16),
    /// A fault; the code of the refusal, if it told one.
    #[error("it answered with a fault{}", .0.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Fault(Option<String>),
    /// The message could not be received.
    #[error("its answer cannot be read")]
    Received(#[source] ReceiveError),
    /// What it says is not an answer to what was asked.
    #[error("its answer is not acceptable: {0}")]
    Answer(&'static str),
    /// There is no room to stage its documents.
    #[error("less than storage.reserve_bytes is left to stage its documents")]
    NoRoom,
}

impl Cause {
    /// What it says of the peer.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Fault(_) => Verdict::Answered,
            Self::Paused | Self::NoPlace | Self::NoRoom | Self::Unfinished => Verdict::Uncounted,
            Self::Received(ReceiveError::Objects(_) | ReceiveError::NoRoom | ReceiveError::Body(BodyError::TooLarge { .. })) => {
                Verdict::Uncounted
            }
            _ => Verdict::Failed,
        }
    }
}

/// A message to a peer.
pub struct Message<'a> {
    /// `ITI-38` …
    pub number: &'static str,
    /// The Body's child.
    pub body: &'a str,
    /// The client's `wsse:Security`, as it came.
    pub security: &'a str,
    /// Bytes of the answer at most.
    pub answer_bytes_max: u64,
    /// Documents in the answer at most.
    pub documents_max: usize,
    /// Longest wait for the head of the answer.
    pub head: Duration,
    /// The whole answer is there by then, or it counts as none.
    pub until: Instant,
}

/// One that can be asked.
pub struct Remote {
    /// `urn:oid:` and its homeCommunityId; of a repository its repositoryUniqueId.
    pub id: String,
    /// Its name as an audience of assertions.
    pub audience: String,
    /// What it may be asked.
    pub transactions: Vec<String>,
    /// Also asked when a query names a patient and no community.
    pub query_by_patient: bool,
    /// Longest wait for its answer.
    pub timeout: Duration,
    endpoint: String,
    wire: Box<dyn Wire>,
    breaker: Mutex<Breaker>,
    places: Semaphore,
    began: Instant,
}

/// Everybody who can be asked, and what came of it.
pub struct Federation {
    /// `[[community]]` rows in their order.
    pub communities: Vec<Remote>,
    /// `[[repository]]` rows with an endpoint.
    pub repositories: Vec<Remote>,
    /// Requests of clients that may wait for others. Each holds places of queries or retrieves meanwhile (`[concurrency]`), so that
    /// these are fewer: what is answered here alone finds a place. None free: the others' part is unavailable at once.
    pub waiting: Semaphore,
    /// Questions that were answered.
    pub answered: Counter,
    /// Questions that were not, for whatever reason.
    pub unavailable: Counter,
}

impl Default for Federation {
    /// Nobody is asked.
    fn default() -> Self {
        let waiting = Semaphore::new(Semaphore::MAX_PERMITS);
        Self { communities: Vec::new(), repositories: Vec::new(), waiting, answered: Counter::default(), unavailable: Counter::default() }
    }
}

/// The way to a peer, given its address and pins.
pub type Connect<'a> = &'a mut dyn FnMut(&str, &[String]) -> anyhow::Result<Box<dyn Wire>>;

impl Federation {
    /// The peers of the configuration, over HTTPS.
    ///
    /// # Errors
    /// Certificate, key or anchors that cannot be used.
    pub fn open(config: &Config, trust: &Trust) -> anyhow::Result<Self> {
        if config.community.is_empty() && config.repository.iter().all(|row| row.endpoint.is_none()) {
            return Ok(Self::default());
        }
        let (certificate, key) = match (&config.federation.certificate, &config.federation.key) {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => (&config.https.certificate, &config.https.key),
        };
        let chain = std::fs::read(certificate).with_context(|| format!("{}: cannot be read", certificate.display()))?;
        let (key, anchors) = (files::read_private(key)?, files::anchors(trust.tls_anchors()));
        let connect = Duration::from_secs(config.federation.connect_seconds);
        Self::over(config, &mut |endpoint, pins| {
            let client = tls::client(&chain, &key, &anchors, pins, &[b"h2", b"http/1.1"])?;
            Ok(Box::new(Https::new(endpoint, client, connect)?))
        })
    }

    /// The same over any wire.
    ///
    /// # Errors
    /// Those of `connect`.
    pub fn over(config: &Config, connect: Connect<'_>) -> anyhow::Result<Self> {
        let bounds = &config.federation;
        let mut remote = |id: String, endpoint: &str, pins: &[String], timeout: u64| -> anyhow::Result<Remote> {
            Ok(Remote {
                id,
                audience: String::new(),
                transactions: Vec::new(),
                query_by_patient: false,
                timeout: Duration::from_secs(timeout),
                endpoint: endpoint.to_owned(),
                wire: connect(endpoint, pins)?,
                breaker: Mutex::new(Breaker::new(bounds.failures_max, Duration::from_secs(bounds.pause_seconds))),
                places: Semaphore::new(bounds.requests_max),
                began: Instant::now(),
            })
        };
        let mut communities = Vec::new();
        for row in &config.community {
            let asked = remote(format!("urn:oid:{}", row.home), &row.endpoint, &row.pins, row.timeout_seconds)?;
            communities.push(Remote {
                audience: row.audience.clone(),
                transactions: row.transactions.clone(),
                query_by_patient: row.query_by_patient,
                ..asked
            });
        }
        let mut repositories = Vec::new();
        for row in &config.repository {
            if let Some(endpoint) = &row.endpoint {
                let asked = remote(row.unique_id.clone(), endpoint, &row.pins, row.timeout_seconds)?;
                repositories.push(Remote {
                    audience: row.audience.clone().unwrap_or_default(),
                    transactions: vec!["ITI-43".to_owned()],
                    ..asked
                });
            }
        }
        Ok(Self { communities, repositories, waiting: Semaphore::new(bounds.waiting_max), ..Self::default() })
    }

    /// The community of a homeCommunityId, byte for byte (H-01), if its row lists the transaction.
    pub fn community(&self, home: &str, number: &str) -> Option<&Remote> {
        home.strip_prefix("urn:oid:").filter(|oid| is_oid(oid))?;
        self.communities.iter().find(|remote| remote.id == home && remote.may_be_asked(number))
    }

    /// Another repository of the own community, by its repositoryUniqueId (H-13).
    pub fn repository(&self, unique_id: &str) -> Option<&Remote> {
        self.repositories.iter().find(|remote| remote.id == unique_id)
    }

    /// A place among the requests that wait for others, if one is free.
    pub fn place(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.waiting.try_acquire().ok();
        if place.is_none() {
            tracing::warn!("as many requests as federation.waiting_max wait for others; one more is answered without them");
        }
        place
    }

    /// Whether a retrieve may have to wait for others.
    pub fn retrieves(&self) -> bool {
        !self.communities.is_empty() || !self.repositories.is_empty()
    }
}

impl Remote {
    /// Whether its row lists a transaction.
    pub fn may_be_asked(&self, number: &str) -> bool {
        self.transactions.iter().any(|listed| listed == number)
    }

    /// Whether the client's assertion may be shown to it: a bearer assertion that lists it among its audiences (H-07, 04 §8).
    pub fn is_audience_of(&self, who: &Authenticated) -> bool {
        let listed = who.audiences.contains(&self.audience);
        if !listed {
            tracing::info!(peer = %self.id, "another community or repository is not asked: the assertion is not bearer, or does not list its audience");
        }
        listed
    }

    /// Whether it is left alone now.
    pub fn is_paused(&self) -> bool {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).is_open()
    }

    /// Asks and reads the answer: `read` judges what its envelope says, and takes the documents that are staged beside it.
    ///
    /// # Errors
    /// [`Cause`], told in the journal.
    pub async fn ask<T>(
        &self,
        central: &Arc<Central>,
        message: &Message<'_>,
        read: impl FnOnce(&Envelope<'_>, Staged) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let admitted = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).admit(self.began.elapsed());
        let asked = if admitted == Admission::Paused {
            Err(Cause::Paused)
        } else {
            // Dropped when the client goes away: a probe is then made again.
            let mut pass = Pass { remote: self, admitted, verdict: Verdict::Uncounted };
            let began = AtomicBool::new(false);
            let asked = match tokio::time::timeout_at(message.until, self.exchange(central, message, &began, read)).await {
                Ok(asked) => asked,
                Err(_) if began.load(Ordering::Relaxed) => Err(Cause::Unfinished),
                Err(_) => Err(Cause::Late),
            };
            pass.verdict = asked.as_ref().err().map_or(Verdict::Answered, Cause::verdict);
            asked
        };
        match &asked {
            Ok(_) => central.federation.answered.add(1),
            Err(cause) => {
                central.federation.unavailable.add(1);
                let sources = std::iter::successors(std::error::Error::source(cause), |error| error.source());
                let source = sources.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                tracing::warn!(peer = %self.id, transaction = message.number, source, "another community or repository was asked in vain: {cause}");
            }
        }
        asked
    }

    async fn exchange<T>(
        &self,
        central: &Arc<Central>,
        message: &Message<'_>,
        began: &AtomicBool,
        read: impl FnOnce(&Envelope<'_>, Staged) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let head = message.until.min(Instant::now() + message.head);
        let _place = match tokio::time::timeout_at(head, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Err(Cause::NoPlace),
        };
        let transaction = table::of_number(message.number).ok_or(Cause::Answer("the transaction has no action"))?;
        let message_id = format!("urn:uuid:{}", central.random_id());
        let (action, to) = (transaction.request_action, &self.endpoint);
        let text = write_request(&Request { action, message_id: &message_id, to, security: message.security, body: message.body });
        let (content_type, bytes) = match transaction.frame {
            Frame::Plain => ("application/soap+xml; charset=UTF-8".to_owned(), text),
            Frame::Mtom => {
                let writer = answer::writer(central);
                (writer.content_type(), writer.root(&text) + &writer.closing())
            }
        };
        let answer = match tokio::time::timeout_at(head, self.wire.post(&content_type, Bytes::from(bytes))).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Cause::Late),
        };
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let framing = Framing::of(media_type).map_err(|_| Cause::Status(status))?;
        let limits = multipart::Limits {
            parts: message.documents_max.saturating_add(1),
            part_bytes: message.answer_bytes_max,
            total_bytes: message.answer_bytes_max,
            ..multipart::Limits::MTOM
        };
        let plain_max = message.answer_bytes_max.min(central.config.https.soap_body_bytes_max);
        let incoming = Incoming::within(central, &head.headers, body, &framing, plain_max, limits);
        let mut incoming = incoming.map_err(Cause::Received)?;
        began.store(status == 200, Ordering::Relaxed);
        if message.documents_max == 0 {
            incoming.drop_documents();
        }
        let root = incoming.root().await.map_err(Cause::Received)?;
        let staged = incoming.rest().await.map_err(Cause::Received)?;
        let envelope = Envelope::read(&root, Limits::default()).map_err(|_| Cause::Answer("it is no SOAP 1.2 envelope"))?;
        if let Some(fault) = envelope.fault().map_err(|_| Cause::Answer("its fault cannot be read"))? {
            return Err(Cause::Fault(fault.refusal.filter(|code| is_code(code))));
        }
        if status != 200 {
            return Err(Cause::Status(status));
        }
        if envelope.value(HeaderName::RelatesTo).map(str::trim) != Some(&message_id) {
            return Err(Cause::Answer("it relates to another message"));
        }
        if envelope.action() != transaction.response_action {
            return Err(Cause::Answer("it has another action"));
        }
        read(&envelope, staged)
    }
}

/// A code of ours, which may stand in the journal; what a peer writes else may not.
fn is_code(code: &str) -> bool {
    code.len() <= 16 && code.starts_with("IDR-") && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A request that was let out; tells the breaker what came of it.
struct Pass<'a> {
    remote: &'a Remote,
    admitted: Admission,
    verdict: Verdict,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut breaker = self.remote.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if breaker.record(self.admitted, self.verdict, self.remote.began.elapsed()) {
            tracing::error!(peer = %self.remote.id, "another community or repository failed several times in a row; it is not asked for a while");
        }
    }
}

/// XDSUnavailableCommunity (09 §3.1).
pub fn unavailable(central: &Central, home: &str, location: Option<&str>) -> RegistryProblem {
    let keys = [(Key::Home, home.to_owned())];
    central.errors.problem("H-11", "XDSUnavailableCommunity", "community did not answer", &keys, location.map(str::to_owned))
}

/// Status and errors of an answer, if a registry may say so and within bounds.
fn judged(errors_max: usize, registry: &RegistryResponse) -> Result<(), Cause> {
    let long = |error: &RegistryError| {
        error.error_code.len() > TEXT_MAX
            || error.code_context.len() > TEXT_MAX
            || error.location.as_ref().is_some_and(|location| location.len() > TEXT_MAX)
    };
    if !registry.is_consistent() {
        return Err(Cause::Answer("its status and its errors contradict each other"));
    }
    if registry.errors.len() > errors_max || registry.errors.iter().any(long) {
        return Err(Cause::Answer("it has more errors, or longer ones, than allowed"));
    }
    Ok(())
}

/// Bytes of a text in an error of another registry.
const TEXT_MAX: usize = 4096;

#[cfg(test)]
pub(crate) mod tests;
