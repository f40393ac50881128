//! `affinity-domain.toml` (profile 02 §8): codes, slot names and own identifiers of a deployment.

use super::ConfigError;
use idr_ihe::metadata::{Code, is_oid};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The shipped file, every key with its default.
const SHIPPED: &str = include_str!("../../../../configs/affinity-domain.toml");

/// The file, checked. Made by [`AffinityDomain::load`] only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffinityDomain {
    /// Rises with every change; part of the content key.
    pub revision: u32,
    /// languageCode, RFC 5646.
    pub language: String,
    /// What happens to the entry when no instance is left (§7 row 5).
    #[serde(default)]
    pub on_empty: OnEmpty,
    /// The KOS document.
    #[serde(default)]
    pub manifest: Manifest,
    /// Names of the extra slots (§4.7).
    #[serde(default)]
    pub slots: Slots,
    /// Code values.
    pub codes: Codes,
    /// Body Part Examined (0018,0015) → region.
    #[serde(default)]
    pub regions: BTreeMap<String, Code>,
    /// Modalities that have a practice setting of their own: group → modalities (§4.1).
    #[serde(default = "shipped_groups")]
    pub modality_groups: BTreeMap<String, Vec<String>>,
    /// Where the instances are.
    pub central: Central,
    /// Author (§4.5).
    #[serde(default)]
    pub author: Author,
    /// Folders (§4.3).
    #[serde(default)]
    pub folder: Folder,
}

/// §7 row 5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// ITI-57 UpdateAvailabilityStatus to Deprecated.
    #[default]
    Deprecate,
    /// ITI-62.
    Delete,
    /// hold(operator).
    Hold,
}

/// `[manifest]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Series Number of the KOS.
    #[serde(default)]
    pub series_number: u32,
    /// Text of (113012, DCM, "Key Object Description"); empty: no such item.
    #[serde(default)]
    pub description: String,
    /// Superset for the European manifest.
    #[serde(default)]
    pub mado: Mado,
}

/// `manifest.mado`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mado {
    /// Plain XDS-I.b manifest.
    #[default]
    Off,
    /// With the image library. Refused by [`AffinityDomain::load`]: the writer of the manifest does not have it yet.
    ImageLibrary,
}

/// `[slots]`: names of §4.7. A name starts with `urn:`, not with `urn:ihe:`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the names are those of the profile's table")]
pub struct Slots {
    pub controller_id: String,
    pub controller_type: String,
    pub register_code: String,
    pub register_specifier: String,
    pub service_event_id: String,
    pub service_unit_id: String,
    pub producer_id: String,
    pub rule_set: String,
    pub episode_id: String,
    pub release_date: String,
    pub minor_disclosure: String,
}

impl Default for Slots {
    fn default() -> Self {
        let name = |name: &str| format!("urn:x-idr:fi:{name}");
        Self {
            controller_id: name("controllerId"),
            controller_type: name("controllerType"),
            register_code: name("registerCode"),
            register_specifier: name("registerSpecifier"),
            service_event_id: name("serviceEventId"),
            service_unit_id: name("serviceUnitId"),
            producer_id: name("producerId"),
            rule_set: name("ruleSet"),
            episode_id: name("episodeId"),
            release_date: name("releaseDate"),
            minor_disclosure: name("minorDisclosure"),
        }
    }
}

impl Slots {
    /// Key and name of each.
    pub fn all(&self) -> [(&'static str, &str); 11] {
        [
            ("controller_id", &self.controller_id),
            ("controller_type", &self.controller_type),
            ("register_code", &self.register_code),
            ("register_specifier", &self.register_specifier),
            ("service_event_id", &self.service_event_id),
            ("service_unit_id", &self.service_unit_id),
            ("producer_id", &self.producer_id),
            ("rule_set", &self.rule_set),
            ("episode_id", &self.episode_id),
            ("release_date", &self.release_date),
            ("minor_disclosure", &self.minor_disclosure),
        ]
    }
}

/// `[codes]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codes {
    /// classCode.
    pub class: Code,
    /// typeCode when neither code list nor Procedure Code Sequence gives one.
    pub type_default: Code,
    /// confidentialityCode.
    pub confidentiality: Code,
    /// healthcareFacilityTypeCode.
    pub facility_type: Code,
    /// contentTypeCode of the submission set.
    pub content_type: Code,
    /// codeList of a folder; needed only when folders are on.
    pub folder: Option<Code>,
    /// practiceSettingCode by modality group; `default` is required.
    pub practice_setting: BTreeMap<String, Code>,
    /// Code system of modalities.
    pub modality_system: ModalitySystem,
}

/// `[codes.modality_system]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModalitySystem {
    /// OID.
    pub system: String,
    /// Display names (PS3.16 CID 29) by modality; a modality without one is named by its code.
    #[serde(default = "shipped_names")]
    pub names: BTreeMap<String, String>,
}

