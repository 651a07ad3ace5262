//! Raw WebSocket scenarios: echo and fan-out of messages that begin with an eight-digit number.
//! Every reply is held against what was sent by opcode, length and number; those of the first
//! connection, byte by byte. Does not know Socket.IO.
use crate::{
    args::Args,
    measure::{Hist, Snap, now, rss},
    scenarios::{Many, document, drive, join_all, run_for},
    swarm::{App, Msg, Swarm, Template, frame},
};
use std::rc::Rc;

pub const NUMBER_DIGITS: usize = 8;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const RSV1: u8 = 0x40;
/// From this length on a frame that the socket does not take at once is not copied.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// A message as it arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Data {
    opcode: u8,
    pub compressed: bool,
    pub number: u32,
    pub bytes: u64,
}

impl Data {
    /// `head` is the payload's beginning.
    pub fn begin(opcode: u8, compressed: bool, head: &[u8]) -> Data {
        Data { opcode, compressed, number: number(head), bytes: 0 }
    }
}

/// `u32::MAX` if there is none.
fn number(head: &[u8]) -> u32 {
    match head.get(..NUMBER_DIGITS) {
        Some(d) if d.iter().all(u8::is_ascii_digit) => {
            d.iter().fold(0, |n, &c| n * 10 + u32::from(c - b'0'))
        }
        _ => u32::MAX,
    }
}

/// What messages have to be.
pub struct Check {
    opcode: u8,
    /// behind the number
    rest: Vec<u8>,
    ok: u64,
    inflated: u64,
    bad: u64,
}

impl Check {
    fn new(opcode: u8, text: &str) -> Check {
        let rest = text.as_bytes()[NUMBER_DIGITS..].to_vec();
        Check { opcode, rest, ok: 0, inflated: 0, bad: 0 }
    }

    /// `whole`: the content, inflated, where it was kept.
    pub fn look(&mut self, d: &Data, whole: Option<&[u8]>) {
        let long = NUMBER_DIGITS + self.rest.len();
        let as_sent = d.opcode == self.opcode && (d.compressed || d.bytes == long as u64);
        let same = whole.is_none_or(|w| {
            number(w) != u32::MAX && w.get(NUMBER_DIGITS..) == Some(&self.rest[..])
        });
        if !(as_sent && same) {
            self.bad += 1;
        } else if whole.is_some() {
            self.ok += 1;
            self.inflated += u64::from(d.compressed);
        }
    }

    fn report(&self, a: &Args, sw: &Swarm, line: &mut crate::measure::Line) {
        line.n("checked_ok", self.ok as f64).n("checked_bad", self.bad as f64);
        if a.deflate {
            let negotiated = sw.c.iter().filter(|c| c.deflated).count();
            line.n("deflate_negotiated", negotiated as f64).n("inflated_ok", self.inflated as f64);
        }
    }
}

/// Empty if it is broken.
pub fn inflate(z: &mut flate2::Decompress, compressed: &[u8]) -> Vec<u8> {
    let mut input = compressed.to_vec();
    input.extend_from_slice(&[0, 0, 0xff, 0xff]);
    let mut out = Vec::with_capacity(4 * input.len() + 64);
    z.reset(false);
    loop {
        let at = z.total_in() as usize;
        let flush = flate2::FlushDecompress::Sync;
        if z.decompress_vec(&input[at..], &mut out, flush).is_err() {
            return Vec::new();
        }
        if out.len() < out.capacity() {
            return out;
        }
        out.reserve(out.len());
    }
}

/// A text of exactly `n` bytes in which the number is `########`.
fn text(n: usize) -> String {
    let mut s = "#".repeat(NUMBER_DIGITS);
    s.push_str(&document(n));
    s.truncate(n.max(NUMBER_DIGITS));
    while s.len() < n {
        s.push(' ');
    }
    s
}

fn opcode(a: &Args) -> u8 {
    if a.binary { BINARY } else { TEXT }
}

/// A masked frame. A compressed one is compressed once, here.
fn message(a: &Args, text: &str) -> Rc<[u8]> {
    let mut f = if a.deflate { frame(&deflate(text.as_bytes())) } else { frame(text.as_bytes()) };
    f[0] = 0x80 | opcode(a) | if a.deflate { RSV1 } else { 0 };
    f.into()
}

