//! When and how fast objects leave (profile 10 §12 `wan.*`).

use jiff::civil::{Time, Weekday};
use serde::{Deserialize, Serialize};

/// Slowest rate, bytes a second: below it a peer that bounds the pace of a body would end every request.
const RATE_MIN: u64 = 1024;
/// Windows of a site.
const WINDOWS_MAX: usize = 64;

/// Section `[wan]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wan {
    /// Most bytes of objects a second; 0: any number.
    pub bytes_per_second: u64,
    /// Objects are sent in these alone; none: at any time.
    pub windows: Vec<SendWindow>,
}

/// A window, by the local clock of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendWindow {
    /// On which it begins; none: every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Its beginning.
    pub from: Time,
    /// Its end, which is outside; not after `from`: on the next day.
    pub until: Time,
    /// In place of that of the section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// As the calendar has it.
    pub fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

impl Wan {
    /// Bounds the rates and the number of windows; gives key and problem.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let rates = std::iter::once(self.bytes_per_second).chain(self.windows.iter().filter_map(|window| window.bytes_per_second));
        if let Some(rate) = rates.into_iter().find(|rate| (1..RATE_MIN).contains(rate)) {
            return Err(("wan.bytes_per_second", format!("{rate} is below {RATE_MIN}; 0 sets no limit")));
        }
        if self.windows.len() > WINDOWS_MAX {
            return Err(("wan.windows", format!("are more than {WINDOWS_MAX}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_no_peer_would_bear_is_a_fault() {
        let wan = |text: &str| toml::from_str::<Wan>(text).expect("a section").check().map_err(|(key, _)| key);
        assert_eq!(wan("bytes_per_second = 0"), Ok(()));
        assert_eq!(wan("bytes_per_second = 1024"), Ok(()));
        assert_eq!(wan("bytes_per_second = 1023"), Err("wan.bytes_per_second"));
        let window = "[[windows]]\nfrom = \"18:00:00\"\nuntil = \"06:00:00\"\nbytes_per_second = 5\n";
        assert_eq!(wan(window), Err("wan.bytes_per_second"));
        assert!(toml::from_str::<Wan>("[[windows]]\nfrom = \"18:00:00\"\nuntil = \"25:00:00\"\n").is_err());
        assert!(toml::from_str::<Wan>("[[windows]]\ndays = [\"monday\"]\nfrom = \"18:00:00\"\nuntil = \"06:00:00\"\n").is_err());
    }
}
