//! Connecting and closing: sockets, their source addresses, how many handshakes are under way.
//! Does not know what is said on a connection.
use super::{App, St, Swarm};
use crate::measure::now;

const PER_SOURCE: usize = 20_000;

impl Swarm {
    pub fn connect(&mut self, i: usize) {
        let nth = self.started;
        self.started += 1;
        self.pending += 1;
        unsafe {
            let fd = libc::socket(
                libc::AF_INET,
                libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                0,
            );
            if fd < 0 {
                self.pending -= 1;
                self.failed += 1;
                return;
            }
            let one: libc::c_int = 1;
            libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const one).cast(), 4);
            let source =
                if self.rotate_sources { nth % 64 } else { (self.first + nth) / PER_SOURCE };
            libc::setsockopt(
                fd,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const one).cast(),
                4,
            );
            let from = addr(0, 10 + source as u8);
            libc::bind(fd, (&raw const from).cast(), size_of_val(&from) as u32);
            let port = if i < self.elsewhere.0 { self.port } else { self.elsewhere.1 };
            let to = addr(port, 1);
            let r = libc::connect(fd, (&raw const to).cast(), size_of_val(&to) as u32);
            if r != 0 && *libc::__errno_location() != libc::EINPROGRESS {
                libc::close(fd);
                self.pending -= 1;
                self.failed += 1;
                return;
            }
            let mut ev = libc::epoll_event {
                events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32,
                u64: i as u64,
            };
            libc::epoll_ctl(self.ep, libc::EPOLL_CTL_ADD, fd, &mut ev);
            self.c[i].connecting(fd);
        }
    }

    /// Connects everything, `window` at a time. Returns false if some could not be had.
    pub fn connect_all(&mut self, app: &mut impl App) -> bool {
        let deadline = now() + 120_000_000_000;
        loop {
            while self.started < self.c.len() && self.pending < self.window {
                self.connect(self.started);
            }
            if self.ready + self.failed + self.lost >= self.c.len() {
                break;
            }
            self.turn(app, 100);
            if now() > deadline {
                break;
            }
        }
        self.ready == self.c.len()
    }

    pub fn close(&mut self, i: usize, app: &mut impl App) {
        let c = &mut self.c[i];
        if c.fd >= 0 {
            unsafe { libc::close(c.fd) };
        }
        c.fd = -1;
        match c.st {
            St::Ready => self.ready -= 1,
            St::Closed => {}
            _ => self.pending -= 1,
        }
        c.st = St::Closed;
        app.closed(self, i);
    }

    pub(super) fn fail(&mut self, i: usize, app: &mut impl App) {
        if self.c[i].st == St::Ready {
            self.lost += 1;
        } else {
            self.failed += 1;
        }
        self.close(i, app);
    }
}

fn addr(port: u16, last: u8) -> libc::sockaddr_in {
    let mut a: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    a.sin_family = libc::AF_INET as u16;
    a.sin_port = port.to_be();
    a.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, last]);
    a
}
