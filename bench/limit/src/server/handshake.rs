//! Engine.IO's handshakes: a request becomes a WebSocket, or goes to a long-polling session.
//! Does not know Socket.IO, nor what happens on the connection afterwards.
use super::{PING_MS, Server, connection::Kind};
use crate::{http, ws};
use std::os::fd::RawFd;

impl Server {
    pub(super) fn request(&mut self, fd: RawFd, r: &http::Req<'_>, out: &mut Vec<u8>) {
        match r.ws_key {
            Some(key) => self.upgrade(fd, key, self.deflate && r.deflate, out),
            None => self.poll_request(fd, r, out),
        }
    }

    fn upgrade(&mut self, fd: RawFd, key: &[u8], deflate: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
              Connection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        ws::accept_key(key, out);
        if deflate {
            out.extend_from_slice(
                b"\r\nSec-WebSocket-Extensions: permessage-deflate; \
                  client_no_context_takeover; server_no_context_takeover",
            );
        }
        out.extend_from_slice(b"\r\n\r\n");
        self.next_sid += 1;
        let m = open_packet(self.next_sid);
        ws::header(out, m.len());
        out.extend_from_slice(m.as_bytes());
        let at = self.now() + PING_MS;
        let c = &mut self.conns[fd as usize];
        c.kind = Kind::Ws;
        c.deflate = deflate;
        self.pings.push_back((at, fd, c.generation));
    }
}

pub(super) fn open_packet(sid: u64) -> String {
    format!(
        "0{{\"sid\":\"{sid:020}\",\"upgrades\":[\"websocket\"],\"pingInterval\":25000,\
         \"pingTimeout\":20000,\"maxPayload\":100000000}}"
    )
}
