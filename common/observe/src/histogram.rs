//! A histogram that can be added to another: four buckets an octave from a microsecond to more than an hour, so that a
//! quantile is right within a tenth. Lanes fill it, workers and the coordinator add them up.

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// Seconds of the lowest bound.
const LEAST: f64 = 1e-6;
const AN_OCTAVE: f64 = 4.0;
/// The last bucket has no upper bound.
const BUCKETS: u16 = 128;

/// Seconds, counted by size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Histogram {
    pub count: u64,
    /// Seconds.
    pub sum: f64,
    pub max: f64,
    /// Bucket and count, ascending, only those that are not empty.
    buckets: Vec<(u16, u64)>,
}

/// What people ask of a histogram, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

fn bucket(seconds: f64) -> u16 {
    let number = ((seconds / LEAST).log2() * AN_OCTAVE).ceil();
    // What is no number is as good as nothing.
    if number >= 1.0 { (number as u16).min(BUCKETS - 1) } else { 0 }
}

fn upper(bucket: u16) -> f64 {
    LEAST * (f64::from(bucket) / AN_OCTAVE).exp2()
}

impl Histogram {
    pub fn add(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds.max(0.0);
        self.max = self.max.max(seconds);
        self.put(bucket(seconds), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        other.buckets.iter().for_each(|&(bucket, count)| self.put(bucket, count));
    }

    fn put(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// The value below which this share of all lies; 0 where there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for &(bucket, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                let lower = if bucket == 0 { 0.0 } else { upper(bucket - 1) };
                // Nothing is larger than the largest.
                return ((lower + upper(bucket)) / 2.0).min(self.max);
            }
        }
        0.0
    }

    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        Quantiles { p50: self.quantile(0.5), p95: self.quantile(0.95), p99: self.quantile(0.99) }
    }

    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// Bounds of whole octaves with the count in each, for Prometheus; the last bound is infinite.
    pub(crate) fn octaves(&self, from: u16, to: u16) -> Vec<(f64, u64)> {
        let mut octaves: Vec<_> = (from..=to).map(|octave| (upper(octave * 4), 0)).collect();
        octaves.push((f64::MAX, 0));
        for &(bucket, count) in &self.buckets {
            let octave = bucket.div_ceil(4).clamp(from, to + 1);
            octaves[usize::from(octave - from)].1 += count;
        }
        octaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    #[test]
    fn quantiles_are_right_within_a_tenth() {
        let histogram = of((1..=1000).map(|i| f64::from(i) * 1e-3));
        for (share, truth) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            let found = histogram.quantile(share);
            assert!((found / truth - 1.0).abs() < 0.1, "{share}: {found}");
        }
        assert_eq!(of([]).quantile(0.5), 0.0);
        assert!(of([0.25]).quantile(0.99) <= 0.25, "nothing is larger than the largest");
    }

    #[test]
    fn adding_up_is_as_good_as_counting_together() {
        let (low, high) = (of((1..50).map(|i| f64::from(i) * 1e-4)), of((1..50).map(f64::from)));
        let mut sum = low.clone();
        sum.merge(&high);
        let together = of((1..50).map(|i| f64::from(i) * 1e-4).chain((1..50).map(f64::from)));
        assert_eq!((sum.count, &sum.buckets, sum.max), (together.count, &together.buckets, together.max));
    }

    #[test]
    fn octaves_hold_every_value_once() {
        let histogram = of([0.0, 1e-9, 3e-6, 0.5, 0.5, 1e9, f64::NAN]);
        let octaves = histogram.octaves(4, 27);
        assert_eq!(octaves.iter().map(|(_, count)| count).sum::<u64>(), 7);
        let at = |seconds: f64| octaves.iter().find(|(bound, _)| *bound >= seconds).unwrap().1;
        assert_eq!((at(1e-6), at(0.5), octaves.last().unwrap().1), (4, 2, 1));
        assert!(octaves.is_sorted_by(|a, b| a.0 < b.0));
    }
}
