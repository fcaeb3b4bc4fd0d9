//! Whose turn it is to make a parcel. One parcel is made at a time, and of each principal one at most waits for that, so
//! that whoever asks for many at once keeps the others waiting for one of them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, Weak},
};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Turns {
    all: Mutex<()>,
    by_principal: std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _all: MutexGuard<'a, ()>,
    _own: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits until it is the principal's turn. Both locks are taken in the order in which they were asked for.
    pub async fn of(&self, principal: &str) -> Turn<'_> {
        let own = self.own(principal).lock_owned().await;
        Turn { _all: self.all.lock().await, _own: own }
    }

    fn own(&self, principal: &str) -> Arc<Mutex<()>> {
        // Only whole entries are put in and taken out, so a panic elsewhere leaves the map good.
        let mut all = self.by_principal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get(principal).and_then(Weak::upgrade) {
            return own;
        }
        all.retain(|_, own| own.strong_count() > 0);
        let own = Arc::default();
        all.insert(principal.to_owned(), Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_who_asks_for_many_is_passed_by_those_who_ask_for_one() {
        let turns = Turns::default();
        let order = std::sync::Mutex::new(Vec::new());
        let one = async |who: &'static str| {
            let _turn = turns.of(who).await;
            tokio::task::yield_now().await;
            order.lock().unwrap().push(who);
        };
        // Polled in this order, so every one of the first asks before the last two do.
        let many = (0..50).map(|_| one("ravi")).chain([one("shanta"), one("it")]);
        futures::future::join_all(many.collect::<Vec<_>>()).await;
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), 52);
        let place = |who| order.iter().position(|one| *one == who).unwrap();
        assert!(place("shanta") <= 2 && place("it") <= 4, "{order:?}");
        drop(turns.of("else").await);
        assert_eq!(turns.by_principal.lock().unwrap().len(), 1, "nobody is kept who waits no more");
    }
}
