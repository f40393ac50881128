//! What an invite is bound to (profile 10 §6.1): nothing that a site asks for may exceed it.

use serde::{Deserialize, Serialize};

/// Who makes the certificates of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The site brings certificates of an authority that the centre trusts, and proves that it has their keys.
    Register,
    /// The centre signs the keys of the site with its own authority (K5).
    Issue,
}

/// The binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// `site.id`.
    pub site: String,
    /// OID of the organisation.
    pub organisation: String,
    /// Controllers that it may speak for.
    pub controllers: Vec<String>,
    /// AE titles that it calls the centre with.
    pub ae_titles: Vec<String>,
    /// DNS names that its TLS certificate may have; none: no name at all.
    pub names: Vec<String>,
    /// Who makes the certificates.
    pub mode: Mode,
    /// Rule sets that it uses.
    pub rule_sets: Vec<String>,
    /// Transactions of its row.
    pub transactions: Vec<String>,
}

/// What is asked for goes beyond the invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideBinding {
    /// Another site id.
    #[error("the site calls itself otherwise than the invite does")]
    Site,
    /// A certificate, request, or subject of another organisation.
    #[error("{what}: its organisation is not the one of the invite")]
    Organisation {
        /// Which.
        what: &'static str,
    },
    /// A name that was not invited.
    #[error("{what}: the name {name} is not in the invite")]
    Name {
        /// Which.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A kind of name that no invite has: an address, a URI …
    #[error("{what}: it asks for a name that is no DNS name")]
    NameKind {
        /// Which.
        what: &'static str,
    },
    /// A certificate where a request belongs, or the reverse.
    #[error("{what}: the invite has mode {mode}")]
    Mode {
        /// Which.
        what: &'static str,
        /// Of the invite.
        mode: &'static str,
    },
}

impl Binding {
    /// Whether all names are invited; compared without regard to case (RFC 4343).
    ///
    /// # Errors
    /// [`OutsideBinding::Name`], the first.
    pub fn check_names<'a>(&self, what: &'static str, names: impl IntoIterator<Item = &'a String>) -> Result<(), OutsideBinding> {
        let invited = |name: &String| self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        match names.into_iter().find(|name| !invited(name)) {
            None => Ok(()),
            Some(name) => Err(OutsideBinding::Name { what, name: name.chars().take(253).collect() }),
        }
    }
}
