//! One message: judged, done, answered.
//!
//! # Failure
//! A refused message has done nothing. What store, audit or time do not allow is AR 207 or AE 206: the sender sends the message again, with
//! the same MSH-10, and it is done once. Only messages that were done are known again; a refused one is judged anew.

use std::time::Duration;

use idr_ihe::hl7::mllp::Frame;
use idr_ihe::hl7::{Ack, AckCode, Header, HeaderError, Limits};
use idr_ihe::metadata::PatientId;
use idr_profile::access::KnownEvent;
use idr_profile::adt::{Act, Code, Desk, Known, Order, Pair, Person, Refusal, Source, Visit, Warned, Warning, accepted, digest};
use idr_profile::identifier::temporary;
use jiff::Timestamp;

use super::merging::{self, Told};
use crate::audit::{Entry, Kind, Outcome, Record, Tls, User};
use crate::central::Central;
use crate::consent::log;
use crate::store::feed::Told as Demographics;
use crate::store::patients::{Origin, PatientKey};
use crate::store::{StoreError, Tx};

/// Who is connected.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Organisation of the TLS client certificate; `None` on a plain connection from this host.
    pub organisation: Option<String>,
    /// SHA-256 of the certificate.
    pub certificate: Option<String>,
    /// Network address.
    pub address: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message, without frame.
    pub bytes: Vec<u8>,
    /// The connection ends after it.
    pub close: bool,
}

/// Why a message is not done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Fault {
    /// What the sender is told.
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Store(StoreError::Busy) => Refusal::new(Code::Locked, "Another message about the patient is being done"),
            Self::Store(error) => {
                tracing::error!(cause = %error, "an ADT message could not be done");
                Refusal::new(Code::Unavailable, "The store does not answer")
            }
        }
    }
}

/// Takes one frame and gives its answer, which may leave at once: what it says is durable.
pub async fn receive(central: &Central, sender: &Sender, frame: Frame) -> Answer {
    let (frame, whole) = match frame {
        Frame::Message(bytes) => (bytes, true),
        Frame::TooLarge(head) => (head, false),
    };
    let header = match Header::read(&frame) {
        Ok(header) => header,
        Err(error) => return unreadable(central, sender, error),
    };
    let desk = desk(central);
    let done = match desk.source(&header, sender.organisation.as_deref()) {
        Err(refusal) => Err(refusal),
        Ok(_) if !whole => {
            let most = central.config.mllp.message_bytes_max;
            Err(Refusal::new(Code::Bound, format!("The message has more than {most} bytes")))
        }
        Ok(source) => one(central, &desk, sender, source, &header, &frame).await,
    };
    let ack = match done {
        Ok(warnings) => {
            if !warnings.is_empty() {
                let ids: Vec<&str> = warnings.iter().map(|warned| warned.warning.id()).collect();
                tracing::info!(source = %source_name(&header), warnings = ?ids, "ADT message done with warnings");
            }
            accepted(if central.identity.feed.ack_warnings { &warnings } else { &[] })
        }
        Err(refusal) => {
            tracing::warn!(code = refusal.code.id(), source = %source_name(&header), peer = %sender.address, "ADT message refused: {}", refusal.what);
            note_refusal(central, sender, &header, &refusal).await;
            refusal.ack()
        }
    };
    central.counters.feed.answered(ack.code);
    let bytes = ack.write(&header, &written(central.now()), &central.random_id().simple().to_string()[..20]);
    Answer { bytes, close: false }
}

/// What messages are judged by, now.
pub fn desk(central: &Central) -> Desk<'_> {
    Desk {
        rules: &central.identity,
        sources: &central.sources,
        environment: central.config.environment,
        today: central.today(),
        now: central.now(),
    }
}

fn unreadable(central: &Central, sender: &Sender, error: HeaderError) -> Answer {
    tracing::warn!(code = Code::Segments.id(), peer = %sender.address, "a frame is no HL7 message: {error}");
    central.counters.feed.answered(AckCode::Ar);
    let bytes = Ack::without_header(&written(central.now()), &central.random_id().simple().to_string()[..20]);
    Answer { bytes, close: true }
}

/// MSH-3 and MSH-4 for the journal, as far as they are names.
fn source_name(header: &Header) -> String {
    let name = |n| header.component(n, 1).chars().filter(|c| c.is_ascii_graphic()).take(40).collect::<String>();
    format!("{}|{}", name(3), name(4))
}

