//! PID: who a message is about.

use std::fmt;

use idr_ihe::hl7::{Location, Message, Part, Segment, time};
use idr_ihe::metadata::{PatientId, is_oid};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::fault::{Code, Refusal, Warned, Warning};
use super::judge::Desk;
use super::sources::Source;
use crate::identifier::{self, Checked, HETU_AUTHORITY, Hetu, IdentifierKind, Response};

/// A person as a message tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The id that the person is known by.
    pub primary: Checked,
    /// Other ids of the same person.
    pub others: Vec<PatientId>,
    /// What changes.
    pub demographics: Demographics,
    /// PID-33.
    pub as_of: Option<Timestamp>,
    /// Where its id stands.
    pub location: Location,
}

/// A field of a message: empty leaves, `""` deletes, anything else is the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Nothing was sent.
    #[default]
    Keep,
    /// What is known is deleted.
    Delete,
    /// What is known from now on.
    Set(T),
}

impl<T> Change<T> {
    fn over(self, known: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Delete => *known = None,
            Self::Set(value) => *known = Some(value),
        }
    }
}

/// Name, as in XPN.1 to XPN.3. `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Family name.
    pub family: String,
    /// Given name.
    pub given: String,
    /// Second and further given names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub further: String,
}

/// What a message changes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Demographics {
    /// PID-5.
    pub name: Change<Name>,
    /// PID-7.
    pub birth_date: Change<Date>,
    /// PID-8.
    pub sex: Change<String>,
    /// PID-24.
    pub multiple_birth: Change<String>,
    /// PID-25.
    pub birth_order: Change<String>,
    /// PID-29, day of death.
    pub death_date: Change<Date>,
    /// PID-30.
    pub deceased: Change<String>,
    /// PID-31.
    pub identity_unknown: Change<String>,
}

/// What is known. `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Birth date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<Date>,
    /// F M O U A N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<String>,
    /// Y or N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_birth: Option<String>,
    /// Number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_order: Option<String>,
    /// Day of death.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death_date: Option<Date>,
    /// Y or N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deceased: Option<String>,
    /// Y or N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_unknown: Option<String>,
}

impl Demographics {
    /// What is known after this.
    pub fn over(self, mut known: Known) -> Known {
        self.name.over(&mut known.name);
        self.birth_date.over(&mut known.birth_date);
        self.sex.over(&mut known.sex);
        self.multiple_birth.over(&mut known.multiple_birth);
        self.birth_order.over(&mut known.birth_order);
        self.death_date.over(&mut known.death_date);
        self.deceased.over(&mut known.deceased);
        self.identity_unknown.over(&mut known.identity_unknown);
        known
    }
}

macro_rules! redacted {
    ($($type:ty),+) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("<redacted>")
            }
        })+
    };
}

redacted!(Name, Demographics, Known);

/// The ids of a list that can be used.
pub(super) struct Ids {
    /// Those that may be a primary id.
    pub strong: Vec<Checked>,
    /// All others.
    pub weak: Vec<PatientId>,
}

/// Reads PID, the `number`th of the message. `named`: PID-5 is required.
pub(super) fn person(
    desk: &Desk<'_>,
    source: &Source,
    version: &str,
    pid: &Segment<'_>,
    number: usize,
    named: bool,
    warnings: &mut Vec<Warned>,
) -> Result<Person, Refusal> {
    let at = |field| Location::field("PID", number, field);
    let (field, list) = match (pid.field(3), pid.field(2)) {
        (list, old) if list.is_empty() && !old.is_empty() && is_old(version) => {
            warnings.push(Warned { warning: Warning::OldField, location: Some(at(2)) });
            (2, old)
        }
        (list, _) => (3, list),
    };
    if list.is_empty() || list.is_null() {
        return Err(Refusal::at(Code::Required, at(3), "PID-3 has no identifier"));
    }
    let mut ids = ids(desk, list, "PID", number, field, warnings)?;
    let hetus = |ids: &[Checked]| ids.iter().filter(|id| id.kind == IdentifierKind::Hetu).count();
    ids.strong.dedup_by(|a, b| a.id == b.id);
    if hetus(&ids.strong) > 1 {
        return Err(Refusal::at(Code::Value, at(field), "PID-3 has two different personal identity codes"));
    }
    let first = ids.strong.iter().position(|id| id.kind == IdentifierKind::Hetu).or((!ids.strong.is_empty()).then_some(0));
    let Some(first) = first else {
        return Err(Refusal::at(
            Code::Value,
            at(field),
            "PID-3 has no personal identity code and no temporary identifier that can be used",
        ));
    };
    let primary = ids.strong.remove(first);
    if !source.speaks_for(&primary.id.authority) {
        return Err(Refusal::at(Code::NotAllowed, at(field), "The source may not speak for this assigning authority"));
    }
    let others = ids.strong.into_iter().map(|id| id.id).chain(ids.weak).filter(|id| source.speaks_for(&id.authority)).collect();
    let demographics = demographics(desk, pid, number, &primary, named, warnings)?;
    let as_of = match pid.field(33).first() {
        part if part.is_empty() || part.is_null() => None,
        part => Some(desk.instant(&part.component(1).value(), source, at(33), warnings)?),
    };
    Ok(Person { primary, others, demographics, as_of, location: at(field) })
}

