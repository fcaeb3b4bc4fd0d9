//! The words on a kiosk's kernel command line: those that every kiosk needs, those that a site may add, and nothing
//! else. `image-build` refuses the others when it builds, and the kiosk compares what its kernel really got.
//!
//! It is a list of what is allowed: the kernel has hundreds of options, and each release adds some that undo what the
//! wipe rests on.

use std::fmt;

/// Words without which a kiosk does not count as safe.
///
/// - Freed memory is zeroed, and zeroed again when it is handed out: what the wipe rests on.
/// - Slabs are not merged, stacks and pages are shuffled, `vsyscall` is off: harder to break out of a guest.
/// - `lockdown` with module signatures enforced: not even root reads kernel memory, where the cache's key is.
/// - No debugfs, no hibernation (it would write memory to disk), no SysRq (anyone at the keyboard could use it).
pub const GUARD: [&str; 11] = [
    "init_on_free=1",
    "init_on_alloc=1",
    "slab_nomerge",
    "page_alloc.shuffle=1",
    "randomize_kstack_offset=on",
    "vsyscall=none",
    "lockdown=confidentiality",
    "module.sig_enforce=1",
    "debugfs=off",
    "nohibernate",
    "sysctl.kernel.sysrq=0",
];

/// Words for the screen, and a restart by itself: a kiosk has nobody who would. A site may change some of them.
pub const COMFORT: [&str; 4] = ["panic=10", "consoleblank=0", "quiet", "loglevel=3"];

/// What boot loaders and the image add: the terminal, and where kernel and initrd came from.
const BY_THE_IMAGE: [&str; 4] = ["console", "initrd", "BOOT_IMAGE", "BOOTIF"];

/// What a value may be.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// None: the word stands alone.
    None,
    /// One of these.
    Of(&'static [&'static str]),
    /// A word of the hardware's: no blank, no quotation mark.
    Any,
    /// As [`Value::Any`], or none.
    Maybe,
}

