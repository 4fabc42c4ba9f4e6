//! The one retry policy: wait twice as long each time, with jitter, within a total budget of time.

use std::time::{Duration, Instant};

/// All the time that requests and their repeats may take before the client gives up, unless told otherwise.
pub const BUDGET: Duration = Duration::from_secs(60);

/// The first wait. The services are local or near: a log commits in milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait, unless the service asks for a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Attempts when nothing at all answers; then it is hardly a matter of waiting. See [`Patience::insist`].
const ATTEMPTS: u32 = 6;

/// An error that may pass.
pub trait Retryable {
    /// Whether the same request may succeed later.
    fn retryable(&self) -> bool;

    /// Whether the service answered, and said it was busy: worth the whole budget.
    fn busy(&self) -> bool;

    /// How long the service asked to wait.
    fn retry_after(&self) -> Option<Duration>;
}

/// When to give up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// No repeat begins after this.
    pub deadline: Instant,
    /// Whether silence is worth the whole budget, too: for services of an instance that has answered
    /// already, so that the address is right.
    pub insist: bool,
}

/// Runs `attempt` until it succeeds, fails for good, or patience ends; then its last error. `waiting` is
/// told of each error that is waited for.
///
/// # Errors
/// The error of the last attempt.
pub async fn repeat<T, E: Retryable, F: Future<Output = Result<T, E>>>(
    patience: Patience,
    waiting: impl Fn(&E),
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let mut wait = FIRST_WAIT;
    for attempts in 1.. {
        let worth = |error: &E| error.busy() || patience.insist || attempts < ATTEMPTS;
        let error = match attempt().await {
            Err(error) if error.retryable() && worth(&error) => error,
            verdict => return verdict,
        };
        // A service that asks for no wait at all gets the usual one.
        let asked = error.retry_after().filter(|asked| !asked.is_zero());
        let pause = asked.unwrap_or_else(|| jittered(wait));
        if pause > patience.deadline.saturating_duration_since(Instant::now()) {
            return Err(error);
        }
        waiting(&error);
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    unreachable!("the loop ends by the deadline")
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

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Answer {
        Busy,
        /// Busy, and not to be asked again before the end of time.
        Never,
        None,
        No,
    }

    impl Retryable for Answer {
        fn retryable(&self) -> bool {
            *self != Self::No
        }
        fn busy(&self) -> bool {
            matches!(self, Self::Busy | Self::Never)
        }
        fn retry_after(&self) -> Option<Duration> {
            match self {
                Self::Never => Some(Duration::from_secs(u64::MAX)),
                _ => Some(Duration::from_millis(1)),
            }
        }
    }

    async fn attempts(
        succeed_at: u32,
        answer: Answer,
        budget: Duration,
        insist: bool,
    ) -> (u32, Result<(), Answer>) {
        let (count, told) = (Cell::new(0), Cell::new(0));
        let patience = Patience { deadline: Instant::now() + budget, insist };
        let waiting = |_: &Answer| told.set(told.get() + 1);
        let result = repeat(patience, waiting, || {
            count.set(count.get() + 1);
            let done = count.get() == succeed_at;
            async move { if done { Ok(()) } else { Err(answer) } }
        })
        .await;
        assert_eq!(told.get(), count.get() - 1, "told of each wait");
        (count.get(), result)
    }

    #[tokio::test]
    async fn what_may_pass_is_repeated_and_what_is_final_is_not() {
        let second = Duration::from_secs(1);
        use Answer::{Busy, No};
        assert_eq!(attempts(3, Busy, second, false).await, (3, Ok(())));
        assert_eq!(attempts(20, Busy, second, false).await, (20, Ok(())), "while the budget lasts");
        assert_eq!(attempts(3, No, second, true).await, (1, Err(No)));
        let silent = attempts(99, Answer::None, second, false).await;
        assert_eq!(silent, (ATTEMPTS, Err(Answer::None)));
        assert_eq!(attempts(20, Answer::None, second, true).await, (20, Ok(())), "insisting");
        assert_eq!(attempts(99, Busy, Duration::ZERO, true).await, (1, Err(Busy)));
        assert_eq!(attempts(9, Answer::Never, second, true).await, (1, Err(Answer::Never)));
    }
}
