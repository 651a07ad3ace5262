//! Messages that many connections receive, counted until each is complete; the fan-out to all
//! and to rooms. Does not know which server or node a connection is at.
use super::{SEC, join_all, run_for};
use crate::{
    args::Args,
    measure::{Hist, Line, Snap, Used, now, rss},
    raw,
    swarm::{App, Msg, Swarm, Template, frame},
};

const RING: usize = 1 << 14;

pub struct Many {
    tpl: Vec<Template>,
    /// per message in flight (by number, modulo): sent at, deliveries seen, and the number
    flight: Vec<(u64, u32, u32)>,
    /// messages so far, those of the warm-up among them
    pub next: u32,
    in_flight: usize,
    depth: usize,
    expect: u32,
    /// messages counted per connection, where they cannot be looked into
    pub counts: Option<Vec<u32>>,
    /// what raw messages say behind the number
    pub expected: Option<raw::Check>,
    hist: Hist,
    pub deliveries: u64,
    pub complete: u64,
    lost: u64,
    counting: bool,
    senders: usize,
    pub acks: usize,
}

impl Many {
    pub fn new(tpl: Vec<Template>, expect: usize, depth: usize, senders: usize) -> Many {
        Many {
            tpl,
            flight: vec![(0, 0, u32::MAX); RING],
            next: 0,
            in_flight: 0,
            depth,
            expect: expect as u32,
            counts: None,
            expected: None,
            hist: Hist::default(),
            deliveries: 0,
            complete: 0,
            lost: 0,
            counting: false,
            senders,
            acks: 0,
        }
    }
    fn send_one(&mut self, sw: &mut Swarm, t: u64) {
        let n = self.next;
        self.next += 1;
        self.in_flight += 1;
        self.flight[n as usize % RING] = (t, 0, n);
        let k = n as usize % self.tpl.len();
        self.tpl[k].set(n);
        sw.send(n as usize % self.senders, &self.tpl[k].bytes);
    }
    /// Messages that never came complete (a server may drop) must not stop the run.
    fn expire(&mut self, sw: &mut Swarm, t: u64) {
        let mut again = 0;
        for f in &mut self.flight {
            if f.2 != u32::MAX && t.saturating_sub(f.0) > 15_000_000_000 {
                f.2 = u32::MAX;
                again += 1;
            }
        }
        for _ in 0..again {
            self.in_flight -= 1;
            self.lost += 1;
            self.send_one(sw, t);
        }
        sw.flush_dirty();
    }
}

impl App for Many {
    fn ready(&mut self, _: &mut Swarm, _: usize) {}
    fn msg(&mut self, sw: &mut Swarm, i: usize, m: Msg, t: u64) {
        if let (Msg::Data(d), Some(expected)) = (&m, &mut self.expected) {
            let whole = (sw.inspect == Some(i)).then_some(&sw.content[..]);
            expected.look(d, whole);
        }
        let n = match m {
            Msg::Data(d) if self.counts.is_none() => d.number,
            Msg::Ack(_) => {
                self.acks += 1;
                return;
            }
            Msg::Event(n) if self.counts.is_none() => n,
            _ => match &mut self.counts {
                Some(c) => {
                    c[i] += 1;
                    c[i] - 1
                }
                None => return,
            },
        };
        let f = &mut self.flight[n as usize % RING];
        if f.2 != n {
            return;
        }
        f.1 += 1;
        if self.counting {
            self.deliveries += 1;
        }
        if f.1 == self.expect {
            f.2 = u32::MAX;
            self.in_flight -= 1;
            if self.counting {
                let t = now();
                self.hist.add(t - f.0);
                self.complete += 1;
            }
            while self.in_flight < self.depth {
                self.send_one(sw, t);
            }
        }
    }
}

pub fn drive(a: &Args, sw: &mut Swarm, app: &mut Many, line: &mut Line) {
    let used = drive_watching(a, sw, app, line, &[a.pid]);
    line.used(&used[0], app.deliveries as f64);
}

