//! One instance on its way in: bytes to scanner and spool as they come, then judgement, commit, answer.
//!
//! The order is that of profile 01 §2: bytes are written while stage S runs, stage I follows the last byte, record and R1
//! go into the same file, file and name become durable, and only then the answer leaves. What is refused leaves nothing
//! but its journal line.
//!
//! # Failure
//! The spool refuses: A700H. A write or sync fails: 0110H. A fault inside the evaluator: 0110H. In each case the rest of
//! the data set is read and dropped, so that the association stays usable.
//!
//! # Bounds
//! The scanner's, from the rule set; the writer holds at most two buffers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use idr_dimse::association::Context as PresentationContext;
use idr_dimse::service::storage::{Outcome, StoreRequest};
use idr_dimse::status::Status;
use idr_profile::rules::{Context, Disposition, Finding, Rules, Source, Verdict};
use idr_profile::scan::{Scan, Scanner};

use crate::admission::{Admitted, Ingress, Peer};
use crate::config::Inbound;
use crate::spool::{Announced, Cause, Facts, SpoolError, State, Writer};

/// One instance while its bytes come.
pub struct Reception {
    ingress: Arc<Ingress>,
    row: Arc<Inbound>,
    rules: Arc<Rules>,
    calling_ae: String,
    abstract_syntax: String,
    sop_class_uid: String,
    sop_instance_uid: String,
    scanner: Option<Scanner>,
    place: Place,
}

/// Where the bytes go.
enum Place {
    Open(Box<dyn Writer>),
    /// Nowhere: the data set is not acceptable, the scan says why.
    Dropped,
    /// Nowhere: the spool failed or refuses.
    Failed(Outcome),
}

impl Reception {
    /// Opens a place in the spool. Nothing is answered yet, whatever happens: the data set is read first.
    pub async fn begin(
        ingress: Arc<Ingress>,
        admitted: &Admitted,
        peer: &Peer,
        context: &PresentationContext,
        request: &StoreRequest,
    ) -> Self {
        let rules = admitted.rules.clone();
        let sop_class_uid = request.sop_class_uid.clone().unwrap_or_default();
        let sop_instance_uid = request.sop_instance_uid.clone().unwrap_or_default();
        let announced = Announced {
            tenant: admitted.tenant.clone(),
            inbound: admitted.row.name.clone(),
            calling_ae: admitted.calling_ae.clone(),
            called_ae: admitted.called_ae.clone(),
            peer_address: Some(peer.address),
            tls_peer_sha256: peer.certificate_sha256.clone(),
            sop_class_uid: sop_class_uid.clone(),
            sop_instance_uid: sop_instance_uid.clone(),
            transfer_syntax_uid: context.transfer_syntax.clone(),
        };
        // What cannot even be announced (a UID that is none) is judged by the rules, not kept.
        let place = match announced.check() {
            Err(_) => Place::Dropped,
            Ok(()) => match ingress.spool.open(announced).await {
                Ok(writer) => Place::Open(writer),
                Err(error) => Place::Failed(failed(&error)),
            },
        };
        Self {
            scanner: Some(Scanner::new(&context.transfer_syntax, rules.parameters().limits())),
            row: admitted.row.clone(),
            calling_ae: admitted.calling_ae.clone(),
            abstract_syntax: context.abstract_syntax.clone(),
            ingress,
            rules,
            sop_class_uid,
            sop_instance_uid,
            place,
        }
    }

    /// The next bytes of the data set.
    pub async fn feed(&mut self, bytes: &[u8]) {
        let Some(scanner) = &mut self.scanner else { return };
        let rejected = catch_unwind(AssertUnwindSafe(|| {
            scanner.feed(bytes);
            scanner.failed()
        }));
        match rejected.ok() {
            Some(false) => {}
            // Stage S has its answer; the rest of the data set passes by.
            Some(true) => self.give_up().await,
            // A fault of ours: answered after the last byte.
            None => {
                self.scanner = None;
                self.give_up().await;
            }
        }
        if let Place::Open(writer) = &mut self.place
            && let Err(error) = writer.write(bytes).await
            && let Place::Open(writer) = std::mem::replace(&mut self.place, Place::Failed(failed(&error)))
        {
            writer.discard().await;
        }
    }

    /// The association ended before the last byte (D014): what came is given up.
    pub async fn abort(mut self: Box<Self>) {
        if let Some(finding) = self.rules.occurrence(idr_profile::rules::Occurrence::TransferAborted, (self.ingress.clock)()) {
            tracing::warn!(rule = finding.rule, calling_ae_title = self.calling_ae, remedy = finding.remedy, "{}", finding.comment);
        }
        if let Place::Open(writer) = std::mem::replace(&mut self.place, Place::Dropped) {
            writer.discard().await;
        }
    }

