//! The manager: boot, then sessions until the kiosk is powered off. PID 1 starts it again whenever it ends otherwise.

use crate::{
    config::Config,
    control::Control,
    diagnosis::Doctor,
    disks,
    identity::Identity,
    lockdown,
    log::{FOLDER, Log},
    machine::Machine,
    modules,
    net::{
        self,
        probe::{Prober, Server},
        reach,
        view::Links,
    },
    session::{Kiosk, Settings},
    switches,
    system::{Event, Network, Power},
    uevent::Uevents,
    usb::Ports,
    wall::{self, Keeper, Sources},
    wipe::{self, Evidence},
};
use anyhow::Context as _;
use parcel::{
    id::BootId,
    wire::kiosk::{self, Cache, CacheKind},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Environment variable by which PID 1 tells how the previous manager ended.
pub const CRASHED: &str = "WAYSTATION_CRASHED";
/// Exit status that asks PID 1 to power off.
pub const EXIT_OFF: i32 = 40;
/// Exit status that asks PID 1 to restart the machine.
pub const EXIT_REBOOT: i32 = 41;

/// Hardware that shows up this long after the last is waited for before the first login.
const QUIET: Duration = Duration::from_millis(500);
/// And no longer than this in all.
const LONGEST: Duration = Duration::from_secs(8);
/// How long the first login screen waits for somebody to tell the time.
const CLOCK_WAIT: Duration = Duration::from_secs(6);

/// Runs until the kiosk ends; answers the process's exit status.
///
/// # Errors
/// A socket or thread without which there is no kiosk cannot be made; PID 1 tries again.
pub fn run() -> anyhow::Result<i32> {
    // What the session's programs are killed for, the manager is not; PID 1 never is.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
    net::make_folder()?;
    let config = Config::load();
    // A log on the terminal of the screens would scribble over them.
    let terminal = config.kiosk.log.as_deref().filter(|log| *log != config.kiosk.console);
    let log = Log::open(Path::new(FOLDER), terminal);
    log_panics(&log);
    // Whatever session a crashed manager left, its programs are dead: nobody sees the clock jump.
    let clock = Keeper::new(wall::Kernel, wall::built(), log.clone());
    let crashed = std::env::var(CRASHED).ok();
    log.line("init", &format!("the session manager begins, Waystation {}", config.image));
    if let Some(wrong) = &config.wrong {
        log.line("init", wrong);
    }
    wipe::remember_kernel();
    follow_kernel(&log, crashed.is_none());
    lockdown::apply(&log);
    // Every wipe is held against this; IT learns of it before anybody has worked here.
    match lockdown::open() {
        Ok(open) => open.iter().for_each(|door| log.line("lockdown", &format!("open: {door}"))),
        Err(error) => log.line("lockdown", &format!("what is open cannot be told: {error}")),
    }
    let ports = Ports::new(&log);
    let last_hardware = follow_hardware(&log, &ports);
    modules::coldplug(&log, |path, alias| ports.alias(path, alias));
    lockdown::devices();
    ports.close_later()?;
    // The machine's network cards are part of its name, and DHCP is told that name.
    wait_for_hardware(&last_hardware);
    let identity = Identity::of_this_machine(config.name.as_deref()).context("this kiosk has no name")?;
    log.line("init", &format!("this is kiosk {}", identity.name));
    if identity.passing {
        log.line(
            "init",
            "the machine has no serial number, UUID or network card of its own: this name holds until it is switched off",
        );
    }
    let hostname = hostname(&identity.name);
    if let Err(errno) = nix::unistd::sethostname(&hostname) {
        log.line("init", &format!("the host name cannot be set: {errno}"));
    }

    let settings = Settings {
        name: identity.name,
        passing_name: identity.passing,
        boot: boot_id()?,
        image: config.image.clone(),
        power_off_on_failure: config.kiosk.wipe.power_off_on_failure,
        crashed,
        clock_wait: CLOCK_WAIT,
    };
    // Whatever a crash left is wiped later and reported; now it must only not be in the way.
    let _ = wipe::make_room();
    let control = Control::default();
    let cache = config.kiosk.cache.clone();
    let low_battery = config.kiosk.session.low_battery_percent;
    let (links, prober) = (Links::default(), Prober::new(Path::new("/init")));
    let ca = std::fs::read_to_string(kiosk::CA_PATH).unwrap_or_default();
    let doctor = Doctor::new(&config.kiosk, &ca, prober.clone(), links.clone(), &clock, &log);
    let (hosts, server) = (config.kiosk.hosts.clone(), Server { url: config.kiosk.server_url.clone(), ca });
    let sources = Sources {
        prober: prober.clone(),
        ntp: config.kiosk.clock.ntp.clone(),
        server: server.clone(),
        hosts: hosts.clone(),
        links: links.clone(),
    };
    let evidence = Evidence::of_first_boot();
    let mut machine = Machine::new(config, log.clone(), control.clone(), evidence, clock.clone(), doctor);
    let tell = machine.teller();
    control.serve(Path::new(kiosk::RUN), move |command| tell(Event::Command(command)))?;
    let tell = machine.teller();
    ports.tell_to(move |refused| tell(Event::Refused(refused)));
    let tell = machine.teller();
    switches::watch(low_battery, log.clone(), move |sign| tell(Event::Sign(sign)));
    let tell = machine.teller();
    net::Watch::start(hostname, links.clone(), log.clone(), move |network| tell(Event::Network(network)))?;
    reach::start(links.clone(), prober, server, hosts, log.clone())?;
    let tell = machine.teller();
    clock.keep(sources, links, move |state| tell(Event::Clock(state)))?;
    find_cache(&cache, &log);

    let network = Network { up: None, detail: "Network: looking for one".to_owned() };
    let power = Kiosk::new(&mut machine, settings, network).run();
    log.line("init", if power == Power::Off { "powering off" } else { "restarting" });
    log.flush();
    Ok(if power == Power::Off { EXIT_OFF } else { EXIT_REBOOT })
}

/// Which boot this is. The kernel draws it anew at each; a manager that follows a crashed one finds the same.
fn boot_id() -> anyhow::Result<BootId> {
    let text =
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the kernel tells no boot id")?;
    text.trim().replace('-', "").parse().context("the kernel's boot id is none")
}

/// Notes which partition is the cache's, before anybody can plug in another.
fn find_cache(cache: &Cache, log: &Log) {
    match disks::find(&cache.device) {
        Ok(Some(partition)) => {
            log.line("cache", &format!("{} is the cache's partition", partition.node().display()));
        }
        Ok(None) if cache.kind == CacheKind::Disk => log.line("cache", &disks::missing(&cache.device)),
        Ok(None) => {}
        Err(error) => log.line("cache", &format!("its partition cannot be looked for: {error}")),
    }
}

/// A panic in any thread ends the manager, and PID 1 brings a clean one: half a manager is worse than none.
fn log_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        log.line("init", &format!("panic: {panic}"));
        log.flush();
        std::process::exit(101);
    }));
}

