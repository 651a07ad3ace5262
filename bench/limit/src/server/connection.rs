//! Connections and their bytes: accepting, reading, cutting what was read into requests and frames,
//! writing, closing. Does not know what a packet says, nor who is sent it.
use super::{NONE, Server, events::Place};
use crate::{http, ws};
use std::os::fd::RawFd;

pub(super) const RD: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    Http,
    Ws,
}

/// Buffers that exist only while a frame is incomplete or the peer reads too slowly.
#[derive(Default)]
pub(super) struct Slow {
    rbuf: Vec<u8>,
    need: usize,
    pub out: Vec<u8>,
    out_pos: usize,
}

/// 40 bytes; nothing else is kept per idle connection (besides 8 in the broadcast list).
pub(super) struct Conn {
    pub slow: Option<Box<Slow>>,
    pub generation: u32,
    pub member: u32, // index in the broadcast list
    pub head: u32,   // chain of this turn's room deliveries
    pub tail: u32,
    pub poll_sess: u32, // polling session whose GET waits on this connection
    pub kind: Kind,
    pub pong: bool,
    pub deflate: bool,
    pub dirty: bool,
}

const FREE: Conn = Conn {
    slow: None,
    generation: 0,
    member: NONE,
    head: NONE,
    tail: NONE,
    poll_sess: NONE,
    kind: Kind::Free,
    pong: true,
    deflate: false,
    dirty: false,
};

impl Server {
    pub(super) fn accept(&mut self, ls: RawFd) {
        for _ in 0..256 {
            let fd = unsafe {
                libc::accept4(
                    ls,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                )
            };
            if fd < 0 {
                return;
            }
            while self.conns.len() <= fd as usize {
                self.conns.push(FREE);
            }
            let c = &mut self.conns[fd as usize];
            let generation = c.generation.wrapping_add(1);
            *c = Conn { kind: Kind::Http, generation, ..FREE };
            let mut ev = libc::epoll_event {
                events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32,
                u64: fd as u64,
            };
            unsafe { libc::epoll_ctl(self.ep, libc::EPOLL_CTL_ADD, fd, &mut ev) };
        }
    }

    pub(super) fn close(&mut self, fd: RawFd) {
        let c = &mut self.conns[fd as usize];
        let generation = c.generation;
        let member = c.member;
        if c.poll_sess != NONE {
            let s = c.poll_sess;
            self.sessions[s as usize].get_fd = -1;
        }
        *c = Conn { generation, ..FREE };
        if member != NONE {
            self.members.swap_remove(member as usize);
            if let Some(&moved) = self.members.get(member as usize) {
                self.conns[moved as usize].member = member;
            }
            self.register(fd, -1);
        }
        if let Some(rooms) = self.conn_rooms.remove(&fd) {
            for r in rooms {
                if let Some(v) = self.rooms.get_mut(&r) {
                    v.retain(|&f| f != fd);
                }
            }
        }
        unsafe { libc::close(fd) };
    }

    pub(super) fn readable(&mut self, fd: RawFd, shared: &mut [u8]) {
        loop {
            // A frame that is being put together is read straight into its own buffer.
            let slow_buf = match &mut self.conns[fd as usize].slow {
                Some(s) if !s.rbuf.is_empty() => Some(std::mem::take(&mut s.rbuf)),
                _ => None,
            };
            if let Some(mut b) = slow_buf {
                let need = self.conns[fd as usize].slow.as_ref().unwrap().need.max(b.len() + 4096);
                let have = b.len();
                b.reserve(need - have + 4096);
                let n =
                    unsafe { libc::read(fd, b.as_mut_ptr().add(have).cast(), b.capacity() - have) };
                if n <= 0 {
                    if n < 0 && would_block() {
                        self.conns[fd as usize].slow.as_mut().unwrap().rbuf = b;
                    } else {
                        self.close(fd);
                    }
                    return;
                }
                let room = b.capacity() - have;
                unsafe { b.set_len(have + n as usize) };
                let used = self.process(fd, &mut b);
                if self.conns[fd as usize].kind == Kind::Free {
                    return;
                }
                if used < b.len() {
                    b.drain(..used);
                    self.conns[fd as usize].slow.as_mut().unwrap().rbuf = b;
                }
                if (n as usize) < room {
                    return;
                }
                continue;
            }
            let n = unsafe { libc::read(fd, shared.as_mut_ptr().cast(), RD) };
            if n <= 0 {
                if n == 0 || !would_block() {
                    self.close(fd);
                }
                return;
            }
            let n = n as usize;
            let used = self.process(fd, &mut shared[..n]);
            if self.conns[fd as usize].kind == Kind::Free {
                return;
            }
            if used < n {
                let need = ws::need(&shared[used..n]);
                let s = self.conns[fd as usize].slow.get_or_insert_default();
                s.rbuf.reserve(need.max(512));
                s.rbuf.extend_from_slice(&shared[used..n]);
                s.need = need;
            }
            if n < RD {
                return;
            }
        }
    }

    /// Handles what is complete in `b`, writes the replies, returns how much was used up.
    fn process(&mut self, fd: RawFd, b: &mut [u8]) -> usize {
        let mut pos = 0;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        while self.conns[fd as usize].kind == Kind::Http && pos < b.len() {
            match http::parse(&b[pos..]) {
                Some(req) => {
                    let used = req.used;
                    self.request(fd, &req, &mut out);
                    pos += used;
                }
                None => break,
            }
        }
        while self.conns[fd as usize].kind == Kind::Ws {
            let Some((op, start, end)) = ws::frame(&mut b[pos..]) else { break };
            let (start, end) = (pos + start, pos + end);
            let place = Place { frame: pos, start, end };
            pos = end;
            match op {
                1 => self.text(fd, b, place, &mut out),
                8 => {
                    self.close(fd);
                    break;
                }
                _ => {}
            }
        }
        if !out.is_empty() && self.conns[fd as usize].kind != Kind::Free {
            self.write(fd, &out);
        }
        self.out = out;
        pos
    }

    pub(super) fn write(&mut self, fd: RawFd, d: &[u8]) {
        if let Some(s) = &mut self.conns[fd as usize].slow
            && !s.out.is_empty()
        {
            s.out.extend_from_slice(d);
            return;
        }
        let n = unsafe { libc::write(fd, d.as_ptr().cast(), d.len()) };
        if n == d.len() as isize {
            return;
        }
        if n < 0 && !would_block() {
            self.close(fd);
            return;
        }
        let s = self.conns[fd as usize].slow.get_or_insert_default();
        s.out.extend_from_slice(&d[n.max(0) as usize..]);
        s.out_pos = 0;
    }

    pub(super) fn drain(&mut self, fd: RawFd) {
        let s = self.conns[fd as usize].slow.as_mut().unwrap();
        while s.out_pos < s.out.len() {
            let d = &s.out[s.out_pos..];
            let n = unsafe { libc::write(fd, d.as_ptr().cast(), d.len()) };
            if n < 0 {
                if !would_block() {
                    self.close(fd);
                }
                return;
            }
            s.out_pos += n as usize;
        }
        if s.rbuf.is_empty() {
            self.conns[fd as usize].slow = None;
        } else {
            s.out = Vec::new();
            s.out_pos = 0;
        }
    }
}

fn would_block() -> bool {
    std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock
}
