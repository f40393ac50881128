//! How fast objects leave, and when (profile 10 §12 `wan.*`; 03 L-WINDOW).
//!
//! [`Plan`] says what the clock of the site allows now, [`Bucket`] how long so many bytes have to wait, both without a clock;
//! [`Pace`] is both for one peer, whatever carries the bytes: they are held back where they are read, by [`Paced`].
//!
//! # Bounds
//! Counted are the bytes of objects; manifests, queries and receipts are small and are not held back. A request that is under
//! way when its window ends goes on to its end, at the same rate; no other begins.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use idr_profile::receipt::Carried;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::clock::Clock;
use crate::config::{SendWindow, Wan};
use crate::spool::{Record, SpoolError, Stored};

/// What may be sent at once after a pause, in time at the rate in force.
const BURST: Duration = Duration::from_millis(100);
/// Slices of a second: so often bytes go out, and so fast a new rate is followed.
const SLICES: u64 = 8;
/// A slice is no larger: what the spool reads at once.
const SLICE_BYTES_MAX: usize = 256 << 10;

/// When, and how fast.
pub(super) struct Plan {
    zone: TimeZone,
    wan: Wan,
}

/// What is allowed at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    /// A request may begin.
    pub open: bool,
    /// Bytes a second; 0: any number.
    pub bytes_per_second: u64,
}

impl Plan {
    /// `zone` is that of the windows.
    pub fn new(wan: Wan, zone: TimeZone) -> Self {
        Self { zone, wan }
    }

    /// The first window that an instant is in decides; without windows it is always open.
    pub fn at(&self, now: Timestamp) -> Allowed {
        let general = self.wan.bytes_per_second;
        if self.wan.windows.is_empty() {
            return Allowed { open: true, bytes_per_second: general };
        }
        let local = self.zone.to_datetime(now);
        let (time, today) = (local.time(), local.weekday());
        let contains = |window: &&SendWindow| {
            let on = |day| window.days.is_empty() || window.days.iter().any(|listed| listed.weekday() == day);
            match window.from < window.until {
                true => on(today) && (window.from..window.until).contains(&time),
                // Over midnight, and with equal times a whole day: it belongs to the day on which it begins.
                false => on(today) && time >= window.from || on(today.previous()) && time < window.until,
            }
        };
        match self.wan.windows.iter().find(contains) {
            Some(window) => Allowed { open: true, bytes_per_second: window.bytes_per_second.unwrap_or(general) },
            None => Allowed { open: false, bytes_per_second: general },
        }
    }
}

/// What has been let go: a leaky bucket, in time.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// When all that was let go has gone, at the rates of then; monotonic.
    gone_at: Duration,
}

impl Bucket {
    /// How long so many bytes wait; they count as gone after that. Rate 0: no wait.
    pub fn take(&mut self, bytes: u64, bytes_per_second: u64, now: Duration) -> Duration {
        if bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let start = self.gone_at.max(now.saturating_sub(BURST));
        self.gone_at = start + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        start.saturating_sub(now)
    }
}

/// Plan and bucket of a peer.
pub(super) struct Pace {
    plan: ArcSwap<Plan>,
    bucket: Mutex<Bucket>,
    clock: Arc<dyn Clock>,
}

impl Pace {
    pub fn new(plan: Plan, clock: Arc<dyn Clock>) -> Self {
        Self { plan: ArcSwap::from_pointee(plan), bucket: Mutex::default(), clock }
    }

    pub fn reload(&self, plan: Plan) {
        self.plan.store(Arc::new(plan));
    }

    /// What is allowed now.
    pub fn allowed(&self) -> Allowed {
        self.plan.load().at(self.clock.now())
    }

    /// Returns when so many bytes may go.
    async fn pass(&self, bytes: u64) {
        let rate = self.allowed().bytes_per_second;
        let wait = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, rate, self.clock.monotonic());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Bytes that go at once: an even number, because a fragment of a data set has one (PS3.8 Annex E).
    fn slice(&self) -> usize {
        match self.allowed().bytes_per_second {
            0 => SLICE_BYTES_MAX,
            rate => usize::try_from(rate / SLICES).unwrap_or(usize::MAX).clamp(2, SLICE_BYTES_MAX) & !1,
        }
    }
}

/// An object that is read no faster than its bytes may leave.
pub(super) struct Paced {
    stored: Box<dyn Stored>,
    pace: Arc<Pace>,
    /// Read, and not let go yet.
    rest: Bytes,
    /// Bytes of the head, counted with the first of the data set.
    head: u64,
}