/// Options that hardware needs, or that only a site can decide.
const ALLOWED: [(&str, Value); 78] = [
    // This kiosk's own.
    ("waystation.name", Value::Any),
    ("waystation.console", Value::Any),
    ("waystation.log", Value::Any),
    ("waystation.keymap", Value::Any),
    // Interrupts, buses, timers.
    ("acpi", Value::Of(&["force", "ht", "noirq", "nocmcff", "rsdt", "strict"])),
    ("acpi_osi", Value::Any),
    ("acpi_backlight", Value::Any),
    ("acpi_enforce_resources", Value::Any),
    ("acpi_irq_nobalance", Value::None),
    ("acpi_no_watchdog", Value::None),
    ("acpi_sleep", Value::Any),
    ("noapic", Value::None),
    ("nolapic", Value::None),
    ("nox2apic", Value::None),
    ("apic", Value::Of(&["bigsmp", "flat"])),
    ("noirqdebug", Value::None),
    ("irqpoll", Value::None),
    ("pci", Value::Any),
    ("pcie_aspm", Value::Of(&["off", "force"])),
    ("pcie_port_pm", Value::Of(&["off", "force"])),
    ("pcie_ports", Value::Of(&["compat", "native", "auto", "dpc-native"])),
    ("pnpacpi", Value::Of(&["off"])),
    ("pnp.debug", Value::Of(&["0"])),
    ("clocksource", Value::Any),
    ("tsc", Value::Of(&["reliable", "noirqtime", "unstable", "nowatchdog", "watchdog", "recalibrate"])),
    ("hpet", Value::Of(&["disable", "force"])),
    ("nohpet", Value::None),
    ("notsc", Value::None),
    ("no_timer_check", Value::None),
    ("highres", Value::Of(&["off", "on"])),
    ("nohz", Value::Of(&["off", "on"])),
    ("reboot", Value::Any),
    ("nowatchdog", Value::None),
    ("nmi_watchdog", Value::Of(&["0", "1"])),
    ("intel_iommu", Value::Of(&["on", "on,sm_on"])),
    ("amd_iommu", Value::Of(&["force_isolation", "pgtbl_v1", "pgtbl_v2"])),
    ("iommu", Value::Of(&["force", "strict"])),
    ("iommu.strict", Value::Of(&["1"])),
    ("iommu.passthrough", Value::Of(&["0"])),
    (
        "efi",
        Value::Of(&["noruntime", "runtime", "nochunk", "disable_early_pci_dma", "no_disable_early_pci_dma"]),
    ),
    // Processors, memory, power.
    ("mitigations", Value::Of(&["off", "auto", "auto,nosmt"])),
    ("nosmt", Value::Maybe),
    ("l1tf", Value::Any),
    ("mds", Value::Any),
    ("tsx", Value::Of(&["on", "off", "auto"])),
    ("kvm.nx_huge_pages", Value::Any),
    ("kvm_intel.vmentry_l1d_flush", Value::Any),
    ("maxcpus", Value::Any),
    ("nr_cpus", Value::Any),
    ("mem", Value::Any),
    ("transparent_hugepage", Value::Of(&["never", "madvise", "always"])),
    ("idle", Value::Of(&["poll", "halt", "nomwait"])),
    ("cpuidle.off", Value::Of(&["0", "1"])),
    ("processor.max_cstate", Value::Any),
    ("intel_idle.max_cstate", Value::Any),
    ("intel_pstate", Value::Of(&["disable", "passive", "active", "no_hwp", "force", "hwp_only"])),
    ("amd_pstate", Value::Of(&["disable", "passive", "active", "guided"])),
    ("cpufreq.default_governor", Value::Any),
    ("random.trust_cpu", Value::Of(&["0", "1", "off", "on"])),
    ("random.trust_bootloader", Value::Of(&["0", "1", "off", "on"])),
    // Screen and keyboard.
    ("nomodeset", Value::None),
    ("video", Value::Any),
    ("fbcon", Value::Any),
    ("vt.color", Value::Any),
    ("vt.default_red", Value::Any),
    ("vt.default_grn", Value::Any),
    ("vt.default_blu", Value::Any),
    ("consoleblank", Value::Any),
    ("quiet", Value::None),
    ("loglevel", Value::Of(&["0", "1", "2", "3", "4"])),
    ("no_console_suspend", Value::None),
    // Network names, and modules that a PC must not load.
    ("net.ifnames", Value::Of(&["0", "1"])),
    ("biosdevname", Value::Of(&["0", "1"])),
    ("ipv6.disable", Value::Of(&["0", "1"])),
    ("ipv6.disable_ipv6", Value::Of(&["0", "1"])),
    ("modprobe.blacklist", Value::Any),
    ("module_blacklist", Value::Any),
    ("panic", Value::Of(&["1", "5", "10", "30", "60"])),
];

/// Drivers that see what is typed, and the parameters of each that a site may set: others write it down, or open a port.
const INPUT: [(&str, &[&str]); 7] = [
    ("atkbd", &["set", "reset", "softrepeat", "softraw", "scroll", "extra", "terminal"]),
    ("hid_apple", &["fnmode", "iso_layout", "swap_opt_cmd", "swap_ctrl_cmd", "swap_fn_leftctrl"]),
    ("hid_logitech_hidpp", &["disable_raw_mode", "disable_tap_to_click"]),
    (
        "i8042",
        &[
            "nokbd",
            "noaux",
            "nomux",
            "unlock",
            "probe_defer",
            "reset",
            "direct",
            "dumbkbd",
            "noloop",
            "notimeout",
            "kbdreset",
            "nopnp",
            "dritek",
        ],
    ),
    (
        "psmouse",
        &[
            "proto",
            "resolution",
            "rate",
            "smartscroll",
            "resetafter",
            "resync_time",
            "synaptics_intertouch",
            "elantech_smbus",
        ],
    ),
    (
        "usbcore",
        &[
            "autosuspend",
            "nousb",
            "initial_descriptor_timeout",
            "use_both_schemes",
            "old_scheme_first",
            "quirks",
        ],
    ),
    ("usbhid", &["mousepoll", "jspoll", "kbpoll", "ignoreled", "quirks"]),
];

