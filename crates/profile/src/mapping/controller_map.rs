//! `controller-map.toml` (profile 01 §3.3, 02 §4.7): calling AE title, institution and service event → controller and register.

use super::ConfigError;
use crate::identifier::organisation::is_controller;
use crate::identifier::{Specifier, is_same_or_below};
use idr_ihe::metadata::is_oid;
use jiff::civil::Date;
use serde::Deserialize;

/// The shipped file: explained, with rows for the test environment.
const SHIPPED: &str = include_str!("../../../../configs/controller-map.toml");
const FILE: &str = "controller-map.toml";

/// Register code of occupational health care (`1.2.246.537.5.40150`), which needs a specifier.
const OCCUPATIONAL_HEALTH: &str = "4";

/// The file, checked. Made by [`ControllerMap::load`] only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerMap {
    /// Rises with every change; part of the content key.
    pub revision: u32,
    /// Roots of the organisations that send here (01 D423, D434).
    #[serde(default)]
    pub organisation_oids: Vec<String>,
    /// Controllers whose studies are registered from here (01 D738).
    #[serde(default)]
    pub controllers_own: Vec<String>,
    /// The first row that fits is used.
    #[serde(default, rename = "row")]
    pub rows: Vec<ControllerRow>,
}

/// One row: when it fits, and who is then controller of which register. A condition that is left out fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerRow {
    /// Calling AE title, compared exactly.
    pub ae_title: Option<String>,
    /// OID of (0008,0082) (01 D433): this one or any below it.
    pub institution: Option<String>,
    /// OID that the service event stands below.
    pub service_event: Option<String>,
    /// OID below node 19.
    pub controller: String,
    /// `1` public, `2` private (`1.2.246.537.5.40172`).
    pub controller_type: Option<String>,
    /// Code of `1.2.246.537.5.40150`.
    pub register: String,
    /// Canonical register specifier; required for register 4.
    pub specifier: Option<String>,
    /// OID of the service unit.
    pub service_unit: Option<String>,
    /// Its name, where the object has no Institution Name.
    pub service_unit_name: Option<String>,
    /// OID of the producer under an outsourcing authorisation.
    pub producer: Option<String>,
}

/// What of a study chooses the row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// Calling AE title.
    pub ae_title: &'a str,
    /// OID of the institution, if the object has one.
    pub institution: Option<&'a str>,
    /// Service event id, if known.
    pub service_event: Option<&'a str>,
}

impl ControllerMap {
    /// The shipped file.
    pub fn shipped(today: Date) -> Self {
        Self::load(SHIPPED, today).expect("the shipped controller-map.toml is tested")
    }

    /// Reads and checks the file. `today` bounds the birth date of a person who is register specifier.
    ///
    /// # Errors
    /// [`ConfigError`]: unknown key, malformed OID, a controller that is none, register 4 without specifier, a specifier of
    /// another form.
    pub fn load(text: &str, today: Date) -> Result<Self, ConfigError> {
        let mut map: Self = toml::from_str(text).map_err(|error| ConfigError::Toml { file: FILE, message: error.to_string() })?;
        map.check(today)?;
        Ok(map)
    }

