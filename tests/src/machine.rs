//! A PC: QEMU with an emulated CPU that has SVM, so that the kiosk's own VMM runs real KVM guests inside.

use crate::{
    process::{self, Daemon},
    qmp::Qmp,
    screen::Screen,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// What the machine boots from.
#[derive(Debug, Clone)]
pub enum Boot {
    /// A USB stick with this image, under UEFI firmware (OVMF).
    Usb(PathBuf),
    /// The network card's iPXE ROM under a BIOS, from this folder over TFTP; the folder holds the script `boot.ipxe`.
    Ipxe(PathBuf),
}

/// A machine to be bought.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name: SMBIOS serial number, and so the beginning of the kiosk's name.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPU features that it lacks, by QEMU's names: `sse4.2`.
    pub lacks: Vec<String>,
    /// Network card's address.
    pub mac: String,
    /// What it boots from.
    pub boot: Boot,
    /// A disk with a partition named `waystation-cache`.
    pub cache_disk: Option<PathBuf>,
    /// What QEMU calls a device such as that disk: `nvme`, `virtio-blk-pci`.
    pub cache_device: &'static str,
    /// What its clock says when it is switched on, as `2026-11-23T12:00:00`, UTC; `None`: the right time.
    pub clock: Option<String>,
}

impl Spec {
    /// An ordinary PC.
    pub fn new(name: &str, boot: Boot) -> Self {
        // The last byte of the card's address comes from the name, so that machines differ.
        let last = name.bytes().fold(0x10u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        Self {
            name: name.to_owned(),
            memory_mib: 1536,
            lacks: Vec::new(),
            mac: format!("52:54:00:12:34:{last:02x}"),
            boot,
            cache_disk: None,
            cache_device: "nvme",
            clock: None,
        }
    }
}

/// A running machine; its power is cut when dropped.
#[derive(Debug)]
pub struct Machine {
    /// The terminal on the first serial line.
    pub screen: Screen,
    spec: Spec,
    dir: PathBuf,
    qmp: Mutex<Qmp>,
    qemu: Daemon,
}

impl Machine {
    /// Switches it on. Sockets, logs and firmware variables go to `dir`.
    pub fn start(spec: Spec, dir: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir)?;
        let command = command_line(&spec, dir)?;
        let qemu_log = dir.join("qemu.log");
        let mut qemu = Daemon::spawn(command, &qemu_log)?;
        let (monitor, line) = (dir.join("qmp.sock"), dir.join("ttyS0.sock"));
        qemu.until(Duration::from_secs(20), || monitor.exists() && line.exists())?;
        let screen = Screen::attach(&line, &dir.join("ttyS0.log"))?;
        let qmp = Mutex::new(Qmp::connect(&monitor)?);
        Ok(Self { screen, spec, dir: dir.to_owned(), qmp, qemu })
    }

    /// How it was built.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// QEMU's monitor.
    pub fn qmp(&self) -> MutexGuard<'_, Qmp> {
        self.qmp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kiosk's log, which it writes to its second serial line.
    pub fn log(&self) -> PathBuf {
        self.dir.join("ttyS1.log")
    }

