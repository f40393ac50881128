//! The closed set of check kinds. Which rule uses which kind, with which parameters, is data.

use super::iod::ModuleFault;
use super::parameters::Pattern;
use super::tag_text;
use crate::scan::DefectKind;
use dicom_core::Tag;

/// What the listener meets, or the centre in its index before its answer; its rule says how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is one row of group D0 or D7, which says when it occurs")]
pub enum Occurrence {
    CallingAeNotAllowed,
    CalledAeUnknown,
    ApplicationContext,
    ProtocolVersion,
    AssociationLimit,
    SpoolRefusing,
    TlsRequired,
    AbstractSyntax,
    TransferSyntaxes,
    CommandSet,
    Pdu,
    TransferAborted,
    PatientIdConflict,
    IssuerConflict,
    SeriesInTwoStudies,
    StudyOfAnotherPatient,
    DuplicateIdentical,
    DuplicateOtherContent,
    RejectedReturns,
}

/// A UID that a check compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operand {
    /// (0000,0002).
    AffectedClass,
    /// (0000,1000).
    AffectedInstance,
    /// Of the presentation context.
    AbstractSyntax,
    /// (0000,0002) by C-STORE, (0002,0002) else.
    AnnouncedClass,
    /// (0000,1000) by C-STORE, (0002,0003) else.
    AnnouncedInstance,
    /// (0008,0016).
    Class,
    /// (0008,0018).
    Instance,
    /// (0020,000D).
    Study,
    /// `{uid}` of `/studies/{uid}`.
    UrlStudy,
    /// (0002,0010).
    TransferSyntax,
    /// Parameter `transfer-syntax` of the STOW part.
    PartTransferSyntax,
}

/// How the instance came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceKind {
    Dimse,
    Stow,
    DropFolder,
}