    fn check(&mut self, today: Date) -> Result<(), ConfigError> {
        let fail = |key: String, problem| Err(ConfigError::Value { file: FILE, key, problem });
        for (key, list) in [("organisation_oids", &self.organisation_oids), ("controllers_own", &self.controllers_own)] {
            if list.iter().any(|oid| !is_oid(oid)) {
                return fail(key.into(), "an entry is no OID");
            }
        }
        for (index, row) in self.rows.iter_mut().enumerate() {
            let key = |name: &str| format!("row {}: {name}", index + 1);
            let to = row;
            let oids = [
                ("institution", &to.institution),
                ("service_event", &to.service_event),
                ("service_unit", &to.service_unit),
                ("producer", &to.producer),
            ];
            if let Some((name, _)) = oids.into_iter().find(|(_, oid)| oid.as_deref().is_some_and(|oid| !is_oid(oid))) {
                return fail(key(name), "is no OID");
            }
            if !is_oid(&to.controller) || !is_controller(&to.controller) {
                return fail(key("controller"), "is no controller: 1.2.246.10.<Y>.19.<n>");
            }
            if to.controller_type.as_deref().is_some_and(|code| !matches!(code, "1" | "2")) {
                return fail(key("controller_type"), "must be 1 (public) or 2 (private)");
            }
            if to.register.is_empty() || to.register.len() > 4 || !to.register.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return fail(key("register"), "is no code of 1.2.246.537.5.40150");
            }
            match &to.specifier {
                None if to.register == OCCUPATIONAL_HEALTH => return fail(key("specifier"), "is required for register 4 (D438)"),
                None => {}
                Some(text) => match Specifier::from_slot(text, today) {
                    Ok(specifier) => to.specifier = Some(specifier.as_str().to_owned()),
                    Err(_) => {
                        return fail(key("specifier"), "must be 1.2.246.10.<Y>, <hetu>^^^&1.2.246.21&ISO or an OID below 1.2.246.537.30");
                    }
                },
            }
        }
        Ok(())
    }

    /// The first row that fits; `None` is D437.
    pub fn find(&self, origin: Origin<'_>) -> Option<&ControllerRow> {
        let below = |condition: &Option<String>, oid: Option<&str>| match (condition, oid) {
            (None, _) => true,
            (Some(root), Some(oid)) => is_same_or_below(oid, root),
            (Some(_), None) => false,
        };
        let fits = |row: &&ControllerRow| {
            row.ae_title.as_deref().is_none_or(|title| title == origin.ae_title)
                && below(&row.institution, origin.institution)
                && below(&row.service_event, origin.service_event)
        };
        self.rows.iter().find(fits)
    }

    /// Whether a controller is one of `controllers_own` (01 D738).
    pub fn is_own(&self, controller: &str) -> bool {
        self.controllers_own.iter().any(|own| is_same_or_below(controller, own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> Date {
        jiff::civil::date(2026, 1, 15)
    }

    fn load(rows: &str) -> Result<ControllerMap, ConfigError> {
        ControllerMap::load(&format!("revision = 1\n{rows}"), today())
    }

    #[test]
    fn the_first_row_that_fits_decides() {
        let map = load(
            r#"
            [[row]]
            ae_title = "OCC1"
            service_event = "1.2.246.10.12345671.14"
            controller = "1.2.246.10.12345671.19.1"
            register = "4"
            specifier = "1.2.246.10.12345671"
            [[row]]
            institution = "1.2.246.10.12345671.10"
            controller = "1.2.246.10.12345671.19.0"
            controller_type = "1"
            register = "2"
            "#,
        )
        .expect("loads");
        let find = |ae_title, institution, service_event| {
            map.find(Origin { ae_title, institution, service_event }).map(|row| row.controller.as_str())
        };
        let (institution, event) = (Some("1.2.246.10.12345671.10.0"), Some("1.2.246.10.12345671.14.2026.1"));
        assert_eq!(find("OCC1", institution, event), Some("1.2.246.10.12345671.19.1"));
        assert_eq!(find("OCC1", institution, None), Some("1.2.246.10.12345671.19.0"));
        assert_eq!(find("CT1", institution, event), Some("1.2.246.10.12345671.19.0"));
        assert_eq!(find("CT1", Some("1.2.246.10.12345671.101"), event), None, "an arc is compared as a whole");
        assert_eq!(find("CT1", None, None), None);
    }

    #[test]
    fn a_row_that_would_register_wrongly_is_refused() {
        let row = |rest: &str| load(&format!("[[row]]\ncontroller = \"1.2.246.10.12345671.19.0\"\n{rest}"));
        assert!(row("register = \"2\"").is_ok());
        for rest in [
            "register = \"4\"",
            "register = \"4\"\nspecifier = \"Yritys\"",
            "register = \"\"",
            "register = \"2\"\ncontroller_type = \"3\"",
            "register = \"2\"\nproducer = \"x\"",
            "register = \"2\"\ncolour = \"red\"",
        ] {
            assert!(row(rest).is_err(), "{rest}");
        }
        assert!(load("[[row]]\ncontroller = \"1.2.246.10.12345671.10.0\"\nregister = \"2\"").is_err(), "not below node 19");
        assert!(row("register = \"4\"\nspecifier = \"010190-900P^^^&1.2.246.21&ISO\"").is_ok());
    }

    #[test]
    fn the_shipped_file_loads() {
        assert_eq!(ControllerMap::shipped(today()).revision, 1);
    }
}
