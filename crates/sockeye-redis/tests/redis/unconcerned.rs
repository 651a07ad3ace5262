//! What a node is spared: messages for rooms that it has no members of.

use serde_json::json;
use sockeye::Server;
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{ClassicBus, Redis, ShardedBus};

use crate::server::RedisServer;

fn received(io: &Server) -> u64 {
    io.cluster_health().expect("it is in a cluster").received
}

#[tokio::test]
async fn a_node_without_a_member_is_not_woken() {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).expect("a URL");
    let buses = [(); 3].map(|()| ShardedBus::new(redis.clone()));
    let nodes = buses.clone().map(|bus| Server::builder().cluster(bus).build());
    let mut client = Client::join(&nodes[1]).await;
    let _bystander = Client::join(&nodes[2]).await;
    assert!(nodes[1].of("/").socket(&client.id()).expect("it is connected").join("room"));
    for bus in &buses {
        bus.settled().await;
    }
    let before = [received(&nodes[1]), received(&nodes[2])];
    for number in 0..10 {
        nodes[0].to("room").emit("number", number).expect("sent");
    }
    // What is for all comes behind what was for the room.
    nodes[0].emit("end", ()).expect("sent");
    for number in 0..10 {
        client.expect(json!(["number", number])).await;
    }
    client.expect(json!(["end"])).await;
    until("the third hears the end", || received(&nodes[2]) > before[1]).await;
    assert_eq!(received(&nodes[1]) - before[0], 11);
    assert_eq!(received(&nodes[2]) - before[1], 1, "the end alone");
}

#[tokio::test]
async fn what_nobody_here_is_in_is_not_read_further() {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).expect("a URL");
    let bus = ClassicBus::new(redis);
    let io = Server::builder().cluster(bus.clone()).build();
    let mut client = Client::join(&io).await;
    assert!(io.of("/").socket(&client.id()).expect("it is connected").join("room"));
    bus.settled().await;
    let raw = redis::Client::open(server.url()).expect("a URL");
    let mut raw = raw.get_connection().expect("it is there");
    // A packet that is none, for a room.
    let broken = |room: &str| {
        let head = b"\x93\xa5other\x80\x83\xa6except\x90\xa5flags\x80\xa5rooms\x91";
        [&head[..], &[0xa0 | room.len() as u8], room.as_bytes()].concat()
    };
    for room in ["nobody", "room", "nobody"] {
        let channel = format!("socket.io#/#{room}#");
        redis::cmd("PUBLISH").arg(channel).arg(broken(room)).exec(&mut raw).expect("published");
    }
    // A number, as one of several rooms.
    let good = b"\x93\xa5other\x83\xa4type\x02\xa4data\x91\xa4good\xa3nsp\xa1/\
                 \x83\xa5rooms\x92\x07\xa4room\xa6except\x90\xa5flags\x81\xa8compress\xc2";
    redis::cmd("PUBLISH").arg("socket.io#/#").arg(good).exec(&mut raw).expect("published");
    client.expect(json!(["good"])).await;
    let health = io.cluster_health().expect("it is in a cluster");
    assert_eq!((health.received, health.rejected), (3, 1));
}
