//! A modality: a Storage SCU over our own requestor machine, on TCP or TLS.
//!
//! [`Modality::send`] opens associations, sends every object once and reports each answer as it comes. An object whose
//! answer did not come stays [`Answer::Unanswered`]: a real modality keeps it and sends it again, and so do the callers.
//!
//! Data sets are sent from where they are, or made while they are sent ([`DataSet::Made`]), so that an object may be larger
//! than memory.

mod association;
mod file;
mod object;
pub mod procedure_step;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use idr_dimse::association::negotiation::{ContextResult, UserIdentity};
use idr_dimse::service::storage::Outcome;
use idr_dimse::status::Status;
use rustls::ClientConfig;

pub use association::{Association, AssociationError};
pub use file::{Exported, export};
pub use object::{DataSet, Large, Outgoing};

/// Most presentation contexts of one association (PS3.8 §9.3.2.2: odd identifiers 1–255).
const CONTEXTS_MAX: usize = 128;

/// Where a modality sends, and as whom.
#[derive(Clone)]
pub struct Modality {
    /// The listener.
    pub address: SocketAddr,
    /// TLS, with or without an own certificate; `None`: plain.
    pub tls: Option<Arc<ClientConfig>>,
    /// Calling AE title.
    pub calling: String,
    /// Called AE title.
    pub called: String,
    /// User identity, for the centre.
    pub identity: Option<UserIdentity>,
}

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// C-STORE-RSP.
    Status(Outcome),
    /// Its presentation context was not accepted.
    NotNegotiated(ContextResult),
    /// The association ended before the answer.
    Unanswered,
}

impl Answer {
    /// Success or warning: the sender may delete its copy.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Status(outcome) if outcome.status.is_done())
    }

    /// Status of the response.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status(outcome) => Some(outcome.status),
            _ => None,
        }
    }
}

/// One answer, as it comes.
#[derive(Debug, Clone)]
pub struct Report {
    /// Index of the object in the list that was sent.
    pub index: usize,
    /// What became of it.
    pub answer: Answer,
    /// From the first byte of the request to the answer.
    pub took: Duration,
}

/// The end of a transfer.
#[derive(Debug)]
pub struct Transfer {
    /// One per object, in order.
    pub answers: Vec<Answer>,
    /// Why associations ended early.
    pub failures: Vec<AssociationError>,
}

impl Transfer {
    /// Indexes of the objects without an answer.
    pub fn unanswered(&self) -> Vec<usize> {
        (0..self.answers.len()).filter(|index| self.answers[*index] == Answer::Unanswered).collect()
    }
}

impl Modality {
    /// C-ECHO on an own association.
    ///
    /// # Errors
    /// [`AssociationError`], also when the peer answers with a failure.
    pub async fn echo(&self) -> Result<(), AssociationError> {
        let contexts =
            [(dicom_dictionary_std::uids::VERIFICATION.to_owned(), vec![dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()])];
        let mut association = Association::open(self, &contexts).await?;
        association.echo().await?;
        association.release().await
    }

    /// Sends `objects` once each over `associations` at the same time, each taking the next that is left.
    pub async fn send(
        &self,
        objects: &Arc<[Outgoing]>,
        associations: usize,
        progress: impl Fn(Report) + Clone + Send + 'static,
    ) -> Transfer {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..associations {
            let (modality, objects, next, progress) = (self.clone(), objects.clone(), next.clone(), progress.clone());
            tasks.spawn(async move { modality.work(&objects, &next, progress).await });
        }
        let mut transfer = Transfer { answers: vec![Answer::Unanswered; objects.len()], failures: Vec::new() };
        while let Some(done) = tasks.join_next().await {
            let (answers, failure) = done.expect("a sender does not panic");
            for (index, answer) in answers {
                transfer.answers[index] = answer;
            }
            transfer.failures.extend(failure);
        }
        transfer
    }

    async fn work(
        &self,
        objects: &[Outgoing],
        next: &AtomicUsize,
        progress: impl Fn(Report),
    ) -> (Vec<(usize, Answer)>, Option<AssociationError>) {
        let contexts: BTreeSet<(String, String)> =
            objects.iter().map(|object| (object.sop_class.clone(), object.transfer_syntax.clone())).collect();
        let contexts: Vec<_> = contexts.into_iter().take(CONTEXTS_MAX).map(|(class, syntax)| (class, vec![syntax])).collect();
        let mut answers = Vec::new();
        let mut association = match Association::open(self, &contexts).await {
            Ok(association) => association,
            Err(error) => return (answers, Some(error)),
        };
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(object) = objects.get(index) else { break };
            let begin = Instant::now();
            match association.store(object).await {
                Ok(answer) => {
                    progress(Report { index, answer: answer.clone(), took: begin.elapsed() });
                    answers.push((index, answer));
                }
                Err(error) => return (answers, Some(error)),
            }
        }
        let released = association.release().await;
        (answers, released.err())
    }
}
