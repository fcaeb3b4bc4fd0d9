//! What the kernel itself says of how it was started and whether it zeroes what is freed. An option can be given twice,
//! and another one can undo it, so neither is taken from the image's configuration.

use super::verify::Found;
use crate::folder;
use parcel::kernel::differences;
use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The kernel's word on its memory, kept by the first manager: the kernel's log is a ring.
const KEPT: &str = "/run/init/memory";
/// How the kernel's line on its memory begins (`report_meminit` in `mm/mm_init.c`).
const LINE: &str = "mem auto-init: stack:";
/// What it says when freed pages and objects are zeroed. Poisoning, which wins over zeroing, makes it `off`.
const ZEROES: &str = "heap free:on";

/// Keeps the kernel's word on its memory for every verification until the power goes off.
pub fn remember() {
    if !Path::new(KEPT).exists()
        && let Ok(Some(line)) = first_word(Path::new("/dev/kmsg"))
    {
        // Without it the verification fails, which says so.
        let _ = fs::write(KEPT, line);
    }
}

/// How the kernel's command line differs from what a kiosk may be started with.
pub(super) fn started() -> Found {
    Ok(differences(&fs::read_to_string("/proc/cmdline")?))
}

/// What speaks against the kernel's zeroing all that is freed.
pub(super) fn zeroes() -> Found {
    let mut found = said(&folder::text_of(Path::new(KEPT))?.unwrap_or_default());
    found.extend(poisoned(Path::new("/sys/kernel/slab"))?);
    Ok(found)
}

fn said(line: &str) -> Vec<String> {
    match line {
        "" => vec!["the kernel did not say whether it does".to_owned()],
        line if line.contains(ZEROES) => Vec::new(),
        line => vec![format!("the kernel says: {line}")],
    }
}

/// Caches of kernel objects that are filled with a pattern for debugging instead of zeros.
fn poisoned(slabs: &Path) -> Found {
    let mut found = Vec::new();
    // A kernel without such switches cannot poison.
    for slab in folder::entries(slabs)? {
        if folder::text_of(&slab.path().join("poison"))?.is_some_and(|text| text.trim() != "0") {
            found.push(format!("the slab {} is poisoned", slab.file_name().display()));
        }
    }
    Ok(found)
}

/// The first record of the kernel's own in its log that begins with [`LINE`].
fn first_word(kmsg: &Path) -> io::Result<Option<String>> {
    let mut kmsg = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(kmsg)?;
    let mut buffer = [0u8; 8192];
    loop {
        match kmsg.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(len) => {
                if let Some(line) = its_word(buffer.get(..len).unwrap_or_default()) {
                    return Ok(Some(line.to_owned()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // The ring ran over, or a record is longer than any that counts here.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The text of a record if the kernel wrote it (facility 0: a program's records have others) and it is on its memory.
fn its_word(record: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(record).ok()?;
    let (header, rest) = text.split_once(';')?;
    let priority: u32 = header.split(',').next()?.parse().ok()?;
    let line = rest.lines().next()?;
    (priority >> 3 == 0 && line.starts_with(LINE)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: &str = "mem auto-init: stack:all(zero), heap alloc:on, heap free:on";
    const OFF: &str = "mem auto-init: stack:all(zero), heap alloc:off, heap free:off";

    #[test]
    fn the_kernels_own_word_counts_and_nobody_elses() {
        assert_eq!(its_word(format!("6,88,0,-;{ON}\n").as_bytes()), Some(ON));
        assert_eq!(its_word(format!("14,88,0,-;{ON}\n").as_bytes()), None, "a program wrote it");
        assert_eq!(its_word(b"6,87,0,-;mem auto-init: CONFIG_PAGE_POISONING is on, will take\n"), None);
        assert!(said(ON).is_empty());
        assert_eq!(said(OFF), [format!("the kernel says: {OFF}")]);
        assert_eq!(said("").len(), 1, "silence is not yes");
    }

    #[test]
    fn a_poisoned_slab_is_named() {
        let slabs = tempfile::tempdir().unwrap();
        for (name, poison) in [("kmalloc-64", "0\n"), ("dentry", "1\n")] {
            fs::create_dir(slabs.path().join(name)).unwrap();
            fs::write(slabs.path().join(name).join("poison"), poison).unwrap();
        }
        assert_eq!(poisoned(slabs.path()).unwrap(), ["the slab dentry is poisoned"]);
        assert!(poisoned(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
