//! One budget for every byte that was read off the wire and not yet answered, and for every answer not yet written.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units, so that 4 GiB fit a semaphore and small requests cost one step.
const UNIT: usize = 1024;

/// Bytes that requests and answers may hold in memory, over all connections.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

/// Bytes taken off the budget; they go back when this is dropped, which is after the answer has left.
#[derive(Debug)]
pub(crate) struct Charge {
    permit: OwnedSemaphorePermit,
}

impl Charge {
    /// Adds `more` to what is `held`; both go back together.
    pub(crate) fn join(held: &mut Option<Charge>, more: Charge) {
        match held {
            Some(held) => held.permit.merge(more.permit),
            None => *held = Some(more),
        }
    }
}

/// Waits until the budget has the bytes.
pub(crate) type Charging = Pin<Box<dyn Future<Output = Charge> + Send>>;

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).max(1)
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total = units(bytes).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes the bytes if they are there at once. More than the whole budget counts as the whole.
    pub(crate) fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let wanted = units(bytes).min(self.total) as u32;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(wanted).ok()?;
        Some(Charge { permit })
    }

    /// Takes the bytes, now or when others have given some back. Fair: first come, first served.
    pub(crate) fn charge(&self, bytes: usize) -> Charging {
        let wanted = units(bytes).min(self.total) as u32;
        let units = Arc::clone(&self.units);
        Box::pin(async move {
            match units.acquire_many_owned(wanted).await {
                Ok(permit) => Charge { permit },
                Err(_) => unreachable!("the budget is never closed"),
            }
        })
    }

    /// Bytes that are free.
    pub(crate) fn available(&self) -> usize {
        self.units.available_permits().saturating_mul(UNIT)
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        (self.total - self.units.available_permits()) * UNIT
    }
}

/// A charge that may have to be waited for.
pub(crate) enum MaybeCharge {
    /// Nothing asked for.
    None,
    /// Waiting.
    Pending(Charging),
    /// There.
    Ready(Charge),
}

impl MaybeCharge {
    /// Asks for `bytes` unless that was done before; ready once they are there.
    pub(crate) fn poll(&mut self, budget: &Budget, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self, MaybeCharge::None) {
            *self = match budget.try_charge(bytes) {
                Some(charge) => MaybeCharge::Ready(charge),
                None => MaybeCharge::Pending(budget.charge(bytes)),
            };
        }
        if let MaybeCharge::Pending(charging) = self {
            match charging.as_mut().poll(cx) {
                Poll::Ready(charge) => *self = MaybeCharge::Ready(charge),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    /// Takes the charge that is there.
    pub(crate) fn take(&mut self) -> Option<Charge> {
        match std::mem::replace(self, MaybeCharge::None) {
            MaybeCharge::Ready(charge) => Some(charge),
            other => {
                *self = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_when_the_charge_is_dropped() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.try_charge(6 * UNIT).expect("fits");
        assert_eq!(budget.used(), 6 * UNIT);
        assert!(budget.try_charge(5 * UNIT).is_none());
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_charge(5 * UNIT).is_some());
    }

    #[test]
    fn a_frame_larger_than_the_budget_takes_all_of_it_instead_of_waiting_for_ever() {
        let budget = Budget::new(10 * UNIT);
        let all = budget.try_charge(1_000 * UNIT).expect("counts as the whole");
        assert_eq!(budget.available(), 0);
        drop(all);
    }
}
