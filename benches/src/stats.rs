//! Spread of repeated figures, and quantiles of latencies.

use std::time::Duration;

use serde::Serialize;

/// Lowest, middle and highest of the values of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` if there is no value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread { min, median, max })
    }
}

/// Every latency of a measurement.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one.
    pub(crate) fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Puts those of several connections together.
    pub(crate) fn merge(parts: impl IntoIterator<Item = Latencies>) -> Latencies {
        Latencies(parts.into_iter().flat_map(|part| part.0).collect())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency that a share `q` of all do not exceed (nearest rank), in microseconds. 0 if there is none.
    pub(crate) fn quantile_us(&mut self, q: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (q * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_odd_even_and_no_values() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(
            Spread::of([4.0, 1.0, 2.0, 3.0]),
            Some(Spread { min: 1.0, median: 2.5, max: 4.0 })
        );
    }

    #[test]
    fn quantiles_take_the_nearest_rank() {
        let mut latencies = Latencies::default();
        for us in (1..=100).rev() {
            latencies.push(Duration::from_micros(us));
        }
        assert_eq!(latencies.count(), 100);
        assert_eq!(latencies.quantile_us(0.5).round() as u64, 50);
        assert_eq!(latencies.quantile_us(0.99).round() as u64, 99);
        assert_eq!(latencies.quantile_us(1.0).round() as u64, 100);
        assert_eq!(Latencies::default().quantile_us(0.5) as u64, 0);
    }
}
