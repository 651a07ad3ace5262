//! A client that keeps the rules, with its own tasks and random pauses before all that it does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio::task::AbortHandle;

use super::{Host, Polling, WebSocket};

/// What becomes of an upgrade.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    Take,
    /// The WebSocket is dropped once it is open.
    DropAtOnce,
    /// It is dropped when the server has answered the probe.
    DropProbed,
    /// It says what no probe may say.
    SayNonsense,
}

#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    host: Host,
    polling: Polling,
    state: Mutex<State>,
    changed: Notify,
    orders: mpsc::UnboundedSender<Order>,
    /// Held while a GET is open; whoever takes it has paused the polling.
    getting: AsyncMutex<()>,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct State {
    random: u64,
    sent: u32,
    received: Vec<u32>,
    is_upgraded: bool,
    /// `41` came, or the session ended.
    has_left: bool,
    has_ended: bool,
}

enum Order {
    Send(String),
    Upgrade(Probe),
    Close,
}

impl Client {
    pub(crate) async fn join(host: &Host, seed: u64) -> Self {
        let polling = Polling::join(host).await;
        let (orders, taken) = mpsc::unbounded_channel();
        let state = State {
            random: seed,
            sent: 0,
            received: Vec::new(),
            is_upgraded: false,
            has_left: false,
            has_ended: false,
        };
        let client = Self(Arc::new(Inner {
            host: host.clone(),
            polling,
            state: Mutex::new(state),
            changed: Notify::new(),
            orders,
            getting: AsyncMutex::new(()),
            tasks: Mutex::default(),
        }));
        client.spawn(client.clone().keep_getting());
        client.spawn(client.clone().keep_sending(taken));
        client
    }

    /// Sends an event whose first argument counts them.
    pub(crate) fn send_numbered(&self, event: &str, more: &str) {
        let number = self.with(|state| {
            state.sent += 1;
            state.sent - 1
        });
        self.send(&format!("42[\"{event}\",{number}{more}]"));
    }

    pub(crate) fn send(&self, packet: &str) {
        self.order(Order::Send(packet.to_owned()));
    }

    pub(crate) fn upgrade(&self, probe: Probe) {
        self.order(Order::Upgrade(probe));
    }

    /// Ends the session as its transport has it, behind what was sent.
    pub(crate) fn close(&self) {
        self.order(Order::Close);
    }

    /// Goes without a word, in the middle of whatever it does.
    pub(crate) fn vanish(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.lock().expect("no holder panics"));
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn sent(&self) -> u32 {
        self.with(|state| state.sent)
    }

    /// The numbers that came with `down`, in their order.
    pub(crate) fn received(&self) -> Vec<u32> {
        self.with(|state| state.received.clone())
    }

    /// Waits for the server's DISCONNECT.
    pub(crate) async fn left(&self) {
        self.wait_for(|state| state.has_left).await;
    }

    /// Waits for the end of the session.
    pub(crate) async fn ended(&self) {
        self.wait_for(|state| state.has_ended).await;
    }

    async fn keep_getting(self) {
        loop {
            let _open = self.0.getting.lock().await;
            if self.with(|state| state.is_upgraded || state.has_ended) {
                return;
            }
            self.dawdle().await;
            match self.0.polling.get().await {
                Ok(packets) => packets.iter().for_each(|packet| self.handle(packet)),
                // The session ended before the GET came.
                Err(StatusCode::BAD_REQUEST) => self.end(),
                Err(status) => panic!("a GET was answered {status}"),
            }
        }
    }

    async fn keep_sending(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut packets = Vec::new();
        let mut probes: Option<tokio::task::JoinHandle<Option<WebSocket>>> = None;
        loop {
            let probing = async {
                match &mut probes {
                    Some(probe) => probe.await.expect("the probe does not panic"),
                    None => std::future::pending().await,
                }
            };
            let order = tokio::select! {
                socket = probing => {
                    probes = None;
                    match socket {
                        Some(socket) => return self.go_on_over(socket, packets, orders).await,
                        None => continue,
                    }
                }
                order = orders.recv() => order,
            };
            match order {
                None => return,
                Some(Order::Send(packet)) => packets.push(packet),
                Some(Order::Upgrade(probe)) if probes.is_none() => {
                    probes = Some(self.spawn(self.clone().probe(probe)));
                }
                Some(Order::Upgrade(_)) => {}
                Some(Order::Close) => packets.push("1".into()),
            }
            if self.pick(3) > 0 || orders.is_empty() {
                self.dawdle().await;
                self.post(&std::mem::take(&mut packets)).await;
            }
        }
    }

