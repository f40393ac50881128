//! What a monitor is told: whether objects are taken in, and counters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use idr_host::monitor::{Monitored, Page};
use idr_host::places::Connections;

use crate::admission::Ingress;
use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::forward::Forward;
use crate::reconcile::Reconcile;
use crate::reload::Reload;
use crate::retention::Retention;
use crate::scrub::Scrub;
use crate::spool::files::FileSpool;
use crate::spool::{Spool as _, Tenant};

mod counters;

pub use counters::{Counters, Ingested};

/// The site as a monitor sees it.
pub struct Monitor {
    /// What all ways in share, with its counters.
    pub ingress: Arc<Ingress>,
    /// What is held.
    pub spool: FileSpool,
    /// What devices wait to be told.
    pub commitments: Arc<Commitments>,
    /// What devices said of their studies.
    pub completeness: Arc<Completeness>,
    /// Connections of DIMSE and of STOW-RS.
    pub connections: [Connections; 2],
    /// The configuration read again.
    pub reload: Arc<Reload>,
    /// The local cache, if there is a centre.
    pub retention: Option<Arc<Retention>>,
    /// Objects that are read again.
    pub scrub: Arc<Scrub>,
    /// What the centre holds; none without a centre.
    pub reconcile: Option<Arc<Reconcile>>,
    /// The forwarder, if there is a centre.
    pub forward: Option<Arc<Forward>>,
    /// Whose objects are taken in.
    pub tenants: Vec<Tenant>,
}

impl Monitored for Monitor {
    fn refusing(&self) -> Option<String> {
        self.tenants.iter().find_map(|tenant| self.spool.refusing(tenant)).map(|refusal| refusal.to_string())
    }

    fn metrics(&self, page: &mut Page<'_>) -> fmt::Result {
        self.ways_in(page)?;
        self.reception(page)?;
        self.spool(page)?;
        self.forward(page)?;
        self.custody(page)
    }
}

impl Monitor {
    fn ways_in(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.ingress.counters;
        page.gauge("idr_site_associations_open", "Associations that are open.", self.ingress.associations_open())?;
        let rejected = counters.rejections().into_iter().map(|(reason, count)| ([("reason", reason)], count));
        page.counters("idr_site_associations_rejected_total", "Associations rejected, by rule or reason.", rejected)?;
        page.counter(
            "idr_site_associations_too_slow_total",
            "Associations ended because a message came too slowly.",
            counters.associations_too_slow.value(),
        )?;
        let mut breaches = BTreeMap::<&str, u64>::new();
        for (bound, count) in self.connections.iter().flat_map(Connections::breaches) {
            *breaches.entry(bound).or_default() += count;
        }
        let breaches = breaches.into_iter().map(|(bound, count)| ([("bound", bound)], count));
        page.counters("idr_bound_exceeded_total", "Bounds of connections that were met.", breaches)?;
        let reloads = [("done", &counters.reloads), ("refused", &counters.reloads_refused)];
        let reloads = reloads.map(|(result, counter)| ([("result", result)], counter.value()));
        page.counters("idr_site_reloads_total", "Configurations that were read again.", reloads)?;
        let last = self.reload.last();
        let refused = u64::from(last.as_ref().is_some_and(|last| last.refused.is_some()));
        page.gauge("idr_site_reload_refused", "1: the configuration that was read again last was refused.", refused)?;
        let restart = last.map_or(0, |last| last.restart.len());
        page.gauge("idr_site_reload_restart_keys", "Keys whose change waits for a restart.", restart)?;
        let (waiting, held) = self.commitments.totals();
        let requests = [([("state", "waiting")], waiting), ([("state", "held")], held)];
        page.gauges("idr_site_commitment_requests", "Requests of devices for storage commitment that are not answered.", requests)?;
        let (in_progress, listings) = self.completeness.totals();
        page.gauge("idr_site_procedure_steps_in_progress", "Procedure steps that devices have begun.", in_progress)?;
        page.gauge("idr_site_listings", "Listings of instances by which studies are complete.", listings)
    }

