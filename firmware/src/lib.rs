//! The boot chain of a kiosk: one file (kernel, initrd, command line) for UEFI firmware, the disk image that carries
//! it on a USB stick, its signature for Secure Boot, and the script that boots the same by network.
//!
//! Nothing here depends on clock, host or user: the same input gives the same bytes. A signature is the exception,
//! since it carries its time.

pub mod disk;
pub mod esp;
pub mod netboot;
pub mod pe;
pub mod sign;
pub mod uki;
