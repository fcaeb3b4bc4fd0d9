//! Puts a machine together from its description.

use crate::{
    boot::{self, Boot},
    cpu::{baseline::Baseline, cpuid, start, state::VcpuState, thread::Gate},
    devices::{
        block::{Backend, Block},
        bus::Bus,
        console::Console,
        irq::Line,
        net::{Net, tap::Tap},
        power::Power,
        rng::Rng,
        rtc::Rtc,
        serial::Serial,
        virtio::Transport,
    },
    error::{Error, Result},
    layout::{self, Slot},
    machine::{
        model::Model,
        state::{MachineState, VCPUS_MAX},
    },
    memory::GuestRam,
};
use kvm_bindings::{CpuId, KVM_MEM_LOG_DIRTY_PAGES, kvm_irqchip, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use parcel::wire::guest::Machine as Description;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The screen's size until somebody tells another.
const SCREEN: (u16, u16) = (80, 25);
/// How many vCPUs a machine may have.
const VCPUS: std::ops::RangeInclusive<u32> = 1..=VCPUS_MAX as u32;

/// The virtio devices.
pub struct Devices {
    /// The disk, `vda`.
    pub block: Arc<Mutex<Transport<Block>>>,
    /// Network card.
    pub net: Arc<Mutex<Transport<Net>>>,
    /// The console, `hvc0`.
    pub console: Arc<Mutex<Transport<Console>>>,
    /// The source of random numbers.
    pub rng: Arc<Mutex<Transport<Rng>>>,
}

/// A machine, not yet running.
pub struct Machine {
    /// As it was described.
    pub description: Description,
    /// KVM's side.
    pub vm: VmFd,
    /// The vCPUs.
    pub vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    /// What each vCPU answers to CPUID.
    pub cpuids: Vec<CpuId>,
    /// Guest memory.
    pub ram: GuestRam,
    /// The bus.
    pub bus: Arc<Bus>,
    /// The virtio devices.
    pub devices: Arc<Devices>,
    /// Where the vCPUs stand.
    pub gate: Arc<Gate>,
    /// vCPUs and interrupt controllers after power-on, to which a reset returns.
    pub power_on: (Vec<VcpuState>, Vec<kvm_irqchip>),
    /// KVM logs the pages that the guest writes.
    pub logging: bool,
    /// The device model: that of the saved machine, or the newest.
    pub model: Model,
}

/// Takes a lock; a thread that panicked ends the process anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a machine is connected to.
pub struct Connections {
    /// The network's tap.
    pub tap: Option<Tap>,
    /// The disk's backend.
    pub disk: Option<Backend>,
}

/// Reads a network address such as `52:54:00:12:34:56`.
///
/// # Errors
/// Anything else, and group addresses.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bad = || {
        let text: String = text.chars().take(20).collect();
        Error::Machine(format!("{text:?} is not a network address such as 52:54:00:12:34:56"))
    };
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
    }
    if parts.next().is_some() || mac[0] & 1 != 0 {
        return Err(bad());
    }
    Ok(mac)
}

impl Machine {
    /// Builds the machine, with memory of zeroes and devices after power-on or, with `saved`, devices as they were.
    ///
    /// # Errors
    /// A description or state that cannot be, or KVM's refusal.
    pub fn build(
        kvm: &Kvm,
        description: &Description,
        ram: GuestRam,
        connections: Connections,
        saved: Option<&MachineState>,
    ) -> Result<Self> {
        if !VCPUS.contains(&description.vcpus) {
            return Err(Error::Machine(format!("a machine has 1 to 32 CPUs, not {}", description.vcpus)));
        }
        let baseline: Baseline = description.cpu_baseline.parse()?;
        let mac = parse_mac(&description.mac)?;
        let vm = create_vm(kvm)?;
        // Interrupt controllers exist before the vCPUs, whose local parts they create.
        let supported = kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(Error::kvm("tell the CPU's features"))?;
        let mut vcpus = Vec::new();
        let mut cpuids = Vec::new();
        for id in 0..description.vcpus {
            let vcpu = vm.create_vcpu(u64::from(id)).map_err(Error::kvm("create a vCPU"))?;
            let answers = cpuid::compose(&supported, baseline, description.vcpus, id)?;
            vcpu.set_cpuid2(&answers).map_err(Error::kvm("set a vCPU's CPUID"))?;
            start::power_on(&vcpu)?;
            vcpus.push(Arc::new(Mutex::new(vcpu)));
            cpuids.push(answers);
        }
        let made = vcpus.iter().zip(&cpuids);
        let states = made.map(|(v, c)| VcpuState::save(&lock(v), c)).collect::<Result<_>>()?;
        let power_on = (states, read_irqchips(&vm)?);
        let devices = Arc::new(Devices::build(&ram, mac, connections, saved)?);
        let lines = Lines {
            com1: Line::to_gsi(&vm, layout::COM1_GSI)?,
            com2: Line::to_gsi(&vm, layout::COM2_GSI)?,
            events: Line::to_gsi(&vm, layout::GED_GSI)?,
        };
        let bus = build_bus(lines, &devices, saved)?;
        devices.connect(&vm)?;
        let gate = Gate::new(vcpus.len());
        let description = description.clone();
        let machine = Self {
            description,
            vm,
            vcpus,
            cpuids,
            ram,
            bus,
            devices,
            gate,
            power_on,
            logging: saved.is_some(),
            model: saved.map_or_else(Model::default, |saved| saved.model),
        };
        machine.map_memory()?;
        Ok(machine)
    }

