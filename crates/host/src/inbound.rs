//! Associations that a peer opens: the driver of [`Acceptor`] over a connection. The machine decides, this file reads, writes and
//! runs timers; what the peer asks for comes out as [`Indication`], one after the other, and the owner answers.
//!
//! ```text
//!  loop ┬▶ indication() … until there is none ─▶ is_over()? ─▶ what the owner does by itself ─▶ wait(until) ─┐
//!       └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! # Bounds
//! ARTIM, silence in and between messages ([`Timeouts`]), the whole life of the connection, and a peer that reads nothing of
//! what is written (`Timeouts::receive`); the least pace of a message ([`Least`]). PDUs and messages: [`Limits`].
//!
//! # Standard
//! PS3.8 §9.2, acceptor.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use idr_dimse::association::acceptor::{Acceptor, Action, Answer, Event};
use idr_dimse::association::negotiation::{Implementation, Request};
use idr_dimse::association::{Cause, Context, SendError};
use idr_dimse::codec::{PduDecoder, data_header, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::CommandSet;
use idr_dimse::pdu::Pdu;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

mod least;

pub use least::Least;
use least::Pace;

/// Bytes gathered before they are written.
const GATHERED_MAX: usize = 65_536;

/// What the peer asks for, or that it asks no more.
#[derive(Debug)]
pub enum Indication {
    /// An association; to be answered with [`Channel::answer`] before anything else happens.
    Associate(Box<Request>),
    /// A command set; its data set follows if it says so.
    Command {
        /// Presentation context of the message.
        context_id: u8,
        /// The command set.
        command: CommandSet,
    },
    /// A fragment of the data set of the last command, as received.
    Data {
        /// Presentation context of the message.
        context_id: u8,
        /// The fragment, possibly empty.
        fragment: Bytes,
        /// Nothing follows: the data set is complete.
        last: bool,
    },
    /// The association ended: in good order, or for this reason. Whatever was incomplete stays so.
    Ended(Option<Cause>),
}

/// Why [`Channel::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The peer sent something, or a timer of the association ended: look for indications.
    Heard,
    /// The owner's instant has come, and the peer has sent nothing.
    Until,
    /// A message came below the least pace: the association is aborted, and what was incomplete stays so.
    TooSlow,
}

/// One connection and its association.
pub struct Channel<S> {
    stream: S,
    peer: IpAddr,
    decoder: PduDecoder,
    acceptor: Acceptor,
    actions: VecDeque<Action>,
    artim: Option<Instant>,
    least: Least,
    pace: Pace,
    /// The end of a silence that goes on.
    silent_until: Option<Instant>,
    /// Bytes to write, gathered so that a PDU leaves in one write.
    out: Vec<u8>,
    /// Longest write.
    progress: Duration,
    /// End of it all.
    end: Instant,
    over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// A connection that was just accepted; it ends after `life` at the latest.
    pub fn new((stream, peer): (S, IpAddr), implementation: Implementation, limits: Limits, timeouts: Timeouts, life: Duration) -> Self {
        let mut channel = Self {
            stream,
            peer,
            decoder: PduDecoder::new(limits),
            acceptor: Acceptor::new(implementation, limits, timeouts),
            actions: VecDeque::new(),
            artim: None,
            least: Least::ANY,
            pace: Pace::default(),
            silent_until: None,
            out: Vec::new(),
            progress: timeouts.receive,
            end: Instant::now() + life,
            over: false,
        };
        channel.feed(Event::TransportOpened);
        channel
    }

    /// A message that is under way must come at this pace.
    #[must_use]
    pub fn with_least(self, least: Least) -> Self {
        Self { least, ..self }
    }

