//! DEFLATE (RFC 1951) read bit by bit, as slowly and plainly as its text: what compressed data say,
//! and how far back they refer. Knows nothing of messages.

/// In which order the lengths of the codes for code lengths stand.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<usize> {
        let byte = self.bytes.get(self.position / 8)?;
        let bit = byte >> (self.position % 8) & 1;
        self.position += 1;
        Some(bit.into())
    }

    fn number(&mut self, bits: u32) -> Option<usize> {
        (0..bits).try_fold(0, |number, index| Some(number | self.bit()? << index))
    }

    fn align(&mut self) {
        self.position = self.position.next_multiple_of(8);
    }
}

/// A canonical code: its symbols by length, and how many there are of each.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        let used = || lengths.iter().enumerate().filter(|(_, length)| **length > 0);
        used().for_each(|(_, length)| counts[*length] += 1);
        let mut symbols: Vec<_> = used().map(|(symbol, length)| (*length, symbol)).collect();
        symbols.sort_unstable();
        Self { counts, symbols: symbols.into_iter().map(|(_, symbol)| symbol).collect() }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code = code << 1 | bits.bit()?;
            if code - first < *count {
                return self.symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
        }
        None
    }
}

/// Inflates blocks to the end of `input`. `out` holds what they may refer to, and then what they
/// are; returned is the largest distance. `None`: they are no DEFLATE data.
pub(crate) fn inflate(input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut bits = Bits { bytes: input, position: 0 };
    let mut furthest = 0;
    while bits.position < 8 * input.len() {
        let _last = bits.bit()?;
        match bits.number(2)? {
            0 => stored(&mut bits, out)?,
            1 => {
                let length = |symbol| match symbol {
                    144..256 => 9,
                    256..280 => 7,
                    _ => 8,
                };
                let literals = Code::new(&(0..288).map(length).collect::<Vec<_>>());
                let distances = Code::new(&[5; 30]);
                furthest = furthest.max(block(&mut bits, &literals, &distances, out)?);
            }
            2 => {
                let (literals, distances) = codes(&mut bits)?;
                furthest = furthest.max(block(&mut bits, &literals, &distances, out)?);
            }
            _ => return None,
        }
    }
    Some(furthest)
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) -> Option<()> {
    bits.align();
    let (length, inverted) = (bits.number(16)?, bits.number(16)?);
    let start = bits.position / 8;
    out.extend_from_slice(bits.bytes.get(start..start + length)?);
    bits.position += 8 * length;
    (length ^ inverted == 0xFFFF).then_some(())
}

/// The codes at the beginning of a block that has its own.
fn codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    let literal_count = bits.number(5)? + 257;
    let distance_count = bits.number(5)? + 1;
    let mut lengths = [0; 19];
    for index in 0..bits.number(4)? + 4 {
        lengths[ORDER[index]] = bits.number(3)?;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literal_count + distance_count {
        let (length, times) = match code.symbol(bits)? {
            16 => (*lengths.last()?, bits.number(2)? + 3),
            17 => (0, bits.number(3)? + 3),
            18 => (0, bits.number(7)? + 11),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    let (literals, distances) = lengths.split_at(literal_count);
    Some((Code::new(literals), Code::new(distances)))
}

/// The symbols of a block. Returns the largest distance.
fn block(
    bits: &mut Bits<'_>,
    literals: &Code,
    distances: &Code,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let mut furthest = 0;
    loop {
        match literals.symbol(bits)? {
            literal @ 0..256 => out.push(literal as u8),
            256 => return Some(furthest),
            symbol => {
                let length = length(symbol - 257, bits)?;
                let symbol = distances.symbol(bits)?;
                let extra = (symbol as u32 / 2).saturating_sub(1);
                let base = if symbol < 4 { symbol } else { (2 + symbol % 2) << extra };
                let distance = base + bits.number(extra)? + 1;
                furthest = furthest.max(distance);
                for _ in 0..length {
                    out.push(*out.get(out.len().checked_sub(distance)?)?);
                }
            }
        }
    }
}

/// How long a match is whose symbol is the `index`th of the lengths.
fn length(index: usize, bits: &mut Bits<'_>) -> Option<usize> {
    match index {
        0..8 => Some(3 + index),
        8..28 => {
            let extra = index as u32 / 4 - 1;
            Some(3 + ((4 + index % 4) << extra) + bits.number(extra)?)
        }
        28 => Some(258),
        _ => None,
    }
}
