//! How one gets in: TLS with an authority of one's own, users and their passwords, RESP3.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::json;
use sockeye::Server;
use sockeye::cluster::ClusterBus;
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{
    ClassicBus, ClassicOptions, Redis, RedisEmitter, ShardedBus, ShardedOptions, StreamsBus,
    StreamsOptions, Tls,
};

use crate::nodes::RedisCluster;
use crate::server::{Directory, RedisServer, free_port, rule, until_two, words};

/// An authority, and what it has signed for 127.0.0.1, as files.
struct Certificates {
    directory: Directory,
    authority: Vec<u8>,
    client: (Vec<u8>, Vec<u8>),
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let directory = Directory::new();
        let signed = |purposes: &[ExtendedKeyUsagePurpose]| {
            let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
            // A node of a cluster is the client of others.
            params.extended_key_usages = purposes.to_vec();
            params.distinguished_name.push(DnType::CommonName, "signed");
            let key = KeyPair::generate().expect("a key");
            (params.signed_by(&key, &issuer).expect("signed").pem(), key.serialize_pem())
        };
        let (certificate, key) =
            signed(&[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]);
        directory.write("server.pem", &certificate);
        directory.write("server.key", &key);
        directory.write("authority.pem", &issuer.pem());
        let (certificate, key) = signed(&[ExtendedKeyUsagePurpose::ClientAuth]);
        let client = (certificate.into_bytes(), key.into_bytes());
        Self { directory, authority: issuer.pem().into_bytes(), client }
    }

    /// The arguments of a server; whoever comes shows a certificate or not.
    fn arguments(&self, asks_clients: bool) -> Vec<String> {
        let asks = if asks_clients { "yes" } else { "no" };
        let file = |name: &str| self.directory.path(name);
        [
            ["--tls-cert-file".into(), file("server.pem")],
            ["--tls-key-file".into(), file("server.key")],
            ["--tls-ca-cert-file".into(), file("authority.pem")],
            ["--tls-auth-clients".into(), asks.into()],
        ]
        .concat()
    }

    fn tls(&self) -> Tls {
        Tls { ca_certificates: Some(self.authority.clone()), client_certificate: None }
    }
}

