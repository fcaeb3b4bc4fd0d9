//! Open files: as many as the system lets this process have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the process needs beside connections: its store, with every blocking thread at a file and its folder, log-ins
/// and itself.
const OTHERS: usize = 1200;

/// Raises the limit of open files to the hardest, and says how many connections fit in it, of the `wanted`.
pub fn raise(wanted: usize) -> usize {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files is not known");
            return wanted;
        }
    };
    let now = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the limit of open files cannot be raised");
            soft
        }
    };
    let fit = fitting(usize::try_from(now).unwrap_or(usize::MAX));
    if fit < wanted {
        tracing::warn!(
            open_files = now,
            connections = fit,
            wanted,
            "the limit of open files allows fewer connections; raise it (LimitNOFILE= of the unit)"
        );
    }
    wanted.min(fit)
}

/// Connections for which so many open files are enough: while old ones end, a quarter more are open.
fn fitting(files: usize) -> usize {
    let rest = if files > 2 * OTHERS { files - OTHERS } else { files / 2 };
    (rest / 5 * 4).max(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_store() {
        for files in [64, 1024, 4096, 524_288] {
            let fit = fitting(files);
            assert!(fit + fit.div_ceil(4) + OTHERS.min(files / 2) <= files, "{files}: {fit}");
        }
        assert!(fitting(524_288) > 65_536);
    }
}
