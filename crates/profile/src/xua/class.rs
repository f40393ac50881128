//! Transaction classes (profile 04 §2).

use crate::access::{Operation, Purpose};

/// Class of a request. Computed from transaction and purpose, never taken from the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
pub enum Class {
    /// Store or register by a person.
    #[serde(rename = "ST")]
    Store,
    /// Automatic upload, custody and reconciliation by a technical user.
    #[serde(rename = "AU")]
    Automatic,
    /// Query.
    #[serde(rename = "QY")]
    Query,
    /// Retrieve.
    #[serde(rename = "RT")]
    Retrieve,
    /// Query or retrieve with emergency purpose.
    #[serde(rename = "EM")]
    Emergency,
    /// View of the patient or a guardian.
    #[serde(rename = "PV")]
    PatientView,
    /// Declarations, audit reading, explain, operation, identity work.
    #[serde(rename = "AD")]
    Administration,
}

impl Class {
    /// Every class, in the order of 04 §4.
    pub const ALL: [Self; 7] =
        [Self::Store, Self::Automatic, Self::Query, Self::Retrieve, Self::Emergency, Self::PatientView, Self::Administration];

    /// `ST`, `AU` …
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "ST",
            Self::Automatic => "AU",
            Self::Query => "QY",
            Self::Retrieve => "RT",
            Self::Emergency => "EM",
            Self::PatientView => "PV",
            Self::Administration => "AD",
        }
    }
}

/// A transaction or route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transaction {
    /// ITI-41 Provide and Register Document Set.
    Iti41,
    /// ITI-42 Register Document Set.
    Iti42,
    /// ITI-57 Update Document Set.
    Iti57,
    /// ITI-61 Register On-Demand Document Entry.
    Iti61,
    /// ITI-62 Remove Metadata.
    Iti62,
    /// ITI-86 Remove Documents.
    Iti86,
    /// ITI-92 Restricted Update Document Set.
    Iti92,
    /// RAD-68 Provide and Register Imaging Document Set.
    Rad68,
    /// RAD-66 Rejection Note Stored.
    Rad66,
    /// RAD-74 Replacement Instances Stored.
    Rad74,
    /// STOW-RS.
    StowRs,
    /// C-STORE.
    CStore,
    /// N-ACTION of storage commitment.
    StorageCommitment,
    /// Custody receipts of a study (11).
    Receipts,
    /// Reconciliation over many patients, `/custody/v1/reconcile` (11).
    Reconcile,
    /// ITI-18 Registry Stored Query.
    Iti18,
    /// ITI-38 Cross Gateway Query.
    Iti38,
    /// ITI-51 Multi-Patient Stored Query.
    Iti51,
    /// QIDO-RS.
    QidoRs,
    /// C-FIND.
    CFind,
    /// Light query for the state of disclosure (05 §12).
    LightState,
    /// Light query for service events (05 §12).
    LightEvents,
    /// ITI-43 Retrieve Document Set.
    Iti43,
    /// ITI-39 Cross Gateway Retrieve.
    Iti39,
    /// RAD-69 Retrieve Imaging Document Set.
    Rad69,
    /// RAD-75 Cross Gateway Retrieve Imaging Document Set.
    Rad75,
    /// WADO-RS, all resources.
    WadoRs,
    /// WADO-URI.
    WadoUri,
    /// C-MOVE.
    CMove,
    /// C-GET.
    CGet,
    /// Reading declarations.
    DeclarationRead,
    /// Recording declarations.
    DeclarationWrite,
    /// Reading logs.
    AuditRead,
    /// Trace of a decision.
    Explain,
    /// Queues, quarantine, status.
    Operate,
    /// Merge, link, split.
    Identity,
}

impl Transaction {
    /// Every transaction.
    pub const ALL: [Self; 36] = [
        Self::Iti41,
        Self::Iti42,
        Self::Iti57,
        Self::Iti61,
        Self::Iti62,
        Self::Iti86,
        Self::Iti92,
        Self::Rad68,
        Self::Rad66,
        Self::Rad74,
        Self::StowRs,
        Self::CStore,
        Self::StorageCommitment,
        Self::Receipts,
        Self::Reconcile,
        Self::Iti18,
        Self::Iti38,
        Self::Iti51,
        Self::QidoRs,
        Self::CFind,
        Self::LightState,
        Self::LightEvents,
        Self::Iti43,
        Self::Iti39,
        Self::Rad69,
        Self::Rad75,
        Self::WadoRs,
        Self::WadoUri,
        Self::CMove,
        Self::CGet,
        Self::DeclarationRead,
        Self::DeclarationWrite,
        Self::AuditRead,
        Self::Explain,
        Self::Operate,
        Self::Identity,
    ];

