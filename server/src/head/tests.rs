//! The rules against a naive oracle, under any sequence of operations.

use super::*;
use proptest::prelude::*;

const OWNER: &str = "shanta@WAYSTATION.TEST";
const ADMIN: &str = "it@WAYSTATION.TEST";
const PRINCIPALS: [&str; 3] = [OWNER, ADMIN, "ravi@WAYSTATION.TEST"];
const KIOSKS: [&str; 2] = ["a", "b"];

fn claim(principal: usize, kiosk: usize) -> Claim<'static> {
    Claim { principal: PRINCIPALS[principal], kiosk: KIOSKS[kiosk], now: 5 }
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(usize, usize),
    Break(usize, usize),
    /// Release, or write and commit, under the epoch that was given so many grants ago.
    Release(usize, usize),
    Commit(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (p, k, ago) = (0usize..3, 0usize..2, 0usize..4);
    prop_oneof![
        (p.clone(), k.clone()).prop_map(|(p, k)| Op::Acquire(p, k)),
        (p.clone(), k).prop_map(|(p, k)| Op::Break(p, k)),
        (p.clone(), ago.clone()).prop_map(|(p, ago)| Op::Release(p, ago)),
        (p, ago).prop_map(|(p, ago)| Op::Commit(p, ago)),
    ]
}

/// Knows only who was granted what, in order; `live` is the grant that nothing has ended yet.
struct Oracle {
    grants: Vec<(usize, usize, Epoch)>,
    live: Option<usize>,
    commits: u64,
}

proptest! {
    #[test]
    fn only_the_last_grant_may_write(ops in proptest::collection::vec(op(), 0..60)) {
        let mut head = Head::create("work", OWNER, &claim(1, 0));
        let mut oracle = Oracle { grants: vec![(1, 0, head.epoch)], live: Some(0), commits: 0 };
        for op in ops {
            let before = head.clone();
            match op {
                Op::Acquire(p, k) | Op::Break(p, k) => {
                    let breaking = matches!(op, Op::Break(..));
                    let free = oracle.live.is_none_or(|i| (oracle.grants[i].0, oracle.grants[i].1) == (p, k));
                    // Who makes it may move before the first version.
                    let makes = oracle.commits == 0 && oracle.live.is_some_and(|i| oracle.grants[i].0 == p);
                    let granted = if breaking { head.take_over(&claim(p, k)) } else { head.acquire(&claim(p, k)) };
                    prop_assert_eq!(granted.is_ok(), if breaking { PRINCIPALS[p] == OWNER || makes } else { free });
                    match granted {
                        Ok(epoch) => {
                            prop_assert!(oracle.grants.iter().all(|grant| grant.2 < epoch), "an epoch was given twice");
                            oracle.live = Some(oracle.grants.len());
                            oracle.grants.push((p, k, epoch));
                        }
                        Err(refusal) if breaking => prop_assert_eq!(refusal.code, Code::NotOwner),
                        Err(refusal) => {
                            prop_assert_eq!(refusal.code, Code::Locked);
                            prop_assert_eq!(refusal.error.holder.as_ref(), before.lock.as_ref());
                        }
                    }
                }
                Op::Release(p, ago) => {
                    let Some(i) = oracle.grants.len().checked_sub(ago + 1) else { continue };
                    let (holder, _, epoch) = oracle.grants[i];
                    let is_last = i + 1 == oracle.grants.len();
                    let again = oracle.live.is_none() && is_last;
                    let may = oracle.live == Some(i) && p == holder;
                    prop_assert_eq!(head.release(PRINCIPALS[p], epoch).is_ok(), may || again);
                    if may {
                        oracle.live = None;
                    }
                }
                Op::Commit(p, ago) => {
                    let Some(i) = oracle.grants.len().checked_sub(ago + 1) else { continue };
                    let (holder, _, epoch) = oracle.grants[i];
                    let may = oracle.live == Some(i) && p == holder;
                    let answer = head.may_write(PRINCIPALS[p], epoch);
                    prop_assert_eq!(answer.is_ok(), may);
                    if let Err(refusal) = answer {
                        let want = if oracle.live == Some(i) { Code::Locked } else { Code::StaleEpoch };
                        prop_assert_eq!(refusal.code, want);
                        continue;
                    }
                    let next = head.version.next();
                    prop_assert_eq!(head.may_commit(head.version, next).unwrap(), Step::Next);
                    prop_assert_eq!(head.may_commit(next, next.next()).unwrap_err().code, Code::WrongParent);
                    head.version = next;
                    oracle.commits += 1;
                    prop_assert_eq!(head.may_commit(Version(next.0 - 1), next).unwrap(), Step::Again);
                }
            }
            // Always: the epoch rises exactly when the lock changes; who may see it is who owns or holds it.
            prop_assert_eq!(head.epoch != before.epoch, head.lock != before.lock);
            prop_assert!(head.epoch >= before.epoch);
            prop_assert_eq!(head.version, Version(oracle.commits));
            prop_assert_eq!(head.lock.is_some(), oracle.live.is_some());
            for (i, principal) in PRINCIPALS.iter().enumerate() {
                let holds = oracle.live.is_some_and(|live| oracle.grants[live].0 == i);
                prop_assert_eq!(head.visible_to(principal), *principal == OWNER || holds);
            }
            prop_assert_eq!(&Head::decode(&head.encode()).unwrap(), &head);
        }
    }

    #[test]
    fn any_bytes_are_a_head_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Head::decode(&bytes);
    }
}

#[test]
fn the_stored_form_of_format_1_is_read_for_ever() {
    let stored = br#"{"format":1,"name":"work","owner":"shanta@WAYSTATION.TEST","version":3,"epoch":9,"lock":{"principal":"shanta@WAYSTATION.TEST","kiosk":"a","epoch":9,"since":5}}"#;
    let head = Head::decode(stored).unwrap();
    assert_eq!((head.version, head.epoch), (Version(3), Epoch(9)));
    assert_eq!(head.encode(), stored);
}

#[test]
fn a_newer_or_contradictory_head_is_not_guessed_at() {
    let head = |text: &str| Head::decode(text.as_bytes()).unwrap_err();
    assert!(
        head(r#"{"format":2,"name":"w","owner":"o@R","version":3,"epoch":9,"lock":null}"#)
            .contains("format 2")
    );
    assert!(
        head(r#"{"format":1,"name":"w","owner":"o@R","version":3,"epoch":9,"lock":null,"new":1}"#)
            .contains("new")
    );
    let lock = r#"{"principal":"o@R","kiosk":"a","epoch":8,"since":5}"#;
    let text = format!(r#"{{"format":1,"name":"w","owner":"o@R","version":3,"epoch":9,"lock":{lock}}}"#);
    assert!(head(&text).contains("another epoch"));
}

#[test]
fn no_number_overflows() {
    let mut head = Head::create("work", OWNER, &claim(0, 0));
    for (parent, version) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
        assert_eq!(head.may_commit(Version(parent), Version(version)).unwrap_err().code, Code::WrongParent);
    }
    head.version = Version(u64::MAX);
    assert_eq!(head.may_commit(Version(u64::MAX), Version(0)).unwrap_err().code, Code::WrongParent);
    let epoch = Epoch(u64::MAX);
    assert_eq!(head.may_write(OWNER, epoch).unwrap_err().code, Code::StaleEpoch);
    assert_eq!(head.release(OWNER, epoch).unwrap_err().code, Code::StaleEpoch);
}
