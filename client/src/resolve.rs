//! Looking up the parcel server's address.
//!
//! The system's own look-up takes as long as it likes, and a thread for as long. So there is one at a time, on a thread of
//! its own, for all who ask; and an address that was found once stays good while nothing better is known, for a name
//! service that is away must not keep a session from its server.

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// How long a look-up may take when there is an address from before.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a look-up gives, or the system's words why it does not.
type Found = Result<Vec<SocketAddr>, String>;
type LookUp = dyn Fn(&str) -> Found + Send + Sync;

#[derive(Default)]
struct State {
    last: Vec<SocketAddr>,
    flight: Option<Shared<BoxFuture<'static, Found>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks up one name.
pub struct Resolver {
    look_up: Arc<LookUp>,
    state: Mutex<State>,
}

impl Resolver {
    /// Asks the system.
    pub fn system() -> Arc<Self> {
        Self::with(|name| match (name, 0).to_socket_addrs() {
            Ok(found) => Ok(found.collect()),
            Err(error) => Err(error.to_string()),
        })
    }

    fn with(look_up: impl Fn(&str) -> Found + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { look_up: Arc::new(look_up), state: Mutex::default() })
    }

    async fn find(&self, name: &str) -> Found {
        let (flight, last) = self.flight(name);
        let found = match last.is_empty() {
            true => flight.await,
            false => {
                tokio::time::timeout(PATIENCE, flight).await.unwrap_or_else(|late| Err(late.to_string()))
            }
        };
        match found {
            Ok(found) => {
                lock(&self.state).last.clone_from(&found);
                Ok(found)
            }
            Err(_) if !last.is_empty() => Ok(last),
            Err(why) => Err(why),
        }
    }

    /// The look-up under way, or a new one; and what the last that succeeded has found.
    fn flight(&self, name: &str) -> (Shared<BoxFuture<'static, Found>>, Vec<SocketAddr>) {
        let mut state = lock(&self.state);
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.peek().is_none()) {
            return (flight.clone(), state.last.clone());
        }
        let (done, result) = oneshot::channel();
        let (look_up, name) = (self.look_up.clone(), name.to_owned());
        let started = std::thread::Builder::new().name("resolve".into()).spawn(move || {
            let found = look_up(&name).and_then(|found| match found.is_empty() {
                true => Err(format!("{name} has no address")),
                false => Ok(found),
            });
            // Nobody may be waiting any more.
            let _ = done.send(found);
        });
        let flight = async move {
            started.map_err(|error| error.to_string())?;
            result.await.map_err(|_| "the look-up failed".to_owned())?
        };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        (flight, state.last.clone())
    }
}

/// [`Resolver`] as the HTTP client wants it.
pub struct Shareable(pub Arc<Resolver>);

impl Resolve for Shareable {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        let finding = async move {
            let found = resolver.find(name.as_str()).await.map_err(io::Error::other)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        };
        finding.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn one_look_up_serves_all_and_its_answer_outlives_the_name_service() {
        let (answer, answers) = mpsc::channel::<Found>();
        let (asked, questions) = mpsc::channel();
        let answers = Mutex::new(answers);
        let resolver = Resolver::with(move |name| {
            asked.send(name.to_owned()).unwrap();
            lock(&answers).recv().unwrap_or_else(|_| Err("the end".into()))
        });
        let many = futures::future::join_all((0..20).map(|_| resolver.find("server")));
        // The answer comes after all have asked.
        let (many, ()) = tokio::join!(many, async { answer.send(Ok(vec![ADDRESS])).unwrap() });
        assert!(many.iter().all(|found| *found == Ok(vec![ADDRESS])));
        assert_eq!(questions.try_iter().collect::<Vec<_>>(), ["server"]);
        answer.send(Err("no such name".into())).unwrap();
        assert_eq!(resolver.find("server").await, Ok(vec![ADDRESS]));
        // Nor is one that hangs waited for.
        for _ in 0..2 {
            assert_eq!(resolver.find("server").await, Ok(vec![ADDRESS]));
        }
        assert_eq!(questions.try_iter().count(), 2, "and it is asked once");
    }

    #[tokio::test]
    async fn a_name_that_was_never_found_is_an_error_with_the_reason() {
        let resolver = Resolver::with(|_| Err("no such name".into()));
        assert_eq!(resolver.find("server").await, Err("no such name".into()));
        let resolver = Resolver::with(|_| Ok(Vec::new()));
        assert_eq!(resolver.find("server").await, Err("server has no address".into()));
    }
}
