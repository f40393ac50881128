//! Checks of the national slots of a manifest's entry (02 §4.7).

use super::super::message::Subject;
use super::super::problem::Key;
use super::{Emit, Scope};
use crate::identifier::{Specifier, organisation};
use jiff::civil::Date;

/// Once per manifest entry. A slot that the sender's peer row fills is not missing.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum NationalCheck {
    /// Controller absent, or no OID of a controller.
    ControllerSlot,
    /// Register absent, or not among these.
    RegisterSlot(Vec<String>),
    /// Specifier absent where the register is one of these, present with another, or malformed.
    SpecifierSlot(Vec<String>),
    /// Service event that is no OID of one.
    ServiceEventSlot,
    /// Release date that is no date, or a disclosure code not among these.
    DisclosureSlots(Vec<String>),
}

impl NationalCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        let Some(object) = subject.object() else { return };
        let (slots, defaults) = (scope.circumstances.slots, scope.circumstances.defaults);
        // Several values are none that could be told apart.
        let sent = |name: &str| match object.values(name) {
            [] => None,
            [value] => Some(value.as_str()),
            _ => Some(""),
        };
        let mut broken = |name: &str, value: Option<&str>| emit(&[(Key::Slot, name), (Key::Val, value.unwrap_or_default())]);
        match self {
            Self::ControllerSlot => {
                let controller = sent(&slots.controller_id).or(defaults.controller_id.as_deref());
                if !controller.is_some_and(organisation::is_controller) {
                    broken(&slots.controller_id, sent(&slots.controller_id));
                }
            }
            Self::RegisterSlot(accepted) => {
                let register = sent(&slots.register_code).or(defaults.register_code.as_deref());
                if !register.is_some_and(|register| accepted.iter().any(|known| known == register)) {
                    broken(&slots.register_code, sent(&slots.register_code));
                }
            }
            Self::SpecifierSlot(required) => {
                let register = sent(&slots.register_code).or(defaults.register_code.as_deref());
                let needed = register.is_some_and(|register| required.iter().any(|known| known == register));
                // The default belongs to the default register.
                let specifier = match sent(&slots.register_specifier) {
                    None if needed && sent(&slots.register_code).is_none() => defaults.register_specifier.as_deref(),
                    sent => sent,
                };
                let is_valid = specifier.is_some_and(|text| Specifier::from_slot(text, scope.circumstances.today).is_ok());
                if needed != specifier.is_some() || (needed && !is_valid) {
                    // A specifier may be a person's identity code: its value is not repeated.
                    broken(&slots.register_specifier, None);
                }
            }
            Self::ServiceEventSlot => {
                let event = sent(&slots.service_event_id);
                if event.is_some_and(|event| organisation::service_event_organisation(event).is_none()) {
                    broken(&slots.service_event_id, event);
                }
            }
            Self::DisclosureSlots(codes) => {
                let date = sent(&slots.release_date);
                let is_date =
                    |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) && Date::strptime("%Y%m%d", text).is_ok();
                if date.is_some_and(|date| !is_date(date)) {
                    broken(&slots.release_date, date);
                }
                let code = sent(&slots.minor_disclosure);
                if code.is_some_and(|code| !codes.iter().any(|known| known == code)) {
                    broken(&slots.minor_disclosure, code);
                }
            }
        }
    }
}
