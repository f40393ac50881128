//! SOAP messages with real assertions, and manifests made by the mapping that the sites use.

use axum::body::{Body, to_bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use idr_ihe::assertion::{EnvelopedSigner, NS_WSSE};
use idr_ihe::ebxml::{Placement, decode, encode};
use idr_ihe::metadata::{DocumentEntry, PatientId, Submission};
use idr_ihe::soap::xop::Content;
use idr_ihe::soap::{Envelope, Framing, Request as Message, mtom, multipart, write_request};
use idr_ihe::transaction::iti_18::{Definition, Parameters, ReturnType};
use idr_ihe::transaction::iti_43::DocumentRequest;
use idr_ihe::transaction::rad_69::{RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::RegistryResponse;
use idr_ihe::transaction::table::action;
use idr_ihe::transaction::{iti_18, iti_41, iti_42, iti_43, rad_69, registry_response};
use idr_ihe::xml::Limits;
use idr_profile::access::Claims;
use idr_profile::digest::Digest;
use idr_profile::mapping::{
    AffinityDomain, Attributes, Coded, ControllerMap, ControllerRow, FolderUse, Member, PersonName, Revision, Settings, Study, value_type,
    withdraw,
};
use idr_profile::xua::XuaRules;
use idr_profile::xua::produce::{self, Production};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rand::RngCore as _;

use super::{CT, DISTRICT, HOSPITAL, Instance, PKI, Party, STUDY, World, patient, t0};

/// repositoryUniqueId of the shipped configuration.
pub const REPOSITORY: &str = "1.2.246.10.12345671.12.100";
/// homeCommunityId of the shipped configuration.
pub const HOME: &str = "urn:oid:1.2.246.10.12345671.12.1";
/// Study of the worked example.
pub const WORKED_STUDY: &str = "1.2.246.10.12345671.77.20260115.1";
/// Service event of the worked example.
pub const WORKED_EVENT: &str = "1.2.246.10.12345671.14.2026.1001";
/// Issuer of accession numbers in the worked example.
const ACCESSIONS: &str = "1.2.246.10.12345671.12.5";

/// What a study is made of.
pub struct Recipe {
    study: &'static str,
    organisation: &'static str,
    source: String,
    service_event: Option<&'static str>,
    members: Vec<Member>,
    replaces: Option<String>,
    folder: FolderUse<'static>,
    patient: PatientId,
}

impl Recipe {
    /// The worked example of profile 02 §9.
    pub fn worked_example() -> Self {
        let member = |series: &str, instance: &str, content: &str| Member {
            sop_instance_uid: format!("{WORKED_STUDY}.3.{instance}"),
            sop_class_uid: CT.to_owned(),
            series_instance_uid: format!("{WORKED_STUDY}.2.{series}"),
            digest: Digest::parse(&hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content))).expect("64 digits"),
            received: "2026-01-15T08:27:41.9Z".parse().expect("valid"),
            value_type: value_type("IMG"),
            attributes: attributes(),
        };
        Self {
            study: WORKED_STUDY,
            organisation: DISTRICT,
            source: format!("{DISTRICT}.12.9"),
            service_event: Some(WORKED_EVENT),
            members: vec![member("2", "3", "A3"), member("1", "1", "A1"), member("2", "2", "A2")],
            replaces: None,
            folder: FolderUse::None,
            patient: patient(),
        }
    }

    /// A manifest of [`STUDY`] over these instances, of the hospital.
    pub fn of(instances: &[Instance]) -> Self {
        let member = |instance: &Instance| Member {
            sop_instance_uid: instance.sop_instance_uid.clone(),
            sop_class_uid: CT.to_owned(),
            series_instance_uid: format!("{STUDY}.1"),
            digest: instance.digest(),
            received: "2026-01-15T08:27:41.9Z".parse().expect("valid"),
            value_type: value_type("IMG"),
            attributes: attributes(),
        };
        Self {
            study: STUDY,
            organisation: HOSPITAL,
            source: format!("{HOSPITAL}.12.9"),
            service_event: None,
            members: instances.iter().map(member).collect(),
            replaces: None,
            folder: FolderUse::None,
            patient: patient(),
        }
    }

    /// The same from another source.
    pub fn sent_by(mut self, source: &str) -> Self {
        source.clone_into(&mut self.source);
        self
    }

    /// The same, with a later image.
    pub fn sent_again(mut self) -> Self {
        let mut late = self.members[0].clone();
        late.sop_instance_uid.push('4');
        late.received = "2026-01-15T09:05:12Z".parse().expect("valid");
        self.members.push(late);
        self
    }

    /// The same in a new folder of its service event.
    pub fn in_folder(mut self) -> Self {
        self.folder = FolderUse::Create;
        self
    }

    /// The same of another patient.
    pub fn about(mut self, patient: &PatientId) -> Self {
        self.patient = patient.clone();
        for member in &mut self.members {
            member.attributes.patient_id.clone_from(&patient.id);
            member.attributes.issuer_of_patient_id = Some(patient.authority.clone());
        }
        self
    }

    /// The same as the replacement of a registered entry.
    pub fn replacing(mut self, entry_uuid: &str) -> Self {
        self.replaces = Some(entry_uuid.to_owned());
        self
    }

    /// Manifest and metadata.
    pub fn revision(&self) -> Revision {
        self.mapped(|study, settings| Revision::map(study, settings).expect("a complete study"))
    }

    /// The withdrawal of a published revision, as a site makes it, and its MessageID.
    pub fn withdrawal(&self, published: &Revision) -> (Submission, String) {
        let made = |study: &Study<'_>, settings: &Settings<'_>| {
            withdraw(study, settings, &self.members[0].attributes, &published.document_uid, &published.entry_uuid)
        };
        self.mapped(|study, settings| made(study, settings).expect("a complete study"))
    }

    fn mapped<T>(&self, make: impl FnOnce(&Study<'_>, &Settings<'_>) -> T) -> T {
        let row = controlled(self.organisation);
        let patient = self.patient.clone();
        let study = Study {
            study_instance_uid: self.study,
            source: &self.source,
            members: &self.members,
            changed: None,
            source_patient: &patient,
            patient: &patient,
            accession_issuer: None,
            language: None,
            facility_type: None,
            service_event: self.service_event,
            controlled: &row,
            map_revision: 1,
            rule_set: "fi-2.4.1/1",
            replaces: self.replaces.as_deref(),
            folder: self.folder,
        };
        let schemes = ["1.2.246.537.6.2".to_owned()];
        let mut domain = AffinityDomain::shipped();
        let folder = ("FOLDER".to_owned(), "1.2.246.10.12345671.5.1".to_owned(), "Palvelutapahtuma".to_owned());
        domain.codes.folder = Some(idr_ihe::metadata::Code { code: folder.0, system: folder.1, display: folder.2 });
        let settings = Settings {
            domain: &domain,
            zone: &TimeZone::get("Europe/Helsinki").expect("bundled"),
            registrable: &|modality| modality == "CT",
            study_codes: &|code| {
                let system = "1.2.246.537.6.2".to_owned();
                (code == "AA1AD").then(|| idr_ihe::metadata::Code { code: code.to_owned(), system, display: "Pään TT".to_owned() })
            },
            procedure_coding_schemes: &schemes,
        };
        make(&study, &settings)
    }
}

