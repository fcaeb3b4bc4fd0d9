//! `waystation lock` and `waystation unlock`.

use super::{AdminError, Exit, Result, cli::Answer, connect::Connection, list::date};
use parcel::wire::http::LockRequest;

pub(super) const LOCK_EXAMPLE: &str = "Example:\n  waystation lock work";
pub(super) const UNLOCK_EXAMPLE: &str = "\
With --break, what the session elsewhere has not committed can no longer be committed.

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
    /// Release it although another of your sessions holds it.
    #[arg(long = "break")]
    breaking: bool,
}

pub(super) async fn lock(connection: &Connection, arguments: &LockArguments) -> Result<Answer> {
    let info = connection.find(&arguments.parcel).await?;
    let body = LockRequest { kiosk: connection.client.clone(), inventory: None };
    let reply = connection.api.lock(&info.id, &body, false).await?;
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
    let ours = held.principal == connection.principal && held.kiosk == connection.client;
    let epoch = match (ours, arguments.breaking) {
        (true, _) => held.epoch,
        (false, true) => {
            let body = LockRequest { kiosk: connection.client.clone(), inventory: None };
            connection.api.lock(&info.id, &body, true).await?.epoch
        }
        (false, false) => {
            let text = format!(
                "{:?} is held by {} ({}) since {}; suspend it there, or take it away with --break",
                info.name,
                held.kiosk,
                held.principal,
                date(held.since)
            );
            let mut error = AdminError::new(Exit::Refused, "locked", text);
            error.error.holder = Some(held.clone());
            return Err(error);
        }
    };
    connection.api.unlock(&info.id, epoch).await?;
    let info = connection.api.parcel(&info.id).await?;
    Answer::new(&info, format!("unlocked {:?}\n", info.name))
}
