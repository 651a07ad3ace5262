//! A network that fails: TCP through this process, with delays, cuts in mid-frame, connections that
//! die silently, and slow readers. Does not know what passes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::random::Random;

const CHUNK_BYTES: usize = 4096;
const DELAY_MAX_MS: u64 = 100;
/// For how long a connection is dead before either side is told, if it has not gone by itself.
const SILENCE: Duration = Duration::from_secs(20);
/// What a slow reader takes, and for how long.
const SLOW_BYTES: usize = 50;
const SLOW_INTERVAL: Duration = Duration::from_millis(250);
const SLOW_TIME: Duration = Duration::from_secs(6);

/// How often the network has failed, and how.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) cuts: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) silences: AtomicU64,
    pub(crate) slow: AtomicU64,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Arc<Faults>,
    calm: watch::Sender<bool>,
}

/// What happens to a connection, and when.
#[derive(Clone, Copy)]
enum Fate {
    /// It ends in the middle of what passes then, with a FIN or with a reset.
    Cut { reset: bool },
    /// Nothing passes any more, and nobody is told.
    Silence,
    /// The client takes little for a while, and again.
    Slow,
}

struct Network {
    server: SocketAddr,
    faults: Arc<Faults>,
    calm: watch::Receiver<bool>,
    calm_time: Duration,
    seed: u64,
}

impl Proxy {
    /// Stands before a server. Connections do well for `calm_time` on average.
    pub(crate) async fn start(server: SocketAddr, calm_time: Duration, seed: u64) -> Result<Self> {
        let listener = sockeye::listen("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (calm, receiver) = watch::channel(false);
        let faults = Arc::new(Faults::default());
        let network = Network { server, faults: faults.clone(), calm: receiver, calm_time, seed };
        tokio::spawn(accept(listener, Arc::new(network)));
        Ok(Self { address, faults, calm })
    }

    /// From now on nothing fails; what is dead ends.
    pub(crate) fn calm_down(&self) {
        self.calm.send_replace(true);
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>) {
    for number in 0.. {
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(carry(client, network.clone(), number));
    }
}

/// One connection, from its beginning to its end.
async fn carry(client: TcpStream, network: Arc<Network>, number: u64) {
    let mut random = Random::new(network.seed, number);
    let Ok(server) = TcpStream::connect(network.server).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let fate = match random.below(10) {
        0..3 => Fate::Cut { reset: false },
        3..5 => Fate::Cut { reset: true },
        5..7 => Fate::Silence,
        _ => Fate::Slow,
    };
    let due = match random.below(20) {
        // From the beginning, for requests that are over soon.
        0 => Instant::now(),
        _ => Instant::now() + random.around(network.calm_time),
    };
    // Half of the connections are far away.
    let delay_max_ms = if random.below(2) == 0 { DELAY_MAX_MS } else { 0 };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let faults = &network.faults;
    let pipe = |to_client, random: Random| Pipe {
        fate,
        due,
        delay_max_ms,
        to_client,
        calm: network.calm.clone(),
        random,
    };
    let mut down = pipe(true, Random::new(network.seed ^ 1, number));
    let mut up = pipe(false, Random::new(network.seed ^ 2, number));
    let (mut client, mut server) = ((client_read, client_write), (server_read, server_write));
    let failed = tokio::select! {
        failed = down.pump(&mut server.0, &mut client.1) => failed,
        failed = up.pump(&mut client.0, &mut server.1) => failed,
    };
    match fate {
        Fate::Slow if Instant::now() < due => {}
        Fate::Slow => drop(faults.slow.fetch_add(1, Ordering::Relaxed)),
        _ if !failed => {}
        Fate::Cut { reset: false } => drop(faults.cuts.fetch_add(1, Ordering::Relaxed)),
        Fate::Cut { reset: true } => {
            faults.resets.fetch_add(1, Ordering::Relaxed);
            reset(&client.0);
            reset(&server.0);
        }
        Fate::Silence => {
            faults.silences.fetch_add(1, Ordering::Relaxed);
            let mut calm = network.calm.clone();
            // Nobody reads: the ends of both sides are not passed on either.
            let _ = timeout(SILENCE, calm.wait_for(|calm| *calm)).await;
        }
    }
}

fn reset(stream: &OwnedReadHalf) {
    let _ = SockRef::from(stream.as_ref()).set_linger(Some(Duration::ZERO));
}

/// One direction of a connection.
struct Pipe {
    fate: Fate,
    /// When it comes to pass.
    due: Instant,
    delay_max_ms: u64,
    to_client: bool,
    calm: watch::Receiver<bool>,
    random: Random,
}

impl Pipe {
    /// Passes on what comes; whether it ended because the network failed.
    async fn pump(&mut self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> bool {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let fails = !matches!(self.fate, Fate::Slow) && !*self.calm.borrow();
            let read = tokio::select! {
                read = from.read(&mut chunk) => read,
                // A cut waits for something to cut through, and not for ever.
                () = sleep_until(self.due + SLOW_TIME), if fails => return true,
            };
            let Ok(length @ 1..) = read else { return false };
            if self.delay_max_ms > 0 {
                sleep(Duration::from_millis(self.random.below(self.delay_max_ms))).await;
            }
            let is_due = Instant::now() >= self.due && !*self.calm.borrow();
            match self.fate {
                Fate::Cut { .. } if is_due => {
                    let part = self.random.below(length as u64) as usize;
                    let _ = to.write_all(&chunk[..part]).await;
                    return true;
                }
                Fate::Silence if is_due => return true,
                Fate::Slow if is_due && self.to_client => {
                    if self.trickle(&chunk[..length], to).await.is_err() {
                        return false;
                    }
                }
                _ => {
                    if to.write_all(&chunk[..length]).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Passes on a little at a time. After a while the reader is quick again, until the next time.
    async fn trickle(&mut self, bytes: &[u8], to: &mut OwnedWriteHalf) -> std::io::Result<()> {
        for part in bytes.chunks(SLOW_BYTES) {
            to.write_all(part).await?;
            if Instant::now() < self.due + SLOW_TIME && !*self.calm.borrow() {
                sleep(SLOW_INTERVAL).await;
            }
        }
        if Instant::now() >= self.due + SLOW_TIME {
            self.due += 2 * SLOW_TIME;
        }
        Ok(())
    }
}