/// Drivers of which a site may set every parameter that does not make them [talk](TALK): `e1000e.SmartPowerDownEnable=0`. None of
/// them sees a key.
const DRIVERS: [&str; 36] = [
    "ahci",
    "alx",
    "atlantic",
    "b44",
    "bnx2",
    "cdc_ncm",
    "e1000",
    "e1000e",
    "ehci_hcd",
    "forcedeth",
    "igb",
    "igc",
    "intel_lpss",
    "ixgbe",
    "jme",
    "libata",
    "libahci",
    "mmc_core",
    "nvme",
    "nvme_core",
    "ohci_hcd",
    "r8152",
    "r8169",
    "sd_mod",
    "sdhci",
    "sky2",
    "tg3",
    "uas",
    "uhci_hcd",
    "usb_storage",
    "via_rhine",
    "vmxnet3",
    "xhci_hcd",
    "xhci_pci",
    "iTCO_wdt",
    "wdat_wdt",
];

/// What is in the name of a parameter that makes a driver write down what passes through it.
const TALK: [&str; 8] = ["debug", "dbg", "dump", "log", "msglevel", "snoop", "trace", "unmask"];

const BY_THE_WIPE: &str = "which the wipe rests on";
const KERNEL_MEMORY: &str = "which would open kernel memory, where the cache's key is";
const TO_DISK: &str = "which would write memory to a disk";
const AT_THE_KEYBOARD: &str = "which would let anybody at the keyboard command the kernel";
const DECIDED: &str = "which the image itself decides";
const TOLD: &str = "which would copy what the kernel knows to where others read it";

/// Why well-known options are not allowed. What is not here is refused, too.
const WHY: [(&str, &str); 36] = [
    ("initrd", DECIDED),
    ("noinitrd", DECIDED),
    ("rdinit", DECIDED),
    ("init", DECIDED),
    ("root", DECIDED),
    ("bootconfig", DECIDED),
    ("init_on_free", BY_THE_WIPE),
    ("init_on_alloc", BY_THE_WIPE),
    ("page_poison", BY_THE_WIPE),
    ("slub_debug", BY_THE_WIPE),
    ("slab_debug", BY_THE_WIPE),
    ("debug_pagealloc", BY_THE_WIPE),
    ("page_owner", BY_THE_WIPE),
    ("kasan", BY_THE_WIPE),
    ("memmap", BY_THE_WIPE),
    ("hugepages", BY_THE_WIPE),
    ("lockdown", KERNEL_MEMORY),
    ("lsm", KERNEL_MEMORY),
    ("security", KERNEL_MEMORY),
    ("module.sig_enforce", KERNEL_MEMORY),
    ("kgdboc", KERNEL_MEMORY),
    ("kgdbwait", KERNEL_MEMORY),
    ("debugfs", KERNEL_MEMORY),
    ("proc_mem.force_override", KERNEL_MEMORY),
    ("resume", TO_DISK),
    ("hibernate", TO_DISK),
    ("crashkernel", TO_DISK),
    ("sysrq_always_enabled", AT_THE_KEYBOARD),
    ("sysctl.kernel.sysrq", AT_THE_KEYBOARD),
    ("netconsole", TOLD),
    ("netconsole.netconsole", TOLD),
    ("earlyprintk", TOLD),
    ("earlycon", TOLD),
    ("trace_event", TOLD),
    ("ftrace", TOLD),
    ("no_hash_pointers", TOLD),
];

/// Why a word is not allowed: the rest of a sentence that begins with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Words as the kernel splits them: at white space outside double quotes.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if is_blank(c) && !quoted => out.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    out.push(word);
    out.into_iter().filter(|word| !word.is_empty())
}

/// The kernel looks at bytes as Latin-1: it takes a vertical tab, and 0xa0 within a character, for blanks too.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}' || c.encode_utf8(&mut [0; 4]).bytes().any(|byte| byte == 0xa0)
}