/// RFC 7692 section 7.2.1.
fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut z = flate2::Compress::new(flate2::Compression::new(6), false);
    let mut out = Vec::with_capacity(payload.len() + 1024);
    z.compress_vec(payload, &mut out, flate2::FlushCompress::Sync).expect("compresses");
    assert!(z.total_in() == payload.len() as u64 && out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

struct Echo {
    depth: usize,
    frames: Vec<Rc<[u8]>>,
    check: Check,
    /// by connection: which of its messages is answered next; when each was sent
    next: Vec<u32>,
    sent: Vec<u64>,
    hist: Hist,
    done: u64,
    counting: bool,
}

impl Echo {
    fn send(&self, sw: &mut Swarm, i: usize, slot: usize) {
        let f = &self.frames[slot];
        if f.len() < SHARED_BYTES_MIN { sw.send(i, f) } else { sw.send_shared(i, f) }
    }
}

impl App for Echo {
    fn ready(&mut self, _: &mut Swarm, _: usize) {}
    fn msg(&mut self, sw: &mut Swarm, i: usize, m: Msg, t: u64) {
        let Msg::Data(d) = m else { return };
        let slot = self.next[i] as usize;
        self.next[i] = ((slot + 1) % self.depth) as u32;
        let whole = (sw.inspect == Some(i)).then_some(&sw.content[..]);
        let n = whole.map_or(d.number, number);
        if n != slot as u32 && (whole.is_some() || !d.compressed) {
            self.check.bad += 1;
        } else {
            self.check.look(&d, whole);
        }
        let at = &mut self.sent[i * self.depth + slot];
        if self.counting {
            self.hist.add(t.saturating_sub(*at));
            self.done += 1;
        }
        *at = t;
        self.send(sw, i, slot);
    }
}

pub fn echo(a: &Args) -> String {
    let mut sw = Swarm::raw(a, a.conns, "/");
    let mut j = join_all(a, &mut sw, 0.3);
    sw.inspect = Some(0);
    let text = text(a.payload);
    let numbered = |k: usize| format!("{k:08}{}", &text[NUMBER_DIGITS..]);
    let mut app = Echo {
        depth: a.depth,
        frames: (0..a.depth).map(|k| message(a, &numbered(k))).collect(),
        check: Check::new(opcode(a), &text),
        next: vec![0; a.conns],
        sent: vec![now(); a.conns * a.depth],
        hist: Hist::default(),
        done: 0,
        counting: false,
    };
    for i in 0..a.conns {
        for k in 0..a.depth {
            app.sent[i * a.depth + k] = now();
            app.send(&mut sw, i, k);
        }
        sw.flush_dirty();
    }
    run_for(&mut sw, &mut app, a.warmup);
    app.counting = true;
    let s0 = Snap::take(a.pid);
    run_for(&mut sw, &mut app, a.secs);
    let u = s0.until(&Snap::take(a.pid));
    j.line
        .n("depth", a.depth as f64)
        .n("payload", a.payload as f64)
        .n("rt_per_s", app.done as f64 / u.secs)
        .n("lost", sw.lost as f64)
        .lat(&app.hist)
        .used(&u, app.done as f64)
        .n("rss_end_kib", rss(a.pid) as f64);
    app.check.report(a, &sw, &mut j.line);
    j.line.done()
}

pub fn fanout(a: &Args) -> String {
    let mut sw = Swarm::raw(a, a.conns, "/broadcast");
    let mut j = join_all(a, &mut sw, 1.0);
    if !j.ok {
        eprintln!("{} of {} connected", sw.ready, a.conns);
    }
    sw.inspect = Some(0);
    let text = text(a.payload);
    let mut tpl = Template::new(&text);
    tpl.bytes[0] = 0x80 | opcode(a);
    let mut app = Many::new(vec![tpl], sw.ready, a.depth, 1);
    app.expected = Some(Check::new(opcode(a), &text));
    if a.deflate {
        // compressed, the number cannot be seen
        app.counts = Some(vec![0; a.conns]);
    }
    drive(a, &mut sw, &mut app, &mut j.line);
    if let Some(check) = &app.expected {
        check.report(a, &sw, &mut j.line);
    }
    j.line.n("rss_end_kib", rss(a.pid) as f64);
    j.line.done()
}
