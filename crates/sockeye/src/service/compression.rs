//! Compression of what a long-polling GET is answered with: whether the client takes it, in which
//! coding, and the doing. Does not know payloads or sessions; it runs in the request's own task.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{self, HeaderMap, HeaderValue};
use zlib_rs::{Deflate, DeflateFlush, Status};

/// How much is compressed before other tasks have their turn.
const PIECE_BYTES: usize = 32 * 1024;
/// How many compressions may be under way in the process; a compressor holds about 300 KB.
const UNDER_WAY_MAX: usize = 64;
/// How much room the compressor has for its results at the least.
const OUT_BYTES_MIN: usize = 1024;
/// Of each coding, a thread keeps one compressor for the next response.
const IDLE_MAX: usize = 2;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IDLE: RefCell<Vec<Idle>> = const { RefCell::new(Vec::new()) };
}

struct Idle {
    coding: Coding,
    level: u8,
    deflate: Deflate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// What a client takes; `None` if it takes none of them.
    pub(super) fn accepted(request: &HeaderMap) -> Option<Self> {
        match preferred(request, ["gzip", "deflate"])? {
            "gzip" => Some(Self::Gzip),
            _ => Some(Self::Deflate),
        }
    }
}

/// Which of the codings the client likes best (RFC 9110 §12.5.3), of those that it likes equally
/// the first; `None` if it likes no coding better.
pub(super) fn preferred<const N: usize>(
    request: &HeaderMap,
    codings: [&'static str; N],
) -> Option<&'static str> {
    let (mut any, mut identity, mut named) = (None, None, [None; N]);
    let lists = request.get_all(header::ACCEPT_ENCODING).iter();
    let lists = lists.filter_map(|list| HeaderValue::to_str(list).ok());
    for (name, quality) in lists.flat_map(entries) {
        let is = |coding: &str| name.eq_ignore_ascii_case(coding);
        if is("*") {
            any = Some(quality);
        } else if is("identity") {
            identity = Some(quality);
        } else if let Some(at) =
            codings.iter().position(|coding| is(coding) || (*coding == "gzip" && is("x-gzip")))
        {
            named[at] = Some(quality);
        }
    }
    let mut best = None;
    for (coding, quality) in codings.into_iter().zip(named) {
        let quality = quality.or(any).unwrap_or(0.0);
        if best.is_none_or(|(_, other)| quality > other) {
            best = Some((coding, quality));
        }
    }
    let (coding, quality) = best?;
    // Without a word on it, no coding is the last choice.
    (quality > 0.0 && quality >= identity.unwrap_or(0.0)).then_some(coding)
}

/// The names of a list with their qualities; what cannot be read is not accepted.
fn entries(list: &str) -> impl Iterator<Item = (&str, f32)> {
    list.split(',').map(|entry| {
        let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let is_quality = |name: &str| name.trim().eq_ignore_ascii_case("q");
        let quality = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let quality = quality.filter(|(name, _)| is_quality(name)).map(|(_, value)| value).next();
        let quality = quality.map_or(1.0, |value| value.trim().parse().unwrap_or(0.0));
        (name.trim(), if (0.0..=1.0).contains(&quality) { quality } else { 0.0 })
    })
}

/// Compresses a payload. `None`: it is to be sent as it is.
///
/// # Cancel safety
/// Dropped, nothing is left.
pub(super) async fn compress(coding: Coding, level: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let compressed = encode(coding, level, payload).await?;
    // What does not shrink is dearer to read than to send.
    (compressed.len() < payload.len()).then_some(compressed)
}

/// As [`compress`], without a question. `None`: too much is being compressed already.
pub(super) async fn encode(coding: Coding, level: u8, content: &[u8]) -> Option<Vec<u8>> {
    Compressor::take(coding, level)?.run(content).await
}

/// One of at most [`UNDER_WAY_MAX`].
struct Compressor(Option<Idle>);

