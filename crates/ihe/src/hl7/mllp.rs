//! MLLP: `0B` message `1C 0D` (HL7 transport appendix C).

/// Begins a message.
pub const START: u8 = 0x0b;
/// Ends a message, with [`CARRIAGE_RETURN`].
pub const END: u8 = 0x1c;
/// Follows [`END`].
pub const CARRIAGE_RETURN: u8 = 0x0d;

/// What a connection may send.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Bytes between two messages that are passed over.
    pub skipped_bytes_max: usize,
}

/// What came out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Vec<u8>),
    /// A message above the bound, and its beginning, from which it can be answered. The connection goes on.
    TooLarge(Vec<u8>),
}

/// Why nothing more is read from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unframed {
    /// More than [`FrameLimits::skipped_bytes_max`] between two messages.
    #[error("more than {0} bytes that belong to no message")]
    Skipped(usize),
    /// A message of more than [`OVERRUN`] times the bound: its end is not waited for.
    #[error("a message of more than {0} bytes")]
    Endless(usize),
}

/// How many times the bound a message that is too large is read on, so that it can be answered in order.
pub const OVERRUN: usize = 4;
/// Bytes of a message that is too large that are kept: its header.
const HEAD: usize = 4096;

/// Finds messages in a stream.
#[derive(Debug)]
pub struct Deframer {
    limits: FrameLimits,
    /// The message so far; `None` between messages.
    message: Option<Vec<u8>>,
    /// Bytes of a message that is too large, those kept included.
    length: usize,
    run: usize,
    skipped: u64,
}

impl Deframer {
    /// Between messages.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, message: None, length: 0, run: 0, skipped: 0 }
    }

    /// Whether a message has begun and has not ended.
    pub fn is_within(&self) -> bool {
        self.message.is_some()
    }

    /// Bytes that belonged to no message, so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes bytes from the front of `input` until a message is complete or `input` is empty.
    ///
    /// # Errors
    /// [`Unframed`]: the connection ends.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Unframed> {
        loop {
            if self.message.is_none() {
                let start = memchr::memchr(START, input);
                let passed = start.unwrap_or(input.len());
                self.run += passed;
                self.skipped += passed as u64;
                if self.run > self.limits.skipped_bytes_max {
                    return Err(Unframed::Skipped(self.limits.skipped_bytes_max));
                }
                let Some(start) = start else {
                    *input = &[];
                    return Ok(None);
                };
                *input = &input[start + 1..];
                (self.message, self.length, self.run) = (Some(Vec::new()), 0, 0);
            }
            let message = self.message.as_mut().expect("set above");
            // Up to and with the next CR: an end is 1C before it.
            let Some(at) = memchr::memchr(CARRIAGE_RETURN, input) else {
                take(message, &mut self.length, input, self.limits.message_bytes_max)?;
                *input = &[];
                return Ok(None);
            };
            let (part, rest) = input.split_at(at + 1);
            take(message, &mut self.length, part, self.limits.message_bytes_max)?;
            *input = rest;
            let over = self.length > self.limits.message_bytes_max + 2;
            // The tail of what is too large is kept beside its head.
            if message.ends_with(&[END, CARRIAGE_RETURN]) {
                let mut whole = self.message.take().unwrap_or_default();
                if over {
                    whole.truncate(HEAD);
                    return Ok(Some(Frame::TooLarge(whole)));
                }
                whole.truncate(whole.len() - 2);
                return Ok(Some(Frame::Message(whole)));
            }
        }
    }
}

fn take(message: &mut Vec<u8>, length: &mut usize, part: &[u8], bound: usize) -> Result<(), Unframed> {
    *length += part.len();
    if *length > bound.saturating_mul(OVERRUN) {
        return Err(Unframed::Endless(bound));
    }
    message.extend_from_slice(part);
    if *length > bound + 2 {
        // Head, and the last two bytes, in which the end shows.
        let tail = message.split_off(message.len().saturating_sub(2));
        message.truncate(HEAD);
        message.extend(tail);
    }
    Ok(())
}

/// The frame of a message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&[START], message, &[END, CARRIAGE_RETURN]].concat()
}