    fn map_memory(&self) -> Result<()> {
        let flags = if self.logging { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        for (slot, (region, base)) in self.ram.mappings().into_iter().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                flags,
                guest_phys_addr: region.guest_addr,
                memory_size: region.len,
                userspace_addr: base,
            };
            // SAFETY: the mapping is `memory_size` bytes long, and lives longer than the VM: both are dropped with
            // `self`, the VM's descriptors first, and the process ends without dropping either.
            unsafe { self.vm.set_user_memory_region(region) }.map_err(Error::kvm("take guest memory"))?;
        }
        Ok(())
    }

    /// Loads the kernel and points the boot vCPU at it.
    ///
    /// # Errors
    /// A kernel that cannot be loaded, or KVM's refusal.
    pub fn load(&self, boot: &mut Boot) -> Result<()> {
        let entry = boot::load(&self.ram, boot, self.description.vcpus)?;
        boot::acpi::renew_generation(&self.ram.memory)?;
        start::point_at_kernel(&lock(&self.vcpus[0]), entry)
    }

    /// Everything but memory back to power-on. The vCPUs must stand.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn reset(&self) -> Result<()> {
        self.devices.reset();
        lock(&self.bus.com1).reset("COM1");
        lock(&self.bus.com2).reset("COM2");
        *lock(&self.bus.rtc) = Rtc::default();
        lock(&self.bus.power).reset();
        let (states, chips) = &self.power_on;
        for (vcpu, state) in self.vcpus.iter().zip(states) {
            state.restore(&lock(vcpu))?;
        }
        set_irqchips(&self.vm, chips)
    }
}

fn create_vm(kvm: &Kvm) -> Result<VmFd> {
    if kvm.get_api_version() != 12 {
        return Err(Error::Machine(format!("KVM speaks version {} instead of 12", kvm.get_api_version())));
    }
    let needed =
        [Cap::Irqchip, Cap::Irqfd, Cap::Ioeventfd, Cap::UserMemory, Cap::ImmediateExit, Cap::AdjustClock];
    if let Some(cap) = needed.iter().find(|cap| !kvm.check_extension(**cap)) {
        return Err(Error::Machine(format!("KVM here has no {cap:?}")));
    }
    let vm = kvm.create_vm().map_err(Error::kvm("create a machine"))?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(Error::kvm("place its identity map"))?;
    vm.set_tss_address(layout::KVM_TSS).map_err(Error::kvm("place its task segment"))?;
    vm.create_irq_chip().map_err(Error::kvm("create interrupt controllers"))?;
    mask_legacy(&vm)?;
    Ok(vm)
}

/// Masks all inputs of the legacy controllers, as firmware does on a machine with hardware-reduced ACPI: Linux does not
/// touch them there, and an interrupt from them would arrive at an exception's vector.
fn mask_legacy(vm: &VmFd) -> Result<()> {
    for mut chip in read_irqchips(vm)?.into_iter().take(2) {
        chip.chip.pic.imr = 0xff;
        vm.set_irqchip(&chip).map_err(Error::kvm("mask an interrupt controller"))?;
    }
    Ok(())
}

/// The two legacy controllers and the I/O APIC.
///
/// # Errors
/// KVM's refusal.
pub fn read_irqchips(vm: &VmFd) -> Result<Vec<kvm_irqchip>> {
    (0..3)
        .map(|chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map_err(Error::kvm("read an interrupt controller"))?;
            Ok(chip)
        })
        .collect()
}