fn controlled(organisation: &str) -> ControllerRow {
    let map = format!("revision = 1\n[[row]]\ncontroller = \"{organisation}.19.0\"\ncontroller_type = \"1\"\nregister = \"2\"\n");
    let map = ControllerMap::load(&map, jiff::civil::date(2026, 1, 15)).expect("loads");
    map.rows.into_iter().next().expect("one row")
}

fn attributes() -> Attributes {
    let coded = |value: &str, scheme: &str, meaning: &str| {
        let mut coded = Coded { scheme: Some(scheme.to_owned()), ..Coded::default() };
        coded.item.code_value = Some(value.to_owned());
        coded.item.coding_scheme_designator = Some(scheme.to_owned());
        coded.item.code_meaning = Some(meaning.to_owned());
        coded
    };
    let mut institution = Coded::default();
    institution.item.code_meaning = Some("Testisairaala".to_owned());
    institution.item.urn_code_value = Some("urn:oid:1.2.246.10.12345671.10.0".to_owned());
    Attributes {
        study_date: "20260115".to_owned(),
        study_time: "101530".to_owned(),
        accession_number: "T042059118706".to_owned(),
        accession_issuer: Some(ACCESSIONS.to_owned()),
        modality: "CT".to_owned(),
        institution_name: Some("Testisairaala".to_owned()),
        institution_code: Some(vec![institution]),
        referring_physician_name: "Lähettäjä^Testi".to_owned(),
        study_description: Some("AA1AD Pään TT".to_owned()),
        procedure_code: Some(vec![coded("AA1AD", "1.2.246.537.6.2", "Pään TT")]),
        performing_physician: PersonName {
            name: "Testaaja^Tiina".to_owned(),
            id: Some("12345678901".to_owned()),
            scheme: Some("1.2.246.537.26".to_owned()),
        },
        body_part_examined: "HEAD".to_owned(),
        patient_name: "Öhman^Sanni".to_owned(),
        patient_id: "010190-900P".to_owned(),
        issuer_of_patient_id: Some("1.2.246.21".to_owned()),
        patient_birth_date: "19900101".to_owned(),
        patient_sex: "F".to_owned(),
        study_id: "1".to_owned(),
        ..Attributes::default()
    }
}

