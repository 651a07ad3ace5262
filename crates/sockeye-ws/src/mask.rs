//! Masking of payloads (RFC 6455 §5.3).
//! Does not choose masking keys: they are random, and randomness is the caller's.

/// The four bytes a client's payload is masked with. They must be unpredictable (RFC 6455 §10.3)
/// and new for every frame.
pub type MaskingKey = [u8; 4];

/// How many bytes are combined in a turn: four registers of those that every target of today has.
const TURN: usize = 64;

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
    let word = u32::from_le_bytes(key).rotate_right(8 * (phase % 4) as u32);
    let key = word.to_le_bytes();

    let (turns, tail) = payload.as_chunks_mut::<TURN>();
    for turn in turns {
        combine(word, turn.as_chunks_mut().0);
    }
    let (words, tail) = tail.as_chunks_mut();
    combine(word, words);
    for (byte, mask) in tail.iter_mut().zip(key) {
        *byte ^= mask;
    }
}

#[inline]
fn combine(word: u32, words: &mut [[u8; 4]]) {
    for bytes in words {
        *bytes = (u32::from_le_bytes(*bytes) ^ word).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: MaskingKey = [0x37, 0xFA, 0x21, 0x3D];

    #[test]
    fn the_example_of_rfc_6455_section_5_7() {
        let mut payload = [0x7F, 0x9F, 0x4D, 0x51, 0x58];
        apply(KEY, 0, &mut payload);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn equals_the_definition_for_every_length_and_phase() {
        for len in 0..200 {
            for phase in 0..9 {
                let original: Vec<u8> = (0..len).map(|index| index as u8).collect();
                let mut masked = original.clone();
                apply(KEY, phase, &mut masked);
                for (index, byte) in masked.iter().enumerate() {
                    // RFC 6455 §5.3: transformed-octet-i = original-octet-i XOR key-octet-(i mod 4)
                    assert_eq!(*byte, original[index] ^ KEY[(phase + index) % 4]);
                }
                apply(KEY, phase, &mut masked);
                assert_eq!(masked, original);
            }
        }
    }

    #[test]
    fn a_zero_key_changes_nothing() {
        let mut payload = *b"Hello";
        apply([0; 4], 3, &mut payload);
        assert_eq!(&payload, b"Hello");
    }
}