async fn start(certificates: &Certificates, asks_clients: bool) -> RedisServer {
    let port = free_port();
    let own = ["--port".into(), "0".into(), "--tls-port".into(), port.to_string()];
    let arguments = [own.to_vec(), certificates.arguments(asks_clients)].concat();
    RedisServer::start_with(port, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn is_deaf(io: &Server) -> bool {
    io.cluster_health().expect("it is in a cluster").is_deaf
}

/// Two servers that hear each other, by events and by questions.
async fn check<B: ClusterBus>(buses: [B; 2]) {
    let nodes = buses.map(|bus| Server::builder().cluster(bus).build());
    until("both hear", || !nodes.iter().any(is_deaf)).await;
    for io in &nodes {
        until_two(io).await;
    }
    let mut client = Client::join(&nodes[1]).await;
    nodes[0].emit("event", 1).expect("sent");
    client.expect(json!(["event", 1])).await;
    assert_eq!(nodes[0].broadcast().fetch_sockets().await.expect("all answer").len(), 1);
}

async fn check_all(redis: impl Fn() -> Redis) {
    check([(); 2].map(|()| ClassicBus::new(redis()))).await;
    check([(); 2].map(|()| ShardedBus::new(redis()))).await;
    check([(); 2].map(|()| StreamsBus::new(redis()))).await;
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let certificates = Certificates::new();
    let server = start(&certificates, false).await;
    let url = format!("rediss://{}/", server.address());
    check_all(|| Redis::open_with_tls(&url, certificates.tls()).expect("it is right")).await;
    // Who does not trust the authority does not speak with the server, nor does one without TLS.
    let others = Certificates::new();
    for redis in [
        Redis::open(&url).expect("a URL"),
        Redis::open_with_tls(&url, others.tls()).expect("it is right"),
        Redis::open(&format!("redis://{}/", server.address())).expect("a URL"),
    ] {
        let emitter = RedisEmitter::classic(redis, "socket.io");
        assert!(emitter.emit("event", ()).await.is_err());
    }
}

#[tokio::test]
async fn tls_with_a_certificate_of_the_clients() {
    let certificates = Certificates::new();
    let server = start(&certificates, true).await;
    let url = format!("rediss://{}/", server.address());
    let without = Redis::open_with_tls(&url, certificates.tls()).expect("it is right");
    assert!(RedisEmitter::classic(without, "socket.io").emit("event", ()).await.is_err());
    let client_certificate = Some(certificates.client.clone());
    let tls = Tls { client_certificate, ..certificates.tls() };
    check_all(|| Redis::open_with_tls(&url, tls.clone()).expect("it is right")).await;
    let broken = Tls { ca_certificates: Some(b"no certificate".to_vec()), ..Tls::default() };
    let redis = Redis::open_with_tls("rediss://host", broken);
    assert!(redis.is_ok_and(|redis| !format!("{redis:?}").contains("certificate")));
    let tls_for_none = Redis::open_with_tls("redis://host", certificates.tls());
    assert!(tls_for_none.is_err(), "the URL asks for no TLS");
}

#[tokio::test]
async fn tls_to_all_nodes_of_a_cluster() {
    let certificates = Certificates::new();
    let mut arguments = certificates.arguments(false);
    arguments.extend(["--tls-cluster".to_owned(), "yes".into()]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let cluster = RedisCluster::start_with_tls(&arguments).await;
    check_all(|| {
        let url = cluster.url().replace("redis-cluster", "rediss-cluster");
        Redis::open_with_tls(&url, certificates.tls()).expect("it is right")
    })
    .await;
}

/// All buses with the prefix `app`.
async fn check_app(redis: impl Fn() -> Redis) {
    let key = || "app".to_owned();
    let options = || ClassicOptions { key: key(), ..ClassicOptions::default() };
    check([(); 2].map(|()| ClassicBus::with_options(redis(), options()))).await;
    let options = || ShardedOptions { channel_prefix: key(), ..ShardedOptions::default() };
    check([(); 2].map(|()| ShardedBus::with_options(redis(), options()))).await;
    let options = || StreamsOptions {
        channel_prefix: key(),
        stream_name: key(),
        ..StreamsOptions::default()
    };
    check([(); 2].map(|()| StreamsBus::with_options(redis(), options()))).await;
}

#[tokio::test]
async fn a_user_of_a_cluster_needs_no_more() {
    let cluster = RedisCluster::start(3, false).await;
    for node in &cluster.nodes {
        node.ask::<()>(&mut rule("app")).expect("it is a rule");
    }
    let url = cluster.url_with("sockeye:s3cret@");
    check_app(|| Redis::open(&url).expect("a URL")).await;
}

#[tokio::test]
async fn a_user_may_do_what_a_bus_needs_and_nothing_else() {
    let server = RedisServer::start().await;
    server.ask::<()>(&mut rule("app")).expect("it is a rule");
    server.ask::<()>(&mut words("ACL SETUSER default off")).expect("it is a rule");
    let redis = |login: &str| {
        Redis::open(&format!("redis://{login}@{}/", server.address())).expect("a URL")
    };
    let right = || redis("sockeye:s3cret");
    check_app(right).await;

    for wrong in ["sockeye:wrong", "nobody:s3cret", ":s3cret"] {
        assert!(RedisEmitter::classic(redis(wrong), "app").emit("event", ()).await.is_err());
    }
    // Another's channels and streams are refused, and that is told.
    assert!(RedisEmitter::classic(right(), "other").emit("event", ()).await.is_err());
    let other = StreamsOptions { stream_name: "other".into(), ..StreamsOptions::default() };
    assert!(RedisEmitter::streams(right(), other).emit("event", ()).await.is_err());
    let io = Server::builder().cluster(ClassicBus::new(right())).build();
    let mut client = Client::join(&io).await;
    let before = io.cluster_health().expect("it is in a cluster").failed;
    io.emit("local", ()).expect("sent");
    client.expect(json!(["local"])).await;
    let failed = || io.cluster_health().expect("it is in a cluster").failed > before;
    until("it is counted", failed).await;
    assert!(is_deaf(&io));
}

#[tokio::test]
async fn resp3_is_spoken_whatever_the_url_says() {
    let server = RedisServer::start().await;
    for query in ["", "?protocol=resp3", "?protocol=resp2"] {
        let url = format!("redis://{}/{query}", server.address());
        check_all(|| Redis::open(&url).expect("a URL")).await;
    }
    let io = Server::builder().cluster(ClassicBus::new(Redis::open(&server.url()).expect("a URL")));
    let io = io.build();
    until("it hears", || !is_deaf(&io)).await;
    let list: String = server.ask(&mut words("CLIENT LIST")).expect("it answers");
    let hears = |line: &&str| !line.contains(" sub=0 ");
    let hearing = list.lines().find(hears).expect("it is subscribed");
    assert!(hearing.contains(" resp=3"), "{hearing}");
}
