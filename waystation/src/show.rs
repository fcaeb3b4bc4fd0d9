//! `waystation show`.

use super::{
    Result,
    cli::Answer,
    connect::Connection,
    list::{date, state, table},
};

pub(super) const EXAMPLE: &str = "Example:\n  waystation show work";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name or id of the parcel.
    parcel: String,
}

pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> Result<Answer> {
    let info = connection.find(&arguments.parcel).await?;
    let versions = connection.api.versions(&info.id).await?;
    let held = info.lock.as_ref().map_or("nobody".into(), |lock| {
        format!("{} ({}) since {}, epoch {}", lock.kiosk, lock.principal, date(lock.since), lock.epoch)
    });
    let mut text = format!(
        "name     {}\nid       {}\nowner    {}\ndisk     {} MiB\nheld by  {held}\n",
        info.name,
        info.id,
        info.owner,
        info.disk_bytes >> 20
    );
    if let Some(tag) = &info.tag {
        text += &super::tag::lines(tag);
    }
    let rows: Vec<_> = versions
        .iter()
        .map(|one| {
            let state = state(one.suspended, one.memory_lost);
            vec![
                one.version.to_string(),
                one.parent.to_string(),
                date(one.created_at),
                state.into(),
                one.kiosk.clone(),
            ]
        })
        .collect();
    text.push('\n');
    text += &table(&["VERSION", "FROM", "COMMITTED", "STATE", "ON"], &rows);
    Answer::new(&serde_json::json!({ "parcel": info, "versions": versions }), text)
}