/// Sets what [`read_irqchips`] read. The second legacy controller comes before the first: setting the first looks at the
/// second's requests, and takes a stale one for its own.
///
/// # Errors
/// KVM's refusal.
pub fn set_irqchips(vm: &VmFd, chips: &[kvm_irqchip]) -> Result<()> {
    for id in [1, 0, 2] {
        if let Some(chip) = chips.iter().find(|chip| chip.chip_id == id) {
            vm.set_irqchip(chip).map_err(Error::kvm("set an interrupt controller"))?;
        }
    }
    Ok(())
}

/// The interrupts of what is not virtio.
pub struct Lines {
    /// First serial port.
    pub com1: Line,
    /// Second serial port.
    pub com2: Line,
    /// Generic event device.
    pub events: Line,
}

/// Builds the bus, with devices after power-on or, with `saved`, as they were.
///
/// # Errors
/// A state that they cannot be in.
pub fn build_bus(lines: Lines, devices: &Devices, saved: Option<&MachineState>) -> Result<Arc<Bus>> {
    let Lines { com1, com2, events } = lines;
    let (com1, com2, rtc, power) = match saved {
        None => (Serial::new("COM1", com1), Serial::new("COM2", com2), Rtc::default(), Power::new(events)),
        Some(saved) => (
            Serial::restored("COM1", com1, &saved.com1, None)?,
            Serial::restored("COM2", com2, &saved.com2, saved.helper)?,
            Rtc::restored(&saved.rtc),
            Power::restored(events, saved.power),
        ),
    };
    Ok(Arc::new(Bus {
        com1: Mutex::new(com1),
        com2: Mutex::new(com2),
        rtc: Mutex::new(rtc),
        power: Mutex::new(power),
        // In the order of `Slot::ALL`.
        windows: [devices.block.clone(), devices.net.clone(), devices.console.clone(), devices.rng.clone()],
    }))
}

impl Devices {
    /// Builds the devices, after power-on or, with `saved`, as they were.
    ///
    /// # Errors
    /// A state that they cannot be in, or the system's refusal.
    pub fn build(
        ram: &GuestRam,
        mac: [u8; 6],
        connections: Connections,
        saved: Option<&MachineState>,
    ) -> Result<Self> {
        let Connections { tap, disk } = connections;
        let (block, net, console) = match saved {
            None => (Block::new(disk), Net::new(mac, tap), Console::new(SCREEN.0, SCREEN.1)),
            Some(saved) => {
                saved.block.device.check(&disk.as_ref().map(Backend::config).unwrap_or_default())?;
                let net = Net::restored(mac, tap, saved.net.device);
                (Block::new(disk), net, Console::restored(&saved.console.device)?)
            }
        };
        macro_rules! transport {
            ($device:expr, $field:ident) => {{
                let mut transport = Transport::new($device, ram.memory.clone(), Line::new()?)?;
                if let Some(saved) = saved {
                    transport.restore(&saved.$field)?;
                }
                Arc::new(Mutex::new(transport))
            }};
        }
        Ok(Self {
            block: transport!(block, block),
            net: transport!(net, net),
            console: transport!(console, console),
            rng: transport!(Rng, rng),
        })
    }

    fn connect(&self, vm: &VmFd) -> Result<()> {
        lock(&self.block).connect(vm, Slot::Disk)?;
        lock(&self.net).connect(vm, Slot::Net)?;
        lock(&self.console).connect(vm, Slot::Console)?;
        lock(&self.rng).connect(vm, Slot::Rng)
    }

    fn reset(&self) {
        lock(&self.block).reset();
        lock(&self.net).reset();
        lock(&self.console).reset();
        lock(&self.rng).reset();
    }

    /// Stops all queues. The service thread must stand. May be called again when it failed.
    ///
    /// # Errors
    /// When the disk's backend does not give its queue back.
    pub fn stop(&self) -> Result<()> {
        let stopped = |what: &str, r: std::result::Result<(), crate::devices::virtio::Broken>| {
            r.map_err(|e| Error::Disk(format!("the {what} did not stop: {e}")))
        };
        stopped("disk", lock(&self.block).stop())?;
        stopped("network card", lock(&self.net).stop())?;
        stopped("console", lock(&self.console).stop())?;
        stopped("entropy device", lock(&self.rng).stop())
    }

    /// Serves all queues again.
    pub fn resume(&self, restored: bool) {
        lock(&self.block).resume(restored);
        lock(&self.net).resume(restored);
        lock(&self.console).resume(restored);
        lock(&self.rng).resume(restored);
    }
}
