//! Which server is asked next.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The servers of one model, and how they fare.
#[derive(Debug)]
pub(crate) struct Pool {
    urls: Vec<String>,
    states: Mutex<Vec<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    under_way: usize,
    /// Nothing is sent before this moment.
    rests_until: Option<Instant>,
    /// Could not be reached: its health is checked before it is asked again.
    is_suspect: bool,
    /// Health checks and connections that failed in succession.
    failures: u32,
    /// Requests given to it so far.
    given: u64,
}

/// What [`Pool::take`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Ask this server, and give it back with [`Pool::give_back`].
    Ask(usize),
    /// Check this server's health first; then [`Pool::recovered`] or [`Pool::lost`].
    Check(usize),
    /// All servers rest until then.
    Wait(Instant),
}

impl Pool {
    pub(crate) fn new(urls: Vec<String>) -> Self {
        let states = Mutex::new(vec![State::default(); urls.len()]);
        Self { urls, states }
    }

    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Of the servers that do not rest, the one with the least under way; not `avoided`, where there is another.
    pub(crate) fn take(&self, avoided: Option<usize>, now: Instant) -> NextStep {
        let mut states = self.lock();
        let is_ready = |state: &State| state.rests_until.is_none_or(|until| until <= now);
        let ready = (0..states.len()).filter(|i| is_ready(&states[*i]));
        let best = ready.min_by_key(|i| (Some(*i) == avoided, states[*i].under_way, states[*i].given));
        let Some(best) = best else {
            let first = states.iter().filter_map(|state| state.rests_until).min();
            return NextStep::Wait(first.unwrap_or(now));
        };
        let state = &mut states[best];
        if state.is_suspect {
            // One caller checks; the others leave the server alone for that time.
            state.rests_until = Some(now + Duration::from_secs(3600));
            return NextStep::Check(best);
        }
        state.under_way += 1;
        state.given += 1;
        NextStep::Ask(best)
    }

    /// The request to the server is over.
    pub(crate) fn give_back(&self, server: usize) {
        self.lock()[server].under_way -= 1;
    }

    /// The server answered.
    pub(crate) fn recovered(&self, server: usize) {
        let state = &mut self.lock()[server];
        if state.is_suspect {
            (state.is_suspect, state.rests_until) = (false, None);
        }
        state.failures = 0;
    }

    /// The server is busy: it is left alone until then.
    pub(crate) fn rest(&self, server: usize, until: Instant) {
        let state = &mut self.lock()[server];
        if !state.is_suspect {
            state.rests_until = state.rests_until.max(Some(until));
        }
    }

    /// The server could not be reached. `pause` is for the given number of failures in succession.
    pub(crate) fn lost(&self, server: usize, now: Instant, pause: impl FnOnce(u32) -> Duration) {
        let state = &mut self.lock()[server];
        state.is_suspect = true;
        state.failures += 1;
        state.rests_until = Some(now + pause(state.failures));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_work_and_leaves_lost_servers_alone() {
        let pool = Pool::new(vec!["a".into(), "b".into()]);
        let now = Instant::now();
        let later = |s| now + Duration::from_secs(s);
        assert_eq!([pool.take(None, now), pool.take(None, now)], [NextStep::Ask(0), NextStep::Ask(1)]);
        pool.give_back(1);
        assert_eq!(pool.take(None, now), NextStep::Ask(1), "the one with less under way");
        pool.give_back(1);
        assert_eq!(pool.take(Some(1), now), NextStep::Ask(0), "the other one");
        pool.lost(0, now, |n| Duration::from_secs(u64::from(n)));
        assert_eq!(pool.take(Some(1), now), NextStep::Ask(1), "the only one");
        pool.rest(1, later(5));
        assert_eq!(pool.take(None, now), NextStep::Wait(later(1)));
        assert_eq!(pool.take(None, later(1)), NextStep::Check(0));
        assert_eq!(pool.take(None, later(1)), NextStep::Wait(later(5)), "one caller checks");
        pool.lost(0, later(1), |n| Duration::from_secs(u64::from(n)));
        assert_eq!(pool.take(None, later(2)), NextStep::Wait(later(3)), "the pause grows");
        assert_eq!(pool.take(None, later(3)), NextStep::Check(0));
        pool.recovered(0);
        assert_eq!(pool.take(None, later(3)), NextStep::Ask(0));
    }
}
