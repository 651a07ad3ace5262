//! Where a client stands in a log, in the words that it is told and says again.
//! Does not know what stands there.

use std::fmt;

use crate::cluster::LogOffset;

const EPOCH_LEN: usize = 8;

/// Where an event stands in a log. In one of this process alone events count from `0-1`.
pub(crate) type Position = LogOffset;

/// Tells one log from every other: clients come with what an earlier server told them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch([u8; EPOCH_LEN]);

/// The position behind an event, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// Of a log of this process alone: `<epoch>-<number>`.
    Own { epoch: Epoch, seq: u64 },
    /// Of the cluster's: `<number>-<number>`.
    Cluster(Position),
}

impl Epoch {
    /// Of random characters, the first are taken.
    pub(super) fn new(random: &str) -> Self {
        let bytes = &random.as_bytes()[..EPOCH_LEN];
        Self(bytes.try_into().expect("a slice of its length"))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was made of text")
    }
}

impl Offset {
    /// Reads one of a log of a process alone.
    pub(super) fn parse(text: &str) -> Option<(Epoch, u64)> {
        let (epoch, seq) = text.rsplit_once('-')?;
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let epoch: [u8; EPOCH_LEN] = epoch.as_bytes().try_into().ok()?;
        let is_seq = seq.bytes().all(|byte| byte.is_ascii_digit());
        (is_seq && epoch.iter().all(is_letter)).then(|| Some((Epoch(epoch), seq.parse().ok()?)))?
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own { epoch, seq } => write!(f, "{}-{seq}", epoch.as_str()),
            Self::Cluster(position) => position.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_was_written() {
        for epoch in ["abcdefgh", "a-b-c-d_", "--------"] {
            let epoch = Epoch::new(epoch);
            let offset = Offset::Own { epoch, seq: 1234 };
            assert_eq!(Offset::parse(&offset.to_string()), Some((epoch, 1234)));
        }
    }

    #[test]
    fn h65_what_is_no_offset() {
        let digits = "abcdefgh-18446744073709551616";
        for text in
            ["", "-", "abcdefgh", "abcdefgh-", "abcdefgh-+1", "abc-1", "abcdefg\"-1", digits]
        {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }
}
