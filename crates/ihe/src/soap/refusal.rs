//! Why a message is refused before any transaction has looked at it, and the fault that says so.

use super::fault::{Detail, Fault, FaultCode};
use super::multipart::MultipartError;
use super::xop::XopError;
use crate::xml::{Ns, XmlError};

/// A broken rule of profile 08 §3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// S-02: Content-Type.
    #[error("Content-Type is neither SOAP nor MTOM: send application/soap+xml or multipart/related with application/xop+xml")]
    MediaType,
    /// S-03: namespace of the envelope.
    #[error("the envelope is not SOAP 1.2")]
    Version,
    /// S-04: charset parameter.
    #[error("charset is not UTF-8")]
    Charset,
    /// S-05: the body is too large.
    #[error("the message is larger than {limit} bytes")]
    TooLarge {
        /// The bound, bytes.
        limit: u64,
    },
    /// S-04, S-06, S-25, S-32: the XML.
    #[error("the envelope cannot be read")]
    Xml(#[from] XmlError),
    /// S-07: structure of the envelope.
    #[error("the envelope has not exactly one Body with exactly one child element")]
    Shape,
    /// S-08 (Action), S-09 (MessageID): a header block is absent or empty.
    #[error("header wsa:{header} is missing")]
    HeaderMissing {
        /// Local name.
        header: &'static str,
    },
    /// S-10: a header block occurs twice.
    #[error("header wsa:{header} occurs twice")]
    HeaderTwice {
        /// Local name.
        header: &'static str,
    },
    /// S-11: the action is unknown, not served here or switched off.
    #[error("wsa:Action is not served here")]
    ActionNotSupported {
        /// The action as sent.
        action: String,
    },
    /// S-12: the body is not the one of the action.
    #[error("the body element is not the one of the action")]
    Body,
    /// S-15: an answer address other than anonymous.
    #[error("header wsa:{header} is not the anonymous address")]
    NotAnonymous {
        /// Local name.
        header: &'static str,
    },
    /// S-17: header blocks that must be understood and are not.
    #[error("{} header blocks must be understood and are not", blocks.len())]
    NotUnderstood {
        /// Namespace URI and local name of each.
        blocks: Vec<(String, String)>,
    },
    /// S-18: `wsa:To` is no endpoint of this node.
    #[error("wsa:To is not an endpoint of this node")]
    Destination {
        /// The address as sent.
        iri: String,
    },
    /// S-19: form of the MessageID.
    #[error("wsa:MessageID is not an absolute IRI of 1 to 256 characters")]
    MessageId,
    /// S-20: the MessageID is known with other content.
    #[error("wsa:MessageID was used for another message")]
    DuplicateMessageId,
    /// S-05, S-22, S-23, S-27, S-28: the MIME frame.
    #[error("the MIME frame cannot be read")]
    Multipart(#[from] MultipartError),
    /// S-24, S-28: document content.
    #[error("document content cannot be read")]
    Xop(#[from] XopError),
    /// S-40: internal error outside a transaction.
    #[error("internal error, incident {incident}")]
    Internal {
        /// Identifier that the journal also has.
        incident: String,
    },
    /// S-41: drain or maintenance.
    #[error("the service is not available now")]
    Unavailable,
}

/// A [`Refusal`] of a message whose MessageID may have been read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message is refused")]
pub struct Rejected {
    /// Why.
    #[source]
    pub refusal: Refusal,
    /// The request's MessageID, for `wsa:RelatesTo`.
    pub relates_to: Option<String>,
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, relates_to: None }
    }
}

impl Refusal {
    /// The rule of profile 08 §3 (S-40, S-41: 09 §4).
    pub fn rule(&self) -> &'static str {
        match self {
            Self::MediaType => "S-02",
            Self::Version => "S-03",
            Self::Charset => "S-04",
            Self::TooLarge { .. } => "S-05",
            Self::Xml(error) => error.rule(),
            Self::Shape => "S-07",
            Self::HeaderMissing { header: "Action" } => "S-08",
            Self::HeaderMissing { .. } => "S-09",
            Self::HeaderTwice { .. } => "S-10",
            Self::ActionNotSupported { .. } => "S-11",
            Self::Body => "S-12",
            Self::NotAnonymous { .. } => "S-15",
            Self::NotUnderstood { .. } => "S-17",
            Self::Destination { .. } => "S-18",
            Self::MessageId => "S-19",
            Self::DuplicateMessageId => "S-20",
            Self::Multipart(error) => error.rule(),
            Self::Xop(error) => error.rule(),
            Self::Internal { .. } => "S-40",
            Self::Unavailable => "S-41",
        }
    }

    /// `IDR-S-nn`.
    pub fn code(&self) -> String {
        format!("IDR-{}", self.rule())
    }

    /// HTTP status (profile 09 §4, §5).
    pub fn http_status(&self) -> u16 {
        match self.rule() {
            "S-02" => 415,
            "S-05" => 413,
            "S-41" => 503,
            _ => 500,
        }
    }

    /// The fault, or `None` where the HTTP status says all (S-02, S-05).
    pub fn fault(&self) -> Option<Fault> {
        let header = |local: &str| Detail::ProblemHeader { namespace: Ns::Addressing.uri().to_owned(), local: local.to_owned() };
        let invalid = |subcode: Option<&str>, local: &str| {
            let mut fault = Fault::sender(MESSAGE).subcode(Ns::Addressing, "InvalidAddressingHeader");
            if let Some(subcode) = subcode {
                fault = fault.subcode(Ns::Addressing, subcode);
            }
            fault.detail(header(local))
        };
        let fault = match self {
            Self::MediaType | Self::TooLarge { .. } => return None,
            Self::Multipart(error) if error.rule() == "S-05" => return None,
            Self::Version => Fault::new(FaultCode::VersionMismatch, "The SOAP version is not supported."),
            Self::NotUnderstood { blocks } => {
                let mut fault = Fault::new(FaultCode::MustUnderstand, MESSAGE);
                fault.not_understood = blocks.clone();
                fault
            }
            Self::HeaderMissing { header: local } => {
                Fault::sender(MESSAGE).subcode(Ns::Addressing, "MessageAddressingHeaderRequired").detail(header(local))
            }
            Self::HeaderTwice { header } => invalid(Some("InvalidCardinality"), header),
            Self::MessageId => invalid(None, "MessageID"),
            Self::NotAnonymous { header } => invalid(Some("OnlyAnonymousAddressSupported"), header),
            Self::DuplicateMessageId => invalid(Some("DuplicateMessageID"), "MessageID"),
            Self::ActionNotSupported { action } => Fault::sender("The action is not supported.")
                .subcode(Ns::Addressing, "ActionNotSupported")
                .detail(Detail::ProblemAction(action.clone())),
            Self::Destination { iri } => {
                Fault::sender(MESSAGE).subcode(Ns::Addressing, "DestinationUnreachable").detail(Detail::ProblemIri(iri.clone()))
            }
            Self::Internal { incident } => {
                let mut fault = Fault::new(FaultCode::Receiver, "The service failed.");
                fault.incident = Some(incident.clone());
                fault
            }
            Self::Unavailable => Fault::new(FaultCode::Receiver, "The service is not available now.")
                .subcode(Ns::Addressing, "EndpointUnavailable")
                .detail(Detail::RetryAfter { seconds: 120 }),
            Self::Charset | Self::Xml(_) | Self::Shape | Self::Body | Self::Multipart(_) | Self::Xop(_) => Fault::sender(MESSAGE),
        };
        Some(fault.refusal(self.code()))
    }
}

const MESSAGE: &str = "The message is not acceptable.";
