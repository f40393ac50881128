//! Codes and texts of the rules for queries and retrieves (profile 08 §10, §11; 09 §2.6).

use std::sync::LazyLock;

/// What a broken rule says in a RegistryError.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleText {
    /// `Q-01`, `R-07` …; the code on the wire is `IDR-` and this.
    pub rule: &'static str,
    /// `errorCode`.
    pub error_code: &'static str,
    /// The sentence of `codeContext`.
    pub text: &'static str,
    /// The sentence in RAD-69 and RAD-75.
    pub imaging_text: &'static str,
}

impl RuleText {
    /// The row of a rule.
    pub fn of(rule: &str) -> Option<Self> {
        static TABLE: LazyLock<Vec<RuleText>> = LazyLock::new(|| {
            let rows = include_str!("../../../../configs/ihe/request-rules.tsv").lines().filter(|line| !line.starts_with('#'));
            rows.map(|row| {
                let columns: Vec<&'static str> = row.split('\t').collect();
                let [rule, error_code, text, imaging] = columns[..] else { unreachable!("the shipped table has four columns: {row}") };
                RuleText { rule, error_code, text, imaging_text: if imaging.is_empty() { text } else { imaging } }
            })
            .collect()
        });
        TABLE.iter().find(|row| row.rule == rule).copied()
    }
}
