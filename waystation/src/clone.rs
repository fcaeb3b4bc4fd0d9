//! `waystation clone`: a user's parcel from a golden one. The clone has a key and a secret of its own; pieces that stay as
//! they were keep the golden names and are not sent again.

use super::{
    AdminError, Exit, Result,
    cli::{Answer, Common},
    connect::Connection,
    record::{self, First, Opened},
    secrets::{self, KeySource},
};
use cache::{
    commit::{Place, upload::Uploader},
    keyring::open_leaf,
};
use parcel::{
    keyring::{ImageKind, LEAF_REFS, chunks_for},
    record::{ImageInfo, MAX_SECRETS, Private},
    secret::Secret,
    slot::Slots,
    wire::Code,
};
use std::path::PathBuf;

pub(super) const EXAMPLE: &str = "\
The owner's log-in password opens the clone, so type that one. The recovery key, printed once, opens it after the owner has \
changed the password and forgotten the old one.

Example:
  waystation clone golden --key-file golden.key --name work --owner shanta@EXAMPLE.ORG --recovery-out shanta.txt";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name or id of the golden parcel.
    golden: String,
    #[command(flatten)]
    key: KeySource,
    /// Name of the new parcel, 1 to 64 characters.
    #[arg(long)]
    name: String,
    /// Owner of the new parcel, as user@REALM [default: you].
    #[arg(long, value_name = "USER@REALM")]
    owner: Option<String>,
    /// File whose first line is the owner's password; without it, the command asks.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Write the recovery key to this new file instead of printing it.
    #[arg(long, value_name = "FILE")]
    recovery_out: Option<PathBuf>,
}

pub(super) async fn run(common: &Common, arguments: Arguments) -> Result<Answer> {
    secrets::check_recovery_out(arguments.recovery_out.as_deref())?;
    let connection = Connection::open(common).await?;
    let owner = arguments.owner.unwrap_or_else(|| connection.principal.clone());
    let golden = record::open(&connection, &arguments.golden, &arguments.key).await?;
    if golden.record.private.secrets.len() >= MAX_SECRETS {
        let text =
            format!("parcel {:?} is a clone of clones, {MAX_SECRETS} deep; import it anew", golden.info.name);
        return Err(AdminError::new(Exit::Input, Code::TooManySecrets, text));
    }
    let what = format!("Password that {owner} logs in with");
    let password = secrets::password(arguments.password_file.as_deref(), &what, true)?;

    let key = secrets::new_key()?;
    let secret = secrets::new_secret()?;
    let recovery = secrets::new_recovery()?;
    // Before the server hears of anything: a full disk shows at once.
    if let Some(path) = &arguments.recovery_out {
        secrets::write_recovery(path, &recovery, &connection.begun)?;
    }
    let tenure = connection.create(&arguments.name, &owner).await?;
    let parcel = tenure.parcel;
    let what = format!("the parcel {:?}", arguments.name);
    let mut slots = Slots::default();
    secrets::set_password(&mut slots, &password, &key, &parcel)?;
    slots.set_recovery(&recovery, &key, &parcel);
    let showing = connection.show("cloning", 0);
    connection.put_slots(&tenure, &slots).await.map_err(|e| connection.about(e, &what))?;
    drop(showing);

    let uploader = connection.uploader(tenure.clone(), secret.clone(), 1);
    let place = Place { key: &key, parcel, moved: false };
    let images =
        take_over(&connection, &uploader, &place, &golden).await.map_err(|e| connection.about(e, &what))?;
    let mut machine = golden.record.public.machine.clone();
    machine.mac = record::mac()?;
    let mut tag = golden.record.public.tag.clone();
    // The clone boots from its disk wherever it is resumed first.
    tag.cpu.vendor = None;
    let own: [Secret; 1] = [secret];
    let private = Private {
        secrets: own.into_iter().chain(golden.record.private.secrets.iter().cloned()).collect(),
        cmdline: golden.record.private.cmdline.clone(),
        working_set: Vec::new(),
    };
    let first = First { tenure, key: &key, machine, tag, images, private };
    let info = record::finish(&connection, &uploader, first).await?;

    let mut json = serde_json::json!({ "parcel": &info });
    let mut text = format!("cloned {:?} as {:?} of {owner}, {}\n", golden.info.name, info.name, info.id);
    if arguments.recovery_out.is_some() {
        return Answer::new(&json, text);
    }
    let recovery = recovery.to_text();
    text += &format!("recovery key (shown once, keep it on paper): {}\n", recovery.as_str());
    json["recovery_key"] = recovery.as_str().into();
    Ok(Answer::new(&json, text)?.once())
}

/// The golden images under the new key: the same pieces, in leaves of the clone's own.
async fn take_over(
    connection: &Connection,
    uploader: &Uploader,
    place: &Place<'_>,
    golden: &Opened,
) -> Result<Vec<ImageInfo>> {
    let kept = [ImageKind::Disk, ImageKind::Kernel, ImageKind::Initrd];
    let images: Vec<_> =
        golden.record.public.images.iter().filter(|image| kept.contains(&image.kind)).collect();
    let showing = connection.show("cloning", images.iter().map(|image| image.bytes).sum());
    let mut taken = Vec::new();
    for image in images {
        let mut changes = Vec::with_capacity(chunks_for(image.bytes) as usize);
        for (index, name) in (0u32..).zip(&image.leaves) {
            let Some(name) = name else { continue };
            let sealed = connection.object(name).await?;
            let leaf = open_leaf(&sealed, name, &golden.key, &golden.info.id, image.kind, index)
                .map_err(|e| AdminError::new(Exit::Failed, Code::PieceDamaged, e.to_string()))?;
            let first = u64::from(index) * LEAF_REFS as u64;
            for (chunk, one) in (first..).zip(leaf.refs) {
                // The clone's own secret comes before the golden ones.
                let one = one.map(|mut one| {
                    one.secret += 1;
                    one
                });
                changes.push((chunk, one));
            }
        }
        let (info, leaves) = place.image(image.kind, image.bytes, changes, None).await?;
        uploader.objects(leaves, |_| {}).await?;
        showing.step.add(image.bytes);
        taken.push(info);
    }
    Ok(taken)
}
