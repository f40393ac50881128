//! Every bound and wait of an association, with its default.
//!
//! The programs fill these from their configuration; the defaults are the values of the profile's input bounds BD-03 to
//! BD-06 and BD-09.

use std::time::Duration;

/// Sizes and counts that a peer may not exceed. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest P-DATA-TF that we accept, as announced to the peer: the value of the PDU-length field, without the six bytes
    /// before it (PS3.8 Annex D.1). BD-04.
    pub pdu_length_max: u32,
    /// Longest A-ASSOCIATE-RQ or -AC (PDU-length field). BD-03.
    pub associate_length_max: u32,
    /// Presentation contexts in one A-ASSOCIATE PDU. BD-03.
    pub presentation_contexts_max: usize,
    /// Transfer syntaxes of one presentation context. BD-03.
    pub transfer_syntaxes_max: usize,
    /// User information sub-items. BD-03.
    pub user_items_max: usize,
    /// Length of a UID without its padding. BD-03.
    pub uid_length_max: usize,
    /// Presentation data values in one P-DATA-TF. BD-05.
    pub pdvs_max: usize,
    /// Presentation data values without a byte, one after the other, over all PDUs of the association. BD-05.
    pub empty_pdvs_max: usize,
    /// One command set, all its fragments together. BD-06.
    pub command_set_length_max: usize,
    /// Longest P-DATA-TF that we send, also to a peer that says it has no maximum (0).
    pub send_length_max: u32,
    /// A peer that accepts only P-DATA-TF shorter than this is refused: a data set would become a flood of headers.
    pub peer_length_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            pdu_length_max: 131_072,
            associate_length_max: 262_144,
            presentation_contexts_max: 128,
            transfer_syntaxes_max: 64,
            user_items_max: 256,
            uid_length_max: 64,
            pdvs_max: 256,
            empty_pdvs_max: 64,
            command_set_length_max: 65_536,
            send_length_max: 131_072,
            peer_length_min: 128,
        }
    }
}

/// How long the peer may take. BD-03, BD-09.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// ARTIM: from the open transport connection to the complete A-ASSOCIATE-RQ, and from the end of the association to the
    /// end of the transport connection (PS3.8 §9.1.5).
    pub artim: Duration,
    /// Silence while a message is incomplete.
    pub receive: Duration,
    /// Silence between messages.
    pub between_messages: Duration,
    /// Silence after we sent a request, until its final response.
    pub response: Duration,
    /// Silence after A-ASSOCIATE-RQ (requestor), or after our A-RELEASE-RQ.
    pub association: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            artim: Duration::from_secs(30),
            receive: Duration::from_secs(60),
            between_messages: Duration::from_secs(900),
            response: Duration::from_secs(300),
            association: Duration::from_secs(30),
        }
    }
}
