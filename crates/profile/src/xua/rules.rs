//! `xua.toml` (profile 04): what of user assertions is data.

use std::collections::BTreeMap;

use idr_ihe::assertion::Limits;

use super::attribute::Key;
use super::class::Class;
use super::refusal::{Answer, Code, Refusal};
use crate::access::{Kind, Purpose};

/// The shipped base set.
const SHIPPED: &str = include_str!("../../../../configs/rules/base/xua.toml");

/// Why a rule file is not taken; the running one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum XuaRulesError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("xua.toml: {0}")]
    Parse(#[from] toml::de::Error),
    /// A number outside its range.
    #[error("xua.toml: {key} = {value} is outside {low}–{high}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u32,
        /// Smallest.
        low: u32,
        /// Largest.
        high: u32,
    },
    /// Something is missing or stands twice.
    #[error("xua.toml: {0}")]
    Content(String),
}

/// Attributes that the file does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Counted.
    Ignore,
    /// IDR-X-22.
    Refuse,
}

/// How often one assertion may be presented (04 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayMode {
    /// Once.
    SingleUse,
    /// Again within its validity by the same TLS client.
    BoundReuse,
}

/// Seconds by group of kinds: technical; citizen and guardian; everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByGroup {
    person: u32,
    technical: u32,
    citizen: u32,
}

