//! `outcomes.toml`: reading, checking that every table covers its whole domain, looking up.

use super::row::{AbortMatch, Directive, Matches, Row, RowFile, Special, as_number, read_row};
use super::{Ages, BreakerRules, Class, Decider, Event, Outcome, RetryAfter, StormRules};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::LazyLock;

/// The shipped set `base`.
const BASE: &str = include_str!("../../../../configs/rules/base/outcomes.toml");

/// Why a table file is refused. The set in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomesError {
    /// Not TOML, an unknown key, a value of another type.
    #[error("outcomes.toml: {0}")]
    Toml(String),
    /// A row says something that cannot be read.
    #[error("outcomes.toml: row {row}: {problem}")]
    Row {
        /// Row id.
        row: String,
        /// What is wrong and what is allowed.
        problem: &'static str,
    },
    /// A value or event without a row, or with two.
    #[error("outcomes.toml: table {table}: {signal} has {rows} rows, must have 1")]
    Cover {
        /// Table.
        table: &'static str,
        /// The signal.
        signal: String,
        /// How many rows take it.
        rows: usize,
    },
    /// An override that 03 §3.6 forbids.
    #[error("outcome override of row {row} to `{to}`: {problem}")]
    Override {
        /// Row id.
        row: String,
        /// What was asked for.
        to: String,
        /// Why not.
        problem: &'static str,
    },
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backoff {
    pub base_s: u64,
    pub cap_s: u64,
    pub floor_s: u64,
}

/// Time limits of §2.7 and bounds of §4.8; each ends as the row named there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// TCP connect, seconds.
    pub connect_s: u64,
    /// TLS handshake, seconds.
    pub tls_handshake_s: u64,
    /// A-ASSOCIATE-AC, seconds.
    pub associate_s: u64,
    /// C-STORE-RSP, N-ACTION-RSP after the last fragment, seconds.
    pub dimse_response_s: u64,
    /// No progress while sending, seconds.
    pub no_progress_s: u64,
    /// HTTP response, seconds.
    pub http_response_s: u64,
    /// Storage commitment report, seconds.
    pub commitment_report_s: u64,
    /// Longest response body, bytes.
    pub response_body_bytes: u64,
    /// How long a peer that had a batch split gets single instances, seconds.
    pub split_remembered_s: u64,
}

/// Offset of our clock from the centre's, seconds (document 10 §10).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockLimits {
    /// Above this: WARN.
    pub warn_s: u64,
    /// Above this: FAIL.
    pub alarm_s: u64,
    /// Above this: row L-CLOCK, outgoing transfers stop.
    pub max_s: u64,
    /// An offset older than this is measured again.
    pub measure_every_s: u64,
}

/// §4.7: reports to a device that cannot be reached (class `net` with this cap).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceReport {
    /// Longest delay, seconds.
    pub cap_s: u64,
    /// After this age: hold(operator), seconds.
    pub give_up_s: u64,
}

/// Unknown keys end as unknown tables.
#[derive(Deserialize)]
struct File {
    classes: BTreeMap<Class, Backoff>,
    ages: Ages,
    retry_after: RetryAfter,
    breaker: BreakerRules,
    storm: StormRules,
    limits: Limits,
    clock: ClockLimits,
    device_report: DeviceReport,
    dialects: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(flatten)]
    tables: BTreeMap<Table, Vec<RowFile>>,
}

/// The tables of §4, one per kind of signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Table {
    Local,
    Link,
    Association,
    CStore,
    NAction,
    Commitment,
    CommitmentFailure,
    NEventReport,
    Http,
    Stow,
    StowWarning,
    StowFailure,
    Fault,
    Response,
    RegistryError,
    Unknown,
}

