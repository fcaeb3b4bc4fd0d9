use super::*;
use crate::devices::virtio::tests::{Driver, setup};

#[test]
fn requests_are_filled_with_different_bytes_and_bounded() {
    let (transport, ram, line) = setup(Rng);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    driver.send(0, &[], 64);
    driver.send(0, &[], 0x8000);
    let (first, one) = driver.used(0, 0).unwrap();
    let (second, two) = driver.used(0, 0).unwrap();
    assert_eq!((first, second), (64, MOST as u32));
    assert_ne!(one, two[..64]);
    assert!(line.fd().read().is_ok());
}

#[test]
fn a_request_without_room_is_given_back_empty() {
    let (transport, ram, _line) = setup(Rng);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    driver.send(0, b"only to read", 0);
    assert_eq!(driver.used(0, 0).unwrap().0, 0);
}