impl Paced {
    pub fn new(stored: Box<dyn Stored>, pace: Arc<Pace>) -> Self {
        let head = stored.head().len() as u64;
        Self { stored, pace, rest: Bytes::new(), head }
    }
}

#[async_trait]
impl Stored for Paced {
    fn record(&self) -> &Record {
        self.stored.record()
    }

    fn r1(&self) -> Option<&Carried> {
        self.stored.r1()
    }

    fn head(&self) -> Bytes {
        self.stored.head()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        if self.rest.is_empty() {
            match self.stored.next().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(None),
            }
        }
        let slice = self.rest.split_to(self.pace.slice().min(self.rest.len()));
        self.pace.pass(slice.len() as u64 + std::mem::take(&mut self.head)).await;
        Ok(Some(slice))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Day;
    use crate::forward::clock::SystemClock;
    use crate::spool::Spool as _;
    use crate::spool::sample::{announced, facts, hand_over, memory_spool};

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(windows: &str) -> Plan {
        let wan: Wan = toml::from_str(&format!("bytes_per_second = 1000\nwindows = [{windows}]")).expect("a section");
        Plan::new(wan, TimeZone::get("Europe/Helsinki").expect("bundled"))
    }

    fn open(plan: &Plan, instant: &str) -> bool {
        plan.at(instant.parse().expect("an instant")).open
    }

    #[test]
    fn a_window_is_one_of_the_local_clock_and_belongs_to_the_day_on_which_it_begins() {
        // Winter: UTC+2. 2026-11-23 is a Monday.
        let night = plan("{ days = [\"mon\"], from = \"18:00:00\", until = \"06:00:00\" }");
        for (instant, is_open) in [
            ("2026-11-23T15:59:59Z", false),
            ("2026-11-23T16:00:00Z", true),
            ("2026-11-24T03:59:59Z", true),
            ("2026-11-24T04:00:00Z", false),
            ("2026-11-24T16:00:00Z", false),
            ("2026-11-23T03:00:00Z", false),
        ] {
            assert_eq!(open(&night, instant), is_open, "{instant}");
        }
        let all_day = plan("{ days = [\"sat\"], from = \"00:00:00\", until = \"00:00:00\" }");
        assert!(open(&all_day, "2026-11-27T22:00:00Z") && open(&all_day, "2026-11-28T21:59:59Z"));
        assert!(!open(&all_day, "2026-11-27T21:59:59Z") && !open(&all_day, "2026-11-28T22:00:00Z"));
        assert!(open(&plan(""), "2026-11-24T12:00:00Z"), "without windows it is always open");
        assert_eq!(Day::Sun.weekday(), jiff::civil::Weekday::Sunday);
    }

    #[test]
    fn on_the_days_of_a_change_of_clocks_a_window_is_still_that_of_the_local_clock() {
        let early = plan("{ from = \"03:30:00\", until = \"04:30:00\" }");
        // 2026-03-29 03:00 becomes 04:00: half an hour of it is left.
        let minutes = |from: &str| {
            let start: Timestamp = from.parse().expect("an instant");
            (0..6 * 60).filter(|minute| early.at(start + Duration::from_secs(minute * 60)).open).count()
        };
        assert_eq!(minutes("2026-03-28T23:00:00Z"), 30);
        assert!(open(&early, "2026-03-29T01:00:00Z") && !open(&early, "2026-03-29T00:59:59Z"));
        // 2026-10-25 04:00 becomes 03:00: from 03:30 to 04:00 comes twice.
        assert_eq!(minutes("2026-10-24T23:00:00Z"), 90);
        assert_eq!(minutes("2026-06-09T23:00:00Z"), 60);
        // Over midnight and over the change.
        let night = plan("{ from = \"18:00:00\", until = \"06:00:00\" }");
        let hours = |from: &str| {
            let start: Timestamp = from.parse().expect("an instant");
            (0..24).filter(|hour| night.at(start + Duration::from_secs(hour * 3600)).open).count()
        };
        assert_eq!((hours("2026-03-28T12:00:00Z"), hours("2026-10-24T12:00:00Z"), hours("2026-06-09T12:00:00Z")), (11, 13, 12));
    }