impl ByGroup {
    /// The longest for a kind that is not known yet: the later step that reads the kind refuses then.
    pub(super) fn of(self, kind: Option<Kind>) -> i64 {
        i64::from(match kind {
            Some(Kind::Technical) => self.technical,
            Some(Kind::Citizen | Kind::Guardian | Kind::Representative) => self.citizen,
            Some(_) => self.person,
            None => self.person.max(self.technical).max(self.citizen),
        })
    }
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Soap {
    replay_mode: ReplayMode,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    saml: HttpSaml,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSaml {
    accept_base64: bool,
    header_bytes: usize,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwt {
    require_cnf: bool,
    bytes: usize,
}

/// Times of what is made here (04 §13).
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Production {
    pub(super) not_before_seconds: u32,
    pub(super) lifetime_seconds: u32,
}

/// Form of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ValueType {
    Text,
    Oid,
    Code,
    Instance,
    Specifier,
    ServiceEvent,
    Patient,
    Site,
    Instant,
    Uri,
}

/// Occurrence of an attribute in a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Cardinality {
    R,
    O,
    X,
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttributeRule {
    pub(super) name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(rename = "type")]
    pub(super) value_type: ValueType,
    /// Characters, smallest and largest.
    #[serde(default = "any_length")]
    pub(super) length: [usize; 2],
    /// Local names of the coded element; empty: any of the three.
    #[serde(default)]
    pub(super) elements: Vec<String>,
    /// The root an instance identifier must have.
    pub(super) root: Option<String>,
    /// The node an OID must stand below.
    pub(super) node: Option<String>,
    cardinality: BTreeMap<Class, Cardinality>,
}

fn any_length() -> [usize; 2] {
    [1, 4096]
}

impl AttributeRule {
    pub(super) fn cardinality(&self, class: Class) -> Cardinality {
        // Checked on load: every class stands there.
        self.cardinality.get(&class).copied().unwrap_or(Cardinality::X)
    }
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    default_system: String,
    row: Vec<RoleRow>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleRow {
    kind: Kind,
    system: Option<String>,
    codes: Vec<String>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindRule {
    pub(super) name_qualifiers: Vec<String>,
    pub(super) authn_contexts: Vec<String>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Purposes {
    system_aliases: BTreeMap<String, String>,
    row: Vec<PurposeRow>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurposeRow {
    pub(super) purpose: Purpose,
    pub(super) code: String,
    pub(super) system: String,
    pub(super) kinds: Vec<Kind>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Registers {
    system: String,
    social_system: String,
    codes: Vec<String>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueSet {
    system: Option<String>,
    codes: Vec<String>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalRow {
    code: u8,
    #[expect(dead_code, reason = "for the reader of the file")]
    cause: String,
    http_status: u16,
    subcode: Option<String>,
    #[serde(default)]
    receiver: bool,
}

/// The rules of one rule set, read and checked.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XuaRules {
    unknown_attributes: Unknown,
    pub(super) require_service_event: bool,
    pub(super) require_confirmation_data: bool,
    pub(super) allow_hetu_nameid: bool,
    accept_social_register: bool,
    pub(super) allow_ed25519: bool,
    fault_detail: bool,
    sender_fault_http_status: u16,
    retry_after_seconds: u32,
    pub(super) withdrawn: Vec<String>,
    clock_skew_seconds: u32,
    representation_max_age_seconds: u32,
    long_operation_max_seconds: u32,
    audiences: Vec<String>,
    pub(super) max_lifetime_seconds: ByGroup,
    pub(super) max_authn_age_seconds: ByGroup,
    soap: Soap,
    http: Http,
    jwt: Jwt,
    pub(super) production: Production,
    limits: Limits,
    attribute: BTreeMap<Key, AttributeRule>,
    roles: Roles,
    kind: BTreeMap<Kind, KindRule>,
    purposes: Purposes,
    registers: Registers,
    care_reasons: ValueSet,
    emergency_reasons: ValueSet,
    representations: ValueSet,
    refusal: Vec<RefusalRow>,
}

impl XuaRules {
    /// Reads one file that stands alone.
    ///
    /// # Errors
    /// [`XuaRulesError`].
    pub fn parse(text: &str) -> Result<Self, XuaRulesError> {
        Self::layered(&[text])
    }

    /// Reads a set: the file of the set it extends first, its own last. A table replaces key by key, anything else as a whole
    /// (01 §11).
    ///
    /// # Errors
    /// [`XuaRulesError`].
    pub fn layered(files: &[&str]) -> Result<Self, XuaRulesError> {
        let mut merged = toml::Table::new();
        for file in files {
            merge(&mut merged, file.parse()?);
        }
        let rules: Self = merged.try_into()?;
        rules.check()?;
        Ok(rules)
    }

    /// The shipped base set.
    pub fn shipped() -> Self {
        Self::parse(SHIPPED).expect("the shipped xua.toml is read by a test")
    }

    fn check(&self) -> Result<(), XuaRulesError> {
        let ranges = [
            ("clock_skew_seconds", self.clock_skew_seconds, 0, 120),
            ("representation_max_age_seconds", self.representation_max_age_seconds, 60, 86_400),
            ("long_operation_max_seconds", self.long_operation_max_seconds, 60, 14_400),
            ("max_lifetime_seconds.person", self.max_lifetime_seconds.person, 30, 1800),
            ("max_lifetime_seconds.technical", self.max_lifetime_seconds.technical, 30, 1800),
            ("max_lifetime_seconds.citizen", self.max_lifetime_seconds.citizen, 30, 1800),
            ("max_authn_age_seconds.person", self.max_authn_age_seconds.person, 60, 86_400),
            ("max_authn_age_seconds.technical", self.max_authn_age_seconds.technical, 60, 86_400),
            ("max_authn_age_seconds.citizen", self.max_authn_age_seconds.citizen, 60, 86_400),
            ("audiences", u32::try_from(self.audiences.len()).unwrap_or(u32::MAX), 1, 32),
            ("sender_fault_http_status", u32::from(self.sender_fault_http_status), 400, 599),
        ];
        for (key, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(XuaRulesError::Range { key, value, low, high });
            }
        }
        let content = |text: String| Err(XuaRulesError::Content(text));
        for key in Key::ALL {
            let Some(rule) = self.attribute.get(&key) else { return content(format!("attribute.{} is missing", key.name())) };
            if let Some(class) = Class::ALL.into_iter().find(|class| !rule.cardinality.contains_key(class)) {
                return content(format!("attribute.{}.cardinality has no {}", key.name(), class.name()));
            }
        }
        let mut names: Vec<&str> = self.attribute.values().flat_map(AttributeRule::names).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return content(format!("attribute name {} stands twice", pair[0]));
        }
        if let Some(row) = self.roles.row.iter().find(|row| !self.kind.contains_key(&row.kind)) {
            return content(format!("roles name the kind {:?}, which has no row", row.kind));
        }
        match (1..=33).find(|number| self.refusal.iter().filter(|row| row.code == *number).count() != 1) {
            Some(number) => content(format!("refusal {number} does not stand exactly once")),
            None => Ok(()),
        }
    }

    /// What an attribute of another name means.
    pub fn unknown_attributes(&self) -> Unknown {
        self.unknown_attributes
    }

    /// Tolerance between clocks, in seconds (04 §8).
    pub fn clock_skew_seconds(&self) -> u32 {
        self.clock_skew_seconds
    }

    /// Bounds of V1.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Longest JWT in bytes.
    pub fn jwt_bytes(&self) -> usize {
        self.jwt.bytes
    }

    /// Whether a JWT needs `cnf`.
    pub fn require_cnf(&self) -> bool {
        self.jwt.require_cnf
    }

    /// Longest value of an `IHE-SAML` authorization, in bytes, and whether the standard base64 alphabet is read.
    pub(super) fn http_saml(&self) -> (usize, bool) {
        (self.http.saml.header_bytes, self.http.saml.accept_base64)
    }

    /// Replay mode of SOAP; HTTP and DIMSE are always [`ReplayMode::BoundReuse`] (04 §8).
    pub fn soap_replay_mode(&self) -> ReplayMode {
        self.soap.replay_mode
    }

    pub(super) fn access_limits(&self) -> crate::access::Limits {
        crate::access::Limits {
            clock_skew_seconds: self.clock_skew_seconds,
            representation_max_age_seconds: self.representation_max_age_seconds,
            long_operation_max_seconds: self.long_operation_max_seconds,
        }
    }

    pub(super) fn is_audience(&self, audience: &str, endpoint: Option<&str>) -> bool {
        endpoint == Some(audience) || self.audiences.iter().any(|own| own == audience)
    }

    /// The audience that is written into what is made here.
    pub fn audience(&self) -> &str {
        self.audiences.first().map_or("", String::as_str)
    }

    pub(super) fn attribute(&self, key: Key) -> &AttributeRule {
        self.attribute.get(&key).expect("every key is checked on load")
    }

    /// The key of a wire name.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        self.attribute.iter().find(|(_, rule)| rule.names().any(|known| known == name)).map(|(key, _)| *key)
    }

    pub(super) fn kind_of_role(&self, code: &str, system: &str) -> Option<Kind> {
        let is_row = |row: &&RoleRow| row.codes.iter().any(|known| known == code) && self.system_of(row) == system;
        self.roles.row.iter().find(is_row).map(|row| row.kind)
    }

    fn system_of<'a>(&'a self, row: &'a RoleRow) -> &'a str {
        row.system.as_deref().unwrap_or(&self.roles.default_system)
    }

    /// The first role code of a kind: (code, code system).
    pub fn role_of_kind(&self, kind: Kind) -> Option<(&str, &str)> {
        let row = self.roles.row.iter().find(|row| row.kind == kind)?;
        Some((row.codes.first()?, self.system_of(row)))
    }

    pub(super) fn kind(&self, kind: Kind) -> Option<&KindRule> {
        self.kind.get(&kind)
    }

    /// A code system as it is compared: aliases replaced.
    pub(super) fn system<'a>(&'a self, system: &'a str) -> &'a str {
        self.purposes.system_aliases.get(system).map_or(system, String::as_str)
    }

    /// The row of a purpose code, that of `kind` before others.
    pub(super) fn purpose(&self, code: &str, system: &str, kind: Option<Kind>) -> Option<&PurposeRow> {
        let mut rows: Vec<_> = self.purposes.row.iter().filter(|row| row.code == code && row.system == self.system(system)).collect();
        rows.sort_by_key(|row| !kind.is_some_and(|kind| row.kinds.contains(&kind)));
        rows.first().copied()
    }

    /// The first purpose code of a purpose and kind: (code, code system).
    pub fn purpose_code(&self, purpose: Purpose, kind: Kind) -> Option<(&str, &str)> {
        let row = self.purposes.row.iter().find(|row| row.purpose == purpose && row.kinds.contains(&kind))?;
        Some((&row.code, &row.system))
    }

    pub(super) fn is_register(&self, code: &str, system: &str) -> bool {
        let health = system == self.registers.system && self.registers.codes.iter().any(|known| known == code);
        health || self.accept_social_register && system == self.registers.social_system
    }

    /// Code system of register codes.
    pub fn register_system(&self) -> &str {
        &self.registers.system
    }

    /// Whether a code belongs to the value set of a reason or representation; other keys have none.
    pub(super) fn in_value_set(&self, key: Key, code: &str, system: &str) -> bool {
        let set = match key {
            Key::CareReason => &self.care_reasons,
            Key::EmergencyReason => &self.emergency_reasons,
            Key::Representation => &self.representations,
            _ => return true,
        };
        set.system.as_deref().is_none_or(|known| known == system) && set.codes.iter().any(|known| known == code)
    }

    /// How a refusal is answered (04 §12).
    pub fn answer(&self, refusal: &Refusal) -> Answer {
        let number = refusal.code.number();
        let row = self.refusal.iter().find(|row| row.code == number).expect("every code is checked on load");
        let http_status = if refusal.store_rule { 403 } else { row.http_status };
        let challenge = (http_status == 401).then(|| match refusal.code {
            Code::Missing => "Bearer".to_owned(),
            code => format!(r#"Bearer error="invalid_token", error_description="{code}""#),
        });
        Answer {
            code: refusal.code,
            detail: self.fault_detail,
            receiver: row.receiver,
            subcode: row.subcode.clone(),
            soap_http_status: if row.receiver { 503 } else { self.sender_fault_http_status },
            http_status,
            challenge,
            retry_after_seconds: row.receiver.then_some(self.retry_after_seconds),
        }
    }
}

impl AttributeRule {
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
