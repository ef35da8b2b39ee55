//! The timer of libp2p, on the timer of tokio.
//!
//! libp2p takes its timers from a crate of this name that serves every runtime by a thread of its own:
//! each new, dropped or reset timer wakes that thread. Gossipsub makes one timer for each message and
//! peer. Here timers live in the runtime that polls them. See docs/adr/0032-timers-of-libp2p.md.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Future that completes after a time. It must be polled within a tokio runtime with timers.
#[derive(Debug)]
pub struct Delay {
    deadline: Instant,
    /// The timer of the runtime, from the first poll on.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Delay {
    /// Returns a future that completes after `duration`.
    pub fn new(duration: Duration) -> Self {
        Delay { deadline: after(duration), sleep: None }
    }

    /// Makes the future complete after `duration` from now, also if it has completed.
    pub fn reset(&mut self, duration: Duration) {
        self.deadline = after(duration);
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(self.deadline);
        }
    }
}

/// Returns the time after `duration`, or in 30 years if the clock cannot represent it.
fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now + FAR)
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delay_completes_at_its_time_and_again_after_a_reset() {
        let began = Instant::now();
        let mut delay = Delay::new(Duration::from_secs(3));
        (&mut delay).await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        delay.reset(Duration::from_secs(2));
        (&mut delay).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        delay.reset(Duration::from_secs(9));
        delay.reset(Duration::from_secs(1));
        delay.await;
        assert_eq!(began.elapsed(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_delay_begins_when_it_is_made() {
        let began = Instant::now();
        let delay = Delay::new(Duration::from_secs(3));
        tokio::time::sleep(Duration::from_secs(2)).await;
        delay.await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn a_delay_can_be_made_without_a_runtime() {
        let mut delay = Delay::new(Duration::from_secs(3));
        delay.reset(Duration::ZERO);
        delay.reset(Duration::MAX);
    }
}
