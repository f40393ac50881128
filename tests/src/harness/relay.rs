//! A relay between a site and its centre that writes down what the site sends.
//!
//! It holds the keys of both sides, as only a test can: towards the site it is the centre, towards the centre it is the site.
//! HTTP/1.1 only, so that a request stands in the record as one piece.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use idr_profile::tls::{self, ClientAuth};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::world::{World, tls_client};
use crate::fixtures::pki::Identity;

/// A running relay; it ends with the runtime.
pub struct Relay {
    /// Where the site finds it.
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    /// Starts a relay for the first site of a world that is prepared; the site is then to be configured with
    /// [`Relay::address`] as its centre.
    ///
    /// # Errors
    /// Keys cannot be read, or no port is free.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let keys = world.folder().join("keys");
        let (server, client) = (Identity::read(&keys, "central")?, Identity::read(&keys, "site-1-client")?);
        let anchors = tls::certificates(&std::fs::read(world.pki.tls_anchor())?, "anchor")?;
        let (chain, key) = (std::fs::read(&server.certificate)?, std::fs::read(&server.key)?);
        let acceptor = TlsAcceptor::from(Arc::new(tls::server(&chain, &key, &anchors, ClientAuth::Required, &[b"http/1.1"])?));
        let connector = TlsConnector::from(Arc::new(tls_client(&client, &world.pki.tls_anchor(), &[b"http/1.1"])?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let relay = Self { address: listener.local_addr()?, sent: Arc::default() };
        let (sent, central) = (relay.sent.clone(), world.central.address);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connector, sent) = (acceptor.clone(), connector.clone(), sent.clone());
                tokio::spawn(async move { between(stream, &acceptor, &connector, central, &sent).await });
            }
        });
        Ok(relay)
    }

    /// The SOAP envelopes that went through, whole.
    pub fn envelopes(&self) -> Vec<Vec<u8>> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&sent);
        let ends = text.match_indices("</env:Envelope>");
        ends.filter_map(|(end, close)| text[..end].rfind("<env:Envelope").map(|begin| text[begin..end + close.len()].as_bytes().to_vec()))
            .collect()
    }
}

async fn between(
    site: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    central: SocketAddr,
    sent: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let (mut from_site, mut to_site) = tokio::io::split(acceptor.accept(site).await?);
    let name = ServerName::try_from("localhost").expect("a host name");
    let (mut from_central, mut to_central) = tokio::io::split(connector.connect(name, TcpStream::connect(central).await?).await?);
    let forth = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let length = from_site.read(&mut buffer).await?;
            if length == 0 {
                return to_central.shutdown().await;
            }
            sent.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            to_central.write_all(&buffer[..length]).await?;
            to_central.flush().await?;
        }
    };
    tokio::try_join!(forth, tokio::io::copy(&mut from_central, &mut to_site))?;
    Ok(())
}
