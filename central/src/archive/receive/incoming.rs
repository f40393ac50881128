//! One instance on its way: front, walk, digest and staging in one pass; then the verdict, the durable bytes, the commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use idr_profile::digest::Digester;
use idr_profile::receipt::{ReceiptHash, Source};
use idr_profile::rules::{Disposition, Verdict};
use idr_profile::scan::{Part10Reader, tags};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::{Cause, NOT_AUTHORIZED, OUT_OF_RESOURCES, Outcome, PROCESSING_FAILURE, Received, Storing, date};
use crate::assertion::Authenticated;
use crate::objects::{ObjectError, ObjectKey, ObjectWriter};
use crate::store::instances::{Arrival, NewInstance};

/// What a part says of its instance before the first byte.
#[derive(Debug, Clone, Default)]
pub struct Announced {
    /// Number of the part, from 0.
    pub part: usize,
    /// Parameter `transfer-syntax` of its Content-Type.
    pub transfer_syntax: Option<String>,
    /// Hash of the R1 from `IDR-Receipt`.
    pub acceptance: Option<ReceiptHash>,
}

enum Staged {
    Open(ObjectWriter),
    /// Stage S has its answer; the rest of the bytes passes by.
    Dropped,
    Failed(Outcome),
}

/// One instance on its way. Dropping it leaves nothing.
pub struct Incoming {
    storing: Arc<Storing>,
    announced: Announced,
    reader: Part10Reader,
    digester: Option<Digester>,
    received: u64,
    data_set_bytes: u64,
    staged: Staged,
    _place: OwnedSemaphorePermit,
}

impl Incoming {
    pub(super) async fn begin(storing: Arc<Storing>, announced: Announced) -> Self {
        let central = &storing.central;
        let place = central.receiving.clone().acquire_owned().await.expect("the semaphore is never closed");
        let staged = if central.space.is_short() || central.audit.refusing().is_some() {
            Staged::Failed(Outcome::failed(OUT_OF_RESOURCES, Cause::Resources))
        } else {
            match central.objects.create(ObjectKey::new(central.new_id())).await {
                Ok(writer) => Staged::Open(writer),
                Err(error) => Staged::Failed(object_failed(&error)),
            }
        };
        let reader = Part10Reader::new(storing.rules.parameters().limits());
        Self { storing, announced, reader, digester: None, received: 0, data_set_bytes: 0, staged, _place: place }
    }