/// Reads a list of CX: the ids that can be used.
pub(super) fn ids(
    desk: &Desk<'_>,
    list: Part<'_>,
    segment: &'static str,
    number: usize,
    field: usize,
    warnings: &mut Vec<Warned>,
) -> Result<Ids, Refusal> {
    let mut read = Ids { strong: Vec::new(), weak: Vec::new() };
    for (part, repetition) in list.repetitions().zip(1..) {
        let at = Location { repetition, ..Location::field(segment, number, field) };
        let mut warn = |warning| warnings.push(Warned { warning, location: Some(at) });
        let authority = part.component(4);
        let oid = match (authority.subcomponent(2).value(), authority.subcomponent(3).value()) {
            (oid, kind) if is_oid(&oid) && (kind == "ISO" || kind.is_empty()) => Some(oid),
            (oid, _) if oid.is_empty() => desk.sources.authority(&authority.subcomponent(1).value()).map(str::to_owned),
            _ => None,
        };
        let Some(authority) = oid else {
            warn(Warning::Issuer);
            continue;
        };
        let text = part.component(1).text();
        if text.odd_escape {
            warn(Warning::Escape);
        }
        if text.value.is_empty() || part.component(1).is_null() {
            return Err(Refusal::at(Code::Required, at, "An identifier is empty"));
        }
        if part.component(5).value() == "NNFIN" && authority != HETU_AUTHORITY {
            warn(Warning::TypeContradiction);
        }
        let id = PatientId { id: text.value, authority };
        let checked = match identifier::check(&id, desk.rules, desk.environment, &desk.sources.local_issuers, desk.today) {
            Ok(checked) => checked,
            Err(identifier::IdentifierError::Authority) => {
                warn(Warning::Issuer);
                continue;
            }
            Err(error) => return Err(Refusal::at(Code::Value, at, error.to_string())),
        };
        checked.warnings.iter().for_each(|warning| warn((*warning).into()));
        // An id that is not in force now stays a name of the person, but not the first one.
        let day = |n: usize| time::date(&part.component(n).value()).ok();
        let in_force = day(7).is_none_or(|from| from <= desk.today) && day(8).is_none_or(|to| desk.today <= to);
        // One that is merged may have ended: that is why it is merged.
        if checked.may_be_primary() && (in_force || segment == "MRG") {
            if !read.strong.iter().any(|known| known.id == checked.id) {
                read.strong.push(checked);
            }
        } else {
            read.weak.push(checked.id);
        }
    }
    Ok(read)
}

