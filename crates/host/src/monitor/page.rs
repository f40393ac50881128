//! The page that a monitor reads: metric families with their kind, their help and their samples, in the Prometheus text format.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelValue, EncodeMetric as _, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Monitored;

/// Where a program writes its metrics. Every family is written once, with all its samples.
pub struct Page<'a>(DescriptorEncoder<'a>);

/// A label: name and value. No value comes from a peer unless its number is bounded; none is of a patient.
pub type Label<V> = (&'static str, V);

/// How long things took. Buckets of 1 ms, doubled up to 65.536 s.
#[derive(Debug, Clone)]
pub struct Durations(Histogram);

impl Default for Durations {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.001, 2.0, 17)))
    }
}

impl Durations {
    /// One more.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Page<'_> {
    /// A number that only rises; `name` ends in `_total`.
    ///
    /// # Errors
    /// Of the writer; so of all of them.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        encode_counter(&mut self.family(name, help, MetricType::Counter)?, value)
    }

    /// Numbers that only rise, by labels.
    #[expect(clippy::missing_errors_doc, reason = "of the writer")]
    pub fn counters<V: EncodeLabelValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label<V>; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        samples.into_iter().try_for_each(|(labels, value)| encode_counter(&mut family.encode_family(&labels)?, value))
    }

    /// A number that rises and falls.
    #[expect(clippy::missing_errors_doc, reason = "of the writer")]
    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.family(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Numbers that rise and fall, by labels.
    #[expect(clippy::missing_errors_doc, reason = "of the writer")]
    pub fn gauges<V: EncodeLabelValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label<V>; N], impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        samples.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// How long things took; `name` ends in `_seconds`.
    #[expect(clippy::missing_errors_doc, reason = "of the writer")]
    pub fn durations(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        durations.0.encode(self.family(name, help, MetricType::Histogram)?)
    }

    fn family<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<MetricEncoder<'s>, fmt::Error> {
        // The library appends what the names of counters end in.
        let name = if matches!(kind, MetricType::Counter) { name.strip_suffix("_total").unwrap_or(name) } else { name };
        self.0.encode_descriptor(name, help, None, kind)
    }
}

fn encode_counter(metric: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

/// What a program tells, as the library asks for it.
struct Whole(Arc<dyn Monitored>);

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whole").finish_non_exhaustive()
    }
}

impl Collector for Whole {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.metrics(&mut Page(encoder))
    }
}

/// All that a program tells.
pub(super) fn registry(program: Arc<dyn Monitored>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Whole(program)));
    registry
}

/// The page.
pub(super) fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry)?;
    Ok(text)
}