    #[test]
    fn the_first_window_that_fits_says_the_rate() {
        let two =
            plan("{ from = \"20:00:00\", until = \"04:00:00\", bytes_per_second = 0 }, { from = \"00:00:00\", until = \"00:00:00\" }");
        let rate = |instant: &str| two.at(instant.parse().expect("an instant")).bytes_per_second;
        assert_eq!((rate("2026-11-24T19:00:00Z"), rate("2026-11-24T10:00:00Z")), (0, 1000));
    }

    #[test]
    fn a_bucket_lets_no_more_go_than_its_rate_and_its_burst_however_it_is_asked() {
        for (rate, sizes) in [(1_000_u64, [1_u64, 7, 125]), (1_250_000, [156_250, 1, 4096]), (100_000_000, [262_144, 65_536, 1])] {
            let (mut bucket, mut now, mut sent, mut turn) = (Bucket::default(), 10 * SECOND, 0_u64, 0_usize);
            let start = now;
            while now < start + 60 * SECOND {
                let bytes = sizes[turn % 3];
                now += bucket.take(bytes, rate, now);
                sent += bytes;
                turn += 1;
                // A line that stalls now and then: what was not sent meanwhile is not made up for beyond the burst.
                if turn.is_multiple_of(1000) {
                    now += SECOND;
                    let most = rate as f64 * (now - start + BURST).as_secs_f64() + 262_144.0;
                    assert!(sent as f64 <= most, "{sent} of {most}");
                }
            }
        }
        let mut bucket = Bucket::default();
        let (mut now, mut sent) = (Duration::ZERO, 0);
        while now < 60 * SECOND {
            now += bucket.take(12_500, 100_000, now);
            sent += 12_500;
        }
        assert!((5_900_000..=6_100_000).contains(&sent), "{sent} in a minute: it is not slower either");
        assert_eq!(Bucket::default().take(u64::MAX, 0, SECOND), Duration::ZERO, "no limit");
    }

    /// A fragment of a data set that is not the last has an even length, or the association ends (PS3.8 Annex E.1).
    #[test]
    fn whatever_the_rate_bytes_go_in_even_slices() {
        for rate in [0, 1, 8, 15, 24, 125_000, 999_999, u64::MAX] {
            let wan = Wan { bytes_per_second: rate, ..Wan::default() };
            let slice = Pace::new(Plan::new(wan, TimeZone::UTC), Arc::new(SystemClock::new(idr_host::now))).slice();
            assert!(slice >= 2 && slice.is_multiple_of(2) && slice <= SLICE_BYTES_MAX, "{rate}: {slice}");
        }
    }

    /// `make bench-wan` measures for a minute and demands 5 %; here only that it is never faster.
    #[tokio::test]
    async fn over_a_socket_no_more_goes_than_the_limit() {
        let long = std::env::var("IDR_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
        let (rate, seconds) = (2_000_000_u64, long.unwrap_or(2));
        let spool = memory_spool();
        let bytes = vec![0; usize::try_from(rate * seconds).expect("small")];
        let id = hand_over(&spool, announced(0), facts(0), &bytes).await.expect("taken").id;
        let wan = Wan { bytes_per_second: rate, ..Wan::default() };
        let pace = Pace::new(Plan::new(wan, TimeZone::UTC), Arc::new(SystemClock::new(idr_host::now)));
        let mut object = Paced::new(spool.read(id).await.expect("there"), Arc::new(pace));

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let reader = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let (start, mut received, mut chunk) = (Instant::now(), 0_u64, vec![0; 1 << 16]);
            loop {
                match socket.read(&mut chunk).await.expect("readable") {
                    0 => return (received, start.elapsed()),
                    bytes => received += bytes as u64,
                }
            }
        });
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("it listens");
        while let Some(bytes) = object.next().await.expect("readable") {
            socket.write_all(&bytes).await.expect("it reads");
        }
        drop(socket);
        let (received, took) = reader.await.expect("it ends");
        let measured = received as f64 / took.as_secs_f64();
        println!(
            "limit {rate} bytes/s, {received} bytes in {:.2} s: {measured:.0} bytes/s, {:.3} of the limit",
            took.as_secs_f64(),
            measured / rate as f64
        );
        assert_eq!(received, rate * seconds);
        let least = Duration::from_secs_f64(received as f64 / rate as f64).saturating_sub(BURST + SECOND / 4);
        assert!(took >= least, "{took:?}: faster than the limit");
        if long.is_some() {
            assert!((0.95..=1.05).contains(&(measured / rate as f64)), "{measured}");
        }
    }
}
