//! The check kinds: a closed set, each a pure function; `xds.toml` says which rule asks which one.
//!
//! [`request`] and [`structure`] look at the message as a whole, [`attribute`], [`coded`] and [`part`] at one object,
//! [`national`] at a manifest's entry, [`update`] at the annotations of an update; [`document`] compares with the documents,
//! [`registry`] with what is registered, [`updated`] with the version that an update follows; [`removal`] at what ITI-62 and ITI-86 take away.

mod attribute;
mod coded;
mod document;
mod national;
mod part;
mod registry;
mod removal;
mod request;
mod structure;
mod update;
mod updated;

pub(super) use attribute::AttributeCheck;
pub(super) use coded::CodedCheck;
pub(super) use document::{DocumentCheck, DocumentScope, STUDY_INSTANCE_UID};
pub(super) use national::NationalCheck;
pub(super) use part::PartCheck;
pub(super) use registry::{RegistryCheck, RegistryScope};
pub(super) use removal::RemovalCheck;
pub(super) use request::RequestCheck;
pub(super) use structure::StructureCheck;
pub(super) use update::{UpdateCheck, status, version};
pub(super) use updated::UpdatedCheck;

use super::context::Circumstances;
use super::message::Message;
use super::problem::Key;
use super::rules::XdsRules;

/// A check kind with its parameters; names are unique over all groups.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Check {
    /// Stage 1, once per message.
    Request(RequestCheck),
    /// Stage 1, once per object: ids and associations.
    Structure(StructureCheck),
    /// Stage 1, once per object: attributes, slots and identifiers.
    Attribute(AttributeCheck),
    /// Stage 1, once per classification.
    Coded(CodedCheck),
    /// Stage 1, once per slot or external identifier.
    Part(PartCheck),
    /// Stage 1, once per manifest entry.
    National(NationalCheck),
    /// Stage 1, once per object of an update.
    Update(UpdateCheck),
    /// Stage 2.
    Document(DocumentCheck),
    /// Stage 3.
    Registry(RegistryCheck),
    /// Stage 3, once per object of an update.
    Updated(UpdatedCheck),
    /// A removal.
    Removal(RemovalCheck),
}

/// Takes the keys of one finding; `obj` is added by the caller.
pub(super) type Emit<'e> = &'e mut dyn FnMut(&[(Key, &str)]);

/// What a check may look at besides its object.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub message: &'a Message<'a>,
    pub circumstances: &'a Circumstances<'a>,
    pub rules: &'a XdsRules,
}

/// A regular expression of the table file.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern(regex::Regex);

impl Pattern {
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(pattern: String) -> Result<Self, regex::Error> {
        regex::Regex::new(&pattern).map(Self)
    }
}
