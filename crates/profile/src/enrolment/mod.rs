//! Enrolment of a site at the centre (profile 10 §6): what both programs say and check alike.
//!
//! [`JoinString`] is what an operator of the centre hands to one of the site; [`message`] has the bodies of `/enrol/v1`;
//! [`Csr`] reads a certification request by the key profile of 10 §5.2; [`Binding`] is what an invite is bound to, which nothing
//! that is asked for may exceed; [`JoinCode`] are the refusals of 10 §6.4.
//!
//! No IO, clock or randomness: tokens, nonces and instants are arguments.

mod binding;
mod code;
mod csr;
mod join_string;
pub mod message;
mod proof;

pub use binding::{Binding, Mode, OutsideBinding};
pub use code::JoinCode;
pub use csr::{Csr, CsrError, Use, check_key, names_of_certificate};
pub use join_string::{JoinString, JoinStringError, TOKEN_CHARS, is_token, token_sha256};
pub use proof::{method, over};

#[cfg(test)]
mod tests;
