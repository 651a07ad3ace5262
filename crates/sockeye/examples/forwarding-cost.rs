//! What a forwarded request costs, in instructions: one client's POSTs and GETs, at the node of its
//! session or through another one, on the bus within a process. `docs/scaling.md` has the results.
//!
//! ```sh
//! cargo build --release --package sockeye --example forwarding-cost
//! for way in home other; do for rounds in 1000 3000; do
//!     valgrind --tool=callgrind target/release/examples/forwarding-cost $way $rounds
//! done; done
//! ```
//!
//! The difference between two numbers of rounds is what those rounds cost: a POST with one event,
//! and the GET that brings its answer.

use std::error::Error;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use sockeye::cluster::InProcessCluster;
use sockeye::{RawArgs, Server, Socket};
use tower_service::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (way, rounds) = (args.next(), args.next());
    let rounds: usize = rounds.as_deref().unwrap_or("1000").parse()?;
    let cluster = InProcessCluster::new();
    let node = || Server::builder().cluster(cluster.bus()).forward_requests(true).build();
    let (home, other) = (node(), node());
    home.on("echo", async |socket: Socket, RawArgs(args): RawArgs| socket.emit("echo", args));
    let opened = request(&home, Method::GET, "", "").await?;
    let sid = opened.split('"').nth(3).ok_or("no session")?.to_owned();
    let through = if way.as_deref() == Some("other") { &other } else { &home };
    request(through, Method::POST, &sid, "40").await?;
    request(through, Method::GET, &sid, "").await?;
    for _ in 0..rounds {
        request(through, Method::POST, &sid, r#"42["echo","sixty-four bytes or so of a text"]"#)
            .await?;
        let answer = request(through, Method::GET, &sid, "").await?;
        assert!(answer.starts_with("42[\"echo\""), "{answer}");
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
