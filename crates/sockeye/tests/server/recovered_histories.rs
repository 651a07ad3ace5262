//! Random histories of rooms, emits of every kind, and connections that are cut and come back:
//! a client that is recovered has what it should have, each event once and in its order, and a
//! naive model says what that is.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sockeye::{Broadcast, ConnectionStateRecovery, Server, Socket, SocketId};

use crate::support::{Host, Returning, answering, until};

const CLIENTS: usize = 3;
const ROOMS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Join(usize, usize),
    Leave(usize, usize),
    /// Out of the room of its own id, or into it again.
    LeaveOwn(usize),
    JoinOwn(usize),
    Emit(Kind, Reach),
    /// To one client directly.
    Direct(Kind, usize),
    /// The client reads so many packets.
    Read(usize, u8),
    CatchUp(usize),
    /// It loses its connection, with what it has not read.
    Lose(usize),
    Connect(usize),
    Wait(u16),
}

/// Whom a broadcast reaches: rooms and clients by their numbers.
#[derive(Clone, Debug)]
struct Reach {
    rooms: Vec<usize>,
    own_rooms: Vec<usize>,
    except: Vec<usize>,
    except_own: Vec<usize>,
    sender: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What a client that is recovered gets in any case, with a number or text as last argument.
    Kept,
    KeptText,
    Volatile,
    Conflated,
    Asking,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Kept),
        3 => Just(Kind::KeptText),
        1 => Just(Kind::Volatile),
        1 => Just(Kind::Conflated),
        1 => Just(Kind::Asking),
    ]
}

