//! Lock for Linux: an abstract Unix socket name, which exists as long as the socket bound to it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::geteuid;

use super::Attempt;

/// Backlog of the listening socket. Each process that asks for the holder uses one place for good;
/// further processes get no answer.
const BACKLOG: i32 = 64;

pub(super) fn take(name: &str) -> io::Result<Attempt> {
    let name = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let socket = new_socket()?;
    match bind(&socket, &name) {
        Ok(()) => {
            listen(&socket, BACKLOG)?;
            Ok(Attempt::Taken(socket))
        }
        Err(Errno::ADDRINUSE) => Ok(holder(&name)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the holder of the name. The kernel reports the credentials of the listening process.
fn holder(name: &SocketAddrUnix) -> Attempt {
    let asked = new_socket().ok().filter(|socket| connect(socket, name).is_ok());
    let held_by = asked.and_then(|socket| socket_peercred(&socket).ok());
    Attempt::InUse {
        pid: held_by.map(|process| process.pid.as_raw_nonzero().get()),
        is_ours: held_by.is_none_or(|process| process.uid == geteuid()),
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}