macro_rules! faults {
    ($(#[$meta:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $name { $($variant),+ }
    };
}

faults!(UidFault { Length, Character, Several, Root, LeadingZero, EmptyComponent, TooFewComponents, Padding, UuidRange, ReservedRoot });
faults!(IssuerFault { NotInObject, NotAccepted, Contradiction });
faults!(HetuFault { Syntax, Date, CheckCharacter, Number, TestRange, BirthDate, Sex });
faults!(TemporaryFault { Year, Form, Hetu });
faults!(NameFault { Missing, Structure, Control });
faults!(StudyCodeFault { Shape, Unknown, NotInForce, Differs, Modality });
faults!(CarrierFault { Missing, Form, Foreign });
faults!(InstitutionFault { Form, Foreign });
faults!(CharsetFault { Missing, Unknown, Unexpected });
faults!(TextFault { Undecodable, ProbablyUtf8, UndeclaredEscape });
faults!(FormFault { Control, TooLong, CodeString, NumberString });
faults!(PixelFault {
    Absent,
    Empty,
    RowsColumnsZero,
    Short,
    Long,
    DecodedTooLarge,
    BitsInconsistent,
    HighBit,
    PlanarMissing,
    FramesInvalid,
    FramesTooMany,
    Vr,
    Palette,
    OverlayShort,
    EncapsulatedHasLength,
    NativeIsEncapsulated,
    FragmentEmpty,
    FragmentsTooFew,
    OffsetTable,
    Signature,
    Geometry,
    EndMarker,
    LossyUndeclared,
    VideoFragments,
});
faults!(WaveformFault { Short, Channels, Rate, EcgBounds });
faults!(DocumentFault { Signature, EndMark, Encrypted, Length });
faults!(StudyFault {
    IssuerConflict,
    SeriesInTwoStudies,
    OfAnotherPatient,
    AccessionOfAnotherPatient,
    AccessionOfAnotherStudy,
    ListedMissing,
    NumberGap,
    DeclaredCount,
    ReferenceMissing,
    ConcatenationIncomplete,
    CopyIdentical,
    CopyOtherContent,
    CopyOtherEncoding,
    Rejected,
    RejectionTargetUnknown,
    RejectionNoteInvalid,
    Manifest,
    TooLarge,
    NotRegistrable,
    ControllerUnknown,
    SpecifierMissing,
    ControllerForeign,
});
faults!(
    /// How values are read before they are compared.
    ReadAs {
        Value,
        PersonName,
        StudyCode,
    }
);
faults!(
    /// What has to agree.
    Within {
        Study,
        Series,
    }
);
faults!(StartFault { Future, BeforeBirth, Implausible, OffsetDiffers, Gap, Twice, Late, Spread });

/// One check. A rule fails if and only if its check finds something.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Check {
    /// The listener reports it; no data set is judged.
    Occurrence {
        of: Occurrence,
    },
    /// The walk met it.
    Defect {
        is: DefectKind,
    },
    /// Any of the checks finds something; the tags of all that do.
    Any {
        of: Vec<Check>,
    },
    /// The check, for some SOP classes or families only.
    For {
        #[serde(default)]
        classes: Vec<String>,
        #[serde(default)]
        families: Vec<String>,
        #[serde(default)]
        except: Vec<String>,
        of: Box<Check>,
    },
    /// Both are given and they differ.
    Differs {
        left: Operand,
        right: Operand,
    },
    /// The announced UID is absent, empty or malformed.
    AnnouncedUid {
        of: Operand,
    },
    TransferSyntaxUnlisted {},
    TransferSyntaxForClass {},
    ClassUnlisted {},
    /// One of the elements is absent or empty; a sequence: has no item.
    Missing {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// All of the elements are absent.
    AllAbsent {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// As `missing`, in each item of a sequence.
    MissingInItems {
        #[serde(deserialize_with = "tag_text::deserialize")]
        sequence: Tag,
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// A UID of the list has the fault.
    Uid {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
        fault: UidFault,
    },
    /// A UI element other than these has one of the faults of length, character, root, leading zero, empty component.
    OtherUids {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        except: Vec<Tag>,
    },
    /// Two of the elements have the same value.
    SameValue {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// A value that is not empty does not match.
    Unmatched {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
        pattern: Pattern,
    },
    /// (0020,000D) does not match `study_uid_pattern`.
    StudyUidForm {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    Issuer {
        fault: IssuerFault,
    },
    Hetu {
        fault: HetuFault,
    },
    Temporary {
        fault: TemporaryFault,
    },
    Name {
        fault: NameFault,
    },
    /// Other Patient IDs hold another hetu.
    OtherHetu {},
    /// A value, upper-cased, matches `non_patient_patterns`.
    NonPatient {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// A value that is not empty is no `YYYYMMDD` date, or, for elements of VR DT, no date-time.
    Date {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// A value that is not empty is no TM.
    Time {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
    },
    /// A value that is not empty is none of these; with `required`, also an absent or empty one.
    NotOneOf {
        #[serde(deserialize_with = "tag_text::deserialize")]
        tag: Tag,
        values: Vec<String>,
        #[serde(default)]
        required: bool,
    },
    /// The value is this.
    Equals {
        #[serde(deserialize_with = "tag_text::deserialize")]
        tag: Tag,
        value: String,
    },
    /// More characters than this.
    Longer {
        #[serde(deserialize_with = "tag_text::deserialize")]
        tag: Tag,
        than: usize,
    },
    /// A number below this.
    Below {
        #[serde(deserialize_with = "tag_text::deserialize")]
        tag: Tag,
        least: u64,
    },
    /// More than one frame, and the element is absent or empty.
    MissingWithFrames {
        #[serde(deserialize_with = "tag_text::deserialize")]
        tag: Tag,
    },
    /// The sequence is there and has another number of items than there are frames.
    ItemsPerFrame {
        #[serde(deserialize_with = "tag_text::deserialize")]
        sequence: Tag,
    },
    /// The study code: the first five characters of Study Description.
    StudyCode {
        fault: StudyCodeFault,
    },
    /// No item has a scheme of `procedure_coding_schemes`.
    CodingScheme {
        #[serde(deserialize_with = "tag_text::deserialize")]
        sequence: Tag,
    },
    AccessionIssuer {},
    /// An item of the sequence has another value of the element than the top level.
    ItemDiffers {
        #[serde(deserialize_with = "tag_text::deserialize")]
        sequence: Tag,
        #[serde(deserialize_with = "tag_text::deserialize")]
        tag: Tag,
    },
    Carrier {
        fault: CarrierFault,
    },
    Institution {
        fault: InstitutionFault,
    },
    /// The organisation number in a national OID has a wrong check digit.
    OrganisationNumber {},
    Charset {
        fault: CharsetFault,
    },
    /// Text elements: only these at the top level, or all but these.
    Text {
        fault: TextFault,
        #[serde(default, deserialize_with = "tag_text::list::deserialize")]
        only: Vec<Tag>,
        #[serde(default, deserialize_with = "tag_text::list::deserialize")]
        except: Vec<Tag>,
    },
    /// Form of string values of any element but these at the top level.
    Form {
        fault: FormFault,
        #[serde(default, deserialize_with = "tag_text::list::deserialize")]
        except: Vec<Tag>,
    },
    Pixel {
        fault: PixelFault,
    },
    /// Samples per Pixel does not fit Photometric Interpretation, or that is none of these.
    Photometric {
        one_sample: Vec<String>,
        three_samples: Vec<String>,
        other: Vec<String>,
    },
    Waveform {
        fault: WaveformFault,
    },
    Document {
        fault: DocumentFault,
    },
    Start {
        fault: StartFault,
    },
    ModalityUnknown {},
    ClassModality {},
    /// An attribute of a mandatory module of the IOD has the fault.
    Module {
        fault: ModuleFault,
        #[serde(default, deserialize_with = "tag_text::list::deserialize")]
        except: Vec<Tag>,
    },
    /// The SOP class is one of these.
    ClassOneOf {
        classes: Vec<String>,
    },
    /// Stage T: two instances have different values of one of the elements. An absent element is an empty value.
    StudyValues {
        #[serde(deserialize_with = "tag_text::list::deserialize")]
        tags: Vec<Tag>,
        read: ReadAs,
        within: Within,
        /// Empty values differ from none.
        #[serde(default)]
        ignore_empty: bool,
    },
    /// Stage T, as [`super::study`] says.
    Study {
        fault: StudyFault,
    },
}

impl Check {
    /// The check, and those inside it.
    pub(super) fn occurrence(&self) -> Option<Occurrence> {
        match self {
            Self::Occurrence { of } => Some(*of),
            _ => None,
        }
    }
}
