//! Size of the image inside a compressed stream, read while its first frame passes by (PS3.5 §8.2).

/// What the stream says of its image. 0: it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Geometry {
    /// Columns.
    pub width: u32,
    /// Rows; 0 in a JPEG stream that says it behind the first scan.
    pub height: u32,
    /// Samples per pixel; 0 in MPEG-2.
    pub components: u32,
    /// Bits of a sample; 0 in MPEG-2.
    pub precision: u32,
}

/// Longest front that is looked at in one piece: SOC and SIZ of JPEG 2000 with one component.
const FRONT_BYTES: usize = 43;

/// Reads JPEG and JPEG-LS (frame header), JPEG 2000 (SIZ) and MPEG-2 (sequence header); of any other stream nothing.
/// Segments before the frame header are passed over, so that nothing but a few bytes is kept.
#[derive(Clone, PartialEq, Default)]
pub(super) struct Codestream {
    state: State,
    /// What was not done with yet, ≤ [`FRONT_BYTES`].
    front: Vec<u8>,
    /// Bytes to be passed over.
    skip: usize,
    geometry: Option<Geometry>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Start,
    /// A marker of JPEG.
    Marker,
    Ended,
}

/// What is to be done with the bytes at hand.
enum Next {
    /// So many are needed.
    More(usize),
    /// So many are done with.
    Past(usize),
    End(Option<Geometry>),
}

impl Codestream {
    pub(super) fn geometry(&self) -> Option<Geometry> {
        self.geometry
    }

    /// The next bytes of the first frame. Costs nothing once the size was read.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        let mut needed = self.front.len() + 1;
        while self.state != State::Ended && !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            let taken = needed.saturating_sub(self.front.len()).min(bytes.len());
            self.front.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.skip > 0 || self.front.len() < needed {
                return;
            }
            match self.next() {
                Next::More(more) => needed = more.min(FRONT_BYTES),
                Next::Past(past) => {
                    self.skip = past.saturating_sub(self.front.len());
                    self.front.drain(..past.min(self.front.len()));
                    needed = self.front.len() + 1;
                }
                Next::End(geometry) => (self.state, self.geometry) = (State::Ended, geometry),
            }
        }
    }

    fn next(&mut self) -> Next {
        let front = self.front.as_slice();
        let be16 = |at: usize| u32::from(u16::from_be_bytes([front[at], front[at + 1]]));
        let be32 = |at: usize| be16(at) << 16 | be16(at + 2);
        match (self.state, front) {
            (State::Start, front) if front.len() < 4 => Next::More(4),
            (State::Start, [0xFF, 0xD8, ..]) => {
                self.state = State::Marker;
                Next::Past(2)
            }
            (State::Start, [0xFF, 0x4F, 0xFF, 0x51, ..]) if front.len() < FRONT_BYTES => Next::More(FRONT_BYTES),
            // SOC, SIZ, Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, four tile fields, Csiz, Ssiz (ISO/IEC 15444-1 §A.5.1).
            (State::Start, [0xFF, 0x4F, 0xFF, 0x51, ..]) => Next::End(Some(Geometry {
                width: be32(8).saturating_sub(be32(16)),
                height: be32(12).saturating_sub(be32(20)),
                components: be16(40),
                precision: u32::from(front[42] & 0x7F) + 1,
            })),
            (State::Start, [0, 0, 1, 0xB3, ..]) if front.len() < 7 => Next::More(7),
            (State::Start, [0, 0, 1, 0xB3, a, b, c]) => {
                let [a, b, c] = [a, b, c].map(|byte| u32::from(*byte));
                Next::End(Some(Geometry { width: a << 4 | b >> 4, height: (b & 15) << 8 | c, ..Geometry::default() }))
            }
            (State::Marker, [_]) => Next::More(2),
            // Fill before a marker.
            (State::Marker, [0xFF, 0xFF, ..]) => Next::Past(1),
            // TEM and restart markers stand alone.
            (State::Marker, [0xFF, 0x01 | 0xD0..=0xD7, ..]) => Next::Past(2),
            // The image ends, or its samples begin, without a frame header.
            (State::Marker, [0xFF, 0xD8..=0xDA, ..]) => Next::End(None),
            // A frame header: SOF0 to SOF15 without DHT, JPG and DAC; SOF55 of JPEG-LS.
            (State::Marker, [0xFF, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7, ..]) if front.len() < 10 => Next::More(10),
            (State::Marker, [0xFF, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7, ..]) => Next::End(Some(Geometry {
                width: be16(7),
                height: be16(5),
                components: u32::from(front[9]),
                precision: u32::from(front[4]),
            })),
            (State::Marker, [0xFF, ..]) if front.len() < 4 => Next::More(4),
            (State::Marker, [0xFF, ..]) if be16(2) >= 2 => Next::Past(2 + be16(2) as usize),
            _ => Next::End(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Option<Geometry> {
        let mut stream = Codestream::default();
        bytes.chunks(step).for_each(|chunk| stream.feed(chunk));
        stream.geometry()
    }

    #[test]
    fn the_size_is_read_however_the_bytes_are_cut() {
        // SOI, APP0 of 300 bytes, fill, SOF3: 12 bits, 500 × 512, one component.
        let app: Vec<u8> = [&[0xFF, 0xE0, 1, 44][..], &[0xFF; 298]].concat();
        let jpeg = [&[0xFF, 0xD8][..], &app, &[0xFF, 0xFF, 0xC3, 0, 11, 12, 1, 0xF4, 2, 0, 1, 1, 0x11, 0]].concat();
        let mut siz = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        for number in [522_u32, 505, 10, 5, 522, 505, 0, 0] {
            siz.extend_from_slice(&number.to_be_bytes());
        }
        siz.extend_from_slice(&[0, 3, 0x8B, 1, 1]);
        for step in [1, 2, 3, 7, 43, 1000] {
            let size = |components, precision| Some(Geometry { width: 512, height: 500, components, precision });
            assert_eq!(read(&jpeg, step), size(1, 12), "{step}");
            assert_eq!(read(&siz, step), size(3, 12), "{step}");
            assert_eq!(read(&[0, 0, 1, 0xB3, 0x20, 0x01, 0xF4, 0x13], step), size(0, 0), "{step}");
        }
    }

    #[test]
    fn of_anything_else_nothing_is_said() {
        for bytes in
            [&b""[..], b"\xFF", b"\xFF\xD8\xFF\xD9", b"\xFF\xD8\x00\x01\x02\x03", b"\xFF\xD8\xFF\xE0\x00\x01", b"\0\0\0\x01gstream"]
        {
            assert_eq!(read(bytes, 1), None, "{bytes:?}");
        }
    }
}
