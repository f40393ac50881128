//! From a frame to an order.

use idr_ihe::hl7::{Charset, Header, Limits, Location, Message, MessageError, Segment, time};
use jiff::Timestamp;
use jiff::civil::Date;
use sha2::{Digest as _, Sha256};

use super::fault::{Code, Refusal, Warned, Warning};
use super::person::{self, named};
use super::rules::{Does, EventRow};
use super::sources::{Source, Sources};
use super::{Act, Order, Pair, Visit};
use crate::identifier::organisation::{ORGANISATION_ROOT, service_event_organisation};
use crate::identifier::{Environment, IdentifierKind, IdentityRules};
use idr_ihe::metadata::PatientId;

/// What a message is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// Identity rules.
    pub rules: &'a IdentityRules,
    /// Who may send.
    pub sources: &'a Sources,
    /// Test or production.
    pub environment: Environment,
    /// Civil date in Europe/Helsinki.
    pub today: Date,
    /// Now.
    pub now: Timestamp,
}

/// A message that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What it asks for.
    pub order: Order,
    /// What somebody should know.
    pub warnings: Vec<Warned>,
}

/// SHA-256 of a message from MSH-8 on: two messages of one MSH-10 with the same are one (profile 06 §8).
pub fn digest(frame: &[u8], header: &Header) -> [u8; 32] {
    let field = header.separators().field;
    let from = frame.iter().enumerate().filter(|(_, byte)| **byte == field).nth(6).map_or(frame.len(), |(at, _)| at + 1);
    Sha256::digest(&frame[from..]).into()
}

/// §7.2, 5 and 6: whether an id may go into another, and whether a person has to look at it afterwards.
///
/// # Errors
/// H-15.
pub fn merge_rule(old: &PatientId, survivor: &PatientId, source: &Source) -> Result<bool, Refusal> {
    use crate::identifier::HETU_AUTHORITY;
    match (old.authority == HETU_AUTHORITY, survivor.authority == HETU_AUTHORITY) {
        (true, false) => Err(Refusal::new(Code::Rule, "A personal identity code does not go into a temporary identifier")),
        (true, true) if !source.may_change_hetu => {
            Err(Refusal::new(Code::Rule, "The source may not replace a personal identity code by another"))
        }
        (true, true) => Ok(true),
        _ => Ok(false),
    }
}

