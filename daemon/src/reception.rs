//! One instance on its way in: bytes to scanner and spool as they come, then judgement, commit, answer.
//!
//! By C-STORE ([`Reception::begin`]) the bytes are the data set, announced by the command set; from a Part 10 stream, a
//! file of a drop folder or a part of a STOW-RS request ([`Reception::begin_part10`]), file meta announces it, and the place in the spool is opened when that is read.
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
//! The scanner's, from the rule set, and for all receptions together [`crate::header_memory`]: one that has no room for more of a
//! header waits before it reads on, and with it its sender. The writer holds at most two buffers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use idr_dimse::association::Context as PresentationContext;
use idr_dimse::service::storage::{Outcome, StoreRequest};
use idr_dimse::status::Status;
use idr_profile::rules::study::accession_name;
use idr_profile::rules::{Context, Disposition, Finding, Rules, Source, Stage, Verdict};
use idr_profile::scan::{Fed, Header, Part10Reader, Scan, Scanner, tags};
use tokio::time::Instant;

use crate::admission::{Admitted, InForce, Ingress, Peer};
use crate::config::{Inbound, Priority};
use crate::header_memory::Held;
use crate::health::Ingested;
use crate::spool::{Announced, Cause, Facts, SpoolError, State, Tenant, Writer, fits};

/// One instance while its bytes come.
pub struct Reception {
    ingress: Arc<Ingress>,
    row: Arc<Inbound>,
    in_force: Arc<InForce>,
    rules: Arc<Rules>,
    calling_ae: String,
    ingested: Arc<Ingested>,
    began: Instant,
    /// SOP class, instance and transfer syntax are empty until file meta is read.
    announced: Announced,
    way: Way,
    walk: Option<Walk>,
    memory: Held,
    place: Place,
}

/// How the instance comes.
enum Way {
    Dimse { abstract_syntax: String },
    Stow { url_study: Option<String>, part_transfer_syntax: Option<String> },
    DropFolder,
}

/// What looks at the bytes.
enum Walk {
    DataSet(Box<Scanner>),
    Part10(Box<Part10Reader>),
}

/// Who hands over a file: what the association says of an instance that comes by C-STORE.
pub struct Origin {
    /// Its row.
    pub row: Arc<Inbound>,
    /// Its organisation.
    pub tenant: Tenant,
    /// What was in force when it was taken.
    pub in_force: Arc<InForce>,
    /// Rules that apply to it.
    pub rules: Arc<Rules>,
    /// Title that stands for this site, 1–16 characters.
    pub called_ae: String,
}

/// How a Part 10 stream comes.
pub enum Carried {
    /// As a file of a drop folder.
    DropFolder,
    /// As a part of a STOW-RS request.
    Stow {
        /// Who sends it.
        peer: Peer,
        /// `{uid}` of `/studies/{uid}`.
        url_study: Option<String>,
        /// `transfer-syntax` of the part's Content-Type.
        part_transfer_syntax: Option<String>,
    },
}

/// What became of an instance.
pub struct Received {
    /// (0008,0016), else (0002,0002), if it is a UID.
    pub sop_class_uid: Option<String>,
    /// (0008,0018), else (0002,0003), if it is a UID.
    pub sop_instance_uid: Option<String>,
    /// The answer, where there is somebody to answer.
    pub outcome: Outcome,
    /// Where it is now.
    pub fate: Fate,
}

/// Where an instance is after its judgement.
pub enum Fate {
    /// In the spool, durably, with its R1; perhaps since an earlier hand-over of the same bytes.
    Kept {
        /// A rule keeps it from being forwarded.
        quarantined: bool,
    },
    /// Not here: the rules that failed.
    Refused(Vec<Finding>),
    /// Not here, by no fault of the instance.
    Failed,
}

