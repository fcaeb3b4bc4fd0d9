//! The walk: one traveller, three sessions, two kiosks; what is in her computer's memory goes with her.

use crate::{
    guest::PROMPT,
    kiosk::{Kiosk, limits, words},
    timeline,
    world::World,
};
use anyhow::{Context, Result, bail, ensure};
use parcel::wire::session::PhaseRecord;
use std::{
    fs,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// The traveller.
pub const USER: &str = "shanta";
/// What she has typed into her editor and not saved.
pub const UNSAVED: &str = "the monsoon came early this year";
/// What stands in the file that she saved.
pub const SAVED: &str = "tickets are in the blue bag";
/// What she keeps in a database.
pub const ROW: &str = "platform nine";

/// The rig, as a kiosk and its guest see it.
const HOST: &str = "10.0.2.2";

/// What the guest holds only in memory, as the counter told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Process id.
    pub pid: u32,
    /// The random nonce.
    pub nonce: String,
    /// How far it has counted.
    pub count: u64,
}

/// What a walk showed.
#[derive(Debug)]
pub struct Outcome {
    /// The phases of all three sessions.
    pub phases: Vec<PhaseRecord>,
    /// What was looked at on the way.
    pub proof: Proof,
}

/// What the walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// After each resume the counter was the same process with the same nonce, and had counted on.
    pub nonce_preserved: bool,
    /// After each resume the editor held the text, and no file did.
    pub unsaved_text_preserved: bool,
    /// Each wipe was verified: the kiosk said so, and every phase of its log ended well.
    pub wipe_verified: bool,
}

/// Kiosks of a walk, left switched on at their login screens.
#[derive(Debug)]
pub struct Kiosks {
    /// Boots from a USB stick and has a disk for its cache.
    pub a: Kiosk,
    /// Boots from the network, keeps its cache in memory, has another address and more memory.
    pub b: Kiosk,
}

/// Keeps screens as text in a folder, if there is one.
struct Album<'a>(Option<&'a Path>);

impl Album<'_> {
    fn keep(&self, name: &str, kiosk: &Kiosk) -> Result<()> {
        if let Some(out) = self.0 {
            fs::write(out.join(format!("{name}.txt")), kiosk.machine.screen.settled())?;
        }
        Ok(())
    }
}

/// The first session, on kiosk A, which is left at its login screen; the traveller's computer is suspended with an editor open.
/// Screens as text go to `out`, if given; `say` hears of each step. Gives the wipe's report, too.
pub fn first_session(
    world: &World,
    out: Option<&Path>,
    say: &mut dyn FnMut(&str),
) -> Result<(Kiosk, Found, String)> {
    let album = Album(out);
    say("kiosk A boots from its USB stick");
    let mut spec = world.usb("A");
    spec.cache_disk = Some(world.cache_disk("a")?);
    let mut a = world.boot(spec)?;
    album.keep("01-login", &a)?;
    say("shanta logs in on A; her computer boots");
    a.log_in(USER)?;
    album.keep("02-parcels", &a)?;
    a.resume(PROMPT)?;
    say("she works: a counter, files, a database, an editor with unsaved text");
    let found = begin_work(&mut a, world)?;
    album.keep("03-working", &a)?;
    say("she suspends");
    let report = a.suspend()?;
    album.keep("04-report", &a)?;
    a.dismiss()?;
    Ok((a, found, report))
}

/// Walks through all of it. Screens as text and a timeline go to `out`, if given; `say` hears of each step.
pub fn walk(world: &World, out: Option<&Path>, say: &mut dyn FnMut(&str)) -> Result<(Kiosks, Outcome)> {
    let (mut a, before, report) = first_session(world, out, say)?;
    let mut reports = vec![report];
    let first = a.phases().len();

    say("kiosk B boots from the network");
    let mut spec = world.netboot("B");
    spec.memory_mib = 2048;
    let mut b = world.boot(spec)?;
    say("shanta logs in on B; her computer goes on");
    b.log_in(USER)?;
    b.resume(UNSAVED)?;
    Album(out).keep("05-resumed", &b)?;
    let middle = go_on(&mut b, world)?;
    say("she suspends again");
    reports.push(b.suspend()?);
    b.dismiss()?;

    say("and resumes back on A");
    a.log_in(USER)?;
    a.resume(UNSAVED)?;
    let after = go_on(&mut a, world)?;
    reports.push(a.suspend()?);
    a.dismiss()?;

    // In the order of the sessions.
    let mut phases = named("A", &a);
    let rest = phases.split_off(first.min(phases.len()));
    phases.extend(named("B", &b));
    phases.extend(rest);
    let proof = Proof {
        nonce_preserved: before.counter.carried_on(&middle.counter)
            && middle.counter.carried_on(&after.counter),
        unsaved_text_preserved: middle.unsaved && after.unsaved,
        wipe_verified: reports.iter().all(|report| report.contains(words::WIPED))
            && phases.iter().all(|phase| phase.ok),
    };
    ensure!(
        proof == Proof { nonce_preserved: true, unsaved_text_preserved: true, wipe_verified: true },
        "{proof:?}: {before:?}, {middle:?}, {after:?}\n{}",
        timeline::table(&phases)
    );
    Ok((Kiosks { a, b }, Outcome { phases, proof }))
}

