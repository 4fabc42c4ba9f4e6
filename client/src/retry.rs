//! The one retry policy: wait twice as long each time, with jitter, within a total budget of time.

use std::time::{Duration, Instant};

/// All the time that one request and its repeats may take before the client gives up.
pub const BUDGET: Duration = Duration::from_secs(60);

/// The first wait. The services are local or near: a log commits in milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait, unless the service asks for a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Repeats when nothing at all answers; then it is not a matter of waiting.
const ATTEMPTS: u32 = 6;

/// An error that may pass.
pub trait Retryable {
    /// Whether the same request may succeed later.
    fn retryable(&self) -> bool;

    /// How long the service asked to wait.
    fn retry_after(&self) -> Option<Duration>;
}

/// Runs `attempt` until it succeeds, fails for good, or the budget is spent; then its last error.
///
/// # Errors
/// The error of the last attempt.
pub async fn until_budget<T, E: Retryable, F: Future<Output = Result<T, E>>>(
    budget: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let start = Instant::now();
    let mut wait = FIRST_WAIT;
    for attempts in 1.. {
        let error = match attempt().await {
            Err(error) if error.retryable() && attempts < ATTEMPTS => error,
            verdict => return verdict,
        };
        let pause = error.retry_after().unwrap_or_else(|| jittered(wait));
        if start.elapsed() + pause > budget {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    unreachable!("the loop ends by the number of attempts")
}

/// Between half of `wait` and all of it, so that clients that failed together do not return together.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness every client waits the same: worse manners, no harm.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    wait / 2 + wait * u32::from(byte[0]) / 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[derive(Debug, PartialEq)]
    struct Busy(bool);

    impl Retryable for Busy {
        fn retryable(&self) -> bool {
            self.0
        }
        fn retry_after(&self) -> Option<Duration> {
            Some(Duration::from_millis(1))
        }
    }

    async fn attempts(
        succeed_at: u32,
        retryable: bool,
        budget: Duration,
    ) -> (u32, Result<(), Busy>) {
        let count = Cell::new(0);
        let result = until_budget(budget, || {
            count.set(count.get() + 1);
            let done = count.get() == succeed_at;
            async move { if done { Ok(()) } else { Err(Busy(retryable)) } }
        })
        .await;
        (count.get(), result)
    }

    #[tokio::test]
    async fn what_may_pass_is_repeated_and_what_is_final_is_not() {
        let second = Duration::from_secs(1);
        assert_eq!(attempts(3, true, second).await, (3, Ok(())));
        assert_eq!(attempts(3, false, second).await, (1, Err(Busy(false))));
        assert_eq!(attempts(99, true, second).await, (ATTEMPTS, Err(Busy(true))));
        assert_eq!(attempts(99, true, Duration::ZERO).await, (1, Err(Busy(true))));
    }
}
