//! DICOM audit message (PS3.15 §A.5): a value and its XML.
//!
//! Which participants and objects a transaction records is the caller's (profile 07 §4). This module writes them in the
//! order of the schema, with codes as `csd-code`, `codeSystemName`, `originalText`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::xml::{Ns, Writer};

/// A coded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCode {
    /// `csd-code`.
    pub code: String,
    /// `codeSystemName`: `DCM`, `IHE Transactions`, `RFC-3881` …
    pub system: String,
    /// `originalText`.
    pub meaning: String,
}

impl AuditCode {
    /// A coded value.
    pub fn new(code: &str, system: &str, meaning: &str) -> Self {
        Self { code: code.to_owned(), system: system.to_owned(), meaning: meaning.to_owned() }
    }
}

/// `EventActionCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// C
    Create,
    /// R
    Read,
    /// U
    Update,
    /// D
    Delete,
    /// E
    Execute,
}

/// `EventOutcomeIndicator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0
    Success,
    /// 4: partial or refused.
    Minor,
    /// 8: failed.
    Serious,
    /// 12: component unavailable.
    Major,
}

/// Edition of the schema that the message must satisfy (profile 07 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaYear {
    /// PurposeOfUse stands in the RoleIDCode of the human requestor.
    Y2011,
    /// PurposeOfUse stands in EventIdentification.
    Y2017,
}

/// `ActiveParticipant`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ActiveParticipant {
    /// `UserID`.
    pub user_id: String,
    /// `AlternativeUserID`: process id on our side.
    pub alternative_user_id: Option<String>,
    /// `UserName`.
    pub user_name: Option<String>,
    /// A human requestor: the 2011 schema has its purpose of use here.
    pub is_human: bool,
    /// `UserIsRequestor`: true for exactly one participant.
    pub is_requestor: bool,
    /// `RoleIDCode`.
    pub roles: Vec<AuditCode>,
    /// `NetworkAccessPointID` and `NetworkAccessPointTypeCode` (1 name, 2 IP address).
    pub network_access_point: Option<(String, u8)>,
}

/// `ParticipantObjectIdentification`.
#[derive(Clone, PartialEq, Eq)]
pub struct ParticipantObject {
    /// `ParticipantObjectID`.
    pub id: String,
    /// `ParticipantObjectTypeCode`: 1 person, 2 system object.
    pub type_code: u8,
    /// `ParticipantObjectTypeCodeRole`.
    pub role: u8,
    /// `ParticipantObjectDataLifeCycle`.
    pub life_cycle: Option<u8>,
    /// `ParticipantObjectIDTypeCode`.
    pub id_type: AuditCode,
    /// `ParticipantObjectQuery`, before base64.
    pub query: Option<Vec<u8>>,
    /// `ParticipantObjectDetail`: type and value before base64.
    pub details: Vec<(String, String)>,
    /// `ParticipantObjectDescription`.
    pub description: Description,
}

/// `ParticipantObjectDescription`; always written, because published copies of the schema require it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// SOP Class UID, number of instances.
    pub sop_classes: Vec<(String, u64)>,
    /// Study Instance UIDs inside `ParticipantObjectContainsStudy`.
    pub studies: Vec<String>,
}

/// An audit message. `Debug` prints no identifiers.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditMessage {
    /// `EventID`.
    pub event: AuditCode,
    /// `EventTypeCode`.
    pub event_types: Vec<AuditCode>,
    /// `EventActionCode`.
    pub action: Action,
    /// `EventDateTime`, written in UTC with milliseconds.
    pub at: jiff::Timestamp,
    /// `EventOutcomeIndicator`.
    pub outcome: Outcome,
    /// Purpose of use of the assertion.
    pub purpose_of_use: Option<AuditCode>,
    /// Participants, at least one.
    pub participants: Vec<ActiveParticipant>,
    /// `AuditSourceID`: `idr-central@<host>`, `idr-site@<site>`.
    pub source_id: String,
    /// `AuditEnterpriseSiteID`: organisation OID.
    pub enterprise_site_id: Option<String>,
    /// `AuditSourceTypeCode`: 4 for an application server.
    pub source_type: u8,
    /// Objects.
    pub objects: Vec<ParticipantObject>,
}

