//! The unified kernel image: one EFI application of stub, kernel, initrd and command line, so that one signature and
//! one measurement cover all of the kiosk.
//!
//! Section names as in the UAPI group's specification (<https://uapi-group.org/specifications/specs/unified_kernel_image/>).

use crate::pe::{Image, PeError};

/// What a UKI is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// systemd's EFI stub (`linuxx64.efi.stub`).
    pub stub: &'a [u8],
    /// Text in the form of `/etc/os-release`.
    pub os_release: &'a str,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Kernel release, such as `6.12.118+deb13-amd64`.
    pub uname: &'a str,
    /// The initrd, in any form that the kernel unpacks.
    pub initrd: &'a [u8],
    /// The kernel, a bzImage with EFI stub.
    pub linux: &'a [u8],
}

/// Why no UKI came of it.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The stub is not usable.
    #[error("the EFI stub cannot be used: {0}")]
    Stub(#[from] PeError),
    /// The kernel is not usable.
    #[error("the kernel cannot be used: {0}")]
    Kernel(&'static str),
    /// What was written reads back differently.
    #[error(
        "section {0} of the new UKI reads back differently: this is a fault of the program, please report it"
    )]
    ReadBack(&'static str),
}

/// Builds the file.
///
/// # Errors
/// When stub or kernel is not what it should be.
pub fn build(parts: &Parts<'_>) -> Result<Vec<u8>, UkiError> {
    check_kernel(parts.linux)?;
    // The kernel comes last because later stubs unpack it in place, over what follows.
    let sections: [(&'static str, &[u8]); 5] = [
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.cmdline.as_bytes()),
        (".uname", parts.uname.as_bytes()),
        (".initrd", parts.initrd),
        (".linux", parts.linux),
    ];
    let mut image = Image::parse(parts.stub)?;
    for (name, bytes) in sections {
        image.append(name, bytes)?;
    }
    let file = image.write()?;
    let again = Image::parse(&file)?;
    for (name, bytes) in sections {
        if again.section(name) != Some(bytes) {
            return Err(UkiError::ReadBack(name));
        }
    }
    Ok(file)
}

/// The Linux boot protocol's marks, and the PE header that the stub starts the kernel by.
fn check_kernel(linux: &[u8]) -> Result<(), UkiError> {
    if linux.get(0x202..0x206) != Some(b"HdrS") {
        return Err(UkiError::Kernel("it is not a bzImage"));
    }
    if linux.get(..2) != Some(b"MZ") {
        return Err(UkiError::Kernel("it has no EFI entry (CONFIG_EFI_STUB)"));
    }
    Ok(())
}
