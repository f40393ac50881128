//! The destination over DIMSE (profile 10 F06): its associations, and which signal each of their failures is (03 §4.2, §4.3).
//!
//! One presentation context for each SOP class and transfer syntax that is to be sent, with that transfer syntax alone: nothing
//! is ever transcoded (profile 01 §8.1). With `identity` each association carries one assertion, so one patient (04 §10.4).
//!
//! # Bounds
//! Waits of 03 §2.7; PDUs as for the listener; [`CONTEXTS_MAX`] presentation contexts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use idr_dimse::association::Cause;
use idr_dimse::association::negotiation::{Request, UserIdentity, UserIdentityType};
use idr_dimse::limits::Limits;
use idr_dimse::message::command_set::CommandSet;
use idr_dimse::service::verification;
use idr_dimse::status::Status;
use idr_host::files;
use idr_host::outbound::Step;
use idr_profile::outcome::{Event, Outcomes, Signal};
use idr_profile::tls;
use idr_profile::xua::Trust;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::credentials::{Bearing, Credentials};
use super::https::failure_of_connection;
use crate::config::archive::Identity;
use crate::config::{self, Centre};
use crate::outbound::{self, Failure, Session, Target, Waits};

/// Presentation contexts of one association (PS3.8 §9.3.2.2: odd identifiers to 255).
pub(super) const CONTEXTS_MAX: usize = 128;
/// Addresses of a host name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Where instances go by C-STORE.
pub struct Archive {
    host: String,
    port: u16,
    calling: String,
    called: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    identity: Identity,
    limits: Limits,
    waits: Waits,
    /// It gives receipts.
    pub(super) receipts: bool,
    /// How long a report is waited for on the association of its request.
    pub(super) report_wait: Duration,
    /// Instances in one request for storage commitment.
    pub(super) references_max: usize,
    /// Dialect of its statuses.
    pub(super) dialect: Option<String>,
}

impl Archive {
    /// Of the section `[centre.dimse]`; `None` without one.
    ///
    /// # Errors
    /// The first problem, with its key or file.
    pub fn load(config: &config::Config, centre: &Centre, trust: &Trust) -> anyhow::Result<Option<Self>> {
        let Some(row) = &centre.dimse else { return Ok(None) };
        let (host, port) = row.host_and_port().context("centre.dimse.address is no host and port")?;
        let tls = match row.tls {
            false => None,
            true => {
                let chain =
                    std::fs::read(&centre.certificate).with_context(|| format!("{}: cannot be read", centre.certificate.display()))?;
                let key = files::read_private(&centre.key)?;
                let client = tls::client(&chain, &key, &files::anchors(trust.tls_anchors()), &row.pins, &[]);
                let client = client.with_context(|| format!("centre.certificate {}", centre.certificate.display()))?;
                let name = row.server_name.as_deref().unwrap_or(host);
                let name = ServerName::try_from(name.to_owned()).with_context(|| format!("centre.dimse.server_name: '{name}'"))?;
                Some((Arc::new(client), name))
            }
        };
        let limits = Limits { pdu_length_max: config.dimse.pdu_length_max, ..Limits::default() };
        let waits = Waits::from(&Outcomes::base().limits);
        Ok(Some(Self::new(row, (host, port), tls, limits, waits)))
    }