impl<'a> Desk<'a> {
    /// Who sent a message. `organisation`: of the TLS client certificate; `None` on a plain connection from this host.
    ///
    /// # Errors
    /// H-14.
    pub fn source(&self, header: &Header, organisation: Option<&str>) -> Result<&'a Source, Refusal> {
        let (application, facility) = (header.component(3, 1), header.component(4, 1));
        let found = self.sources.source(&application, &facility);
        found.filter(|source| organisation.is_none_or(|of| of == source.organisation)).ok_or_else(|| {
            Refusal::at(Code::NotAllowed, Location::field("MSH", 1, 3), "This sender is not listed for the organisation of the connection")
        })
    }

    /// Judges a message of a source.
    ///
    /// # Errors
    /// The first reason to refuse it: type, event, processing id, version, receiver, bounds, text, segments, fields.
    pub fn judge(&self, frame: &[u8], header: &Header, source: &Source, limits: &Limits) -> Result<Judged, Refusal> {
        let msh = |field| Location::field("MSH", 1, field);
        if header.component(9, 1) != "ADT" {
            return Err(Refusal::at(Code::MessageType, msh(9), "Only ADT messages are read"));
        }
        let feed = &self.rules.feed;
        let event = header.component(9, 2);
        let row = feed.event.iter().find(|row| row.event == event && (row.event != "A18" || feed.accept_a18));
        let ignored = feed.ignored_events.contains(&event);
        if row.is_none() && !ignored {
            return Err(Refusal::at(Code::Event, msh(9), "The event is not supported"));
        }
        let allowed = match self.environment {
            Environment::Production => ["P"].as_slice(),
            Environment::Test => &["T", "D"],
        };
        if !allowed.contains(&header.component(11, 1).as_str()) {
            return Err(Refusal::at(Code::ProcessingId, msh(11), "The processing id is not that of this environment"));
        }
        let version = header.component(12, 1);
        if !feed.versions.contains(&version) {
            return Err(Refusal::at(Code::Version, msh(12), "The version is not supported"));
        }
        if feed.check_receiver && !self.sources.receives(&header.component(5, 1), &header.component(6, 1)) {
            return Err(Refusal::at(Code::NotAllowed, msh(5), "The message is for another receiver"));
        }
        if !source.events.is_empty() && !source.events.contains(&event) {
            return Err(Refusal::at(Code::NotAllowed, msh(9), "The source may not send this event"));
        }
        let charset = match header.component(18, 1).as_str() {
            "" => source.default_charset,
            name => Charset::by_name(name)
                .ok_or_else(|| Refusal::at(Code::Coded, msh(18), "Character sets: ASCII, 8859/1, 8859/15, UNICODE UTF-8"))?,
        };
        let message = Message::read(frame, header, charset, limits).map_err(|error| match error {
            MessageError::Text => Refusal::at(Code::Value, msh(18), error.to_string()),
            MessageError::Bound { .. } => Refusal::new(Code::Bound, error.to_string()),
            MessageError::Segment { .. } => Refusal::new(Code::Segments, error.to_string()),
        })?;
        let control_id: String = header.field(10).iter().map(|byte| char::from(*byte)).collect();
        if !(1..=199).contains(&control_id.len()) {
            return Err(Refusal::at(Code::Required, msh(10), "MSH-10 has 1 to 199 characters"));
        }
        let mut warnings = Vec::new();
        let sent = header.component(7, 1);
        if sent.is_empty() {
            return Err(Refusal::at(Code::Required, msh(7), "MSH-7 is empty"));
        }
        let sent = self.instant(&sent, source, msh(7), &mut warnings)?;
        let Some(row) = row else {
            let order = Order { event, control_id, as_of: sent, operator: None, act: Act::Nothing };
            return Ok(Judged { order, warnings });
        };
        self.order(row, header, &message, source, control_id, warnings)
    }

    fn order(
        &self,
        row: &EventRow,
        header: &Header,
        message: &Message,
        source: &Source,
        control_id: String,
        mut warnings: Vec<Warned>,
    ) -> Result<Judged, Refusal> {
        let groups = groups(message, row.does, self.rules.feed.groups_max)?;
        let evn = named(message, "EVN").next().ok_or_else(|| missing("EVN"))?;
        let structure = header.component(9, 3);
        let trigger = evn.field(1).value();
        if !structure.is_empty() && structure != row.structure || !trigger.is_empty() && trigger != row.event {
            warnings.push(Warned { warning: Warning::Structure, location: Some(Location::field("MSH", 1, 9)) });
        }
        let recorded = evn.field(2).first().component(1).value();
        if recorded.is_empty() {
            return Err(Refusal::at(Code::Required, Location::field("EVN", 1, 2), "EVN-2 is empty"));
        }
        let recorded = self.instant(&recorded, source, Location::field("EVN", 1, 2), &mut warnings)?;
        let operator = Some(evn.field(5).first().component(1).value()).filter(|id| !id.is_empty()).map(|id| id.chars().take(64).collect());
        let version = header.component(12, 1);
        let named = matches!(row.does, Does::Visit | Does::UpdateVisit | Does::Person | Does::UpdatePerson);
        let mut persons = Vec::new();
        for (group, number) in groups.iter().zip(1..) {
            persons.push(person::person(self, source, &version, &group.pid, number, named, &mut warnings)?);
        }
        let as_of = persons.first().and_then(|person| person.as_of).unwrap_or(recorded);
        let act = match row.does {
            Does::Visit | Does::UpdateVisit | Does::Person | Does::UpdatePerson => {
                let visit = groups[0].pv1.as_ref().map(|pv1| self.visit(pv1, source, row.does)).transpose()?.flatten();
                let updates = matches!(row.does, Does::UpdateVisit | Does::UpdatePerson);
                let person = Box::new(persons.swap_remove(0));
                Act::Upsert { person, visit, creates: !updates || self.rules.a08_creates }
            }
            Does::Merge | Does::MergeOne | Does::Rename => {
                let mut pairs = Vec::new();
                for ((survivor, group), number) in persons.into_iter().zip(&groups).zip(1..) {
                    let mrg = group.mrg.as_ref().ok_or_else(|| missing("MRG"))?;
                    let old = person::old_ids(self, source, &version, mrg, number, &mut warnings)?;
                    pairs.push(Pair { survivor, old, number });
                }
                pairs.iter().try_for_each(|pair| may_merge(pair, source))?;
                match row.does {
                    Does::Rename => Act::Rename(Box::new(pairs.swap_remove(0))),
                    _ => Act::Merge(pairs),
                }
            }
            Does::Link | Does::Unlink => {
                let both: [_; 2] = persons.try_into().map_err(|_| missing("PID"))?;
                if both[0].primary.id == both[1].primary.id {
                    return Err(Refusal::at(Code::Value, both[1].location, "Both PID segments name the same patient"));
                }
                if !source.may_merge {
                    return Err(Refusal::new(Code::NotAllowed, "The source may not link patients"));
                }
                if row.does == Does::Link { Act::Link(Box::new(both)) } else { Act::Unlink(Box::new(both)) }
            }
        };
        Ok(Judged { order: Order { event: row.event.clone(), control_id, as_of, operator, act }, warnings })
    }

    /// PV1. A visit without a service event says nothing here.
    fn visit(&self, pv1: &Segment<'_>, source: &Source, does: Does) -> Result<Option<Visit>, Refusal> {
        let at = |field| Location::field("PV1", 1, field);
        if matches!(does, Does::Visit | Does::UpdateVisit) && pv1.field(2).is_empty() {
            return Err(Refusal::at(Code::Required, at(2), "PV1-2 is empty"));
        }
        let service_event = pv1.field(19).first().component(1).value();
        let Some(organisation) = service_event_organisation(&service_event) else { return Ok(None) };
        let organisation = format!("{ORGANISATION_ROOT}.{organisation}");
        if !source.speaks_for(&service_event) && source.organisation != organisation {
            return Err(Refusal::at(Code::NotAllowed, at(19), "The source may not speak for this organisation's service events"));
        }
        let day = |field: usize| -> Result<Option<Date>, Refusal> {
            let text = pv1.field(field).first().component(1).value();
            if text.is_empty() || text == "\"\"" {
                return Ok(None);
            }
            let read = time::instant(&text, &source.time_zone).map_err(|error| Refusal::at(Code::Value, at(field), error.to_string()))?;
            Ok(Some(source.time_zone.to_datetime(read.at).date()))
        };
        let place = pv1.field(3).first();
        let unit = self.sources.unit(&place.component(1).value(), &place.component(4).subcomponent(1).value()).map(str::to_owned);
        let controller = format!("{organisation}.19.0");
        Ok(Some(Visit { controller, service_event, unit, start: day(44)?, end: day(45)? }))
    }

    /// An instant that is not in the future.
    pub(super) fn instant(&self, text: &str, source: &Source, at: Location, warnings: &mut Vec<Warned>) -> Result<Timestamp, Refusal> {
        let read = time::instant(text, &source.time_zone).map_err(|error| Refusal::at(Code::Value, at, error.to_string()))?;
        if read.adjusted {
            warnings.push(Warned { warning: Warning::LocalTime, location: Some(at) });
        }
        let tolerance = i64::from(self.rules.feed.future_tolerance_seconds);
        if read.at.as_second() - self.now.as_second() > tolerance {
            return Err(Refusal::at(Code::Value, at, "The time lies in the future; check the clocks"));
        }
        Ok(read.at)
    }
}

