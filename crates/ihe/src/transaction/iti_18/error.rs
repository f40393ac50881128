//! Broken rules of a query (profile 08 §10).

use crate::transaction::registry_response::{RegistryError, Severity, code_context};
use crate::transaction::rules::RuleText;

/// A broken rule Q-01 … Q-19. Q-14 … Q-16 and the object limit of Q-17 are found by the registry, which makes them with
/// [`QueryError::new`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {} (parameter {})", self.text().text, parameter.as_deref().unwrap_or("-"))]
pub struct QueryError {
    /// `Q-01` …
    pub rule: &'static str,
    /// Parameter or XML attribute concerned.
    pub parameter: Option<String>,
    /// The bound that was passed.
    pub limit: Option<usize>,
    /// Q-17 about ids or values, not objects.
    pub too_many_values: bool,
}

impl QueryError {
    /// A broken rule about the whole query or one parameter.
    pub fn new(rule: &'static str, parameter: Option<&str>) -> Self {
        // A name is the sender's: what is kept of it is bounded.
        let parameter = parameter.map(|name| name.chars().take(128).collect());
        Self { rule, parameter, limit: None, too_many_values: false }
    }

    pub(super) fn too_many(parameter: Option<&str>, limit: usize) -> Self {
        Self { limit: Some(limit), too_many_values: true, ..Self::new("Q-17", parameter) }
    }

    /// More objects than may be answered.
    pub fn too_many_results(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::new("Q-17", None) }
    }

    fn text(&self) -> RuleText {
        RuleText::of(self.rule).unwrap_or(RuleText {
            rule: "Q-12",
            error_code: "XDSRegistryError",
            text: "query is incomplete",
            imaging_text: "",
        })
    }

    /// `errorCode`.
    pub fn error_code(&self) -> &'static str {
        if self.too_many_values { "XDSStoredQueryParamNumber" } else { self.text().error_code }
    }

    /// The RegistryError; its `location` is the caller's (profile 08 H-10).
    pub fn registry_error(&self) -> RegistryError {
        let limit = self.limit.map(|limit| limit.to_string());
        let keys: Vec<(&str, &str)> =
            self.parameter.as_deref().map(|p| ("param", p)).into_iter().chain(limit.as_deref().map(|l| ("limit", l))).collect();
        RegistryError {
            error_code: self.error_code().to_owned(),
            code_context: code_context(&format!("IDR-{}", self.rule), self.error_code(), &keys, self.text().text),
            severity: Severity::Error,
            location: None,
        }
    }
}
