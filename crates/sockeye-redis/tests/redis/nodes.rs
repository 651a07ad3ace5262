//! A Redis Cluster of a test's own: its nodes, who has which slots, and who fails.

use redis::Value;
use sockeye_cluster_kit::until;

use crate::server::{Directory, RedisServer, free_port, words};

pub(crate) const SLOTS: u16 = 16_384;

/// Primaries with an equal share of the slots each, and a replica for each where there are any.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
    primaries: usize,
    _directory: Directory,
}

impl RedisCluster {
    pub(crate) async fn start(primaries: usize, has_replicas: bool) -> Self {
        Self::start_with(primaries, has_replicas, &[]).await
    }

    pub(crate) async fn start_with(primaries: usize, has_replicas: bool, more: &[&str]) -> Self {
        let directory = Directory::new();
        let mut nodes = Vec::new();
        let count = if has_replicas { primaries * 2 } else { primaries };
        for _ in 0..count {
            nodes.push(start_node(&directory, false, more).await);
        }
        let cluster = Self { nodes, primaries, _directory: directory };
        cluster.join(has_replicas).await;
        cluster
    }

    /// Three primaries that are spoken to over TLS, by the test alone without.
    pub(crate) async fn start_with_tls(more: &[&str]) -> Self {
        let directory = Directory::new();
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(start_node(&directory, true, more).await);
        }
        let cluster = Self { nodes, primaries: 3, _directory: directory };
        cluster.join(false).await;
        cluster
    }

    async fn join(&self, has_replicas: bool) {
        let share = usize::from(SLOTS).div_ceil(self.primaries);
        for (index, node) in self.nodes.iter().enumerate() {
            // No two may claim the same epoch.
            node.run(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
            if index < self.primaries {
                let last = (share * (index + 1)).min(usize::from(SLOTS)) - 1;
                node.run(&format!("CLUSTER ADDSLOTSRANGE {} {last}", share * index));
            }
            let port = self.nodes[0].port;
            let bus = &self.nodes[0].ask::<Vec<String>>(&mut words("CONFIG GET cluster-port"));
            let bus = &bus.as_ref().expect("it answers")[1];
            node.run(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        }
        // By their names: those that hands are shaken with have none yet.
        let knows_all = |node: &RedisServer| {
            let nodes: String = node.ask(&mut words("CLUSTER NODES")).expect("it answers");
            nodes.lines().count() == self.nodes.len() && !nodes.contains("handshake")
        };
        until("all nodes to know all", || self.nodes.iter().all(knows_all)).await;
        if has_replicas {
            for index in 0..self.primaries {
                let primary = self.nodes[index].id();
                self.nodes[self.primaries + index].run(&format!("CLUSTER REPLICATE {primary}"));
            }
            let follows = |node: &RedisServer| {
                let info = node.replication();
                info.contains("role:slave") && info.contains("master_link_status:up")
            };
            until("all replicas to follow", || self.nodes[self.primaries..].iter().all(follows))
                .await;
            // The slots are told with the replicas by all.
            let tells = |node: &RedisServer| {
                let nodes: String = node.ask(&mut words("CLUSTER NODES")).expect("it answers");
                nodes.matches("slave").count() == self.primaries
            };
            until("all to know the replicas", || self.nodes.iter().all(tells)).await;
        }
        self.until_ok().await;
    }

    pub(crate) async fn until_ok(&self) {
        let is_ok = |node: &RedisServer| node.cluster_info().contains("cluster_state:ok");
        until("all nodes to be well", || self.nodes.iter().all(is_ok)).await;
    }

    pub(crate) fn url(&self) -> String {
        self.url_with("")
    }

    /// All nodes, for a user (`user:password@`).
    pub(crate) fn url_with(&self, login: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis-cluster://{login}{}/", hosts.join(","))
    }

    /// The node that has a slot, as all the primaries see it.
    pub(crate) fn owner(&self, slot: u16) -> usize {
        let port = self.nodes[0].owner_port(slot);
        self.nodes.iter().position(|node| node.port == port).expect("it is one of them")
    }

    /// The slot of a key or a channel, as Redis has it.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        let mut command = words("CLUSTER KEYSLOT");
        self.nodes[0].ask(command.arg(key)).expect("it answers")
    }

    /// Moves a slot with all its keys, as `redis-cli --cluster reshard` does: first what is there,
    /// then whose it is.
    pub(crate) fn begin_move(&self, slot: u16, to: usize) {
        let (from, to) = (&self.nodes[self.owner(slot)], &self.nodes[to]);
        to.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id()));
        from.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id()));
        let keys: Vec<String> =
            from.ask(&mut words(&format!("CLUSTER GETKEYSINSLOT {slot} 100"))).expect("it answers");
        for key in keys {
            let mut migrate = words(&format!("MIGRATE 127.0.0.1 {}", to.port));
            let migrate = migrate.arg(key).arg(0).arg(5000);
            from.ask::<()>(migrate).expect("it migrates");
        }
    }

    pub(crate) fn end_move(&self, slot: u16, to: usize) {
        let (from, new) = (self.owner(slot), self.nodes[to].id());
        for index in [to, from] {
            self.nodes[index].run(&format!("CLUSTER SETSLOT {slot} NODE {new}"));
        }
    }
}

async fn start_node(directory: &Directory, is_tls: bool, more: &[&str]) -> RedisServer {
    let (port, plain, bus) = (free_port(), free_port(), free_port().to_string());
    let (port_text, plain_text) = (port.to_string(), plain.to_string());
    let ports = match is_tls {
        true => vec!["--tls-port", &port_text, "--port", &plain_text],
        false => vec!["--port", &port_text],
    };
    let file = directory.path(&format!("{port}.conf"));
    let own = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let files = ["--cluster-config-file", &file, "--dir", &directory.path("")];
    // How soon the others take a node for dead; a busy machine may stand still for seconds.
    let timeout = ["--cluster-node-timeout", "5000", "--repl-diskless-sync-delay", "0"];
    let arguments = [&ports[..], &own, &files, &timeout, more].concat();
    let server = RedisServer::start_with(port, &arguments).await;
    if is_tls { server.with_plain_port(plain) } else { server }
}

impl RedisServer {
    /// Has it do something.
    pub(crate) fn run(&self, command: &str) {
        self.ask::<()>(&mut words(command)).unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    pub(crate) fn id(&self) -> String {
        self.ask(&mut words("CLUSTER MYID")).expect("it answers")
    }

    fn cluster_info(&self) -> String {
        self.ask(&mut words("CLUSTER INFO")).expect("it answers")
    }

    /// Whoever asks may be thrown out while the primary changes.
    pub(crate) fn replication(&self) -> String {
        self.ask(&mut words("INFO replication")).unwrap_or_default()
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.replication().contains("role:master")
    }

    /// The port of a slot's owner, as it knows.
    pub(crate) fn owner_port(&self, slot: u16) -> u16 {
        let ranges: Vec<Value> = self.ask(&mut words("CLUSTER SLOTS")).expect("it answers");
        let owner = ranges.iter().find_map(|range| {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..]
            else {
                return None;
            };
            let is_here = (*first..=*last).contains(&i64::from(slot));
            match primary[1] {
                Value::Int(port) if is_here => u16::try_from(port).ok(),
                _ => None,
            }
        });
        owner.expect("the slot is served")
    }
}