impl Table {
    const ALL: [Self; 16] = [
        Self::Local,
        Self::Link,
        Self::Association,
        Self::CStore,
        Self::NAction,
        Self::Commitment,
        Self::CommitmentFailure,
        Self::NEventReport,
        Self::Http,
        Self::Stow,
        Self::StowWarning,
        Self::StowFailure,
        Self::Fault,
        Self::Response,
        Self::RegistryError,
        Self::Unknown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Link => "link",
            Self::Association => "association",
            Self::CStore => "c_store",
            Self::NAction => "n_action",
            Self::Commitment => "commitment",
            Self::CommitmentFailure => "commitment_failure",
            Self::NEventReport => "n_event_report",
            Self::Http => "http",
            Self::Stow => "stow",
            Self::StowWarning => "stow_warning",
            Self::StowFailure => "stow_failure",
            Self::Fault => "fault",
            Self::Response => "response",
            Self::RegistryError => "registry_error",
            Self::Unknown => "unknown",
        }
    }

    /// First and last value of a table by number.
    fn domain(self) -> Option<(u16, u16)> {
        match self {
            Self::CStore | Self::NAction | Self::CommitmentFailure | Self::NEventReport => Some((0, u16::MAX)),
            Self::Http => Some((100, 999)),
            _ => None,
        }
    }

    /// Tables with an open domain need one row that takes the rest.
    fn needs_default(self) -> bool {
        matches!(self, Self::Link | Self::StowWarning | Self::StowFailure | Self::Fault | Self::Response | Self::RegistryError)
    }
}

/// The tables of 03 §4 with their parameters. [`Outcomes::base`] is the shipped set.
#[derive(Clone)]
pub struct Outcomes {
    pub(super) classes: BTreeMap<Class, Backoff>,
    /// §2.2.
    pub ages: Ages,
    /// §2.3.
    pub retry_after: RetryAfter,
    /// §2.4.
    pub breaker: BreakerRules,
    /// §2.5.
    pub storm: StormRules,
    /// §2.7.
    pub limits: Limits,
    /// Document 10 §10.
    pub clock: ClockLimits,
    /// §4.7.
    pub device_report: DeviceReport,
    pub(super) dialects: BTreeMap<String, BTreeMap<u16, Outcome>>,
    pub(super) rows: Vec<Row>,
    /// Rows by number: (first status, row index), sorted.
    ranges: BTreeMap<Table, Vec<(u16, usize)>>,
    events: BTreeMap<Event, usize>,
    specials: BTreeMap<Special, usize>,
    defaults: BTreeMap<Table, usize>,
    pub(super) names: BTreeMap<(Table, String), usize>,
    pub(super) codes: BTreeMap<(Table, u16), (usize, usize)>,
    pub(super) alerts: BTreeMap<u8, (usize, usize)>,
    pub(super) rejects: BTreeMap<(u8, u8, u8), usize>,
    pub(super) aborts: Vec<(AbortMatch, usize)>,
    pub(super) contexts: Vec<([u8; 2], usize)>,
}

