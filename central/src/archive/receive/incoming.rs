//! One instance on its way: front, walk, digest and staging in one pass; then the verdict, the durable bytes, the commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use idr_profile::digest::Digester;
use idr_profile::receipt::{ReceiptHash, Source};
use idr_profile::rules::{self, Disposition, Verdict};
use idr_profile::scan::{Header, Part10Reader, Scan, Scanner, tags};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::{Cause, NOT_AUTHORIZED, OUT_OF_RESOURCES, Outcome, PROCESSING_FAILURE, Received, Storing, date};
use crate::archive::retrieve::head;
use crate::assertion::Authenticated;
use crate::https::stow::is_uid;
use crate::objects::{ObjectError, ObjectKey, ObjectWriter};
use crate::store::instances::{Arrival, NewInstance};

/// What is known of an instance before its first byte.
#[derive(Debug, Clone)]
pub struct Announced {
    /// Number of the part, or of the C-STORE of its association, from 0.
    pub part: usize,
    /// How it comes.
    pub way: Way,
    /// Hash of the R1 from `IDR-Receipt`; by C-STORE none travels (11 §3).
    pub acceptance: Option<ReceiptHash>,
}

/// How an instance comes.
#[derive(Debug, Clone)]
pub enum Way {
    /// As a part of a STOW-RS request, a Part 10 stream.
    Stow {
        /// Parameter `transfer-syntax` of the part's Content-Type.
        transfer_syntax: Option<String>,
    },
    /// By C-STORE: its data set.
    Dimse {
        /// Affected SOP Class UID (0000,0002); empty if absent.
        affected_class: String,
        /// Affected SOP Instance UID (0000,1000); empty if absent.
        affected_instance: String,
        /// Abstract syntax of the presentation context.
        abstract_syntax: String,
        /// Its transfer syntax.
        transfer_syntax: String,
        /// Who calls, for the receipts.
        calling_ae_title: String,
    },
}

impl Way {
    pub(super) fn source<'a>(&'a self, url_study: Option<&'a str>) -> rules::Source<'a> {
        match self {
            Self::Stow { transfer_syntax } => rules::Source::Stow { url_study, part_transfer_syntax: transfer_syntax.as_deref() },
            Self::Dimse { affected_class, affected_instance, abstract_syntax, .. } => {
                rules::Source::Dimse { affected_class, affected_instance, abstract_syntax }
            }
        }
    }

    /// What stands before the data set in the object: nothing if it is in the bytes; `None`: UIDs that no file meta can have, which
    /// a locked rule refuses.
    fn head(&self) -> Option<Vec<u8>> {
        match self {
            Self::Stow { .. } => Some(Vec::new()),
            Self::Dimse { affected_class, affected_instance, transfer_syntax, .. } => {
                let uids = [affected_class, affected_instance, transfer_syntax];
                uids.iter().all(|uid| is_uid(uid)).then(|| head(affected_class, affected_instance, transfer_syntax))
            }
        }
    }
}

/// What looks at the bytes.
enum Walk {
    Part10(Box<Part10Reader>),
    DataSet(Box<Scanner>),
}

impl Walk {
    fn failed(&self) -> bool {
        match self {
            Self::Part10(reader) => reader.failed(),
            Self::DataSet(scanner) => scanner.failed(),
        }
    }

    fn file_meta(&self) -> Option<&Header> {
        match self {
            Self::Part10(reader) => reader.file_meta(),
            Self::DataSet(_) => None,
        }
    }

    fn finish(self) -> Scan {
        match self {
            Self::Part10(reader) => reader.finish(),
            Self::DataSet(scanner) => scanner.finish(),
        }
    }
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
    walk: Option<Walk>,
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
        let mut staged = if central.space.is_short() || central.audit.refusing().is_some() {
            Staged::Failed(Outcome::failed(OUT_OF_RESOURCES, Cause::Resources))
        } else {
            match central.objects.create(ObjectKey::new(central.new_id())).await {
                Ok(writer) => Staged::Open(writer),
                Err(error) => Staged::Failed(object_failed(&error)),
            }
        };
        let limits = storing.rules.parameters().limits();
        let (walk, digester) = match &announced.way {
            Way::Stow { .. } => (Walk::Part10(Box::new(Part10Reader::new(limits))), None),
            Way::Dimse { transfer_syntax, .. } => {
                (Walk::DataSet(Box::new(Scanner::new(transfer_syntax, limits))), Some(Digester::new(transfer_syntax)))
            }
        };
        let head = announced.way.head();
        let received = head.as_ref().map_or(0, |head| head.len() as u64);
        if let Staged::Open(mut writer) = staged {
            staged = match head {
                None => {
                    writer.discard().await;
                    Staged::Dropped
                }
                Some(head) if head.is_empty() => Staged::Open(writer),
                Some(head) => match writer.write(head.into()).await {
                    Ok(()) => Staged::Open(writer),
                    Err(error) => {
                        writer.discard().await;
                        Staged::Failed(object_failed(&error))
                    }
                },
            };
        }
        Self { storing, announced, walk: Some(walk), digester, received, data_set_bytes: 0, staged, _place: place }
    }

    /// The next bytes, in order; waits while the storage is behind.
    pub async fn feed(&mut self, bytes: Bytes) {
        self.received += bytes.len() as u64;
        let Some(walk) = &mut self.walk else { return };
        match walk {
            Walk::Part10(reader) => {
                let fed = reader.feed(&bytes);
                if self.digester.is_none() {
                    self.digester = reader.file_meta().and_then(|meta| meta.data_set().uid(tags::TRANSFER_SYNTAX_UID)).map(Digester::new);
                }
                if let Some(digester) = &mut self.digester {
                    digester.update(&fed.carried);
                    digester.update(fed.rest);
                }
                self.data_set_bytes += (fed.carried.len() + fed.rest.len()) as u64;
            }
            Walk::DataSet(scanner) => {
                scanner.feed(&bytes);
                self.digester.iter_mut().for_each(|digester| digester.update(&bytes));
                self.data_set_bytes += bytes.len() as u64;
            }
        }
        if walk.failed() {
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
        let meta = self.walk.as_ref().and_then(Walk::file_meta).map(|meta| meta.data_set());
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
        let judged = self.walk.take().and_then(|walk| {
            let judge = AssertUnwindSafe(|| {
                let scan = walk.finish();
                let verdict = storing.judge(&scan, &self.announced, received);
                (scan, verdict)
            });
            catch_unwind(judge).ok()
        });
        let (mut sop_class_uid, mut sop_instance_uid) = (None, None);
        let outcome = match judged {
            None => {
                tracing::error!(code = "IDR-B-04", "the evaluation of an instance ended by a fault; answered 0110H, nothing stored");
                self.give_up(Staged::Dropped).await;
                Outcome::failed(PROCESSING_FAILURE, Cause::Fault)
            }
            Some((scan, verdict)) => {
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
            return Outcome::Failed {
                reason: answer.status,
                comment: Some(answer.comment.clone()),
                offending: answer.offending.clone(),
                cause: Cause::Rule,
            };
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
            source: source_of(&self.storing.who, &self.announced.way),
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
fn source_of(who: &Authenticated, way: &Way) -> Source {
    let sha256 = hex::decode(&*who.asked.client.sha256).ok().and_then(|bytes| bytes.try_into().ok());
    let calling_ae_title = match way {
        Way::Stow { .. } => None,
        Way::Dimse { calling_ae_title, .. } => Some(calling_ae_title.clone()),
    };
    Source { calling_ae_title, certificate_sha256: sha256 }
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
