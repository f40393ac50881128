//! Associations that this site opens: [`idr_host::outbound`] with its certificate and its name (profile 10 F16).

use anyhow::Context as _;
use bytes::Bytes;
use idr_dimse::association::negotiation::{Implementation, Request};
use idr_host::files;
use idr_host::outbound::store::Pieces;
use idr_profile::tls;
use idr_profile::xua::Trust;
use rustls::ClientConfig;

pub use idr_host::outbound::{Failure, Session, Target, Waits, report, server_name};

use crate::config::Config;
use crate::listener::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use crate::spool::{SpoolError, Stored};

/// TLS towards devices: with the certificate of the listener, and the anchors of modalities.
///
/// # Errors
/// A file that is missing or cannot be read.
pub fn client_tls(config: &Config, trust: &Trust) -> anyhow::Result<ClientConfig> {
    let (Some(certificate), Some(key)) = (&config.dimse.certificate, &config.dimse.key) else {
        anyhow::bail!("dimse.certificate and dimse.key are needed to call a device over TLS");
    };
    let chain = std::fs::read(certificate).with_context(|| format!("{}: cannot be read", certificate.display()))?;
    let key = files::read_private(key)?;
    Ok(tls::client(&chain, &key, &files::anchors(trust.modality_anchors()), &[], &[])?)
}

/// Whom we are to our peers.
pub fn request(calling: &str, called: &str) -> Request {
    let implementation =
        Implementation { class_uid: IMPLEMENTATION_CLASS_UID.to_owned(), version_name: Some(IMPLEMENTATION_VERSION_NAME.to_owned()) };
    Request::new(calling, called, implementation)
}

/// The data set of a held object, bit by bit as it came (profile 01 §8.1).
pub struct Bits(pub Box<dyn Stored>);

impl Pieces for Bits {
    type Error = SpoolError;

    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        self.0.next().await
    }
}