/// The same, with what each of several processes used.
pub fn drive_watching(
    a: &Args,
    sw: &mut Swarm,
    app: &mut Many,
    line: &mut Line,
    pids: &[u32],
) -> Vec<Used> {
    let snaps = || pids.iter().map(|&pid| Snap::take(pid)).collect::<Vec<_>>();
    while app.in_flight < app.depth {
        app.send_one(sw, now());
    }
    sw.flush_dirty();
    run_for(sw, app, a.warmup);
    app.counting = true;
    let before = snaps();
    let end = now() + (a.secs * SEC) as u64;
    let hard = end + 60_000_000_000;
    let mut checked = now();
    loop {
        sw.turn(app, 50);
        let t = now();
        if t > checked + 1_000_000_000 {
            checked = t;
            app.expire(sw, t);
        }
        if t > end && (app.complete >= 3 || t > hard) {
            break;
        }
    }
    let used: Vec<_> = before.iter().zip(snaps()).map(|(one, other)| one.until(&other)).collect();
    let u = &used[0];
    line.n("depth", a.depth as f64)
        .n("payload", a.payload as f64)
        .n("deliveries_per_s", app.deliveries as f64 / u.secs)
        .n("msgs_per_s", app.complete as f64 / u.secs)
        .n("lost", app.lost as f64 + sw.lost as f64)
        .lat(&app.hist);
    used
}

pub fn fanout(a: &Args) -> String {
    let mut sw = Swarm::new(a, a.conns, 0);
    let mut j = join_all(a, &mut sw, 1.0);
    if !j.ok {
        eprintln!("{} of {} connected", sw.ready, a.conns);
    }
    let tpl = Template::new(&format!("42{}[\"broadcast\",{}]", a.ns_prefix(), payload(a)));
    let mut app = Many::new(vec![tpl], sw.ready, a.depth, 1);
    let negotiated = sw.c.iter().filter(|c| c.deflated).count();
    if a.deflate || a.json {
        // not looked into: compressed, or a document whose keys a server may put in another order
        app.counts = Some(vec![0; a.conns]);
        sw.inflate = a.deflate.then_some(0);
    }
    drive(a, &mut sw, &mut app, &mut j.line);
    if a.deflate {
        j.line
            .n("deflate_negotiated", negotiated as f64)
            .n("inflated_ok", sw.inflated_ok as f64)
            .n("inflated_bad", sw.inflated_bad as f64);
    }
    j.line.n("rss_end_kib", rss(a.pid) as f64).n(
        "rss_end_per_conn_b",
        rss(a.pid).saturating_sub(j.rss_before) as f64 * 1024.0 / sw.ready.max(1) as f64,
    );
    j.line.done()
}

pub fn rooms(a: &Args) -> String {
    let mut sw = Swarm::new(a, a.conns, 0);
    let mut j = join_all(a, &mut sw, 0.5);
    let per = a.conns / a.rooms;
    let mut app = Many::new(to_rooms(a), per, a.depth, a.conns);
    let n = per * a.rooms;
    join_rooms(a, &mut sw, &mut app, 0, n);
    j.line.n("rooms", a.rooms as f64);
    drive(a, &mut sw, &mut app, &mut j.line);
    j.line.n("rss_end_kib", rss(a.pid) as f64);
    j.line.done()
}

/// A message to each room.
pub fn to_rooms(a: &Args) -> Vec<Template> {
    (0..a.rooms)
        .map(|r| Template::new(&format!("42{}[\"room\",\"r{r}\",{}]", a.ns_prefix(), payload(a))))
        .collect()
}

/// Lets `n` connections from `first` on join rooms, one each.
pub fn join_rooms(a: &Args, sw: &mut Swarm, app: &mut Many, first: usize, n: usize) {
    let joins: Vec<Vec<u8>> = (0..a.rooms)
        .map(|r| frame(format!("42{}1[\"join\",\"r{r}\"]", a.ns_prefix()).as_bytes()))
        .collect();
    let end = now() + 60_000_000_000;
    let mut sent = 0;
    while app.acks < n && now() < end {
        while sent < n && sent < app.acks + 256 {
            sw.send(first + sent, &joins[sent % a.rooms]);
            sent += 1;
        }
        sw.flush_dirty();
        sw.turn(app, 50);
    }
    if app.acks < n {
        eprintln!("{} of {n} joined", app.acks);
    }
}

/// A document of about `n` bytes that begins with the message number.
pub fn document(n: usize) -> String {
    let mut s = String::from("{\"seq\":\"########\",\"items\":[");
    let mut k: u32 = 1;
    while s.len() + 2 < n {
        if k > 1 {
            s.push(',');
        }
        let h = k.wrapping_mul(2654435761);
        s.push_str(&format!(
            "{{\"id\":{h},\"name\":\"user-{}\",\"x\":{}.{},\"online\":{},\
             \"tags\":[\"a{}\",\"b\"]}}",
            h % 9973,
            h % 1000,
            h % 97,
            h & 64 == 0,
            h % 31
        ));
        k += 1;
    }
    s.push_str("]}");
    s
}

pub fn payload(a: &Args) -> String {
    if a.json {
        document(a.payload)
    } else {
        format!("\"########{}\"", "x".repeat(a.payload.saturating_sub(8)))
    }
}
