//! On Linux: an abstract name of a Unix socket, which lives as long as the socket that is bound to it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::geteuid;

use super::Attempt;

/// Those who ask who holds the name and are never answered. Once so many have asked, the next one is not told.
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

/// The system knows who began to listen, without a word from them.
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