/// A kiosk's phases under the name that it has in the walk.
fn named(name: &str, kiosk: &Kiosk) -> Vec<PhaseRecord> {
    kiosk.phases().into_iter().map(|phase| PhaseRecord { kiosk: name.to_owned(), ..phase }).collect()
}

impl Counter {
    /// Whether `later` is the same process, further on.
    pub fn carried_on(&self, later: &Self) -> bool {
        self.pid == later.pid && self.nonce == later.nonce && self.count < later.count
    }
}

/// How the guest was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The counter.
    pub counter: Counter,
    /// The editor held its text, and no file did.
    pub unsaved: bool,
}

/// Starts what only memory holds, writes what only the disk holds; leaves the editor on the screen.
pub fn begin_work(kiosk: &mut Kiosk, world: &World) -> Result<Found> {
    reach_out(kiosk, world)?;
    kiosk.shell(&format!(
        "echo '{SAVED}' > note.txt; sqlite3 diary.db \"create table t(x); insert into t values('{ROW}')\""
    ))?;
    let printed = kiosk.shell("counter start")?;
    let counter = ask(kiosk)?;
    ensure!(
        printed == format!("nonce={}", counter.nonce),
        "the counter printed {printed:?} and then said {counter:?}"
    );
    edit(kiosk)?;
    Ok(Found { counter, unsaved: true })
}

/// The guest's network and clock work: it reaches the world through the kiosk, and knows what time it is.
pub fn reach_out(kiosk: &mut Kiosk, world: &World) -> Result<()> {
    let port = world.server.port();
    let seen = kiosk.shell(&format!(
        "python3 -c 'import socket, time; s = socket.create_connection((\"{HOST}\", {port}), 30); \
         print(\"peer\", s.getpeername()[1], \"time\", int(time.time()))'"
    ))?;
    let mut words = seen.split_whitespace();
    let (peer, time) = (words.nth(1), words.nth(1).and_then(|time| time.parse::<u64>().ok()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(peer == Some(port.to_string().as_str()), "the guest did not reach {HOST}:{port}: {seen}");
    // Far more than a busy machine needs to print it, far less than the guest was suspended.
    ensure!(
        time.is_some_and(|time| time.abs_diff(now) < 30),
        "the guest's clock is off: it is {now}, and {seen}"
    );
    Ok(())
}

/// Leaves an editor with unsaved text on the screen.
pub fn edit(kiosk: &mut Kiosk) -> Result<()> {
    kiosk.keys("nano unsaved.txt\r")?;
    kiosk.expect("GNU nano", limits::SCREEN)?;
    kiosk.keys(UNSAVED)?;
    kiosk.expect(UNSAVED, limits::SCREEN)
}

/// After a resume, with the editor's text on the screen: leaves the editor, looks at everything, opens the editor again.
pub fn go_on(kiosk: &mut Kiosk, world: &World) -> Result<Found> {
    leave_editor(kiosk)?;
    reach_out(kiosk, world)?;
    let seen = kiosk.shell("ls unsaved.txt 2>&1; cat note.txt; sqlite3 diary.db 'select x from t'")?;
    ensure!(seen.contains(SAVED) && seen.contains(ROW), "files were not as they were left: {seen}");
    let counter = ask(kiosk)?;
    edit(kiosk)?;
    Ok(Found { counter, unsaved: seen.contains("No such file") })
}

/// Leaves the editor without saving.
pub fn leave_editor(kiosk: &mut Kiosk) -> Result<()> {
    // It asks because its text is not saved; that it asks shows that it still holds it.
    kiosk.keys("\x18")?;
    kiosk.expect("Save modified buffer", limits::SCREEN)?;
    kiosk.keys("n")?;
    kiosk.prompt()
}

/// Asks the counter in the guest.
pub fn ask(kiosk: &mut Kiosk) -> Result<Counter> {
    let text = kiosk.shell("counter ask")?;
    let field = |name: &str| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .with_context(|| format!("the counter said {text:?}"))
    };
    let nonce = field("nonce")?.to_owned();
    if nonce.len() != 32 {
        bail!("the counter's nonce is {nonce:?}");
    }
    Ok(Counter { pid: field("pid")?.parse()?, nonce, count: field("count")?.parse()? })
}

/// Writes `timeline.jsonl` to `out`, and gives a table for people.
pub fn write_timeline(outcome: &Outcome, out: &Path, start: Instant) -> Result<String> {
    let mut lines = timeline::json_lines(&outcome.phases)?;
    let Proof { nonce_preserved, unsaved_text_preserved, wipe_verified } = outcome.proof;
    let ok = if nonce_preserved && unsaved_text_preserved && wipe_verified { "ok" } else { "failed" };
    lines.push_str(&format!(
        "{{\"demo\":\"{ok}\",\"nonce_preserved\":{nonce_preserved},\
         \"unsaved_text_preserved\":{unsaved_text_preserved},\"wipe_verified\":{wipe_verified}}}\n"
    ));
    fs::write(out.join("timeline.jsonl"), lines)?;
    let total = start.elapsed().as_secs_f64();
    Ok(format!("{}\n{total:.0} s in all\n", timeline::table(&outcome.phases)))
}