    /// The kiosk's log so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Waits for text in the kiosk's log.
    pub fn await_log(&self, text: &str, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.log_text().contains(text) {
            ensure!(
                start.elapsed() < timeout,
                "the log of kiosk {} does not say {text:?}; it ends:\n{}",
                self.spec.name,
                process::tail(&self.log(), 4000)
            );
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Its scratch folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Pulls or plugs the network cable.
    pub fn cable(&self, plugged: bool) -> Result<()> {
        self.qmp().set_link("card", plugged)
    }

    /// The cache's disk takes no more than so many bytes a second; 0: as many as it can.
    pub fn cache_takes(&self, bytes: u64) -> Result<()> {
        self.qmp().limit_writes("cache", bytes)
    }

    /// Writes all its memory to a file, at one moment, and lets it go on.
    pub fn dump_memory(&self, file: &Path) -> Result<()> {
        // Memory above the PCI hole is moved up; the dump covers the hole too, which reads as zeroes or devices.
        let bytes = memory_end(self.spec.memory_mib);
        let mut qmp = self.qmp();
        qmp.stop()?;
        let dumped = qmp.dump_memory(bytes, file);
        qmp.cont()?;
        dumped.with_context(|| format!("cannot dump the memory of {}", self.spec.name))
    }

    /// Waits until it has switched itself off.
    pub fn goes_off(mut self, timeout: Duration) -> Result<()> {
        self.qemu.wait(timeout).map(drop)
    }

    /// The power fails.
    pub fn cut_power(mut self) -> Result<()> {
        self.qemu.kill()
    }
}

/// End of physical memory on QEMU's q35: from 2.75 GiB on, what is above 2 GiB lies from 4 GiB on.
fn memory_end(memory_mib: u64) -> u64 {
    let bytes = memory_mib << 20;
    if bytes < 0xb000_0000 { bytes } else { (4 << 30) + bytes - (2 << 30) }
}

fn command_line(spec: &Spec, dir: &Path) -> Result<Command> {
    let mut qemu = Command::new("qemu-system-x86_64");
    let at = |name: &str| dir.join(name).display().to_string();
    qemu.args(["-name", &spec.name, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"]);
    // One CPU: with two, the emulation fails now and then (README.md).
    let cpus = if nesting() { "2" } else { "1" };
    qemu.args(["-M", "q35,smm=off", "-smp", cpus, "-m", &spec.memory_mib.to_string()]);
    // Emulated, the string instructions that these two features announce are the slow way to clear memory.
    let emulated = ("tcg", "max,+svm,-erms,-fsrm");
    let (accelerator, model) = if nesting() { ("kvm", "host") } else { emulated };
    let lacks: String = spec.lacks.iter().map(|feature| format!(",-{feature}")).collect();
    qemu.args(["-accel", accelerator, "-cpu", &format!("{model}{lacks}")]);
    qemu.args(["-smbios", &format!("type=1,manufacturer=Waystation,product=Rig,serial=kiosk-{}", spec.name)]);
    qemu.args(["-chardev", &format!("socket,id=mon,path={},server=on,wait=off", at("qmp.sock"))]);
    qemu.args(["-mon", "chardev=mon,mode=control"]);
    qemu.args(["-chardev", &format!("socket,id=line,path={},server=on,wait=off", at("ttyS0.sock"))]);
    qemu.args(["-serial", "chardev:line", "-serial", &format!("file:{}", at("ttyS1.log"))]);
    if let Some(clock) = &spec.clock {
        qemu.args(["-rtc", &format!("base={clock}")]);
    }
    qemu.args(["-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb"]);
    let mut network = "user,id=net".to_owned();
    let mut card = format!("virtio-net-pci,id=card,netdev=net,mac={}", spec.mac);
    match &spec.boot {
        Boot::Usb(image) => {
            let vars = dir.join("OVMF_VARS.fd");
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars)
                .context("the firmware OVMF is not installed: run `make setup`")?;
            qemu.args(["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]);
            qemu.args(["-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
            // Read-only for the rig: several machines share the file, as several sticks hold the same image.
            let stick = format!("if=none,id=stick,format=raw,readonly=on,file={}", image.display());
            qemu.args(["-drive", &stick, "-device", "usb-storage,bus=usb.0,drive=stick,bootindex=0"]);
            card.push_str(",romfile=");
        }
        Boot::Ipxe(folder) => {
            network.push_str(&format!(",tftp={},bootfile=boot.ipxe", folder.display()));
            card.push_str(",bootindex=0");
        }
    }
    qemu.args(["-netdev", &network, "-device", &card]);
    if let Some(disk) = &spec.cache_disk {
        let drive = format!("if=none,id=cache,format=raw,discard=unmap,file={}", disk.display());
        qemu.args(["-drive", &drive]);
        qemu.args(["-device", &format!("{},drive=cache,serial=cache", spec.cache_device)]);
    }
    Ok(qemu)
}

/// Whether this machine's KVM runs the kiosk's VMM inside a guest. Anything else emulates.
pub fn nesting() -> bool {
    ["kvm_amd", "kvm_intel"].iter().any(|module| {
        fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
            .is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
    })
}

/// A disk image with one partition named `waystation-cache`.
pub fn make_cache_disk(file: &Path, mib: u64) -> Result<()> {
    use std::io::Write as _;
    fs::File::create(file)?.set_len(mib << 20)?;
    let mut sfdisk = Command::new("/sbin/sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(file)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .context("cannot start sfdisk")?;
    let mut input = sfdisk.stdin.take().context("sfdisk has no input")?;
    input.write_all(b"label: gpt\nname=\"waystation-cache\", type=linux\n")?;
    drop(input);
    ensure!(sfdisk.wait()?.success(), "sfdisk could not partition {}", file.display());
    Ok(())
}

/// What QEMU said, for errors.
pub fn qemu_log(machine: &Machine) -> String {
    process::tail(&machine.dir.join("qemu.log"), 2000)
}
