//! The boot chain: UKI assembly, disk image and netboot files.
