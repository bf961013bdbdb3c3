//! A histogram of latencies: exact below 128 us, within one part in 64 above.

use std::time::Duration;

/// Values below `1 << LINEAR_BITS` have a bucket of their own; each further octave has half as many.
const LINEAR_BITS: u32 = 7;
const HALF: usize = 1 << (LINEAR_BITS - 1);
/// Up to 2^40 us, twelve days.
const OCTAVES: usize = 34;
const BUCKETS: usize = 2 * HALF + OCTAVES * HALF;

#[derive(Clone, Debug)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { buckets: vec![0; BUCKETS], count: 0, sum_us: 0, max_us: 0 }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)] += 1;
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    pub fn merge(&mut self, other: &Latencies) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn mean_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_us as f64 / self.count as f64 / 1000.0 }
    }

    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1000.0
    }

    /// The latency that `per_mille` of 1000 calls stay at or below.
    pub fn quantile_ms(&self, per_mille: u64) -> f64 {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_us(index).min(self.max_us) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(us: u64) -> usize {
    let octave = (u64::BITS - us.leading_zeros()).saturating_sub(LINEAR_BITS);
    let within = usize::try_from(us >> octave).expect("at most LINEAR_BITS bits remain");
    (octave as usize * HALF + within).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_us(index: usize) -> u64 {
    let octave = (index / HALF).saturating_sub(1);
    let within = (index - octave * HALF) as u64;
    ((within + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = 0;
        for us in (0..5_000).chain((5_000..50_000_000).step_by(7919)) {
            let index = bucket(us);
            assert!(index >= last && upper_us(index) >= us, "{us}");
            assert!(upper_us(index) - us <= us / 64, "{us}");
            last = index;
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut latencies = Latencies::default();
        for us in 1..=1000 {
            latencies.record(Duration::from_micros(us));
        }
        assert_eq!(latencies.count(), 1000);
        assert!((latencies.quantile_ms(500) - 0.5).abs() < 0.01);
        assert!((latencies.quantile_ms(990) - 0.99).abs() < 0.02);
        assert_eq!(latencies.quantile_ms(1000), 1.0);
        assert_eq!(Latencies::default().quantile_ms(500), 0.0);
    }
}