/// MSH-7, with offset.
fn written(now: Timestamp) -> String {
    now.strftime("%Y%m%d%H%M%S+0000").to_string()
}

async fn one(
    central: &Central,
    desk: &Desk<'_>,
    sender: &Sender,
    source: &Source,
    header: &Header,
    frame: &[u8],
) -> Result<Vec<Warned>, Refusal> {
    let limits = Limits {
        segments_max: central.config.mllp.segments_max,
        field_bytes_max: central.config.mllp.field_bytes_max,
        repetitions_max: central.config.mllp.repetitions_max,
    };
    let judged = desk.judge(frame, header, source, &limits)?;
    if central.audit.refusing().is_some() {
        return Err(Refusal::new(Code::Unavailable, "The audit store takes no records"));
    }
    let mut message = Message {
        central,
        sender,
        source,
        order: &judged.order,
        digest: hex::encode(digest(frame, header)),
        warnings: judged.warnings,
        touched: Vec::new(),
    };
    let limit = Duration::from_secs(central.identity.feed.answer_seconds.into());
    match tokio::time::timeout(limit, message.perform()).await {
        Ok(done) => done.map_err(Fault::into_refusal)?,
        Err(_) => return Err(Refusal::new(Code::Unavailable, "The message could not be done in time")),
    }
    Ok(message.warnings)
}

/// Somebody who is changed: one opening record.
struct Touched {
    patient: PatientId,
    as_asked: PatientId,
    what: &'static str,
    merge: Option<String>,
}

/// A message that is being done.
struct Message<'a> {
    central: &'a Central,
    sender: &'a Sender,
    source: &'a Source,
    order: &'a Order,
    digest: String,
    warnings: Vec<Warned>,
    touched: Vec<Touched>,
}