    /// What it does when a person asks (05 §3).
    fn plain_operation(self) -> Operation {
        match self {
            Self::Iti41 | Self::Iti42 | Self::Iti61 | Self::Rad68 | Self::Rad74 | Self::StowRs | Self::CStore => Operation::Store,
            Self::Iti57 | Self::Iti62 | Self::Iti86 | Self::Iti92 | Self::Rad66 => Operation::Correct,
            Self::StorageCommitment | Self::Receipts | Self::Reconcile | Self::Iti51 => Operation::Reconcile,
            Self::Iti18 | Self::Iti38 | Self::QidoRs | Self::CFind => Operation::Search,
            Self::LightState => Operation::State,
            Self::LightEvents => Operation::Events,
            Self::Iti43 | Self::Iti39 | Self::Rad69 | Self::Rad75 | Self::WadoRs | Self::WadoUri | Self::CMove | Self::CGet => {
                Operation::Retrieve
            }
            Self::DeclarationRead => Operation::DeclRead,
            Self::DeclarationWrite => Operation::DeclWrite,
            Self::AuditRead => Operation::AuditRead,
            Self::Explain => Operation::Explain,
            Self::Operate => Operation::Ops,
            Self::Identity => Operation::Identity,
        }
    }

    /// The class of this transaction with a purpose; `None` if it is in no class then.
    pub fn class(self, purpose: Purpose) -> Option<Class> {
        match (self.plain_operation(), purpose) {
            (Operation::Store | Operation::Correct, Purpose::Automatic) if !matches!(self, Self::Iti86 | Self::Iti92) => {
                Some(Class::Automatic)
            }
            (Operation::Store | Operation::Correct, _) => Some(Class::Store),
            (Operation::Reconcile, Purpose::Automatic) => Some(Class::Automatic),
            (Operation::Reconcile, _) => None,
            (Operation::Search, Purpose::Automatic) if matches!(self, Self::Iti18 | Self::QidoRs) => Some(Class::Automatic),
            (Operation::Search | Operation::State | Operation::Events | Operation::Retrieve, Purpose::Emergency) => Some(Class::Emergency),
            (Operation::Search | Operation::State | Operation::Events | Operation::Retrieve, Purpose::PatientView) => {
                Some(Class::PatientView)
            }
            (Operation::Search | Operation::State | Operation::Events, _) => Some(Class::Query),
            (Operation::Retrieve, _) => Some(Class::Retrieve),
            // A citizen's own declarations, log and explanation (05 §3) come through the portal as the view does.
            (_, Purpose::PatientView) => Some(Class::PatientView),
            _ => Some(Class::Administration),
        }
    }

    /// The operation that is decided (05 §3): a query of a technical user is reconciliation.
    pub fn operation(self, class: Class) -> Operation {
        match (self.plain_operation(), class) {
            (Operation::Search, Class::Automatic) => Operation::Reconcile,
            (operation, _) => operation,
        }
    }

    /// One request over many patients: it names none, and neither does its assertion (04 §4 C1).
    pub fn spans_patients(self) -> bool {
        matches!(self, Self::Reconcile | Self::Iti51)
    }

    /// The JWT scope that covers it (04 §10.3).
    pub fn scope(self, class: Class) -> &'static str {
        match self.plain_operation() {
            Operation::Store | Operation::Correct | Operation::Reconcile => "idr.store",
            Operation::Search if class == Class::Automatic => "idr.store",
            Operation::Search | Operation::State | Operation::Events => "idr.query",
            Operation::Retrieve => "idr.retrieve",
            Operation::DeclRead | Operation::DeclWrite => "idr.declarations",
            Operation::AuditRead | Operation::Explain => "idr.audit",
            Operation::Ops | Operation::Identity => "idr.admin",
        }
    }
}
