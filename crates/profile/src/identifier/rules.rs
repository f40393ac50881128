//! `identity.toml`: what of identity is data (profile 06 §2, §6, §7, §9).

use regex::Regex;

use crate::adt::FeedRules;

/// The shipped base set.
const SHIPPED: &str = include_str!("../../../../configs/rules/base/identity.toml");

/// Production or test; has no default (profile 10 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real patients.
    Production,
    /// Test patients only.
    Test,
}

/// What happens to a message with an odd value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// Taken, with a warning.
    Warn,
    /// Refused.
    Refuse,
}

/// How a merged-away identifier is answered (06 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergedIdAnswer {
    /// It resolves to the survivor.
    Resolve,
    /// It is unknown, as ITI-8 allows.
    Unknown,
}

/// State of a merge of "none" and "active" (06 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoneAndActive {
    /// The consent given under either id holds.
    Active,
    /// Nothing holds until it is given again.
    None,
}

/// Identity rules of one rule set, as `identity.toml` holds them. Unknown keys are refused.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    real_hetu_in_test: Response,
    demographics_mismatch: Response,
    temporary_value_pattern: String,
    temporary_form_pattern: String,
    effects: Effects,
    merge: Merge,
    unmerge: Unmerge,
    link: Link,
    feed: FeedRules,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Effects {
    auto_create: bool,
    a08_creates: bool,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    old_id: MergedIdAnswer,
    none_and_active: NoneAndActive,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unmerge {
    two_person: bool,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    expand_results: bool,
}

/// Identity rules in force.
#[derive(Debug, Clone)]
pub struct IdentityRules {
    /// A hetu with an individual number of at most 899 in a test environment (§2.2 step 6).
    pub real_hetu_in_test: Response,
    /// Birth date or sex that contradicts the hetu (§2.2 step 8).
    pub demographics_mismatch: Response,
    /// What a temporary identifier may consist of (§2.1).
    pub temporary_value: Regex,
    /// What a temporary identifier is expected to look like; else W-14.
    pub temporary_form: Regex,
    /// Registration for an unseen valid hetu or temporary id creates the patient (§6).
    pub auto_create: bool,
    /// A08 and A31 for an unknown patient create it (§6).
    pub a08_creates: bool,
    /// Answer to a merged-away identifier (§7.1).
    pub merged_id: MergedIdAnswer,
    /// Consent of a merge of "none" and "active" (§9).
    pub none_and_active: NoneAndActive,
    /// A merge is taken back by two persons (§7.5).
    pub unmerge_two_person: bool,
    /// Linked patients' results are shown together (§6, A24).
    pub link_expands_results: bool,
    /// How ADT messages are read (§3, §5, §8).
    pub feed: FeedRules,
}

/// Why an `identity.toml` is not taken; the running rules stay in force.
#[derive(Debug, thiserror::Error)]
pub enum IdentityRulesError {
    /// Not TOML, a key unknown or missing, a value of another type.
    #[error("identity.toml: {0}")]
    Toml(#[from] toml::de::Error),
    /// A pattern is no regular expression.
    #[error("identity.toml: {key} is not a regular expression")]
    Pattern {
        /// Key in the file.
        key: &'static str,
        /// What the expression's parser said.
        #[source]
        source: regex::Error,
    },
}

impl IdentityRules {
    /// Reads a complete file.
    ///
    /// # Errors
    /// [`IdentityRulesError`] names the key.
    pub fn parse(text: &str) -> Result<Self, IdentityRulesError> {
        let file: File = toml::from_str(text)?;
        let pattern = |key, text: &str| Regex::new(text).map_err(|source| IdentityRulesError::Pattern { key, source });
        Ok(Self {
            real_hetu_in_test: file.real_hetu_in_test,
            demographics_mismatch: file.demographics_mismatch,
            temporary_value: pattern("temporary_value_pattern", &file.temporary_value_pattern)?,
            temporary_form: pattern("temporary_form_pattern", &file.temporary_form_pattern)?,
            auto_create: file.effects.auto_create,
            a08_creates: file.effects.a08_creates,
            merged_id: file.merge.old_id,
            none_and_active: file.merge.none_and_active,
            unmerge_two_person: file.unmerge.two_person,
            link_expands_results: file.link.expand_results,
            feed: file.feed,
        })
    }

    /// The shipped base set.
    pub fn shipped() -> Self {
        Self::parse(SHIPPED).expect("the shipped identity.toml is read by a test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_read_and_says_what_the_profile_says() {
        let rules = IdentityRules::shipped();
        assert_eq!((rules.real_hetu_in_test, rules.demographics_mismatch), (Response::Warn, Response::Warn));
        assert!(rules.auto_create && rules.a08_creates && !rules.link_expands_results && rules.unmerge_two_person);
        assert_eq!((rules.merged_id, rules.none_and_active), (MergedIdAnswer::Resolve, NoneAndActive::Active));
    }

    #[test]
    fn an_unknown_key_and_a_broken_pattern_are_refused_by_name() {
        let unknown = IdentityRules::parse(&format!("hetu_shape = \"x\"\n{SHIPPED}")).expect_err("unknown key");
        assert!(unknown.to_string().contains("hetu_shape"), "{unknown}");
        let broken = SHIPPED.replace("^[0-9A-Za-z+.\\-]{1,64}$", "[");
        assert!(IdentityRules::parse(&broken).expect_err("pattern").to_string().contains("temporary_value_pattern"));
    }
}
