//! HTTP long-polling: its sessions, the packets that POSTs bring, the GETs that wait for answers.
//! Does not know WebSocket; of events it knows `echo` alone, the only one measured here.
use super::{NONE, Server, handshake::open_packet};
use crate::http;
use std::os::fd::RawFd;

/// A long-polling session.
pub(super) struct Sess {
    pending: Vec<u8>,
    pub(super) get_fd: RawFd, // -1: no GET waiting
    ready: bool,              // in `ready` list
}

impl Server {
    pub(super) fn poll_request(&mut self, fd: RawFd, r: &http::Req<'_>, out: &mut Vec<u8>) {
        match (r.post, r.sid) {
            (false, None) => {
                let m = open_packet(self.sessions.len() as u64);
                self.sessions.push(Sess { pending: Vec::new(), get_fd: -1, ready: false });
                http::response(out, m.as_bytes());
            }
            (false, Some(sid)) => {
                let Some(s) = self.sessions.get_mut(sid) else {
                    out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                    return;
                };
                if s.pending.is_empty() {
                    s.get_fd = fd;
                    self.conns[fd as usize].poll_sess = sid as u32;
                } else {
                    http::response(out, &s.pending);
                    s.pending.clear();
                }
            }
            (true, Some(sid)) => {
                http::response(out, b"ok");
                for p in r.body.split(|&c| c == 0x1e) {
                    self.poll_packet(sid, p);
                }
            }
            (true, None) => {}
        }
    }

    fn poll_packet(&mut self, sid: usize, p: &[u8]) {
        let next = self.next_sid;
        let Some(s) = self.sessions.get_mut(sid) else { return };
        let mut reply = |parts: &[&[u8]]| {
            if !s.pending.is_empty() {
                s.pending.push(0x1e);
            }
            for x in parts {
                s.pending.extend_from_slice(x);
            }
        };
        if p.starts_with(b"42") {
            let mut i = 2;
            while i < p.len() && p[i].is_ascii_digit() {
                i += 1;
            }
            if p[i..].starts_with(b"[\"echo\",") {
                reply(&[b"43", &p[2..i], b"[", &p[i + 8..]]);
            }
        } else if p.starts_with(b"40") {
            self.next_sid = next + 1;
            let m = format!("40{{\"sid\":\"{:020}\"}}", next + 1);
            reply(&[m.as_bytes()]);
        }
        if !s.pending.is_empty() && !s.ready {
            s.ready = true;
            self.ready_sess.push(sid as u32);
        }
    }

    pub(super) fn flush_polls(&mut self) {
        while let Some(sid) = self.ready_sess.pop() {
            let s = &mut self.sessions[sid as usize];
            s.ready = false;
            if s.get_fd < 0 || s.pending.is_empty() {
                continue;
            }
            let fd = std::mem::replace(&mut s.get_fd, -1);
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            http::response(&mut out, &s.pending);
            s.pending.clear();
            self.conns[fd as usize].poll_sess = NONE;
            self.write(fd, &out);
            self.out = out;
        }
    }
}
