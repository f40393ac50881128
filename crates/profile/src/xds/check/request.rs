//! Checks of the message as a whole.

use super::super::message::Class;
use super::super::problem::Key;
use super::{Emit, Scope};

/// Once per message.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum RequestCheck {
    /// No object.
    ListEmpty,
    /// Not exactly one SubmissionSet.
    SetCount,
    /// More entries, folders and associations than allowed.
    TooManyObjects,
}

impl RequestCheck {
    pub fn judge(&self, scope: &Scope<'_>, emit: Emit<'_>) {
        let message = scope.message;
        match self {
            Self::ListEmpty => {
                if message.list.objects.is_empty() {
                    emit(&[]);
                }
            }
            Self::SetCount => {
                let count = message.count(Class::Set);
                if count != 1 {
                    emit(&[(Key::Attr, "SubmissionSet"), (Key::Val, &count.to_string())]);
                }
            }
            Self::TooManyObjects => {
                let limit = scope.rules.limits.submission_objects;
                let count = [Class::Entry, Class::Folder, Class::Association].map(|class| message.count(class)).iter().sum::<usize>();
                if count > limit {
                    emit(&[(Key::Attr, "RegistryObjectList"), (Key::Val, &count.to_string())]);
                }
            }
        }
    }
}