    fn reception(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.ingress.counters;
        let by_ae = counters.by_ae();
        let objects = by_ae.iter().flat_map(|(ae, of)| {
            let results = [("stored", &of.stored), ("refused", &of.refused), ("failed", &of.failed)];
            results.map(|(result, counter)| ([("ae", ae.as_str()), ("result", result)], counter.value()))
        });
        page.counters("idr_site_ingest_objects_total", "Objects that came, by the AE title of their row.", objects)?;
        let bytes = by_ae.iter().map(|(ae, of)| ([("ae", ae.as_str())], of.stored_bytes.value()));
        page.counters("idr_site_ingest_bytes_total", "Data set bytes of objects accepted.", bytes)?;
        page.durations("idr_site_ingest_seconds", "From the announcement of an object to its answer.", &counters.ingest)?;
        page.durations("idr_site_commit_seconds", "From the judgement of an object until it is durable.", &counters.commit)?;
        let memory = self.ingress.header_memory.usage();
        page.gauge("idr_site_header_memory_bytes", "Memory of headers of objects on their way.", memory.bytes)?;
        page.gauge("idr_site_header_memory_limit_bytes", "reception.header_memory_bytes", memory.bytes_max)?;
        page.gauge("idr_site_header_memory_waiting", "Objects that wait for memory.", memory.waiting)?;
        page.counter("idr_site_header_memory_waits_total", "Waits for memory.", memory.waits)
    }

    fn spool(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("idr_site_storage_free_bytes", "Bytes free on the disk of the spool.", self.spool.free_bytes())?;
        let totals = self.spool.totals();
        let items =
            totals.iter().map(|((tenant, state), amount)| ([("tenant", tenant.to_string()), ("state", (*state).to_owned())], *amount));
        let items: Vec<_> = items.collect();
        let objects = items.iter().map(|(labels, amount)| (labels.clone(), amount.objects));
        page.gauges("idr_site_queue_items", "Objects held, by state.", objects)?;
        page.gauges("idr_site_queue_bytes", "Their bytes.", items.iter().map(|(labels, amount)| (labels.clone(), amount.bytes)))?;
        let Some(retention) = &self.retention else { return Ok(()) };
        page.gauge("idr_site_cache_bytes", "Bytes of the local cache.", retention.bytes())?;
        page.gauge("idr_site_cache_limit_bytes", "cache.bytes_max", retention.bytes_max())?;
        page.counter("idr_site_released_objects_total", "Local copies given up.", retention.released_objects.value())?;
        page.counter("idr_site_released_bytes_total", "Their bytes.", retention.released_bytes.value())
    }

    fn forward(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(forward) = &self.forward else { return Ok(()) };
        let counters = &forward.counters;
        let objects =
            [("asked", &counters.asked), ("committed", &counters.committed), ("failed", &counters.failed), ("not_asked", &counters.extra)];
        let objects = objects.map(|(result, counter)| ([("result", result)], counter.value()));
        page.counters("idr_site_forward_commitment_objects_total", "Objects in requests and reports of storage commitment.", objects)?;
        let unknown = counters.unknown.value();
        page.counter("idr_site_forward_commitment_unknown_reports_total", "Reports on requests that nobody has made.", unknown)
    }

    fn custody(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter("idr_site_scrub_objects_total", "Objects read again.", self.scrub.objects_read.value())?;
        page.counter("idr_site_scrub_bytes_total", "Their bytes.", self.scrub.bytes_read.value())?;
        page.gauge("idr_site_scrub_damaged_objects", "Objects whose bytes are not what was accepted.", self.scrub.damaged())?;
        if let Some(finished) = self.scrub.state().finished {
            page.gauge("idr_site_scrub_finished_timestamp_seconds", "When all objects had been read last.", finished.as_second())?;
        }
        let Some(reconcile) = &self.reconcile else { return Ok(()) };
        let report = reconcile.report();
        page.gauge("idr_reconcile_missing_objects", "Objects that the centre does not hold as handed over.", report.found.open())?;
        let failed = u64::from(report.failed.is_some());
        page.gauge("idr_site_reconcile_failed", "1: the last reconciliation ended early.", failed)?;
        if let Some(finished) = report.finished {
            page.gauge("idr_site_reconcile_finished_timestamp_seconds", "When it last went through.", finished.as_second())?;
        }
        Ok(())
    }
}
