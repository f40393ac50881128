//! Verification: C-ECHO (PS3.4 Annex A, PS3.7 §9.3.5).

pub use dicom_dictionary_std::uids::VERIFICATION as SOP_CLASS_UID;

use crate::message::command_set::CommandSet;
use crate::status::Status;

/// The request.
pub fn request(message_id: u16) -> CommandSet {
    CommandSet::c_echo_rq(message_id)
}

/// The response; success is the only status of the service.
pub fn response(request: &CommandSet) -> CommandSet {
    CommandSet::response(request, Status::SUCCESS)
}
