//! The metrics that daemons serve. Each is declared once, with its unit and labels, in `metrics/names.rs`; a [`Board`] holds
//! the values of one process. `docs/metrics.md` is made of the declarations (a test compares).
//!
//! Labels have few values: engine classes, stages, dispositions, numbers of lanes and GPUs. Never jobs, shards or keys.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, TypedMetric, counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::histogram::Histogram;

mod names;
mod worker;

pub use names::*;
pub use worker::{show_lookups, show_sample};

/// First and last octave of microseconds with a bucket of its own: 16 us to 134 s.
const OCTAVES: (u16, u16) = (4, 27);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives; `_total` is added to its name in a scrape.
    Counter,
    Gauge,
    Histogram,
}

/// One metric as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Metric {
    /// As it is in a scrape, without the endings of a histogram's parts.
    #[must_use]
    pub fn scraped(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// A histogram that is added up elsewhere.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Histogram>>);

impl EncodeMetric for Shared {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let octaves = histogram.octaves(OCTAVES.0, OCTAVES.1);
        encoder.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count, &octaves, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Shared {
    const TYPE: MetricType = MetricType::Histogram;
}

#[derive(Debug, Clone)]
enum Held {
    Counter(Family<Labels, Counter<f64, AtomicU64>>),
    Gauge(Family<Labels, Gauge<f64, AtomicU64>>),
    Histogram(Family<Labels, Shared>),
}

/// The values of one process's metrics. Clones show the same.
#[derive(Clone)]
pub struct Board {
    registry: Arc<Registry>,
    held: Arc<BTreeMap<&'static str, Held>>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("metrics", &self.held.len()).finish_non_exhaustive()
    }
}

impl Board {
    /// Of these metrics and no others.
    #[must_use]
    pub fn new(metrics: &[Metric]) -> Self {
        let mut registry = Registry::default();
        let mut held = BTreeMap::new();
        for metric in metrics {
            let (name, help) = (metric.name, metric.help.trim_end_matches('.'));
            let family = match metric.kind {
                Kind::Counter => {
                    let family = Family::default();
                    registry.register(name, help, family.clone());
                    Held::Counter(family)
                }
                Kind::Gauge => {
                    let family = Family::default();
                    registry.register(name, help, family.clone());
                    Held::Gauge(family)
                }
                Kind::Histogram => {
                    let family = Family::default();
                    registry.register(name, help, family.clone());
                    Held::Histogram(family)
                }
            };
            held.insert(name, family);
        }
        Self { registry: Arc::new(registry), held: Arc::new(held) }
    }

    /// Adds to a counter. A metric of another process is none of ours and left alone, as everywhere here.
    pub fn add(&self, metric: &Metric, labels: &[&str], more: f64) {
        if let Some(Held::Counter(family)) = self.held.get(metric.name)
            && more >= 0.0
        {
            family.get_or_create(&labelled(metric, labels)).inc_by(more);
        }
    }

    /// Sets a gauge.
    pub fn set(&self, metric: &Metric, labels: &[&str], value: f64) {
        if let Some(Held::Gauge(family)) = self.held.get(metric.name) {
            family.get_or_create(&labelled(metric, labels)).set(value);
        }
    }

    /// Adds to a histogram.
    pub fn merge(&self, metric: &Metric, labels: &[&str], more: &Histogram) {
        if let Some(Held::Histogram(family)) = self.held.get(metric.name) {
            let shared = family.get_or_create(&labelled(metric, labels)).clone();
            shared.0.lock().unwrap_or_else(PoisonError::into_inner).merge(more);
        }
    }

    /// Forgets a gauge's values: labels that do not come again must not stay.
    pub fn clear(&self, metric: &Metric) {
        if let Some(Held::Gauge(family)) = self.held.get(metric.name) {
            family.clear();
        }
    }

    /// Everything in the text format that Prometheus scrapes (OpenMetrics 1.0).
    #[must_use]
    pub fn scrape(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// Of [`Board::scrape`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn labelled(metric: &Metric, values: &[&str]) -> Labels {
    debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
    metric.labels.iter().zip(values).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// The reference for people: `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\nCoordinator and worker serve these at `/metrics` (OpenMetrics text). Made from the declarations in \
         `common/observe/src/metrics/names.rs`; do not edit. A gauge or counter that has no value yet is not in a scrape. Buckets of \
         histograms double from 16 µs to 134 s.\n",
    );
    for (title, metrics) in [("Coordinator", COORDINATOR), ("Worker", WORKER)] {
        text.push_str(&format!("\n## {title}\n\n| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n"));
        for metric in metrics {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let (name, unit, labels) = (metric.scraped(), metric.unit, labels.join(", "));
            text.push_str(&format!("| `{name}` | {kind} | {unit} | {labels} | {} |\n", metric.help));
        }
    }
    text
}

#[cfg(test)]
mod tests;
