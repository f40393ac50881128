//! Access units of document entries: whose register an entry belongs to, by its slots (profile 02 §4.7, 05 §2).

use idr_ihe::metadata::{DocumentEntry, PatientId};
use idr_ihe::transaction::iti_18::pad_dtm;
use idr_profile::access::{AccessUnit, Sector, Status, UnitId};
use idr_profile::identifier::Specifier;
use idr_profile::mapping::Slots;
use idr_profile::xds::SenderDefaults;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// What an entry's slots are read with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Names of the slots.
    pub slots: &'a Slots,
    /// What the peer row says of a source that sends none.
    pub defaults: &'a SenderDefaults,
    /// Zone of civil dates.
    pub zone: &'a TimeZone,
    /// Today.
    pub today: Date,
}

/// Which slot an entry lacks, with no default for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// controllerId (M-501).
    Controller,
    /// registerCode (M-502).
    Register,
}

impl Reading<'_> {
    /// The unit of an entry of this patient. Its id is set by the store. A slot that cannot be read makes the unit
    /// `unreadable`: only own use opens it.
    ///
    /// # Errors
    /// [`Lacking`].
    pub fn unit(&self, entry: &DocumentEntry, patient: PatientId) -> Result<AccessUnit, Lacking> {
        let slots = self.slots;
        let controller = value(entry, &slots.controller_id).or(self.defaults.controller_id.as_deref()).ok_or(Lacking::Controller)?;
        let own_register = value(entry, &slots.register_code);
        let register = own_register.or(self.defaults.register_code.as_deref()).ok_or(Lacking::Register)?;
        // The default specifier belongs to the default register.
        let default = self.defaults.register_specifier.as_deref().filter(|_| own_register.is_none());
        let specifier = value(entry, &slots.register_specifier).or(default);
        let specifier = specifier.map(|text| Specifier::from_slot(text, self.today)).transpose();
        let release = value(entry, &slots.release_date).map(|text| day(text).ok_or(())).transpose();
        let owned = |name: &str| value(entry, name).map(str::to_owned);
        Ok(AccessUnit {
            id: UnitId(entry.entry_uuid.clone()),
            patient,
            recorded_under: None,
            controller: controller.to_owned(),
            register: register.to_owned(),
            unreadable: specifier.is_err() || release.is_err(),
            specifier: specifier.unwrap_or_default(),
            unit: owned(&slots.service_unit_id),
            episode: owned(&slots.episode_id),
            service_event: owned(&slots.service_event_id),
            date: self.date(entry),
            // The registers of 1.2.246.537.5.40150 are of health care.
            sector: Sector::Health,
            status: Status::Active,
            release_date: release.unwrap_or_default(),
            minor_code: owned(&slots.minor_disclosure),
            labels: Vec::new(),
        })
    }

    /// Civil date of the study, else of creation. A time to the hour or finer is UTC; a date alone is taken as it is.
    fn date(&self, entry: &DocumentEntry) -> Option<Date> {
        let dtm = entry.service_start_time.as_deref().or(entry.creation_time.as_deref())?;
        let padded = pad_dtm(dtm)?;
        let date = day(padded.get(..8)?)?;
        if dtm.len() <= 8 {
            return (dtm.len() == 8).then_some(date);
        }
        let part = |from: usize, to: usize| padded.get(from..to)?.parse::<i8>().ok();
        let at = DateTime::new(date.year(), date.month(), date.day(), part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).ok()?;
        Some(self.zone.to_datetime(TimeZone::UTC.to_timestamp(at).ok()?).date())
    }
}

/// Value of a slot.
pub fn value<'a>(entry: &'a DocumentEntry, name: &str) -> Option<&'a str> {
    entry.extra.iter().find(|(slot, _)| slot == name)?.1.first().map(String::as_str).filter(|value| !value.is_empty())
}

/// `YYYYMMDD`.
fn day(text: &str) -> Option<Date> {
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Date::new(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn entry(slots: &[(&str, &str)], start: Option<&str>) -> DocumentEntry {
        let mut entry = crate::testing::soap::entry();
        let names = Slots::default();
        entry.extra.clear();
        for (name, value) in slots {
            let name = match *name {
                "controller" => &names.controller_id,
                "register" => &names.register_code,
                "specifier" => &names.register_specifier,
                _ => &names.release_date,
            };
            entry.extra.push((name.clone(), vec![(*value).to_owned()]));
        }
        entry.service_start_time = start.map(str::to_owned);
        entry.creation_time = Some("20260115082741".to_owned());
        entry
    }

    fn unit(entry: &DocumentEntry, defaults: &SenderDefaults) -> Result<AccessUnit, Lacking> {
        let zone = TimeZone::get("Europe/Helsinki").unwrap();
        let reading = Reading { slots: &Slots::default(), defaults, zone: &zone, today: date(2026, 1, 16) };
        reading.unit(entry, entry.patient_id.clone())
    }

    #[test]
    fn a_slot_of_the_entry_stands_before_the_default_of_the_peer() {
        let defaults =
            SenderDefaults { controller_id: Some("1.2.3".to_owned()), register_code: Some("3".to_owned()), ..Default::default() };
        let own = unit(&entry(&[("controller", "1.2.246.10.90000011.19.0"), ("register", "2")], None), &defaults).unwrap();
        assert_eq!((own.controller.as_str(), own.register.as_str()), ("1.2.246.10.90000011.19.0", "2"));
        let filled = unit(&entry(&[], None), &defaults).unwrap();
        assert_eq!((filled.controller.as_str(), filled.register.as_str()), ("1.2.3", "3"));
        assert_eq!(unit(&entry(&[("register", "2")], None), &SenderDefaults::default()), Err(Lacking::Controller));
        assert_eq!(unit(&entry(&[("controller", "1.2.3")], None), &SenderDefaults::default()), Err(Lacking::Register));
    }

    #[test]
    fn the_date_is_civil_and_of_the_study() {
        let slots = [("controller", "1.2.3"), ("register", "2")];
        for (start, expected) in [
            (Some("20260114223000"), Some(date(2026, 1, 15))),
            (Some("20260114213000"), Some(date(2026, 1, 14))),
            (Some("20260114"), Some(date(2026, 1, 14))),
            (Some("202601"), None),
            (None, Some(date(2026, 1, 15))),
        ] {
            assert_eq!(unit(&entry(&slots, start), &SenderDefaults::default()).unwrap().date, expected, "{start:?}");
        }
    }

    #[test]
    fn a_slot_that_cannot_be_read_closes_the_unit_to_all_but_own_use() {
        let slots = [("controller", "1.2.3"), ("register", "4")];
        let read =
            |more: (&'static str, &'static str)| unit(&entry(&[slots[0], slots[1], more], None), &SenderDefaults::default()).unwrap();
        assert!(!read(("specifier", "1.2.246.10.90000054")).unreadable);
        assert!(read(("specifier", "nobody")).unreadable);
        assert!(!read(("release", "20260701")).unreadable);
        assert!(read(("release", "20261301")).unreadable);
    }
}
