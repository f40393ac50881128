//! From attributes to claims: V13, V14, V15, V17 (profile 04 §11).

use idr_ihe::metadata::{Code as Coded, PatientId};
use jiff::Timestamp;
use jiff::civil::Date;

use super::attribute::{Attributes, Key, below_node};
use super::class::Class;
use super::refusal::{Code, Refusal};
use super::rules::Cardinality;
use super::statement::Statement;
use super::trust::Issuer;
use super::verify::{RequestFacts, SubmittedEvent, Verifier, Warning, today};
use crate::access::{Claims, Kind, Purpose, Representation};
use crate::identifier::{self, HETU_AUTHORITY, Hetu, is_same_or_below};

const TECHNICAL_PREFIX: &str = "urn:oid:";

/// What V13 read.
pub(super) struct Read {
    pub(super) claims: Claims,
    pub(super) class: Class,
    pub(super) warnings: Vec<Warning>,
}

enum Occurs {
    Required,
    Optional,
    Refused,
}

impl Verifier<'_> {
    /// V13 (04 §4, §5): presence, forms, value sets, kind.
    pub(super) fn attributes(
        &self,
        statement: &Statement,
        attributes: &Attributes,
        issuer: &Issuer,
        facts: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Result<Read, Refusal> {
        let rules = self.rules;
        let missing = Code::Attribute.because("an attribute that the class requires is missing");
        let today = today(now);
        let role = attributes.code(Key::Role, rules)?.ok_or(missing)?;
        let purpose_code = attributes.code(Key::Purpose, rules)?.ok_or(missing)?;
        let value_set = |what| Code::ValueSet.because(what);
        let kind = rules.kind_of_role(&role.code, &role.system).ok_or(value_set("the role names no kind of subject"))?;
        let row = rules.purpose(&purpose_code.code, &purpose_code.system, Some(kind)).ok_or(value_set("the purpose of use is unknown"))?;
        let class = facts.transaction.class(row.purpose).ok_or(Code::Class.because("the transaction is in no class with this purpose"))?;
        let register = attributes.code(Key::Register, rules)?;
        self.presence(attributes, class, kind, register.as_ref(), facts)?;

        let name = self.names(statement, kind, issuer, class, today)?;
        let mut warnings = Vec::new();
        let patient = match attributes.patient(rules)? {
            None => None,
            Some(carried) => {
                let checked = identifier::check(&carried, self.identity, self.environment, self.local_issuers, today)
                    .map_err(|_| Code::Attribute.because("the patient identifier does not hold (06 §2)"))?;
                warnings.extend(checked.warnings.iter().copied().map(Warning::Identifier));
                Some(checked.id)
            }
        };
        let coded = |key: Key| -> Result<Option<Coded>, Refusal> {
            match attributes.code(key, rules)? {
                Some(code) if !rules.in_value_set(key, &code.code, &code.system) => {
                    Err(value_set("a reason or representation is not in its value set"))
                }
                code => Ok(code),
            }
        };
        if register.as_ref().is_some_and(|register| !rules.is_register(&register.code, &register.system)) {
            return Err(value_set("the register code is not accepted"));
        }
        let (care_reason, emergency_reason) = (coded(Key::CareReason)?, coded(Key::EmergencyReason)?);
        let representation = match coded(Key::Representation)? {
            None => None,
            Some(code) => Some(Representation {
                code: code.code,
                source: attributes.text(Key::RepresentationSource, rules)?.ok_or(missing)?,
                checked: attributes.instant(Key::RepresentationChecked, rules)?.ok_or(missing)?,
            }),
        };
        let claims = Claims {
            kind,
            purpose: row.purpose,
            purpose_code: Coded { system: rules.system(&purpose_code.system).to_owned(), ..purpose_code },
            name_id: name.0,
            name_qualifier: name.1,
            name: attributes.text(Key::SubjectName, rules)?.ok_or(missing)?,
            organisation: attributes.text(Key::Organisation, rules)?,
            organisation_id: attributes.oid(Key::OrganisationId, rules)?.ok_or(missing)?,
            role,
            unit: attributes.oid(Key::Unit, rules)?,
            controller: attributes.oid(Key::Controller, rules)?,
            register: register.map(|register| register.code),
            specifier: attributes.specifier(today)?,
            patient,
            provider_identifier: attributes.instance(Key::ProviderIdentifier, rules)?,
            service_event: attributes.oid(Key::ServiceEvent, rules)?,
            care_reason,
            emergency_reason,
            emergency_text: attributes.text(Key::EmergencyText, rules)?,
            outsourced_authorisation: attributes.oid(Key::OutsourcedAuthorisation, rules)?,
            software: attributes.oid(Key::Software, rules)?.ok_or(missing)?,
            site: attributes.text(Key::Site, rules)?,
            representation,
            home_community: attributes.oid(Key::HomeCommunity, rules)?,
            assertion_id: statement.id.clone(),
            issuer: statement.issuer.clone(),
            issuer_organisation: String::new(),
            assertion_sha256: String::new(),
            not_on_or_after: statement.not_on_or_after,
        };
        attributes.text(Key::Acp, rules)?;
        attributes.text(Key::ConsentDoc, rules)?;
        match facts.service_event {
            SubmittedEvent::Oid(oid) if claims.service_event.as_deref().is_some_and(|own| own != oid) => {
                Err(Code::Contradiction.because("the submission's service event is not the assertion's"))
            }
            _ => Ok(Read { claims, class, warnings }),
        }
    }

    /// The cardinalities of 04 §4.
    fn presence(
        &self,
        attributes: &Attributes,
        class: Class,
        kind: Kind,
        register: Option<&Coded>,
        facts: &RequestFacts<'_>,
    ) -> Result<(), Refusal> {
        let needs_specifier = register.is_some_and(|register| self.policy.register.specifier_required.contains(&register.code));
        for key in Key::ALL {
            let occurs = match self.rules.attribute(key).cardinality(class) {
                // Judged in V17.
                Cardinality::R if matches!(key, Key::EmergencyReason | Key::EmergencyText) => Occurs::Optional,
                Cardinality::R => Occurs::Required,
                Cardinality::O | Cardinality::C6 => Occurs::Optional,
                Cardinality::X => Occurs::Refused,
                Cardinality::C1 if facts.transaction.spans_patients() => Occurs::Refused,
                Cardinality::C1 => Occurs::Required,
                Cardinality::C2 if facts.patient.is_some() => Occurs::Required,
                Cardinality::C3 if kind == Kind::Professional => Occurs::Required,
                Cardinality::C2 | Cardinality::C3 => Occurs::Optional,
                Cardinality::C4 if needs_specifier => Occurs::Required,
                Cardinality::C4 => Occurs::Refused,
                Cardinality::C5 if self.rules.require_service_event => Occurs::Required,
                Cardinality::C5 => match facts.service_event {
                    SubmittedEvent::Unknown => Occurs::Optional,
                    SubmittedEvent::Absent => Occurs::Refused,
                    SubmittedEvent::Oid(_) => Occurs::Required,
                },
                Cardinality::C7 if matches!(kind, Kind::Guardian | Kind::Representative) => Occurs::Required,
                Cardinality::C7 => Occurs::Refused,
            };
            match (occurs, attributes.has(key)) {
                (Occurs::Required, false) => return Err(Code::Attribute.because("an attribute that the class requires is missing")),
                (Occurs::Refused, true) => return Err(Code::Attribute.because("an attribute that the class does not allow is there")),
                _ => {}
            }
        }
        Ok(())
    }

    /// `NameID`, its qualifier and the authentication context, by kind (04 §3, §5.1, §5.5).
    fn names(&self, statement: &Statement, kind: Kind, issuer: &Issuer, class: Class, today: Date) -> Result<(String, String), Refusal> {
        let form = |what| Err(Code::Attribute.because(what));
        let Some(rule) = self.rules.kind(kind) else { return Err(Code::ValueSet.because("the kind of subject has no row")) };
        let known = |list: &[String], value: &str| list.iter().any(|known| known == value);
        if !known(&rule.authn_contexts, &statement.authn_context) && !known(&issuer.authn_contexts, &statement.authn_context) {
            return Err(Code::ValueSet.because("the authentication context is not accepted"));
        }
        let qualifier = statement.subject.qualifier.as_deref().unwrap_or_default();
        let name = statement.subject.value.as_str();
        let professional = self.rules.kind(Kind::Professional).is_some_and(|rule| known(&rule.name_qualifiers, qualifier));
        match (&statement.technical_user, kind) {
            // The technical user acts for a responsible professional, whom NameID names.
            (Some(technical), Kind::Technical) if class == Class::Automatic => {
                if !known(&rule.name_qualifiers, technical.qualifier.as_deref().unwrap_or_default()) || !is_technical_user(&technical.value)
                {
                    return form("SubjectConfirmation/NameID names no technical user");
                }
                if !professional {
                    return form("NameID beside a technical user names no professional");
                }
            }
            (Some(_), _) => return Err(Code::Shape.because("SubjectConfirmation/NameID outside class AU")),
            (None, _) if !known(&rule.name_qualifiers, qualifier) => return form("NameQualifier is not that of the kind"),
            (None, Kind::Technical) if !is_technical_user(name) => return form("NameID is no OID of a technical user"),
            _ => {}
        }
        let hetu = Hetu::parse(name, today);
        match kind {
            Kind::Citizen | Kind::Guardian | Kind::Representative => {
                let id = PatientId { id: name.to_owned(), authority: HETU_AUTHORITY.to_owned() };
                if identifier::check(&id, self.identity, self.environment, &[], today).is_err() {
                    return form("NameID does not hold as a personal identity code");
                }
            }
            _ if hetu.is_ok() && !self.rules.allow_hetu_nameid => return form("NameID is a personal identity code"),
            _ => {}
        }
        Ok((name.to_owned(), qualifier.to_owned()))
    }

    /// V15 (04 §2, 05 §3): kind, purpose and class belong together; the scope of a JWT covers the class.
    pub(super) fn allowed(&self, claims: &Claims, statement: &Statement, class: Class, facts: &RequestFacts<'_>) -> Result<(), Refusal> {
        let refuse = |what| Err(Code::Class.because(what));
        let operation = facts.transaction.operation(class);
        let row = self.rules.purpose(&claims.purpose_code.code, &claims.purpose_code.system, Some(claims.kind));
        if !row.is_some_and(|row| row.kinds.contains(&claims.kind)) || !self.policy.allows(claims.kind, claims.purpose, operation) {
            return refuse("the kind of subject may not do this with this purpose");
        }
        let scope = facts.transaction.scope(class);
        if statement.scope.as_ref().is_some_and(|granted| !granted.split(' ').any(|one| one == scope)) {
            return refuse("the scope of the token does not cover the request");
        }
        Ok(())
    }
}

