//! How long to wait before a program that ended is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(10);
/// A program that ran this long was healthy: its next failure counts as the first.
const HEALTHY: Duration = Duration::from_secs(30);

/// Doubling delays, forgotten after a healthy run.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    started: Duration,
}

impl Backoff {
    /// Notes a start at `now`.
    pub fn started(&mut self, now: Duration) {
        self.started = now;
    }

    /// Notes an end at `now` and answers how long to wait before the next start.
    pub fn ended(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.started) >= HEALTHY {
            self.failures = 0;
        }
        let delay = FIRST.saturating_mul(1 << self.failures.min(10)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_limit_and_forgets_after_a_healthy_run() {
        let mut backoff = Backoff::default();
        let now = Duration::from_secs(100);
        let delays: Vec<_> = (0..8)
            .map(|_| {
                backoff.started(now);
                backoff.ended(now).as_millis()
            })
            .collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.started(now);
        assert_eq!(backoff.ended(now + HEALTHY), FIRST);
    }
}
