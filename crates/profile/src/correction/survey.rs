//! The first pass: what of a data set is replaced.
//!
//! Lengths around a replacement (sequences and items of defined length, group lengths) are replaced with it, so that each says
//! what it encloses.

use super::encode::{self, UNDEFINED, of_dictionary};
use super::order::{NewValue, Order};
use super::plan::{Plan, Splices};
use super::uids::UidMap;
use super::walk::{Head, VALUE_BYTES_MAX, Visit, Walk};
use super::{Fault, PRIOR_BYTES_MAX};
use crate::scan::{CharacterSet, Encoding, Limits, Vr, encoding_of, implicit_vr, tags};
use dicom_core::Tag;
use std::collections::{BTreeMap, BTreeSet};

const ORIGINAL_ATTRIBUTES: Tag = Tag(0x0400, 0x0561);
const CONTRIBUTING_EQUIPMENT: Tag = Tag(0x0018, 0xA001);
const UTF_8: &str = "ISO_IR 192";
/// Whose number (0010,0020) is.
const ISSUER: [Tag; 2] = [tags::ISSUER_OF_PATIENT_ID, tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE];

fn is_issuer(tag: Tag) -> bool {
    ISSUER.contains(&tag)
}

/// Walks one original. Feed it every byte of the data set, in order, in chunks of any size.
pub struct Survey<'a> {
    walk: Walk,
    work: Work<'a>,
    fault: Option<Fault>,
}

impl<'a> Survey<'a> {
    /// Begins. `transfer_syntax` is the UID without padding; `uids` names every object of the unit.
    ///
    /// # Errors
    /// [`Fault::TransferSyntax`].
    pub fn new(transfer_syntax: &str, order: &'a Order, uids: &'a UidMap, limits: Limits) -> Result<Self, Fault> {
        let implicit = match encoding_of(transfer_syntax) {
            Encoding::Implicit => true,
            Encoding::Explicit => false,
            Encoding::DeflatedExplicit | Encoding::BigEndian => return Err(Fault::TransferSyntax(transfer_syntax.to_owned())),
        };
        Ok(Self { walk: Walk::new(implicit, limits), work: Work::new(order, uids, implicit), fault: None })
    }

    /// The next bytes. What goes wrong is told by [`Survey::finish`].
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.walk.feed(bytes, &mut self.work).err();
        }
    }

    /// The last byte has been fed.
    ///
    /// # Errors
    /// Why this data set cannot be corrected.
    pub fn finish(mut self) -> Result<Plan, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.walk.finish()?;
        let size_bytes = self.walk.at();
        self.work.insert_before(None, size_bytes)?;
        self.work.end_group(0)?;
        self.work.splices.into_plan(size_bytes)
    }
}

/// One open level.
#[derive(Default)]
struct Level {
    /// Bytes by which its content grows.
    grown: i64,
    /// What stands inside is history or gives way as a whole: nothing in it is replaced.
    untouched: bool,
    /// It has a (0008,0005) of its own (PS3.5 §7.5.3).
    own_characters: bool,
    /// The group under way, and how much the level had grown when it began.
    group: u16,
    group_from: i64,
    /// Where the value of its group length stands, and what it says.
    group_length: Option<(u64, u32)>,
}

/// What is done with an element of the top level that an order names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// It gets a new value.
    Changed,
    /// Its value is a UID of the unit.
    Uid,
    /// It is listed beside what is changed.
    Listed,
    /// An item is appended.
    Appended,
}

struct Work<'a> {
    order: &'a Order,
    uids: &'a UidMap,
    implicit: bool,
    splices: Splices,
    levels: Vec<Level>,
    /// Not met yet.
    missing: BTreeMap<Tag, Wanted>,
    met: BTreeSet<Tag>,
    /// As it came, of what is changed or listed beside it.
    prior: BTreeMap<Tag, Vec<u8>>,
    changed: BTreeSet<Tag>,
    /// Element of the top level whose bytes are kept.
    capture: Option<(Tag, Vec<u8>)>,
    characters: Option<Characters>,
}