/// Checks 1, 3, 5 and 6 of §7.2, as far as the message tells.
fn may_merge(pair: &Pair, source: &Source) -> Result<(), Refusal> {
    if !source.may_merge {
        return Err(Refusal::new(Code::NotAllowed, "The source may not merge patients"));
    }
    let survivor = &pair.survivor.primary;
    debug_assert!(matches!(survivor.kind, IdentifierKind::Hetu | IdentifierKind::Temporary), "a primary id");
    for old in &pair.old {
        let at = Location::field("MRG", pair.number, 1);
        if old.id == survivor.id {
            return Err(Refusal::at(Code::Value, at, "MRG-1 and PID-3 are the same identifier"));
        }
        merge_rule(&old.id, &survivor.id, source).map_err(|refusal| Refusal { location: Some(at), ..refusal })?;
    }
    Ok(())
}

/// PID, and what belongs to it.
struct Group<'a> {
    pid: Segment<'a>,
    mrg: Option<Segment<'a>>,
    pv1: Option<Segment<'a>>,
}

fn missing(name: &'static str) -> Refusal {
    Refusal::at(Code::Segments, Location::segment(name, 1), format!("The segment {name} is missing or out of order"))
}

/// The groups of a message, in the order that its event has. Segments that are not used may stand anywhere.
fn groups(message: &Message, does: Does, groups_max: usize) -> Result<Vec<Group<'_>>, Refusal> {
    let mut used = message.segments().filter(|segment| matches!(segment.name(), "MSH" | "EVN" | "PID" | "MRG" | "PV1")).peekable();
    for name in ["MSH", "EVN"] {
        if used.next().is_none_or(|segment| segment.name() != name) {
            return Err(missing(name));
        }
    }
    let merges = matches!(does, Does::Merge | Does::MergeOne | Does::Rename);
    let most = match does {
        Does::Merge => groups_max,
        Does::Link | Does::Unlink => 2,
        _ => 1,
    };
    let mut groups = Vec::new();
    while let Some(pid) = used.next() {
        if groups.len() == most && does == Does::Merge {
            return Err(Refusal::new(Code::Bound, format!("The message has more than {groups_max} groups")));
        }
        if pid.name() != "PID" || groups.len() == most {
            return Err(missing(if groups.is_empty() { "PID" } else { "MRG" }));
        }
        let mrg = used.next_if(|segment| merges && segment.name() == "MRG");
        let pv1 = used.next_if(|segment| segment.name() == "PV1");
        if merges && mrg.is_none() {
            return Err(missing("MRG"));
        }
        if matches!(does, Does::Visit | Does::UpdateVisit) && pv1.is_none() {
            return Err(missing("PV1"));
        }
        groups.push(Group { pid, mrg, pv1 });
    }
    let fewest = if matches!(does, Does::Link | Does::Unlink) { 2 } else { 1 };
    if groups.len() < fewest { Err(missing("PID")) } else { Ok(groups) }
}
