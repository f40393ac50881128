//! A relay between a site and its centre that writes down what they say to each other, and loses an answer when told to.
//!
//! It holds the keys of both sides, as only a test can: towards the site it is the centre, towards the centre it is the site.
//! HTTP/1.1 only, so that messages follow each other on a connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idr_profile::tls::{self, ClientAuth};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::files::edit;
use super::world::{World, tls_client};
use crate::fixtures::pki::Identity;

/// A running relay; it ends with the runtime.
pub struct Relay {
    record: Arc<Mutex<Record>>,
}

/// A request of the site and its answer, if one was passed on.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The request.
    pub asked: Message,
    /// The answer.
    pub answered: Option<Message>,
}

/// An HTTP message.
#[derive(Debug, Clone)]
pub struct Message {
    /// `Content-Type`; empty if there is none.
    pub content_type: String,
    /// Body.
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Record {
    connections: Vec<Connection>,
    /// The answer to the next request with these bytes is lost.
    losing: Option<&'static str>,
}

#[derive(Default)]
struct Connection {
    asked: Vec<u8>,
    /// Where in `asked` begins what was not answered yet.
    open_from: usize,
    answered: Vec<u8>,
}

impl Relay {
    /// Starts a relay for the first site of a world that is prepared, and makes it the site's centre from its next start on.
    ///
    /// # Errors
    /// Keys or configuration cannot be read or written, or no port is free.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let keys = world.folder().join("keys");
        let (server, client) = (Identity::read(&keys, "central")?, Identity::read(&keys, "site-1-client")?);
        let anchors = tls::certificates(&std::fs::read(world.pki.tls_anchor())?, "anchor")?;
        let (chain, key) = (std::fs::read(&server.certificate)?, std::fs::read(&server.key)?);
        let acceptor = TlsAcceptor::from(Arc::new(tls::server(&chain, &key, &anchors, ClientAuth::Required, &[b"http/1.1"])?));
        let connector = TlsConnector::from(Arc::new(tls_client(&client, &world.pki.tls_anchor(), &[b"http/1.1"])?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        world.site().program.configure(|table| edit(table, [("centre.url", url.into())]))?;
        let relay = Self { record: Arc::default() };
        let (record, central) = (relay.record.clone(), world.central.address);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connector, record) = (acceptor.clone(), connector.clone(), record.clone());
                tokio::spawn(async move { between(stream, &acceptor, &connector, central, &record).await });
            }
        });
        Ok(relay)
    }

    /// The answer to the next request with these bytes does not reach the site: the connection breaks instead.
    pub fn lose_answer_to(&self, request: &'static str) {
        lock(&self.record).losing = Some(request);
    }

    /// What was asked and answered, connection by connection, whole messages only.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let record = lock(&self.record);
        let of_connection = |connection: &Connection| {
            let mut answers = messages(&connection.answered).into_iter();
            messages(&connection.asked).into_iter().map(|asked| Exchange { asked, answered: answers.next() }).collect::<Vec<_>>()
        };
        record.connections.iter().flat_map(of_connection).collect()
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// Notes bytes of an answer; whether they are passed on.
    fn answer(&mut self, number: usize, bytes: &[u8]) -> bool {
        let connection = &mut self.connections[number];
        let open = &connection.asked[connection.open_from..];
        if self.losing.is_some_and(|request| find(open, request.as_bytes()).is_some()) {
            self.losing = None;
            return false;
        }
        connection.open_from = connection.asked.len();
        connection.answered.extend_from_slice(bytes);
        true
    }
}

async fn between(
    site: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    central: SocketAddr,
    record: &Mutex<Record>,
) -> std::io::Result<()> {
    let (mut from_site, mut to_site) = tokio::io::split(acceptor.accept(site).await?);
    let name = ServerName::try_from("localhost").expect("a host name");
    let (mut from_central, mut to_central) = tokio::io::split(connector.connect(name, TcpStream::connect(central).await?).await?);
    let number = {
        let mut record = lock(record);
        record.connections.push(Connection::default());
        record.connections.len() - 1
    };
    let forth = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let length = from_site.read(&mut buffer).await?;
            if length == 0 {
                return to_central.shutdown().await;
            }
            lock(record).connections[number].asked.extend_from_slice(&buffer[..length]);
            to_central.write_all(&buffer[..length]).await?;
            to_central.flush().await?;
        }
    };
    let back = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let length = from_central.read(&mut buffer).await?;
            if length == 0 {
                return to_site.shutdown().await;
            }
            if !lock(record).answer(number, &buffer[..length]) {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            to_site.write_all(&buffer[..length]).await?;
            to_site.flush().await?;
        }
    };
    tokio::try_join!(forth, back)?;
    Ok(())
}

fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((message, rest)) = message(bytes) {
        messages.push(message);
        bytes = rest;
    }
    messages
}

/// The first message and what follows it; `None` if it is not whole.
fn message(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let (head, rest) = split(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(head);
    let header = |name: &str| {
        let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let (body, rest) = match header("transfer-encoding") {
        Some(_) => chunks(rest)?,
        None => {
            let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            rest.split_at_checked(length).map(|(body, rest)| (body.to_vec(), rest))?
        }
    };
    Some((Message { content_type: header("content-type").unwrap_or_default(), body }, rest))
}

/// A chunked body without trailers, and what follows it.
fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = split(bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?.split(';').next()?.trim(), 16).ok()?;
        let (chunk, rest) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((body, bytes));
        }
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    find(bytes, at).map(|found| (&bytes[..found], &bytes[found + at.len()..]))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
