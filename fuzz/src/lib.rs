//! What the fuzz targets call: the entries that the ordinary tests of `parcel`, `sockets`, `terminal` and `vmm-glue` run in small.

#[path = "../../parcel/tests/formats/entries.rs"]
pub mod entries;
#[path = "../../parcel/tests/formats/oracle.rs"]
pub mod oracle;
#[path = "../../sockets/tests/lines/entries.rs"]
pub mod socket_entries;
#[path = "../../terminal/tests/hostile/entries.rs"]
pub mod terminal_entries;
#[path = "../../vmm-glue/tests/hostile/entries/mod.rs"]
pub mod vmm_entries;
