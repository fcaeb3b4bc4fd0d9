//! `waystation import`.

use super::{
    AdminError, Result,
    cli::{Answer, Common},
    clock_helper,
    connect::Connection,
    disk, inspect,
    record::{self, First},
    secrets,
    terminal::say,
};
use cache::commit::Place;
use parcel::{
    keyring::ImageKind,
    record::{MAX_CMDLINE, Private},
    slot::Slots,
    wire::guest::MEMORY_MIB,
};
use std::path::PathBuf;

pub(super) const EXAMPLE: &str = "\
The disk image must be raw; for another format, the command shows how to convert it. For a disk with partitions, root= names \
the one with the root, such as root=/dev/vda1. With --key-file, only that file opens the parcel; without it, the command asks \
for a password. A command that fails or is interrupted leaves nothing on the server, and removes the key file and the \
recovery file that it wrote.

Example:
  waystation import --name golden --disk disk.img --kernel vmlinuz --initrd initrd.img \\
      --cmdline 'root=/dev/vda rw console=hvc0' --memory 512 --vcpus 1 --key-file golden.key";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name of the parcel, 1 to 64 characters.
    #[arg(long)]
    name: String,
    /// Raw disk image.
    #[arg(long, value_name = "FILE")]
    disk: PathBuf,
    /// Linux kernel (bzImage) that a cold boot starts.
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Initial RAM disk of that kernel.
    #[arg(long, value_name = "FILE")]
    initrd: PathBuf,
    /// Kernel command line.
    #[arg(long)]
    cmdline: String,
    /// Memory in MiB, 64 to 262144.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(MEMORY_MIB))]
    memory: u64,
    /// Virtual CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    vcpus: u32,
    /// CPU features that the machine gets: x86-64-v1, x86-64-v2 or x86-64-v3.
    #[arg(long, default_value = "x86-64-v2")]
    baseline: String,
    /// File with the parcel key, instead of a password: written if it does not exist, else read.
    #[arg(long, alias = "key-out", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File whose first line is the password; without it, the command asks.
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    password_file: Option<PathBuf>,
    /// Add a recovery key, and write it to this new file.
    #[arg(long, value_name = "FILE")]
    recovery_out: Option<PathBuf>,
    /// Import a disk image even if no Linux is found in it, if it is cut off, or if it lacks the root= of --cmdline.
    #[arg(long)]
    force_raw: bool,
    /// Compression level of zstd: 1 is fast, 19 is small.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    zstd_level: i32,
}

pub(super) async fn run(common: &Common, arguments: Arguments) -> Result<Answer> {
    // Everything that can be wrong here is found before the server hears of it.
    let disk = disk::open(&arguments.disk, &arguments.cmdline, arguments.force_raw)?;
    let kernel = inspect::kernel(&arguments.kernel)?;
    let initrd = inspect::initrd(&arguments.initrd)?;
    if let Some(warning) = clock_helper::warning(&disk) {
        say(format_args!("waystation: warning: {warning}"));
    }
    let (machine, tag) = record::machine(arguments.vcpus, arguments.memory, &arguments.baseline)?;
    if arguments.cmdline.len() > MAX_CMDLINE || arguments.cmdline.contains(['\0', '\n']) {
        return Err(AdminError::input(format!(
            "--cmdline: it is one line of at most {MAX_CMDLINE} bytes; shorten it"
        )));
    }
    secrets::check_recovery_out(arguments.recovery_out.as_deref())?;
    let connection = Connection::open(common).await?;
    let password = match arguments.key_file {
        Some(_) => None,
        None => Some(secrets::password(
            arguments.password_file.as_deref(),
            &format!("Password for parcel {:?}", arguments.name),
            true,
        )?),
    };
    // What is to be written here is written before the server hears of anything: a full disk shows at once.
    let key = match &arguments.key_file {
        Some(path) => secrets::key_file(path, &connection.begun)?,
        None => secrets::new_key()?,
    };
    let recovery = match &arguments.recovery_out {
        Some(path) => {
            let recovery = secrets::new_recovery()?;
            secrets::write_recovery(path, &recovery, &connection.begun)?;
            Some(recovery)
        }
        None => None,
    };

    let tenure = connection.create(&arguments.name, &connection.principal).await?;
    let parcel = tenure.parcel;
    let what = format!("the parcel {:?}", arguments.name);
    let showing = connection.show("importing", disk.data() + kernel.data() + initrd.data());
    let mut slots = Slots::default();
    if let Some(password) = &password {
        secrets::set_password(&mut slots, password, &key, &parcel)?;
    }
    if let Some(recovery) = &recovery {
        slots.set_recovery(recovery, &key, &parcel);
    }
    if !slots.slots.is_empty() {
        connection.put_slots(&tenure, &slots).await.map_err(|e| connection.about(e, &what))?;
    }

    let secret = secrets::new_secret()?;
    let uploader = connection.uploader(tenure.clone(), secret.clone(), arguments.zstd_level);
    let place = Place { key: &key, parcel, moved: false };
    let mut images = Vec::new();
    for (kind, input) in [(ImageKind::Kernel, kernel), (ImageKind::Initrd, initrd), (ImageKind::Disk, disk)] {
        images.push(record::send_file(&connection, &uploader, &place, kind, input, &showing.step).await?);
    }
    drop(showing);
    if let Some(path) = &arguments.key_file {
        secrets::check_key(path, &key)?;
    }
    let private = Private { secrets: vec![secret], cmdline: arguments.cmdline, working_set: Vec::new() };
    let first = First { tenure, key: &key, machine, tag, images, private };
    let info = record::finish(&connection, &uploader, first).await?;
    let sent = uploader.sent() / 1024;
    Answer::new(&info, format!("imported {:?} as {} ({} KiB sent)\n", info.name, info.id, sent))
}
