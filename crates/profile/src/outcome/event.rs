//! Signals without a number: what happens here, on the way, or instead of an answer.

use std::io::ErrorKind;

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// A signal that has no status of its own. The rows of `outcomes.toml` name them in `on`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
        pub enum Event {
            $($(#[doc = $doc])* #[serde(rename = $text)] $name,)*
        }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

events! {
    /// Peer disabled by an operator.
    PeerDisabled = "peer-disabled",
    /// Outside the send window or over the byte rate of the peer.
    OutsideWindow = "outside-window",
    /// Breaker open.
    BreakerOpen = "breaker-open",
    /// Shutdown or reload in the middle.
    Stopping = "stopping",
    /// I/O error reading the spool.
    SpoolRead = "spool-read",
    /// Digest of the spool bytes differs from the record.
    DigestDiffers = "digest-differs",
    /// Disk full while writing state.
    DiskFull = "disk-full",
    /// File descriptors, buffers, memory or local ports are used up.
    LocalLimit = "local-limit",
    /// Clock beyond its limit.
    Clock = "clock",
    /// Signing or TLS key missing, unreadable or expired.
    Key = "key",
    /// Manifest or metadata cannot be built.
    NotBuilt = "not-built",
    /// Task ended by a fault; see [`super::Context::faults_within_day`].
    TaskFault = "task-fault",
    /// Name does not exist, or has no address record.
    NameUnknown = "name-unknown",
    /// Name service does not answer or fails.
    NameFailure = "name-failure",
    /// ECONNREFUSED.
    ConnectionRefused = "connection-refused",
    /// Connect timeout, ETIMEDOUT.
    ConnectTimeout = "connect-timeout",
    /// EHOSTUNREACH, ENETUNREACH, ENETDOWN, EHOSTDOWN.
    Unreachable = "unreachable",
    /// ECONNRESET, EPIPE, ECONNABORTED, unexpected end.
    ConnectionReset = "connection-reset",
    /// EACCES, EPERM.
    NotPermitted = "not-permitted",
    /// Any other socket error.
    SocketError = "socket-error",
    /// TLS handshake timeout.
    TlsTimeout = "tls-timeout",
    /// Peer certificate expired or not yet valid.
    CertificateExpired = "certificate-expired",
    /// Unknown issuer, bad signature, path length, wrong usage.
    CertificateChain = "certificate-chain",
    /// Certificate not for this name.
    CertificateName = "certificate-name",
    /// Path valid, certificate pin differs.
    CertificatePin = "certificate-pin",
    /// Revoked by CRL or OCSP.
    CertificateRevoked = "certificate-revoked",
    /// Revocation data needed and not usable.
    RevocationUnknown = "revocation-unknown",
    /// No PDU within the limit.
    AssociationTimeout = "association-timeout",
    /// PDU not decodable or not allowed in the state.
    AssociationProtocol = "association-protocol",
    /// A-RELEASE-RQ from the peer before our answer came.
    ReleaseRequested = "release-requested",
    /// The same instance ended three associations while others succeeded between.
    Poison = "poison",
    /// A proposed presentation context is missing in the answer.
    ContextMissing = "context-missing",
    /// Instance in Referenced SOP Sequence of the report, class equal.
    Committed = "committed",
    /// The same with another class.
    CommittedOtherClass = "committed-other-class",
    /// Instance in both sequences of the report.
    CommittedAndFailed = "committed-and-failed",
    /// Instance of the transaction in neither.
    NotInReport = "not-in-report",
    /// Instance that is not in the transaction.
    NotInTransaction = "not-in-transaction",
    /// Event Type ID other than 1 and 2.
    EventTypeUnknown = "event-type-unknown",
    /// Transaction UID not ours, or already closed.
    TransactionUnknown = "transaction-unknown",
    /// Report not decodable.
    ReportUnreadable = "report-unreadable",
    /// No report within the limit.
    NoReport = "no-report",
    /// No HTTP response, or no progress.
    HttpTimeout = "http-timeout",
    /// Response body cut or too long.
    HttpCut = "http-cut",
    /// Response media type is none of this service; [`super::StowBody::OtherType`] and [`super::Soap`] use it.
    HttpMediaType = "http-media-type",
    /// STOW-RS: stored, no warning.
    Stored = "stored",
    /// STOW-RS: in both sequences.
    StoredAndFailed = "stored-and-failed",
    /// STOW-RS: in neither.
    NotInAnswer = "not-in-answer",
    /// STOW-RS: stored with another class or UID than sent.
    StoredWithOtherIdentity = "stored-with-other-identity",
    /// STOW-RS: failed without a reason.
    FailedWithoutReason = "failed-without-reason",
    /// A fault or HTTP 403 whose text says that role, purpose or organisation is not permitted.
    XuaDenied = "xua-denied",
    /// MTOM parts missing.
    PartsMissing = "parts-missing",
    /// RelatesTo is not our MessageID.
    AnswerOfAnother = "answer-of-another",
    /// XML not well formed, DTD, too deep, too long.
    NotParsable = "not-parsable",
    /// A signal that no row names.
    Unknown = "unknown",
}

/// Linux error numbers that have no [`ErrorKind`] of their own.
const LOCAL_LIMIT: [i32; 4] = [12, 23, 24, 105]; // ENOMEM ENFILE EMFILE ENOBUFS
const EPERM: i32 = 1;
const EHOSTDOWN: i32 = 112;

impl Event {
    /// The event of a socket error (03 §4.1, §4.2): `kind` and, on Linux, the error number.
    pub fn from_socket_error(kind: ErrorKind, raw_os_error: Option<i32>) -> Self {
        match raw_os_error {
            Some(number) if LOCAL_LIMIT.contains(&number) => return Self::LocalLimit,
            Some(EHOSTDOWN) => return Self::Unreachable,
            Some(EPERM) => return Self::NotPermitted,
            _ => {}
        }
        match kind {
            ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            ErrorKind::TimedOut => Self::ConnectTimeout,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => Self::Unreachable,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof => {
                Self::ConnectionReset
            }
            ErrorKind::PermissionDenied => Self::NotPermitted,
            ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory => Self::LocalLimit,
            _ => Self::SocketError,
        }
    }
}
