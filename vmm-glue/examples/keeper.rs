//! Keeps one machine in a folder, without server, keys or chunks: stands in for `cached` at `guest.sock` while the VMM
//! is worked on. The disk, if any, is whatever vhost-user-blk socket is named.

use anyhow::{Context, Result, bail};
use clap::Parser;
use parcel::wire::guest::{Machine, Reply, Request, Start};
use sockets::blocking::Connection;
use std::{
    fs::File,
    os::{
        fd::AsFd,
        unix::{fs::FileExt, net::UnixListener},
    },
    path::PathBuf,
};
use vmm_glue::memory::{PAGE, dirty::memfd_of};

#[derive(Parser)]
struct Options {
    /// Socket to serve.
    #[arg(long)]
    socket: PathBuf,
    /// Folder of `memory` and `state`; restores when they are there.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initrd: PathBuf,
    #[arg(long)]
    cmdline: String,
    #[arg(long, default_value_t = 128)]
    memory_mib: u64,
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    #[arg(long, default_value = "x86-64-v2")]
    baseline: String,
    #[arg(long, default_value = "")]
    disk_socket: String,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let listener = UnixListener::bind(&options.socket)?;
    let mut socket = Connection::with_descriptors(listener.accept()?.0);
    let mut memory: Option<File> = None;
    loop {
        let (request, files) = socket.receive_with::<Request>()?;
        let files: Vec<File> = files.into_iter().map(File::from).collect();
        match request {
            Request::Describe => describe(&options, &mut socket, options.folder.join("state").exists())?,
            Request::Kernel => describe(&options, &mut socket, false)?,
            Request::Memory { .. } => {
                let mut files = files.into_iter();
                let file = files.next().context("no memory")?;
                if let Some(faults) = files.next() {
                    fill(&options, &file)?;
                    // As long as the guest lives.
                    std::mem::forget(faults);
                }
                memory = Some(file);
                socket.send(&Reply::Ready)?;
            }
            Request::Save { .. } => {
                let [state, dirty] = &files[..] else { bail!("no state") };
                keep(&options, memory.as_ref().context("no memory")?, state, dirty)?;
                socket.send(&Reply::Saved)?;
            }
            Request::PoweredOff => {
                println!("keeper: the guest powered off");
                socket.send(&Reply::Saved)?;
            }
        }
    }
}

fn describe(options: &Options, socket: &mut Connection, restore: bool) -> Result<()> {
    let machine = Machine {
        vcpus: options.vcpus,
        memory_mib: options.memory_mib,
        cpu_baseline: options.baseline.clone(),
        mac: "52:54:00:12:34:56".into(),
    };
    let disk_socket = options.disk_socket.clone();
    let file = |path: &PathBuf| Ok::<_, anyhow::Error>(memfd_of(c"file", &std::fs::read(path)?)?);
    let state = options.folder.join("state");
    if restore {
        socket.send_with(
            &Reply::Machine { machine, start: Start::Restore, disk_socket },
            &[file(&state)?.as_fd()],
        )?;
    } else {
        let (kernel, initrd) = (file(&options.kernel)?, file(&options.initrd)?);
        let start = Start::Cold { cmdline: options.cmdline.clone() };
        socket
            .send_with(&Reply::Machine { machine, start, disk_socket }, &[kernel.as_fd(), initrd.as_fd()])?;
    }
    Ok(())
}

fn fill(options: &Options, memory: &File) -> Result<()> {
    let saved = File::open(options.folder.join("memory"))?;
    let mut piece = vec![0; 1 << 20];
    for at in (0..saved.metadata()?.len()).step_by(piece.len()) {
        let count = saved.read_at(&mut piece, at)?;
        memory.write_all_at(&piece[..count], at)?;
    }
    Ok(())
}

fn keep(options: &Options, memory: &File, state: &File, dirty: &File) -> Result<()> {
    let kept = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(options.folder.join("memory"))?;
    kept.set_len(memory.metadata()?.len())?;
    let mut bits = vec![0; dirty.metadata()?.len() as usize];
    dirty.read_exact_at(&mut bits, 0)?;
    let (mut pages, mut page) = (0, vec![0; PAGE as usize]);
    for index in 0..bits.len() as u64 * 8 {
        if bits[(index / 8) as usize] & (1 << (index % 8)) != 0 {
            memory.read_exact_at(&mut page, index * PAGE)?;
            kept.write_all_at(&page, index * PAGE)?;
            pages += 1;
        }
    }
    // A page that changed and was not in the bitmap would be a lost write: none may differ.
    let mut lost = 0;
    let mut before = vec![0; PAGE as usize];
    for index in 0..memory.metadata()?.len() / PAGE {
        memory.read_exact_at(&mut page, index * PAGE)?;
        kept.read_exact_at(&mut before, index * PAGE)?;
        lost += u64::from(page != before);
    }
    let mut bytes = vec![0; state.metadata()?.len() as usize];
    state.read_exact_at(&mut bytes, 0)?;
    std::fs::write(options.folder.join("state"), &bytes)?;
    println!(
        "keeper: kept {pages} pages, {} bytes of state; {lost} changed pages were not in the bitmap",
        bytes.len()
    );
    Ok(())
}
