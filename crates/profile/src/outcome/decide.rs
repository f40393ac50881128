//! The decision function (03 §5): pure, total, one row for every signal.

use super::row::{Directive, Special};
use super::table::{Overrides, Table};
use super::{Class, Decided, Event, Mark, Outcome, Outcomes};

/// What came back for one item.
#[derive(Debug, Clone, Copy)]
pub enum Signal<'a> {
    /// Anything without a status.
    Event(Event),
    /// TLS alert received.
    TlsAlert(u8),
    /// A-ASSOCIATE-RJ.
    Reject {
        /// Result.
        result: u8,
        /// Source.
        source: u8,
        /// Reason.
        reason: u8,
    },
    /// A-ABORT.
    Abort {
        /// Source.
        source: u8,
        /// Reason.
        reason: u8,
    },
    /// Result of the presentation context that the item needs; absent: [`Event::ContextMissing`].
    PresentationContext(u8),
    /// Status of a C-STORE response.
    CStore(u16),
    /// Status of an N-ACTION response to a storage commitment request.
    NAction(u16),
    /// Status of the response to an N-EVENT-REPORT that we sent.
    NEventReport(u16),
    /// Failure Reason (0008,1197) of one instance in a commitment report.
    CommitmentFailure(u16),
    /// HTTP status of a DICOMweb commitment transaction (PS3.18 §13); 200: `continue`, the lists decide.
    CommitmentWeb(u16),
    /// What the GET of the receipts of a study said about one instance (11 §3).
    Receipt(ReceiptAnswer),
    /// Answer to a SOAP request.
    Soap(Soap<'a>),
}

/// What the receipts of a study say about one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptAnswer {
    /// R3 present, signature valid, digest equal.
    Commits,
    /// 404, or no R3 of this instance yet.
    Absent,
    /// Digest differs or signature invalid.
    Contradicts,
    /// Any other HTTP status.
    Status(u16),
}

/// Answer to a SOAP request: a parsed envelope wins over every status except 429 and 503.
#[derive(Debug, Clone, Copy)]
pub enum Soap<'a> {
    /// No envelope of ours in it.
    Status {
        /// HTTP status.
        status: u16,
        /// The media type is none of SOAP 1.2.
        other_type: bool,
    },
    /// An envelope with a fault.
    Fault {
        /// HTTP status.
        status: u16,
        /// The fault.
        fault: Fault<'a>,
    },
    /// An envelope with a RegistryResponse.
    Response {
        /// HTTP status.
        status: u16,
        /// The response.
        response: Response<'a>,
    },
}

/// SOAP 1.2 fault. Names with or without prefix.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault<'a> {
    /// `Code/Value`.
    pub code: Option<&'a str>,
    /// `Subcode/Value`, outermost first.
    pub subcodes: &'a [&'a str],
    /// `idr:Refusal/@code`.
    pub refusal: Option<&'a str>,
}

/// RegistryResponse.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// `status`.
    pub status: &'a str,
    /// `errorCode` and severity of each RegistryError.
    pub errors: &'a [(&'a str, Severity)],
}

/// `severity` of a RegistryError.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// `urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error`, or absent.
    Error,
    /// `…:Warning`
    Warning,
}

/// What of peer and item decides together with the signal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Dialect of the peer.
    pub dialect: Option<&'a str>,
    /// The submission replaces an entry (02 §5.1 operation `replace`).
    pub replace: bool,
    /// The request is a query or a retrieval, not a submission.
    pub query: bool,
    /// `extra_metadata_loss = "accept"` of the peer.
    pub accept_extra_metadata_loss: bool,
    /// Faults of tasks on this item within 24 h, this one included.
    pub faults_within_day: u32,
    /// Rows that the configuration of the peer moved.
    pub overrides: Option<&'a Overrides>,
}

/// Which column of §4.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// STOW-RS.
    Stow,
    /// SOAP.
    Soap,
}

/// Body of a STOW-RS answer.
#[derive(Debug, Clone, Copy)]
pub enum StowBody<'a> {
    /// What it says about each instance that was sent, in the order sent.
    Results(&'a [InstanceResult]),
    /// None, or not parsable.
    None,
    /// Of another media type; not used.
    OtherType,
}

/// What a STOW-RS answer says about one instance (03 §4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceResult {
    /// In Referenced SOP Sequence.
    Stored,
    /// The same with Warning Reason (0008,1196).
    Warned(u16),
    /// In Failed SOP Sequence with Failure Reason (0008,1197).
    Failed(u16),
    /// There without one.
    FailedWithoutReason,
    /// In both.
    Both,
    /// In neither.
    Missing,
    /// In Referenced SOP Sequence with another class or UID.
    OtherIdentity,
}

