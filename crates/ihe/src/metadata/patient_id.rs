//! Patient identifier with its assigning authority.

use std::fmt;

/// A patient identifier in the affinity domain: HL7 CX `id^^^&oid&ISO` (ITI TF-3 §4.2.3.1.7).
///
/// Equality covers both parts. `Debug` and `Display` print `<redacted>`, so that it cannot reach a log by accident;
/// [`PatientId::to_cx`] is the only way to its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PatientId {
    /// 1–64 characters.
    pub id: String,
    /// OID of the assigning authority.
    pub authority: String,
}

/// Why a text is no patient identifier. Carries no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatientIdError {
    /// The id component is empty, or a component other than 1 and 4 is filled.
    #[error("patient id: id is empty or a component other than 1 and 4 is filled")]
    Form,
    /// CX.4 has a namespace id.
    #[error("patient id: the assigning authority has a namespace id")]
    Namespace,
    /// CX.4 has no OID or its type is not ISO.
    #[error("patient id: the assigning authority is not an ISO OID")]
    Authority,
}

impl PatientId {
    /// Reads `id^^^&oid&ISO`, nothing else.
    ///
    /// # Errors
    /// [`PatientIdError`] names the component, never its value.
    pub fn parse_cx(text: &str) -> Result<Self, PatientIdError> {
        let mut parts = text.split('^');
        let id = parts.next().unwrap_or_default();
        let (second, third, fourth) = (parts.next(), parts.next(), parts.next());
        if id.is_empty() || second.is_some_and(|p| !p.is_empty()) || third.is_some_and(|p| !p.is_empty()) || parts.any(|p| !p.is_empty()) {
            return Err(PatientIdError::Form);
        }
        let mut authority = fourth.ok_or(PatientIdError::Authority)?.split('&');
        match (authority.next(), authority.next(), authority.next(), authority.next()) {
            (Some(namespace), _, _, _) if !namespace.is_empty() => Err(PatientIdError::Namespace),
            (Some(_), Some(oid), Some("ISO"), None) if is_oid(oid) => Ok(Self { id: id.to_owned(), authority: oid.to_owned() }),
            _ => Err(PatientIdError::Authority),
        }
    }

    /// `id^^^&oid&ISO`.
    pub fn to_cx(&self) -> String {
        format!("{}^^^&{}&ISO", self.id, self.authority)
    }
}

/// An OID of at most 64 characters: digits and single dots, no leading zero, first arc 0–2, second ≤ 39 under 0 and 1.
pub fn is_oid(text: &str) -> bool {
    let arcs: Vec<&str> = text.split('.').collect();
    text.len() <= 64
        && arcs.len() >= 2
        && arcs.iter().all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (*arc == "0" || !arc.starts_with('0')))
        && matches!(arcs[0], "0" | "1" | "2")
        && (arcs[0] == "2" || arcs[1].len() <= 2 && arcs[1].parse::<u8>().is_ok_and(|second| second <= 39))
}

impl fmt::Debug for PatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cx_is_read_back_as_written_and_never_printed() {
        let id = PatientId::parse_cx("010190-900P^^^&1.2.246.21&ISO").expect("valid");
        assert_eq!(id.to_cx(), "010190-900P^^^&1.2.246.21&ISO");
        assert_eq!(format!("{id:?}"), "<redacted>");
    }

    #[test]
    fn a_malformed_cx_names_the_component() {
        for (text, error) in [
            ("^^^&1.2.246.21&ISO", PatientIdError::Form),
            ("A^x^^&1.2.246.21&ISO", PatientIdError::Form),
            ("A^^^HOSP&1.2.246.21&ISO", PatientIdError::Namespace),
            ("A^^^&1.2.246.21&DNS", PatientIdError::Authority),
            ("A^^^&1.02&ISO", PatientIdError::Authority),
            ("A", PatientIdError::Authority),
        ] {
            assert_eq!(PatientId::parse_cx(text), Err(error), "{text}");
        }
    }
}