impl Outcomes {
    /// The shipped set `base`.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn base() -> Self {
        static SHIPPED: LazyLock<Outcomes> = LazyLock::new(|| Outcomes::load(&[]).expect("the shipped outcomes.toml is tested"));
        SHIPPED.clone()
    }

    /// The shipped base with the files of the sets that extend it on top, in that order (01 §11): a row of the same id
    /// replaces the keys it repeats.
    ///
    /// # Errors
    /// [`OutcomesError`]: unknown keys, unreadable cells, a status or event without exactly one row.
    pub fn load(over: &[&str]) -> Result<Self, OutcomesError> {
        let parse = |text: &str| text.parse::<toml::Table>().map_err(|error| OutcomesError::Toml(error.to_string()));
        let mut all = parse(BASE)?;
        for text in over {
            merge(&mut all, parse(text)?);
        }
        let file = all.try_into::<File>().map_err(|error| OutcomesError::Toml(error.to_string()))?;
        Self::build(file)
    }

    fn build(file: File) -> Result<Self, OutcomesError> {
        let mut rows = Vec::new();
        let mut matches = Vec::new();
        for (table, list) in file.tables {
            let any_item = file.breaker.any_item.iter().any(|name| name == table.name());
            for row in list {
                let (row, found) = read_row(table, any_item, row)?;
                rows.push(row);
                matches.push(found);
            }
        }
        let mut outcomes = Self {
            classes: file.classes,
            ages: file.ages,
            retry_after: file.retry_after,
            breaker: file.breaker,
            storm: file.storm,
            limits: file.limits,
            clock: file.clock,
            device_report: file.device_report,
            dialects: dialects(file.dialects)?,
            rows,
            ranges: BTreeMap::new(),
            events: BTreeMap::new(),
            specials: BTreeMap::new(),
            defaults: BTreeMap::new(),
            names: BTreeMap::new(),
            codes: BTreeMap::new(),
            alerts: BTreeMap::new(),
            rejects: BTreeMap::new(),
            aborts: Vec::new(),
            contexts: Vec::new(),
        };
        outcomes.index(matches)?;
        outcomes.resolve()?;
        outcomes.check()?;
        Ok(outcomes)
    }

    fn index(&mut self, matches: Vec<Matches>) -> Result<(), OutcomesError> {
        for (index, found) in matches.into_iter().enumerate() {
            let row = &self.rows[index];
            let table = row.table;
            let twice = |signal: String| OutcomesError::Cover { table: table.name(), signal, rows: 2 };
            if let Some([first, _]) = row.status {
                self.ranges.entry(table).or_default().push((first, index));
            }
            for event in found.on {
                if self.events.insert(event, index).is_some() {
                    return Err(twice(format!("{event:?}")));
                }
            }
            if let Some(special) = found.special
                && self.specials.insert(special, index).is_some()
            {
                return Err(twice(format!("{special:?}")));
            }
            for (place, alert) in found.alerts.into_iter().enumerate() {
                if self.alerts.insert(alert, (index, place)).is_some() {
                    return Err(twice(format!("alert {alert}")));
                }
            }
            for (place, code) in found.codes.into_iter().enumerate() {
                if self.codes.insert((table, code), (index, place)).is_some() {
                    return Err(twice(format!("{code:04X}H")));
                }
            }
            for name in found.names {
                if self.names.insert((table, name.clone()), index).is_some() {
                    return Err(twice(name));
                }
            }
            if let Some(reject) = &found.reject {
                for result in &reject.results {
                    if self.rejects.insert((*result, reject.source, reject.reason), index).is_some() {
                        return Err(twice(format!("A-ASSOCIATE-RJ {result}, {}, {}", reject.source, reject.reason)));
                    }
                }
            }
            self.aborts.extend(found.abort.map(|abort| (abort, index)));
            self.contexts.extend(found.context.map(|context| (context, index)));
            if found.default && self.defaults.insert(table, index).is_some() {
                return Err(twice("the rest".into()));
            }
        }
        self.ranges.values_mut().for_each(|ranges| ranges.sort_unstable());
        Ok(())
    }

    /// Replaces `as <status>` by what that row says.
    fn resolve(&mut self) -> Result<(), OutcomesError> {
        let pending: Vec<_> =
            (0..self.rows.len()).filter_map(|index| as_number(&self.rows[index].outcome).map(|status| (index, status))).collect();
        for (index, status) in pending {
            let target = self.by_status(Table::Http, status);
            if target == index || as_number(&self.rows[target].outcome).is_some() {
                return Err(OutcomesError::Row {
                    row: self.rows[index].row.to_string(),
                    problem: "`as <status>` must name a row with an own outcome",
                });
            }
            self.rows[index].does.directive = self.rows[target].does.directive.clone();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), OutcomesError> {
        let cover = |table: Table, signal: String, rows| OutcomesError::Cover { table: table.name(), signal, rows };
        for table in Table::ALL {
            if let Some((first, last)) = table.domain() {
                let mut next = u32::from(first);
                for (_, index) in self.ranges.get(&table).into_iter().flatten() {
                    let [from, to] = self.rows[*index].status.expect("only rows with a status stand in ranges");
                    match u32::from(from).cmp(&next) {
                        std::cmp::Ordering::Greater => return Err(cover(table, format!("{next:04X}H"), 0)),
                        std::cmp::Ordering::Less => return Err(cover(table, format!("{from:04X}H"), 2)),
                        std::cmp::Ordering::Equal if to < from => return Err(cover(table, format!("{from:04X}H"), 0)),
                        std::cmp::Ordering::Equal => next = u32::from(to) + 1,
                    }
                }
                if next != u32::from(last) + 1 {
                    return Err(cover(table, format!("{next:04X}H"), 0));
                }
            }
            if table.needs_default() && !self.defaults.contains_key(&table) {
                return Err(cover(table, "the rest".into(), 0));
            }
        }
        if let Some(event) = Event::ALL.iter().find(|event| !self.events.contains_key(event)) {
            return Err(cover(Table::Unknown, format!("{event:?}"), 0));
        }
        if let Some(special) = Special::ALL.iter().find(|special| !self.specials.contains_key(special)) {
            return Err(cover(Table::Unknown, format!("{special:?}"), 0));
        }
        for value in 0..=u8::MAX {
            let rows = self.contexts.iter().filter(|([from, to], _)| (from..=to).contains(&&value)).count();
            if rows != 1 {
                return Err(cover(Table::Association, format!("presentation context result {value}"), rows));
            }
        }
        for class in [Class::Net, Class::Busy, Class::Slow, Class::Config, Class::Auth, Class::Commit] {
            if !self.classes.get(&class).is_some_and(|c| c.floor_s <= c.base_s && c.base_s <= c.cap_s) {
                return Err(OutcomesError::Toml(format!("classes.{class}: floor_s, base_s, cap_s must rise")));
            }
        }
        let mut ids = BTreeSet::new();
        match self.rows.iter().flat_map(|row| &row.ids).find(|id| !ids.insert(*id)) {
            Some(id) => Err(OutcomesError::Row { row: id.to_string(), problem: "row id stands twice" }),
            None => Ok(()),
        }
    }

    /// Index of the row of a number. Tables by number are checked to cover their domain; HTTP numbers outside are 600–999.
    pub(super) fn by_status(&self, table: Table, status: u16) -> usize {
        let (first, last) = table.domain().expect("asked only of tables by number");
        let status = if (first..=last).contains(&status) { status } else { last };
        let ranges = &self.ranges[&table];
        ranges[ranges.partition_point(|(from, _)| *from <= status) - 1].1
    }

    pub(super) fn by_event(&self, event: Event) -> usize {
        self.events[&event]
    }

    pub(super) fn by_special(&self, special: Special) -> usize {
        self.specials[&special]
    }

    pub(super) fn default_of(&self, table: Table) -> usize {
        self.defaults[&table]
    }

    /// All rows, in the order of the file's tables.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Names of the dialects (03 §4.4).
    pub fn dialects(&self) -> Vec<&str> {
        self.dialects.keys().map(String::as_str).collect()
    }

    /// What `explain <row|status>` prints: the row of an id, or all rows that take a status written as four hex digits
    /// (`A700`, `A700H`) or as an HTTP status (`503`).
    pub fn explain(&self, what: &str) -> Vec<&Row> {
        let by_id: Vec<_> = self.rows.iter().filter(|row| &*row.row == what || row.ids.iter().any(|id| &**id == what)).collect();
        if !by_id.is_empty() {
            return by_id;
        }
        let takes = |table: fn(Table) -> bool, value: u16| {
            let of_table = move |row: &&Row| table(row.table) && row.status.is_some_and(|[from, to]| (from..=to).contains(&value));
            self.rows.iter().filter(of_table).collect()
        };
        let hex = what.strip_suffix(['H', 'h']).unwrap_or(what);
        match (what.parse::<u16>(), u16::from_str_radix(hex, 16)) {
            (Ok(status), _) if what.len() == 3 && status >= 100 => takes(|table| table == Table::Http, status),
            (_, Ok(status)) if hex.len() == 4 => takes(|table| table != Table::Http, status),
            _ => Vec::new(),
        }
    }
}

