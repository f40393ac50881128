//! A sender of HL7 messages, on a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use idr_ihe::hl7::mllp::{Deframer, Frame, FrameLimits, frame};
use idr_ihe::hl7::{Charset, Header, Limits, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
pub struct Sender {
    stream: Box<dyn Stream>,
    deframer: Deframer,
    rest: Vec<u8>,
}

impl Sender {
    /// Connects, in plain or with a client certificate.
    ///
    /// # Errors
    /// No connection, or no handshake.
    pub async fn connect(address: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(config) => Box::new(TlsConnector::from(config).connect("localhost".try_into()?, stream).await?),
        };
        let limits = FrameLimits { message_bytes_max: 1 << 20, skipped_bytes_max: 16 };
        Ok(Self { stream, deframer: Deframer::new(limits), rest: Vec::new() })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next answer: MSA-1, MSA-2 and the codes of its ERR segments, separated by blanks.
    ///
    /// # Errors
    /// The connection ended, or nothing came for 15 s.
    pub async fn answer(&mut self) -> anyhow::Result<String> {
        let mut buffer = vec![0; 8192];
        loop {
            let mut input = self.rest.as_slice();
            let found = self.deframer.push(&mut input)?;
            self.rest = input.to_vec();
            if let Some(Frame::Message(message)) = found {
                return read(&message);
            }
            let length = tokio::time::timeout(Duration::from_secs(15), self.stream.read(&mut buffer)).await.context("no answer")??;
            if length == 0 {
                bail!("the connection ended");
            }
            self.rest.extend(&buffer[..length]);
        }
    }

    /// Sends a message and waits for its answer, which names its MSH-10; the rest of it is given.
    ///
    /// # Errors
    /// As [`Sender::send`] and [`Sender::answer`]; an answer to another message.
    pub async fn tell(&mut self, message: &str) -> anyhow::Result<String> {
        self.send(&frame(message.as_bytes())).await?;
        let answer = self.answer().await?;
        let id = Header::read(message.as_bytes())?.component(10, 1);
        let (code, rest) = answer.split_once(' ').context("no MSA-2")?;
        let rest = rest.strip_prefix(id.as_str()).with_context(|| format!("an answer to another message: {answer}"))?;
        Ok(format!("{code}{rest}"))
    }
}

fn read(answer: &[u8]) -> anyhow::Result<String> {
    let header = Header::read(answer)?;
    let message = Message::read(answer, &header, Charset::Utf8, &Limits::default())?;
    let mut said = Vec::new();
    for segment in message.segments() {
        match segment.name() {
            "MSA" => said.extend([segment.field(1).value(), segment.field(2).value()]),
            "ERR" => said.push(segment.field(5).component(1).value()),
            _ => {}
        }
    }
    Ok(said.join(" ").trim_end().to_owned())
}
