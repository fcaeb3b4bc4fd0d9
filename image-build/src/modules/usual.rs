//! The kernel modules that a kiosk carries: what office PCs, thin clients and the usual virtual machines need to boot
//! from USB or network, take a keyboard, reach a wired network, keep an encrypted cache and run a guest. What is not
//! here (sound, media, big display drivers, SCSI, exotic file systems) is nine tenths of Debian's modules; `[modules]`
//! in kiosk.toml adds single ones.

/// Modules by name, `_` for `-`. Some are built into Debian's kernel or may come to be; those count as there.
#[rustfmt::skip]
pub(super) const NAMES: &[&str] = &[
    // Running guests.
    "kvm", "kvm_amd", "kvm_intel", "irqbypass", "ccp", "rng_core", "tun",
    // Being a guest.
    "virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_console", "virtio_rng", "virtio_input",
    "virtio_balloon", "vmxnet3", "vmw_pvscsi", "hv_vmbus", "hv_netvsc", "hv_storvsc", "hyperv_keyboard",
    "hid_hyperv",
    // Wired network cards.
    "e1000", "e1000e", "igb", "igbvf", "igc", "ixgbe", "r8169", "realtek", "8139cp", "8139too", "tg3", "b44",
    "bnx2", "atlantic", "alx", "atl1", "atl1c", "atl1e", "atl2", "sky2", "skge", "forcedeth", "via_rhine",
    "via_velocity", "jme", "pcnet32", "ne2k_pci", "dwmac_intel", "broadcom", "marvell", "aquantia",
    // Network by USB.
    "r8152", "r8153_ecm", "asix", "ax88179_178a", "cdc_ether", "cdc_ncm", "cdc_mbim", "smsc75xx", "smsc95xx",
    "lan78xx", "aqc111", "rndis_host",
    // USB, and keyboards on it.
    "xhci_pci", "ehci_pci", "ohci_pci", "uhci_hcd", "usbhid", "hid_generic", "hid_a4tech", "hid_apple",
    "hid_asus", "hid_belkin", "hid_cherry", "hid_chicony", "hid_corsair", "hid_cypress", "hid_elecom",
    "hid_ezkey", "hid_google_hammer", "hid_gyration", "hid_holtek_kbd", "hid_ite", "hid_kensington",
    "hid_keytouch", "hid_lenovo", "hid_lg_g15", "hid_logitech", "hid_logitech_dj", "hid_logitech_hidpp",
    "hid_macally", "hid_microsoft", "hid_monterey", "hid_multitouch", "hid_primax", "hid_redragon",
    "hid_roccat", "hid_samsung", "hid_semitek", "hid_sunplus", "hid_topseed", "hid_vivaldi", "hid_zydacron",
    "evdev",
    // Keyboards of laptops and tablets.
    "i2c_hid_acpi", "i2c_designware_platform", "i2c_designware_pci", "intel_lpss_pci", "intel_lpss_acpi",
    "i2c_i801", "i2c_piix4", "pinctrl_alderlake", "pinctrl_elkhartlake", "pinctrl_jasperlake",
    "pinctrl_lakefield", "soc_button_array", "intel_hid",
    // Disks.
    "usb_storage", "uas", "nvme", "vmd", "ahci", "ata_piix", "ata_generic", "sd_mod", "mmc_block",
    "sdhci_pci", "sdhci_acpi", "rtsx_pci_sdmmc",
    // The stick's file system, the cache's, and firmware variables.
    "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8", "ext4", "efivarfs",
    // Encryption of the cache.
    "dm_mod", "dm_crypt", "xts", "ecb", "cbc", "essiv", "aesni_intel", "crypto_simd", "cryptd",
    "sha256_ssse3", "sha512_ssse3", "crc32c_generic", "crc32c_intel", "algif_skcipher",
    // The guest's network address translation.
    "nf_tables", "nft_chain_nat", "nft_masq", "nft_nat", "nft_ct", "nft_limit", "nft_reject",
    "nft_reject_inet", "nft_reject_ipv4", "nft_reject_ipv6", "nf_conntrack", "nf_conntrack_netlink", "nf_nat",
    // Power button, clock speed, heat, and a watchdog that restarts a hung kiosk.
    "button", "battery", "ac", "fan", "thermal", "processor", "acpi_cpufreq", "iTCO_wdt", "wdat_wdt",
];

/// Modules that are loaded at every boot because no hardware calls for them.
pub(super) const LOAD: &[&str] =
    &["tun", "dm_crypt", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nf_conntrack_netlink"];
