use super::*;

const IDLE_TIME: Duration = Duration::from_secs(10);

fn connections(all: usize, own: usize) -> Arc<Connections> {
    Connections::new(Bounds { all, own, idle: IDLE_TIME })
}

fn peer(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn lives(connection: &Connection) -> bool {
    !connection.ended.load(Ordering::SeqCst)
}

#[test]
fn a_flood_from_one_network_ends_only_its_own() {
    let all = connections(40, 8);
    let guest = all.admit(peer("192.0.2.1", 1)).unwrap();
    let mut flood = Vec::new();
    for port in 0..30 {
        let one = all.admit(peer("2001:db8::1", port)).unwrap();
        flood.push(Arc::clone(&one));
        // What was told to end, ends.
        for ended in flood.extract_if(.., |one| !lives(one)) {
            all.closed(&ended);
        }
    }
    assert!(lives(&guest));
    assert_eq!(flood.len(), 9);
    assert!(flood.iter().all(|one| one.peer.port() >= 21), "the oldest end first");
    // Another address of the same customer counts with it.
    all.admit(peer("2001:db8::2", 1)).unwrap();
    assert!(lives(&guest));
}

#[test]
fn sockets_that_do_not_end_are_counted_until_they_do() {
    let all = connections(8, 8);
    let admitted = (0..50).filter_map(|port| all.admit(peer("192.0.2.1", port))).count();
    assert_eq!(admitted, 10);
}

#[test]
fn who_logged_in_has_a_share_and_does_not_give_way_to_strangers() {
    let all = connections(40, 2);
    let mut known = Vec::new();
    for port in 0..3 {
        let one = all.admit(peer("192.0.2.1", port)).unwrap();
        all.known(&one, "a@R").unwrap();
        known.push(one);
    }
    assert_eq!(known.iter().map(|one| lives(one)).collect::<Vec<_>>(), [false, true, true]);
    for port in 100..140 {
        let stranger = all.admit(peer("192.0.2.1", port)).unwrap();
        all.closed(&stranger);
    }
    assert!(lives(&known[1]) && lives(&known[2]));
    // When all of them work, a further one is refused, and nobody else's ends.
    let work = [known[1].begin(), known[2].begin()];
    let other = all.admit(peer("192.0.2.1", 200)).unwrap();
    all.known(&other, "b@R").unwrap();
    let further = all.admit(peer("192.0.2.1", 201)).unwrap();
    assert_eq!(all.known(&further, "a@R"), Err(TooMany(2)));
    drop(work);
    all.known(&further, "a@R").unwrap();
    assert!(lives(&other));
}

#[test]
fn whoever_has_most_gives_way_when_all_are_too_many() {
    let all = connections(8, 8);
    let mut of = HashMap::new();
    for (port, who) in ["a@R", "b@R", "b@R", "b@R", "c@R", "c@R", "d@R"].into_iter().enumerate() {
        let one = all.admit(peer("192.0.2.1", port as u16)).unwrap();
        all.known(&one, who).unwrap();
        of.entry(who).or_insert_with(Vec::new).push(one);
    }
    let left = |who| of[who].iter().filter(|one| lives(one)).count();
    assert_eq!((left("a@R"), left("b@R"), left("c@R"), left("d@R")), (1, 2, 2, 1));
}

#[test]
fn time_is_bounded_for_strangers_and_others() {
    let all = connections(40, 8);
    let stranger = all.admit(peer("192.0.2.1", 1)).unwrap();
    let known = all.admit(peer("192.0.2.1", 2)).unwrap();
    all.known(&known, "a@R").unwrap();
    let slow = all.admit(peer("192.0.2.1", 3)).unwrap();
    all.known(&slow, "a@R").unwrap();
    let work = slow.begin();
    let mut answer = slow.begin();
    let after = |times: u32| Instant::now() + IDLE_TIME * times + Duration::from_secs(1);
    all.end_idle(after(1));
    assert!(lives(&stranger) && lives(&known) && lives(&slow));
    all.end_idle(after(2));
    assert!(!lives(&stranger) && lives(&known) && lives(&slow), "a request is worked on as long as it takes");
    answer.answer();
    all.end_idle(after(1));
    assert!(lives(&known) && !lives(&slow), "its answer is not taken");
    all.end_idle(after(20));
    assert!(!lives(&known));
    drop((work, answer));
}

#[test]
fn memory_comes_from_whoever_holds_most() {
    let all = connections(40, 8);
    let mut held = Vec::new();
    for (port, who, bytes) in [(1, "a@R", 10), (2, "a@R", 30), (3, "b@R", 35), (4, "c@R", 1)] {
        let one = all.admit(peer("192.0.2.1", port)).unwrap();
        all.known(&one, who).unwrap();
        let mut request = one.begin();
        request.hold(bytes);
        held.push((one, request));
    }
    let living =
        |held: &[(Arc<Connection>, UnderWay)]| held.iter().map(|(one, _)| lives(one)).collect::<Vec<_>>();
    all.free_bytes("a@R");
    assert_eq!(living(&held), [true; 4], "nobody holds more than the one who asks");
    all.free_bytes("c@R");
    assert_eq!(living(&held), [false, true, true, true]);
}

#[test]
fn a_log_in_is_alone_on_its_connection() {
    let all = connections(40, 8);
    let one = all.admit(peer("192.0.2.1", 1)).unwrap();
    let log_in = one.begin_log_in().unwrap();
    assert!(one.begin_log_in().is_none());
    drop(log_in);
    assert!(one.begin_log_in().is_some());
}
