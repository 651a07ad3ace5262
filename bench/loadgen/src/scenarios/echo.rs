//! Echo: acks in a closed loop, on one thread or several.
//! Does not know how a swarm reads or writes.
use super::{join_all, run_for};
use crate::{
    args::Args,
    measure::{Hist, Line, Snap, now, rss},
    swarm::{App, Msg, Swarm, frame},
};

const BASE: u32 = 10_000_000;

struct Echo {
    depth: usize,
    frames: Vec<Vec<u8>>,
    sent: Vec<u64>,
    hist: Hist,
    done: u64,
    counting: bool,
    stop: bool,
}

impl App for Echo {
    fn ready(&mut self, _: &mut Swarm, _: usize) {}
    fn msg(&mut self, sw: &mut Swarm, i: usize, m: Msg, t: u64) {
        let Msg::Ack(id) = m else { return };
        let slot = id.wrapping_sub(BASE) as usize;
        if slot >= self.depth {
            return;
        }
        let at = &mut self.sent[i * self.depth + slot];
        if self.counting {
            self.hist.add(t.saturating_sub(*at));
            self.done += 1;
        }
        *at = t;
        if !self.stop {
            sw.send(i, &self.frames[slot]);
        }
    }
}

pub fn echo_threads(a: &Args) -> String {
    if a.threads <= 1 {
        let (mut line, ..) = echo(a, a.conns, 0);
        return std::mem::take(&mut line).done();
    }
    let per = a.conns / a.threads;
    let parts: Vec<_> = std::thread::scope(|s| {
        let h: Vec<_> = (0..a.threads).map(|k| s.spawn(move || echo(a, per, k * per))).collect();
        h.into_iter().map(|h| h.join().unwrap()).collect()
    });
    let mut hist = Hist::default();
    let mut rate = 0.0;
    for (_, h, r) in &parts {
        hist.merge(h);
        rate += r;
    }
    let mut line = Line::new(a);
    line.n("depth", a.depth as f64)
        .n("payload", a.payload as f64)
        .n("threads", a.threads as f64)
        .n("rt_per_s", rate)
        .lat(&hist);
    line.done()
}

fn echo(a: &Args, conns: usize, first: usize) -> (Line, Hist, f64) {
    let mut sw = Swarm::new(a, conns, first);
    let mut j = join_all(a, &mut sw, 0.3);
    let fill = "x".repeat(a.payload);
    let mut app = Echo {
        depth: a.depth,
        frames: (0..a.depth)
            .map(|k| {
                frame(
                    format!("42{}{}[\"echo\",\"{fill}\"]", a.ns_prefix(), BASE + k as u32)
                        .as_bytes(),
                )
            })
            .collect(),
        sent: vec![0; conns * a.depth],
        hist: Hist::default(),
        done: 0,
        counting: false,
        stop: false,
    };
    for i in 0..conns {
        for k in 0..a.depth {
            app.sent[i * a.depth + k] = now();
            let f = std::mem::take(&mut app.frames[k]);
            sw.send(i, &f);
            app.frames[k] = f;
        }
        sw.flush_dirty();
    }
    run_for(&mut sw, &mut app, a.warmup);
    app.counting = true;
    let s0 = Snap::take(a.pid);
    run_for(&mut sw, &mut app, a.secs);
    let s1 = Snap::take(a.pid);
    app.stop = true;
    let u = s0.until(&s1);
    let rate = app.done as f64 / u.secs;
    j.line
        .n("depth", a.depth as f64)
        .n("payload", a.payload as f64)
        .n("rt_per_s", rate)
        .lat(&app.hist)
        .used(&u, app.done as f64)
        .n("rss_end_kib", rss(a.pid) as f64)
        .n(
            "rss_end_per_conn_b",
            rss(a.pid).saturating_sub(j.rss_before) as f64 * 1024.0 / conns as f64,
        );
    (j.line, app.hist, rate)
}