/// The decision on one STOW-RS request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stow {
    /// All instances alike.
    All(Decided),
    /// Each by itself.
    Each {
        /// Row and breaker mark of the request; counts once.
        request: Decided,
        /// In the order sent.
        instances: Vec<Decided>,
    },
    /// Send the instances again one by one; their results count. To be remembered for [`super::Limits::split_remembered_s`].
    Split(Decided),
}

/// What becomes of a directive.
enum Found {
    Decided(Decided),
    PerInstance(Decided),
    Split(Decided),
}

impl Outcomes {
    /// The decision for one item. Every signal has a row.
    pub fn decide(&self, signal: Signal<'_>, context: &Context<'_>) -> Decided {
        let decided = match signal {
            Signal::Event(Event::HttpMediaType) => self.unknown(),
            Signal::Event(event) => self.row(self.by_event(event), 0, &[], context),
            Signal::TlsAlert(alert) => match self.alerts.get(&alert) {
                Some((index, place)) => self.row(*index, *place, &[], context),
                None => self.row(self.default_of(Table::Link), 0, &[], context),
            },
            Signal::Reject { result, source, reason } => match self.rejects.get(&(result, source, reason)) {
                Some(index) => self.row(*index, 0, &[&result.to_string()], context),
                None => self.row(self.by_special(Special::RejectOther), 0, &[], context),
            },
            Signal::Abort { source, reason } => {
                let listed = self
                    .aborts
                    .iter()
                    .find(|(abort, _)| abort.source == source && abort.reasons.as_ref().is_none_or(|reasons| reasons.contains(&reason)));
                self.row(listed.map_or(self.by_special(Special::AbortOther), |(_, index)| *index), 0, &[], context)
            }
            Signal::PresentationContext(result) => {
                let row = self.contexts.iter().find(|([from, to], _)| (from..=to).contains(&&result));
                self.row(row.expect("checked: every result has a row").1, 0, &[], context)
            }
            Signal::CStore(status) => self.c_store(status, context),
            Signal::NAction(status) => self.row(self.by_status(Table::NAction, status), 0, &[], context),
            Signal::NEventReport(status) => self.row(self.by_status(Table::NEventReport, status), 0, &[], context),
            Signal::CommitmentFailure(reason) => self.row(self.by_status(Table::CommitmentFailure, reason), 0, &[], context),
            Signal::CommitmentWeb(status) => self.commitment_web(status, context),
            Signal::Receipt(answer) => {
                let row = self.by_special(Special::Receipt);
                match answer {
                    ReceiptAnswer::Commits => self.row(row, 0, &[], context),
                    ReceiptAnswer::Absent | ReceiptAnswer::Status(404) => self.row(row, 0, &["absent"], context),
                    ReceiptAnswer::Contradicts => self.row(row, 0, &["contradicts"], context),
                    ReceiptAnswer::Status(status) => self.status_alone(status),
                }
            }
            Signal::Soap(answer) => self.soap(answer, context),
        };
        self.overridden(decided, context)
    }

    /// The decision for a STOW-RS request with `sent` instances (03 §4.8, §4.9).
    pub fn stow(&self, status: u16, body: StowBody<'_>, sent: usize, context: &Context<'_>) -> Stow {
        let found = self.http(status, Service::Stow, sent > 1, matches!(body, StowBody::Results(_)));
        let other_type = matches!(body, StowBody::OtherType);
        let named = |decided: Decided| {
            let decided = if other_type { self.as_other_type(decided) } else { decided };
            self.overridden(decided, context)
        };
        match (found, body) {
            (Found::PerInstance(request), StowBody::Results(results)) => {
                // An instance that the caller has no result for is one that the answer does not name.
                let all = results.iter().copied().chain(std::iter::repeat(InstanceResult::Missing)).take(sent);
                let instances = all.map(|result| self.overridden(self.instance(result, context), context)).collect();
                Stow::Each { request, instances }
            }
            (Found::Decided(decided) | Found::PerInstance(decided), _) => Stow::All(named(decided)),
            (Found::Split(decided), _) => Stow::Split(named(decided)),
        }
    }

    /// §4.4 with the dialect of the peer.
    fn c_store(&self, status: u16, context: &Context<'_>) -> Decided {
        let mut decided = self.row(self.by_status(Table::CStore, status), 0, &[], context);
        let dialect = context.dialect.and_then(|name| self.dialects.get(name));
        if let Some(outcome) = dialect.and_then(|statuses| statuses.get(&status)) {
            decided.outcome = *outcome;
            decided.effects.clear();
            // As the rows of §4.4 with that outcome: a peer that judges the object works.
            decided.breaker = if decided.class().is_some() { Mark::Failure } else { Mark::Success };
        }
        decided
    }