impl Message<'_> {
    async fn perform(&mut self) -> Result<(), Fault> {
        let (central, order) = (self.central, self.order);
        let wait = Duration::from_secs(central.identity.feed.lock_wait_seconds.into());
        let mut tx = tokio::time::timeout(wait, central.store.begin()).await.unwrap_or(Err(StoreError::Busy))?;
        let source = self.source.key();
        match tx.feed_message(&source, &order.control_id).await? {
            Some(digest) if digest == self.digest => {
                central.counters.feed.repeated.add(1);
                return Ok(());
            }
            Some(_) => return Err(Refusal::new(Code::Duplicate, "MSH-10 was used for another message").into()),
            None => {}
        }
        match &order.act {
            Act::Upsert { person, visit, creates } => self.upsert(&mut tx, person, visit.as_ref(), *creates).await?,
            Act::Merge(pairs) => {
                for pair in pairs {
                    self.merge(&mut tx, pair).await?;
                }
            }
            Act::Rename(pair) => self.rename(&mut tx, pair).await?,
            Act::Link(both) => self.link(&mut tx, both, true).await?,
            Act::Unlink(both) => self.link(&mut tx, both, false).await?,
            Act::Nothing => {}
        }
        tx.record_feed_message(&source, &order.control_id, &self.digest, central.now()).await?;
        let records = self.touched.iter().map(|touched| self.record(touched)).collect::<Vec<_>>();
        if records.is_empty() {
            return Ok(tx.commit().await?);
        }
        let opening = central.audit.open(records).await.map_err(|error| {
            tracing::error!(cause = %error, "an ADT message is not done without its record");
            Refusal::new(Code::Unavailable, "The audit store takes no records")
        })?;
        let committed = tx.commit().await;
        let (outcome, status) = if committed.is_ok() { (Outcome::Permit, "AA") } else { (Outcome::Failed, "not done") };
        log::close(central, opening, outcome, None, status).await;
        Ok(committed?)
    }

    async fn upsert(&mut self, tx: &mut Tx, person: &Person, visit: Option<&Visit>, creates: bool) -> Result<(), Fault> {
        let id = chosen(tx, person).await?;
        let known = tx.patient(&id).await?;
        if known.is_none() && !creates {
            return Err(Refusal::at(Code::Unknown, person.location, "The patient is not known").into());
        }
        let key = tx.ensure_patient(&id, Origin::Feed, self.central.now()).await?;
        tx.lock_patient(&key).await?;
        let what = if known.is_some() { "updated" } else { "created" };
        let head = known.map_or_else(|| id.clone(), |patient| patient.ids[0].clone());
        if head != id {
            self.warn(Warning::Merged, person);
        }
        let stale = self.describe(tx, &key, person).await?;
        self.other_ids(tx, &key, &id, person).await?;
        if let Some(visit) = visit.filter(|_| !stale) {
            let event = KnownEvent { controller: visit.controller.clone(), start: visit.start, end: visit.end };
            if !tx.record_service_event(&visit.service_event, &key, &id, &event, visit.unit.as_deref()).await? {
                return Err(Refusal::new(Code::Duplicate, "The service event is another patient's").into());
            }
        }
        self.touched.push(Touched { patient: head, as_asked: id, what, merge: None });
        Ok(())
    }

    /// What the message tells of a patient, if it is not older than what its source told. Gives whether it is.
    async fn describe(&mut self, tx: &mut Tx, key: &PatientKey, person: &Person) -> Result<bool, Fault> {
        let source = self.source.key();
        let before = tx.told(key).await?.into_iter().find(|told| told.source == source);
        let as_of = person.as_of.unwrap_or(self.order.as_of);
        if before.as_ref().is_some_and(|told| as_of < told.as_of) {
            self.warn(Warning::Stale, person);
            return Ok(true);
        }
        let known = person.demographics.clone().over(before.map(|told| told.known).unwrap_or_default());
        tx.tell(key, &Demographics { source, as_of, known }).await?;
        let shown = shown(self.central, tx, key).await?;
        tx.set_birth_date(key, shown.birth_date).await?;
        Ok(false)
    }

    /// Other ids of the same person. One that names somebody else stays there: that is for a merge, or for a person, to say.
    async fn other_ids(&mut self, tx: &mut Tx, key: &PatientKey, primary: &PatientId, person: &Person) -> Result<(), Fault> {
        let now = self.central.now();
        let first = (*primary != person.primary.id).then_some(&person.primary.id);
        for other in person.others.iter().chain(first).filter(|other| *other != primary) {
            if !tx.add_alias(other, key, now).await? && tx.patient_key(other).await?.as_ref() != Some(key) {
                let id = self.central.random_id().to_string();
                tx.raise_review(&id, key, None, "a message gives the patient an id of another patient", now).await?;
            }
        }
        Ok(())
    }

    async fn merge(&mut self, tx: &mut Tx, pair: &Pair) -> Result<(), Fault> {
        let survivor = chosen(tx, &pair.survivor).await?;
        for old in &pair.old {
            let (event, source) = (self.order.event.clone(), self.source.key());
            let told = Told { kind: &event, by: &source, message: Some(&self.order.control_id), source: Some(self.source) };
            let merged = merging::merge(self.central, tx, told, &old.id, &survivor).await?;
            if merged.old_unknown {
                self.warnings
                    .push(Warned { warning: Warning::OldUnknown, location: Some(idr_ihe::hl7::Location::field("MRG", pair.number, 1)) });
            }
            let key = tx.patient_key(&survivor).await?.ok_or(StoreError::Unreadable { column: "patient_key" })?;
            if merged.created {
                self.describe(tx, &key, &pair.survivor).await?;
            }
            if let Some(id) = merged.id {
                let head = tx.patient(&survivor).await?.map_or_else(|| survivor.clone(), |patient| patient.ids[0].clone());
                let of = |patient: &PatientId, as_asked: &PatientId, what| Touched {
                    patient: patient.clone(),
                    as_asked: as_asked.clone(),
                    what,
                    merge: Some(id.clone()),
                };
                self.touched.extend([of(&head, &survivor, "merged into"), of(&old.id, &old.id, "merged away")]);
            }
        }
        Ok(())
    }

    async fn rename(&mut self, tx: &mut Tx, pair: &Pair) -> Result<(), Fault> {
        let [old] = pair.old.as_slice() else {
            return Err(Refusal::at(Code::Value, idr_ihe::hl7::Location::field("MRG", 1, 1), "A47 names one old identifier").into());
        };
        let new = &pair.survivor.primary.id;
        let (event, source) = (self.order.event.clone(), self.source.key());
        let told = Told { kind: &event, by: &source, message: Some(&self.order.control_id), source: Some(self.source) };
        if let Some(id) = merging::rename(self.central, tx, told, &old.id, new).await? {
            self.touched.push(Touched { patient: new.clone(), as_asked: old.id.clone(), what: "renamed", merge: Some(id) });
        }
        Ok(())
    }

    async fn link(&mut self, tx: &mut Tx, both: &[Person; 2], linked: bool) -> Result<(), Fault> {
        let now = self.central.now();
        let mut keys = Vec::new();
        for person in both {
            let id = &person.primary.id;
            let known = tx.patient_key(id).await?;
            if known.is_none() && !linked {
                return Err(Refusal::at(Code::Unknown, person.location, "The patient is not known").into());
            }
            keys.push(tx.ensure_patient(id, Origin::Feed, now).await?);
            if known.is_none() {
                let key = keys[keys.len() - 1].clone();
                self.describe(tx, &key, person).await?;
            }
        }
        let changed = match linked {
            // One patient is no set.
            true => keys[0] != keys[1] && tx.link(&both[0].primary.id, &both[1].primary.id, now).await?,
            false if !tx.unlink(&keys[0], &keys[1], now).await? => {
                return Err(Refusal::at(Code::Unknown, both[1].location, "The patients are not linked").into());
            }
            false => true,
        };
        if changed {
            let what = if linked { "linked" } else { "unlinked" };
            let of =
                |person: &Person| Touched { patient: person.primary.id.clone(), as_asked: person.primary.id.clone(), what, merge: None };
            self.touched.extend(both.iter().map(of));
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning, person: &Person) {
        self.warnings.push(Warned { warning, location: Some(person.location) });
    }

    fn record(&self, touched: &Touched) -> Record {
        let (central, order) = (self.central, self.order);
        let transaction = if matches!(order.event.as_str(), "A01" | "A04" | "A05" | "A08") { "ITI-31" } else { "ITI-30" };
        let mut record = record(central, self.sender, Kind::U, transaction, Outcome::Permit, &self.source.key(), &order.control_id);
        record.user.on_behalf.clone_from(&order.operator);
        record.organisation = Some(self.source.organisation.clone());
        record.patient = Some(touched.patient.clone());
        record.patient_as_asked = Some(touched.as_asked.clone()).filter(|asked| *asked != touched.patient);
        record.basis_ref.clone_from(&touched.merge);
        record.status = Some(format!("{} {}", order.event, touched.what));
        record
    }
}

