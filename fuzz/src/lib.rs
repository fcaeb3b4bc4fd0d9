//! What the fuzz targets call: the entries that the ordinary tests of `parcel` run in small.

#[path = "../../parcel/tests/formats/entries.rs"]
pub mod entries;
#[path = "../../parcel/tests/formats/oracle.rs"]
pub mod oracle;
