//! The table of stored queries.

use std::sync::LazyLock;

/// A stored query.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// `FindDocuments` …
    pub name: &'static str,
    /// `urn:uuid:…`, lower case.
    pub id: &'static str,
    /// Belongs to ITI-51; all others to ITI-18 and ITI-38.
    pub multi_patient: bool,
    /// Its parameters.
    pub parameters: Vec<ParameterDefinition>,
}

/// A parameter of a stored query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDefinition {
    /// `$XDS…`.
    pub name: &'static str,
    /// Whether it must be there.
    pub presence: Presence,
    /// How many values.
    pub cardinality: Cardinality,
    /// What a value is.
    pub kind: Kind,
}

/// Whether a parameter must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Q-02 if absent.
    Required,
    /// Exactly one of the parameters of this query marked so.
    OneOf,
    /// At least one of the parameters of this query marked so.
    Selector,
    /// Optional, but not together with the one named.
    Not(&'static str),
    /// May be there.
    Optional,
}

/// How many values a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One.
    One,
    /// Several, one of which must match; the Slot is not repeated.
    Many,
    /// As `Many`, and each repeated Slot must match.
    ManyAnd,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Patient id `id^^^&oid&ISO`.
    Cx,
    /// `code^^scheme`.
    Code,
    /// 4–14 digits.
    Dtm,
    /// Pattern with `%` and `_`.
    Like,
    /// Availability status URN.
    Status,
    /// objectType of a DocumentEntry.
    EntryType,
    /// `urn:uuid:…`.
    Uuid,
    /// uniqueId.
    UniqueId,
    /// Reference id.
    Cxi,
    /// Association type URN.
    AssociationType,
    /// `$MetadataLevel`: 1 or 2.
    Level,
    /// Any text.
    Text,
}

/// FindDocumentsByReferenceId as a misprint of ITI TF-2 has it: three digit groups instead of four at the end.
const MISPRINT: &str = "urn:uuid:12941a89-e02e-4be5-967cce4bfc8fe492";
const MISPRINT_OF: &str = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492";

impl Definition {
    /// The query of an id: any case, with or without `urn:uuid:`; the misprinted id if allowed.
    pub fn of_id(id: &str, accept_misprint: bool) -> Option<&'static Self> {
        let id = id.trim().to_ascii_lowercase();
        let id = if id.starts_with("urn:uuid:") { id } else { format!("urn:uuid:{id}") };
        let id = if accept_misprint && id == MISPRINT { MISPRINT_OF } else { id.as_str() };
        definitions().iter().find(|definition| definition.id == id)
    }

    /// The query of a name.
    pub fn of_name(name: &str) -> Option<&'static Self> {
        definitions().iter().find(|definition| definition.name == name)
    }

    /// A parameter by its name.
    pub fn parameter(&self, name: &str) -> Option<&ParameterDefinition> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

/// All stored queries.
pub fn definitions() -> &'static [Definition] {
    static TABLE: LazyLock<Vec<Definition>> = LazyLock::new(|| {
        let mut definitions: Vec<Definition> = Vec::new();
        let rows = include_str!("../../../../../configs/ihe/stored-queries.tsv").lines().filter(|line| !line.starts_with('#'));
        for row in rows {
            let columns: Vec<&'static str> = row.split('\t').collect();
            let [query, id, transaction, name, presence, cardinality, kind] = columns[..] else {
                unreachable!("the shipped table has seven columns: {row}")
            };
            let presence = match presence {
                "required" => Presence::Required,
                "one of" => Presence::OneOf,
                "selector" => Presence::Selector,
                "optional" => Presence::Optional,
                other => Presence::Not(other.strip_prefix("not ").expect("the shipped table knows five kinds of presence")),
            };
            let cardinality = match cardinality {
                "one" => Cardinality::One,
                "many" => Cardinality::Many,
                "many-and" => Cardinality::ManyAnd,
                other => unreachable!("cardinality {other}"),
            };
            let kind = match kind {
                "cx" => Kind::Cx,
                "code" => Kind::Code,
                "dtm" => Kind::Dtm,
                "like" => Kind::Like,
                "status" => Kind::Status,
                "entry-type" => Kind::EntryType,
                "uuid" => Kind::Uuid,
                "unique-id" => Kind::UniqueId,
                "cxi" => Kind::Cxi,
                "association-type" => Kind::AssociationType,
                "level" => Kind::Level,
                "text" => Kind::Text,
                other => unreachable!("type {other}"),
            };
            if definitions.last().is_none_or(|last| last.name != query) {
                definitions.push(Definition { name: query, id, multi_patient: transaction == "51", parameters: Vec::new() });
            }
            let definition = definitions.last_mut().expect("one was just pushed");
            definition.parameters.push(ParameterDefinition { name, presence, cardinality, kind });
        }
        definitions
    });
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_found_by_its_id_in_any_spelling() {
        assert_eq!(definitions().len(), 18);
        for definition in definitions() {
            let bare = definition.id.trim_start_matches("urn:uuid:");
            for id in [definition.id.to_owned(), definition.id.to_uppercase(), bare.to_owned(), format!(" {bare} ")] {
                assert_eq!(Definition::of_id(&id, false), Some(definition), "{id}");
            }
        }
        let by_reference = Definition::of_name("FindDocumentsByReferenceId");
        assert_eq!(Definition::of_id(MISPRINT, true), by_reference);
        assert_eq!(Definition::of_id(MISPRINT, false), None);
    }
}
