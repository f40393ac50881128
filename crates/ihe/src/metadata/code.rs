//! A coded value.

/// Code, coding scheme and display name (ITI TF-3 §4.2.3.1.2). Two codes are the same if code and scheme are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Code {
    /// `nodeRepresentation`.
    pub code: String,
    /// `codingScheme` slot: an OID or a scheme name.
    pub system: String,
    /// Display name; never compared.
    pub display: String,
}
