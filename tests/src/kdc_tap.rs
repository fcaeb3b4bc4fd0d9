//! A listener in front of the KDC that keeps what the KDC answers, so that the wipe test knows the session keys of the
//! tickets that it must not find.
//!
//! The capture holds messages as Kerberos sends them over TCP: four bytes of big-endian length and the message.

use anyhow::{Context, Result};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// A KDC's answer with a ticket for a service begins with this byte.
const SERVICE_TICKET: u8 = 0x6d;

/// Starts to listen on a free loopback port, TCP and UDP, for as long as the rig lives; answers its number. While `held` is
/// set, tickets for services stay here: whoever asks has the ticket that it asks with, and waits.
pub fn start(kdc: u16, capture: &Path, held: &Arc<AtomicBool>) -> Result<u16> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(capture)
        .with_context(|| format!("cannot open {}", capture.display()))?;
    let capture = Arc::new(Mutex::new(file));
    let port = crate::process::free_port()?;
    let tcp = TcpListener::bind(("127.0.0.1", port))?;
    let udp = UdpSocket::bind(("127.0.0.1", port))?;
    let (theirs, held) = (Arc::clone(&capture), Arc::clone(held));
    thread::spawn(move || {
        for client in tcp.incoming().flatten() {
            let (capture, held) = (Arc::clone(&theirs), Arc::clone(&held));
            // A client or KDC that goes away ends its own exchange and nothing else.
            thread::spawn(move || drop(exchange(client, kdc, &capture, &held)));
        }
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((n, client)) = udp.recv_from(&mut buffer) {
            let (Ok(udp), request) = (udp.try_clone(), buffer[..n].to_vec()) else { continue };
            let capture = Arc::clone(&capture);
            thread::spawn(move || {
                if let Ok(answer) = ask(kdc, &request) {
                    keep(&capture, &answer);
                    let _ = udp.send_to(&answer, client);
                }
            });
        }
    });
    Ok(port)
}

/// A TCP connection: framed requests and answers, until the client closes.
fn exchange(mut client: TcpStream, kdc: u16, capture: &Mutex<File>, held: &AtomicBool) -> Result<()> {
    let mut kdc = TcpStream::connect(("127.0.0.1", kdc))?;
    loop {
        send(&mut kdc, &receive(&mut client)?)?;
        let answer = receive(&mut kdc)?;
        while held.load(SeqCst) && answer.first() == Some(&SERVICE_TICKET) {
            thread::sleep(Duration::from_millis(50));
        }
        send(&mut client, &answer)?;
        keep(capture, &answer);
    }
}

/// One framed message.
fn receive(from: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length).min(1 << 20) as usize];
    from.read_exact(&mut message)?;
    Ok(message)
}

fn send(to: &mut TcpStream, message: &[u8]) -> Result<()> {
    to.write_all(&(message.len() as u32).to_be_bytes())?;
    to.write_all(message)?;
    Ok(())
}

/// One datagram to the KDC and back.
fn ask(kdc: u16, request: &[u8]) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send_to(request, ("127.0.0.1", kdc))?;
    let mut answer = vec![0; 65536];
    let n = socket.recv(&mut answer)?;
    answer.truncate(n);
    Ok(answer)
}

fn keep(capture: &Mutex<File>, message: &[u8]) {
    let mut framed = (message.len() as u32).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    // A capture that cannot be written makes the wipe test fail, since it then knows no keys.
    let _ = capture.lock().unwrap_or_else(PoisonError::into_inner).write_all(&framed);
}
