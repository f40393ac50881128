//! What IHE says, without IO: messages in, values out.
//!
//! Read in this order: [`metadata`] (the document sharing model), [`ebxml`] (the model as ebRIM XML and back),
//! [`soap`] (envelope, addressing, fault, MTOM), [`transaction`] (one file per transaction number),
//! [`manifest`] (the KOS document), [`hl7`] (patient administration: HL7 v2 over MLLP), [`assertion`] (SAML and JWT: build, verify, read), [`audit`] (audit message).
//! Below them: [`xml`] (bounded reader, writer).
//!
//! No sockets, files, clock or randomness: bytes, instants and identifiers arrive as arguments.

pub mod assertion;
pub mod audit;
pub mod ebxml;
pub mod hl7;
pub mod manifest;
pub mod metadata;
pub mod soap;
pub mod transaction;
pub mod xml;
