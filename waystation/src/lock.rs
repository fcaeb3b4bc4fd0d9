//! `waystation lock` and `waystation unlock`.

use super::{AdminError, Exit, Result, cli::Answer, connect::Connection, list::date};
use parcel::wire::Code;

pub(super) const LOCK_EXAMPLE: &str = "Example:\n  waystation lock work";
pub(super) const UNLOCK_EXAMPLE: &str = "\
With --break, the session elsewhere can no longer commit what it has not committed.

Example:
  waystation unlock work --break";

#[derive(clap::Args)]
pub(super) struct LockArguments {
    /// Name or id of the parcel.
    parcel: String,
}

#[derive(clap::Args)]
pub(super) struct UnlockArguments {
    /// Name or id of the parcel.
    parcel: String,
    /// Release it even if another of your sessions holds it.
    #[arg(long = "break")]
    breaking: bool,
}

pub(super) async fn lock(connection: &Connection, arguments: &LockArguments) -> Result<Answer> {
    let info = connection.find(&arguments.parcel).await?;
    let (_, reply) = connection.lock(&info, false).await?;
    Answer::new(
        &reply,
        format!("locked {:?} at version {}, epoch {}\n", info.name, reply.version, reply.epoch),
    )
}

pub(super) async fn unlock(connection: &Connection, arguments: &UnlockArguments) -> Result<Answer> {
    let info = connection.find(&arguments.parcel).await?;
    let Some(held) = &info.lock else {
        return Answer::new(&info, format!("{:?} was not locked\n", info.name));
    };
    if !connection.claims.holds(&info) && !arguments.breaking {
        let text = format!(
            "{:?} is held by {} ({}) since {}; suspend it there, or take it away with --break",
            info.name,
            held.kiosk,
            held.principal,
            date(held.since)
        );
        let mut error = AdminError::new(Exit::Refused, Code::Locked, text);
        error.error.holder = Some(held.clone());
        return Err(error);
    }
    let (tenure, _) = connection.lock(&info, arguments.breaking).await?;
    connection.api.unlock(&info.id, &tenure.hold()).await?;
    connection.claims.forget(&info.id);
    let info = connection.api.parcel(&info.id).await?;
    Answer::new(&info, format!("unlocked {:?}\n", info.name))
}
