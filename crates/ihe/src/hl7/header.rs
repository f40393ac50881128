//! MSH: how the message is written, and what an answer repeats of it. Read before the character set is known.

/// The five separators (HL7 §2.5.4). Each is one ASCII punctuation character, all different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Separators {
    /// Between fields.
    pub field: u8,
    /// Between components.
    pub component: u8,
    /// Between repetitions.
    pub repetition: u8,
    /// Begins and ends an escape.
    pub escape: u8,
    /// Between subcomponents.
    pub subcomponent: u8,
}

impl Default for Separators {
    fn default() -> Self {
        Self { field: b'|', component: b'^', repetition: b'~', escape: b'\\', subcomponent: b'&' }
    }
}

/// Why a frame is no HL7 message: there is nothing that an answer could repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin with MSH.
    #[error("the message does not begin with an MSH segment")]
    NoHeader,
    /// MSH-1 and MSH-2 are not five different punctuation characters.
    #[error("MSH-1 and MSH-2 are not five different separators")]
    Separators,
}

/// The MSH segment, as bytes. `Debug` shows no value.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    separators: Separators,
    /// MSH-3 and after.
    fields: Vec<Vec<u8>>,
}

/// Fields of MSH that are kept: MSH-21 is the last of 2.5.1.
const LAST: usize = 25;

impl Header {
    /// Reads the first segment.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn read(frame: &[u8]) -> Result<Self, HeaderError> {
        let segment = frame.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let rest = segment.strip_prefix(b"MSH").ok_or(HeaderError::NoHeader)?;
        let (field, rest) = rest.split_first().ok_or(HeaderError::Separators)?;
        let mut parts = rest.split(|byte| byte == field);
        // A fifth character (the truncation character of 2.7) is not used.
        let [component, repetition, escape, subcomponent, ..] = *parts.next().unwrap_or_default() else {
            return Err(HeaderError::Separators);
        };
        let all = [*field, component, repetition, escape, subcomponent];
        let distinct = all.iter().enumerate().all(|(n, one)| one.is_ascii_punctuation() && !all[..n].contains(one));
        if !distinct {
            return Err(HeaderError::Separators);
        }
        let separators = Separators { field: *field, component, repetition, escape, subcomponent };
        Ok(Self { separators, fields: parts.take(LAST - 2).map(<[u8]>::to_vec).collect() })
    }

    /// The separators.
    pub fn separators(&self) -> &Separators {
        &self.separators
    }

    /// MSH-`n`, from 3 on, as it was sent; empty if it is absent.
    pub fn field(&self, n: usize) -> &[u8] {
        n.checked_sub(3).and_then(|at| self.fields.get(at)).map_or(&[], Vec::as_slice)
    }

    /// Component `c` of the first repetition of MSH-`n`, for values of ASCII: codes, versions.
    pub fn component(&self, n: usize, c: usize) -> String {
        let repetition = self.field(n).split(|byte| *byte == self.separators.repetition).next().unwrap_or_default();
        let part = c.checked_sub(1).and_then(|at| repetition.split(|byte| *byte == self.separators.component).nth(at));
        part.unwrap_or_default().iter().map(|byte| char::from(*byte)).collect()
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Header").field("separators", &self.separators).finish_non_exhaustive()
    }
}