    /// The next bytes, in order; waits while the storage is behind.
    pub async fn feed(&mut self, bytes: Bytes) {
        self.received += bytes.len() as u64;
        let fed = self.reader.feed(&bytes);
        if self.digester.is_none() {
            self.digester = self.reader.file_meta().and_then(|meta| meta.data_set().uid(tags::TRANSFER_SYNTAX_UID)).map(Digester::new);
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&fed.carried);
            digester.update(fed.rest);
        }
        self.data_set_bytes += (fed.carried.len() + fed.rest.len()) as u64;
        if self.reader.failed() {
            self.give_up(Staged::Dropped).await;
        }
        if let Staged::Open(writer) = &mut self.staged
            && let Err(error) = writer.write(bytes).await
        {
            self.give_up(Staged::Failed(object_failed(&error))).await;
        }
    }

    async fn give_up(&mut self, instead: Staged) {
        if matches!(self.staged, Staged::Open(_))
            && let Staged::Open(writer) = std::mem::replace(&mut self.staged, instead)
        {
            writer.discard().await;
        }
    }

    /// The body ended before this instance did: what came of it is given up.
    pub async fn abort(mut self) -> Received {
        self.give_up(Staged::Dropped).await;
        let meta = self.reader.file_meta().map(|meta| meta.data_set());
        let uid = |tag| meta.as_ref().and_then(|meta| meta.uid(tag)).and_then(readable);
        Received {
            part: self.announced.part,
            sop_class_uid: uid(tags::MEDIA_STORAGE_SOP_CLASS_UID),
            sop_instance_uid: uid(tags::MEDIA_STORAGE_SOP_INSTANCE_UID),
            outcome: Outcome::failed(PROCESSING_FAILURE, Cause::Fault),
        }
    }

    /// The last byte has come: judges, stores, and says what became of it.
    pub async fn finish(mut self) -> Received {
        let storing = self.storing.clone();
        let (counters, received) = (&storing.central.counters, storing.central.now());
        let reader = std::mem::replace(&mut self.reader, Part10Reader::new(self.storing.rules.parameters().limits()));
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let scan = reader.finish();
            let verdict = storing.judge(&scan, &self.announced, received);
            (scan, verdict)
        }));
        let (mut sop_class_uid, mut sop_instance_uid) = (None, None);
        let outcome = match judged {
            Err(_) => {
                tracing::error!(code = "IDR-B-04", "the evaluation of an instance ended by a fault; answered 0110H, nothing stored");
                self.give_up(Staged::Dropped).await;
                Outcome::failed(PROCESSING_FAILURE, Cause::Fault)
            }
            Ok((scan, verdict)) => {
                let (own, meta) = (scan.data_set(), scan.file_meta.as_ref().map(|meta| meta.data_set()));
                // The data set's own, else what file meta announced.
                let uid = |tag, announced| own.uid(tag).or_else(|| meta.as_ref()?.uid(announced)).and_then(readable);
                sop_class_uid = uid(tags::SOP_CLASS_UID, tags::MEDIA_STORAGE_SOP_CLASS_UID);
                sop_instance_uid = uid(tags::SOP_INSTANCE_UID, tags::MEDIA_STORAGE_SOP_INSTANCE_UID);
                storing.journal(&verdict, &scan);
                self.decided(&verdict, received).await
            }
        };
        match &outcome {
            Outcome::Stored { .. } => {}
            Outcome::Failed { cause: Cause::Rule | Cause::Identity(_) | Cause::MediaType, .. } => counters.instances_refused.add(1),
            Outcome::Failed { cause: Cause::Resources | Cause::Fault, .. } => counters.instances_failed.add(1),
        }
        Received { part: self.announced.part, sop_class_uid, sop_instance_uid, outcome }
    }

    async fn decided(&mut self, verdict: &Verdict, now: Timestamp) -> Outcome {
        if let Disposition::Refuse(answer) = &verdict.disposition {
            self.give_up(Staged::Dropped).await;
            return Outcome::Failed { reason: answer.status, comment: Some(answer.comment.clone()), cause: Cause::Rule };
        }
        let writer = match std::mem::replace(&mut self.staged, Staged::Dropped) {
            Staged::Open(writer) => writer,
            Staged::Failed(outcome) => return outcome,
            Staged::Dropped => {
                // Not reached: a walk that failed is refused by a locked rule.
                tracing::error!("an instance passed the rules although its bytes were dropped; answered 0110H");
                return Outcome::failed(PROCESSING_FAILURE, Cause::Fault);
            }
        };
        // Not reached without either: UIDs and the transfer syntax are demanded by locked rules.
        let (Some(identity), Some(digester)) = (&verdict.identity, self.digester.take()) else {
            writer.discard().await;
            return Outcome::failed(PROCESSING_FAILURE, Cause::Fault);
        };
        let admitted = match self.storing.admit(identity, now) {
            Ok(admitted) => admitted,
            Err((rule, refusal)) => {
                writer.discard().await;
                self.storing.record_refusal(rule, refusal).await;
                return Outcome::failed(NOT_AUTHORIZED, Cause::Identity(refusal));
            }
        };
        let written = match writer.finish().await {
            Ok(written) => written,
            Err(error) => return object_failed(&error),
        };
        if let Err(error) = self.storing.open_record(&identity.study_uid, &admitted).await {
            tracing::error!(cause = %error, "nothing is stored without its record");
            self.storing.discard(written.key()).await;
            return Outcome::failed(OUT_OF_RESOURCES, Cause::Resources);
        }
        let new = NewInstance {
            sop_instance_uid: identity.sop_instance_uid.clone(),
            sop_class_uid: identity.sop_class_uid.clone(),
            study_uid: identity.study_uid.clone(),
            series_uid: identity.series_uid.clone(),
            transfer_syntax_uid: identity.transfer_syntax_uid.clone(),
            digest: digester.finish(),
            size_bytes: self.data_set_bytes,
            object_key: written.key().clone(),
            object_size: written.size(),
            data_set_offset: self.received - self.data_set_bytes,
            patient: admitted.patient,
            stored_under: self.storing.under.clone(),
            study_date: identity.study_date.as_deref().and_then(date),
            stored_by: self.storing.who.claims().issuer_organisation.clone(),
            source: source_of(&self.storing.who),
            acceptance: self.announced.acceptance,
            enforced: self.storing.enforced.clone(),
        };
        let arrival = self.storing.central.committer.commit(new).await;
        // After an error nobody knows whether the commit is durable: the sweep removes what no row names.
        if matches!(&arrival, Ok(arrival) if !matches!(arrival, Arrival::New { .. })) {
            self.storing.discard(written.key()).await;
        }
        self.storing.arrived(arrival, self.data_set_bytes, verdict, identity, now).await
    }
}

/// Who handed it over, for the receipts: over HTTP there is no AE title.
fn source_of(who: &Authenticated) -> Source {
    let sha256 = hex::decode(&*who.asked.client.sha256).ok().and_then(|bytes| bytes.try_into().ok());
    Source { calling_ae_title: None, certificate_sha256: sha256 }
}

/// A UID that can stand in an answer.
fn readable(uid: &str) -> Option<String> {
    let fits = (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| uid.to_owned())
}

/// A700H or 0110H.
fn object_failed(error: &ObjectError) -> Outcome {
    tracing::error!(cause = %error, "an instance could not be staged");
    if is_full(error) { Outcome::failed(OUT_OF_RESOURCES, Cause::Resources) } else { Outcome::failed(PROCESSING_FAILURE, Cause::Fault) }
}

fn is_full(error: &ObjectError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