    /// The next indication of what has been received; `None`: everything is done and written, and it is the peer's turn.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn indication(&mut self) -> io::Result<Option<Indication>> {
        loop {
            if let Some(indication) = self.act().await? {
                return Ok(Some(indication));
            }
            if self.over {
                return Ok(None);
            }
            match self.decoder.decode() {
                Ok(Some(pdu)) => self.feed(Event::Pdu(pdu)),
                Ok(None) => return Ok(None),
                Err(error) => {
                    if let Some(bound) = error.bound() {
                        tracing::warn!(bound, peer = %self.peer, "a bound was exceeded: association aborted");
                    }
                    self.feed(Event::Invalid(error));
                }
            }
        }
    }

    /// Writes what was sent, without a look at what the peer sent.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn flush(&mut self) -> io::Result<()> {
        while let Some(Action::Send(_)) = self.actions.front() {
            if let Some(Action::Send(pdu)) = self.actions.pop_front() {
                self.gather(pdu).await?;
            }
        }
        self.write().await
    }

    /// Waits for the peer, for a timer of the association, or for `until`. Bytes go first. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// The connection broke; the machine knows.
    pub async fn wait(&mut self, until: Option<Instant>) -> io::Result<Woken> {
        let idle = self.silent_until.take().or_else(|| self.acceptor.idle_limit().map(|limit| Instant::now() + limit));
        // A PDU that is not complete is the front of a message, or as good as one.
        let under_way = self.acceptor.is_receiving() || !self.acceptor.contexts().is_empty() && self.decoder.buffered() > 0;
        if !under_way {
            self.pace.rest();
        }
        let window = self.pace.left(self.least).filter(|_| under_way).map(|left| Instant::now() + left);
        let deadline = [until, idle, self.artim, window].into_iter().flatten().fold(self.end, Instant::min);
        // Bytes first: the timers are looked at only when the peer has sent nothing, except for the end of it all.
        let waiting = Instant::now();
        let read = if waiting >= self.end {
            None
        } else {
            tokio::select! {
                biased;
                read = self.stream.read_buf(self.decoder.buffer()) => Some(read),
                () = tokio::time::sleep_until(deadline) => None,
            }
        };
        let came = read.as_ref().and_then(|read| read.as_ref().ok()).copied().unwrap_or(0);
        if under_way && !self.pace.keeps(self.least, waiting.elapsed(), came) {
            tracing::warn!(
                peer = %self.peer, bytes_per_second = self.least.bytes_per_second, seconds = self.least.window.as_secs(),
                remedy = "if the device is honest and its network so slow, lower dimse.pace_bytes_per_second",
                "a message came below the least pace: association aborted"
            );
            self.feed(Event::Abort);
            return Ok(Woken::TooSlow);
        }
        let now = Instant::now();
        match read {
            Some(Ok(0)) => self.closed(),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.closed();
                return Err(error);
            }
            None if now >= self.end => {
                self.feed(Event::Abort);
                // Before and after an association there is nothing to abort.
                self.over |= self.actions.is_empty();
            }
            None if self.artim.is_some_and(|at| at <= now) => {
                self.artim = None;
                self.feed(Event::ArtimExpired);
            }
            None if until.is_some_and(|until| until <= now) => return Ok(Woken::Until),
            // A window of the least pace is over, and enough came in it.
            None if idle.is_some_and(|until| until > now) => self.silent_until = idle,
            None => self.feed(Event::IdleExpired),
        }
        Ok(Woken::Heard)
    }

    /// The connection is closed, or closes with what has been written: nothing comes any more.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Answers the request of an association.
    pub fn answer(&mut self, answer: Answer) {
        self.feed(Event::Answer(answer));
    }

    /// Ends the association; the peer is told.
    pub fn abort(&mut self) {
        self.feed(Event::Abort);
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[Context] {
        self.acceptor.contexts()
    }

    /// The accepted presentation context with this identifier.
    pub fn context(&self, id: u8) -> Option<&Context> {
        self.acceptor.context(id)
    }

    /// Sends a command set; it leaves with the next [`Channel::indication`] or [`Channel::flush`].
    ///
    /// # Errors
    /// As [`Acceptor::send_command`].
    pub fn send_command(&mut self, context_id: u8, command: &CommandSet) -> Result<(), SendError> {
        let mut actions = Vec::new();
        let sent = self.acceptor.send_command(context_id, command, &mut actions);
        self.actions.extend(actions);
        sent
    }

    /// Sends a piece of a data set, as [`Channel::send_command`].
    ///
    /// # Errors
    /// As [`Acceptor::send_data`].
    pub fn send_data(&mut self, context_id: u8, data: Bytes, last: bool) -> Result<(), SendError> {
        let mut actions = Vec::new();
        let sent = self.acceptor.send_data(context_id, data, last, &mut actions);
        self.actions.extend(actions);
        sent
    }

    /// The machine closes no connection that is closed.
    fn closed(&mut self) {
        self.feed(Event::TransportClosed);
        self.over = true;
    }

    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.acceptor.handle(event, &mut actions);
        self.actions.extend(actions);
    }

    /// Does what the machine says, up to the next indication.
    async fn act(&mut self) -> io::Result<Option<Indication>> {
        while let Some(action) = self.actions.pop_front() {
            let indication = match action {
                Action::Send(pdu) => {
                    self.gather(pdu).await?;
                    continue;
                }
                Action::StartArtim(limit) => {
                    self.artim = Some(Instant::now() + limit);
                    continue;
                }
                Action::StopArtim => {
                    self.artim = None;
                    continue;
                }
                Action::ReleaseRequested => {
                    self.feed(Event::ReleaseResponse);
                    continue;
                }
                Action::CloseTransport => {
                    self.over = true;
                    continue;
                }
                Action::Associate(request) => Indication::Associate(Box::new(request)),
                Action::Command { context_id, command } => Indication::Command { context_id, command },
                Action::Data { context_id, fragment, last } => Indication::Data { context_id, fragment, last },
                Action::Released => Indication::Ended(None),
                Action::Aborted(cause) => Indication::Ended(Some(cause)),
            };
            return Ok(Some(indication));
        }
        self.write().await?;
        Ok(None)
    }

    async fn gather(&mut self, pdu: Pdu) -> io::Result<()> {
        match pdu {
            Pdu::Data(pdvs) => {
                for pdv in &pdvs {
                    self.out.extend_from_slice(&data_header(pdv));
                    self.out.extend_from_slice(&pdv.data);
                }
            }
            pdu => encode(&pdu, &mut self.out).map_err(io::Error::other)?,
        }
        if self.out.len() > GATHERED_MAX { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (stream, out) = (&mut self.stream, &self.out);
        let written = tokio::time::timeout(self.progress, async {
            stream.write_all(out).await?;
            stream.flush().await
        });
        let result = written.await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")));
        self.out.clear();
        result
    }
}
