//! What a monitor is told: whether objects are taken in, and counters.

use std::fmt::Write as _;
use std::sync::Arc;

use idr_host::monitor::{Counter, Monitored};
use idr_host::places::Connections;

use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::header_memory::HeaderMemory;
use crate::reconcile::Reconcile;
use crate::reload::Reload;
use crate::retention::Retention;
use crate::scrub::Scrub;
use crate::spool::{Spool, Tenant};

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Objects accepted.
    pub objects_stored: Counter,
    /// Data set bytes of accepted objects.
    pub bytes_stored: Counter,
    /// Objects refused by a rule.
    pub objects_refused: Counter,
    /// Objects that could not be kept: A700H, 0110H.
    pub objects_failed: Counter,
    /// Associations refused.
    pub associations_rejected: Counter,
    /// Associations that were ended because a message came too slowly.
    pub associations_too_slow: Counter,
    /// Configurations that were read again and are in force.
    pub reloads: Counter,
    /// Configurations that were read again and refused.
    pub reloads_refused: Counter,
}

/// The site as a monitor sees it.
pub struct Monitor {
    /// Counters.
    pub counters: Arc<Counters>,
    /// What is held.
    pub spool: Arc<dyn Spool>,
    /// What devices wait to be told.
    pub commitments: Arc<Commitments>,
    /// What devices said of their studies.
    pub completeness: Arc<Completeness>,
    /// Connections of DIMSE and of STOW-RS.
    pub connections: [Connections; 2],
    /// Memory of headers on their way.
    pub header_memory: HeaderMemory,
    /// The configuration read again.
    pub reload: Arc<Reload>,
    /// The local cache, if there is a centre.
    pub retention: Option<Arc<Retention>>,
    /// Objects that are read again.
    pub scrub: Arc<Scrub>,
    /// What the centre holds; none without a centre.
    pub reconcile: Option<Arc<Reconcile>>,
    /// Whose objects are taken in.
    pub tenants: Vec<Tenant>,
}

impl Monitored for Monitor {
    fn refusing(&self) -> Option<String> {
        self.tenants.iter().find_map(|tenant| self.spool.refusing(tenant)).map(|refusal| refusal.to_string())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, labels: &str, value: u64| writeln!(text, "{name}{labels} {value}").expect("writing to memory");
        line("idr_site_ingest_objects_total", "{result=\"stored\"}", self.counters.objects_stored.value());
        line("idr_site_ingest_objects_total", "{result=\"refused\"}", self.counters.objects_refused.value());
        line("idr_site_ingest_objects_total", "{result=\"failed\"}", self.counters.objects_failed.value());
        line("idr_site_ingest_bytes_total", "", self.counters.bytes_stored.value());
        line("idr_site_associations_rejected_total", "", self.counters.associations_rejected.value());
        line("idr_site_associations_too_slow_total", "", self.counters.associations_too_slow.value());
        line("idr_site_reloads_total", "{result=\"done\"}", self.counters.reloads.value());
        line("idr_site_reloads_total", "{result=\"refused\"}", self.counters.reloads_refused.value());
        let mut breaches = std::collections::BTreeMap::<&str, u64>::new();
        for (bound, count) in self.connections.iter().flat_map(Connections::breaches) {
            *breaches.entry(bound).or_default() += count;
        }
        for (bound, count) in breaches {
            line("idr_bound_exceeded_total", &format!("{{bound=\"{bound}\"}}"), count);
        }
        let memory = self.header_memory.usage();
        line("idr_site_header_memory_bytes", "", memory.bytes as u64);
        line("idr_site_header_memory_limit_bytes", "", memory.bytes_max as u64);
        line("idr_site_header_memory_waiting", "", memory.waiting as u64);
        line("idr_site_header_memory_waits_total", "", memory.waits);
        let last = self.reload.last();
        line("idr_site_reload_refused", "", u64::from(last.as_ref().is_some_and(|last| last.refused.is_some())));
        line("idr_site_reload_restart_keys", "", last.map_or(0, |last| last.restart.len() as u64));
        let (waiting, held) = self.commitments.totals();
        line("idr_site_commitment_requests", "{state=\"waiting\"}", waiting as u64);
        line("idr_site_commitment_requests", "{state=\"held\"}", held as u64);
        let (in_progress, listings) = self.completeness.totals();
        line("idr_site_procedure_steps_in_progress", "", in_progress as u64);
        line("idr_site_listings", "", listings as u64);
        if let Some(retention) = &self.retention {
            line("idr_site_cache_bytes", "", retention.bytes());
            line("idr_site_cache_limit_bytes", "", retention.bytes_max());
            line("idr_site_released_objects_total", "", retention.released_objects.value());
            line("idr_site_released_bytes_total", "", retention.released_bytes.value());
        }
        line("idr_site_scrub_objects_total", "", self.scrub.objects_read.value());
        line("idr_site_scrub_bytes_total", "", self.scrub.bytes_read.value());
        line("idr_site_scrub_damaged_objects", "", self.scrub.damaged());
        if let Some(finished) = self.scrub.state().finished {
            line("idr_site_scrub_finished_timestamp_seconds", "", u64::try_from(finished.as_second()).unwrap_or(0));
        }
        if let Some(reconcile) = &self.reconcile {
            let report = reconcile.report();
            line("idr_reconcile_missing_objects", "", report.found.to_repair());
            line("idr_site_reconcile_failed", "", u64::from(report.failed.is_some()));
            if let Some(finished) = report.finished {
                line("idr_site_reconcile_finished_timestamp_seconds", "", u64::try_from(finished.as_second()).unwrap_or(0));
            }
        }
        for ((tenant, state), amount) in self.spool.totals().iter() {
            let labels = format!("{{tenant=\"{tenant}\",state=\"{state}\"}}");
            line("idr_site_queue_items", &labels, amount.objects);
            line("idr_site_queue_bytes", &labels, amount.bytes);
        }
        text
    }
}
