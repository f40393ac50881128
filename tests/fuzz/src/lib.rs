//! What the fuzz targets share: seeds, inputs cut into pieces, small DICOM encoders, and a signer that is trusted.
//!
//! The targets check more than the absence of a panic: a stream gives the same result however it is cut, what is written
//! can be read back, what is signed here verifies.

pub mod dicom;
pub mod metadata;
pub mod trusted;

/// With `IDR_FUZZ_SEEDS` set to a folder: writes the target's seeds there and ends the process. The seeds come from the
/// target itself because a program built with the fuzzer's flags cannot be linked without the fuzzer.
///
/// # Panics
/// The folder cannot be written.
pub fn seeds(make: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("IDR_FUZZ_SEEDS").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder of the seeds can be made");
    for (number, seed) in make().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a seed can be written");
    }
    std::process::exit(0);
}

/// `bytes` in pieces of `length` bytes; 0: in one.
pub fn pieces(bytes: &[u8], length: u8) -> impl Iterator<Item = &[u8]> {
    let length = if length == 0 { bytes.len().max(1) } else { usize::from(length) };
    bytes.chunks(length)
}

/// The first byte and the rest; 0 and nothing for an empty input.
pub fn split(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// A seed: choices of the harness, then the bytes of the peer.
pub fn seed(choices: &[u8], bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [choices, bytes.as_ref()].concat()
}

/// The next line of `text`, for targets that make texts out of their input; empty when there is none.
pub struct Lines<'a>(std::str::Split<'a, char>);

impl<'a> Lines<'a> {
    /// Lines of a text.
    pub fn of(text: &'a str) -> Self {
        Self(text.split('\n'))
    }

    /// The next one.
    pub fn text(&mut self) -> String {
        self.0.next().unwrap_or_default().to_owned()
    }

    /// The next one; `None` if it is empty or there is none.
    pub fn option(&mut self) -> Option<String> {
        Some(self.text()).filter(|text| !text.is_empty())
    }
}
