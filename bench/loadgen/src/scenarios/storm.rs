//! Storm: connect, handshake, close, and again.
//! Does not know events; a connection is over as soon as it is ready.
use super::SEC;
use crate::{
    args::Args,
    measure::{Hist, Line, Snap, now, rss},
    swarm::{App, Msg, Swarm, frame},
};

struct Storm {
    bye: Vec<u8>,
    queue: Vec<usize>,
    done: u64,
    stop: bool,
    t0: Vec<u64>,
    hist: Hist,
    counting: bool,
}

impl App for Storm {
    fn ready(&mut self, sw: &mut Swarm, i: usize) {
        if self.counting {
            self.done += 1;
            self.hist.add(now() - self.t0[i]);
        }
        // WebSocket close frame, then the end of the connection
        sw.send(i, &self.bye);
        sw.flush_dirty();
        sw.close(i, self);
    }
    fn msg(&mut self, _: &mut Swarm, _: usize, _: Msg, _: u64) {}
    fn closed(&mut self, _: &mut Swarm, i: usize) {
        self.queue.push(i);
    }
}

pub fn storm(a: &Args) -> String {
    let mut sw = Swarm::new(a, a.conns, 0);
    sw.rotate_sources = true;
    let mut bye = frame(&[0x03, 0xe8]);
    bye[0] = 0x88;
    let mut app = Storm {
        bye,
        queue: (0..a.conns).collect(),
        done: 0,
        stop: false,
        t0: vec![0; a.conns],
        hist: Hist::default(),
        counting: false,
    };
    let mut line = Line::new(a);
    let before = rss(a.pid);
    let mut snaps = [Snap::default(); 2];
    let mut failed0 = 0;
    for (phase, secs) in [(0, a.warmup), (1, a.secs)] {
        app.counting = phase == 1;
        if phase == 1 {
            failed0 = sw.failed;
            snaps[0] = Snap::take(a.pid);
        }
        let end = now() + (secs * SEC) as u64;
        while now() < end {
            while !app.stop
                && let Some(i) = app.queue.pop()
            {
                app.t0[i] = now();
                sw.connect(i);
            }
            sw.turn(&mut app, 50);
        }
    }
    snaps[1] = Snap::take(a.pid);
    let u = snaps[0].until(&snaps[1]);
    line.n("conn_per_s", app.done as f64 / u.secs)
        .n("failed", (sw.failed - failed0) as f64)
        .lat(&app.hist)
        .used(&u, app.done as f64)
        .n("rss_before_kib", before as f64)
        .n("rss_end_kib", rss(a.pid) as f64);
    line.done()
}
