//! One workload, so many rounds of it, for valgrind to count: `instructions WORKLOAD ROUNDS`.
//! `cargo xtask instructions` runs each with two numbers of rounds; the difference is what the
//! rounds between cost, clients included, which do the same each time.

mod client;

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use client::{Client, frame};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use sockeye::cluster::InProcessCluster;
use sockeye::{Ack, Data, RawArgs, Server, Socket};
use sockeye_ws::{Connection, Event, Limits, MessageRef, Role};
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many get each broadcast.
const MEMBERS: usize = 100;

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let (Some(workload), Some(rounds)) = (args.next(), args.next()) else {
        return Err("usage: instructions WORKLOAD ROUNDS".into());
    };
    let rounds = rounds.parse()?;
    match workload.as_str() {
        "websocket-message" => websocket_message(rounds),
        "connect" => connect(rounds).await,
        "event-with-ack" => event_with_ack(rounds).await,
        "broadcast-to-100" => broadcast(rounds).await,
        "polling-event" => {
            let io = Server::builder().build();
            polling_event(rounds, &io, &io).await
        }
        "polling-event-forwarded" => {
            let cluster = InProcessCluster::new();
            let node = || Server::builder().cluster(cluster.bus()).forward_requests(true).build();
            polling_event(rounds, &node(), &node()).await
        }
        "broadcast-to-a-node" => broadcast_to_a_node(rounds).await,
        other => Err(format!("there is no workload `{other}`").into()),
    }
}

/// The machine alone: a masked text is read, and sent back.
fn websocket_message(rounds: usize) -> Outcome {
    let mut server = Connection::new(Role::Server, Limits::default());
    let masked = frame(&"x".repeat(100))?;
    let (mut input, mut output) = (masked.clone(), Vec::new());
    for _ in 0..rounds {
        input.copy_from_slice(&masked);
        output.clear();
        let Some(Event::Text(text)) = server.handle_input(&mut input, Instant::now()).next() else {
            return Err("a text was sent".into());
        };
        server.encode(&mut output, MessageRef::Text(&text))?;
    }
    Ok(())
}

/// A WebSocket that opens, joins the default namespace, and goes.
async fn connect(rounds: usize) -> Outcome {
    let io = Server::builder().build();
    io.on_connection(async |_: Socket| {});
    for _ in 0..rounds {
        drop(Client::join(&io).await?);
        while io.session_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn event_with_ack(rounds: usize) -> Outcome {
    let io = Server::builder().build();
    io.on("echo", async |RawArgs(args): RawArgs, ack: Ack| drop(ack.send(args)));
    let mut client = Client::join(&io).await?;
    let event = frame(r#"421["echo","sixty-four bytes or so of a text, as in a chat"]"#)?;
    for _ in 0..rounds {
        client.send(&event).await?;
        client.receive("431[").await?;
    }
    Ok(())
}

async fn broadcast(rounds: usize) -> Outcome {
    let io = Server::builder().build();
    let mut clients = Vec::new();
    for _ in 0..MEMBERS {
        clients.push(Client::join(&io).await?);
    }
    for _ in 0..rounds {
        io.emit("news", "sixty-four bytes or so of a text, as in a chat")?;
        for client in &mut clients {
            client.receive("42[").await?;
        }
    }
    Ok(())
}

/// A POST with one event, and the GET that brings what it led to, for a session of `home`.
async fn polling_event(rounds: usize, home: &Server, through: &Server) -> Outcome {
    home.on("echo", async |socket: Socket, RawArgs(args): RawArgs| socket.emit("echo", args));
    let opened = request(home, Method::GET, "", "").await?;
    let sid = opened.split('"').nth(3).ok_or("no session")?.to_owned();
    request(through, Method::POST, &sid, "40").await?;
    request(through, Method::GET, &sid, "").await?;
    for _ in 0..rounds {
        let event = r#"42["echo","sixty-four bytes or so of a text, as in a chat"]"#;
        request(through, Method::POST, &sid, event).await?;
        let answer = request(through, Method::GET, &sid, "").await?;
        if !answer.starts_with("42[\"echo\"") {
            return Err(answer.into());
        }
    }
    Ok(())
}

async fn request(
    io: &Server,
    method: Method,
    sid: &str,
    body: &'static str,
) -> Result<String, Box<dyn Error>> {
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let uri = format!("/socket.io/?EIO=4&transport=polling{sid}");
    let request = Request::builder().method(method).uri(uri).body(Full::new(Bytes::from(body)))?;
    let answer = io.service().call(request).await?.into_body().collect().await;
    let answer = answer.map_err(|_| "the body broke")?.to_bytes();
    Ok(String::from_utf8(answer.to_vec())?)
}

/// An event to a room whose one member is at another node, on the bus within the process.
async fn broadcast_to_a_node(rounds: usize) -> Outcome {
    let cluster = InProcessCluster::new();
    let node = || Server::builder().cluster(cluster.bus()).build();
    let (near, far) = (node(), node());
    far.on("join", async |socket: Socket, Data(room): Data<String>, ack: Ack| {
        socket.join(room);
        drop(ack.send(()));
    });
    let mut client = Client::join(&far).await?;
    client.send(&frame(r#"421["join","garden"]"#)?).await?;
    client.receive("431[").await?;
    for _ in 0..rounds {
        near.to("garden").emit("news", "sixty-four bytes or so of a text, as in a chat")?;
        client.receive("42[").await?;
    }
    Ok(())
}