fn dialects(file: BTreeMap<String, BTreeMap<String, String>>) -> Result<BTreeMap<String, BTreeMap<u16, Outcome>>, OutcomesError> {
    file.into_iter()
        .map(|(name, rows)| {
            let read = |(status, outcome): (String, String)| {
                let pair = u16::from_str_radix(&status, 16).ok().zip(Outcome::parse(&outcome));
                pair.ok_or(OutcomesError::Row { row: status, problem: "a dialect has four hex digits = outcome" })
            };
            Ok((name, rows.into_iter().map(read).collect::<Result<_, _>>()?))
        })
        .collect()
}

/// Lays one table file over another: tables key by key, lists of rows by `row`.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (Some(toml::Value::Array(old)), toml::Value::Array(new))
                if !new.is_empty() && new.iter().all(|row| row.get("row").is_some()) =>
            {
                for row in new {
                    let same = old.iter_mut().find(|old| old.get("row") == row.get("row"));
                    match (same, row) {
                        (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
                        (_, row) => old.push(row),
                    }
                }
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Rows that the configuration of a peer moved to another outcome (03 §3.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(pub(super) BTreeMap<Arc<str>, Outcome>);

impl Overrides {
    /// `rows`: row id → outcome as text.
    ///
    /// # Errors
    /// [`OutcomesError::Override`]: unknown row, an outcome that ends the step, or a row of A9xx, Cxxx, B006 away from
    /// hold and quarantine.
    pub fn new<'a>(outcomes: &Outcomes, rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, OutcomesError> {
        let mut all = BTreeMap::new();
        for (id, text) in rows {
            let fail = |problem| OutcomesError::Override { row: id.to_owned(), to: text.to_owned(), problem };
            let found = outcomes.rows.iter().find_map(|row| row.ids.iter().find(|known| &***known == id).map(|known| (row, known)));
            let (row, id) = found.ok_or_else(|| fail("there is no such row; `explain` lists them"))?;
            let keeps = |outcome| matches!(outcome, Outcome::Hold(Decider::Operator | Decider::Study) | Outcome::Quarantine);
            let outcome =
                Outcome::parse(text).ok_or_else(|| fail("is no outcome: retry(<class>), hold(operator), hold(study), quarantine"))?;
            if matches!(outcome, Outcome::Done | Outcome::DoneDuplicate) {
                return Err(fail("an override never makes an item done"));
            }
            let guarded = outcomes.takes_content_complaint(row);
            if guarded && !keeps(outcome) {
                return Err(fail("A9xx, Cxxx and B006 stay at hold or quarantine"));
            }
            all.insert(id.clone(), outcome);
        }
        Ok(Self(all))
    }
}

impl Outcomes {
    /// Whether the row holds or quarantines and takes a status A9xx, Cxxx or B006.
    fn takes_content_complaint(&self, row: &Row) -> bool {
        let complaint = |status: u16| matches!(status >> 8, 0xA9 | 0xC0..=0xCF) || status == 0xB006;
        let by_range = row.table != Table::Http && row.status.is_some_and(|[from, to]| (from..=to).any(complaint));
        let by_code = self.codes.iter().any(|((_, code), (index, _))| complaint(*code) && std::ptr::eq(&self.rows[*index], row));
        let keeps = matches!(row.does.directive, Directive::Is(Outcome::Hold(_) | Outcome::Quarantine));
        keeps && (by_range || by_code)
    }
}
