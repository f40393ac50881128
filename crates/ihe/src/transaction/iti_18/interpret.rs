//! A request checked against the table of stored queries.

use super::definition::{Cardinality, Definition, Kind, ParameterDefinition, Presence};
use super::error::QueryError;
use super::message::AdhocQueryRequest;
use super::value::{Value, tokens, value};
use crate::ebxml::rim::Slot;
use crate::metadata::is_oid;

/// What a registry allows.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// ITI-51; otherwise ITI-18 or ITI-38.
    pub multi_patient: bool,
    /// Read the misprinted id as FindDocumentsByReferenceId.
    pub accept_misprinted_query_id: bool,
    /// Slots of one query.
    pub max_slots: usize,
    /// Values of one Slot.
    pub max_values: usize,
    /// Ids of one Slot: UUIDs and uniqueIds.
    pub max_ids: usize,
    /// Slot names of extra metadata that may be asked for; the parameter is `$` and the name.
    pub extra_slots: &'a [&'a str],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { multi_patient: false, accept_misprinted_query_id: true, max_slots: 64, max_values: 200, max_ids: 1_000, extra_slots: &[] }
    }
}

/// `returnType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnType {
    /// Whole objects.
    LeafClass,
    /// References.
    ObjectRef,
}

impl ReturnType {
    /// The attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeafClass => "LeafClass",
            Self::ObjectRef => "ObjectRef",
        }
    }
}

/// A query whose parameters fit its definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which stored query.
    pub definition: &'static Definition,
    /// What is to be answered.
    pub return_type: ReturnType,
    /// `home`, `urn:oid:` + OID.
    pub home: Option<String>,
    /// Parameters in message order.
    pub parameters: Vec<Parameter>,
}

/// A parameter with its values: each group must match, by one of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `$…`
    pub name: String,
    /// One group per Slot.
    pub groups: Vec<Vec<Value>>,
}

impl Query {
    /// Groups of a parameter; empty if absent.
    pub fn groups(&self, name: &str) -> &[Vec<Value>] {
        self.parameters.iter().find(|parameter| parameter.name == name).map_or(&[], |parameter| &parameter.groups)
    }

    /// All values of a parameter.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.groups(name).iter().flatten()
    }
}

/// Checks a request (Q-01 … for ids and values, Q-18, Q-19).
///
/// # Errors
/// Every broken rule that was found; an unreadable parameter is reported once.
pub fn interpret(request: &AdhocQueryRequest, options: &Options<'_>) -> Result<Query, Vec<QueryError>> {
    let return_type = match request.return_type.as_deref() {
        Some("LeafClass") => Ok(ReturnType::LeafClass),
        Some("ObjectRef") => Ok(ReturnType::ObjectRef),
        _ => Err(QueryError::new("Q-11", Some("returnType"))),
    };
    let Some(query) = request.query.as_ref() else {
        return Err(return_type.err().into_iter().chain([QueryError::new("Q-12", Some("AdhocQuery"))]).collect());
    };
    let mut errors: Vec<QueryError> = return_type.as_ref().err().cloned().into_iter().collect();
    if query.has_expression {
        errors.push(QueryError::new("Q-12", Some("QueryExpression")));
    }
    if query.object.home.as_deref().is_some_and(|home| !home.strip_prefix("urn:oid:").is_some_and(is_oid)) {
        errors.push(QueryError::new("Q-13", Some("home")));
    }
    let Some(id) = query.object.id.as_deref().filter(|id| !id.trim().is_empty()) else {
        errors.push(QueryError::new("Q-12", Some("id")));
        return Err(errors);
    };
    let definition = Definition::of_id(id, options.accept_misprinted_query_id);
    let Some(definition) = definition.filter(|definition| definition.multi_patient == options.multi_patient) else {
        errors.push(QueryError::new("Q-01", Some("id")));
        return Err(errors);
    };
    let slots = &query.object.slots;
    if slots.len() > options.max_slots {
        errors.push(QueryError::too_many(None, options.max_slots));
        return Err(errors);
    }
    let parameters = parameters(definition, slots, options, &mut errors);
    presence(definition, slots, &mut errors);
    match return_type {
        Ok(return_type) if errors.is_empty() => Ok(Query { definition, return_type, home: query.object.home.clone(), parameters }),
        _ => Err(errors),
    }
}

fn parameters(definition: &Definition, slots: &[Slot], options: &Options<'_>, errors: &mut Vec<QueryError>) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for slot in slots.iter().filter(|slot| !slot.values.is_empty()) {
        let name = slot.name.as_deref().unwrap_or_default();
        let extra = || {
            let known = name.strip_prefix('$').is_some_and(|slot| options.extra_slots.contains(&slot));
            known.then_some((Cardinality::Many, Kind::Text))
        };
        let Some((cardinality, kind)) = definition.parameter(name).map(|p| (p.cardinality, p.kind)).or_else(extra) else {
            continue;
        };
        let values = match values(slot, name, kind, options) {
            Ok(values) => values,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        if cardinality == Cardinality::One && values.len() > 1 {
            errors.push(QueryError::new("Q-04", Some(name)));
            continue;
        }
        match parameters.iter_mut().find(|parameter| parameter.name == name) {
            Some(parameter) if cardinality == Cardinality::ManyAnd => parameter.groups.push(values),
            Some(_) => errors.push(QueryError::new("Q-05", Some(name))),
            None => parameters.push(Parameter { name: name.to_owned(), groups: vec![values] }),
        }
    }
    parameters
}

fn values(slot: &Slot, name: &str, kind: Kind, options: &Options<'_>) -> Result<Vec<Value>, QueryError> {
    let limit = if matches!(kind, Kind::Uuid | Kind::UniqueId) { options.max_ids } else { options.max_values };
    let mut values = Vec::new();
    for text in &slot.values {
        for token in tokens(text).ok_or_else(|| QueryError::new("Q-06", Some(name)))? {
            if values.len() >= limit {
                return Err(QueryError::too_many(Some(name), limit));
            }
            values.push(value(token, kind, name)?);
        }
    }
    Ok(values)
}

/// A parameter whose Slot has no value counts as absent.
fn presence(definition: &Definition, slots: &[Slot], errors: &mut Vec<QueryError>) {
    let given = |name: &str| slots.iter().any(|slot| slot.name.as_deref() == Some(name) && !slot.values.is_empty());
    let mut one_of: Vec<&ParameterDefinition> = Vec::new();
    let (mut selectors, mut selected) = (None, false);
    for parameter in &definition.parameters {
        match parameter.presence {
            Presence::Required if !given(parameter.name) => errors.push(QueryError::new("Q-02", Some(parameter.name))),
            Presence::Not(other) if given(parameter.name) && given(other) => errors.push(QueryError::new("Q-03", Some(parameter.name))),
            Presence::OneOf => one_of.push(parameter),
            Presence::Selector => {
                selectors = selectors.or(Some(parameter.name));
                selected |= given(parameter.name);
            }
            _ => {}
        }
    }
    if let Some(first) = one_of.first() {
        match one_of.iter().filter(|parameter| given(parameter.name)).count() {
            0 => errors.push(QueryError::new("Q-02", Some(first.name))),
            1 => {}
            _ => errors.push(QueryError::new("Q-03", Some(first.name))),
        }
    }
    if let Some(first) = selectors.filter(|_| !selected) {
        errors.push(QueryError::new("Q-19", Some(first)));
    }
}
