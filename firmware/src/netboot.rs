//! Booting the same kernel and initrd by PXE or HTTP, through iPXE.

/// Name of the kernel beside the script.
pub const KERNEL: &str = "vmlinuz";
/// Name of the initrd beside the script.
pub const INITRD: &str = "initrd";
/// Name of the script.
pub const SCRIPT: &str = "boot.ipxe";

/// The iPXE script. Its names are relative to where it was fetched from, so the folder can lie on any TFTP or HTTP
/// server, in any path. A kiosk whose server is away asks again instead of standing at a prompt.
pub fn script(cmdline: &str) -> String {
    // EFI kernels find their initrd by the initrd= argument; BIOS ones ignore it.
    format!(
        "#!ipxe\n\
         :start\n\
         echo Loading the kiosk\n\
         kernel {KERNEL} initrd={INITRD} {cmdline} || goto failed\n\
         initrd {INITRD} || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo The kiosk could not be loaded. Trying again in 10 seconds.\n\
         imgfree\n\
         sleep 10\n\
         goto start\n"
    )
}
