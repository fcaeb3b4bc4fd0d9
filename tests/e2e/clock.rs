//! What a long absence does to a machine.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use rig::{
    guest::PROMPT,
    kiosk::{Kiosk, limits},
    process,
    walk::{self, USER},
};
use std::{process::Command, thread, time::Duration};

const WEEK_DAYS: i64 = 7;
const DAY: i64 = 86_400;
/// Clocks that differ by no more than this, in seconds, show the same: a doubly emulated machine is slow to answer.
const SAME: i64 = 120;
/// What the kiosk's last line says of a guest whose clock nothing sets.
const WARNING: &str = "Wrong clock";

/// Two busy programs share the CPU from the first seconds after a week's absence; the monotonic clock stood still; the
/// real-time clock is right; a guest whose helper does not run is warned of, and its helper sets its clock as soon as it
/// runs. Then the way back, with the helper: the wall clock is right at once.
pub fn a_week_away(scene: &mut Scene) -> Result<()> {
    let mut a = scene.a()?;
    scene.resume(&mut a)?;
    walk::leave_editor(&mut a)?;
    a.shell("hogs start")?;
    superuser(&mut a, "systemctl stop waystation-clock")?;
    a.suspend()?;
    a.dismiss()?;
    // Else it might set its clock by the server's before that comes back.
    drop(a);

    scene.world.go_ahead(WEEK_DAYS)?;
    let mut spec = scene.world.netboot("W");
    spec.clock = Some(in_days(WEEK_DAYS)?);
    let mut later = scene.world.boot(spec)?;
    later.log_in(USER)?;
    later.resume(PROMPT)?;
    let found = Found::of(&mut later)?;
    found.check(WEEK_DAYS * DAY).with_context(|| all_noted(&mut later))?;
    ensure!(found.behind.abs_diff(WEEK_DAYS * DAY) < SAME as u64, "nobody set its clock, but {found:?}");
    later.expect(WARNING, limits::SCREEN)?;
    superuser(&mut later, "systemctl start waystation-clock")?;
    later.expect_gone(WARNING, limits::SCREEN)?;
    let found = Found::of(&mut later)?;
    ensure!(found.behind.abs() < SAME, "its helper set its clock, but {found:?}");
    later.suspend()?;
    drop(later);
    scene.world.go_ahead(0)?;

    let mut a = scene.a()?;
    scene.resume_at(&mut a, PROMPT)?;
    let found = Found::of(&mut a)?;
    found.check(-WEEK_DAYS * DAY).with_context(|| all_noted(&mut a))?;
    ensure!(found.behind.abs() < SAME, "its helper runs, but {found:?}");
    ensure!(!a.machine.screen.text().contains(WARNING), "its helper runs");
    let complaints = a.shell("dmesg | grep -ciE 'soft lockup|rcu.*stall|blocked for more'")?;
    ensure!(complaints == "0", "the guest's kernel complains: {}", a.shell("dmesg | tail")?);
    a.shell("hogs stop")?;
    walk::edit(&mut a)?;
    a.suspend()?;
    a.dismiss()?;
    scene.keep_a(a);
    Ok(())
}

/// What `hogs ask` tells.
#[derive(Debug)]
struct Found {
    /// Seconds by which the monotonic clock went on while the machine was away.
    monotonic: i64,
    /// Likewise the real-time clock.
    rtc: i64,
    /// Seconds by which the wall clock is behind the real-time clock.
    behind: i64,
    /// The first program's part of what both got of the CPU since the resume, in percent: after 2, 4 and 6 seconds of it.
    shares: Vec<i64>,
}

impl Found {
    fn of(kiosk: &mut Kiosk) -> Result<Self> {
        let mut said = String::new();
        // It tells of some seconds, which must have passed.
        for _ in 0..20 {
            said = kiosk.shell("hogs ask")?;
            if said.contains("shares=") {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        let field = |name: &str| {
            let value = said.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.with_context(|| format!("no {name} in {said:?}"))
        };
        let shares: Result<Vec<i64>> =
            field("shares")?.split(',').map(|share| share.parse().context("a share")).collect();
        Ok(Self {
            monotonic: field("monotonic")?.parse()?,
            rtc: field("rtc")?.parse()?,
            behind: field("behind")?.parse()?,
            shares: shares?,
        })
    }

    fn check(&self, away: i64) -> Result<()> {
        ensure!((0..SAME).contains(&self.monotonic), "the monotonic clock did not stand still: {self:?}");
        // The rig's own time goes on, too.
        ensure!((self.rtc - away).abs() < DAY / 4, "the real-time clock is wrong: {self:?}");
        ensure!(self.shares.iter().all(|share| (40..=60).contains(share)), "one program starved: {self:?}");
        Ok(())
    }
}

/// All that there is to say of a check that failed, a screen at a time.
fn all_noted(kiosk: &mut Kiosk) -> String {
    let part = |from: usize| kiosk.shell(&format!("hogs notes | sed -n {from},{}p", from + 19));
    let parts: Result<Vec<String>> = (0..6).map(|part| 20 * part + 1).map(part).collect();
    parts.map_or_else(|error| format!("{error:#}"), |parts| parts.join("\n"))
}

/// Runs a command in the guest as its superuser.
fn superuser(kiosk: &mut Kiosk, command: &str) -> Result<()> {
    kiosk.keys(&format!("clear; su -c '{command}' && echo done-$((40+2))\r"))?;
    kiosk.expect("Password:", limits::SHELL)?;
    kiosk.keys("root\r")?;
    kiosk.expect("done-42", limits::SHELL)
}

/// The time in so many days, as a PC's clock is set to it.
fn in_days(days: i64) -> Result<String> {
    let mut date = Command::new("date");
    Ok(process::run(date.args(["-u", "-d", &format!("{days} days"), "+%Y-%m-%dT%H:%M:%S"]))?
        .trim()
        .to_owned())
}
