//! Socket.IO packets that come over WebSocket: joining the namespace, the events of the contract.
//! Does not know how frames were read, nor how a message reaches its receivers.
use super::{NONE, Server};
use crate::ws;
use std::os::fd::RawFd;

/// Where a frame begins in what was read, and where its payload lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub frame: usize,
    pub start: usize,
    pub end: usize,
}

impl Server {
    pub(super) fn text(&mut self, fd: RawFd, b: &mut [u8], at: Place, out: &mut Vec<u8>) {
        match &b[at.start..at.end] {
            [b'4', b'2', ..] => self.event(fd, b, at, out),
            [b'4', b'0', ..] => self.connect(fd, out),
            [b'3'] => self.conns[fd as usize].pong = true,
            _ => {}
        }
    }

    fn event(&mut self, fd: RawFd, b: &mut [u8], at: Place, out: &mut Vec<u8>) {
        let p = &b[at.start..at.end];
        let mut i = 2;
        while i < p.len() && p[i].is_ascii_digit() {
            i += 1;
        }
        let ev = &p[i..];
        if ev.starts_with(b"[\"echo\",") {
            self.echo(fd, b, at, at.start + i, out);
        } else if ev.starts_with(b"[\"broadcast\",") {
            self.broadcast(p);
        } else if ev.starts_with(b"[\"room\",\"") {
            let rest = &ev[9..];
            let Some(q) = rest.iter().position(|&c| c == b'"') else { return };
            let payload = &rest[q + 2..];
            self.emit_to_room(&rest[..q], payload);
        } else if ev.starts_with(b"[\"join\",\"") {
            let rest = &ev[9..];
            let Some(q) = rest.iter().position(|&c| c == b'"') else { return };
            self.join(fd, rest[..q].to_vec(), &p[2..i], out);
        }
    }

    /// `id_to`: where the event's ack id ends and its JSON begins.
    fn echo(&mut self, fd: RawFd, b: &mut [u8], at: Place, id_to: usize, out: &mut Vec<u8>) {
        let Place { frame, start, end } = at;
        let id_from = start + 2;
        if id_to == id_from {
            ws::header(out, end - start);
            out.extend_from_slice(&b[start..end]);
            return;
        }
        // `43<id>[` goes right before the arguments, the frame header before that:
        // the reply is made inside the request's own bytes.
        let args = id_to + 8;
        let id_len = id_to - id_from;
        let body = args - (id_len + 3);
        b.copy_within(id_from..id_to, body + 2);
        b[body] = b'4';
        b[body + 1] = b'3';
        b[args - 1] = b'[';
        let len = end - body;
        let at = body - ws::header_len(len);
        debug_assert!(at >= frame);
        ws::put_header(&mut b[at..body], len);
        if len > 4096 && out.is_empty() {
            self.write(fd, &b[at..end]);
        } else {
            out.extend_from_slice(&b[at..end]);
        }
    }

    fn join(&mut self, fd: RawFd, room: Vec<u8>, id: &[u8], out: &mut Vec<u8>) {
        ws::header(out, 4 + id.len());
        out.extend_from_slice(b"43");
        out.extend_from_slice(id);
        out.extend_from_slice(b"[]");
        self.rooms.entry(room.clone()).or_default().push(fd);
        self.conn_rooms.entry(fd).or_default().push(room);
    }

    fn connect(&mut self, fd: RawFd, out: &mut Vec<u8>) {
        let c = &mut self.conns[fd as usize];
        if c.member == NONE {
            c.member = self.members.len() as u32;
            self.members.push(fd);
            self.register(fd, fd);
        }
        self.next_sid += 1;
        let m = format!("40{{\"sid\":\"{:020}\"}}", self.next_sid);
        ws::header(out, m.len());
        out.extend_from_slice(m.as_bytes());
    }
}