/// Name and value of a word. The kernel takes dashes in names for underscores, and slashes in a setting's name for dots.
fn split(word: &str) -> (String, Option<&str>) {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let name = name.replace('-', "_");
    let name = if name.starts_with("sysctl.") { name.replace('/', ".") } else { name };
    (name, value)
}

/// Whether a site may add this word.
///
/// # Errors
/// Why it may not.
pub fn allow(word: &str) -> Result<(), Refusal> {
    let (name, value) = split(word);
    if name == "console" {
        return Err(Refusal("sets console: name the terminal under [console] instead".to_owned()));
    }
    if let Some((_, why)) = WHY.iter().find(|(refused, _)| *refused == name) {
        return Err(Refusal(format!("sets {name}, {why}: leave it out")));
    }
    if let Some((_, allowed)) = ALLOWED.iter().find(|(allowed, _)| *allowed == name) {
        let fits = match (allowed, value) {
            (Value::None | Value::Maybe, None) => true,
            (Value::None, Some(_)) | (Value::Of(_) | Value::Any, None) => false,
            (Value::Of(values), Some(value)) => values.contains(&value),
            (Value::Any | Value::Maybe, Some(value)) => is_plain(value),
        };
        return match (fits, allowed) {
            (true, _) => Ok(()),
            (false, Value::Of(values)) => Err(Refusal(format!(
                "holds {word:?}: of {name} a kiosk takes the values {}",
                values.join(", ")
            ))),
            (false, Value::None) => Err(Refusal(format!("holds {word:?}: write {name} without a value"))),
            (false, _) => {
                Err(Refusal(format!("holds {word:?}: write {name} with a value of letters and digits")))
            }
        };
    }
    if let Some((driver, parameter)) = name.split_once('.')
        && is_of_a_driver(driver, parameter)
        && value.is_some_and(is_plain)
    {
        return Ok(());
    }
    Err(Refusal(format!(
        "sets {name}, which is not among the kernel options that a kiosk may have: leave it out; docs/images.md lists \
         those that a site can add"
    )))
}

fn is_of_a_driver(driver: &str, parameter: &str) -> bool {
    if let Some((_, parameters)) = INPUT.iter().find(|(input, _)| *input == driver) {
        return parameters.contains(&parameter);
    }
    let name = parameter.to_ascii_lowercase();
    DRIVERS.contains(&driver) && !name.is_empty() && !TALK.iter().any(|word| name.contains(word))
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\'')
}

