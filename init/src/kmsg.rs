//! Records of `/dev/kmsg`.

/// PID 1 begins its words in the kernel's log with this.
pub const OURS: &str = "waystation: ";
/// Kernel messages of this severity and graver are for IT: warnings.
const WARNING: u32 = 4;

/// The text of a record that is a warning or graver, or PID 1's.
pub fn worth_logging(record: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(record).ok()?;
    let (header, rest) = text.split_once(';')?;
    let priority: u32 = header.split(',').next()?.parse().ok()?;
    let line = rest.lines().next()?;
    (priority & 7 <= WARNING || line.starts_with(OURS)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn warnings_and_pid_1_are_worth_it() {
        assert_eq!(worth_logging(b"4,12,345,-;e1000: no link\n SUBSYSTEM=pci\n"), Some("e1000: no link"));
        assert_eq!(worth_logging(b"6,12,345,-;chatter\n"), None);
        assert_eq!(worth_logging(b"14,1,2,-;waystation: begins\n"), Some("waystation: begins"));
        assert_eq!(worth_logging(b"nonsense"), None);
    }

    proptest! {
        #[test]
        fn is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(line) = worth_logging(&bytes) {
                prop_assert!(!line.contains('\n'));
            }
        }
    }
}
