//! One row of `outcomes.toml`: as it is read, for the eye ([`Row`]) and for the decision ([`Does`]).

use super::table::{OutcomesError, Table};
use super::{Class, Effect, Event, Mark, Outcome};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectMatch {
    pub results: Vec<u8>,
    pub source: u8,
    pub reason: u8,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct AbortMatch {
    pub source: u8,
    pub reasons: Option<Vec<u8>>,
}

/// A row that code reaches by what it is, because its outcome depends on more than one thing.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Special {
    CommitmentWeb,
    Receipt,
    Refusal,
    SuccessWithWarnings,
    RejectOther,
    AbortOther,
}

impl Special {
    pub const ALL: [Self; 6] =
        [Self::CommitmentWeb, Self::Receipt, Self::Refusal, Self::SuccessWithWarnings, Self::RejectOther, Self::AbortOther];
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowFile {
    row: String,
    #[serde(default)]
    ids: Vec<String>,
    status: Option<[u16; 2]>,
    #[serde(default)]
    on: Vec<Event>,
    #[serde(default)]
    alerts: Vec<u8>,
    reject: Option<RejectMatch>,
    abort: Option<AbortMatch>,
    context: Option<[u8; 2]>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    codes: Vec<u16>,
    special: Option<Special>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    explain_only: bool,
    signal: String,
    outcome: String,
    soap: Option<String>,
    breaker: Option<String>,
    effect: Option<String>,
    otherwise: Option<String>,
    #[serde(default)]
    cases: BTreeMap<String, String>,
    mark: Option<String>,
    #[serde(default)]
    marks: BTreeMap<String, String>,
    #[serde(default, rename = "do")]
    effects: Vec<Effect>,
    #[serde(default)]
    do_case: BTreeMap<String, Vec<Effect>>,
    answer: Option<u16>,
    warn_after_s: Option<u64>,
    page_after_s: Option<u64>,
}

/// What a cell says: an outcome, or whom it leaves the decision to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive {
    Is(Outcome),
    /// The results in the body decide; without one: `none`.
    PerInstance {
        none: Box<Directive>,
    },
    /// One request per instance; a single one: `single`.
    Split {
        single: Outcome,
    },
    /// The RegistryResponse in the envelope decides.
    Envelope,
    /// The fault decides; without one: `none`.
    Fault {
        none: Outcome,
    },
    /// The worst row of the error codes decides.
    Worst,
    /// As the HTTP status, without a body.
    AsStatus,
}

/// One row, for the eye: the cells of the profile.
#[derive(Debug, Clone)]
pub struct Row {
    /// As in the profile; may stand for several ids (`TLS-A-0, -90`).
    pub row: Arc<str>,
    /// Every id it stands for.
    pub ids: Vec<Arc<str>>,
    /// What was met.
    pub signal: String,
    /// Outcome cell (§4.8: column STOW-RS).
    pub outcome: String,
    /// §4.8: column SOAP.
    pub soap: Option<String>,
    /// Breaker cell, where the table has the column.
    pub breaker: Option<String>,
    /// Reason and effect.
    pub effect: String,
    /// First and last status, for rows by number.
    pub status: Option<[u16; 2]>,
    /// WARN when the oldest item of this row is older, seconds.
    pub warn_after_s: Option<u64>,
    /// PAGE when the oldest item of this row is older, seconds.
    pub page_after_s: Option<u64>,
    pub(super) table: Table,
    pub(super) does: Does,
}

/// The same row, for the decision.
#[derive(Debug, Clone)]
pub(super) struct Does {
    pub directive: Directive,
    pub soap: Option<Directive>,
    pub cases: BTreeMap<String, Directive>,
    pub mark: Option<Mark>,
    pub marks: BTreeMap<String, Mark>,
    pub effects: Vec<Effect>,
    pub effects_of: BTreeMap<String, Vec<Effect>>,
    pub answer: Option<u16>,
    pub any_item: bool,
}

/// Keys of one row that say what it takes.
pub(super) struct Matches {
    pub on: Vec<Event>,
    pub alerts: Vec<u8>,
    pub reject: Option<RejectMatch>,
    pub abort: Option<AbortMatch>,
    pub context: Option<[u8; 2]>,
    pub names: Vec<String>,
    pub codes: Vec<u16>,
    pub special: Option<Special>,
    pub default: bool,
}

