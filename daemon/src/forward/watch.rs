//! What is looked at beside the rounds: the centre's clock, the age of what waits, suspensions, what is held (profile 03 §2.2,
//! §2.4.5, §2.6).

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use idr_profile::outcome::AgeAlarm;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Forward;
use super::clock::Level;
use super::gate::Channel;
use crate::spool::SpoolError;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Objects of a state that are asked for their age, the first that came first.
const ASKED: usize = 100;

impl Forward {
    /// Looks until stopped.
    pub(super) async fn watch(&self, stop: &CancellationToken) {
        if let Err(error) = self.reclamp().await {
            tracing::error!(cause = %error, remedy = error.remedy(), "due times cannot be looked through; those that a wrong clock left wait");
        }
        while !stop.is_cancelled() {
            if AssertUnwindSafe(self.watch_round()).catch_unwind().await.is_err() {
                tracing::error!("a look at ages and clocks ended by a fault; report it with the version of the program");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// One look.
    pub(super) async fn watch_round(&self) {
        let suspended = {
            let breakers = self.breakers();
            [Channel::Stow, Channel::Soap, Channel::Dimse].into_iter().any(|channel| breakers.is_open(channel))
        };
        let old = self.drift().is_old(self.clock.monotonic(), &self.outcomes.clock);
        // Answers of requests measure too; a centre that is away is not asked. While the clock lets no request pass, nothing
        // else measures: no breaker gets its probe then.
        if old && (!suspended || self.clock_level() == Level::Stop) {
            let ahead = self.link().peer.clock().await;
            self.heard_clock(ahead);
        }
        // Ours may have been put right, or wrong.
        self.tell_clock();
        self.tell_suspensions();
        if let Err(error) = self.probe_holds().await {
            tracing::error!(cause = %error, remedy = error.remedy(), "what waits for an operator cannot be tried again now");
        }
        match self.oldest().await {
            Ok(oldest) => self.tell_age(oldest),
            Err(error) => tracing::error!(cause = %error, remedy = error.remedy(), "the age of the queue cannot be read"),
        }
    }

    /// Since when the longest waiting thing waits for the centre: an object to be sent or committed, or a manifest whose
    /// attempts fail.
    async fn oldest(&self) -> Result<Option<Timestamp>, SpoolError> {
        let mut oldest = self.memory().agenda.values().filter_map(|turn| turn.failing_since).min();
        for tenant in &self.tenants {
            for state in ["queued", "sent"] {
                let page = self.spool.in_state(tenant, state, None, ASKED).await?;
                oldest = page.iter().map(|entry| entry.progress.since).chain(oldest).min();
            }
        }
        Ok(oldest)
    }

    fn tell_age(&self, oldest: Option<Timestamp>) {
        let age = self.memory().aging.look(oldest, self.clock.now(), self.clock.monotonic());
        let alarm = self.outcomes.ages.alarm(age);
        let told = std::mem::replace(&mut self.memory().age_told, alarm);
        if alarm <= told {
            return;
        }
        let (peer, hours) = (&self.peer_name, age.as_secs() / 3600);
        match alarm {
            Some(AgeAlarm::Page) => tracing::error!(
                peer,
                hours,
                "something waits for the centre for more than a day; nothing is lost; see `idr-site queue list`"
            ),
            Some(AgeAlarm::Warn) => tracing::warn!(peer, hours, "something waits for the centre for more than an hour; nothing is lost"),
            None => {}
        }
    }

    /// Highest age alarm that stands.
    #[cfg(test)]
    pub(super) fn age_alarm(&self) -> Option<AgeAlarm> {
        self.memory().age_told
    }
}
