//! A `redis-server` of a test's own, and what stands between it and a bus, to be cut.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisResult};
use sockeye::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A Redis that keeps nothing on disk. It ends with the value.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    /// Where it listens without TLS.
    plain_port: u16,
    password: String,
    arguments: Vec<String>,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_on(free_port()).await
    }

    /// Again on the port of one that has ended.
    pub(crate) async fn start_on(port: u16) -> Self {
        Self::start_with(port, &["--port", &port.to_string()]).await
    }

    /// With arguments that have it listen on this port.
    pub(crate) async fn start_with(port: u16, arguments: &[&str]) -> Self {
        let file = format!("{port}.rdb");
        let common = ["--bind", "127.0.0.1", "--save", "", "--dbfilename", &file];
        // A file, where there is one, comes first.
        let arguments = [arguments, &common, &["--daemonize", "no", "--loglevel", "warning"]];
        let arguments: Vec<_> = arguments.concat().into_iter().map(str::to_owned).collect();
        let (child, password) = (spawn(&arguments), String::new());
        let server = Self { child, port, plain_port: port, password, arguments };
        server.until_listening().await;
        server
    }

    /// Again, after it was killed.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.arguments);
        self.until_listening().await;
    }

    async fn until_listening(&self) {
        for _ in 0..6000 {
            if TcpStream::connect(self.address()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server does not listen");
    }

    /// It is asked with this password from now on.
    pub(crate) fn with_password(mut self, password: &str) -> Self {
        self.password = format!(":{password}@");
        self
    }

    /// It is asked on this port from now on, without TLS.
    pub(crate) fn with_plain_port(mut self, port: u16) -> Self {
        self.plain_port = port;
        self
    }

    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Stops it in its tracks, connections and all.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("there is a kill").success());
    }

    /// Asks it, as whoever may do all.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> RedisResult<T> {
        let url = format!("redis://{}127.0.0.1:{}/", self.password, self.plain_port);
        let client = redis::Client::open(url)?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(10))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        command.query(&mut connection)
    }
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    let spawned = command.args(arguments).stdout(Stdio::null()).spawn();
    spawned.expect("redis-server is installed: apt-get install redis-server")
}

/// Waits until a server counts two in the main namespace.
pub(crate) async fn until_two(io: &Server) {
    for _ in 0..6_000 {
        if io.of("/").node_count().await.is_ok_and(|count| count == 2) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("two servers are never counted");
}

/// It is the process's own until that ends, also while nobody listens there: UDP's port of the same
/// number says to tests in other processes that it is taken. It is none of those that the system
/// gives to connections.
pub(crate) fn free_port() -> u16 {
    static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    loop {
        let random = RandomState::new().build_hasher().finish();
        let port = u16::try_from(10_000 + random % 22_000).expect("it is below 32,000");
        let Ok(claim) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if StdListener::bind(("127.0.0.1", port)).is_ok() {
            CLAIMS.lock().expect("no holder panics").push(claim);
            return port;
        }
    }
}

/// A command, by its words.
pub(crate) fn words(words: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words.split_ascii_whitespace().collect::<Vec<_>>());
    command
}

/// The rule of a user `sockeye` with the password `s3cret`, as docs/scaling.md has it. A pattern
/// that is subscribed to is allowed as it is.
pub(crate) fn rule(prefix: &str) -> Cmd {
    words(&format!(
        "ACL SETUSER sockeye on >s3cret resetchannels &{prefix}* &{prefix}#/#* ~{prefix}* -@all \
         +@connection +@pubsub +cluster|slots +role +xadd +xread +xrevrange +xrange"
    ))
}

/// A directory of a test's own. It goes with the value.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let name = format!("sockeye-redis-{}-{}", std::process::id(), free_port());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("its name is text").to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("it can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left of it is temporary.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Passes bytes on until it is cut.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tasks: Vec<AbortHandle>,
    is_cut: bool,
    is_held: watch::Sender<bool>,
}

/// Passes bytes on, both ways; what the server says waits while it is held.
async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    mut is_held: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 || is_held.wait_for(|is_held| !is_held).await.is_err() {
                return Ok(());
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    tokio::select! {
        asked = tokio::io::copy(&mut from_client, &mut to_server) => asked.map(drop),
        answered = answers => answered,
    }
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let proxy = Self { address, state: Arc::default() };
        let state = proxy.state.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let mut locked = state.lock().expect("no holder panics");
                if locked.is_cut {
                    continue;
                }
                let held = locked.is_held.subscribe();
                let passing = tokio::spawn(async move {
                    if let Ok(to) = TcpStream::connect(target).await {
                        // Either side may end it as it likes.
                        let _ = pass(from, to, held).await;
                    }
                });
                locked.tasks.push(passing.abort_handle());
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Ends all connections, and lets none through.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        state.is_cut = true;
        state.tasks.drain(..).for_each(|task| task.abort());
    }

    /// Keeps what the server says, on all connections, until it is let go.
    pub(crate) fn hold(&self) {
        self.state.lock().expect("no holder panics").is_held.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.state.lock().expect("no holder panics").is_held.send_replace(false);
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.state.lock().expect("no holder panics").is_cut = false;
    }
}