pub(super) fn read_row(table: Table, any_item: bool, row: RowFile) -> Result<(Row, Matches), OutcomesError> {
    let fail = |problem| OutcomesError::Row { row: row.row.clone(), problem };
    let lists = row.alerts.len() + row.codes.len();
    if !row.ids.is_empty() && row.ids.len() != lists {
        return Err(fail("`ids` must have one id for each of `alerts` or `codes`"));
    }
    let directive = match (&row.otherwise, row.explain_only) {
        (Some(text), _) => directive(text),
        (None, true) => Some(Directive::Is(Outcome::Continue)),
        // `as <status>` is resolved when all rows are read.
        (None, false) if as_number(&row.outcome).is_some() => Some(Directive::AsStatus),
        (None, false) => directive(&row.outcome),
    };
    let directive = directive.ok_or_else(|| fail("outcome cannot be read: give `otherwise` (one of 03 §1, or a delegation of 03 §4.8)"))?;
    let soap = match &row.soap {
        None => None,
        Some(text) => Some(self::directive(text).ok_or_else(|| fail("`soap` cannot be read"))?),
    };
    let mut cases = BTreeMap::new();
    for (case, text) in &row.cases {
        cases.insert(case.clone(), self::directive(text).ok_or_else(|| fail("a value of `cases` is no outcome"))?);
    }
    let mark = match row.mark.as_ref().or(row.breaker.as_ref()) {
        None => None,
        Some(text) => Some(mark(text).ok_or_else(|| fail("breaker must be one of + ! ‼ –; else give `mark`"))?),
    };
    let mut marks = BTreeMap::new();
    for (case, text) in &row.marks {
        marks.insert(case.clone(), self::mark(text).ok_or_else(|| fail("a value of `marks` is none of + ! ‼ –"))?);
    }
    let matches = Matches {
        on: row.on,
        alerts: row.alerts,
        reject: row.reject,
        abort: row.abort,
        context: row.context,
        names: row.names,
        codes: row.codes,
        special: row.special,
        default: row.default,
    };
    let name: Arc<str> = row.row.as_str().into();
    let ids = if row.ids.is_empty() { vec![name.clone()] } else { row.ids.iter().map(|id| id.as_str().into()).collect() };
    let does = Does {
        directive,
        soap,
        cases,
        mark,
        marks,
        effects: row.effects,
        effects_of: row.do_case,
        answer: row.answer,
        // Presentation context results belong to the class of one item; only what ends the association counts for any.
        any_item: any_item && matches.context.is_none(),
    };
    let effect = row.effect.unwrap_or_default();
    let row = Row {
        row: name,
        ids,
        signal: row.signal,
        outcome: row.outcome,
        soap: row.soap,
        breaker: row.breaker,
        effect,
        status: row.status,
        warn_after_s: row.warn_after_s,
        page_after_s: row.page_after_s,
        table,
        does,
    };
    Ok((row, matches))
}

/// Reads the cell of an outcome column.
fn directive(cell: &str) -> Option<Directive> {
    let plain = cell.strip_suffix(" (committed)").unwrap_or(cell);
    if let Some(outcome) = Outcome::parse(plain) {
        return Some(Directive::Is(outcome));
    }
    let (head, rest) = cell.split_once("; ").map_or((cell, None), |(head, rest)| (head, Some(rest)));
    let head = head.split_once(", §").map_or(head, |(head, _)| head);
    Some(match (head, rest) {
        ("wait", None) => Directive::Is(Outcome::Wait),
        ("continue", None) => Directive::Is(Outcome::Continue),
        ("ignored", None) => Directive::Is(Outcome::Ignored),
        ("queued", None) => Directive::Is(Outcome::Queued),
        ("worst", None) => Directive::Worst,
        ("envelope", None) => Directive::Envelope,
        ("as status", Some("body not used")) => Directive::AsStatus,
        // §3.3: nothing is assumed from an answer without a body.
        ("per instance", None) => Directive::PerInstance { none: Box::new(Directive::Is(Outcome::Retry(Class::Slow))) },
        ("per instance", Some(rest)) => Directive::PerInstance { none: Box::new(directive(rest.strip_prefix("no body: ")?)?) },
        ("fault", Some(rest)) => Directive::Fault { none: Outcome::parse(rest.strip_prefix("none: ")?)? },
        (head, None) => Directive::Split { single: Outcome::parse(head.strip_prefix("split, single: ")?)? },
        _ => return None,
    })
}

pub(super) fn as_number(cell: &str) -> Option<u16> {
    cell.strip_prefix("as ")?.parse().ok()
}

fn mark(cell: &str) -> Option<Mark> {
    Some(match cell {
        "+" => Mark::Success,
        "!" => Mark::Failure,
        "‼" => Mark::Opens,
        "–" => Mark::Uncounted,
        _ => return None,
    })
}
