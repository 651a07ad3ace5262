//! Frames as clients send them: masked, encoded once, sent often.
//! Does not know connections, nor what a server answers.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A heartbeat's answer.
pub(super) const PONG: [u8; 7] = [0x81, 0x81, KEY[0], KEY[1], KEY[2], KEY[3], b'3' ^ KEY[0]];

/// A masked text frame.
pub fn frame(p: &[u8]) -> Vec<u8> {
    let mut f = vec![0x81];
    match p.len() {
        n @ 0..=125 => f.push(0x80 | n as u8),
        n @ 126..=65535 => {
            f.push(0x80 | 126);
            f.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            f.push(0x80 | 127);
            f.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    f.extend_from_slice(&KEY);
    f.extend(p.iter().enumerate().map(|(i, b)| b ^ KEY[i & 3]));
    f
}

/// A masked frame with an eight-digit number in it that can be changed in place.
pub struct Template {
    pub bytes: Vec<u8>,
    at: usize,
    phase: usize,
}

impl Template {
    /// `text` holds the eight characters `########`.
    pub fn new(text: &str) -> Template {
        let p = text.find("########").expect("a place for the number");
        let bytes = frame(text.as_bytes());
        let at = bytes.len() - text.len() + p;
        Template { bytes, at, phase: p }
    }
    pub fn set(&mut self, n: u32) {
        let mut v = n;
        for k in (0..8).rev() {
            self.bytes[self.at + k] = (b'0' + (v % 10) as u8) ^ KEY[(self.phase + k) & 3];
            v /= 10;
        }
    }
}
