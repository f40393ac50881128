//! Codes of refusals and warnings (profile 06 §10), and how an answer says them.

use idr_ihe::hl7::{Ack, AckCode, AckError, Condition, Location, Severity};

/// `IDR-H-nn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// H-02: message type.
    MessageType,
    /// H-03: event.
    Event,
    /// H-04: processing id.
    ProcessingId,
    /// H-05: version.
    Version,
    /// H-06: a segment is missing or out of order.
    Segments,
    /// H-07: a required field is empty.
    Required,
    /// H-08: an identifier, date or text is malformed, or a time lies in the future.
    Value,
    /// H-09: character set or coded value.
    Coded,
    /// H-10: the id to rename or unlink is unknown.
    Unknown,
    /// H-11: MSH-10 is used again, or the target of A47 is in use.
    Duplicate,
    /// H-12: the patient is locked.
    Locked,
    /// H-13: store or audit are not available.
    Unavailable,
    /// H-14: sender, root or receiver are not allowed.
    NotAllowed,
    /// H-15: a rule refuses the merge.
    Rule,
    /// H-16: a size or count is above its bound.
    Bound,
}

impl Code {
    /// Every code, in order.
    pub const ALL: [Self; 15] = [
        Self::MessageType,
        Self::Event,
        Self::ProcessingId,
        Self::Version,
        Self::Segments,
        Self::Required,
        Self::Value,
        Self::Coded,
        Self::Unknown,
        Self::Duplicate,
        Self::Locked,
        Self::Unavailable,
        Self::NotAllowed,
        Self::Rule,
        Self::Bound,
    ];

    /// `IDR-H-02`.
    pub fn id(self) -> &'static str {
        self.row().0
    }

    /// MSA-1.
    pub fn ack(self) -> AckCode {
        self.row().1
    }

    /// Table 0357.
    pub fn condition(self) -> Condition {
        self.row().2
    }

    /// What the sender does about it.
    pub fn remedy(self) -> &'static str {
        self.row().3
    }

    /// Whether the same message may be taken another time: nothing was wrong with it.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Locked | Self::Unavailable)
    }

    fn row(self) -> (&'static str, AckCode, Condition, &'static str) {
        use AckCode::{Ae, Ar};
        use Condition as C;
        match self {
            Self::MessageType => ("IDR-H-02", Ar, C::UnsupportedMessageType, "Correct the routing"),
            Self::Event => ("IDR-H-03", Ar, C::UnsupportedEventCode, "Correct the routing"),
            Self::ProcessingId => ("IDR-H-04", Ar, C::UnsupportedProcessingId, "Send to the receiver of this environment"),
            Self::Version => ("IDR-H-05", Ar, C::UnsupportedVersionId, "Send version 2.3 to 2.5.1"),
            Self::Segments => ("IDR-H-06", Ae, C::SegmentSequenceError, "Correct the message"),
            Self::Required => ("IDR-H-07", Ae, C::RequiredFieldMissing, "Fill the field"),
            Self::Value => ("IDR-H-08", Ae, C::DataTypeError, "Correct the value"),
            Self::Coded => ("IDR-H-09", Ae, C::TableValueNotFound, "Correct the value"),
            Self::Unknown => ("IDR-H-10", Ae, C::UnknownKeyIdentifier, "Send A40 or A28 first"),
            Self::Duplicate => ("IDR-H-11", Ae, C::DuplicateKeyIdentifier, "Correct the message"),
            Self::Locked => ("IDR-H-12", Ae, C::ApplicationRecordLocked, "Send again after 5 s"),
            Self::Unavailable => ("IDR-H-13", Ar, C::ApplicationInternalError, "Send again, at first after 5 s"),
            Self::NotAllowed => ("IDR-H-14", Ar, C::ApplicationInternalError, "Have the source's row of hl7-sources.toml corrected"),
            Self::Rule => ("IDR-H-15", Ae, C::ApplicationInternalError, "A person has to look at it"),
            Self::Bound => ("IDR-H-16", Ar, C::ApplicationInternalError, "Make the message smaller"),
        }
    }
}

