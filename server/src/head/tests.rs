//! The rules against a naive oracle, under any sequence of operations.

use super::*;
use proptest::prelude::*;

const OWNER: &str = "shanta@WAYSTATION.TEST";
const ADMIN: &str = "it@WAYSTATION.TEST";
const PRINCIPALS: [&str; 3] = [OWNER, ADMIN, "ravi@WAYSTATION.TEST"];
const KIOSKS: [&str; 2] = ["a", "b"];

/// The `n`-th acquisition.
fn by(principal: usize, kiosk: usize, n: usize) -> Acquirer<'static> {
    let (principal, kiosk) = (PRINCIPALS[principal], KIOSKS[kiosk]);
    Acquirer { principal, kiosk, boot: BootId([1; 16]), claim: tag(n), now: 5 }
}

fn tag(n: usize) -> ClaimTag {
    ClaimTag([n as u8; 16])
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(usize, usize),
    Break(usize, usize),
    /// The acquisition of so many grants ago, asked for again.
    Again(usize, bool),
    /// Release, or write and commit, under the grant of so many ago.
    Release(usize, usize),
    Commit(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (p, k, ago) = (0usize..3, 0usize..2, 0usize..4);
    prop_oneof![
        (p.clone(), k.clone()).prop_map(|(p, k)| Op::Acquire(p, k)),
        (p.clone(), k).prop_map(|(p, k)| Op::Break(p, k)),
        (ago.clone(), any::<bool>()).prop_map(|(ago, breaking)| Op::Again(ago, breaking)),
        (p.clone(), ago.clone()).prop_map(|(p, ago)| Op::Release(p, ago)),
        (p, ago).prop_map(|(p, ago)| Op::Commit(p, ago)),
    ]
}

/// Knows only who was granted what, in order; `live` is the grant that nothing has ended yet.
struct Oracle {
    /// Principal, kiosk, epoch.
    grants: Vec<(usize, usize, Epoch)>,
    live: Option<usize>,
    released: Vec<usize>,
    commits: u64,
}

proptest! {
    #[test]
    fn only_the_last_grant_may_write(ops in proptest::collection::vec(op(), 0..60)) {
        let mut head = Head::create("work", OWNER, &by(1, 0, 0));
        let mut oracle =
            Oracle { grants: vec![(1, 0, head.epoch)], live: Some(0), released: Vec::new(), commits: 0 };
        for op in ops {
            let before = head.clone();
            let ago = |ago: usize| oracle.grants.len().checked_sub(ago + 1);
            match op {
                Op::Acquire(p, k) | Op::Break(p, k) => {
                    let breaking = matches!(op, Op::Break(..));
                    // Who makes it may move before the first version.
                    let makes = oracle.commits == 0 && oracle.live.is_some_and(|i| oracle.grants[i].0 == p);
                    let n = oracle.grants.len();
                    let granted =
                        if breaking { head.take_over(&by(p, k, n)) } else { head.acquire(&by(p, k, n)) };
                    let may = if breaking { PRINCIPALS[p] == OWNER || makes } else { oracle.live.is_none() };
                    prop_assert_eq!(granted.is_ok(), may);
                    match granted {
                        Ok(epoch) => {
                            prop_assert!(oracle.grants.iter().all(|grant| grant.2 < epoch), "an epoch was given twice");
                            oracle.live = Some(n);
                            oracle.grants.push((p, k, epoch));
                        }
                        Err(refusal) if breaking => prop_assert_eq!(refusal.code(), Code::NotOwner),
                        Err(refusal) => {
                            prop_assert_eq!(refusal.code(), Code::Locked);
                            prop_assert_eq!(refusal.error.holder.as_ref(), before.lock.as_ref());
                        }
                    }
                }
                Op::Again(back, breaking) => {
                    let Some(i) = ago(back) else { continue };
                    let (p, k, epoch) = oracle.grants[i];
                    let again = by(p, k, i);
                    let answer = if breaking { head.take_over(&again) } else { head.acquire(&again) };
                    match answer {
                        Ok(given) => prop_assert!(oracle.live == Some(i) && given == epoch),
                        Err(refusal) if oracle.live == Some(i) => prop_assert_eq!(refusal.code(), Code::NotOwner),
                        Err(refusal) => prop_assert!(
                            refusal.code() == Code::StaleEpoch || breaking && refusal.code() == Code::NotOwner
                        ),
                    }
                    prop_assert_eq!(&head, &before);
                }
                Op::Release(p, back) => {
                    let Some(i) = ago(back) else { continue };
                    let (holder, _, epoch) = oracle.grants[i];
                    let again = oracle.released.contains(&i);
                    let may = oracle.live == Some(i) && p == holder;
                    let writer = Writer { principal: PRINCIPALS[p], epoch, claim: tag(i) };
                    prop_assert_eq!(head.release(writer).is_ok(), may || again);
                    if may {
                        oracle.live = None;
                        oracle.released.push(i);
                    }
                }
                Op::Commit(p, back) => {
                    let Some(i) = ago(back) else { continue };
                    let (holder, _, epoch) = oracle.grants[i];
                    let may = oracle.live == Some(i) && p == holder;
                    let writer = Writer { principal: PRINCIPALS[p], epoch, claim: tag(i) };
                    let answer = head.may_write(writer);
                    prop_assert_eq!(answer.is_ok(), may);
                    // The same epoch in another line of history: whoever has it, it is not this lock.
                    let stranger = Writer { claim: tag(200), ..writer };
                    prop_assert_eq!(head.may_write(stranger).unwrap_err().code(), Code::UnknownClaim);
                    if let Err(refusal) = answer {
                        let want = if oracle.live == Some(i) { Code::Locked } else { Code::StaleEpoch };
                        prop_assert_eq!(refusal.code(), want);
                        continue;
                    }
                    let next = head.version.next();
                    prop_assert_eq!(head.may_commit(head.version, next).unwrap(), Step::Next);
                    prop_assert_eq!(head.may_commit(next, next.next()).unwrap_err().code(), Code::WrongParent);
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
fn the_stored_form_of_format_2_is_read_for_ever() {
    let (boot, claim, old) = ("01".repeat(16), "02".repeat(16), "03".repeat(16));
    let stored = format!(
        r#"{{"format":2,"name":"work","owner":"shanta@WAYSTATION.TEST","version":3,"epoch":9,"lock":{{"principal":"shanta@WAYSTATION.TEST","kiosk":"a","boot":"{boot}","claim":"{claim}","epoch":9,"since":5}},"ended":[{{"claim":"{old}","how":"broken","rescue":null}}]}}"#
    );
    let head = Head::decode(stored.as_bytes()).unwrap();
    assert_eq!((head.version, head.epoch), (Version(3), Epoch(9)));
    assert_eq!(head.encode(), stored.as_bytes());
}

#[test]
fn a_newer_or_contradictory_head_is_not_guessed_at() {
    let head = |text: &str| Head::decode(text.as_bytes()).unwrap_err();
    let with = |format: u32, lock: &str, more: &str| {
        format!(
            r#"{{"format":{format},"name":"w","owner":"o@R","version":3,"epoch":9,"lock":{lock},"ended":[]{more}}}"#
        )
    };
    assert!(head(&with(3, "null", "")).contains("format 3"));
    assert!(head(&with(2, "null", r#","new":1"#)).contains("new"));
    let (boot, claim) = ("01".repeat(16), "02".repeat(16));
    let lock =
        format!(r#"{{"principal":"o@R","kiosk":"a","boot":"{boot}","claim":"{claim}","epoch":8,"since":5}}"#);
    assert!(head(&with(2, &lock, "")).contains("another epoch"));
}

#[test]
fn a_head_remembers_the_last_claims_that_ended() {
    let mut head = Head::create("work", OWNER, &by(0, 0, 0));
    for n in 1..=2 * REMEMBERED {
        head.take_over(&by(0, 0, n)).unwrap();
    }
    let write =
        |n| head.may_write(Writer { principal: OWNER, epoch: Epoch(1), claim: tag(n) }).unwrap_err().code();
    assert_eq!((write(2 * REMEMBERED - 1), write(REMEMBERED)), (Code::StaleEpoch, Code::StaleEpoch));
    // One that is forgotten is not told that its lock was broken: it waits.
    assert_eq!(write(REMEMBERED - 1), Code::UnknownClaim);
}

#[test]
fn no_number_overflows() {
    let mut head = Head::create("work", OWNER, &by(0, 0, 0));
    for (parent, version) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
        assert_eq!(head.may_commit(Version(parent), Version(version)).unwrap_err().code(), Code::WrongParent);
    }
    head.version = Version(u64::MAX);
    assert_eq!(head.may_commit(Version(u64::MAX), Version(0)).unwrap_err().code(), Code::WrongParent);
    let writer = Writer { principal: OWNER, epoch: Epoch(u64::MAX), claim: tag(0) };
    assert_eq!(head.may_write(writer).unwrap_err().code(), Code::UnknownClaim);
    assert_eq!(head.release(writer).unwrap_err().code(), Code::UnknownClaim);
}

#[test]
fn the_head_on_the_page_is_one() {
    let page = include_str!("../../../docs/formats.md");
    let text = page.split("<!-- json: head -->\n```json\n").nth(1).unwrap().split("```").next().unwrap();
    let head = Head::decode(text.as_bytes()).unwrap();
    let shown: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&head.encode()).unwrap(), shown);
    assert_eq!(head.ended.iter().map(|ended| ended.how).collect::<Vec<_>>(), [How::Released, How::Broken]);
    assert!(page.contains(&format!("the last {REMEMBERED} acquisitions that ended")));
}