/// V14 (04 §9.3).
pub(super) fn consistent(claims: &Claims, statement: &Statement, issuer: &Issuer) -> Result<(), Refusal> {
    let organisation = &issuer.organisation;
    let below = |oid: &str, of: &str| is_same_or_below(oid, of);
    let client_software = |id: &str| id.strip_prefix("urn:oid:").unwrap_or(id) != claims.software;
    let is_own = claims.patient.as_ref().is_some_and(|patient| patient.authority == HETU_AUTHORITY && patient.id == claims.name_id);
    for (wrong, what) in [
        (!issuer.kinds.contains(&claims.kind), "the issuer may not assert this kind of subject"),
        (!below(&claims.organisation_id, organisation), "organisation_id is not the issuer's or below it"),
        (claims.controller.as_ref().is_some_and(|c| !issuer.controllers.contains(c)), "the issuer may not speak for the controller"),
        (
            claims.unit.as_ref().is_some_and(|u| !below(u, organisation) && !issuer.producers.iter().any(|p| below(u, p))),
            "the unit is not below the issuer's organisation or a producer of it",
        ),
        (claims.kind == Kind::Citizen && !is_own, "the citizen is not the patient"),
        (claims.kind == Kind::Guardian && is_own, "the guardian is the patient"),
        (
            claims.kind == Kind::Guardian && claims.representation.as_ref().is_some_and(|r| r.code != "GUARD"),
            "a guardian with another representation than guardianship",
        ),
        (claims.kind == Kind::Technical && claims.purpose != Purpose::Automatic, "a technical user with another purpose than automatic"),
        (statement.client_id.as_deref().is_some_and(client_software), "client_id is another software than asserted"),
    ] {
        if wrong {
            return Err(Code::Contradiction.because(what));
        }
    }
    Ok(())
}

/// V17: C6, and reason and text of an emergency.
pub(super) fn care_basis(claims: &Claims, class: Class) -> Result<(), Refusal> {
    let complete = match class {
        Class::Query | Class::Retrieve => claims.service_event.is_some() || claims.care_reason.is_some(),
        Class::Emergency => claims.emergency_reason.is_some() && claims.emergency_text.is_some(),
        _ => true,
    };
    if complete { Ok(()) } else { Err(Code::CareBasis.because("neither service event nor care reason, or no emergency reason and text")) }
}

/// `urn:oid:` OID under `1.2.246.10.<Y>.12` or `.13`.
fn is_technical_user(value: &str) -> bool {
    let oid = value.strip_prefix(TECHNICAL_PREFIX).filter(|oid| idr_ihe::metadata::is_oid(oid));
    oid.is_some_and(|oid| below_node(oid, "12") || below_node(oid, "13"))
}
