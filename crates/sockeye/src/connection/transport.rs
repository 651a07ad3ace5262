//! A WebSocket as the connection's task drives it: a stream, and the RFC 6455 machine over it.
//! Knows neither Engine.IO packets nor the outbox that writes to it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sockeye_ws::{CloseCode, Limits, Role};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::outbox::{Encoding, Exit, Link};

/// A stream that is not a plain TCP socket.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Io {
    /// The writing half moves to the outbox when the transport is the session's.
    Tcp {
        read: OwnedReadHalf,
        write: Option<OwnedWriteHalf>,
    },
    Boxed(Box<dyn Stream>),
}

/// A WebSocket of a session, or one that probes to become it.
pub(crate) struct Transport {
    io: Io,
    /// Came with the handshake, or was put back: read before anything from the stream. Rare.
    early: Option<Box<Bytes>>,
    pub(crate) machine: sockeye_ws::Connection,
    /// What the task itself has to write: all of a boxed stream's bytes, or a probe's answers.
    unsent: Vec<u8>,
    /// What the peer takes.
    encoding: Encoding,
}

impl Transport {
    /// Takes the connection back from hyper: the bare TCP socket where it is one, so that neither
    /// hyper's buffers nor a virtual call stay in the way.
    pub(crate) fn new(upgraded: Upgraded, limits: Limits, encoding: Encoding) -> Self {
        type Tcp = TokioIo<TcpStream>;
        use hyper_util::server::conn::auto::upgrade::downcast;
        let (io, early) = match downcast::<Tcp>(upgraded) {
            Ok(parts) => (tcp(parts.io), parts.read_buf),
            // Served by hyper's http1 connection itself, without hyper-util's.
            Err(upgraded) => match upgraded.downcast::<Tcp>() {
                Ok(parts) => (tcp(parts.io), parts.read_buf),
                Err(upgraded) => (Io::Boxed(Box::new(TokioIo::new(upgraded))), Bytes::new()),
            },
        };
        // An empty buffer may still own 8 KiB.
        let early = (!early.is_empty()).then(|| Box::new(early));
        let machine =
            sockeye_ws::Connection::new(Role::Server, limits).with_deflate(encoding.agreed());
        Self { io, early, machine, unsent: Vec::new(), encoding }
    }

    /// Where packets leave, once the transport is the session's.
    pub(crate) fn exit(&mut self) -> Exit {
        self.unsent.extend(self.machine.poll_transmit().unwrap_or_default());
        let link = match &mut self.io {
            Io::Tcp { write, .. } => write.take().map_or(Link::Closed, Link::Direct),
            Io::Boxed(_) => Link::Task,
        };
        Exit { link, encoding: self.encoding, owed: std::mem::take(&mut self.unsent) }
    }

    /// Whether what comes may be much more than its bytes.
    pub(crate) fn inflates(&self) -> bool {
        self.encoding.agreed().is_some()
    }

    /// Puts what was read and not handled back, to be read again before anything else.
    pub(crate) fn put_back(&mut self, rest: &[u8]) {
        let behind = self.early.as_ref().map_or(&[][..], |early| early);
        self.early = Some(Box::new([rest, behind].concat().into()));
    }

    /// The peer's address, where the stream has one.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        match &self.io {
            Io::Tcp { read, .. } => read.peer_addr().ok(),
            Io::Boxed(_) => None,
        }
    }

    /// Reads into the message under way, if a large part of one comes next: the machine is told by
    /// `handle_filled`. `None` where [`poll_read`](Self::poll_read) is to be called.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        if self.early.is_some() {
            return None;
        }
        let mut room = self.machine.payload_room()?;
        // Nothing is lost with these futures: they have read, or they have not.
        Some(match &mut self.io {
            Io::Tcp { read, .. } => pin!(read.read_buf(&mut room)).poll(cx),
            Io::Boxed(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
        })
    }

    /// Reads into `buffer`; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(early) = &mut self.early {
            let count = early.len().min(buffer.len());
            early.copy_to_slice(&mut buffer[..count]);
            self.early.take_if(|early| early.is_empty());
            return Poll::Ready(Ok(count));
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(match &mut self.io {
            Io::Tcp { read, .. } => Pin::new(read).poll_read(cx, &mut buffer),
            Io::Boxed(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// The buffer of [`poll_write`](Self::poll_write).
    pub(crate) fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// A probe's writing: `unsent`, then the pongs that the machine owes. While the peer takes
    /// nothing they stay in the machine, which bounds them.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(cx))?;
            match self.machine.poll_transmit() {
                Some(frames) => self.unsent = frames,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes `unsent`; ready when nothing is left.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut done = 0;
        let result = loop {
            if done == self.unsent.len() {
                break Poll::Ready(Ok(()));
            }
            let rest = &self.unsent[done..];
            let wrote = match &mut self.io {
                Io::Tcp { write: Some(write), .. } => Pin::new(write).poll_write(cx, rest),
                Io::Boxed(stream) => Pin::new(stream).poll_write(cx, rest),
                // The outbox has the writing half; nothing is written here any more.
                Io::Tcp { write: None, .. } => Poll::Ready(Ok(rest.len())),
            };
            match wrote {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => done += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if done == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..done);
        }
        match (result, &mut self.io) {
            (Poll::Ready(Ok(())), Io::Boxed(stream)) => Pin::new(stream).poll_flush(cx),
            (result, _) => result,
        }
    }

    /// Queues a close frame without a code, and the answers the machine owes.
    pub(crate) fn start_close(&mut self, now: std::time::Instant) -> Option<Vec<u8>> {
        self.machine.close(None::<CloseCode>, "", now).expect("no code and no reason are valid");
        self.machine.poll_transmit()
    }
}

fn tcp(io: TokioIo<TcpStream>) -> Io {
    let (read, write) = io.into_inner().into_split();
    Io::Tcp { read, write: Some(write) }
}
