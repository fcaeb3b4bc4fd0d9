//! `waystation`: parcels on an administrator's machine.

fn main() {}
