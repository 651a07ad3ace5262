//! One message to many: broadcasts and rooms, gathered over an event-loop turn or written at once.
//! Does not know who asks for it, nor how a connection takes its bytes.
use super::{NONE, Server, connection::Kind};
use crate::{Flush, ws};

/// One message for one member; the members' deliveries of a turn are chains in a list.
pub(super) struct Delivery {
    off: u32,
    len: u32,
    next: u32,
}

impl Server {
    pub(super) fn broadcast(&mut self, packet: &[u8]) {
        ws::header(&mut self.bcast, packet.len());
        self.bcast.extend_from_slice(packet);
        if self.deflate {
            if packet.len() >= 1024 {
                self.comp.reset();
                let mut z = Vec::with_capacity(packet.len() + 64);
                self.comp.compress_vec(packet, &mut z, flate2::FlushCompress::Sync).unwrap();
                z.truncate(z.len() - 4); // the empty block's 00 00 ff ff
                let at = self.bcast_z.len();
                ws::header(&mut self.bcast_z, z.len());
                self.bcast_z[at] |= 0x40;
                self.bcast_z.extend_from_slice(&z);
            } else {
                ws::header(&mut self.bcast_z, packet.len());
                self.bcast_z.extend_from_slice(packet);
            }
        }
        if matches!(self.flush, Flush::Each | Flush::UringEach) {
            self.flush_bcast();
        }
    }

    pub(super) fn emit_to_room(&mut self, room: &[u8], payload: &[u8]) {
        let Some(list) = self.rooms.get(room) else { return };
        let off = self.arena.len();
        ws::header(&mut self.arena, 10 + payload.len());
        self.arena.extend_from_slice(b"42[\"room\",");
        self.arena.extend_from_slice(payload);
        let len = self.arena.len() - off;
        for &fd in list {
            let c = &mut self.conns[fd as usize];
            let d = self.deliveries.len() as u32;
            self.deliveries.push(Delivery { off: off as u32, len: len as u32, next: NONE });
            if c.head == NONE {
                c.head = d;
            } else {
                self.deliveries[c.tail as usize].next = d;
            }
            c.tail = d;
            if !c.dirty {
                c.dirty = true;
                self.dirty.push(fd);
            }
        }
        if matches!(self.flush, Flush::Each | Flush::UringEach) {
            self.flush_rooms();
        }
    }

    pub(super) fn flush_bcast(&mut self) {
        if self.bcast.is_empty() {
            return;
        }
        let data = std::mem::take(&mut self.bcast);
        let zdata = std::mem::take(&mut self.bcast_z);
        if self.ring.is_some() {
            self.bcast_uring(&data, &zdata);
        } else {
            let mut i = self.members.len();
            // backwards, because a failed write removes the member by swapping in the last
            while i > 0 {
                i -= 1;
                let fd = self.members[i];
                let d = if self.conns[fd as usize].deflate { &zdata } else { &data };
                self.write(fd, d);
            }
        }
        self.bcast = data;
        self.bcast.clear();
        self.bcast_z = zdata;
        self.bcast_z.clear();
    }

    pub(super) fn flush_rooms(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let arena = std::mem::take(&mut self.arena);
        let deliveries = std::mem::take(&mut self.deliveries);
        let mut scratch = Vec::new();
        for &fd in &dirty {
            let c = &mut self.conns[fd as usize];
            if c.kind == Kind::Free {
                continue;
            }
            c.dirty = false;
            let mut d = c.head;
            c.head = NONE;
            c.tail = NONE;
            let first = &deliveries[d as usize];
            if first.next == NONE {
                self.write(fd, &arena[first.off as usize..][..first.len as usize]);
                continue;
            }
            scratch.clear();
            while d != NONE {
                let x = &deliveries[d as usize];
                scratch.extend_from_slice(&arena[x.off as usize..][..x.len as usize]);
                d = x.next;
            }
            self.write(fd, &scratch);
        }
        self.dirty = dirty;
        self.dirty.clear();
        self.arena = arena;
        self.arena.clear();
        self.deliveries = deliveries;
        self.deliveries.clear();
    }
}