    /// Judges, commits and gives the answer.
    pub async fn finish(mut self: Box<Self>) -> Outcome {
        let received = (self.ingress.clock)();
        let judged = self.scanner.take().and_then(|scanner| {
            let judge = AssertUnwindSafe(|| {
                let scan = scanner.finish();
                let verdict = self.judge(&scan, received);
                (scan, verdict)
            });
            catch_unwind(judge).ok()
        });
        let Some((scan, verdict)) = judged else {
            tracing::error!(
                calling_ae_title = self.calling_ae,
                "the evaluation of an instance ended by a fault; answered 0110H, nothing stored"
            );
            self.ingress.counters.objects_failed.add(1);
            self.give_up().await;
            return Outcome::new(Status::PROCESSING_FAILURE);
        };
        self.journal(&verdict, &scan);
        let place = std::mem::replace(&mut self.place, Place::Dropped);
        let quarantined = match &verdict.disposition {
            Disposition::Refuse(answer) => {
                if let Place::Open(writer) = place {
                    writer.discard().await;
                }
                self.ingress.counters.objects_refused.add(1);
                return Outcome {
                    status: Status(answer.status),
                    offending_elements: answer.offending.clone(),
                    error_comment: answer.comment.clone(),
                };
            }
            Disposition::Quarantine => true,
            Disposition::Accept => false,
        };
        let writer = match place {
            Place::Open(writer) => writer,
            Place::Failed(outcome) => {
                self.ingress.counters.objects_failed.add(1);
                return outcome;
            }
            Place::Dropped => {
                // Not reached: a failed scan and an announcement that cannot be kept are refused by locked rules.
                tracing::error!(
                    calling_ae_title = self.calling_ae,
                    "an instance passed the rules although its bytes were dropped; answered 0110H"
                );
                self.ingress.counters.objects_failed.add(1);
                return Outcome::new(Status::PROCESSING_FAILURE);
            }
        };
        let bytes = writer.size_bytes();
        match self.facts(&verdict, received, quarantined) {
            None => {
                // Not reached: the rules that demand the UIDs are locked.
                tracing::error!(calling_ae_title = self.calling_ae, "an instance passed the rules without its UIDs; answered 0110H");
                self.ingress.counters.objects_failed.add(1);
                writer.discard().await;
                Outcome::new(Status::PROCESSING_FAILURE)
            }
            Some(facts) => match writer.commit(facts).await {
                Ok(committed) => {
                    self.ingress.counters.objects_stored.add(1);
                    self.ingress.counters.bytes_stored.add(bytes);
                    if committed.repeated {
                        tracing::info!(object = %committed.id, calling_ae_title = self.calling_ae, "the same bytes were handed over before; the first copy stands");
                    }
                    Outcome::new(Status(verdict.success_status))
                }
                Err(error) => {
                    self.ingress.counters.objects_failed.add(1);
                    failed(&error)
                }
            },
        }
    }

    fn judge(&self, scan: &Scan, received: jiff::Timestamp) -> Verdict {
        let source = Source::Dimse {
            affected_class: &self.sop_class_uid,
            affected_instance: &self.sop_instance_uid,
            abstract_syntax: &self.abstract_syntax,
        };
        let context = Context {
            received,
            source,
            patient_id_issuer: self.row.patient_id_issuer.as_deref(),
            accession_issuer: self.row.accession_issuer.as_deref(),
            refuse_to_quarantine: self.row.refuse_to_quarantine,
            organisation_oids: &self.ingress.organisation_oids,
        };
        self.rules.judge_instance(scan, &context)
    }

    fn facts(&self, verdict: &Verdict, received: jiff::Timestamp, quarantined: bool) -> Option<Facts> {
        let identity = verdict.identity.as_ref()?;
        let mut findings: Vec<String> = verdict.findings.iter().map(|finding| finding.rule.clone()).collect();
        findings.sort();
        findings.dedup();
        findings.truncate(32);
        let state = if quarantined {
            let rule = verdict.findings.iter().find(|finding| finding.level.rejects())?;
            State::Quarantined(rule.rule.parse().ok()?)
        } else if self.row.forward_early {
            State::Queued
        } else {
            State::Held(Cause::incomplete())
        };
        Some(Facts {
            received,
            study_uid: identity.study_uid.clone(),
            series_uid: identity.series_uid.clone(),
            // What is no CS value is in no list of modalities either: it is not a reason to lose the object.
            modality: identity.modality.clone().filter(|text| is_code_string(text)),
            patient_id: identity.patient_id.clone(),
            accession_present: identity.accession_number.is_some(),
            rule_set: self.rules.rule_set.clone(),
            findings,
            controller: None,
            register: None,
            service_event: None,
            state,
        })
    }

    /// All findings go to the journal, by rule; no value of the object does.
    fn journal(&self, verdict: &Verdict, scan: &Scan) {
        let refused = verdict.refused().is_some();
        for Finding { rule, level, comment, remedy, tags, rule_set, .. } in &verdict.findings {
            if level.rejects() {
                tracing::warn!(
                    rule,
                    ?level,
                    rule_set,
                    ?tags,
                    calling_ae_title = self.calling_ae,
                    sop_class = self.abstract_syntax,
                    bytes = scan.data_set_bytes,
                    refused,
                    remedy,
                    "{comment}"
                );
            } else {
                tracing::debug!(rule, ?level, rule_set, ?tags, calling_ae_title = self.calling_ae, "{comment}");
            }
        }
    }

    async fn give_up(&mut self) {
        if let Place::Open(writer) = std::mem::replace(&mut self.place, Place::Dropped) {
            writer.discard().await;
        }
    }
}

/// 1–16 characters of the default repertoire (PS3.5 §6.2, VR CS, case aside).
fn is_code_string(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// A700H or 0110H (profile 01 §2), and one line for the operator.
fn failed(error: &SpoolError) -> Outcome {
    tracing::error!(cause = %error, remedy = error.remedy(), "an instance could not be kept");
    Outcome::new(if error.is_out_of_resources() { Status::OUT_OF_RESOURCES } else { Status::PROCESSING_FAILURE })
}
