//! Protocol data units as values (PS3.8 §9.3).
//!
//! The two association PDUs are the types of `dicom-ul`. The others are ours: a P-DATA-TF holds slices of the received
//! bytes, and an abort or a rejection keeps numbers that the standard reserves, so that they can be written to a journal.
//!
//! `Debug` prints neither user information (it may hold an assertion) nor the bytes of a data set.

use std::fmt;

use bytes::Bytes;
use dicom_ul::pdu::{AssociationAC, AssociationRQ};

/// One protocol data unit.
#[derive(Clone, PartialEq)]
pub enum Pdu {
    /// A-ASSOCIATE-RQ (01H).
    AssociateRq(Box<AssociationRQ>),
    /// A-ASSOCIATE-AC (02H).
    AssociateAc(Box<AssociationAC>),
    /// A-ASSOCIATE-RJ (03H).
    AssociateRj(Rejection),
    /// P-DATA-TF (04H), one or more presentation data values.
    Data(Vec<Pdv>),
    /// A-RELEASE-RQ (05H).
    ReleaseRq,
    /// A-RELEASE-RP (06H).
    ReleaseRp,
    /// A-ABORT (07H).
    Abort(Abort),
}

impl Pdu {
    /// The type of this PDU.
    pub fn pdu_type(&self) -> PduType {
        match self {
            Pdu::AssociateRq(_) => PduType::AssociateRq,
            Pdu::AssociateAc(_) => PduType::AssociateAc,
            Pdu::AssociateRj(_) => PduType::AssociateRj,
            Pdu::Data(_) => PduType::Data,
            Pdu::ReleaseRq => PduType::ReleaseRq,
            Pdu::ReleaseRp => PduType::ReleaseRp,
            Pdu::Abort(_) => PduType::Abort,
        }
    }
}

impl fmt::Debug for Pdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pdu::AssociateRq(rq) => {
                write!(f, "{} of {} contexts", self.pdu_type(), rq.presentation_contexts.len())
            }
            Pdu::AssociateAc(ac) => {
                write!(f, "{} of {} contexts", self.pdu_type(), ac.presentation_contexts.len())
            }
            Pdu::AssociateRj(rejection) => write!(f, "{} {rejection:?}", self.pdu_type()),
            Pdu::Data(pdvs) => write!(f, "{} {pdvs:?}", self.pdu_type()),
            Pdu::Abort(abort) => write!(f, "{} {abort:?}", self.pdu_type()),
            Pdu::ReleaseRq | Pdu::ReleaseRp => write!(f, "{}", self.pdu_type()),
        }
    }
}

/// The PDU types of PS3.8 §9.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PduType {
    /// 01H.
    AssociateRq = 1,
    /// 02H.
    AssociateAc = 2,
    /// 03H.
    AssociateRj = 3,
    /// 04H.
    Data = 4,
    /// 05H.
    ReleaseRq = 5,
    /// 06H.
    ReleaseRp = 6,
    /// 07H.
    Abort = 7,
}

impl PduType {
    /// The type with this number, if the standard has one.
    pub fn new(number: u8) -> Option<Self> {
        Some(match number {
            1 => PduType::AssociateRq,
            2 => PduType::AssociateAc,
            3 => PduType::AssociateRj,
            4 => PduType::Data,
            5 => PduType::ReleaseRq,
            6 => PduType::ReleaseRp,
            7 => PduType::Abort,
            _ => return None,
        })
    }
}

impl fmt::Display for PduType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PduType::AssociateRq => "A-ASSOCIATE-RQ",
            PduType::AssociateAc => "A-ASSOCIATE-AC",
            PduType::AssociateRj => "A-ASSOCIATE-RJ",
            PduType::Data => "P-DATA-TF",
            PduType::ReleaseRq => "A-RELEASE-RQ",
            PduType::ReleaseRp => "A-RELEASE-RP",
            PduType::Abort => "A-ABORT",
        })
    }
}