fn reach() -> impl Strategy<Value = Reach> {
    let (client, room) = (0..CLIENTS, 0..ROOMS.len());
    let rooms = vec(room.clone(), 0..3);
    let own_rooms = prop_oneof![3 => Just(Vec::new()), 1 => vec(client.clone(), 0..2)];
    let except = prop_oneof![2 => Just(Vec::new()), 1 => vec(room, 0..2)];
    let except_own = prop_oneof![3 => Just(Vec::new()), 1 => vec(client.clone(), 0..2)];
    let sender = proptest::option::of(client);
    (rooms, own_rooms, except, except_own, sender).prop_map(
        |(rooms, own_rooms, except, except_own, sender)| Reach {
            rooms,
            own_rooms,
            except,
            except_own,
            sender,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (client, room) = (0..CLIENTS, 0..ROOMS.len());
    prop_oneof![
        3 => (client.clone(), room.clone()).prop_map(|(client, room)| Step::Join(client, room)),
        2 => (client.clone(), room).prop_map(|(client, room)| Step::Leave(client, room)),
        1 => client.clone().prop_map(Step::LeaveOwn),
        1 => client.clone().prop_map(Step::JoinOwn),
        8 => (kind(), reach()).prop_map(|(kind, reach)| Step::Emit(kind, reach)),
        3 => (kind(), client.clone()).prop_map(|(kind, client)| Step::Direct(kind, client)),
        3 => (client.clone(), 0..4_u8).prop_map(|(client, count)| Step::Read(client, count)),
        1 => client.clone().prop_map(Step::CatchUp),
        3 => client.clone().prop_map(Step::Lose),
        4 => client.prop_map(Step::Connect),
        1 => (0..5_000_u16).prop_map(Step::Wait),
    ]
}

/// A client, and what it should have.
struct Player {
    client: Returning,
    is_away: bool,
    rooms: BTreeSet<usize>,
    is_in_own: bool,
    /// The numbers of the events that it should have, since its socket began.
    expected: Vec<u64>,
    received: Vec<u64>,
    /// How many packets may be read without waiting for one that does not come.
    unread: usize,
}

struct World {
    host: Host,
    players: Vec<Player>,
    /// How many events have been emitted.
    count: u64,
    always_recovers: bool,
}

impl World {
    async fn new(options: ConnectionStateRecovery, always_recovers: bool) -> Self {
        let io = Server::builder()
            .ping_interval(Duration::from_secs(3600))
            .connection_state_recovery(options)
            .build();
        answering(&io);
        let host = Host::in_memory(io);
        let mut players = Vec::new();
        for _ in 0..CLIENTS {
            players.push(Player {
                client: Returning::join(&host).await,
                is_away: false,
                rooms: BTreeSet::new(),
                is_in_own: true,
                expected: Vec::new(),
                received: Vec::new(),
                unread: 0,
            });
        }
        Self { host, players, count: 0, always_recovers }
    }

    fn id(&self, player: usize) -> SocketId {
        SocketId::parse(&self.players[player].client.sid).expect("an id")
    }

    fn socket(&self, player: usize) -> Option<Socket> {
        self.host.io.of("/").socket(&self.id(player))
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Join(player, room) => self.change(*player, |player, socket| {
                player.rooms.insert(*room);
                socket.join(ROOMS[*room]);
            }),
            Step::Leave(player, room) => self.change(*player, |player, socket| {
                player.rooms.remove(room);
                socket.leave(ROOMS[*room]);
            }),
            Step::LeaveOwn(player) => self.change(*player, |player, socket| {
                player.is_in_own = false;
                socket.leave(socket.id());
            }),
            Step::JoinOwn(player) => self.change(*player, |player, socket| {
                player.is_in_own = true;
                socket.join(socket.id());
            }),
            Step::Emit(kind, reach) => self.emit(*kind, reach),
            Step::Direct(kind, player) => self.emit_to(*kind, *player),
            Step::Read(player, count) => {
                let player = &mut self.players[*player];
                for _ in 0..usize::from(*count).min(player.unread) {
                    player.client.next().await.expect("a packet that was sent");
                    player.unread -= 1;
                }
            }
            Step::CatchUp(player) if !self.players[*player].is_away => {
                self.players[*player].catch_up().await;
            }
            Step::CatchUp(_) => {}
            Step::Lose(player) => {
                let player = &mut self.players[*player];
                player.client.lose().await;
                player.is_away = true;
                player.unread = 0;
            }
            Step::Connect(player) => self.connect(*player).await,
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis((*ms).into())).await,
        }
    }

    fn change(&mut self, player: usize, change: impl FnOnce(&mut Player, &Socket)) {
        if let Some(socket) = self.socket(player) {
            change(&mut self.players[player], &socket);
        }
    }

    fn emit(&mut self, kind: Kind, reach: &Reach) {
        let number = self.next_number();
        let ids: Vec<_> = (0..CLIENTS).map(|player| self.id(player)).collect();
        let named = |rooms: &[usize], own: &[usize]| -> Vec<String> {
            let rooms = rooms.iter().map(|room| ROOMS[*room].to_owned());
            rooms.chain(own.iter().map(|player| ids[*player].to_string())).collect()
        };
        let sender = reach.sender.and_then(|player| self.socket(player).map(|s| (player, s)));
        let broadcast = match &sender {
            Some((_, socket)) => socket.broadcast(),
            None => self.host.io.broadcast(),
        };
        let broadcast = broadcast
            .to(named(&reach.rooms, &reach.own_rooms))
            .except(named(&reach.except, &reach.except_own));
        emit(&broadcast, kind, number);
        let sender = sender.map(|(player, _)| player);
        for (at, player) in self.players.iter_mut().enumerate() {
            let is_in = |rooms: &[usize], own: &[usize]| {
                rooms.iter().any(|room| player.rooms.contains(room))
                    || (player.is_in_own && own.contains(&at))
            };
            let is_all = reach.rooms.is_empty() && reach.own_rooms.is_empty();
            if (is_all || is_in(&reach.rooms, &reach.own_rooms))
                && !is_in(&reach.except, &reach.except_own)
                && sender != Some(at)
            {
                player.expect(kind, number);
            }
        }
    }

    fn emit_to(&mut self, kind: Kind, player: usize) {
        let number = self.next_number();
        let Some(socket) = self.socket(player) else { return };
        match kind {
            Kind::Kept => socket.emit("kept", number).expect("it is connected"),
            Kind::KeptText => socket.emit("kept", (number, "text")).expect("it is connected"),
            Kind::Volatile => socket.volatile().emit("lost", (number, "text")).expect("no error"),
            Kind::Conflated => {
                socket.conflate("key").emit("lost", (number, "text")).expect("no error");
            }
            Kind::Asking => return emit(&self.host.io.to(socket.id()), kind, number),
        }
        self.players[player].expect(kind, number);
    }

    fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    async fn connect(&mut self, player: usize) {
        let player = &mut self.players[player];
        if !player.is_away {
            return;
        }
        player.take();
        let is_recovered = player.client.connect().await;
        player.is_away = false;
        assert!(is_recovered || !self.always_recovers, "it is recovered");
        if is_recovered {
            player.unread = player.expected.len() - player.received.len();
        } else {
            assert!(player.expected.starts_with(&player.received), "until then it had all");
            player.expected.clear();
            player.received.clear();
            player.rooms.clear();
            player.is_in_own = true;
            player.unread = 0;
        }
    }

    async fn finish(mut self) {
        for player in 0..CLIENTS {
            self.connect(player).await;
            self.players[player].catch_up().await;
        }
    }
}

