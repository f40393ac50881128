//! The state transition table (PS3.8 §9.2.3, Table 9-10), as it is printed there; `tests/transition_table.rs` states it a
//! second time, with what each action does, and compares.

use State::*;
use Step::*;
use Trigger::*;

/// A state of PS3.8 §9.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Idle.
    Sta1,
    /// Transport connection open, awaiting A-ASSOCIATE-RQ.
    Sta2,
    /// Awaiting the local answer to the request.
    Sta3,
    /// Awaiting the opening of the transport connection.
    Sta4,
    /// Awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ.
    Sta5,
    /// Association established and ready for data transfer.
    Sta6,
    /// Awaiting A-RELEASE-RP.
    Sta7,
    /// Awaiting the local answer to the release.
    Sta8,
    /// Release collision, requestor: awaiting the local answer to the release.
    Sta9,
    /// Release collision, acceptor: awaiting A-RELEASE-RP.
    Sta10,
    /// Release collision, requestor: awaiting A-RELEASE-RP.
    Sta11,
    /// Release collision, acceptor: awaiting the local answer to the release.
    Sta12,
    /// Awaiting the end of the transport connection; the association no longer exists.
    Sta13,
}

impl State {
    /// Every state, in order.
    pub const ALL: [State; 13] = [Sta1, Sta2, Sta3, Sta4, Sta5, Sta6, Sta7, Sta8, Sta9, Sta10, Sta11, Sta12, Sta13];

    /// What the standard says of the state, shortened.
    pub fn definition(self) -> &'static str {
        match self {
            Sta1 => "idle",
            Sta2 => "awaiting A-ASSOCIATE-RQ",
            Sta3 => "awaiting the local answer to the request",
            Sta4 => "awaiting the transport connection",
            Sta5 => "awaiting A-ASSOCIATE-AC or -RJ",
            Sta6 => "association established",
            Sta7 => "awaiting A-RELEASE-RP",
            Sta8 => "awaiting the local answer to the release",
            Sta9 => "release collision, awaiting the local answer",
            Sta10 => "release collision, awaiting A-RELEASE-RP",
            Sta11 => "release collision, awaiting A-RELEASE-RP",
            Sta12 => "release collision, awaiting the local answer",
            Sta13 => "awaiting the end of the transport connection",
        }
    }
}

/// Which side of the association this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Acceptor,
    Requestor,
}

/// An event, a row of the table. `…Pdu` is a received PDU, `Req` and `Rsp` are primitives of the local user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    TransportConfirmed,
    AcPdu,
    RjPdu,
    TransportIndicated,
    RqPdu,
    AcceptRsp,
    RejectRsp,
    DataReq,
    DataPdu,
    ReleaseReq,
    ReleaseRqPdu,
    ReleaseRpPdu,
    ReleaseRsp,
    AbortReq,
    AbortPdu,
    TransportClosed,
    ArtimExpired,
    InvalidPdu,
}

/// An action of Tables 9-6 to 9-9. AE-1 is the driver's: it opens the transport connection before it makes a requestor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    AE2,
    AE3,
    AE4,
    AE5,
    AE6,
    AE7,
    AE8,
    DT1,
    DT2,
    AR1,
    AR2,
    AR3,
    AR4,
    AR5,
    AR6,
    AR7,
    AR8,
    AR9,
    AR10,
    AA1,
    AA2,
    AA3,
    AA4,
    AA5,
    AA6,
    AA7,
    AA8,
}

/// The action and the next state, or `None` for a blank cell. AE-6 may end in Sta13 instead.
#[rustfmt::skip]
pub(super) fn transition(trigger: Trigger, state: State, role: Role) -> Option<(Step, State)> {
    Some(match (trigger, state) {
        (TransportConfirmed, Sta4) => (AE2, Sta5),

        (AcPdu, Sta2)  => (AA1, Sta13),
        (AcPdu, Sta5)  => (AE3, Sta6),
        (AcPdu, Sta13) => (AA6, Sta13),
        (AcPdu, Sta3 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA8, Sta13),

        (RjPdu, Sta2)  => (AA1, Sta13),
        (RjPdu, Sta5)  => (AE4, Sta1),
        (RjPdu, Sta13) => (AA6, Sta13),
        (RjPdu, Sta3 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA8, Sta13),

        (TransportIndicated, Sta1) => (AE5, Sta2),

        (RqPdu, Sta2)  => (AE6, Sta3),
        (RqPdu, Sta13) => (AA7, Sta13),
        (RqPdu, Sta3 | Sta5 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA8, Sta13),

        (AcceptRsp, Sta3) => (AE7, Sta6),
        (RejectRsp, Sta3) => (AE8, Sta13),

        (DataReq, Sta6) => (DT1, Sta6),
        (DataReq, Sta8) => (AR7, Sta8),

        (DataPdu, Sta2)  => (AA1, Sta13),
        (DataPdu, Sta6)  => (DT2, Sta6),
        (DataPdu, Sta7)  => (AR6, Sta7),
        (DataPdu, Sta13) => (AA6, Sta13),
        (DataPdu, Sta3 | Sta5 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA8, Sta13),

        (ReleaseReq, Sta6) => (AR1, Sta7),

        (ReleaseRqPdu, Sta2)  => (AA1, Sta13),
        (ReleaseRqPdu, Sta6)  => (AR2, Sta8),
        (ReleaseRqPdu, Sta7)  => (AR8, if role == Role::Requestor { Sta9 } else { Sta10 }),
        (ReleaseRqPdu, Sta13) => (AA6, Sta13),
        (ReleaseRqPdu, Sta3 | Sta5 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA8, Sta13),

        (ReleaseRpPdu, Sta2)  => (AA1, Sta13),
        (ReleaseRpPdu, Sta7)  => (AR3, Sta1),
        (ReleaseRpPdu, Sta10) => (AR10, Sta12),
        (ReleaseRpPdu, Sta11) => (AR3, Sta1),
        (ReleaseRpPdu, Sta13) => (AA6, Sta13),
        (ReleaseRpPdu, Sta3 | Sta5 | Sta6 | Sta8 | Sta9 | Sta12) => (AA8, Sta13),

        (ReleaseRsp, Sta8)  => (AR4, Sta13),
        (ReleaseRsp, Sta9)  => (AR9, Sta11),
        (ReleaseRsp, Sta12) => (AR4, Sta13),

        (AbortReq, Sta4) => (AA2, Sta1),
        (AbortReq, Sta3 | Sta5 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA1, Sta13),

        (AbortPdu, Sta2 | Sta13) => (AA2, Sta1),
        (AbortPdu, Sta3 | Sta5 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA3, Sta1),

        (TransportClosed, Sta2)  => (AA5, Sta1),
        (TransportClosed, Sta13) => (AR5, Sta1),
        (TransportClosed, Sta3 | Sta4 | Sta5 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA4, Sta1),

        (ArtimExpired, Sta2 | Sta13) => (AA2, Sta1),

        (InvalidPdu, Sta2)  => (AA1, Sta13),
        (InvalidPdu, Sta13) => (AA7, Sta13),
        (InvalidPdu, Sta3 | Sta5 | Sta6 | Sta7 | Sta8 | Sta9 | Sta10 | Sta11 | Sta12) => (AA8, Sta13),

        _ => return None,
    })
}
