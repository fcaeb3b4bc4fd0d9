//! Making and changing version records from the command line.

use super::{
    AdminError, Exit, Result,
    connect::Connection,
    inspect::{DataChunks, Input},
    secrets::KeySource,
};
use cache::{
    commit::{
        Place, move_head,
        upload::{Job, Uploader},
    },
    fetch::Plain,
    status::Step,
    tenure::Tenure,
};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{RecordHash, Version},
    keyring::{ImageKind, LEAF_REFS, leaves_for},
    record::{FORMAT, ImageInfo, Private, Public, Record},
    secret::ParcelKey,
    tag::{CpuTag, Tag, Wishes, baseline_features},
    wire::{Code, WireError, guest::Machine, http::ParcelInfo},
};
use std::{
    iter::from_fn,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The device model that a machine is made for; kiosks with a newer VMM restore it too.
pub(super) const DEVICE_MODEL: u32 = 1;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The fixed parts of a machine that is made new.
pub(super) fn machine(vcpus: u32, memory_mib: u64, baseline: &str) -> Result<(Machine, Tag)> {
    let features = baseline_features(baseline).ok_or_else(|| {
        AdminError::input(format!(
            "CPU baseline {baseline:?} is not known; use x86-64-v1, x86-64-v2 or x86-64-v3"
        ))
    })?;
    let machine = Machine { vcpus, memory_mib, cpu_baseline: baseline.to_owned(), mac: mac()? };
    let cpu = CpuTag { vendor: None, baseline: baseline.to_owned(), features };
    Ok((machine, Tag { cpu, vcpus, memory_mib, device_model: DEVICE_MODEL, wishes: Wishes::default() }))
}

/// A random network address in QEMU's and KVM's range for local use.
pub(super) fn mac() -> Result<String> {
    let bytes = super::secrets::random::<3>()?;
    Ok(format!("52:54:00:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2]))
}

/// Chunks of a file that are sent before their leaves are sealed and their references forgotten: eight leaves of them, 2 GiB.
const AT_ONCE: u64 = 8 * LEAF_REFS as u64;

/// Sends a file as an image: only its pieces that are not zeros, and only those that the server lacks. Its holes are not read.
pub(super) async fn send_file(
    connection: &Connection,
    uploader: &Uploader,
    place: &Place<'_>,
    kind: ImageKind,
    input: Input,
    step: &Step,
) -> Result<ImageInfo> {
    let input = Arc::new(input);
    let sending = async {
        let mut image =
            ImageInfo { kind, bytes: input.bytes, leaves: vec![None; leaves_for(input.bytes) as usize] };
        let mut chunks = DataChunks::new(&input).peekable();
        while let Some(part) = chunks.peek().map(|chunk| chunk / AT_ONCE) {
            let of_part = from_fn(|| chunks.next_if(|chunk| chunk / AT_ONCE == part));
            let jobs = of_part.map(|chunk| job(&input, chunk));
            let changes = uploader.pieces(jobs, step).await?;
            let (sent, leaves) = place.image(kind, input.bytes, changes, None).await?;
            uploader.objects(leaves, |_| {}).await?;
            for (name, sent) in image.leaves.iter_mut().zip(sent.leaves) {
                *name = name.or(sent);
            }
        }
        // What was a hole was not read.
        input.unchanged().map_err(|error| WireError::new(Code::CacheMedium, error.to_string()))?;
        Ok::<_, WireError>(image)
    };
    sending.await.map_err(|error| match error.code {
        // The uploader says so of whatever its jobs cannot read.
        Code::CacheMedium => AdminError::input(error.message),
        _ => connection.about(error, &input.name),
    })
}

fn job(input: &Arc<Input>, chunk: u64) -> Job {
    let input = input.clone();
    let at = chunk * CHUNK_SIZE as u64;
    let len = input.in_chunk(chunk);
    let load = move || -> std::io::Result<Option<Plain>> {
        let bytes = input.read(at, len as usize)?;
        Ok(bytes.iter().any(|byte| *byte != 0).then_some(bytes))
    };
    Job::new(chunk, len, load)
}

/// The first version of a parcel that is made new.
pub(super) struct First<'a> {
    pub tenure: Arc<Tenure>,
    pub key: &'a ParcelKey,
    pub machine: Machine,
    pub tag: Tag,
    pub images: Vec<ImageInfo>,
    pub private: Private,
}

/// Commits the first version and gives the lock back; then nothing is taken back any more.
pub(super) async fn finish(
    connection: &Connection,
    uploader: &Uploader,
    first: First<'_>,
) -> Result<ParcelInfo> {
    let version = Version(1);
    let public = Public {
        format: FORMAT,
        parcel: first.tenure.parcel,
        version,
        parent: Version(0),
        created_at: now(),
        kiosk: connection.claims.client.clone(),
        tag: first.tag,
        machine: first.machine,
        images: first.images,
        memory_lost: false,
    };
    let _showing = connection.show("committing", 0);
    // Asked before: afterwards the parcel of somebody else is out of sight.
    let begun = connection.parcel(&first.tenure.parcel).await?;
    let info = ParcelInfo {
        version,
        epoch: first.tenure.hold().epoch.next(),
        lock: None,
        tag: Some(public.tag.clone()),
        suspended_at: Some(public.created_at),
        suspended_on: Some(public.kiosk.clone()),
        disk_bytes: public.image(ImageKind::Disk).map_or(0, |disk| disk.bytes),
        suspended: public.suspended(),
        memory_lost: public.memory_lost,
        ..begun
    };
    let record = Record { public, private: first.private };
    let sealed = record.seal(first.key).map_err(|e| AdminError::input(e.to_string()))?;
    let info = ParcelInfo { record: Some(RecordHash::of(&sealed)), ..info };

    let _step = connection.begun.step().await;
    let what = format!("the parcel {:?}", info.name);
    move_head(uploader, version, sealed.into()).await.map_err(|e| connection.about(e, &what))?;
    connection.begun.committed(&first.tenure);
    connection.release(&info, &first.tenure).await;
    connection.begun.finished();
    Ok(info)
}

/// A version that was opened with its key.
pub(super) struct Opened {
    pub info: ParcelInfo,
    pub key: ParcelKey,
    pub record: Record,
}

/// Opens the last version of a parcel.
pub(super) async fn open(connection: &Connection, name: &str, source: &KeySource) -> Result<Opened> {
    let info = connection.find(name).await?;
    let slots = match connection.api.slots(&info.id).await {
        Ok(slots) => Some(slots),
        Err(error) if error.not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let key =
        source.open(&info.id, slots.as_deref(), &format!("parcel {:?} of {}", info.name, info.owner))?;
    let sealed = connection.record(&info.id, info.version).await?;
    let record = Record::open(&sealed, &key, &info.id)
        .map_err(|e| AdminError::new(Exit::Input, Code::WrongKey, format!("parcel {:?}: {e}", info.name)))?;
    Ok(Opened { info, key, record })
}

/// Commits a changed record over the same pieces, under a lock that is held for just that long, or longer if it was
/// ours already.
pub(super) async fn replace(
    connection: &Connection,
    opened: Opened,
    change: impl FnOnce(&mut Public),
) -> Result<ParcelInfo> {
    let Opened { info, key, mut record } = opened;
    let kept = connection.claims.holds(&info);
    let step = connection.begun.step().await;
    let (tenure, held) = connection.lock(&info, false).await?;
    if !kept {
        connection.begun.lock(&connection.session, &tenure, &connection.claims);
    }
    drop(step);
    if held.version != record.public.version {
        let text = format!("parcel {:?} was committed by somebody else meanwhile; start again", info.name);
        return Err(AdminError::new(Exit::Refused, Code::WrongParent, text));
    }
    record.public.parent = held.version;
    record.public.version = held.version.next();
    record.public.created_at = now();
    record.public.kiosk = connection.claims.client.clone();
    change(&mut record.public);
    let sealed = record.seal(&key).map_err(|e| AdminError::input(e.to_string()))?;
    let secret = record.private.secrets[0].clone();
    let uploader = connection.uploader(tenure.clone(), secret, 1);

    let _showing = connection.show("committing", 0);
    let _step = connection.begun.step().await;
    let what = format!("the change of the parcel {:?}", info.name);
    move_head(&uploader, record.public.version, sealed.into())
        .await
        .map_err(|e| connection.about(e, &what))?;
    let info = connection.parcel(&info.id).await?;
    if kept {
        return Ok(info);
    }
    connection.release(&info, &tenure).await;
    connection.begun.finished();
    Ok(ParcelInfo { lock: None, epoch: held.epoch.next(), ..info })
}
