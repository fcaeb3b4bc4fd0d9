//! The devices under a hostile driver, and the bus with what is not virtio.

use super::{
    input::Input,
    queues::drive,
    state::{lines, machine_without_kvm, saved_of},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
};
use vmm_glue::{
    devices::{
        console::Console,
        net::{Net, tap::Tap},
        rng::Rng,
    },
    layout,
};

/// A hostile driver of the source of random numbers.
pub fn rng(data: &[u8]) {
    drive(data, |_| Rng, |_, _| {});
}

/// The network card, on a wire whose other end sends hostile frames.
pub fn net(data: &[u8]) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (ours, mut theirs) = (File::from(OwnedFd::from(ours)), File::from(OwnedFd::from(theirs)));
    let make = |state: Option<&_>| {
        let tap = Some(Tap::from_file(ours.try_clone().unwrap()));
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        match state {
            None => Net::new(mac, tap),
            Some(state) => Net::restored(mac, tap, *state),
        }
    };
    drive(data, make, |net, input| {
        // A frame that finds the wire full is lost.
        let len = usize::from(input.u8().unwrap_or(0));
        let _ = theirs.write(input.bytes(len));
        net.reconfigure(Net::ask_to_announce);
        net.with(|net, io| net.receive(io));
        while theirs.read(&mut [0; 70_000]).is_ok() {}
    });
}

/// The console, with hostile watchers.
pub fn console(data: &[u8]) {
    let make = |state: Option<&_>| {
        state.map_or_else(|| Console::new(80, 25), |state| Console::restored(state).unwrap())
    };
    drive(data, make, |console, input| {
        if let (Some(cols), Some(rows)) = (input.u8(), input.u8()) {
            console.reconfigure(|c| c.resize(cols.into(), rows.into()));
        }
        let len = usize::from(input.u8().unwrap_or(0));
        console.device().type_in(input.bytes(len));
        console.with(|console, io| console.deliver(io));
        console.device().redraw();
        console.device().take_written();
    });
}

/// Ports and windows, also those where nothing is. What the devices then are can be saved and restored.
pub fn ports(data: &[u8]) {
    const PORTS: [u16; 6] = [layout::COM1, layout::COM2, layout::RTC, layout::PM, layout::I8042, 0x80];
    let mut input = Input::new(data);
    let (devices, bus) = machine_without_kvm(None, lines()).unwrap();
    while let (Some(port), Some(how)) = (input.u8(), input.u8()) {
        let at = PORTS[usize::from(port) % PORTS.len()].wrapping_add(u16::from(how % 10)).wrapping_sub(1);
        let len = [1, 2, 4, 8][usize::from(port >> 6)];
        let mut bytes = [0; 8];
        match how >> 5 {
            0..=2 => {
                let given = input.bytes(len);
                bus.port_write(at, given);
            }
            3 | 4 => bus.port_read(at, &mut bytes[..len]),
            5 => {
                let given = input.bytes(len);
                bus.com2.lock().unwrap().type_in(given);
                bus.com2.lock().unwrap().announce(given);
            }
            6 => bus.mmio_write(layout::MMIO_BASE + u64::from(port) * 0x40, input.bytes(len)),
            _ => bus.mmio_read(layout::MMIO_BASE + u64::from(port) * 0x40, &mut bytes[..len]),
        }
    }
    saved_of(&devices, &bus, None);
}
