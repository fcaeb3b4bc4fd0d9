//! The options on the kernel's command line that override the image's configuration: a netboot server can then name
//! each kiosk without building an image for each.

/// Options of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `waystation.name=`: name of the kiosk.
    pub name: Option<String>,
    /// `waystation.console=`: terminal of the login screen.
    pub console: Option<String>,
    /// `waystation.keymap=`: keyboard layout.
    pub keymap: Option<String>,
    /// `waystation.log=`: terminal that the log is copied to; `none` for no terminal.
    pub log: Option<String>,
}

impl Cmdline {
    /// Reads the text of `/proc/cmdline`. Total: what is not understood is the kernel's business.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for word in parcel::kernel::words(text) {
            let Some((key, value)) = word.split_once('=') else { continue };
            match key {
                "waystation.name" => found.name = plain(value, 64),
                "waystation.console" => found.console = terminal(value),
                "waystation.keymap" => found.keymap = plain(value, 64),
                "waystation.log" => found.log = terminal(value),
                _ => {}
            }
        }
        found
    }
}

/// A value without control characters and of at most `most` characters.
fn plain(value: &str, most: usize) -> Option<String> {
    let value = value.trim();
    let fits = !value.is_empty() && value.chars().count() <= most && !value.chars().any(char::is_control);
    fits.then(|| value.to_owned())
}

/// Name of a terminal in `/dev`, never a path.
fn terminal(value: &str) -> Option<String> {
    let fits = !value.is_empty() && value.len() <= 32 && value.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_ours_among_the_kernels() {
        let line = "BOOT_IMAGE=/vmlinuz quiet waystation.name=\"Gate 7\" waystation.console=ttyS0 init_on_free=1 \
                    waystation.log=ttyS1 init=/init\n";
        let found = Cmdline::parse(line);
        assert_eq!(found.name.as_deref(), Some("Gate 7"));
        assert_eq!(found.console.as_deref(), Some("ttyS0"));
        assert_eq!(found.log.as_deref(), Some("ttyS1"));
    }

    #[test]
    fn the_last_of_an_option_counts_and_a_path_is_no_terminal() {
        let found = Cmdline::parse("waystation.name=A waystation.name=B waystation.console=../../etc/passwd");
        assert_eq!(found.name.as_deref(), Some("B"));
        assert_eq!(found.console, None);
    }

    proptest! {
        #[test]
        fn is_total(text in "\\PC*") {
            let found = Cmdline::parse(&text);
            prop_assert!(found.console.is_none_or(|name| name.bytes().all(|b| b.is_ascii_alphanumeric())));
        }
    }
}
