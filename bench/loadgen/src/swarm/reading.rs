//! What a swarm receives: bytes are cut into messages, and the handshakes among these answered.
//! Of a long payload only the beginning is looked at; the rest is counted, not kept.
//! Does not know what a scenario makes of a message.
use super::{
    App, BUF, St, Swarm,
    frame::{PONG, frame},
    message::{Cur, Msg, classify},
};
use crate::{http::find, measure::now, raw};

/// How much of a payload is looked at.
const HEAD: usize = 64;
/// Of a raw message that is longer, the kernel drops what need not be looked at.
const RAW_READ: usize = 64 << 10;

impl Swarm {
    pub(super) fn readable(&mut self, i: usize, app: &mut impl App) {
        let mut buf = std::mem::take(&mut self.buf);
        loop {
            let c = &mut self.c[i];
            if c.fd < 0 {
                break;
            }
            let kept = c.part.len();
            // What is left of a long message that nobody looks at: the kernel drops it uncopied.
            let drops = self.raw && c.skip > RAW_READ as u64 && self.inspect != Some(i);
            let (room, flags) = match drops {
                true => (c.skip as usize, libc::MSG_TRUNC),
                false if self.raw => (RAW_READ, 0),
                false => (BUF - kept, 0),
            };
            buf[..kept].copy_from_slice(&c.part);
            let n = unsafe { libc::recv(c.fd, buf.as_mut_ptr().add(kept).cast(), room, flags) };
            if n <= 0 {
                if n == 0
                    || std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock
                {
                    self.fail(i, app);
                }
                break;
            }
            c.part.clear();
            if drops {
                c.skip -= n as u64;
                if c.skip == 0 {
                    self.finished(i, app, now());
                }
            } else {
                let end = kept + n as usize;
                let used = self.consume(i, &buf[..end], app);
                if self.c[i].fd < 0 {
                    break;
                }
                if used < end {
                    self.c[i].part.extend_from_slice(&buf[used..end]);
                }
            }
            if (n as usize) < room {
                break;
            }
        }
        self.buf = buf;
    }

    /// How much of `b` was used up.
    fn consume(&mut self, i: usize, b: &[u8], app: &mut impl App) -> usize {
        let mut pos = 0;
        if self.c[i].st == St::Upgrading {
            match self.upgraded(i, b, app) {
                Some(used) => pos = used,
                None => return 0,
            }
        }
        let t = now();
        while pos < b.len() {
            if self.c[i].skip > 0 {
                pos += self.pass(i, &b[pos..]);
            } else {
                match self.begin(i, &b[pos..]) {
                    Some(used) => pos += used,
                    None => break,
                }
            }
            if self.c[i].skip == 0 {
                self.finished(i, app, t);
                if self.c[i].fd < 0 {
                    return pos;
                }
            }
        }
        pos
    }

    /// Takes the response to the upgrade; `None` when it has to come yet, or refuses.
    fn upgraded(&mut self, i: usize, b: &[u8], app: &mut impl App) -> Option<usize> {
        let end = find(b, b"\r\n\r\n")?;
        if !b.starts_with(b"HTTP/1.1 101") {
            if self.failed == 0 {
                eprintln!("upgrade refused: {}", String::from_utf8_lossy(&b[..end]));
            }
            self.fail(i, app);
            return None;
        }
        let head = b[..end].to_ascii_lowercase();
        let c = &mut self.c[i];
        c.deflated = find(&head, b"permessage-deflate").is_some();
        c.st = St::Open;
        if self.raw {
            self.joined(i, app);
        }
        Some(end + 4)
    }

    /// Passes over what is there of the payload under way.
    fn pass(&mut self, i: usize, left: &[u8]) -> usize {
        let c = &mut self.c[i];
        let k = c.skip.min(left.len() as u64);
        if self.raw && self.inspect == Some(i) {
            self.content.extend_from_slice(&left[..k as usize]);
        }
        c.skip -= k;
        k as usize
    }