/// The id that the person is known by here: a temporary one that is known before the first of the list (§2.1).
async fn chosen(tx: &mut Tx, person: &Person) -> Result<PatientId, Fault> {
    let is_temporary = |id: &PatientId| temporary::Root::parse(&id.authority).is_some();
    if is_temporary(&person.primary.id) && tx.patient_key(&person.primary.id).await?.is_none() {
        for other in person.others.iter().filter(|id| is_temporary(id)) {
            if tx.patient_key(other).await?.is_some() {
                return Ok(other.clone());
            }
        }
    }
    Ok(person.primary.id.clone())
}

/// What is shown of a patient: what the source of the lowest priority tells, and of those the newest (§8).
///
/// # Errors
/// [`StoreError`].
pub async fn shown(central: &Central, tx: &mut Tx, key: &PatientKey) -> Result<Known, StoreError> {
    let told = tx.told(key).await?;
    let first = told.into_iter().min_by_key(|told| (central.sources.priority(&told.source), std::cmp::Reverse(told.as_of)));
    Ok(first.map(|told| told.known).unwrap_or_default())
}

fn record(central: &Central, sender: &Sender, kind: Kind, transaction: &str, outcome: Outcome, source: &str, control_id: &str) -> Record {
    let node = &central.config.central.node;
    let request = format!("{source}|{control_id}");
    let mut record = Record::new(central.new_id(), central.now(), kind, node, &log::software(), transaction, "identity", outcome, &request);
    record.user = User { id: Some(source.to_owned()), role: Some("source".to_owned()), ..User::default() };
    record.tls = Tls { sha256: sender.certificate.clone(), organisation: sender.organisation.clone() };
    record.peer = Some(sender.address.clone());
    record
}

/// A sender that is not allowed, and a merge that a rule refuses, are security events.
async fn note_refusal(central: &Central, sender: &Sender, header: &Header, refusal: &Refusal) {
    if !matches!(refusal.code, Code::NotAllowed | Code::Rule) {
        return;
    }
    let control_id: String = header.component(10, 1).chars().filter(|c| c.is_ascii_graphic()).take(199).collect();
    let mut record = record(central, sender, Kind::R, "ITI-30", Outcome::Refuse, &source_name(header), &control_id);
    record.organisation.clone_from(&sender.organisation);
    record.rule = Some(refusal.code.id().to_owned());
    record.status = Some(refusal.code.ack().name().to_owned());
    if let Err(error) = central.audit.append(vec![Entry::Record(Box::new(record))]).await {
        tracing::error!(cause = %error, "the refusal of an ADT message could not be recorded");
    }
}