/// `[central]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Central {
    /// Retrieve AE Title (0008,0054), ≤ 16 characters.
    pub retrieve_ae_title: String,
    /// Retrieve Location UID (0040,E011): repositoryUniqueId of the imaging document source.
    pub retrieve_location_uid: String,
    /// Base of Retrieve URL (0008,1190), without `/` at its end; empty: no URL is written.
    #[serde(default)]
    pub wado_rs: String,
}

/// `[author]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// Person when the object names none.
    pub person_default: Option<Person>,
    /// authorRole.
    pub role: Option<Code>,
    /// authorSpecialty.
    pub specialty: Option<Code>,
}

/// A person of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Id in `system`.
    pub id: Option<String>,
    /// OID of the id.
    pub system: Option<String>,
    /// Family name.
    pub family: String,
    /// Given name.
    #[serde(default)]
    pub given: String,
}

/// `[folder]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Whether entries of one service event share a folder.
    #[serde(default)]
    pub mode: FolderMode,
}

/// `folder.mode`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderMode {
    /// No folders.
    #[default]
    Off,
    /// One folder per service event.
    ServiceEvent,
}

#[derive(Deserialize)]
struct ShippedDefaults {
    modality_groups: BTreeMap<String, Vec<String>>,
    codes: ShippedCodes,
}

#[derive(Deserialize)]
struct ShippedCodes {
    modality_system: ShippedNames,
}

#[derive(Deserialize)]
struct ShippedNames {
    names: BTreeMap<String, String>,
}

fn shipped() -> ShippedDefaults {
    toml::from_str(SHIPPED).expect("the shipped affinity-domain.toml is tested")
}

fn shipped_groups() -> BTreeMap<String, Vec<String>> {
    shipped().modality_groups
}

fn shipped_names() -> BTreeMap<String, String> {
    shipped().codes.modality_system.names
}

impl AffinityDomain {
    /// The shipped file, as `test` and `dev` use it.
    pub fn shipped() -> Self {
        Self::load(SHIPPED).expect("the shipped affinity-domain.toml is tested")
    }

    /// Reads and checks the file (§8, end).
    ///
    /// # Errors
    /// [`ConfigError`]: unknown key, empty required code, malformed OID, two slots of one name, a slot name that is not ours.
    pub fn load(text: &str) -> Result<Self, ConfigError> {
        let domain: Self = toml::from_str(text).map_err(|error| ConfigError::Toml { file: FILE, message: error.to_string() })?;
        domain.check()?;
        Ok(domain)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: String, problem| Err(ConfigError::Value { file: FILE, key, problem });
        for (key, code) in self.required_codes() {
            if code.code.is_empty() || code.display.is_empty() {
                return fail(key, "a required code needs code, system and display");
            }
            if !is_oid(&code.system) {
                return fail(format!("{key}.system"), "is no OID");
            }
        }
        if self.manifest.mado == Mado::ImageLibrary {
            return fail("manifest.mado".into(), "image-library cannot be written by this version; use off");
        }
        if !self.codes.practice_setting.contains_key("default") {
            return fail("codes.practice_setting.default".into(), "is required");
        }
        for (key, oid) in [
            ("codes.modality_system.system", &self.codes.modality_system.system),
            ("central.retrieve_location_uid", &self.central.retrieve_location_uid),
        ] {
            if !is_oid(oid) {
                return fail(key.into(), "is no OID");
            }
        }
        let title = &self.central.retrieve_ae_title;
        if title.is_empty() || title.len() > 16 || !title.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\') {
            return fail("central.retrieve_ae_title".into(), "is no AE title: 1-16 characters 20H-7EH without \\");
        }
        if self.language.is_empty() || self.language.len() > 35 || !self.language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return fail("language".into(), "is no language tag (RFC 5646), for example fi-FI");
        }
        let mut names = BTreeSet::new();
        for (key, name) in self.slots.all() {
            if !name.starts_with("urn:") || name.starts_with("urn:ihe:") {
                return fail(format!("slots.{key}"), "a slot name starts with urn: and not with urn:ihe:");
            }
            if !names.insert(name) {
                return fail(format!("slots.{key}"), "two slots have this name");
            }
        }
        for (key, oid) in
            self.author.person_default.iter().filter_map(|person| Some(("author.person_default.system", person.system.as_ref()?)))
        {
            if !is_oid(oid) {
                return fail(key.into(), "is no OID");
            }
        }
        Ok(())
    }

    fn required_codes(&self) -> Vec<(String, &Code)> {
        let codes = &self.codes;
        let mut all = vec![
            ("codes.class".to_owned(), &codes.class),
            ("codes.type_default".to_owned(), &codes.type_default),
            ("codes.confidentiality".to_owned(), &codes.confidentiality),
            ("codes.facility_type".to_owned(), &codes.facility_type),
            ("codes.content_type".to_owned(), &codes.content_type),
        ];
        all.extend(codes.practice_setting.iter().map(|(group, code)| (format!("codes.practice_setting.{group}"), code)));
        all.extend(self.regions.iter().map(|(part, code)| (format!("regions.{part}"), code)));
        all.extend(self.author.role.iter().map(|code| ("author.role".to_owned(), code)));
        all.extend(self.author.specialty.iter().map(|code| ("author.specialty".to_owned(), code)));
        match (self.folder.mode, &codes.folder) {
            (FolderMode::Off, _) => {}
            (FolderMode::ServiceEvent, Some(code)) => all.push(("codes.folder".to_owned(), code)),
            (FolderMode::ServiceEvent, None) => all.push(("codes.folder".to_owned(), &EMPTY)),
        }
        all
    }

    /// practiceSettingCode of a modality.
    pub fn practice_setting(&self, modality: &str) -> &Code {
        let group = self.modality_groups.iter().find(|(_, modalities)| modalities.iter().any(|one| one == modality));
        let settings = &self.codes.practice_setting;
        group.and_then(|(group, _)| settings.get(group)).unwrap_or_else(|| &settings["default"])
    }

    /// A modality as a code (PS3.16 CID 29).
    pub fn modality(&self, modality: &str) -> Code {
        let names = &self.codes.modality_system.names;
        let display = names.get(modality).map_or(modality, String::as_str).to_owned();
        Code { code: modality.to_owned(), system: self.codes.modality_system.system.clone(), display }
    }
}

