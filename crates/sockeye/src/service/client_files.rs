//! The official client's files, for pages that load it from the server. Does not know sessions.
//!
//! They are read once, and compressed once for each coding that a client asks for.

use std::fmt;
use std::io;
use std::path::Path;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, request};
use tokio::sync::OnceCell;

use super::compression::{Coding, encode, preferred};
use super::{Answer, plain};

/// The files of the package `socket.io`, in its directory `client-dist`.
const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// The codings that clients may ask for, the best first.
#[cfg(feature = "brotli")]
const CODINGS: [&str; 3] = ["br", "gzip", "deflate"];
#[cfg(not(feature = "brotli"))]
const CODINGS: [&str; 2] = ["gzip", "deflate"];

/// zlib's best, once.
const LEVEL: u8 = 9;

pub(crate) struct ClientFiles {
    /// The client's version, in quotes.
    etag: HeaderValue,
    files: [File; NAMES.len()],
}

pub(super) struct File {
    is_map: bool,
    content: Bytes,
    /// As they are in [`CODINGS`].
    encoded: [OnceCell<Bytes>; CODINGS.len()],
}

impl fmt::Debug for ClientFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientFiles({:?})", self.etag)
    }
}

impl ClientFiles {
    /// Reads all of them.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let mut contents = Vec::new();
        for name in NAMES {
            let path = directory.join(name);
            let content = std::fs::read(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            contents.push(Bytes::from(content));
        }
        let version = version(&contents[0]).ok_or_else(|| {
            let what = format!("{} names no version", directory.join(NAMES[0]).display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let etag = HeaderValue::from_str(&format!("\"{version}\""))
            .expect("letters, digits and a few signs");
        let mut contents = NAMES.iter().zip(contents);
        let files = std::array::from_fn(|_| {
            let (name, content) = contents.next().expect("as many as there are names");
            let encoded = std::array::from_fn(|_| OnceCell::new());
            File { is_map: name.ends_with(".map"), content, encoded }
        });
        Ok(Self { etag, files })
    }

    pub(super) fn file(&self, name: &str) -> Option<&File> {
        NAMES.iter().position(|have| *have == name).map(|at| &self.files[at])
    }

    /// The answer to a request for a file.
    ///
    /// # Cancel safety
    /// Dropped, it may have to be compressed again.
    pub(super) async fn answer(&self, file: &File, request: &request::Parts) -> Answer {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let mut answer = if self.is_known(&request.headers) {
            plain(StatusCode::NOT_MODIFIED, "")
        } else {
            file.answer(&request.headers).await
        };
        let headers = answer.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        let always_ask = HeaderValue::from_static("public, max-age=0");
        headers.insert(header::CACHE_CONTROL, always_ask);
        answer
    }

    /// Whether the client has this version already (RFC 9110 §13.1.2, compared weakly).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let lists = request.get_all(header::IF_NONE_MATCH).iter();
        let mut tags = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.etag.as_bytes()
        })
    }
}

impl File {
    async fn answer(&self, request: &HeaderMap) -> Answer {
        let coding = preferred(request, CODINGS);
        let encoded = match coding.and_then(|name| CODINGS.iter().position(|have| *have == name)) {
            Some(at) => {
                let content = self.content.clone();
                self.encoded[at].get_or_try_init(|| compress(content, CODINGS[at])).await.ok()
            }
            None => None,
        };
        let mut answer = plain(StatusCode::OK, encoded.unwrap_or(&self.content).clone());
        let content_type = if self.is_map {
            "application/json; charset=utf-8"
        } else {
            "application/javascript; charset=utf-8"
        };
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let (Some(_), Some(coding)) = (encoded, coding) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        answer
    }
}

/// It is not compressed: too much is at this moment, or the server is ending.
struct NotNow;

async fn compress(content: Bytes, coding: &'static str) -> Result<Bytes, NotNow> {
    match coding {
        #[cfg(feature = "brotli")]
        "br" => {
            let compressed = tokio::task::spawn_blocking(move || brotli(&content));
            compressed.await.map_err(|_| NotNow)?.map_err(|_| NotNow)
        }
        _ => {
            let coding = if coding == "gzip" { Coding::Gzip } else { Coding::Deflate };
            encode(coding, LEVEL, &content).await.map(Bytes::from).ok_or(NotNow)
        }
    }
}

#[cfg(feature = "brotli")]
fn brotli(content: &[u8]) -> io::Result<Bytes> {
    // Quality 9 takes a tenth of the time of 11, whose results are a few hundredths smaller.
    let params = brotli::enc::BrotliEncoderParams { quality: 9, ..Default::default() };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut &*content, &mut compressed, &params)?;
    Ok(compressed.into())
}

/// What the file says of itself: `Socket.IO v4.8.4` in its first comment.
fn version(script: &[u8]) -> Option<&str> {
    let begin = std::str::from_utf8(script.get(..script.len().min(200))?).ok()?;
    let (_, behind) = begin.split_once("Socket.IO v")?;
    let is_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let end = behind.find(|c| !is_version(c))?;
    (end > 0).then(|| &behind[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("sockeye-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    fn script(version: &str) -> String {
        format!("/*!\n * Socket.IO v{version}\n * (c)\n */\n{}", "let a;".repeat(100))
    }

    #[test]
    fn b1_all_files_must_be_there_and_say_their_version() {
        let path = directory("client-files");
        let error = |path: &Path| ClientFiles::read(path).expect_err("it is not all there");
        assert_eq!(error(&path.join("nowhere")).kind(), io::ErrorKind::NotFound);
        for name in NAMES {
            assert!(error(&path).to_string().contains("socket.io."));
            std::fs::write(path.join(name), script("4.8.4")).expect("a file");
        }
        let files = ClientFiles::read(&path).expect("all of them");
        assert_eq!(files.etag, "\"4.8.4\"");
        for beside in ["", "socket.io.js/", "../Cargo.toml", "socket.io.d.ts", "SOCKET.IO.JS"] {
            assert!(files.file(beside).is_none(), "{beside}");
        }
        std::fs::write(path.join(NAMES[0]), "no version").expect("a file");
        assert_eq!(error(&path).kind(), io::ErrorKind::InvalidData);
        std::fs::remove_dir_all(path).expect("it is there");
    }

    #[test]
    fn a_version_is_what_stands_in_the_first_comment() {
        assert_eq!(version(script("5.0.0-rc.1+x").as_bytes()), Some("5.0.0-rc.1+x"));
        for none in ["", "Socket.IO v", "Socket.IO v\n", "Socket.IO v4", "x"] {
            assert_eq!(version(none.as_bytes()), None, "{none}");
        }
    }
}