impl Player {
    fn expect(&mut self, kind: Kind, number: u64) {
        if matches!(kind, Kind::Kept | Kind::KeptText) {
            self.expected.push(number);
            self.unread += usize::from(!self.is_away);
        }
    }

    /// Moves the numbers of what it has handled.
    fn take(&mut self) {
        for event in self.client.take() {
            let event: Vec<serde_json::Value> = serde_json::from_str(&event).expect("a list");
            if event[0] == "kept" {
                self.received.push(event[1].as_u64().expect("a number"));
            }
        }
    }

    async fn catch_up(&mut self) {
        self.client.catch_up().await;
        self.take();
        self.unread = 0;
        assert_eq!(self.received, self.expected, "what it has is what it should have");
    }
}

fn emit(broadcast: &Broadcast, kind: Kind, number: u64) {
    let emitted = match kind {
        Kind::Kept => broadcast.emit("kept", number),
        Kind::KeptText => broadcast.emit("kept", (number, "text")),
        Kind::Volatile => broadcast.clone().volatile().emit("lost", (number, "text")),
        Kind::Conflated => broadcast.clone().conflate("key").emit("lost", (number, "text")),
        Kind::Asking => {
            let asked = broadcast.clone().timeout(Duration::from_secs(1));
            asked.emit_with_ack::<()>("lost", (number, "text")).map(drop)
        }
    };
    emitted.expect("JSON");
}

fn play(steps: &[Step], options: ConnectionStateRecovery, always_recovers: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(options, always_recovers).await;
        for step in steps {
            world.play(step).await;
        }
        world.finish().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_recovered_client_has_each_event_once_and_in_order(steps in vec(step(), 0..60)) {
        // Time enough for every wait.
        let duration = Duration::from_secs(3600);
        play(&steps, ConnectionStateRecovery::default().max_disconnection_duration(duration), true);
    }

    #[test]
    fn it_is_not_recovered_rather_than_with_a_gap(
        steps in vec(step(), 0..60),
        packets_max in 0..10_usize,
        seconds in 2..10,
    ) {
        let duration = Duration::from_secs(seconds as u64);
        let options = ConnectionStateRecovery::default()
            .packets_max(packets_max)
            .max_disconnection_duration(duration);
        play(&steps, options, false);
    }
}

/// Emitters on several threads, and clients that lose their connections meanwhile.
#[test]
fn nothing_is_lost_between_what_was_missed_and_what_comes() {
    const EMITTERS: usize = 3;
    const EVENTS: u64 = 2000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let io =
            Server::builder().connection_state_recovery(ConnectionStateRecovery::default()).build();
        answering(&io);
        let host = Host::in_memory(io.clone());
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Returning::join(&host).await);
        }
        let emitters: Vec<_> = (0..EMITTERS)
            .map(|emitter| {
                let io = io.clone();
                tokio::spawn(async move {
                    for number in 0..EVENTS {
                        io.emit("e", (emitter, number)).expect("JSON");
                        if number % 50 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        let visits: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(at, client)| tokio::spawn(visit(host.clone(), client, at + 2)))
            .collect();
        for emitter in emitters {
            emitter.await.expect("it emits");
        }
        for visit in visits {
            let mut client = visit.await.expect("it comes and goes");
            client.catch_up().await;
            let (mut next, mut known) = ([0; EMITTERS], 0);
            for event in client.take() {
                let event: (String, usize, u64, String) =
                    serde_json::from_str(&event).expect("an event");
                assert_eq!(event.2, next[event.1], "the events of emitter {}", event.1);
                next[event.1] += 1;
                let offset = event.3.rsplit_once('-').and_then(|(_, seq)| seq.parse().ok());
                let offset: u64 = offset.expect("an offset");
                assert!(offset > known, "{offset} behind {known}");
                known = offset;
            }
            assert_eq!(next, [EVENTS; EMITTERS]);
        }
    });
}

/// Reads some packets and loses its connection, again and again.
async fn visit(host: Host, mut client: Returning, packets: usize) -> Returning {
    for _ in 0..20 {
        for _ in 0..packets {
            // Where all has come already, the answer does.
            client.send("421000[\"answer\"]").await;
            client.next().await.expect("a packet");
        }
        let id = SocketId::parse(&client.sid).expect("an id");
        client.lose().await;
        until("its end is noticed", || host.io.of("/").socket(&id).is_none()).await;
        assert!(client.connect().await, "it is recovered");
    }
    client
}