/// How text is read and written, known once (0008,0005) has passed.
#[derive(Clone, Copy)]
struct Characters {
    read: CharacterSet,
    write: CharacterSet,
    /// The whole instance changes its character set.
    anew: bool,
}

impl<'a> Work<'a> {
    fn new(order: &'a Order, uids: &'a UidMap, implicit: bool) -> Self {
        let mut missing: BTreeMap<Tag, Wanted> = order.changes.keys().map(|tag| (*tag, Wanted::Changed)).collect();
        missing.entry(tags::SPECIFIC_CHARACTER_SET).or_insert(Wanted::Changed);
        for tag in [tags::SOP_INSTANCE_UID, tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID] {
            missing.insert(tag, Wanted::Uid);
        }
        for tag in ISSUER {
            missing.entry(tag).or_insert(Wanted::Listed);
        }
        missing.insert(ORIGINAL_ATTRIBUTES, Wanted::Appended);
        missing.insert(CONTRIBUTING_EQUIPMENT, Wanted::Appended);
        Self {
            order,
            uids,
            implicit,
            splices: Splices::default(),
            levels: vec![Level::default()],
            missing,
            met: BTreeSet::new(),
            prior: BTreeMap::new(),
            changed: BTreeSet::new(),
            capture: None,
            characters: None,
        }
    }

    fn level(&mut self) -> &mut Level {
        let innermost = self.levels.len() - 1;
        &mut self.levels[innermost]
    }

    fn replace(&mut self, at: u64, removed: u32, inserted: Vec<u8>) -> Result<(), Fault> {
        let grown = self.splices.push(at, removed, inserted)?;
        self.level().grown += grown;
        Ok(())
    }

    /// What the order names and the data set does not have is put in at its place, before an element with a higher tag.
    fn insert_before(&mut self, next: Option<Tag>, at: u64) -> Result<(), Fault> {
        while let Some((tag, wanted)) = self.missing.first_key_value().map(|(tag, wanted)| (*tag, *wanted)) {
            if next.is_some_and(|next| tag >= next) {
                break;
            }
            self.missing.remove(&tag);
            if tag.0 != self.levels[0].group {
                self.end_group(0)?;
            }
            let new = match wanted {
                Wanted::Listed => continue,
                Wanted::Uid => return Err(Fault::NotOfUnit(tag)),
                Wanted::Appended => {
                    let item = self.appended(tag, self.implicit)?;
                    Some(of_dictionary(tag, &item, self.implicit)?)
                }
                Wanted::Changed => self.new_element(tag, None)?,
            };
            if let Some(new) = new {
                if wanted == Wanted::Changed {
                    self.changed.insert(tag);
                    self.prior.insert(tag, of_dictionary(tag, &[], self.implicit)?);
                }
                self.replace(at, 0, new)?;
            }
        }
        Ok(())
    }

    /// The group of a level ends: its length is set right.
    fn end_group(&mut self, level: usize) -> Result<(), Fault> {
        let Some(open) = self.levels.get_mut(level) else { return Ok(()) };
        let grown = open.grown - open.group_from;
        if let Some((at, said)) = open.group_length.take().filter(|_| grown != 0) {
            let length = u32::try_from(i64::from(said) + grown).map_err(|_| Fault::TooLong(Tag(open.group, 0)))?;
            self.splices.push(at, 4, length.to_le_bytes().to_vec())?;
        }
        Ok(())
    }

