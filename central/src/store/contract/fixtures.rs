//! Made-up submissions, instances and keys.

use super::super::instances::{Inconsistency, NewInstance};
use super::super::receipts::Custody;
use super::super::registry::{NewDocument, NewManifest, Reference, Registered, Registration};
use super::super::{CentralStore, StoreError, Tx};
use crate::objects::ObjectKey;
use aws_lc_rs::signature::Ed25519KeyPair;
use idr_ihe::metadata::{Association, Author, Code, DocumentEntry, EntryType, PatientId, Submission, SubmissionSet};
use idr_profile::access::{AccessUnit, Sector, Status, StoredUnder, UnitId};
use idr_profile::digest::{Digest, Digester};
use idr_profile::receipt::{Holder, Signer, Source, Verifier};
use jiff::Timestamp;
use jiff::civil::date;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

pub const STUDY: &str = "1.2.246.10.12345671.77.20260115.1";
pub const REGISTRY_SOURCE: &str = "1.2.246.10.90000011.12.1";
pub const REPOSITORY: &str = "1.2.246.10.12345671.12.100";
pub const SITE: &str = "1.2.246.10.90000011";
pub const COUNTY: &str = "1.2.246.10.90000011.19.0";
pub const RPLC: &str = "urn:ihe:iti:2007:AssociationType:RPLC";
pub const XFRM: &str = "urn:ihe:iti:2007:AssociationType:XFRM";
pub const APND: &str = "urn:ihe:iti:2007:AssociationType:APND";
const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_768_467_600 + seconds).unwrap()
}

pub fn patient() -> PatientId {
    PatientId { id: "010190-900P".into(), authority: "1.2.246.21".into() }
}

pub fn other_patient() -> PatientId {
    PatientId { id: "131052-930V".into(), authority: "1.2.246.21".into() }
}

static SIGNER: LazyLock<Arc<Signer>> = LazyLock::new(|| {
    let key = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    Arc::new(Signer::from_pkcs8(key.as_ref()).unwrap())
});

pub fn holder() -> Holder {
    Holder::new("1.2.246.10.12345671", "central-1").unwrap()
}

pub fn custody() -> Custody {
    Custody::new(holder(), Arc::clone(&SIGNER), Arc::new(|| [7; 10]))
}

pub fn verifier() -> Verifier {
    Verifier::new([&SIGNER.to_receipt_key(&holder())]).unwrap()
}

pub fn key(n: u128) -> ObjectKey {
    ObjectKey::new(Uuid::from_u128((0x0190_0000_0000_7000_u128 << 64) + n))
}

pub fn uid(n: u64) -> String {
    format!("{STUDY}.3.{n}")
}

pub fn uuid(kind: u64, n: u64) -> String {
    format!("urn:uuid:{}", Uuid::from_u128((u128::from(kind) << 64) + u128::from(n)))
}

pub fn digest(content: &str) -> Digest {
    let mut digester = Digester::new("1.2.840.10008.1.2.1");
    digester.update(content.as_bytes());
    digester.finish()
}

pub fn stored_under() -> StoredUnder {
    StoredUnder { controller: COUNTY.into(), register: "2".into(), specifier: None, service_event: Some(event(1)) }
}

pub fn event(n: u64) -> String {
    format!("1.2.246.10.90000011.14.2026.{n}")
}

pub fn instance(n: u64) -> NewInstance {
    NewInstance {
        sop_instance_uid: uid(n),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
        study_uid: STUDY.into(),
        series_uid: format!("{STUDY}.2.{}", 1 + n % 2),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".into(),
        digest: digest(&format!("content of {n}")),
        size_bytes: 1000 + n,
        object_key: key(u128::from(n)),
        object_size: 1400 + n,
        data_set_offset: 400,
        patient: patient(),
        stored_under: stored_under(),
        study_date: Some(date(2026, 1, 15)),
        stored_by: SITE.into(),
        source: Source::default(),
        acceptance: None,
        enforced: Inconsistency::ALL.to_vec(),
    }
}

pub fn code(code: &str, system: &str) -> Code {
    Code { code: code.into(), system: system.into(), display: format!("display of {code}") }
}

