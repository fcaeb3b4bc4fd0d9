//! `waystation discard`.

use super::{Result, cli::Answer, connect::Connection};

pub(super) const EXAMPLE: &str = "\
A command that fails does this by itself. Use it after a machine lost its power. A parcel that has a version is never \
removed.

Example:
  waystation ls --all
  waystation discard golden";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name or id of the parcel.
    parcel: String,
    /// Remove it even if another machine may be making it now.
    #[arg(long = "break")]
    breaking: bool,
}

pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> Result<Answer> {
    let info = connection.find_unfinished(&arguments.parcel).await?;
    connection.discard(&info, arguments.breaking).await?;
    Answer::new(&info, format!("nothing of the parcel {:?} of {} is left\n", info.name, info.owner))
}
