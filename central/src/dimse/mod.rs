//! DICOM over TLS: PACS and gateways store by C-STORE (profile 10 F06, §2.3, §8).
//!
//! ```text
//!  TLS handshake ─▶ A-ASSOCIATE-RQ ─▶ admission: row of the certificate, AE title, user identity ─▶ who asks
//!                   C-STORE-RQ ─▶ is the identity still good? ─▶ archive::receive, the way of STOW-RS ─▶ C-STORE-RSP
//! ```
//! Every association is mutual TLS. What it may do beyond C-ECHO stands in the row of its certificate and in the assertion that
//! it carries as user identity: one for the whole association, so all that it stores is of one patient (04 §10.4).
//!
//! [`commitment`] tells peers what of theirs is safe here.
//!
//! # Failure
//! A success leaves after the object is durable and its row and R3 are committed. An association that ends early discards the
//! instance in flight and nothing else (01 D014). At a stop the message in flight is answered, then the association ends.
//!
//! # Bounds
//! `[dimse]` of the configuration (BD-01 … BD-09), D005 of the rule set; instances on their way as for STOW-RS.

mod admission;
mod association;
pub mod commitment;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_dimse::association::negotiation::Implementation;
use idr_dimse::limits::{Limits, Timeouts};
use idr_host::accept::{self, Holding};
use idr_host::places::{Connections, Place, Places};
use idr_ihe::manifest::IMPLEMENTATION_CLASS_UID;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::central::Central;
use crate::config::Config;
use crate::https::server::Client;
use association::Association;
use commitment::Commitments;

/// Implementation Version Name.
pub const IMPLEMENTATION_VERSION_NAME: &str = "IDR_CENTRAL";

/// What all associations share.
pub struct Dimse {
    central: Arc<Central>,
    commitments: Arc<Commitments>,
    associations: Places,
}

impl Dimse {
    /// Over this centre.
    pub fn new(central: Arc<Central>, commitments: Arc<Commitments>) -> Self {
        Self { central, commitments, associations: Places::default() }
    }

    fn timeouts(&self) -> Timeouts {
        let config = &self.central.config.dimse;
        let receive = self.central.rules_in_force().map_or(60, |rules| rules.parameters().receive_idle_s);
        Timeouts {
            artim: Duration::from_secs(config.artim_seconds),
            between_messages: Duration::from_secs(config.idle_seconds),
            receive: Duration::from_secs(u64::from(receive)),
            ..Timeouts::default()
        }
    }
}

fn limits(config: &Config) -> Limits {
    Limits { pdu_length_max: config.dimse.pdu_length_max, ..Limits::default() }
}

/// Who the centre is to its peers.
fn implementation() -> Implementation {
    Implementation { class_uid: IMPLEMENTATION_CLASS_UID.to_owned(), version_name: Some(IMPLEMENTATION_VERSION_NAME.to_owned()) }
}

/// Accepts connections until `stop` is cancelled, then waits for the messages in flight.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    dimse: Arc<Dimse>,
    connections: Connections,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    accept::serve(listener, (&connections, Holding::Replaceable), &tasks, &stop, |stream, address, place| {
        let (config, dimse, connections, stop) = (tls.load_full(), dimse.clone(), connections.clone(), stop.clone());
        async move { connection(stream, address, (config, &connections), place, dimse, stop).await }
    })
    .await;
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    (config, connections): (Arc<ServerConfig>, &Connections),
    place: Place,
    dimse: Arc<Dimse>,
    stop: CancellationToken,
) {
    let peer: IpAddr = address.ip();
    let limit = Duration::from_secs(dimse.central.config.dimse.handshake_seconds);
    let Some(stream) = accept::handshake(stream, peer, config, connections, limit).await else { return };
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|c| c.clone().into_owned()) else {
        tracing::error!(code = "IDR-T-04", %peer, "TLS connection without a client certificate closed");
        return;
    };
    let client = Client { sha256: idr_profile::tls::fingerprint(&certificate).into(), certificate, address };
    if let Err(error) = Association::new(stream, client, place, dimse, stop).run().await {
        tracing::info!(%peer, cause = %error, "connection broke");
    }
}
