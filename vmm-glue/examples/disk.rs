//! Serves a file as a vhost-user-blk disk: `disk FILE SOCKET`. For working on the VMM without the client engine.

#[path = "../tests/support/disk.rs"]
mod disk;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(socket)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("disk FILE SOCKET")
    };
    let file = std::fs::File::options().read(true).write(true).open(file)?;
    disk::serve(file, socket.as_ref());
    Ok(())
}