impl std::fmt::Debug for AuditMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditMessage({}, {} objects)", self.event.code, self.objects.len())
    }
}

impl AuditMessage {
    /// The XML, without XML declaration.
    pub fn to_xml(&self, schema: SchemaYear) -> String {
        let mut writer = Writer::new();
        let w = &mut writer;
        w.start(Ns::Unbound, "AuditMessage");
        w.start(Ns::Unbound, "EventIdentification")
            .attribute("EventActionCode", self.action.as_str())
            .attribute("EventDateTime", &format!("{:.3}", self.at))
            .attribute("EventOutcomeIndicator", self.outcome.as_str());
        code(w, "EventID", &self.event);
        for event_type in &self.event_types {
            code(w, "EventTypeCode", event_type);
        }
        if let Some(purpose) = self.purpose_of_use.as_ref().filter(|_| schema == SchemaYear::Y2017) {
            code(w, "PurposeOfUse", purpose);
        }
        w.end();
        for participant in &self.participants {
            w.start(Ns::Unbound, "ActiveParticipant")
                .attribute("UserID", &participant.user_id)
                .attribute_if("AlternativeUserID", participant.alternative_user_id.as_deref())
                .attribute_if("UserName", participant.user_name.as_deref())
                .attribute("UserIsRequestor", if participant.is_requestor { "true" } else { "false" });
            if let Some((id, kind)) = &participant.network_access_point {
                w.attribute("NetworkAccessPointID", id).attribute("NetworkAccessPointTypeCode", &kind.to_string());
            }
            for role in &participant.roles {
                code(w, "RoleIDCode", role);
            }
            if let Some(purpose) = self.purpose_of_use.as_ref().filter(|_| schema == SchemaYear::Y2011 && participant.is_human) {
                code(w, "RoleIDCode", purpose);
            }
            w.end();
        }
        w.start(Ns::Unbound, "AuditSourceIdentification")
            .attribute_if("AuditEnterpriseSiteID", self.enterprise_site_id.as_deref())
            .attribute("AuditSourceID", &self.source_id);
        w.start(Ns::Unbound, "AuditSourceTypeCode").attribute("csd-code", &self.source_type.to_string());
        w.attribute("codeSystemName", "DCM").attribute("originalText", "audit source type").end().end();
        for object in &self.objects {
            participant_object(w, object);
        }
        writer.finish()
    }
}

fn participant_object(w: &mut Writer, object: &ParticipantObject) {
    w.start(Ns::Unbound, "ParticipantObjectIdentification")
        .attribute("ParticipantObjectID", &object.id)
        .attribute("ParticipantObjectTypeCode", &object.type_code.to_string())
        .attribute("ParticipantObjectTypeCodeRole", &object.role.to_string())
        .attribute_if("ParticipantObjectDataLifeCycle", object.life_cycle.map(|stage| stage.to_string()).as_deref());
    code(w, "ParticipantObjectIDTypeCode", &object.id_type);
    if let Some(query) = &object.query {
        w.leaf(Ns::Unbound, "ParticipantObjectQuery", &STANDARD.encode(query));
    }
    for (kind, value) in &object.details {
        w.start(Ns::Unbound, "ParticipantObjectDetail").attribute("type", kind).attribute("value", &STANDARD.encode(value)).end();
    }
    w.start(Ns::Unbound, "ParticipantObjectDescription");
    for (uid, instances) in &object.description.sop_classes {
        w.start(Ns::Unbound, "SOPClass").attribute("UID", uid).attribute("NumberOfInstances", &instances.to_string()).end();
    }
    w.start(Ns::Unbound, "ParticipantObjectContainsStudy");
    for uid in &object.description.studies {
        w.start(Ns::Unbound, "StudyIDs").attribute("UID", uid).end();
    }
    w.end().end().end();
}

fn code(w: &mut Writer, element: &'static str, code: &AuditCode) {
    w.start(Ns::Unbound, element)
        .attribute("csd-code", &code.code)
        .attribute("codeSystemName", &code.system)
        .attribute("originalText", &code.meaning)
        .end();
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "C",
            Self::Read => "R",
            Self::Update => "U",
            Self::Delete => "D",
            Self::Execute => "E",
        }
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::Minor => "4",
            Self::Serious => "8",
            Self::Major => "12",
        }
    }
}
