//! The server's state and its event loop: what is ready, then what this turn gathered, then pings.
//! Does not know what the bytes mean; each of its modules adds to [`Server`] what it owns.
use crate::{Flush, Options};
use connection::{Conn, Kind, RD};
use fan_out::Delivery;
use polling::Sess;
use std::{collections::HashMap, collections::VecDeque, os::fd::RawFd, time::Instant};

mod connection;
mod events;
mod fan_out;
mod handshake;
mod polling;
mod uring;

const PING_MS: u64 = 25_000;
const NONE: u32 = u32::MAX;

pub struct Server {
    ep: RawFd,
    conns: Vec<Conn>,
    members: Vec<RawFd>,
    rooms: HashMap<Vec<u8>, Vec<RawFd>>,
    conn_rooms: HashMap<RawFd, Vec<Vec<u8>>>,
    pings: VecDeque<(u64, RawFd, u32)>,
    sessions: Vec<Sess>,
    ready_sess: Vec<u32>,
    // this turn
    bcast: Vec<u8>,
    bcast_z: Vec<u8>, // the same messages for connections with permessage-deflate
    arena: Vec<u8>,
    deliveries: Vec<Delivery>,
    dirty: Vec<RawFd>,
    out: Vec<u8>,
    next_sid: u64,
    flush: Flush,
    deflate: bool,
    ring: Option<io_uring::IoUring>,
    fixed: bool,
    comp: flate2::Compress,
    start: Instant,
}

impl Server {
    /// `files_max`: how many files this process may have.
    pub fn new(options: &Options, files_max: u64) -> Server {
        // the table may not be longer than RLIMIT_NOFILE
        let files = options.fixed.then_some(files_max.min(1 << 17) as u32);
        let through_ring = matches!(options.flush, Flush::Uring | Flush::UringEach);
        Server {
            ep: unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
            conns: Vec::new(),
            members: Vec::new(),
            rooms: HashMap::new(),
            conn_rooms: HashMap::new(),
            pings: VecDeque::new(),
            sessions: Vec::new(),
            ready_sess: Vec::new(),
            bcast: Vec::new(),
            bcast_z: Vec::new(),
            arena: Vec::new(),
            deliveries: Vec::new(),
            dirty: Vec::new(),
            out: Vec::with_capacity(RD),
            next_sid: 0,
            flush: options.flush,
            deflate: options.deflate,
            ring: through_ring.then(|| uring::ring(files)),
            fixed: options.fixed,
            comp: flate2::Compress::new(flate2::Compression::new(6), false),
            start: Instant::now(),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    pub fn run(&mut self, ls: RawFd) -> ! {
        let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: ls as u64 };
        unsafe { libc::epoll_ctl(self.ep, libc::EPOLL_CTL_ADD, ls, &mut ev) };
        let mut evs: Vec<libc::epoll_event> = Vec::with_capacity(1024);
        let mut rd = vec![0u8; RD];
        loop {
            let timeout = match self.pings.front() {
                Some(&(at, ..)) => at.saturating_sub(self.now()).min(1000) as i32,
                None => 1000,
            };
            let n = unsafe { libc::epoll_wait(self.ep, evs.as_mut_ptr(), 1024, timeout) };
            unsafe { evs.set_len(n.max(0) as usize) };
            for &ev in &evs {
                let fd = ev.u64 as RawFd;
                if fd == ls {
                    self.accept(ls);
                    continue;
                }
                if self.conns[fd as usize].kind == Kind::Free {
                    continue;
                }
                if ev.events & libc::EPOLLOUT as u32 != 0 && self.conns[fd as usize].slow.is_some()
                {
                    self.drain(fd);
                }
                if ev.events
                    & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) as u32
                    != 0
                {
                    self.readable(fd, &mut rd);
                }
            }
            self.flush_turn();
            self.heartbeat();
        }
    }

    fn flush_turn(&mut self) {
        self.flush_bcast();
        self.flush_rooms();
        self.flush_polls();
    }

    fn heartbeat(&mut self) {
        if self.pings.is_empty() {
            return;
        }
        let now = self.now();
        while let Some(&(at, fd, generation)) = self.pings.front() {
            if at > now {
                return;
            }
            self.pings.pop_front();
            let c = &mut self.conns[fd as usize];
            if c.kind != Kind::Ws || c.generation != generation {
                continue;
            }
            if !std::mem::replace(&mut c.pong, false) {
                self.close(fd);
                continue;
            }
            self.write(fd, &[0x81, 1, b'2']);
            self.pings.push_back((now + PING_MS, fd, generation));
        }
    }
}