    /// (0008,0005) has passed, or is not there.
    fn settle_characters(&mut self, declared: &[u8]) {
        let wanted = match self.order.changes.get(&tags::SPECIFIC_CHARACTER_SET) {
            Some(NewValue::Text(text)) => CharacterSet::of(text.as_bytes()),
            _ => CharacterSet::of(declared),
        };
        let author = &self.order.author;
        let mut texts: Vec<&str> = vec![&author.site_id, &author.source_institution, &author.manufacturer];
        for value in self.order.changes.values() {
            match value {
                NewValue::Text(text) => texts.push(text),
                NewValue::Item(item) => texts.extend(item.values().map(String::as_str)),
            }
        }
        let anew = texts.iter().any(|text| wanted.encode(text).is_none());
        let write = if anew { CharacterSet::of(UTF_8.as_bytes()) } else { wanted };
        self.characters = Some(Characters { read: wanted, write, anew });
    }

    fn encoded(&self, tag: Tag, text: &str) -> Result<Vec<u8>, Fault> {
        let write = self.characters.map_or(CharacterSet::ABSENT, |characters| characters.write);
        write.encode(text).ok_or(Fault::Text(tag))
    }

    /// The element that stands for what the order names; `None` if nothing changes. `prior`: its bytes without padding, its VR.
    fn new_element(&self, tag: Tag, prior: Option<(&[u8], Vr)>) -> Result<Option<Vec<u8>>, Fault> {
        let anew = self.characters.is_some_and(|characters| characters.anew);
        let value = match self.order.changes.get(&tag) {
            _ if tag == tags::SPECIFIC_CHARACTER_SET && anew => UTF_8.as_bytes().to_vec(),
            None => return Ok(None),
            Some(NewValue::Text(text)) => self.encoded(tag, text)?,
            Some(NewValue::Item(item)) if item.is_empty() => Vec::new(),
            Some(NewValue::Item(item)) => {
                let mut elements = Vec::with_capacity(item.len());
                for (tag, text) in item {
                    elements.push(of_dictionary(*tag, &self.encoded(*tag, text)?, self.implicit)?);
                }
                encode::item(&elements)?
            }
        };
        let same = prior.map_or(value.is_empty(), |(bytes, vr)| implicit_vr(tag).unpadded(bytes) == value && vr == implicit_vr(tag));
        if same { Ok(None) } else { of_dictionary(tag, &value, self.implicit).map(Some) }
    }

    /// The item that is appended to Original Attributes or Contributing Equipment (profile 01 §8.2.3).
    fn appended(&self, tag: Tag, implicit: bool) -> Result<Vec<u8>, Fault> {
        let time = self.order.at.strftime("%Y%m%d%H%M%S.%6f+0000").to_string();
        let author = &self.order.author;
        let element = |tag: Tag, value: &[u8]| of_dictionary(tag, value, implicit);
        let text = |tag: Tag, text: &str| self.encoded(tag, text).and_then(|value| element(tag, &value));
        if tag == CONTRIBUTING_EQUIPMENT {
            let purpose = encode::item(&[
                text(tags::CODE_VALUE, "109103")?,
                text(tags::CODING_SCHEME_DESIGNATOR, "DCM")?,
                text(Tag(0x0008, 0x0104), "Modifying Equipment")?,
            ])?;
            return encode::item(&[
                text(Tag(0x0008, 0x0070), &author.manufacturer)?,
                text(Tag(0x0018, 0xA002), &time)?,
                element(Tag(0x0040, 0xA170), &purpose)?,
            ]);
        }
        let with_patient = self.changed.contains(&tags::PATIENT_ID);
        let is_listed = |tag: &Tag| self.changed.contains(tag) || with_patient && is_issuer(*tag);
        let listed: Vec<Vec<u8>> = self.prior.iter().filter(|(tag, _)| is_listed(tag)).map(|(_, bytes)| bytes.clone()).collect();
        let prior = encode::item(&listed)?;
        encode::item(&[
            element(Tag(0x0400, 0x0550), &prior)?,
            text(Tag(0x0400, 0x0562), &time)?,
            text(Tag(0x0400, 0x0563), format!("IDR-SITE {}", author.site_id).as_str())?,
            text(Tag(0x0400, 0x0564), &author.source_institution)?,
            text(Tag(0x0400, 0x0565), "CORRECT")?,
        ])
    }

