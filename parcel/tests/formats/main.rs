//! Tests of the formats: properties, golden files, hostile input.

mod chunk;
mod codes;
mod documents;
mod entries;
mod golden;
mod keyring;
mod oracle;
mod pages;
mod record;
mod sample;
mod slots;
mod smoke;
mod tag;
mod wire;