/// Where the bytes go.
enum Place {
    /// Nowhere yet: file meta is being read.
    Announcing,
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
        let announced = Announced {
            tenant: admitted.tenant.clone(),
            inbound: admitted.row.name.clone(),
            calling_ae: admitted.calling_ae.clone(),
            called_ae: admitted.called_ae.clone(),
            peer_address: Some(peer.address),
            tls_peer_sha256: peer.certificate_sha256.clone(),
            sop_class_uid: request.sop_class_uid.clone().unwrap_or_default(),
            sop_instance_uid: request.sop_instance_uid.clone().unwrap_or_default(),
            transfer_syntax_uid: context.transfer_syntax.clone(),
        };
        let mut reception = Self {
            walk: Some(Walk::DataSet(Box::new(Scanner::new(&context.transfer_syntax, rules.parameters().limits())))),
            row: admitted.row.clone(),
            in_force: admitted.in_force.clone(),
            calling_ae: admitted.calling_ae.clone(),
            ingested: ingress.counters.of_ae(&admitted.row.ae_title),
            began: Instant::now(),
            way: Way::Dimse { abstract_syntax: context.abstract_syntax.clone() },
            memory: ingress.header_memory.begin(),
            ingress,
            rules,
            announced,
            place: Place::Announcing,
        };
        reception.open().await;
        reception
    }

    /// A Part 10 stream; feed it from its first byte.
    pub fn begin_part10(ingress: Arc<Ingress>, origin: &Origin, carried: Carried) -> Self {
        let (way, peer) = match carried {
            Carried::DropFolder => (Way::DropFolder, None),
            Carried::Stow { peer, url_study, part_transfer_syntax } => (Way::Stow { url_study, part_transfer_syntax }, Some(peer)),
        };
        let announced = Announced {
            tenant: origin.tenant.clone(),
            inbound: origin.row.name.clone(),
            calling_ae: origin.row.ae_title.clone(),
            called_ae: origin.called_ae.clone(),
            peer_address: peer.as_ref().map(|peer| peer.address),
            tls_peer_sha256: peer.and_then(|peer| peer.certificate_sha256),
            sop_class_uid: String::new(),
            sop_instance_uid: String::new(),
            transfer_syntax_uid: String::new(),
        };
        Self {
            walk: Some(Walk::Part10(Box::new(Part10Reader::new(origin.rules.parameters().limits())))),
            row: origin.row.clone(),
            in_force: origin.in_force.clone(),
            rules: origin.rules.clone(),
            calling_ae: origin.row.ae_title.clone(),
            ingested: ingress.counters.of_ae(&origin.row.ae_title),
            began: Instant::now(),
            way,
            memory: ingress.header_memory.begin(),
            ingress,
            announced,
            place: Place::Announcing,
        }
    }

    /// The SOP class that is announced; empty while file meta is being read.
    pub fn sop_class(&self) -> &str {
        &self.announced.sop_class_uid
    }

    async fn open(&mut self) {
        // What cannot even be announced (a UID that is none) is judged by the rules, not kept.
        self.place = match self.announced.check() {
            Err(_) => Place::Dropped,
            Ok(()) => match self.ingress.spool.open(self.announced.clone()).await {
                Ok(writer) => Place::Open(writer),
                Err(error) => Place::Failed(failed(&error)),
            },
        };
    }

    /// The next bytes. Waits while the headers of other objects leave no room for what may come of them.
    pub async fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(walk) = &self.walk
            && !bytes.is_empty()
        {
            let (now, later) = bytes.split_at(walk.step_bytes().min(bytes.len()));
            self.memory.grow_to(walk.memory_bytes_after(now.len())).await;
            self.step(now).await;
            self.memory.settle(self.walk.as_ref().map_or(0, Walk::memory_bytes));
            bytes = later;
        }
    }

    async fn step(&mut self, bytes: &[u8]) {
        let Some(walk) = &mut self.walk else { return };
        let walked = catch_unwind(AssertUnwindSafe(|| {
            let fed = walk.feed(bytes);
            (fed, walk.failed())
        }));
        let Ok((fed, rejected)) = walked else {
            // A fault of ours: answered after the last byte.
            self.walk = None;
            return self.give_up().await;
        };
        if rejected {
            // Stage S has its answer; the rest of the data set passes by.
            return self.give_up().await;
        }
        if matches!(self.place, Place::Announcing)
            && let Some(Walk::Part10(reader)) = &self.walk
            && let Some(meta) = reader.file_meta()
        {
            announce(&mut self.announced, meta);
            self.open().await;
        }
        for bytes in [&fed.carried, fed.rest] {
            if let Place::Open(writer) = &mut self.place
                && !bytes.is_empty()
                && let Err(error) = writer.write(bytes).await
                && let Place::Open(writer) = std::mem::replace(&mut self.place, Place::Failed(failed(&error)))
            {
                writer.discard().await;
            }
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

    /// The file is left alone for now; what came of it is given up.
    pub async fn give_back(mut self) {
        self.give_up().await;
    }

    /// Judges, commits and gives the answer.
    pub async fn finish(self: Box<Self>) -> Outcome {
        self.conclude().await.outcome
    }

    /// Judges, commits and says what became of the instance.
    pub async fn conclude(mut self: Box<Self>) -> Received {
        let (mut sop_class_uid, mut sop_instance_uid) = (None, None);
        let (outcome, fate) = self.become_of((&mut sop_class_uid, &mut sop_instance_uid)).await;
        self.ingress.counters.ingest.observe(self.began.elapsed());
        Received { sop_class_uid, sop_instance_uid, outcome, fate }
    }

    async fn become_of(&mut self, (class, instance): (&mut Option<String>, &mut Option<String>)) -> (Outcome, Fate) {
        let received = (self.ingress.clock)();
        let judged = self.walk.take().and_then(|walk| {
            let judge = AssertUnwindSafe(|| {
                let scan = walk.finish();
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
            self.give_up().await;
            return self.failed(Outcome::new(Status::PROCESSING_FAILURE));
        };
        (*class, *instance) = self.named(&scan);
        self.journal(&verdict, &scan);
        let place = std::mem::replace(&mut self.place, Place::Dropped);
        let quarantined = match &verdict.disposition {
            Disposition::Refuse(answer) => {
                if let Place::Open(writer) = place {
                    writer.discard().await;
                }
                let outcome = Outcome {
                    status: Status(answer.status),
                    offending_elements: answer.offending.clone(),
                    error_comment: answer.comment.clone(),
                };
                return self.refused(outcome, verdict.findings);
            }
            Disposition::Quarantine => true,
            Disposition::Accept => false,
        };
        let facts = self.facts(&verdict, received, quarantined);
        // What stage S rejects is no object that could be read again, and without its UIDs it has no place in the spool: the
        // drop folder keeps the file.
        let unreadable = |finding: &Finding| finding.stage == Stage::S && finding.level.rejects();
        let folder_keeps =
            quarantined && matches!(self.way, Way::DropFolder) && (facts.is_none() || verdict.findings.iter().any(unreadable));
        // The commit needs no header any more.
        drop(scan);
        self.memory.settle(0);
        let (writer, facts) = match (place, facts) {
            (Place::Open(writer), Some(facts)) if !folder_keeps => (writer, facts),
            (Place::Failed(outcome), _) if !folder_keeps => return self.failed(outcome),
            (place, _) => {
                if let Place::Open(writer) = place {
                    writer.discard().await;
                }
                let outcome = Outcome::new(Status::PROCESSING_FAILURE);
                if folder_keeps {
                    return self.refused(outcome, verdict.findings);
                }
                // Not reached: a failed scan, UIDs that are missing and an announcement that cannot be kept are refused by
                // locked rules.
                tracing::error!(
                    calling_ae_title = self.calling_ae,
                    "an instance passed the rules although its bytes or UIDs are not there; answered 0110H"
                );
                return self.failed(outcome);
            }
        };
        let bytes = writer.size_bytes();
        let begin = Instant::now();
        match writer.commit(facts).await {
            Ok(committed) => {
                self.ingress.counters.commit.observe(begin.elapsed());
                self.ingested.stored.add(1);
                self.ingested.stored_bytes.add(bytes);
                if committed.repeated {
                    tracing::info!(object = %committed.id, calling_ae_title = self.calling_ae, "the same bytes were handed over before; the first copy stands");
                }
                (Outcome::new(Status(verdict.success_status)), Fate::Kept { quarantined })
            }
            Err(error) => self.failed(failed(&error)),
        }
    }

    fn refused(&self, outcome: Outcome, findings: Vec<Finding>) -> (Outcome, Fate) {
        self.ingested.refused.add(1);
        (outcome, Fate::Refused(findings))
    }

    fn failed(&self, outcome: Outcome) -> (Outcome, Fate) {
        self.ingested.failed.add(1);
        (outcome, Fate::Failed)
    }

    /// How the instance names itself: its data set, else what announced it.
    fn named(&self, scan: &Scan) -> (Option<String>, Option<String>) {
        let own = scan.data_set();
        let uid =
            |tag, announced: &str| own.uid(tag).filter(|uid| is_uid(uid)).or(Some(announced).filter(|uid| is_uid(uid))).map(str::to_owned);
        (uid(tags::SOP_CLASS_UID, &self.announced.sop_class_uid), uid(tags::SOP_INSTANCE_UID, &self.announced.sop_instance_uid))
    }

    fn judge(&self, scan: &Scan, received: jiff::Timestamp) -> Verdict {
        let source = match &self.way {
            Way::Dimse { abstract_syntax } => Source::Dimse {
                affected_class: &self.announced.sop_class_uid,
                affected_instance: &self.announced.sop_instance_uid,
                abstract_syntax,
            },
            Way::Stow { url_study, part_transfer_syntax } => {
                Source::Stow { url_study: url_study.as_deref(), part_transfer_syntax: part_transfer_syntax.as_deref() }
            }
            Way::DropFolder => Source::DropFolder,
        };
        let context = Context {
            received,
            source,
            patient_id_issuer: self.row.patient_id_issuer.as_deref(),
            accession_issuer: self.row.accession_issuer.as_deref(),
            refuse_to_quarantine: self.row.refuse_to_quarantine,
            organisation_oids: &self.in_force.organisation_oids,
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
            // One that no record can have is not a reason to lose the object either: it waits for whoever knows whose it is.
            patient_id: identity.patient_id.clone().filter(fits),
            accession_present: identity.accession_number.is_some(),
            accession: identity.accession_number.as_deref().map(|number| accession_name(number, identity.accession_issuer.as_deref())),
            rule_set: self.rules.rule_set.clone(),
            findings,
            controller: None,
            register: None,
            service_event: None,
            urgent: self.row.priority == Priority::Urgent,
            state,
        })
    }

    /// All findings go to the journal, by rule; no value of the object does.
    fn journal(&self, verdict: &Verdict, scan: &Scan) {
        let refused = verdict.refused().is_some();
        let sop_class = match &self.way {
            Way::Dimse { abstract_syntax } => abstract_syntax,
            Way::Stow { .. } | Way::DropFolder => &self.announced.sop_class_uid,
        };
        for Finding { rule, level, comment, remedy, tags, rule_set, .. } in &verdict.findings {
            if level.rejects() {
                tracing::warn!(
                    rule,
                    ?level,
                    rule_set,
                    ?tags,
                    calling_ae_title = self.calling_ae,
                    sop_class,
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

impl Walk {
    /// What of the bytes is data set.
    fn feed<'a>(&mut self, bytes: &'a [u8]) -> Fed<'a> {
        match self {
            Self::DataSet(scanner) => {
                scanner.feed(bytes);
                Fed { carried: Vec::new(), rest: bytes }
            }
            Self::Part10(reader) => reader.feed(bytes),
        }
    }

    fn step_bytes(&self) -> usize {
        match self {
            Self::DataSet(scanner) => scanner.step_bytes(),
            Self::Part10(reader) => reader.step_bytes(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::DataSet(scanner) => scanner.memory_bytes(),
            Self::Part10(reader) => reader.memory_bytes(),
        }
    }

    fn memory_bytes_after(&self, more: usize) -> usize {
        match self {
            Self::DataSet(scanner) => scanner.memory_bytes_after(more),
            Self::Part10(reader) => reader.memory_bytes_after(more),
        }
    }

    fn failed(&self) -> bool {
        match self {
            Self::DataSet(scanner) => scanner.failed(),
            Self::Part10(reader) => reader.failed(),
        }
    }

    fn finish(self) -> Scan {
        match self {
            Self::DataSet(scanner) => scanner.finish(),
            Self::Part10(reader) => reader.finish(),
        }
    }
}

/// File meta says what the command set would.
fn announce(announced: &mut Announced, meta: &Header) {
    let meta = meta.data_set();
    for (field, tag) in [
        (&mut announced.sop_class_uid, tags::MEDIA_STORAGE_SOP_CLASS_UID),
        (&mut announced.sop_instance_uid, tags::MEDIA_STORAGE_SOP_INSTANCE_UID),
        (&mut announced.transfer_syntax_uid, tags::TRANSFER_SYNTAX_UID),
    ] {
        meta.uid(tag).unwrap_or_default().clone_into(field);
    }
}

/// Digits and dots, at most 64: what may stand in an answer. What a rule says of the UID is another matter.
pub(crate) fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// 1–16 characters of the default repertoire (PS3.5 §6.2, VR CS, case aside).
pub(crate) fn is_code_string(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// A700H or 0110H (profile 01 §2), and one line for the operator.
fn failed(error: &SpoolError) -> Outcome {
    tracing::error!(cause = %error, remedy = error.remedy(), "an instance could not be kept");
    Outcome::new(if error.is_out_of_resources() { Status::OUT_OF_RESOURCES } else { Status::PROCESSING_FAILURE })
}