/// An entry as a site sends it.
pub fn entry() -> DocumentEntry {
    Recipe::worked_example().revision().submission.entries.remove(0)
}

impl Party {
    /// Claims of the site that registers the worked example.
    pub fn worked_site(&self) -> Claims {
        Claims { service_event: Some(WORKED_EVENT.to_owned()), ..self.site(&patient()) }
    }

    /// `wsse:Security` with a fresh assertion.
    pub fn security(&self, claims: &Claims) -> String {
        self.security_at(claims, t0())
    }

    /// The same, made at `now`.
    pub fn security_at(&self, claims: &Claims, now: Timestamp) -> String {
        let rules = XuaRules::shipped();
        let mut random = [0; 16];
        rand::rng().fill_bytes(&mut random);
        let authn_context = match claims.kind {
            idr_profile::access::Kind::Technical => "urn:oasis:names:tc:SAML:2.0:ac:classes:X509",
            _ => "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI",
        };
        let production = Production { claims, audience: rules.audience(), authn_context, authn_instant: now, now, random };
        let signer = EnvelopedSigner { key: &self.key, certificate: &self.certificate };
        let assertion = produce::saml(&production, &rules, &signer).expect("signed");
        format!("<wsse:Security xmlns:wsse=\"{NS_WSSE}\">{assertion}</wsse:Security>")
    }
}

/// A fresh MessageID.
pub fn message_id() -> String {
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    format!("urn:uuid:{}", uuid::Builder::from_random_bytes(random).into_uuid())
}

/// An envelope.
pub fn envelope(security: &str, action: &str, message_id: &str, body: &str) -> String {
    write_request(&Message { action, message_id, to: "https://central.idr.example/ihe/gateway", security, body })
}

/// A plain SOAP request.
pub fn plain(envelope: String) -> Request<Body> {
    request("application/soap+xml; charset=UTF-8", envelope.into())
}

/// An MTOM request; part n has the Content-ID `n@idr`.
pub fn mtom(envelope: &str, documents: &[&[u8]]) -> Request<Body> {
    let writer = mtom::Writer::new("0123456789abcdef".to_owned()).expect("a boundary");
    let mut body = writer.root(envelope).into_bytes();
    for (number, document) in documents.iter().enumerate() {
        body.extend_from_slice(writer.document(number + 1, "application/dicom").as_bytes());
        body.extend_from_slice(document);
    }
    body.extend_from_slice(writer.closing().as_bytes());
    request(&writer.content_type(), body)
}

/// A request to the gateway.
pub fn request(content_type: &str, body: Vec<u8>) -> Request<Body> {
    Request::post("/ihe/gateway").header(CONTENT_TYPE, content_type).body(body.into()).expect("a request")
}

/// Body of RAD-68 with the document as a part.
pub fn registration(submission: &Submission) -> String {
    let document = iti_41::Document { id: Some(submission.entries[0].entry_uuid.clone()), content: Content::Part("1@idr".to_owned()) };
    iti_41::encode(&encode(submission, Placement::Beside), &[document])
}

/// RAD-68 of a revision, with its own MessageID.
pub fn register(party: &Party, claims: &Claims, revision: &Revision) -> Request<Body> {
    register_as(party, claims, &revision.submission, &revision.kos, &revision.message_id)
}

/// RAD-68 of any submission.
pub fn register_as(party: &Party, claims: &Claims, submission: &Submission, document: &[u8], message_id: &str) -> Request<Body> {
    let text = envelope(&party.security(claims), action::ITI_41, message_id, &registration(submission));
    mtom(&text, &[document])
}

