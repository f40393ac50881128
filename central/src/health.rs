//! What a monitor is told: whether requests are taken, and counters. No label names a rule that omitted (05 §10).

use std::fmt::Write as _;

use idr_host::monitor::Monitored;

use crate::central::Central;

/// Why requests that store or disclose are refused now, if they are.
pub fn refusing(central: &Central) -> Option<String> {
    if let Some(reason) = central.audit.refusing() {
        return Some(format!("the audit store takes no records: {reason}"));
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

    fn metrics(&self) -> String {
        metrics(self)
    }
}

fn metrics(central: &Central) -> String {
    let counters = &central.counters;
    let mut text = String::new();
    let mut line = |name: &str, labels: &str, value: u64| writeln!(text, "{name}{labels} {value}").expect("writing to memory");
    for (result, counter) in [
        ("stored", &counters.instances_stored),
        ("duplicate", &counters.instances_duplicate),
        ("refused", &counters.instances_refused),
        ("failed", &counters.instances_failed),
        ("sent", &counters.instances_sent),
    ] {
        line("idr_central_instances_total", &format!("{{result=\"{result}\"}}"), counter.value());
    }
    line("idr_central_stored_bytes_total", "", counters.bytes_stored.value());
    for (result, counter) in [("accepted", &counters.associations_accepted), ("rejected", &counters.associations_rejected)] {
        line("idr_central_associations_total", &format!("{{result=\"{result}\"}}"), counter.value());
    }
    for (hundred, counter) in (1..).zip(&counters.answers) {
        line("idr_central_answers_total", &format!("{{status=\"{hundred}xx\"}}"), counter.value());
    }
    for (answer, count) in counters.feed.answers() {
        line("idr_central_adt_messages_total", &format!("{{answer=\"{answer}\"}}"), count);
    }
    line("idr_central_adt_repeated_total", "", counters.feed.repeated.value());
    line("idr_central_adt_skipped_bytes_total", "", counters.feed.skipped_bytes.value());
    line("idr_central_panics_total", "", counters.panics.value());
    if let Some(free) = central.space.free_bytes() {
        line("idr_central_storage_free_bytes", "", free);
    }
    text
}
