//! What a monitor is told: whether requests are taken, and counters. No label names a rule that omitted (05 §10).

use std::fmt;

use idr_host::monitor::{Monitored, Page};

use crate::central::Central;

/// Why requests that store or disclose are refused now, if they are.
pub fn refusing(central: &Central) -> Option<String> {
    if let Some(reason) = central.audit.refusing() {
        return Some(format!("the audit store takes no records: {reason}"));
    }
    if let Some(reason) = central.store.refusing() {
        return Some(reason.to_owned());
    }
    if central.space.is_short() {
        return Some("less than storage.reserve_bytes is left: stores are refused (IDR-B-03)".to_owned());
    }
    central.rules_in_force().is_none().then(|| "no rule set of central.rule_sets is in force: stores are refused".to_owned())
}

impl Monitored for Central {
    fn refusing(&self) -> Option<String> {
        refusing(self)
    }

    fn metrics(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.counters;
        let instances = [
            ("stored", &counters.instances_stored),
            ("duplicate", &counters.instances_duplicate),
            ("refused", &counters.instances_refused),
            ("failed", &counters.instances_failed),
            ("sent", &counters.instances_sent),
        ];
        let instances = instances.map(|(result, counter)| ([("result", result)], counter.value()));
        page.counters("idr_central_instances_total", "Instances, by what became of them.", instances)?;
        page.counter("idr_central_stored_bytes_total", "Data set bytes of instances stored.", counters.bytes_stored.value())?;
        let associations = [("accepted", &counters.associations_accepted), ("rejected", &counters.associations_rejected)];
        let associations = associations.map(|(result, counter)| ([("result", result)], counter.value()));
        page.counters("idr_central_associations_total", "Associations asked for.", associations)?;
        let answers = (1..).zip(&counters.answers).map(|(hundred, counter)| ([("status", format!("{hundred}xx"))], counter.value()));
        page.counters("idr_central_answers_total", "HTTP answers, by their hundred.", answers)?;
        page.durations("idr_central_request_seconds", "From the head of an HTTP request to the head of its answer.", &counters.requests)?;
        let messages = counters.feed.answers().map(|(answer, count)| ([("answer", answer)], count));
        page.counters("idr_central_adt_messages_total", "ADT messages, by their acknowledgment code.", messages)?;
        page.counter("idr_central_adt_repeated_total", "ADT messages that were answered before.", counters.feed.repeated.value())?;
        let skipped = counters.feed.skipped_bytes.value();
        page.counter("idr_central_adt_skipped_bytes_total", "Bytes between MLLP frames.", skipped)?;
        let reloads = [("done", &counters.reloads), ("refused", &counters.reloads_refused)];
        let reloads = reloads.map(|(result, counter)| ([("result", result)], counter.value()));
        page.counters("idr_central_reloads_total", "Configurations that were read again.", reloads)?;
        let federation = &self.federation;
        let asked = [("answered", &federation.answered), ("unavailable", &federation.unavailable)];
        let asked = asked.map(|(result, counter)| ([("result", result)], counter.value()));
        page.counters("idr_central_federation_requests_total", "Requests to other communities and repositories.", asked)?;
        let paused = federation.communities.iter().chain(&federation.repositories).filter(|remote| remote.is_paused()).count() as u64;
        page.gauge("idr_central_federation_paused", "Communities and repositories that are not asked after failures in a row.", paused)?;
        page.counter("idr_central_panics_total", "Requests that ended in a panic (IDR-B-04).", counters.panics.value())?;
        match self.space.free_bytes() {
            Some(free) => page.gauge("idr_central_storage_free_bytes", "Bytes free on the disk of the objects.", free),
            None => Ok(()),
        }
    }
}