/// ITI-57, or another transaction with its body.
pub fn objects(party: &Party, claims: &Claims, action: &str, submission: &Submission, message_id: &str) -> Request<Body> {
    plain(envelope(&party.security(claims), action, message_id, &iti_42::encode(&encode(submission, Placement::Beside))))
}

/// ITI-18.
pub fn query(party: &Party, claims: &Claims, name: &str, returned: ReturnType, parameters: Parameters<'_>) -> Request<Body> {
    let definition = Definition::of_name(name).expect("a stored query");
    let body = iti_18::encode(definition, returned, None, parameters);
    plain(envelope(&party.security(claims), action::ITI_18, &message_id(), &body))
}

/// ITI-43 of documents.
pub fn retrieve(party: &Party, claims: &Claims, uids: &[&str]) -> Request<Body> {
    let requests: Vec<DocumentRequest> = uids.iter().map(|uid| document(uid)).collect();
    plain(envelope(&party.security(claims), action::ITI_43, &message_id(), &iti_43::encode(&requests)))
}

/// RAD-69 of instances of one series of [`STUDY`].
pub fn imaging(party: &Party, claims: &Claims, instances: &[&str], syntaxes: &[&str]) -> Request<Body> {
    let documents = instances.iter().map(|uid| document(uid)).collect();
    let series = SeriesRequest { series_instance_uid: Some(format!("{STUDY}.1")), documents };
    let request = RetrieveImagingRequest {
        studies: vec![StudyRequest { study_instance_uid: Some(STUDY.to_owned()), series: vec![series] }],
        transfer_syntaxes: Some(syntaxes.iter().map(|syntax| Some((*syntax).to_owned())).collect()),
    };
    plain(envelope(&party.security(claims), action::RAD_69, &message_id(), &rad_69::encode(&request)))
}

fn document(uid: &str) -> DocumentRequest {
    DocumentRequest { home_community_id: None, repository_unique_id: Some(REPOSITORY.to_owned()), document_unique_id: Some(uid.to_owned()) }
}

/// An answer, read.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The envelope.
    pub envelope: String,
    /// Documents beside it.
    pub parts: Vec<Vec<u8>>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads a response to its end.
    pub async fn read(response: Response<Body>) -> Self {
        Self::try_read(response).await.expect("a whole body")
    }

    /// The same; an error if the body ends early.
    pub async fn try_read(response: Response<Body>) -> Result<Self, axum::Error> {
        let (head, body) = response.into_parts();
        let body = to_bytes(body, 1 << 28).await?.to_vec();
        let content_type = head.headers.get(CONTENT_TYPE).map(|value| value.to_str().expect("ASCII").to_owned());
        let (mut envelope, mut parts) = (String::new(), Vec::new());
        match Framing::of(content_type.as_deref()) {
            Ok(Framing::Plain) => envelope = String::from_utf8(body.clone()).expect("UTF-8"),
            Ok(Framing::Mtom { boundary, start }) => {
                let mut reader = mtom::Reader::new(&boundary, start, multipart::Limits::MTOM).expect("a boundary");
                reader.feed(&body).expect("within bounds");
                while let Some(event) = reader.poll().expect("well formed") {
                    match event {
                        mtom::Event::Root(root) => envelope = String::from_utf8(root).expect("UTF-8"),
                        mtom::Event::Part(_) => parts.push(Vec::new()),
                        mtom::Event::Data(bytes) => parts.last_mut().expect("a part").extend_from_slice(&bytes),
                        mtom::Event::PartEnd | mtom::Event::End => {}
                    }
                }
                reader.finish().expect("whole");
            }
            Err(_) => {}
        }
        Ok(Self { status: head.status, headers: head.headers, envelope, parts, body })
    }

    /// The envelope.
    pub fn soap(&self) -> Envelope<'_> {
        match Envelope::read(self.envelope.as_bytes(), Limits::default()) {
            Ok(envelope) => envelope,
            Err(error) => panic!("{error:?}: {}", String::from_utf8_lossy(&self.body)),
        }
    }

    /// The answer of a submission.
    pub fn registry(&self) -> RegistryResponse {
        match registry_response::read(&self.soap()) {
            Ok(response) => response,
            Err(_) => panic!("no RegistryResponse: {}", self.envelope),
        }
    }

    /// codeContext of each error.
    pub fn contexts(&self) -> Vec<String> {
        self.registry().errors.into_iter().map(|error| error.code_context).collect()
    }

    /// The answer of a retrieve.
    pub fn retrieved(&self) -> iti_43::RetrieveResponse {
        match iti_43::read_response(&self.soap()) {
            Ok(response) => response,
            Err(_) => panic!("no RetrieveDocumentSetResponse: {}", self.envelope),
        }
    }

    /// The answer of a query.
    pub fn found(&self) -> iti_18::QueryResponse {
        match iti_18::read_response(&self.soap()) {
            Ok(response) => response,
            Err(_) => panic!("no AdhocQueryResponse: {}", self.envelope),
        }
    }

    /// Objects of the answer of a query.
    pub fn objects(&self) -> Submission {
        decode(&self.found().objects).submission
    }

    /// `idr:Refusal/@code` of a fault.
    pub fn refusal(&self) -> String {
        let fault = self.soap().fault().expect("readable");
        let fault = fault.unwrap_or_else(|| panic!("no fault: {}", self.envelope));
        fault.refusal.expect("fault_detail is on")
    }

    /// The body with what differs between any two answers replaced (profile 09 §8).
    pub fn normal(&self, echoes: &[&str]) -> String {
        let mut text = String::from_utf8_lossy(&self.body).into_owned();
        for (number, echo) in echoes.iter().enumerate() {
            text = text.replace(echo, &format!("echo-{number}"));
        }
        let mut normal = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("urn:uuid:") {
            normal.push_str(&rest[..at]);
            normal.push_str("urn:uuid:-");
            rest = &rest[(at + 45).min(rest.len())..];
        }
        normal.push_str(rest);
        let content_type = self.headers.get(CONTENT_TYPE).map(|value| value.to_str().expect("ASCII")).unwrap_or_default();
        let boundary = content_type.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next());
        boundary.map_or(normal.clone(), |boundary| normal.replace(boundary, "boundary"))
    }
}

