//! Several servers on the buses that are tested, and what is waited for.

use std::time::Duration;

use sockeye::{ConnectionStateRecovery, Server, ServerBuilder};

use crate::{Buses, Client};

/// How often a condition is looked at, and how often in all: a bus over a network takes its time.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(5);
pub(crate) const LOOKS_MAX: usize = 6_000;

/// Servers that know of each other.
pub struct Cluster<B> {
    buses: B,
    /// The servers, in the order of their buses.
    pub nodes: Vec<Server>,
    /// The namespaces that every server has, beside `/`.
    namespaces: Vec<&'static str>,
}

impl<B: Buses> Cluster<B> {
    /// Two servers.
    pub async fn of_two(buses: B) -> Self {
        Self::of(buses, 2).await
    }

    /// So many servers.
    pub async fn of(buses: B, count: usize) -> Self {
        let mut cluster = Self { buses, nodes: Vec::new(), namespaces: Vec::new() };
        for _ in 0..count {
            cluster.add_with(Server::builder()).await;
        }
        cluster.until_complete().await;
        cluster
    }

    /// So many servers with connection state recovery, which hear each other.
    pub async fn recovering(buses: B, count: usize) -> Self {
        let mut cluster = Self { buses, nodes: Vec::new(), namespaces: Vec::new() };
        for _ in 0..count {
            cluster.add_recovering().await;
        }
        cluster.until_complete().await;
        cluster.settled().await;
        cluster
    }

    /// One more server with connection state recovery.
    pub async fn add_recovering(&mut self) -> Server {
        let recovery = ConnectionStateRecovery::default();
        self.add_with(Server::builder().connection_state_recovery(recovery)).await
    }

    /// One more server.
    pub async fn add(&mut self) -> Server {
        self.add_with(Server::builder()).await
    }

    /// One more server, with these settings.
    pub async fn add_with(&mut self, builder: ServerBuilder) -> Server {
        let io = builder.cluster(self.buses.bus().await).build();
        for namespace in &self.namespaces {
            io.of(namespace);
        }
        self.nodes.push(io.clone());
        io
    }

    /// Every server has this namespace, and knows that the others have.
    pub async fn add_namespace(&mut self, name: &'static str) {
        self.namespaces.push(name);
        self.nodes.iter().for_each(|io| drop(io.of(name)));
        self.until_complete().await;
    }

    /// Waits until each node knows of all.
    pub async fn until_complete(&self) {
        for io in &self.nodes {
            for name in ["/"].iter().chain(&self.namespaces) {
                let namespace = io.of(name);
                for _ in 0..LOOKS_MAX {
                    if namespace.node_count().await.ok() == Some(self.nodes.len()) {
                        break;
                    }
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                let count = namespace.node_count().await.expect("the bus counts");
                assert_eq!(count, self.nodes.len(), "the nodes of {name}");
            }
        }
    }

    /// A node dies.
    pub async fn kill(&mut self, index: usize) {
        self.buses.kill(index).await;
    }

    /// A client of each node.
    pub async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for io in &self.nodes {
            clients.push(Client::join(io).await);
        }
        self.settled().await;
        clients
    }

    /// Waits until the nodes hear of all rooms that there are.
    pub async fn settled(&self) {
        self.buses.settled().await;
    }

    /// Tells everyone, from each node, that all that was emitted on it before has come.
    pub async fn expect_no_more(&self, clients: &mut [Client]) {
        for (index, io) in self.nodes.iter().enumerate() {
            let mark = format!("mark {index}");
            io.emit(&mark, ()).expect("it is no reserved name");
            for client in &mut *clients {
                client.expect_nothing_before(&mark).await;
            }
        }
    }
}

/// Waits until something is so.
///
/// # Panics
/// It never is.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so() {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    panic!("it never came to this: {what}");
}