    /// UIDs of the unit in a value, each replaced; `None` if there is none.
    fn mapped(&self, value: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(value).ok()?;
        let mut found = false;
        let values: Vec<&str> = text
            .split('\\')
            .map(|uid| match self.uids.new_of(uid.trim_matches(['\0', ' '])) {
                Some(new) => {
                    found = true;
                    new
                }
                None => uid.trim_end_matches('\0'),
            })
            .collect();
        found.then(|| values.join("\\").into_bytes())
    }

    /// An element at any depth that keeps its place and VR and gets other bytes.
    fn revalue(&mut self, head: &Head, value: &[u8]) -> Result<(), Fault> {
        let new = encode::element(head.tag, head.vr, value, head.implicit)?;
        self.replace(head.at, head.bytes + head.length, new)
    }

    fn top_level_element(&mut self, head: &Head) -> Result<(), Fault> {
        if self.characters.is_none() && head.tag > tags::SPECIFIC_CHARACTER_SET {
            self.settle_characters(&[]);
        }
        self.insert_before(Some(head.tag), head.at)?;
        match self.missing.remove(&head.tag) {
            Some(Wanted::Appended) => {
                // Inside UN items are in Implicit VR, and prior values of an explicit data set are not.
                if head.vr != Vr::SQ {
                    return Err(Fault::Form(head.tag));
                }
            }
            Some(_) => self.capture = Some((head.tag, Vec::new())),
            // It was put in, or passed, before.
            None if self.met.contains(&head.tag) || self.is_named(head.tag) => return Err(Fault::Order(head.tag)),
            None => return Ok(()),
        }
        self.met.insert(head.tag);
        Ok(())
    }

    fn is_named(&self, tag: Tag) -> bool {
        let own = [
            tags::SPECIFIC_CHARACTER_SET,
            tags::SOP_INSTANCE_UID,
            tags::STUDY_INSTANCE_UID,
            tags::SERIES_INSTANCE_UID,
            ORIGINAL_ATTRIBUTES,
            CONTRIBUTING_EQUIPMENT,
        ];
        let beside = is_issuer(tag) && self.order.changes.contains_key(&tags::PATIENT_ID);
        own.contains(&tag) || beside || self.order.changes.contains_key(&tag)
    }

    /// VR that the value is read with: the dictionary's where the element came as UN.
    fn value_vr(head: &Head) -> Vr {
        if head.vr == Vr::UN { implicit_vr(head.tag) } else { head.vr }
    }

    fn is_recoded(&self, head: &Head) -> bool {
        self.characters.is_some_and(|characters| characters.anew)
            && Self::value_vr(head).is_text()
            && !self.levels.iter().any(|level| level.own_characters)
    }
}