    async fn post(&self, packets: &[String]) {
        if packets.is_empty() {
            return;
        }
        let status = self.0.polling.post_all(packets).await;
        let has_ended = || self.with(|state| state.has_ended || state.has_left);
        if status != StatusCode::OK && !has_ended() {
            // What ends the session is on its way over the GET.
            assert_eq!(status, StatusCode::BAD_REQUEST);
            self.ended().await;
        }
    }

    /// A WebSocket that the server has answered the probe over, to be taken.
    async fn probe(self, how: Probe) -> Option<WebSocket> {
        self.dawdle().await;
        let mut socket = WebSocket::open(&self.0.host, &self.0.polling.sid).await.ok()?;
        if matches!(how, Probe::DropAtOnce) {
            return None;
        }
        self.dawdle().await;
        if matches!(how, Probe::SayNonsense) {
            socket.send("4nonsense").await;
            assert_eq!(socket.next().await, None, "the probe is closed");
            return None;
        }
        socket.send("2probe").await;
        let answer = socket.next().await?;
        assert_eq!(answer, "3probe");
        self.dawdle().await;
        matches!(how, Probe::Take).then_some(socket)
    }

    async fn go_on_over(
        self,
        mut socket: WebSocket,
        packets: Vec<String>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        {
            let _paused = self.0.getting.lock().await;
            if self.with(|state| state.has_ended) {
                return;
            }
            self.dawdle().await;
            self.with(|state| state.is_upgraded = true);
            socket.send("5").await;
        }
        for packet in packets {
            socket.send(&packet).await;
        }
        loop {
            tokio::select! {
                packet = socket.next() => match packet {
                    Some(packet) => self.handle(&packet),
                    None => return self.end(),
                },
                Some(order) = orders.recv() => match order {
                    Order::Send(packet) => socket.send(&packet).await,
                    Order::Close => socket.close().await,
                    Order::Upgrade(_) => {}
                },
            }
        }
    }

    fn handle(&self, packet: &str) {
        match packet {
            "2" => self.send("3"),
            "6" => {}
            "1" => self.end(),
            "41" => self.change(|state| state.has_left = true),
            packet => {
                let args = packet.strip_prefix("42[\"down\",");
                let number = args.and_then(|args| args.split(',').next()?.parse().ok());
                let number = number.unwrap_or_else(|| panic!("what is {packet}?"));
                self.change(|state| state.received.push(number));
            }
        }
    }

    fn end(&self) {
        self.change(|state| {
            state.has_left = true;
            state.has_ended = true;
        });
    }

    fn order(&self, order: Order) {
        // Nobody takes it after the end.
        let _ = self.0.orders.send(order);
    }

    /// Takes any time: often none, sometimes longer than the server's own periods.
    async fn dawdle(&self) {
        let ms = match self.pick(8) {
            0..4 => return,
            4 => return tokio::task::yield_now().await,
            5 => self.pick(5),
            6 => self.pick(150),
            _ => self.pick(3000),
        };
        // Where the clock is real, so that a test of many scripts has an end.
        let unit = if self.0.host.is_in_memory() { 1000 } else { 10 };
        tokio::time::sleep(Duration::from_micros(ms * unit)).await;
    }

    /// A random number below `end`.
    fn pick(&self, end: u64) -> u64 {
        self.with(|state| {
            // Marsaglia's xorshift64.
            state.random ^= state.random << 13;
            state.random ^= state.random >> 7;
            state.random ^= state.random << 17;
            state.random % end
        })
    }

    async fn wait_for(&self, mut is_so: impl FnMut(&State) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if self.with(|state| is_so(state)) {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, run: impl FnOnce(&mut State)) {
        self.with(run);
        self.0.changed.notify_waiters();
    }

    fn with<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        run(&mut self.0.state.lock().expect("no holder panics"))
    }

    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let handle = tokio::spawn(task);
        self.0.tasks.lock().expect("no holder panics").push(handle.abort_handle());
        handle
    }
}
