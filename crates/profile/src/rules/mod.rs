//! Rule sets: what is accepted, at which level, and how a refusal is answered (profile 01).
//!
//! - What it does: loads rule sets and site settings ([`RuleSets`]), chooses the set in force, judges a [`crate::scan::Scan`]
//!   ([`Rules::judge_instance`]), says how an association is refused ([`Rules::occurrence`]).
//!   What all instances of a study say together is asked in [`study`].
//! - What it does not: store, send, or look up another instance.
//! - State: none. Rules are data, checks are a closed set of kinds, no code names a rule id.
//! - Standard: profile 01 §1–§5, §9–§11; PS3.4 §B.2.3, PS3.7 §9.3.1 and Annex C, PS3.18 §10.5.
//!
//! ```
//! use idr_profile::identifier::Environment;
//! use idr_profile::rules::{Context, RuleSets, Source};
//! use idr_profile::scan::{Limits, Scanner};
//!
//! let sets = RuleSets::shipped(Environment::Test);
//! let received = "2026-01-15T08:15:30Z".parse().expect("instant");
//! let set = sets.in_force(&["fi-2.4.1".to_owned()], received).expect("in force");
//! let rules = set.rules_for(Some("CT01"));
//! let scan = Scanner::new("1.2.840.10008.1.2.1", rules.parameters().limits()).finish();
//! let class = "1.2.840.10008.5.1.4.1.1.2";
//! let source = Source::Dimse { affected_class: class, affected_instance: "1.2.3", abstract_syntax: class };
//! let context = Context {
//!     received,
//!     source,
//!     patient_id_issuer: None,
//!     accession_issuer: None,
//!     refuse_to_quarantine: false,
//!     organisation_oids: &[],
//! };
//! let answer = rules.judge_instance(&scan, &context);
//! assert_eq!(answer.refused().map(|answer| answer.comment.as_str()), Some("D101 Data set is empty"));
//! ```

mod check;
mod checks;
mod classes;
mod code_list;
mod facts;
mod file;
mod identity;
mod iod;
mod judge;
mod level;
mod parameters;
mod reply;
mod rows;
mod set;
mod standing;
pub mod study;
mod tag_text;
mod time;

pub use check::Occurrence;
pub use classes::{SopClass, SopClasses};
pub use code_list::{StudyCode, StudyCodes};
pub use facts::{Context, ResolvedIssuer, Source};
pub use identity::InstanceIdentity;
pub use judge::Verdict;
pub use level::{Level, Levels};
pub use parameters::{Carrier, ClassModalities, Parameters, Pattern, WarnStatus};
pub use reply::{Answer, Disposition, Finding, Reply, Scope, Stage};
pub use rows::{Row, row, rows};
pub use set::{Rule, RuleError, RuleSet, RuleSets, Rules, shipped_files};
pub use standing::{Kept, Raised, Standing};
pub use tag_text::parse as tag_of;

#[cfg(test)]
mod tests;