fn demographics(
    desk: &Desk<'_>,
    pid: &Segment<'_>,
    number: usize,
    primary: &Checked,
    named: bool,
    warnings: &mut Vec<Warned>,
) -> Result<Demographics, Refusal> {
    let at = |field| Location::field("PID", number, field);
    let hetu = (primary.kind == IdentifierKind::Hetu).then(|| Hetu::parse(&primary.id.id, desk.today).ok()).flatten();
    let mut warn = |warning, field| -> Result<(), Refusal> {
        if desk.rules.demographics_mismatch == Response::Refuse && matches!(warning, Warning::BirthDate | Warning::Sex) {
            return Err(Refusal::at(Code::Value, at(field), warning.text()));
        }
        warnings.push(Warned { warning, location: Some(at(field)) });
        Ok(())
    };
    let name = match pid.field(5) {
        field if field.is_null() || field.is_empty() && named => {
            return Err(Refusal::at(Code::Required, at(5), "PID-5 has no name"));
        }
        field if field.is_empty() => Change::Keep,
        field => {
            let legal = |part: &Part<'_>| matches!(part.component(7).value().as_str(), "" | "L");
            let part = field.repetitions().find(legal).unwrap_or_else(|| field.first());
            let texts = [part.component(1).subcomponent(1), part.component(2), part.component(3)].map(|part| part.text());
            if texts.iter().any(|text| text.odd_escape) {
                warn(Warning::Escape, 5)?;
            }
            let [family, given, further] = texts.map(|text| text.value);
            Change::Set(Name { family, given, further })
        }
    };
    let birth_date = date(pid.field(7), at(7))?;
    if let (Change::Set(date), Some(hetu)) = (&birth_date, &hetu)
        && *date != hetu.birth_date()
    {
        warn(Warning::BirthDate, 7)?;
    }
    let sex = match text(pid.field(8)) {
        Change::Set(sex) if !["F", "M", "O", "U", "A", "N"].contains(&sex.as_str()) => {
            warn(Warning::Sex, 8)?;
            Change::Keep
        }
        Change::Set(sex) => {
            if hetu.as_ref().is_some_and(|hetu| sex == "M" && !hetu.is_male() || sex == "F" && hetu.is_male()) {
                warn(Warning::Sex, 8)?;
            }
            Change::Set(sex)
        }
        other => other,
    };
    let identity_unknown = text(pid.field(31));
    if hetu.is_some() && identity_unknown == Change::Set("Y".to_owned()) {
        warn(Warning::IdentityUnknown, 31)?;
    }
    Ok(Demographics {
        name,
        birth_date,
        sex,
        multiple_birth: text(pid.field(24)),
        birth_order: text(pid.field(25)),
        death_date: date(pid.field(29), at(29))?,
        deceased: text(pid.field(30)),
        identity_unknown,
    })
}

/// A short code or number: what is longer than 20 characters is none.
fn text(field: Part<'_>) -> Change<String> {
    match field.first() {
        part if part.is_null() => Change::Delete,
        part if part.is_empty() => Change::Keep,
        part => Change::Set(part.component(1).value().chars().take(20).collect()),
    }
}

/// A day. A year, or a month, is no day: nothing is known then.
fn date(field: Part<'_>, at: Location) -> Result<Change<Date>, Refusal> {
    let part = field.first();
    if part.is_null() {
        return Ok(Change::Delete);
    }
    let value = part.component(1).value();
    if value.is_empty() || matches!(value.len(), 4 | 6) && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Change::Keep);
    }
    time::date(&value).map(Change::Set).map_err(|error| Refusal::at(Code::Value, at, error.to_string()))
}

/// Versions of which old fields are read.
pub(super) fn is_old(version: &str) -> bool {
    matches!(version, "2.3" | "2.3.1" | "2.4")
}

/// MRG, the `number`th of the message: the old ids.
pub(super) fn old_ids(
    desk: &Desk<'_>,
    source: &Source,
    version: &str,
    mrg: &Segment<'_>,
    number: usize,
    warnings: &mut Vec<Warned>,
) -> Result<Vec<Checked>, Refusal> {
    let at = |field| Location::field("MRG", number, field);
    let (field, list) = match (mrg.field(1), mrg.field(4)) {
        (list, old) if list.is_empty() && !old.is_empty() && is_old(version) => {
            warnings.push(Warned { warning: Warning::OldField, location: Some(at(4)) });
            (4, old)
        }
        (list, _) => (1, list),
    };
    if list.is_empty() || list.is_null() {
        return Err(Refusal::at(Code::Required, at(1), "MRG-1 has no identifier"));
    }
    let ids = ids(desk, list, "MRG", number, field, warnings)?;
    if ids.strong.is_empty() {
        return Err(Refusal::at(
            Code::Value,
            at(field),
            "MRG-1 has no personal identity code and no temporary identifier that can be used",
        ));
    }
    if ids.strong.iter().any(|id| !source.speaks_for(&id.id.authority)) {
        return Err(Refusal::at(Code::NotAllowed, at(field), "The source may not speak for this assigning authority"));
    }
    Ok(ids.strong)
}

/// Whether a message has a segment of a name.
pub(super) fn named<'a>(message: &'a Message, name: &'static str) -> impl Iterator<Item = Segment<'a>> + use<'a> {
    message.segments().filter(move |segment| segment.name() == name)
}