/// Why a message is not done. No text of it repeats a value of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", code.id())]
pub struct Refusal {
    /// Which code.
    pub code: Code,
    /// Where.
    pub location: Option<Location>,
    /// What, in a sentence.
    pub what: String,
}

impl Refusal {
    /// A refusal of the message as a whole.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, location: None, what: what.into() }
    }

    /// A refusal that a place in the message is the reason of.
    pub fn at(code: Code, location: Location, what: impl Into<String>) -> Self {
        Self { code, location: Some(location), what: what.into() }
    }

    /// The answer.
    pub fn ack(&self) -> Ack {
        let error = AckError {
            location: self.location,
            condition: self.code.condition(),
            severity: Severity::Error,
            code: self.code.id().to_owned(),
            text: self.what.clone(),
            remedy: self.code.remedy().to_owned(),
        };
        Ack { code: self.code.ack(), errors: vec![error] }
    }
}

macro_rules! warnings {
    ($($(#[$doc:meta])* $name:ident: $id:literal, $text:literal;)+) => {
        /// A warning: the message is done, but somebody should know (W-01 … W-16).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Warning {
            $($(#[$doc])* $name,)+
        }
        impl Warning {
            /// Every warning, in order.
            pub const ALL: &[Self] = &[$(Self::$name),+];
            /// The profile's id, `W-01`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }
            /// In a sentence.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

warnings! {
    /// Lower-case letters were raised.
    LowerCase: "W-01", "Lower-case letters of the identifier were raised";
    /// PID-7 is not the birth date of the hetu.
    BirthDate: "W-02", "PID-7 is not the birth date of the personal identity code";
    /// PID-8 is not that of the hetu, or no code of the table.
    Sex: "W-03", "PID-8 is not that of the personal identity code, or no code of table 0001";
    /// An old field was read.
    OldField: "W-04", "An identifier was read from a field of an old version";
    /// CX.5 contradicts the authority.
    TypeContradiction: "W-05", "CX.5 contradicts the assigning authority";
    /// An escape was not understood.
    Escape: "W-06", "An escape is not understood and was kept";
    /// Structure or EVN-1 are not those of the event.
    Structure: "W-07", "MSH-9.3 or EVN-1 are not those of the event";
    /// A local time that exists twice or not at all.
    LocalTime: "W-08", "A local time exists twice or not at all";
    /// PID-31 says unknown, with a hetu.
    IdentityUnknown: "W-09", "PID-31 says that the identity is not known";
    /// The old id of a merge was not known.
    OldUnknown: "W-10", "The old identifier was not known";
    /// Older than what is known.
    Stale: "W-11", "The message is older than what is known";
    /// The id was merged away.
    Merged: "W-12", "The identifier was merged into another";
    /// An identifier cannot be used.
    Issuer: "W-13", "The assigning authority of an identifier is not known";
    /// Form of a temporary id.
    TemporaryForm: "W-14", "The temporary identifier has not the expected form";
    /// A hetu under a temporary root.
    HetuUnderTemporaryRoot: "W-15", "A personal identity code stands under a temporary root";
    /// A real hetu in a test system.
    RealHetuInTest: "W-16", "The personal identity code is not of the test range";
}

impl From<crate::identifier::Warning> for Warning {
    fn from(warning: crate::identifier::Warning) -> Self {
        use crate::identifier::Warning as Identifier;
        match warning {
            Identifier::Raised => Self::LowerCase,
            Identifier::TemporaryForm => Self::TemporaryForm,
            Identifier::HetuUnderTemporaryRoot => Self::HetuUnderTemporaryRoot,
            Identifier::RealHetuInTest => Self::RealHetuInTest,
        }
    }
}

/// A warning and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warned {
    /// Which.
    pub warning: Warning,
    /// Where.
    pub location: Option<Location>,
}

/// The answer to a message that was done; `warnings` stand in it if they are wanted (`ack_warnings`).
pub fn accepted(warnings: &[Warned]) -> Ack {
    let errors = warnings.iter().map(|warned| AckError {
        location: warned.location,
        condition: Condition::MessageAccepted,
        severity: Severity::Warning,
        code: warned.warning.id().to_owned(),
        text: warned.warning.text().to_owned(),
        remedy: String::new(),
    });
    Ack { code: AckCode::Aa, errors: errors.collect() }
}
