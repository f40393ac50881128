//! XML as the IHE messages need it: a pull reader with bounds and a plain writer.
//!
//! [`Reader`] walks a document once, resolves namespaces (any prefix) and refuses what a SOAP message may not hold;
//! [`Writer`] writes elements and attributes in the order they are given.
//!
//! # Bounds
//! [`Limits`] (profile 10 BD-15). The size of the document is the caller's to bound before it arrives here.
//!
//! # Standard
//! XML 1.0, Namespaces in XML 1.0. Not checked: two attributes that differ by prefix only.

mod namespace;
mod read;
mod write;

pub use namespace::Ns;
pub use read::{Element, Item, Limits, Reader, XmlError};
pub use write::{Writer, escape_attribute, escape_text};

/// Is `c` a character of XML 1.0 (production 2)?
pub fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
