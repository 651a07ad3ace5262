//! A `redis-server` of a test's own, and what stands between it and a bus, to be cut.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A Redis that keeps nothing on disk. It ends with the value.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let port = StdListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        Self::start_on(port.expect("a free port").port()).await
    }

    /// Again on the port of one that has ended.
    pub(crate) async fn start_on(port: u16) -> Self {
        let port_text = port.to_string();
        let arguments = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--daemonize"];
        let child = Command::new("redis-server")
            .args(arguments)
            .args(["no", "--loglevel", "warning"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        let server = Self { child, port };
        for _ in 0..2000 {
            if TcpStream::connect(server.address()).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server does not listen");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let proxy = Self { address, state: Arc::default() };
        let state = proxy.state.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut locked = state.lock().expect("no holder panics");
                if locked.is_cut {
                    continue;
                }
                let passing = tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(target).await {
                        // Either side may end it as it likes.
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
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

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.state.lock().expect("no holder panics").is_cut = false;
    }
}
