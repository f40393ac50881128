//! Broken query and retrieve rules as [`RegistryProblem`]s (profile 08 §10, §11).
//!
//! Codes and sentences are those of [`idr_ihe::transaction::RuleText`]; [`query_options`] gives the limits of the set in
//! force to [`idr_ihe::transaction::iti_18::interpret`]. Rules that need the registry or the archive are made here by name.

use super::errors::Errors;
use super::problem::{Key, RegistryProblem};
use super::rules::XdsRules;
use idr_ihe::transaction::RuleText;
use idr_ihe::transaction::iti_18::{self, QueryError};
use idr_ihe::transaction::iti_43::RequestProblem;

/// What a query may ask under the set in force. `extra_slots`: names of extra metadata that may be asked for.
pub fn query_options<'a>(rules: &XdsRules, multi_patient: bool, extra_slots: &'a [&'a str]) -> iti_18::Options<'a> {
    iti_18::Options {
        multi_patient,
        accept_misprinted_query_id: rules.accept_misprinted_query_id,
        max_slots: rules.query.max_slots,
        max_values: rules.query.max_values,
        max_ids: rules.query.max_ids,
        extra_slots,
    }
}

/// A broken query rule. `location`: home of the answering community in ITI-38, else none (08 H-10). `sent_id`: id of the
/// AdhocQuery, told if it is unknown.
pub fn query_problem(errors: &Errors, error: &QueryError, sent_id: Option<&str>, location: Option<&str>) -> RegistryProblem {
    let mut keys = Vec::new();
    keys.extend(error.parameter.clone().map(|parameter| (Key::Param, parameter)));
    keys.extend(error.limit.map(|limit| (Key::Limit, limit.to_string())));
    keys.extend(sent_id.map(|id| (Key::Val, id.to_owned())));
    made(errors, error.rule, error.error_code(), false, &keys, location)
}

/// A whole retrieve request that is refused (R-01 … R-04).
pub fn request_problem(errors: &Errors, problem: &RequestProblem, service: RetrieveService) -> RegistryProblem {
    let keys = [(Key::Param, problem.parameter.to_owned())];
    made(errors, problem.text.rule, problem.text.error_code, service == RetrieveService::Imaging, &keys, None)
}

/// Which texts a retrieve answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrieveService {
    /// ITI-43, ITI-39.
    Documents,
    /// RAD-69, RAD-75.
    Imaging,
}

/// What is wrong with one document or instance of a retrieve, or with the whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrieveProblem<'a> {
    /// HomeCommunityId malformed or of no known community.
    CommunityUnknown {
        /// As requested.
        home: &'a str,
    },
    /// HomeCommunityId required and absent.
    CommunityMissing,
    /// The repository is not served.
    RepositoryUnknown {
        /// As requested.
        repository: &'a str,
    },
    /// Unknown, deleted, rejected, denied, or not in that study and series: one answer for all (R-07; 09 §8).
    NotAvailable,
    /// No listed transfer syntax can be given.
    TransferSyntax,
    /// Stored bytes cannot be read or have another digest.
    Unreadable,
    /// More documents, instances or bytes than allowed; nothing is sent.
    Limit {
        /// The limit.
        limit: u64,
    },
    /// Another repository or imaging source did not answer.
    SourceAway,
}

impl RetrieveProblem<'_> {
    /// The rule and its errorCode.
    fn rule(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::CommunityUnknown { .. } => ("R-05", None),
            Self::CommunityMissing => ("R-05", Some("XDSMissingHomeCommunityId")),
            Self::RepositoryUnknown { .. } => ("R-06", None),
            Self::NotAvailable => ("R-07", None),
            Self::TransferSyntax => ("R-08", None),
            Self::Unreadable => ("R-09", None),
            Self::Limit { .. } => ("R-10", None),
            Self::SourceAway => ("R-11", None),
        }
    }

    /// The problem; `document`: DocumentUniqueId as requested, `None` if the whole request fails. `location`: the home of
    /// the answering community for ITI-39 and RAD-75, else `None`, which gives the document (08 H-10).
    pub fn problem(&self, errors: &Errors, service: RetrieveService, document: Option<&str>, location: Option<&str>) -> RegistryProblem {
        let (rule, code) = self.rule();
        let text = rule_text(rule);
        let mut keys: Vec<(Key, String)> = document.map(|uid| (Key::Uid, uid.to_owned())).into_iter().collect();
        match self {
            Self::CommunityUnknown { home } => keys.push((Key::Home, (*home).to_owned())),
            Self::RepositoryUnknown { repository } => keys.push((Key::Repo, (*repository).to_owned())),
            Self::Limit { limit } => keys.push((Key::Limit, limit.to_string())),
            _ => {}
        }
        let imaging = service == RetrieveService::Imaging;
        made(errors, rule, code.unwrap_or(text.error_code), imaging, &keys, location.or(document))
    }
}

fn rule_text(rule: &str) -> RuleText {
    RuleText::of(rule).expect("the shipped table has every rule named here")
}

fn made(errors: &Errors, rule: &str, error_code: &str, imaging: bool, keys: &[(Key, String)], location: Option<&str>) -> RegistryProblem {
    let text = rule_text(rule);
    let sentence = if imaging { text.imaging_text } else { text.text };
    errors.problem(rule, error_code, sentence, keys, location.map(str::to_owned))
}
