//! Things that take long to make, used again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// At most so many things of one kind, made when they are first needed and used in turn.
#[derive(Debug)]
pub struct Pool<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    limit: usize,
    state: Mutex<State<T>>,
    returned: Condvar,
}

#[derive(Debug)]
struct State<T> {
    idle: Vec<T>,
    made: usize,
}

/// A thing of a pool, which gets it back when this is dropped.
#[derive(Debug)]
pub struct Pooled<T> {
    /// Absent only while it is dropped.
    thing: Option<T>,
    home: Arc<Shared<T>>,
}

impl<T> Pool<T> {
    /// An empty pool of at most `limit` things, at least 1.
    pub fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit: limit.max(1),
                state: Mutex::new(State {
                    idle: Vec::new(),
                    made: 0,
                }),
                returned: Condvar::new(),
            }),
        }
    }

    /// An idle thing, or one that `make` makes; where there are as many as may be, waits until one is returned.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn take<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Pooled<T>, E> {
        let mut state = self.shared.state();
        let thing = loop {
            if let Some(thing) = state.idle.pop() {
                break thing;
            }
            if state.made < self.shared.limit {
                let made = make()?;
                state.made += 1;
                break made;
            }
            let waited = self.shared.returned.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        };
        Ok(Pooled {
            thing: Some(thing),
            home: Arc::clone(&self.shared),
        })
    }

    /// Things there are, idle or not, without those that were given up.
    pub fn made(&self) -> usize {
        self.shared.state().made
    }
}

impl<T> Pooled<T> {
    /// Never uses or ends the thing again, and leaves its place to another.
    pub(crate) fn give_up(mut self) {
        if let Some(thing) = self.thing.take() {
            std::mem::forget(thing);
            self.home.state().made -= 1;
            self.home.returned.notify_one();
        }
    }
}

impl<T> Shared<T> {
    /// A list of idle things is whole whatever happened to who held it.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing
            .as_mut()
            .expect("it is there until it is dropped")
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            self.home.state().idle.push(thing);
            self.home.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_are_made_than_may_be_and_they_are_used_again() {
        let pool = Pool::new(2);
        let made = AtomicUsize::new(0);
        let make = || Ok::<_, Infallible>(made.fetch_add(1, Ordering::Relaxed));
        let (first, second) = (pool.take(make).unwrap(), pool.take(make).unwrap());
        assert_eq!((*first, *second), (0, 1));
        std::thread::scope(|scope| {
            let third = scope.spawn(|| *pool.take(make).unwrap());
            drop(second);
            assert_eq!(third.join().unwrap(), 1);
        });
        assert_eq!(*pool.take(make).unwrap(), 1);
        assert_eq!(pool.made(), 2);
    }

    #[test]
    fn what_cannot_be_made_takes_no_place() {
        let pool = Pool::<u32>::new(1);
        assert_eq!(pool.take(|| Err("no memory")).unwrap_err(), "no memory");
        assert_eq!(*pool.take(|| Ok::<_, Infallible>(7)).unwrap(), 7);
    }

    #[test]
    fn who_waits_gets_the_place_of_what_is_given_up() {
        let pool = Pool::new(1);
        let made = AtomicUsize::new(0);
        let make = || Ok::<_, Infallible>(made.fetch_add(1, Ordering::Relaxed));
        let first = pool.take(make).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| *pool.take(make).unwrap());
            first.give_up();
            assert_eq!(second.join().unwrap(), 1);
        });
        assert_eq!(pool.made(), 1);
    }

    #[test]
    fn a_thing_outlives_its_pool() {
        let pool = Pool::new(1);
        let thing = pool.take(|| Ok::<_, Infallible>(3)).unwrap();
        drop(pool);
        assert_eq!(*thing, 3);
    }
}
