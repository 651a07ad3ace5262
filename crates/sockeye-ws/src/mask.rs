//! Masking of payloads (RFC 6455 §5.3).
//! Does not choose masking keys: they are random, and randomness is the caller's.

/// The four bytes a client's payload is masked with. They must be unpredictable (RFC 6455 §10.3)
/// and new for every frame.
pub type MaskingKey = [u8; 4];

/// How many bytes are combined at once: two 16-byte registers, which every target of today has.
const CHUNK: usize = 32;

/// Masks or unmasks `payload` in place; both are the same operation.
///
/// `phase` is the offset of `payload` within its frame: a frame that arrives in parts is unmasked
/// part by part.
#[inline]
pub fn apply(key: MaskingKey, phase: usize, payload: &mut [u8]) {
    // A zero key changes nothing.
    if key == [0; 4] {
        return;
    }
    let mut rotated = key;
    rotated.rotate_left(phase % 4);

    let pattern: [u8; CHUNK] = std::array::from_fn(|index| rotated[index % 4]);
    let (chunks, tail) = payload.as_chunks_mut::<CHUNK>();
    for chunk in chunks {
        for (byte, mask) in chunk.iter_mut().zip(pattern) {
            *byte ^= mask;
        }
    }
    let (words, tail) = tail.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(rotated)).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(rotated) {
        *byte ^= mask;
    }
}