pub fn entry(n: u64) -> DocumentEntry {
    DocumentEntry {
        entry_uuid: uuid(1, n),
        logical_id: None,
        version: None,
        status: None,
        entry_type: EntryType::Stable,
        mime_type: "application/dicom".into(),
        unique_id: format!("2.25.{}", 1000 + n),
        patient_id: patient(),
        source_patient_id: Some(patient()),
        source_patient_info: vec!["PID-8|M".into()],
        creation_time: Some("20260115090512".into()),
        service_start_time: Some("20260115".into()),
        service_stop_time: None,
        language_code: Some("fi-FI".into()),
        hash: Some(format!("{n:040x}")),
        size: Some(3000 + n),
        repository_unique_id: Some("1.2.246.10.12345671.12.100".into()),
        home_community_id: None,
        title: Some(format!("Tutkimus {n}")),
        comments: None,
        authors: vec![Author { person: Some("1^Kuvaaja^Testi^^^^^^&1.2.246.537.26&ISO".into()), ..Author::default() }],
        class_code: Some(code("180", "1.2.246.537.5.40150.2009")),
        type_code: Some(code("JN3AA", "1.2.246.537.6.5.2007")),
        format_code: Some(code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1")),
        confidentiality_codes: vec![code("5", "1.2.246.777.5.99902.2006")],
        event_codes: vec![code("CT", "DCM"), code("12738006", "SCT")],
        facility_type_code: Some(code("100", "facility")),
        practice_setting_code: Some(code("RAD", "practice")),
        reference_ids: vec![
            format!("{STUDY}^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
            format!("T{n}^^^&1.2.246.10.12345671.12.5&ISO^urn:ihe:iti:xds:2013:accession"),
        ],
        legal_authenticator: None,
        uri: None,
        document_availability: None,
        extra: vec![("urn:x-idr:fi:controllerId".into(), vec![COUNTY.into()])],
    }
}

/// Access unit as the registry layer makes it from an entry's slots.
pub fn unit() -> AccessUnit {
    AccessUnit {
        id: UnitId(String::new()),
        patient: patient(),
        recorded_under: None,
        controller: COUNTY.into(),
        register: "2".into(),
        specifier: None,
        unit: Some("1.2.246.10.90000011.10.7".into()),
        episode: None,
        service_event: Some(event(1)),
        date: Some(date(2026, 1, 15)),
        sector: Sector::Health,
        status: Status::Active,
        release_date: None,
        minor_code: None,
        labels: Vec::new(),
        unreadable: false,
    }
}

pub fn set(n: u64) -> SubmissionSet {
    SubmissionSet {
        entry_uuid: uuid(2, n),
        unique_id: format!("2.25.{}", 2000 + n),
        source_id: REGISTRY_SOURCE.into(),
        patient_id: patient(),
        submission_time: Some("20260115090512".into()),
        content_type_code: Some(code("content", "contents")),
        authors: Vec::new(),
        title: None,
        comments: None,
        intended_recipients: Vec::new(),
        home_community_id: None,
        status: None,
        extra: Vec::new(),
    }
}

pub fn association(n: u64, kind: &str, source: &str, target: &str) -> Association {
    Association {
        entry_uuid: uuid(3, n),
        association_type: kind.into(),
        source: source.into(),
        target: target.into(),
        status: None,
        slots: Vec::new(),
        documentation: None,
    }
}

/// A submission, owned, with what its registration needs.
#[derive(Clone)]
pub struct Case {
    pub submission: Submission,
    pub units: Vec<AccessUnit>,
    pub documents: Vec<NewDocument>,
    pub manifests: Vec<NewManifest>,
    pub now: Timestamp,
}

impl Case {
    /// One entry `n` in set `n`, registered at second `n`.
    pub fn new(n: u64) -> Self {
        let submission = Submission {
            submission_sets: vec![set(n)],
            entries: vec![entry(n)],
            folders: Vec::new(),
            associations: vec![association(1000 + n, HAS_MEMBER, &uuid(2, n), &uuid(1, n))],
        };
        Self { submission, units: vec![unit()], documents: Vec::new(), manifests: Vec::new(), now: at(n as i64) }
    }

    /// The entry is a manifest of [`STUDY`] over these instances, with its document.
    pub fn manifest(n: u64, instances: impl IntoIterator<Item = u64>) -> Self {
        let reference = |n| Reference {
            series_uid: format!("{STUDY}.2.{}", 1 + n % 2),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
            sop_instance_uid: uid(n),
        };
        let references = instances.into_iter().map(reference).collect();
        let manifests = vec![NewManifest { entry_uuid: uuid(1, n), study_uid: STUDY.into(), references, held: true }];
        Self { manifests, ..Self::new(n).with_document() }
    }

    pub fn with_document(mut self) -> Self {
        let entry = &self.submission.entries[0];
        self.documents.push(NewDocument {
            unique_id: entry.unique_id.clone(),
            object_key: ObjectKey::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, entry.entry_uuid.as_bytes())),
            size: entry.size.unwrap(),
            sha1: entry.hash.clone().unwrap(),
            mime_type: entry.mime_type.clone(),
        });
        self
    }

    pub fn with(mut self, association: Association) -> Self {
        self.submission.associations.push(association);
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut DocumentEntry, &mut AccessUnit)) -> Self {
        change(&mut self.submission.entries[0], &mut self.units[0]);
        self
    }

    pub async fn register(&self, tx: &mut Tx) -> Result<Registered, StoreError> {
        let registration = Registration {
            submission: &self.submission,
            units: &self.units,
            stored_under: &stored_under(),
            documents: &self.documents,
            manifests: &self.manifests,
            content_sha256: "c0ffee",
            stored_by: SITE,
            source: &Source::default(),
            now: self.now,
        };
        tx.register(&registration, &custody()).await
    }

    pub async fn commit(&self, store: &dyn CentralStore) -> Registered {
        let mut tx = store.begin().await.unwrap();
        let registered = self.register(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        registered
    }
}

/// Commits instances one by one.
pub async fn store_instances(
    store: &dyn CentralStore,
    instances: impl IntoIterator<Item = NewInstance>,
) -> Vec<super::super::instances::Commit> {
    let mut commits = Vec::new();
    for (n, instance) in instances.into_iter().enumerate() {
        let mut tx = store.begin().await.unwrap();
        commits.push(tx.commit_instances(&[instance], &custody(), at(n as i64)).await.unwrap());
        tx.commit().await.unwrap();
    }
    commits
}
