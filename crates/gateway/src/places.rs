//! Places at an endpoint that takes only so many calls at once, and a fair queue for them.
//!
//! Fair means: those who wait are served client by client in turn, so that one who sends a
//! thousand calls at once does not keep another waiting for more than one of them. The queue is
//! bounded in length here, and in time by whoever waits.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::callers::Who;
use crate::lock::lock;

/// Calls that may wait, for each place.
pub(crate) const WAITING_PER_PLACE: usize = 16;

/// Calls that wait, in the order in which they are served.
#[derive(Debug)]
struct Fair<K, T> {
    /// Clients with something waiting; the first is served next.
    turn: VecDeque<K>,
    waiting: HashMap<K, VecDeque<T>>,
    length: usize,
}

impl<K: Copy + Eq + Hash, T> Fair<K, T> {
    fn new() -> Self {
        Self {
            turn: VecDeque::new(),
            waiting: HashMap::new(),
            length: 0,
        }
    }

    fn push(&mut self, client: K, item: T) {
        let own = self.waiting.entry(client).or_default();
        if own.is_empty() {
            self.turn.push_back(client);
        }
        own.push_back(item);
        self.length += 1;
    }

    /// Keeps what `wanted` says.
    fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        for own in self.waiting.values_mut() {
            own.retain(&wanted);
        }
        self.waiting.retain(|_, own| !own.is_empty());
        self.turn.retain(|client| self.waiting.contains_key(client));
        self.length = self.waiting.values().map(VecDeque::len).sum();
    }

    fn pop(&mut self) -> Option<T> {
        let client = self.turn.pop_front()?;
        let own = self.waiting.get_mut(&client)?;
        let item = own.pop_front()?;
        self.length -= 1;
        if own.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.turn.push_back(client);
        }
        Some(item)
    }
}

/// The places of one endpoint.
#[derive(Debug)]
pub(crate) struct Places {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// As configured; more may be taken for a while after it was lowered.
    places: usize,
    taken: usize,
    waiting: Fair<Who, oneshot::Sender<Place>>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<Arc<Places>>);

impl Places {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                places,
                taken: 0,
                waiting: Fair::new(),
            }),
        })
    }

    /// A free place, without waiting; nobody is overtaken, for nobody waits while one is free.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Place> {
        lock(&self.inner).take().then(|| self.place())
    }

    fn place(self: &Arc<Self>) -> Place {
        Place(Some(Arc::clone(self)))
    }

    /// From now on there are so many. Those who wait are served at once where there are more now;
    /// where there are fewer, none is taken away.
    pub(crate) fn resize(self: &Arc<Self>, places: usize) {
        lock(&self.inner).places = places;
        loop {
            let next = {
                let mut inner = lock(&self.inner);
                if inner.taken >= inner.places {
                    return;
                }
                let Some(next) = inner.waiting.pop() else {
                    return;
                };
                inner.taken += 1;
                next
            };
            // One who gave up drops the place, and that serves the next.
            let _ = next.send(self.place());
        }
    }

    /// Waits for a place; `None` if the queue is full. Whoever stops waiting just drops this.
    pub(crate) async fn wait(self: &Arc<Self>, client: Who) -> Option<Place> {
        let coming = {
            let mut inner = lock(&self.inner);
            if inner.take() {
                return Some(self.place());
            }
            let waiting_max = inner.places.saturating_mul(WAITING_PER_PLACE);
            if inner.waiting.length >= waiting_max {
                // Those who gave up hold no one else off.
                inner.waiting.retain(|place| !place.is_closed());
            }
            if inner.waiting.length >= waiting_max {
                return None;
            }
            let (place, coming) = oneshot::channel();
            inner.waiting.push(client, place);
            coming
        };
        coming.await.ok()
    }

    /// How many wait, those included who have given up and whose turn has not come.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.inner).waiting.length
    }

    /// Hands a place on to the next who still waits.
    fn give_back(self: Arc<Self>) {
        let mut place = Place(Some(Arc::clone(&self)));
        loop {
            let next = {
                let mut inner = lock(&self.inner);
                let too_many = inner.taken > inner.places;
                let next = if too_many { None } else { inner.waiting.pop() };
                if next.is_none() {
                    inner.taken -= 1;
                    place.0 = None;
                }
                next
            };
            let Some(next) = next else { return };
            match next.send(place) {
                Ok(()) => return,
                // Gave up meanwhile.
                Err(back) => place = back,
            }
        }
    }
}

impl Inner {
    fn take(&mut self) -> bool {
        let free = self.taken < self.places;
        self.taken += usize::from(free);
        free
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.0.take() {
            places.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn client(last: u8) -> Who {
        Who::Address(std::net::IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn clients_are_served_in_turn_and_each_in_its_order() {
        let mut queue = Fair::new();
        for number in 0..4 {
            queue.push('a', ('a', number));
        }
        queue.push('b', ('b', 0));
        queue.push('c', ('c', 0));
        queue.push('b', ('b', 1));
        let served: Vec<String> = std::iter::from_fn(|| queue.pop())
            .map(|(client, number)| format!("{client}{number}"))
            .collect();
        assert_eq!(served, ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]);
        assert!(
            queue.length == 0 && queue.waiting.is_empty(),
            "nothing stays"
        );
    }

    #[tokio::test]
    async fn a_place_goes_to_the_next_and_back() {
        let places = Places::new(1);
        let first = places.try_take().expect("free");
        assert!(places.try_take().is_none());
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.wait(client(1)).await }
        });
        while places.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = waiting.await.expect("no panic").expect("a place");
        assert!(places.try_take().is_none(), "it was handed on");
        drop(second);
        assert!(places.try_take().is_some());
    }

    #[tokio::test]
    async fn whoever_gives_up_is_passed_over_and_no_place_is_lost() {
        let places = Places::new(1);
        let first = places.try_take().expect("free");
        for last in 0..3 {
            let gave_up =
                tokio::time::timeout(Duration::from_millis(1), places.wait(client(last))).await;
            assert!(gave_up.is_err());
        }
        drop(first);
        assert_eq!(places.waiting(), 0);
        assert!(places.try_take().is_some());
    }

    #[tokio::test]
    async fn places_become_more_and_fewer_while_they_are_taken() {
        let places = Places::new(1);
        let first = places.try_take().expect("free");
        let waits = || {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.wait(client(1)).await.expect("a place") })
        };
        let second = waits();
        while places.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        places.resize(2);
        let second = second.await.expect("no panic");
        assert!(places.try_take().is_none());
        places.resize(1);
        let third = waits();
        while places.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert_eq!(places.waiting(), 1, "one place only, and it is taken");
        drop(second);
        drop(third.await.expect("no panic"));
        assert!(places.try_take().is_some());
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let places = Places::new(1);
        let _taken = places.try_take().expect("free");
        let waiting: Vec<_> = (0..WAITING_PER_PLACE)
            .map(|_| {
                let places = Arc::clone(&places);
                tokio::spawn(async move { places.wait(client(1)).await.is_some() })
            })
            .collect();
        while places.waiting() < WAITING_PER_PLACE {
            tokio::task::yield_now().await;
        }
        assert!(places.wait(client(2)).await.is_none());
        for gave_up in waiting {
            gave_up.abort();
            let _ = gave_up.await;
        }
        let late = tokio::time::timeout(Duration::from_millis(1), places.wait(client(2))).await;
        assert!(late.is_err(), "there is room to wait again");
    }
}
