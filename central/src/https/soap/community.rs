//! What a gateway of another community is answered (ITI-38, ITI-39, RAD-75; profile 08 §5, H-05, H-08, H-10).
//!
//! The decisions, limits and bytes are those of ITI-18, ITI-43 and RAD-69. What differs: the community is named in each request
//! that does not name a patient, and each error says which community answers.

use idr_profile::xds::RegistryProblem;
use idr_profile::xua::Transaction;

use crate::central::Central;

/// Whether a transaction comes from the gateway of another community.
pub fn is_cross_gateway(transaction: Transaction) -> bool {
    matches!(transaction, Transaction::Iti38 | Transaction::Iti39 | Transaction::Rad75)
}

/// `urn:oid:` and the own homeCommunityId.
pub fn own(central: &Central) -> String {
    format!("urn:oid:{}", central.config.central.home_community)
}

/// The problem with the location that the transaction gives it (H-10).
pub fn located(central: &Central, transaction: Transaction, mut problem: RegistryProblem) -> RegistryProblem {
    if is_cross_gateway(transaction) {
        problem.location = Some(own(central));
    }
    problem
}