/// Copies the kernel's warnings, and PID 1's words, to the log.
fn follow_kernel(log: &Log, from_start: bool) {
    let log = log.clone();
    let _ = std::thread::Builder::new().name("kmsg".to_owned()).spawn(move || {
        let Ok(mut kmsg) = std::fs::File::open("/dev/kmsg") else { return };
        if !from_start {
            // The previous manager has logged what is there.
            let _ = std::io::Seek::seek(&mut kmsg, std::io::SeekFrom::End(0));
        }
        let mut buffer = [0u8; 8192];
        loop {
            match std::io::Read::read(&mut kmsg, &mut buffer) {
                Ok(len) => {
                    if let Some(text) = crate::kmsg::worth_logging(buffer.get(..len).unwrap_or_default()) {
                        log.line("kernel", text);
                    }
                }
                // The ring ran over, or a record is longer than any of ours: go on with the next.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL | libc::EINTR)) => {}
                Err(_) => return,
            }
        }
    });
}

/// Loads modules for hardware that shows up later; answers when the last did, in milliseconds since boot.
fn follow_hardware(log: &Log, ports: &Ports) -> Arc<AtomicU64> {
    let last = Arc::new(AtomicU64::new(0));
    let (seen, log, ports) = (last.clone(), log.clone(), ports.clone());
    let _ = std::thread::Builder::new().name("uevents".to_owned()).spawn(move || {
        let mut uevents = match Uevents::open() {
            Ok(uevents) => uevents,
            Err(error) => return log.line("init", &format!("no hot-plug: {error}")),
        };
        loop {
            match uevents.receive() {
                Ok(event) if event.action == "add" => {
                    seen.store(millis(), Ordering::Release);
                    if let Some(alias) = &event.modalias {
                        modules::load([ports.alias(Path::new(&event.devpath), alias).as_str()], &log);
                    }
                    if event.devname.is_some() {
                        lockdown::devices();
                    }
                    ports.plugged(&event);
                }
                Ok(event) if event.action == "remove" => ports.unplugged(&event),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    modules::coldplug(&log, |path, alias| ports.alias(path, alias));
                    lockdown::devices();
                    ports.look_again();
                }
                Err(error) => return log.line("init", &format!("hot-plug ends: {error}")),
            }
        }
    });
    last
}

/// Disks and network cards turn up one after the other, each behind the module of the one before.
fn wait_for_hardware(last: &AtomicU64) {
    let begun = millis();
    loop {
        let now = millis();
        let quiet = now.saturating_sub(last.load(Ordering::Acquire).max(begun));
        if quiet >= millis_of(QUIET) || now.saturating_sub(begun) >= millis_of(LONGEST) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn millis() -> u64 {
    millis_of(crate::clock::since_boot())
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A host name made of the kiosk's name: letters, digits and hyphens.
fn hostname(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    let cut: String = plain.chars().take(63).collect();
    if cut.is_empty() { "kiosk".to_owned() } else { cut.trim_end_matches('-').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        assert_eq!(hostname("Gate 7 (north)"), "gate-7--north");
        assert_eq!(hostname("¿"), "kiosk");
        assert_eq!(hostname(&"a".repeat(100)).len(), 63);
    }

    #[test]
    fn the_kernel_tells_which_boot_this_is() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