/// How a kernel's command line differs from what a kiosk may be started with, one short text each. The command line
/// of a kiosk that starts by network comes from there.
pub fn differences(cmdline: &str) -> Vec<String> {
    let words: Vec<String> = words(cmdline).collect();
    let missing = GUARD.iter().filter(|guard| !words.iter().any(|word| word == *guard));
    let mut found: Vec<String> = missing.map(|guard| format!("{guard} is missing")).collect();
    for word in &words {
        let expected = GUARD.contains(&word.as_str()) || COMFORT.contains(&word.as_str());
        let (name, _) = split(word);
        // A netboot server's name for the kiosk may have blanks.
        let ours = name.starts_with("waystation.") || BY_THE_IMAGE.contains(&name.as_str());
        if !expected && !ours && allow(word).is_err() {
            found.push(format!("{word} is not allowed"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(word: &str) -> String {
        allow(word).expect_err(word).to_string()
    }

    #[test]
    fn hardware_may_be_helped() {
        for word in [
            "mitigations=off",
            "pci=nomsi,noaer",
            "i8042.nomux=1",
            "i8042.reset=1",
            "usb-storage.quirks=0951:1666:u",
            "usbcore.autosuspend=-1",
            "nomodeset",
            "nosmt",
            "nosmt=force",
            "modprobe.blacklist=nouveau",
            "waystation.name=gate-7",
            "intel-iommu=on",
        ] {
            assert_eq!(allow(word), Ok(()), "{word}");
        }
    }

    #[test]
    fn what_undoes_the_wipe_or_opens_the_kernel_is_refused_with_the_reason() {
        for (word, why) in [
            ("page_poison=1", "sets page_poison, which the wipe rests on: leave it out"),
            ("slub_debug", "sets slub_debug, which the wipe rests on: leave it out"),
            ("slab-debug=FZPU", "sets slab_debug, which the wipe rests on"),
            ("init_on_free=0", "sets init_on_free, which the wipe rests on"),
            ("lockdown=none", "sets lockdown, which would open kernel memory"),
            ("sysctl.kernel/sysrq=1", "sets sysctl.kernel.sysrq, which would let anybody at the keyboard"),
            ("resume=/dev/sda2", "sets resume, which would write memory to a disk"),
            ("console=ttyS0", "sets console: name the terminal under [console] instead"),
            (
                "mitigations=maybe",
                "holds \"mitigations=maybe\": of mitigations a kiosk takes the values off, auto",
            ),
            ("nomodeset=1", "holds \"nomodeset=1\": write nomodeset without a value"),
            ("video", "holds \"video\": write video with a value"),
        ] {
            assert!(refusal(word).starts_with(why), "{word}: {}", refusal(word));
        }
    }

    /// Options that nobody thought of, each a way around the wipe or the lock-down.
    #[test]
    fn what_is_not_on_the_list_is_refused() {
        for word in [
            "kfence.sample_interval=1",
            "kmemleak=on",
            "stack_depot_disable=off",
            "sysctl.kernel.kptr_restrict=0",
            "sysctl.vm.mmap_min_addr=0",
            "systemd.debug_shell",
            "e1000e.dyndbg=+p",
            "e1000e.debug=16",
            "r8169.DEBUG=1",
            "i8042.debug=1",
            "i8042.unmask_kbd_data=1",
            "usbcore.usbfs_snoop=1",
            "usbcore.authorized_default=1",
            "usbhid.any=1",
            "hid_apple.",
            "dm_crypt.any=1",
            "kvm_amd.dump_invalid_vmcb=1",
            "iommu=off",
            "intel_iommu=off",
            "nokaslr",
            "nosmap",
            "ima_policy=none",
            "swiotlb=noforce",
            "RUST_LOG=trace",
            "--",
        ] {
            assert!(
                refusal(word).contains("not among the kernel options")
                    || refusal(word).contains("takes the values"),
                "{word}"
            );
        }
    }

    #[test]
    fn a_kiosks_own_command_line_has_no_difference() {
        let own = format!(
            "initrd=initrd console=tty0 {} {} pci=nomsi waystation.name=\"Gate 7\"",
            GUARD.join(" "),
            COMFORT.join(" ")
        );
        assert_eq!(differences(&own), Vec::<String>::new());
    }

    #[test]
    fn what_differs_is_named() {
        let own = GUARD.join(" ");
        assert_eq!(differences(&format!("{own} page_poison=1")), ["page_poison=1 is not allowed"]);
        assert_eq!(differences(&format!("{own} \"slub_debug=P\"")), ["slub_debug=P is not allowed"]);
        assert_eq!(differences(&format!("{own} init_on_free=0")), ["init_on_free=0 is not allowed"]);
        // Hidden behind what only the kernel takes for a blank.
        for blank in ["\u{b}", "\u{c}", "\u{a0}", "à"] {
            let hidden = format!("{own} waystation.name=x{blank}panic=0");
            assert_eq!(differences(&hidden), ["panic=0 is not allowed"], "{blank:?}");
        }
        assert_eq!(differences(&format!("{own} waystation.name=\"Baggage à gauche\"")), Vec::<String>::new());
        let less = own.replace("init_on_free=1 ", "");
        assert_eq!(differences(&less), ["init_on_free=1 is missing"]);
        assert_eq!(differences("").len(), GUARD.len());
    }

    #[test]
    fn no_word_is_allowed_and_refused() {
        for (name, _) in WHY {
            assert!(!ALLOWED.iter().any(|(allowed, _)| *allowed == name), "{name}");
        }
        for guard in GUARD {
            assert!(allow(guard).is_err(), "{guard} must not be a site's to set");
        }
    }
}