    /// Takes a frame's header, and looks at where its payload begins. How much that was; `None`
    /// when more of it has to come.
    fn begin(&mut self, i: usize, left: &[u8]) -> Option<usize> {
        let (len, hdr) = extent(left)?;
        if self.raw {
            return self.begin_raw(i, left, hdr, len);
        }
        // some servers compress everything, the handshake and the heartbeat too
        let checked = self.inflate == Some(i) && len > 64;
        let whole = left[0] & 0x40 != 0 && (self.c[i].st != St::Ready || len < 16 || checked);
        let head = if whole { len as usize } else { len.min(HEAD as u64) as usize };
        let h = left.get(hdr..hdr + head)?;
        let cur = if whole {
            let plain = self.inflate(h, checked);
            classify(left[0] & !0x40, &plain)
        } else {
            classify(left[0], h)
        };
        let c = &mut self.c[i];
        c.cur = cur;
        c.skip = len;
        Some(hdr)
    }

    /// Takes a raw frame's header, and a control frame whole. How much that was; `None` when more
    /// of it has to come.
    fn begin_raw(&mut self, i: usize, left: &[u8], hdr: usize, len: u64) -> Option<usize> {
        let (fin, opcode) = (left[0] & 0x80 != 0, left[0] & 15);
        let c = &mut self.c[i];
        if opcode >= 8 {
            let payload = left.get(hdr..hdr + len as usize)?;
            c.cur = if opcode == 8 { Cur::Close } else { Cur::Noop };
            if opcode == 9 {
                let mut pong = frame(payload);
                pong[0] = 0x8a;
                self.send(i, &pong);
            }
            return Some(hdr + payload.len());
        }
        let looked_at = len.min(raw::NUMBER_DIGITS as u64) as usize;
        let head = left.get(hdr..hdr + looked_at)?;
        if opcode != 0 {
            c.data = raw::Data::begin(opcode, left[0] & 0x40 != 0, head);
        }
        c.data.bytes += len;
        c.cur = if fin { Cur::User(Msg::Data(c.data)) } else { Cur::Noop };
        c.skip = len;
        Some(hdr)
    }

    fn inflate(&mut self, h: &[u8], checked: bool) -> Vec<u8> {
        let mut whole = h.to_vec();
        whole.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut out = Vec::with_capacity(if checked { 1 << 20 } else { 4096 });
        self.z.reset(false);
        let ok = self.z.decompress_vec(&whole, &mut out, flate2::FlushDecompress::Sync).is_ok();
        if checked {
            if ok && out.starts_with(b"42[\"broadcast\"") && out.ends_with(b"]") {
                self.inflated_ok += 1;
            } else {
                self.inflated_bad += 1;
            }
        }
        out
    }

    fn joined(&mut self, i: usize, app: &mut impl App) {
        self.c[i].st = St::Ready;
        self.pending -= 1;
        self.ready += 1;
        app.ready(self, i);
    }

    fn finished(&mut self, i: usize, app: &mut impl App, t: u64) {
        let c = &mut self.c[i];
        match std::mem::replace(&mut c.cur, Cur::None) {
            Cur::User(Msg::Data(d)) => {
                let inspected = self.inspect == Some(i);
                if inspected && d.compressed {
                    self.content = raw::inflate(&mut self.z, &self.content);
                }
                app.msg(self, i, Msg::Data(d), t);
                if inspected {
                    self.content.clear();
                }
            }
            Cur::User(m) => app.msg(self, i, m, t),
            Cur::Ping => self.send(i, &PONG),
            Cur::OpenPacket => {
                c.st = St::Joining;
                let h = std::mem::take(&mut self.hello);
                self.send(i, &h);
                self.hello = h;
            }
            Cur::Connect if c.st == St::Joining => self.joined(i, app),
            Cur::ConnectError | Cur::Close => self.fail(i, app),
            _ => {}
        }
    }
}

/// The lengths of a frame's payload and header.
fn extent(b: &[u8]) -> Option<(u64, usize)> {
    if b.len() < 2 {
        return None;
    }
    match b[1] & 127 {
        126 if b.len() >= 4 => Some((u16::from_be_bytes([b[2], b[3]]) as u64, 4)),
        127 if b.len() >= 10 => Some((u64::from_be_bytes(b[2..10].try_into().unwrap()), 10)),
        126 | 127 => None,
        n => Some((n as u64, 2)),
    }
}
