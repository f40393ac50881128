//! Identifiers of receipts: UUIDv7 (RFC 9562 §5.7), strictly rising within one holder.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

/// Gives each receipt of one holder an id greater than the one before, also when the clock stands still or goes back.
///
/// The 42 bits after the millisecond are a counter (RFC 9562 §6.2, method 1) that starts below its half at a random
/// value; the last 32 bits are random.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    last: Option<(u64, u64)>,
}

const COUNTER_BITS: u32 = 42;

impl Ids {
    /// Goes on after the greatest id of this holder that is durable; `None` for a new holder.
    pub fn after(last: Option<Uuid>) -> Self {
        Self { last: last.map(split) }
    }

    /// The next id. `random` is fresh for each call.
    pub fn next(&mut self, now: Timestamp, random: [u8; 10]) -> Uuid {
        let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let random = random.iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
        let fresh = u64::try_from(random >> 32 & ((1 << (COUNTER_BITS - 1)) - 1)).expect("41 bits");
        let (millisecond, counter) = match self.last {
            Some((last, counter)) if now <= last => match counter + 1 {
                next if next >> COUNTER_BITS == 0 => (last, next),
                _ => (last + 1, fresh),
            },
            _ => (now, fresh),
        };
        self.last = Some((millisecond, counter));
        join(millisecond, counter, u32::try_from(random & 0xFFFF_FFFF).expect("32 bits"))
    }
}

/// 48 bits millisecond, version, 12 bits of the counter, variant, 30 bits of the counter, 32 bits random.
fn join(millisecond: u64, counter: u64, random: u32) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millisecond.to_be_bytes()[2..]);
    bytes[6..8].copy_from_slice(&u16::try_from(counter >> 30 & 0xFFF).expect("12 bits").to_be_bytes());
    bytes[8..12].copy_from_slice(&u32::try_from(counter & 0x3FFF_FFFF).expect("30 bits").to_be_bytes());
    bytes[12..].copy_from_slice(&random.to_be_bytes());
    Builder::from_custom_bytes(bytes).with_version(uuid::Version::SortRand).into_uuid()
}

fn split(id: Uuid) -> (u64, u64) {
    let bits = id.as_u128();
    let part = |shift: u32, width: u32| u64::try_from(bits >> shift & ((1 << width) - 1)).expect("at most 48 bits");
    (part(80, 48), part(64, 12) << 30 | part(32, 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).expect("in range")
    }

    #[test]
    fn ids_rise_when_the_clock_stands_goes_back_and_after_a_restart() {
        let mut ids = Ids::default();
        let mut last = ids.next(at(1_768_465_661_000), [0xFF; 10]);
        for step in [0_i64, 0, -5_000, 1, 0, -1, 10_000] {
            for random in [[0; 10], [0xFF; 10], [7; 10]] {
                let next = ids.next(at(1_768_465_661_000 + step), random);
                assert!(next > last, "step {step}");
                assert_eq!(next.get_version_num(), 7);
                assert_eq!(next.get_variant(), uuid::Variant::RFC4122);
                last = next;
                ids = Ids::after(Some(last));
            }
        }
    }

    #[test]
    fn a_full_counter_moves_to_the_next_millisecond() {
        let full = join(1_000, (1 << COUNTER_BITS) - 1, 9);
        let next = Ids::after(Some(full)).next(at(1_000), [0; 10]);
        assert!(next > full);
        assert_eq!(split(next).0, 1_001);
    }

    #[test]
    fn the_time_can_be_read_from_the_id() {
        let id = Ids::default().next(at(1_768_465_661_123), [3; 10]);
        assert_eq!(id.get_timestamp().map(|t| t.to_unix()), Some((1_768_465_661, 123_000_000)));
    }
}
