//! An LZ77 window between two messages: what was last inflated on a connection whose peer keeps a
//! context. Knows nothing of messages; a decompressor is borrowed for each.

use super::WindowBits;

/// The last bytes, as many as the window has. It grows with what arrives, so that a connection with
/// little traffic holds little; a decompressor of its own would hold 48 KB from the beginning.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    bits: WindowBits,
}

impl Window {
    pub(crate) fn new(bits: WindowBits) -> Self {
        Self { bytes: Vec::new(), bits }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn push(&mut self, inflated: &[u8]) {
        let size = self.bits.bytes();
        let new = &inflated[inflated.len().saturating_sub(size)..];
        let kept_len = self.bytes.len().min(size - new.len());
        self.bytes.drain(..self.bytes.len() - kept_len);
        if self.bytes.capacity() < kept_len + new.len() {
            let grown = (2 * self.bytes.capacity()).max(kept_len + new.len()).min(size);
            self.bytes.reserve_exact(grown - kept_len);
        }
        self.bytes.extend_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_bytes_and_no_more() {
        let mut window = Window::new(WindowBits::MIN);
        let mut all = Vec::new();
        for len in [0, 1, 100, 0, 156, 255, 256, 257, 1000, 3] {
            let piece: Vec<u8> = (0..len).map(|index| (index + all.len()) as u8).collect();
            window.push(&piece);
            all.extend(&piece);
            assert_eq!(window.as_bytes(), &all[all.len().saturating_sub(256)..]);
            assert!(window.bytes.capacity() <= 256);
        }
    }
}