impl Visit for Work<'_> {
    fn element(&mut self, head: &Head, depth: usize) -> Result<bool, Fault> {
        let group = head.tag.0;
        if self.level().group != group {
            if depth == 0 {
                self.insert_before(Some(Tag(group, 0)), head.at)?;
            }
            let innermost = self.levels.len() - 1;
            self.end_group(innermost)?;
            let level = self.level();
            (level.group, level.group_from) = (group, level.grown);
        }
        if depth == 0 {
            self.top_level_element(head)?;
        }
        let reserved = head.tag == tags::SPECIFIC_CHARACTER_SET || head.tag.1 == 0;
        let uid = Self::value_vr(head) == Vr::UI;
        let recoded = self.is_recoded(head);
        if recoded && head.length > VALUE_BYTES_MAX && head.length != UNDEFINED {
            return Err(Fault::TooLong(head.tag));
        }
        Ok(reserved || uid || recoded)
    }

    fn value(&mut self, head: &Head, value: &[u8], depth: usize) -> Result<(), Fault> {
        if head.tag.1 == 0 {
            let length = <[u8; 4]>::try_from(value).ok().map(u32::from_le_bytes);
            self.level().group_length = length.map(|length| (head.value_at(), length));
            let level = self.level();
            level.group_from = level.grown;
            return Ok(());
        }
        if head.tag == tags::SPECIFIC_CHARACTER_SET {
            match depth {
                0 => self.settle_characters(value),
                _ => self.level().own_characters = true,
            }
            return Ok(());
        }
        // What an order names gets its value when the element is whole.
        if self.capture.is_some() || self.levels.iter().any(|level| level.untouched) {
            return match self.is_recoded(head) && !self.gives_way() {
                true => self.recode(head, value),
                false => Ok(()),
            };
        }
        if Self::value_vr(head) == Vr::UI {
            return match self.mapped(value) {
                Some(new) => self.revalue(head, &new),
                None => Ok(()),
            };
        }
        if self.is_recoded(head) { self.recode(head, value) } else { Ok(()) }
    }

    fn level_begin(&mut self, head: &Head) -> Result<(), Fault> {
        self.levels.push(Level { untouched: head.tag == ORIGINAL_ATTRIBUTES, ..Level::default() });
        Ok(())
    }

    fn level_end(&mut self, head: &Head, end: u64) -> Result<(), Fault> {
        let innermost = self.levels.len() - 1;
        let appends = innermost == 1 && matches!(head.tag, ORIGINAL_ATTRIBUTES | CONTRIBUTING_EQUIPMENT);
        if appends {
            let item = self.appended(head.tag, head.implicit)?;
            self.replace(end, 0, item)?;
        }
        self.end_group(innermost)?;
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if level.grown != 0 && head.length != UNDEFINED {
            let length = u32::try_from(i64::from(head.length) + level.grown).ok().filter(|length| *length != UNDEFINED);
            let length = length.ok_or(Fault::TooLong(head.tag))?;
            self.replace(head.length_at(), 4, length.to_le_bytes().to_vec())?;
        }
        self.level().grown += level.grown;
        Ok(())
    }

    fn complete(&mut self, head: &Head) -> Result<(), Fault> {
        let Some((tag, raw)) = self.capture.take() else { return Ok(()) };
        let value = raw.get(head.bytes as usize..).unwrap_or_default();
        let new = if matches!(tag, tags::SOP_INSTANCE_UID | tags::STUDY_INSTANCE_UID | tags::SERIES_INSTANCE_UID) {
            let new = self.mapped(value);
            if new.is_none() && tag != tags::STUDY_INSTANCE_UID {
                return Err(Fault::NotOfUnit(tag));
            }
            new.map(|new| of_dictionary(tag, &new, self.implicit)).transpose()?
        } else {
            self.new_element(tag, Some((value, head.vr)))?
        };
        if let Some(new) = new {
            self.changed.insert(tag);
            let removed = u32::try_from(raw.len()).map_err(|_| Fault::TooLong(tag))?;
            self.replace(head.at, removed, new)?;
        }
        self.prior.insert(tag, raw);
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some((tag, raw)) = &mut self.capture {
            if raw.len() + bytes.len() > PRIOR_BYTES_MAX {
                return Err(Fault::PriorTooLong(*tag));
            }
            raw.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn bulk(&mut self) -> Result<(), Fault> {
        self.capture.as_ref().map_or(Ok(()), |(tag, _)| Err(Fault::Form(*tag)))
    }
}

impl Work<'_> {
    /// The element under way is replaced as a whole.
    fn gives_way(&self) -> bool {
        self.capture.as_ref().is_some_and(|(tag, _)| self.order.changes.contains_key(tag))
    }

    fn recode(&mut self, head: &Head, value: &[u8]) -> Result<(), Fault> {
        if value.is_ascii() && !value.contains(&0x1B) {
            return Ok(());
        }
        let read = self.characters.map_or(CharacterSet::ABSENT, |characters| characters.read);
        let decoded = read.decode(value);
        if !decoded.valid {
            return Err(Fault::Text(head.tag));
        }
        self.revalue(head, decoded.text.as_bytes())
    }
}