impl World {
    /// Sends a SOAP request and reads the answer.
    pub async fn soap(&self, party: &Party, request: Request<Body>) -> Answer {
        Answer::read(self.send(party, request).await).await
    }

    /// Registers a manifest over instances that are in the archive, as the hospital's site.
    pub async fn registered(&self, instances: &[Instance]) -> Revision {
        self.registered_under(&patient(), instances).await
    }

    /// The same under an id.
    pub async fn registered_under(&self, patient: &PatientId, instances: &[Instance]) -> Revision {
        let revision = Recipe::of(instances).about(patient).revision();
        let answer = self.soap(&PKI.hospital, register(&PKI.hospital, &PKI.hospital.site(patient), &revision)).await;
        assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
        revision
    }

    /// Stores instances as the hospital's site.
    pub async fn stored(&self, instances: &[Instance]) {
        self.stored_under(&patient(), instances).await;
    }

    /// The same under an id.
    pub async fn stored_under(&self, patient: &PatientId, instances: &[Instance]) {
        let mut body = Vec::new();
        for instance in instances {
            body.extend(b"\r\n--stow\r\nContent-Type: application/dicom\r\n\r\n");
            body.extend(instance.file());
        }
        body.extend(b"\r\n--stow--\r\n");
        let token = PKI.hospital.bearer(&PKI.hospital.site(patient), "idr.store");
        let request = Request::post(format!("/dicomweb/studies/{STUDY}"))
            .header(http::header::AUTHORIZATION, token)
            .header(CONTENT_TYPE, "multipart/related; type=\"application/dicom\"; boundary=stow")
            .body(body.into())
            .expect("a request");
        let response = self.send(&PKI.hospital, request).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    /// Informs the patient and records a disclosure consent.
    pub async fn consented(&self) {
        use crate::consent::declarations::{Act, Performer, Recording, record};
        let recording = |act| Recording {
            patient: patient(),
            act,
            performer: Performer::Patient,
            decided_on: jiff::civil::date(2026, 1, 19),
            document_sha256: None,
        };
        let informing = Act::Informing { language: "fi".to_owned(), information_version: "1".to_owned() };
        record(&self.central, "test", &recording(informing)).await.expect("recorded");
        let consent = Act::Consent { sector: idr_profile::access::Sector::Health };
        record(&self.central, "test", &recording(consent)).await.expect("recorded");
    }
}