    fn commitment_web(&self, status: u16, context: &Context<'_>) -> Decided {
        let row = self.by_special(Special::CommitmentWeb);
        let key = status.to_string();
        match self.rows[row].does.cases.contains_key(&key) || status == 200 {
            true => self.row(row, 0, &[&key], context),
            false => self.status_alone(status),
        }
    }

    /// §4.8, column STOW-RS, for a request about one instance whose body says nothing.
    fn status_alone(&self, status: u16) -> Decided {
        match self.http(status, Service::Stow, false, false) {
            Found::Decided(decided) | Found::PerInstance(decided) | Found::Split(decided) => decided,
        }
    }

    fn http(&self, status: u16, service: Service, several: bool, body: bool) -> Found {
        let index = self.by_status(Table::Http, status);
        let does = &self.rows[index].does;
        let key = status.to_string();
        let column = match service {
            Service::Soap => does.soap.as_ref().unwrap_or(&does.directive),
            Service::Stow => &does.directive,
        };
        let mut directive = does.cases.get(&key).unwrap_or(column);
        loop {
            let outcome = match directive {
                Directive::Is(outcome) => *outcome,
                Directive::PerInstance { .. } if body => {
                    return Found::PerInstance(self.with(index, 0, &[&key], Outcome::Continue));
                }
                Directive::PerInstance { none } => {
                    directive = none;
                    continue;
                }
                Directive::Split { single } if !several => *single,
                Directive::Split { .. } => return Found::Split(self.with(index, 0, &[&key], Outcome::Retry(Class::Net))),
                Directive::Fault { none } => *none,
                // A 200 without the envelope that it should have: nothing is assumed (§3.3).
                Directive::Envelope | Directive::Worst | Directive::AsStatus => Outcome::Retry(Class::Slow),
            };
            return Found::Decided(self.with(index, 0, &[&key], outcome));
        }
    }

    /// H-TYPE: the outcome of the status, the row and mark of the wrong media type.
    fn as_other_type(&self, decided: Decided) -> Decided {
        let row = &self.rows[self.by_event(Event::HttpMediaType)];
        Decided { row: row.ids[0].clone(), breaker: row.does.mark.unwrap_or(decided.breaker), ..decided }
    }

    fn instance(&self, result: InstanceResult, context: &Context<'_>) -> Decided {
        let event = |event| self.row(self.by_event(event), 0, &[], context);
        match result {
            InstanceResult::Stored => event(Event::Stored),
            InstanceResult::FailedWithoutReason => event(Event::FailedWithoutReason),
            InstanceResult::Both => event(Event::StoredAndFailed),
            InstanceResult::Missing => event(Event::NotInAnswer),
            InstanceResult::OtherIdentity => event(Event::StoredWithOtherIdentity),
            InstanceResult::Warned(reason) => match self.codes.get(&(Table::StowWarning, reason)) {
                Some((index, place)) => self.row(*index, *place, &[], context),
                None => self.row(self.default_of(Table::StowWarning), 0, &[], context),
            },
            InstanceResult::Failed(reason) => match self.codes.get(&(Table::StowFailure, reason)) {
                Some((index, place)) => self.row(*index, *place, &[], context),
                None => {
                    let as_status = Decided { effects: Vec::new(), ..self.c_store(reason, context) };
                    match as_status.outcome {
                        // A failed instance is never done: what the number would mean elsewhere does not matter.
                        Outcome::Done => self.row(self.default_of(Table::StowFailure), 0, &[], context),
                        _ => as_status,
                    }
                }
            },
        }
    }

    fn soap(&self, answer: Soap<'_>, context: &Context<'_>) -> Decided {
        let status = match answer {
            Soap::Status { status, .. } | Soap::Fault { status, .. } | Soap::Response { status, .. } => status,
        };
        let by_status = match self.http(status, Service::Soap, false, false) {
            Found::Decided(decided) | Found::PerInstance(decided) | Found::Split(decided) => decided,
        };
        match answer {
            Soap::Status { other_type: true, .. } => self.as_other_type(by_status),
            Soap::Status { .. } => by_status,
            _ if matches!(status, 429 | 503) => by_status,
            Soap::Fault { fault, .. } => self.fault(fault, context),
            Soap::Response { response, .. } => self.response(response, by_status.breaker, context),
        }
    }

    /// §4.10: refusal, else the deepest known subcode, else the code.
    fn fault(&self, fault: Fault<'_>, context: &Context<'_>) -> Decided {
        if let Some(code) = fault.refusal {
            return self.row(self.by_special(Special::Refusal), 0, &[code.trim()], context);
        }
        let names = fault.subcodes.iter().rev().copied().chain(fault.code);
        let known = names.map(local).find_map(|name| self.names.get(&(Table::Fault, name.to_owned())).map(|index| (*index, name)));
        match known {
            Some((index, name)) => self.row(index, 0, &[name], context),
            None => self.row(self.default_of(Table::Fault), 0, &[], context),
        }
    }

