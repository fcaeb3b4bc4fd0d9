//! The kernel's command line, and the options in it that override the image's configuration (a netboot server can
//! then name each kiosk without building an image for each).

/// Options of ours, and what the wipe wants to know of the kernel's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `waystation.name=`: name of the kiosk.
    pub name: Option<String>,
    /// `waystation.console=`: terminal of the login screen.
    pub console: Option<String>,
    /// `waystation.log=`: terminal that the log is copied to; `none` for no terminal.
    pub log: Option<String>,
    /// `init_on_free=1`: the kernel zeroes memory when it is freed.
    pub init_on_free: bool,
}

impl Cmdline {
    /// Reads the text of `/proc/cmdline`. Total: what is not understood is the kernel's business.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for word in words(text) {
            let Some((key, value)) = word.split_once('=') else { continue };
            match key {
                "waystation.name" => found.name = plain(value, 64),
                "waystation.console" => found.console = terminal(value),
                "waystation.log" => found.log = terminal(value),
                "init_on_free" => found.init_on_free = matches!(value, "1" | "y" | "Y" | "on"),
                _ => {}
            }
        }
        found
    }
}

/// Words as the kernel splits them: at white space outside double quotes.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => out.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    out.push(word);
    out.into_iter().filter(|word| !word.is_empty())
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
        assert!(found.init_on_free);
    }

    #[test]
    fn the_last_of_an_option_counts_and_a_path_is_no_terminal() {
        let found = Cmdline::parse("init_on_free=1 init_on_free=0 waystation.console=../../etc/passwd");
        assert!(!found.init_on_free);
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
