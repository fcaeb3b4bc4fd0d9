//! Memory that is filled by somebody else: missing pages fault into a userfaultfd, which `cached` serves.

use super::GuestRam;
use crate::error::{Error, Result};
use userfaultfd::{FeatureFlags, RegisterMode, Uffd, UffdBuilder};

/// Registers all guest memory for missing faults.
///
/// The VMM keeps the descriptor for as long as the guest lives: were the last copy closed, a page that is still missing
/// would silently read as zeroes. A guest that waits for a dead `cached` loses nothing.
///
/// # Errors
/// When the kernel refuses, usually because `/dev/userfaultfd` is not readable for this user.
pub fn register(ram: &GuestRam) -> Result<Uffd> {
    let refused = |e: userfaultfd::Error| {
        Error::Machine(format!(
            "userfaultfd is refused ({e}); give this user read and write access to /dev/userfaultfd, or set \
             vm.unprivileged_userfaultfd=1"
        ))
    };
    let uffd = UffdBuilder::new()
        .close_on_exec(true)
        .non_blocking(true)
        // KVM touches guest memory from within the kernel.
        .user_mode_only(false)
        .require_features(FeatureFlags::MISSING_SHMEM)
        .create()
        .map_err(refused)?;
    for (region, base) in ram.mappings() {
        uffd.register_with_mode(base as *mut libc::c_void, region.len as usize, RegisterMode::MISSING)
            .map_err(refused)?;
    }
    Ok(uffd)
}
