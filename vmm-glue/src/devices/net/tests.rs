use super::*;
use crate::devices::virtio::tests::{Driver, setup};
use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const RX: u64 = RECEIVE as u64;
const TX: u64 = TRANSMIT as u64;
const CTRL: u64 = CONTROL as u64;

/// A card whose other side is in the test's hand. A datagram socket keeps frames apart, as a tap does.
fn card() -> (Net, File) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Net::new(MAC, Some(Tap::from_file(File::from(OwnedFd::from(ours))))), File::from(OwnedFd::from(theirs)))
}

fn frame(fill: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0; tap::HEADER];
    frame.extend(vec![fill; len]);
    frame
}

#[test]
fn frames_go_out_and_come_in() {
    let (net, mut wire) = card();
    let (transport, ram, _line) = setup(net);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    driver.send(TX, &frame(7, 60), 0);
    let mut got = [0; 2000];
    let length = wire.read(&mut got).unwrap();
    assert_eq!(got[..length], frame(7, 60));

    wire.write_all(&frame(9, 100)).unwrap();
    transport.lock().unwrap().with(|net, io| net.receive(io));
    assert!(driver.used(RX, 0).is_none(), "no buffer yet");
    driver.send(RX, &[], 2000);
    let (written, bytes) = driver.used(RX, 0).unwrap();
    assert_eq!(written as usize, tap::HEADER + 100);
    assert_eq!(bytes[10..12], [1, 0], "one buffer was used");
    assert_eq!(bytes[tap::HEADER..], [9; 100]);
}

#[test]
fn a_frame_that_fits_no_buffer_and_one_without_header_are_lost() {
    let (net, mut wire) = card();
    let (transport, ram, _line) = setup(net);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    wire.write_all(&frame(9, 1000)).unwrap();
    driver.send(RX, &[], 100);
    assert_eq!(driver.used(RX, 0).unwrap().0, 0);
    driver.send(TX, b"short", 0);
    assert!(driver.used(TX, 0).is_some());
    assert!(wire.read(&mut [0; 100]).is_err());
}

#[test]
fn after_a_restore_the_driver_is_asked_to_announce_itself_once() {
    let (net, _wire) = card();
    let (transport, ram, line) = setup(net);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    let status = |driver: &Driver<Net>| driver.read(0x104) >> 16;
    assert_eq!(status(&driver), u32::from(LINK_UP));
    transport.lock().unwrap().reconfigure(Net::ask_to_announce);
    assert_eq!(status(&driver), u32::from(LINK_UP | ANNOUNCE));
    assert!(line.fd().read().is_ok());
    // The request survives a save in between.
    let saved = transport.lock().unwrap().save();
    assert!(Net::restored(MAC, None, saved.device).announce);
    driver.send(CTRL, &[CTRL_ANNOUNCE, 0], 1);
    assert_eq!(driver.used(CTRL, 2).unwrap(), (1, vec![CTRL_OK]));
    assert_eq!(status(&driver), u32::from(LINK_UP));
}

#[test]
fn other_control_commands_are_refused() {
    let (transport, ram, _line) = setup(Net::new(MAC, None));
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    driver.send(CTRL, &[0, 0, 1], 1);
    assert_eq!(driver.used(CTRL, 3).unwrap(), (1, vec![CTRL_ERROR]));
    assert_eq!(driver.read(0x104) >> 16, 0, "without a tap the link is down");
    assert_eq!(driver.read(0x100).to_le_bytes(), MAC[..4]);
}

#[test]
fn a_guest_that_sends_much_is_served_in_turns() {
    let (net, mut wire) = card();
    let (transport, ram, _line) = setup(net);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    for n in 0..100 {
        driver.announce(TX, &frame(n, 60), 0);
    }
    let mut turn = || {
        let mut transport = transport.lock().unwrap();
        while transport.kicks()[TRANSMIT].read().is_ok() {}
        transport.serve(TRANSMIT);
        let mut sent = 0;
        while wire.read(&mut [0; 100]).is_ok() {
            sent += 1;
        }
        (sent, transport.kicks()[TRANSMIT].read().is_ok())
    };
    // The rest is announced again, so that the devices' thread comes back to it.
    assert_eq!(turn(), (64, true));
    assert_eq!(turn(), (36, false));
}