const FILE: &str = "affinity-domain.toml";
static EMPTY: Code = Code { code: String::new(), system: String::new(), display: String::new() };

#[cfg(test)]
mod tests {
    use super::*;

    fn with(from: &str, to: &str) -> Result<AffinityDomain, ConfigError> {
        assert!(SHIPPED.contains(from), "{from}");
        AffinityDomain::load(&SHIPPED.replacen(from, to, 1))
    }

    #[test]
    fn the_shipped_file_loads_and_names_the_slots_of_the_profile() {
        let domain = AffinityDomain::shipped();
        assert_eq!(domain.slots, Slots::default());
        assert_eq!(domain.practice_setting("CT").code, "394914008");
        assert_eq!(domain.practice_setting("HD").code, "394579002");
        assert_eq!(domain.practice_setting("PX").code, "394812008");
        assert_eq!(domain.practice_setting("SRF").code, "394594003");
        assert_eq!(domain.modality("CT").display, "Computed Tomography");
        assert_eq!(domain.modality("ZZ").display, "ZZ");
    }

    #[test]
    fn a_file_that_would_make_bad_metadata_is_refused_and_the_key_is_named() {
        for (from, to, key) in [
            ("class = { code = \"IMAGES\"", "class = { code = \"\"", "codes.class"),
            ("system = \"1.3.6.1.4.1.19376.1.2.6.1\"", "system = \"IHE\"", "codes.class.system"),
            ("retrieve_location_uid = \"1.2.246", "retrieve_location_uid = \"x.2.246", "central.retrieve_location_uid"),
            (
                "controller_type = \"urn:x-idr:fi:controllerType\"",
                "controller_type = \"urn:x-idr:fi:controllerId\"",
                "slots.controller_type",
            ),
            ("\"urn:x-idr:fi:ruleSet\"", "\"urn:ihe:iti:ruleSet\"", "slots.rule_set"),
            ("\"urn:x-idr:fi:ruleSet\"", "\"ruleSet\"", "slots.rule_set"),
            ("mado = \"off\"", "mado = \"image-library\"", "manifest.mado"),
            ("mode = \"off\"", "mode = \"service-event\"", "codes.folder"),
            ("retrieve_ae_title = \"IDRCENTRAL\"", "retrieve_ae_title = \"IDRCENTRALIDRCENTRAL\"", "central.retrieve_ae_title"),
        ] {
            match with(from, to) {
                Err(ConfigError::Value { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{to}: {other:?}"),
            }
        }
        assert!(matches!(with("revision = 1", "revision = 1\ncolour = 2"), Err(ConfigError::Toml { .. })));
        assert!(matches!(with("mado = \"off\"", "mado = \"on\""), Err(ConfigError::Toml { .. })));
    }

    #[test]
    fn a_file_without_the_value_sets_has_those_of_the_shipped_one() {
        let end = SHIPPED.find("[codes.modality_system.names]").expect("a table");
        let next = SHIPPED[end + 1..].find("\n[").map(|at| end + 1 + at).expect("a table after it");
        let shorter = format!("{}{}", &SHIPPED[..end], &SHIPPED[next..]);
        assert_eq!(AffinityDomain::load(&shorter).expect("loads"), AffinityDomain::shipped());
    }
}