/// A presentation data value: one fragment of one message (PS3.8 §9.3.5.1, Annex E).
#[derive(Clone, PartialEq, Eq)]
pub struct Pdv {
    /// Presentation context of the message.
    pub context_id: u8,
    /// Command set or data set: bit 0 of the message control header.
    pub kind: Fragment,
    /// Last fragment of its command set or data set: bit 1 of the message control header.
    pub last: bool,
    /// The fragment; a slice of the PDU that brought it.
    pub data: Bytes,
}

impl fmt::Debug for Pdv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = if self.last { ", last" } else { "" };
        write!(f, "context {} {:?} {} bytes{last}", self.context_id, self.kind, self.data.len())
    }
}

/// What a presentation data value is a fragment of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// The command set.
    Command,
    /// The data set.
    Data,
}

/// Result, source and reason of A-ASSOCIATE-RJ (PS3.8 §9.3.4), as they stand on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// 1 rejected-permanent, 2 rejected-transient.
    pub result: u8,
    /// 1 service-user, 2 service-provider (ACSE), 3 service-provider (presentation).
    pub source: u8,
    /// Meaning depends on the source.
    pub reason: u8,
}

impl Rejection {
    /// Permanent, service-user: no reason given.
    pub const NO_REASON: Rejection = Rejection::new(1, 1, 1);
    /// Permanent, service-user: application context name not supported.
    pub const APPLICATION_CONTEXT: Rejection = Rejection::new(1, 1, 2);
    /// Permanent, service-user: calling AE title not recognized.
    pub const CALLING_AE_TITLE: Rejection = Rejection::new(1, 1, 3);
    /// Permanent, service-user: called AE title not recognized.
    pub const CALLED_AE_TITLE: Rejection = Rejection::new(1, 1, 7);
    /// Permanent, service-provider (ACSE): no reason given.
    pub const PROVIDER_NO_REASON: Rejection = Rejection::new(1, 2, 1);
    /// Permanent, service-provider (ACSE): protocol version not supported.
    pub const PROTOCOL_VERSION: Rejection = Rejection::new(1, 2, 2);
    /// Transient, service-provider (presentation): temporary congestion.
    pub const CONGESTION: Rejection = Rejection::new(2, 3, 1);
    /// Transient, service-provider (presentation): local limit exceeded.
    pub const LOCAL_LIMIT: Rejection = Rejection::new(2, 3, 2);

    /// A rejection with these numbers.
    pub const fn new(result: u8, source: u8, reason: u8) -> Self {
        Rejection { result, source, reason }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(self) -> bool {
        self.result == 2
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.result, self.source, self.reason)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.is_transient() { "transient" } else { "permanent" };
        let text = match (self.source, self.reason) {
            (1, 1) | (2, 1) => "no reason given",
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "reserved reason",
        };
        write!(f, "{text} ({result}, {self:?})")
    }
}

/// Source and reason of A-ABORT (PS3.8 §9.3.8), as they stand on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Abort {
    /// 0 service-user, 2 service-provider; others are reserved.
    pub source: u8,
    /// Only significant when the source is the service-provider.
    pub reason: u8,
}

impl Abort {
    /// The service-user ends the association.
    pub const USER: Abort = Abort { source: 0, reason: 0 };
    /// Service-provider: reason not specified.
    pub const PROVIDER: Abort = Abort { source: 2, reason: 0 };
    /// Service-provider: unrecognized PDU.
    pub const UNRECOGNIZED_PDU: Abort = Abort { source: 2, reason: 1 };
    /// Service-provider: unexpected PDU.
    pub const UNEXPECTED_PDU: Abort = Abort { source: 2, reason: 2 };
    /// Service-provider: invalid PDU parameter value.
    pub const INVALID_PARAMETER: Abort = Abort { source: 2, reason: 6 };
}

impl fmt::Debug for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.reason)
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.source, self.reason) {
            (0, _) => "by the service-user",
            (2, 1) => "unrecognized PDU",
            (2, 2) => "unexpected PDU",
            (2, 4) => "unrecognized PDU parameter",
            (2, 5) => "unexpected PDU parameter",
            (2, 6) => "invalid PDU parameter value",
            _ => "reason not specified",
        };
        write!(f, "{text} ({self:?})")
    }
}
