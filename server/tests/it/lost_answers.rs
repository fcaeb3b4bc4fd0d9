//! A commit whose answer is lost after the head has moved, with the real server and the real client engine: it counts as
//! done, whatever becomes of the lock and the store before it is asked for again.

use crate::{
    machine::random_id,
    tenure::{Kiosk, Site, committed},
};
use parcel::{
    id::Version,
    wire::{
        WireError,
        daemon::{Reply, Request},
    },
};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};
use tokio::task::JoinHandle;

/// Passes on what clients and the server say to each other, except what is not to be heard.
struct Line {
    port: u16,
    deaf: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (deaf, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (unheard, opened) = (deaf.clone(), open.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                // The server may be down.
                let Ok(server) = TcpStream::connect(server) else { continue };
                opened.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::default());
                pass(server, client, unheard.clone());
            }
        });
        Self { port, deaf, open }
    }

    /// From here on no answer comes through.
    fn lose_answers(&self) {
        self.deaf.store(true, SeqCst);
    }

    /// Ends the connections on which answers were lost; new ones work.
    fn mend(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.deaf.store(false, SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, lose: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut part = [0; 16384];
        while let Ok(len @ 1..) = from.read(&mut part) {
            if !lose.load(SeqCst) && to.write_all(&part[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// A kiosk at work behind a line, whose commit has moved the head and has not heard of it.
async fn unanswered(site: &Site) -> (Kiosk, Line, JoinHandle<Result<Reply, WireError>>) {
    let line = Line::to(site.server.as_ref().unwrap().addr);
    let kiosk = site.kiosk_at(line.port, "kiosk-A", 1).await;
    kiosk.work(&site.machine, false).await;
    line.lose_answers();
    let daemon = kiosk.daemon.clone();
    let committing = tokio::spawn(async move { daemon.answer(Request::Commit).await });
    let client = site.client().await;
    for _ in 0..3000 {
        if client.show(site.machine.id).await.unwrap().version == Version(2) {
            assert!(!committing.is_finished());
            return (kiosk, line, committing);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the head does not move");
}

/// A commit that waits for ever fails.
async fn soon(committing: JoinHandle<Result<Reply, WireError>>) -> Result<Reply, WireError> {
    tokio::time::timeout(Duration::from_secs(60), committing)
        .await
        .expect("it does not wait for ever")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_moved_the_head_unheard_is_done() {
    let site = Site::new().await;
    let (kiosk, line, committing) = unanswered(&site).await;
    line.mend();
    committed(soon(committing).await, 2);
    kiosk.ask(Request::Unlock).await.unwrap();
    let seen = site.client().await.show(site.machine.id).await.unwrap();
    assert_eq!((seen.version, seen.lock), (Version(2), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_done_even_when_the_lock_was_broken_and_used_since() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let (_kiosk, line, committing) = unanswered(&site).await;
    let epoch = client.break_lock(id, "elsewhere").await.unwrap().epoch;
    let next = site.machine.seal(3, 2, 8, &[(1, 7)].into());
    next.send(&client, id, epoch).await;
    client.commit(id, epoch, Version(3), &next.record).await.unwrap();
    line.mend();
    // Not `stale-epoch`, after which the same work would go home once more as a parcel of its own.
    committed(soon(committing).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_done_even_in_a_store_that_was_restored_with_it() {
    let mut site = Site::new().await;
    let (kiosk, line, committing) = unanswered(&site).await;
    site.down();
    site.copy(&["store"], "", "backup.");
    site.up();
    // Something that the backup has not.
    site.client().await.create(random_id(), "later", "shanta", "import").await.unwrap();
    // A new generation, in which nobody holds a lock and whose last version is the kiosk's own.
    site.down();
    site.copy(&["store"], "backup.", "");
    let (code, said) = site.says(&["restored"]);
    assert_eq!(code, 0, "{said}");
    site.up();
    line.mend();
    committed(soon(committing).await, 2);
    kiosk.ask(Request::Unlock).await.unwrap();
    let seen = site.client().await.show(site.machine.id).await.unwrap();
    assert_eq!((seen.version, seen.lock), (Version(2), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_in_its_place_is_no_success() {
    let site = Site::new().await;
    let (id, client) = (site.machine.id, site.client().await);
    let line = Line::to(site.server.as_ref().unwrap().addr);
    let kiosk = site.kiosk_at(line.port, "kiosk-A", 1).await;
    kiosk.work(&site.machine, false).await;
    let epoch = client.break_lock(id, "elsewhere").await.unwrap().epoch;
    let other = site.machine.seal(2, 1, 8, &[(1, 7)].into());
    other.send(&client, id, epoch).await;
    client.commit(id, epoch, Version(2), &other.record).await.unwrap();
    let refused = kiosk.ask(Request::Commit).await.unwrap_err();
    assert_eq!(refused.code.text(), "stale-epoch");
}