    fn new(
        row: &config::Archive,
        (host, port): (&str, u16),
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        limits: Limits,
        waits: Waits,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            calling: row.calling_ae_title.clone(),
            called: row.ae_title.clone(),
            tls,
            identity: row.identity,
            limits,
            waits,
            receipts: row.receipts,
            report_wait: Duration::from_secs(row.report_seconds),
            references_max: row.references_max,
            dialect: row.dialect.clone(),
        }
    }

    /// Plain, with short waits.
    #[cfg(test)]
    pub(super) fn for_tests(row: &config::Archive, waits: Waits, report_wait: Duration) -> Self {
        let address = row.host_and_port().expect("an address");
        Self { report_wait, ..Self::new(row, address, None, Limits::default(), waits) }
    }

    /// User identity of an association about this patient; `None`: it carries none.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(super) fn identity(
        &self,
        credentials: &Credentials,
        bearing: &Bearing,
        now: Timestamp,
        random: [u8; 16],
    ) -> anyhow::Result<Option<UserIdentity>> {
        let (identity_type, primary) = match self.identity {
            Identity::None => return Ok(None),
            Identity::Saml => (UserIdentityType::SamlAssertion, credentials.assertion(bearing, now, random)?),
            Identity::Jwt => (UserIdentityType::Jwt, credentials.jwt(bearing, now, random)?),
        };
        let primary = primary.into_bytes();
        Ok(Some(UserIdentity { identity_type, positive_response_requested: true, primary, secondary: Vec::new() }))
    }

    /// A request for an association, which proposes nothing yet.
    pub(super) fn request(&self, identity: Option<UserIdentity>) -> Request {
        Request { user_identity: identity, ..outbound::request(&self.calling, &self.called) }
    }

    /// Opens an association.
    ///
    /// # Errors
    /// The signal that this is.
    pub(super) async fn open(&self, request: Request) -> Result<Session, Signal<'static>> {
        let addresses = tokio::time::timeout(self.waits.connect, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let addresses: Vec<SocketAddr> = match addresses {
            Err(_) => return Err(Signal::Event(Event::NameFailure)),
            Ok(Err(error)) if error.to_string().contains("Name or service not known") => return Err(Signal::Event(Event::NameUnknown)),
            Ok(Err(_)) => return Err(Signal::Event(Event::NameFailure)),
            Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        };
        let mut last = Signal::Event(Event::NameUnknown);
        for address in addresses {
            let target = Target { address, ae_title: self.called.clone(), tls: self.tls.clone(), certificates: Vec::new() };
            match Session::open(&target, request.clone(), self.limits, self.waits).await {
                Ok(session) => return Ok(session),
                Err(failure) => {
                    last = signal(&failure);
                    tracing::debug!(%address, cause = %failure, "no association");
                    // Nothing was said there: the next address of the name may answer.
                    if !matches!(last, Signal::Event(Event::ConnectionRefused | Event::Unreachable)) {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// C-ECHO, without an identity: whether the peer works (profile 03 §4.7).
    ///
    /// # Errors
    /// The signal that this is.
    pub(super) async fn echo(&self) -> Result<Signal<'static>, Signal<'static>> {
        let mut request = self.request(None);
        request.propose(verification::SOP_CLASS_UID, &idr_dimse::service::data_set::TRANSFER_SYNTAXES);
        let mut session = self.open(request).await?;
        let Some(context_id) = session.contexts().first().map(|context| context.id) else {
            session.release().await;
            return Err(Signal::Event(Event::ContextMissing));
        };
        let message_id = session.next_message_id();
        session.command(context_id, &CommandSet::c_echo_rq(message_id)).await.map_err(|failure| signal(&failure))?;
        let response = session.received().await.map_err(|failure| signal(&failure))?;
        let good = response.message_id() == message_id && response.status() == Some(Status::SUCCESS);
        session.release().await;
        // What makes a peer good is that its presentation context works.
        if good { Ok(Signal::PresentationContext(0)) } else { Err(Signal::Event(Event::AssociationProtocol)) }
    }
}

/// Which signal of the outcome table a failure is.
pub(super) fn signal(failure: &Failure) -> Signal<'static> {
    let event = match failure {
        Failure::Connection(error) => return failure_of_connection(error).signal(),
        Failure::TimedOut(Step::Connect) => Event::ConnectTimeout,
        Failure::TimedOut(Step::Handshake) => Event::TlsTimeout,
        Failure::TimedOut(Step::Write) => Event::AssociationTimeout,
        Failure::Certificate => Event::CertificatePin,
        Failure::Rejected(rejection) => return reject(rejection),
        Failure::Released => Event::ReleaseRequested,
        Failure::Ended(Cause::Peer(abort)) => return Signal::Abort { source: abort.source, reason: abort.reason },
        Failure::Ended(Cause::Rejected(rejection)) => return reject(rejection),
        Failure::Ended(Cause::TransportClosed) => Event::ConnectionReset,
        Failure::Ended(Cause::Idle | Cause::Artim) => Event::AssociationTimeout,
        Failure::Ended(Cause::Local) => Event::Stopping,
        Failure::Ended(_) | Failure::Send(_) => Event::AssociationProtocol,
    };
    Signal::Event(event)
}

fn reject(rejection: &idr_dimse::pdu::Rejection) -> Signal<'static> {
    Signal::Reject { result: rejection.result, source: rejection.source, reason: rejection.reason }
}
