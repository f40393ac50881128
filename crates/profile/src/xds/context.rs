//! What the rules must be told besides the message.

use crate::mapping::Slots;
use jiff::Timestamp;
use jiff::civil::Date;

/// What the peer row of the sender says of a source that sends no national slots (02 §4.7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderDefaults {
    /// Controller, OID.
    pub controller_id: Option<String>,
    /// Register code.
    pub register_code: Option<String>,
    /// Register specifier.
    pub register_specifier: Option<String>,
}

/// The node and the moment.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Own homeCommunityId, `urn:oid:…`.
    pub home_community_id: &'a str,
    /// Names of the national slots (02 §4.7).
    pub slots: &'a Slots,
    /// Defaults of this sender.
    pub defaults: &'a SenderDefaults,
    /// Now.
    pub now: Timestamp,
    /// Today where the centre is.
    pub today: Date,
}