    /// §4.11. `carrier`: breaker mark of the HTTP status, for rows without one of their own.
    fn response(&self, response: Response<'_>, carrier: Mark, context: &Context<'_>) -> Decided {
        let by_name = self.names.get(&(Table::Response, response.status.trim().to_owned()));
        let mut index = by_name.copied().unwrap_or_else(|| self.default_of(Table::Response));
        let success = matches!(self.rows[index].does.directive, Directive::Is(Outcome::Done));
        if success && !response.errors.is_empty() {
            if response.errors.iter().any(|(_, severity)| *severity == Severity::Error) {
                return self.unknown();
            }
            index = self.by_special(Special::SuccessWithWarnings);
        }
        let does = &self.rows[index].does;
        let directive = conditions(context).into_iter().find_map(|key| does.cases.get(key)).unwrap_or(&does.directive);
        let mut decided = match directive {
            Directive::Worst => self.worst(index, response.errors, context),
            _ => self.row(index, 0, &[], context),
        };
        if decided.breaker == Mark::Uncounted && does.mark.is_none() && self.is_response(&decided) {
            decided.breaker = carrier;
        }
        decided
    }

    fn is_response(&self, decided: &Decided) -> bool {
        self.rows.iter().any(|row| row.table == Table::Response && row.ids.contains(&decided.row))
    }

    /// The worst row of the codes; `index` is the row of the status, whose cases `none` and `unlisted` say what no code and
    /// an unknown code mean.
    fn worst(&self, index: usize, errors: &[(&str, Severity)], context: &Context<'_>) -> Decided {
        let of_status = &self.rows[index].does.cases;
        let decided = errors.iter().map(|(code, _)| {
            let name = local(code.trim());
            match self.names.get(&(Table::RegistryError, name.to_owned())) {
                Some(row) => self.row(*row, 0, &[name], context),
                None if of_status.contains_key("unlisted") => self.row(index, 0, &["unlisted"], context),
                None => self.row(self.default_of(Table::RegistryError), 0, &[], context),
            }
        });
        match decided.reduce(|worst, next| if next.outcome.rank() > worst.outcome.rank() { next } else { worst }) {
            Some(worst) => worst,
            None if of_status.contains_key("none") => self.row(index, 0, &["none"], context),
            None => self.unknown(),
        }
    }

    fn unknown(&self) -> Decided {
        self.row(self.by_event(Event::Unknown), 0, &[], &Context::default())
    }

    /// What a row says. `place`: which of its ids. `keys`: names of the cases that were met.
    fn row(&self, index: usize, place: usize, keys: &[&str], context: &Context<'_>) -> Decided {
        let does = &self.rows[index].does;
        let case = keys.iter().copied().chain(conditions(context)).find_map(|key| does.cases.get(key));
        match case.unwrap_or(&does.directive) {
            Directive::Is(outcome) => self.with(index, place, keys, *outcome),
            // Only a row of another kind of signal delegates; asked directly it says nothing.
            _ => self.with(index, place, keys, Outcome::Retry(Class::Slow)),
        }
    }

    fn with(&self, index: usize, place: usize, keys: &[&str], outcome: Outcome) -> Decided {
        let row = &self.rows[index];
        let mark = keys.iter().find_map(|key| row.does.marks.get(*key).copied());
        let mut effects = row.does.effects.clone();
        effects.extend(keys.iter().filter_map(|key| row.does.effects_of.get(*key)).flatten().copied());
        Decided {
            row: row.ids.get(place).unwrap_or(&row.row).clone(),
            outcome,
            breaker: mark.or(row.does.mark).unwrap_or(Mark::Uncounted),
            any_item: row.does.any_item,
            effects,
            answer: row.does.answer,
        }
    }

    fn overridden(&self, mut decided: Decided, context: &Context<'_>) -> Decided {
        if let Some(outcome) = context.overrides.and_then(|overrides| overrides.0.get(&decided.row)) {
            decided.outcome = *outcome;
        }
        decided
    }
}

/// Cases that the context fulfils.
fn conditions(context: &Context<'_>) -> Vec<&'static str> {
    [
        ("again", context.faults_within_day >= 2),
        ("replace", context.replace),
        ("query", context.query),
        ("accept", context.accept_extra_metadata_loss),
    ]
    .into_iter()
    .filter_map(|(name, met)| met.then_some(name))
    .collect()
}

/// A name without its namespace prefix.
fn local(name: &str) -> &str {
    name.rsplit([':', '#']).next().unwrap_or(name).trim()
}
