//! Rows of profile 06 §8, §9 and §12, by messages, on a centre in memory.

mod crash;
mod read_after_merge;
mod rows;

use idr_ihe::hl7::mllp::Frame;
use idr_ihe::hl7::{Charset, Header, Limits, Message};
use idr_ihe::metadata::PatientId;
use idr_profile::access::{Consent, Freshness, PatientState, Sector};
use jiff::civil::date;

use super::feed::{self, Sender};
use crate::consent::declarations::{Act, Performer, Recorded, Recording, record};
use crate::store::patients::Patient;
use crate::testing::{HOSPITAL, World, t0};

/// A hetu of the test range.
const H1: &str = "010190-900P";
/// Another.
const H2: &str = "131052-930V";
/// Root of temporary ids of the hospital.
const ROOT: &str = "1.2.246.10.90000011.22.2026";

fn hetu(id: &str) -> PatientId {
    PatientId { id: id.to_owned(), authority: "1.2.246.21".to_owned() }
}

fn temporary(n: u8) -> PatientId {
    PatientId { id: format!("150126-9T0{n}"), authority: ROOT.to_owned() }
}

/// A message of a source, without MSH-18. `as_of`: EVN-2, local time.
fn told(source: &str, event: &str, id: &str, as_of: &str, segments: &[String]) -> String {
    let mut text = format!("MSH|^~\\&|{source}|A-SAIRAALA|IDR|CENTRAL|20260120104000||ADT^{event}|{id}|T|2.5.1\rEVN||{as_of}");
    segments.iter().for_each(|segment| text += &format!("\r{segment}"));
    text
}

fn pid(id: &PatientId) -> String {
    format!("PID|1||{}||TESTINEN^TAINA", id.to_cx())
}

fn person(event: &str, message: &str, id: &PatientId) -> String {
    told("HIS", event, message, "20260120103000", &[pid(id)])
}

fn merge_by(source: &str, message: &str, old: &PatientId, survivor: &PatientId) -> String {
    told(source, "A40", message, "20260120103000", &[pid(survivor), format!("MRG|{}", old.to_cx())])
}

fn merge(message: &str, old: &PatientId, survivor: &PatientId) -> String {
    merge_by("HIS", message, old, survivor)
}

fn rename(source: &str, message: &str, old: &PatientId, new: &PatientId) -> String {
    told(source, "A47", message, "20260120103000", &[pid(new), format!("MRG|{}", old.to_cx())])
}

fn link(event: &str, message: &str, a: &PatientId, b: &PatientId) -> String {
    told("HIS", event, message, "20260120103000", &[pid(a), pid(b)])
}

fn sender() -> Sender {
    Sender { organisation: Some(HOSPITAL.to_owned()), certificate: None, address: "127.0.0.1".to_owned() }
}

/// MSA-1, and the codes of the answer's ERR segments.
fn said(answer: &[u8]) -> String {
    let header = Header::read(answer).expect("an answer");
    let message = Message::read(answer, &header, Charset::Latin1, &Limits::default()).expect("an answer");
    let of = |name| message.segments().filter(move |segment| segment.name() == name);
    let mut said = vec![of("MSA").next().expect("an MSA").field(1).value()];
    said.extend(of("ERR").map(|error| error.field(5).component(1).value()));
    said.join(" ")
}

impl World {
    /// Sends a message and gives what [`said`] says of the answer.
    async fn tell(&self, message: impl AsRef<[u8]>) -> String {
        said(&feed::receive(&self.central, &sender(), Frame::Message(message.as_ref().to_vec())).await.bytes)
    }

    /// Sends messages that are all done without a warning but those named.
    async fn done(&self, messages: &[String]) {
        for message in messages {
            assert_eq!(self.tell(message).await, "AA", "{message}");
        }
    }

    async fn known(&self, id: &PatientId) -> Option<Patient> {
        self.central.store.read().await.expect("a store").patient(id).await.expect("readable")
    }

    /// The primary id of whom an id names.
    async fn head(&self, id: &PatientId) -> String {
        self.known(id).await.map_or_else(|| "nobody".to_owned(), |patient| patient.ids[0].id.clone())
    }

    async fn state(&self, id: &PatientId) -> PatientState {
        let mut tx = self.central.store.read().await.expect("a store");
        tx.patient_state(id, Freshness::Store { confirmed: t0() }).await.expect("readable")
    }

    async fn declare(&self, patient: &PatientId, act: Act) -> Recorded {
        let recording = Recording {
            patient: patient.clone(),
            act,
            performer: Performer::Patient,
            decided_on: date(2026, 1, 19),
            document_sha256: None,
        };
        record(&self.central, "clerk", &recording).await.expect("recorded")
    }

    /// Informs the patient, who consents.
    async fn consent(&self, patient: &PatientId) {
        self.declare(patient, Act::Informing { language: "fi".to_owned(), information_version: "1".to_owned() }).await;
        self.declare(patient, Act::Consent { sector: Sector::Health }).await;
    }

    /// Studies that an operator finds under an id.
    async fn reviews(&self, id: &PatientId) -> Vec<String> {
        let mut tx = self.central.store.read().await.expect("a store");
        let key = tx.patient_key(id).await.expect("readable").expect("known");
        tx.reviews(Some(&key), 100).await.expect("readable").into_iter().map(|review| review.reason).collect()
    }

    /// The newest merge of a patient.
    async fn last_merge(&self, id: &PatientId) -> String {
        let mut tx = self.central.store.read().await.expect("a store");
        let key = tx.patient_key(id).await.expect("readable").expect("known");
        tx.merges_of(&key, 100).await.expect("readable").pop().expect("a merge").id
    }

    /// Takes a merge back.
    async fn split(&self, id: &str) {
        let mut tx = self.central.store.begin().await.expect("a store");
        let merge = tx.merge_by_id(id).await.expect("readable").expect("in the journal");
        let mut n = 0;
        let mut fresh = || {
            n += 1;
            format!("copy-{n}-of-{id}")
        };
        tx.split(&merge, "clerk", "wrong person", t0(), &mut fresh).await.expect("split");
        tx.commit().await.expect("committed");
    }
}

fn health(state: &PatientState) -> &'static str {
    match state.consent(Sector::Health) {
        Consent::None => "none",
        Consent::Active { .. } => "active",
        Consent::Withdrawn { .. } => "withdrawn",
    }
}
