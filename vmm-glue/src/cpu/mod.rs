//! Virtual CPUs: what they are ([`baseline`], [`cpuid`]), how they start ([`start`]), run ([`thread`]), and are kept
//! ([`state`]).

pub mod baseline;
pub mod cpuid;
pub mod features;
pub mod raw;
pub mod start;
pub mod state;
pub mod thread;
