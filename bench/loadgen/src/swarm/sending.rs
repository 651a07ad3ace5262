//! What a swarm sends: frames that wait for the event at hand to end, or for their socket.
//! Does not know what a frame says.
use super::Swarm;
use std::rc::Rc;

impl Swarm {
    /// Queues a frame; it goes out when the event at hand is done with.
    pub fn send(&mut self, i: usize, frame: &[u8]) {
        let c = &mut self.c[i];
        if frame.len() > 4096 && c.out.is_empty() && c.large.is_empty() {
            self.write(i, frame);
            return;
        }
        c.out.extend_from_slice(frame);
        if !c.dirty {
            c.dirty = true;
            self.dirty.push(i as u32);
        }
    }

    /// The same for a long frame that many connections send: what the socket does not take yet
    /// waits without a copy.
    pub fn send_shared(&mut self, i: usize, frame: &Rc<[u8]>) {
        let c = &mut self.c[i];
        if !c.out.is_empty() {
            return self.send(i, frame);
        }
        c.large.push_back((Rc::clone(frame), 0));
        if c.large.len() == 1 {
            self.flush(i);
        }
    }

    pub fn flush_dirty(&mut self) {
        while let Some(i) = self.dirty.pop() {
            self.c[i as usize].dirty = false;
            self.flush(i as usize);
        }
    }

    pub(super) fn write(&mut self, i: usize, d: &[u8]) {
        let c = &mut self.c[i];
        let n = unsafe { libc::write(c.fd, d.as_ptr().cast(), d.len()) };
        let n = n.max(0) as usize; // an error shows again when reading
        if n < d.len() {
            c.out.extend_from_slice(&d[n..]);
            c.out_pos = 0;
        }
    }

    pub(super) fn flush(&mut self, i: usize) {
        let c = &mut self.c[i];
        if c.fd < 0 {
            c.out.clear();
            c.large.clear();
            return;
        }
        while let Some((frame, at)) = c.large.front_mut() {
            let d = &frame[*at..];
            let n = unsafe { libc::write(c.fd, d.as_ptr().cast(), d.len()) };
            if n <= 0 {
                return;
            }
            *at += n as usize;
            if *at == frame.len() {
                c.large.pop_front();
            }
        }
        while c.out_pos < c.out.len() {
            let d = &c.out[c.out_pos..];
            let n = unsafe { libc::write(c.fd, d.as_ptr().cast(), d.len()) };
            if n <= 0 {
                return;
            }
            c.out_pos += n as usize;
        }
        c.out.clear();
        c.out_pos = 0;
    }
}