impl Compressor {
    fn take(coding: Coding, level: u8) -> Option<Self> {
        let mut guard = Self(None);
        if UNDER_WAY.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY_MAX {
            return None;
        }
        let idle = IDLE.with_borrow_mut(|idle| {
            let fits = |idle: &Idle| idle.coding == coding && idle.level == level;
            idle.iter().position(fits).map(|at| idle.swap_remove(at))
        });
        guard.0 = Some(idle.unwrap_or_else(|| {
            // RFC 9110 §8.4.1.2: the coding "deflate" is the zlib format. 16 more bits than the
            // window has say gzip.
            let window_bits = if coding == Coding::Gzip { 16 + 15 } else { 15 };
            Idle { coding, level, deflate: Deflate::new(i32::from(level), true, window_bits) }
        }));
        Some(guard)
    }

    async fn run(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let deflate = &mut self.0.as_mut()?.deflate;
        let mut out = vec![0; payload.len() / 2];
        loop {
            let (at, len) = (deflate.total_in() as usize, deflate.total_out() as usize);
            let end = payload.len().min(at + PIECE_BYTES);
            let is_last = end == payload.len();
            let flush = if is_last { DeflateFlush::Finish } else { DeflateFlush::NoFlush };
            if out.len() < len + OUT_BYTES_MIN {
                out.resize(2 * len + OUT_BYTES_MIN, 0);
            }
            let status = deflate.compress(&payload[at..end], &mut out[len..], flush).ok()?;
            if status == Status::StreamEnd {
                out.truncate(deflate.total_out() as usize);
                return Some(out);
            }
            if !is_last {
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        let Some(mut used) = self.0.take() else { return };
        // The thread itself may be ending.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < IDLE_MAX {
                used.deflate.reset();
                idle.push(used);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn accepted(list: &str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, list.parse().expect("a header's value"));
        Coding::accepted(&headers)
    }

    #[test]
    fn h29_what_the_client_likes_best() {
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
        for (list, expected) in [
            ("gzip, deflate, br", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("br, zstd", None),
            ("", None),
            ("gzip;q=0", None),
            ("gzip;q=0, deflate", Some(Coding::Deflate)),
            ("gzip;q=0.5, deflate;q=0.8", Some(Coding::Deflate)),
            ("gzip ; Q=0.001", Some(Coding::Gzip)),
            ("*", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("gzip;q=0, *", Some(Coding::Deflate)),
            ("gzip;q=0.5, identity", None),
            ("gzip, identity", Some(Coding::Gzip)),
            ("gzip, identity;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
            ("gzip;a=b;q=0", None),
        ] {
            assert_eq!(accepted(list), expected, "{list}");
        }
    }

    fn inflate(coding: Coding, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out),
            Coding::Deflate => flate2::read::ZlibDecoder::new(data).read_to_end(&mut out),
        }
        .expect("what was compressed can be inflated");
        out
    }

    /// The number of compressions is the process's, and tests run beside each other.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    #[tokio::test]
    async fn one_compression_too_many_is_not_done() {
        let _alone = ALONE.lock().await;
        let take = || Compressor::take(Coding::Gzip, 1);
        let mut taken: Vec<_> = (0..UNDER_WAY_MAX).map(|_| take()).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(take().is_none());
        taken.pop();
        assert!(take().is_some());
    }

    #[tokio::test]
    async fn every_length_comes_back_whole_also_by_a_compressor_that_was_used() {
        let _alone = ALONE.lock().await;
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for level in [0, 1, 6, 9] {
            for coding in [Coding::Gzip, Coding::Deflate, Coding::Gzip] {
                for len in [0, 1, 1023, 1024, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
                    let mut compressor = Compressor::take(coding, level).expect("few are taken");
                    let compressed = compressor.run(&text[..len]).await.expect("compressed");
                    assert_eq!(inflate(coding, &compressed), &text[..len], "{coding:?} {len}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_shrink_is_left_alone() {
        let _alone = ALONE.lock().await;
        let run = async |payload: &[u8]| compress(Coding::Gzip, 6, payload).await;
        assert!(run(&[b'x'; 1024]).await.is_some());
        let mut noise = [0; 2000];
        getrandom::fill(&mut noise).expect("randomness");
        assert!(run(&noise).await.is_none());
    }
}
