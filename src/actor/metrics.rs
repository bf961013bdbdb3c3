//! Counters that a component keeps and the etcd frontend shows, in the text format that Prometheus reads.
//!
//! Each room has one struct of them and exposes it as a [`Source`]; [`Sources`] brings those of one member together. To
//! count is one relaxed atomic addition: readers see each number as it is, not all of them at one moment.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::world::Roster;

/// Something that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more until the answer is dropped.
    pub fn one_more(&self) -> OneMore<'_> {
        self.add(1);
        OneMore(self)
    }
}

/// Something that a gauge counts as long as it is there.
#[derive(Debug)]
pub struct OneMore<'a>(&'a Gauge);

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Resolution of a histogram's sum: a billionth of its unit.
const SUM_PARTS: f64 = 1e9;

/// How often values fell between bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: Box<[f64]>,
    /// One for each bound, and one for all above.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Bounds `first`, twice `first` and so on, `bounds` of them.
    pub fn doubling(first: f64, bounds: usize) -> Histogram {
        let double = |bound: &f64| Some(bound * 2.0);
        Histogram::between(std::iter::successors(Some(first), double).take(bounds).collect())
    }

    /// Ascending bounds.
    pub fn between(bounds: Box<[f64]>) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// In seconds.
    pub fn observe(&self, duration: Duration) {
        self.observe_value(duration.as_secs_f64());
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub fn observe_value(&self, value: f64) {
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value.max(0.0) * SUM_PARTS) as u64, Ordering::Relaxed);
    }
}

/// A room's metrics.
pub trait Source: Send + Sync + 'static {
    /// Appends all of them to `text`.
    fn expose(&self, text: &mut Exposition);
}

/// The metrics of one member. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sources(Vec<Arc<dyn Source>>);

impl Sources {
    pub fn add(&mut self, source: Arc<dyn Source>) {
        self.0.push(source);
    }

    pub fn expose(&self, text: &mut Exposition) {
        self.0.iter().for_each(|source| source.expose(text));
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sources({})", self.0.len())
    }
}

/// What the long-lived components of a process do: whether each runs, how often it was restarted, what waits for it.
impl Source for Roster {
    fn expose(&self, text: &mut Exposition) {
        let components = self.components();
        text.family("chorus_component_running", "gauge", "Whether the component runs: 1 or 0.");
        for component in &components {
            text.sample("chorus_component_running", &[("component", &component.name)], u8::from(component.running));
        }
        text.family("chorus_component_restarts_total", "counter", "How often the component was restarted.");
        for component in &components {
            text.sample("chorus_component_restarts_total", &[("component", &component.name)], component.restarts);
        }
        let backlogs = || components.iter().filter_map(|component| Some((&component.name, component.backlog?)));
        text.family("chorus_component_backlog", "gauge", "What waits for the component.");
        for (name, backlog) in backlogs() {
            text.sample("chorus_component_backlog", &[("component", name)], backlog.waiting);
        }
        text.family("chorus_component_backlog_age_seconds", "gauge", "How long it has waited, or the last one took.");
        for (name, backlog) in backlogs() {
            let age = backlog.age.as_secs_f64();
            text.sample("chorus_component_backlog_age_seconds", &[("component", name)], age);
        }
    }
}

/// Metrics in Prometheus's text format 0.0.4.
#[derive(Default)]
pub struct Exposition(String);

impl Exposition {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(text)));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A gauge that is always 1 and says something in its label.
    pub fn statement(&mut self, name: &str, help: &str, label: &str, text: &str) {
        self.family(name, "gauge", help);
        self.sample(name, &[(label, text)], 1);
    }

    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        self.buckets(name, &[], histogram);
    }

    /// The samples of one histogram of a family.
    pub fn buckets(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let (bucket, mut count) = (format!("{name}_bucket"), 0);
        let (above, counts) = histogram.counts.split_last().expect("a histogram counts what is above its bounds");
        for (below, bound) in counts.iter().zip(&histogram.bounds) {
            count += below.load(Ordering::Relaxed);
            // Doubling leaves digits that no reader wants.
            let le = format!("{}", (bound * SUM_PARTS).round() / SUM_PARTS);
            self.sample(&bucket, &[labels, &[("le", le.as_str())]].concat(), count);
        }
        count += above.load(Ordering::Relaxed);
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum.load(Ordering::Relaxed) as f64 / SUM_PARTS);
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub fn into_text(self) -> String {
        self.0
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a string does not fail");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::doubling(0.001, 3);
        for value in [0.0005, 0.001, 0.003, 0.5] {
            histogram.observe_value(value);
        }
        let mut text = Exposition::default();
        text.histogram("h", "Help.", &histogram);
        let expected = "# HELP h Help.\n# TYPE h histogram\nh_bucket{le=\"0.001\"} 2\nh_bucket{le=\"0.002\"} 2\n\
                        h_bucket{le=\"0.004\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 0.5045\nh_count 4\n";
        assert_eq!(text.into_text(), expected);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.sample("g", &[("a", "x\"\\\n"), ("b", "y")], 1);
        assert_eq!(text.into_text(), "g{a=\"x\\\"\\\\\\n\",b=\"y\"} 1\n");
    }
}
