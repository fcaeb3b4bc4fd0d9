//! What is left of a session in the kiosk's memory and on its disk.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use rig::{
    kiosk::Kiosk,
    realm::password_of,
    search::{self, Needle},
    walk::{self, USER},
};
use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

/// Dumps the memory before and during a session, where the secrets must be found, so that the test can fail, and after
/// the wipe, where none may be; and the cache's disk with it.
pub fn leaves_nothing(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.a()?;
    let dump = scene.world.dir.join("dump");
    let password = password_of(USER)?;
    let in_memory = random_hex()?;
    let on_disk = random_hex()?;

    // Control: the password, typed and not yet sent.
    kiosk.keys(&format!("{USER}\r{password}"))?;
    kiosk.expect(&"*".repeat(password.len()), rig::kiosk::limits::SCREEN)?;
    let typed = found(&kiosk, &dump, &[Needle::new("password", password.as_bytes())])?;
    ensure!(typed["password"] > 0, "the control did not find the password in the login form");

    // What only the right places know: the key from the parcel's slot, session keys from what the KDC answers.
    let key = scene.world.server.key(&scene.parcel, password)?;
    let earlier = scene.world.realm.session_keys(USER)?.len();

    // Control: the ticket that a log-in begins with, while the one for the parcel server is asked for. The latter is gone before
    // the parcel server is asked.
    scene.world.realm.hold_service_tickets(true);
    kiosk.keys("\r")?;
    let asking = await_tickets(scene, earlier, "krbtgt/")
        .and_then(|tickets| found(&kiosk, &dump, &session_keys(&tickets[earlier..])));
    scene.world.realm.hold_service_tickets(false);
    let asking = asking?;
    println!("logging in: {asking:?}");
    ensure!(asking.values().any(|count| *count > 0), "the control did not find a session key: {asking:?}");
    let tickets = await_tickets(scene, earlier, "HTTP/")?;
    kiosk.expect(rig::kiosk::words::RESUME, rig::kiosk::limits::SCREEN)?;

    let mut needles = vec![
        Needle::new("canary in the guest's memory", in_memory.as_bytes()),
        Needle::new("canary on the guest's disk", on_disk.as_bytes()),
        Needle::new("password", password.as_bytes()),
        Needle::new("parcel key", key.expose()),
        Needle::new("parcel key in hexadecimal", key.to_hex().as_bytes()),
        Needle::new("the editor's text", walk::UNSAVED.as_bytes()),
        Needle::new("a row of the guest's database", walk::ROW.as_bytes()),
    ];
    // Those of the sessions before, too.
    needles.extend(session_keys(&tickets));

    // Control: a session under way.
    kiosk.resume(walk::UNSAVED)?;
    walk::leave_editor(&mut kiosk)?;
    kiosk.shell(&format!("CANARY={in_memory}; echo {on_disk} > canary.txt; sync"))?;
    walk::edit(&mut kiosk)?;
    let during = found(&kiosk, &dump, &needles)?;
    println!("in a session: {during:?}");
    for name in
        ["canary in the guest's memory", "canary on the guest's disk", "parcel key", "the editor's text"]
    {
        ensure!(during[name] > 0, "the control did not find the {name} in a session: {during:?}");
    }
    let disk = scene.world.dir.join("cache-a.img");
    // The partition's name, as GPT writes it, shows that the disk can be read at all.
    let gpt: Vec<u8> = "waystation-cache".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let on_cache = count(&disk, &[&needles[..], &[Needle::new("partition name", &gpt)]].concat())?;
    ensure!(on_cache["partition name"] > 0, "the cache's disk cannot be searched");
    ensure!(blocks(&disk)? > 4096, "the session left nothing on the cache's disk to be wiped");

    kiosk.suspend()?;
    let after = found(&kiosk, &dump, &needles)?;
    ensure!(after.values().all(|count| *count == 0), "left in memory after the wipe: {after:?}");
    let on_cache = count(&disk, &needles)?;
    ensure!(
        on_cache.values().all(|count| *count == 0),
        "left on the cache's disk after the wipe: {on_cache:?}"
    );
    fs::remove_file(&dump)?;
    kiosk.dismiss()?;
    scene.keep_a(kiosk);
    Ok(())
}

/// The tickets so far, once there is a new one for `service`.
fn await_tickets(scene: &Scene, earlier: usize, service: &str) -> Result<Vec<(String, Vec<u8>)>> {
    for _ in 0..60 {
        let tickets = scene.world.realm.session_keys(USER)?;
        if tickets[earlier..].iter().any(|(name, _)| name.starts_with(service)) {
            // The kiosk has it as soon as the KDC's answer has reached it.
            thread::sleep(Duration::from_secs(1));
            return Ok(tickets);
        }
        thread::sleep(Duration::from_millis(500));
    }
    anyhow::bail!("the kiosk got no ticket for {service}")
}

fn session_keys(tickets: &[(String, Vec<u8>)]) -> Vec<Needle> {
    tickets
        .iter()
        .map(|(service, key)| {
            Needle::new(&format!("session key {} of {service}", &hex::encode(key)[..6]), key)
        })
        .collect()
}

/// Dumps a kiosk's memory and counts needles in it.
fn found(kiosk: &Kiosk, dump: &Path, needles: &[Needle]) -> Result<BTreeMap<String, usize>> {
    kiosk.machine.dump_memory(dump)?;
    count(dump, needles)
}

fn count(file: &Path, needles: &[Needle]) -> Result<BTreeMap<String, usize>> {
    Ok(search::count(file, needles)?.into_iter().collect())
}

/// Blocks of 512 bytes that a file takes.
fn blocks(file: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(file)?.blocks())
}

fn random_hex() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
