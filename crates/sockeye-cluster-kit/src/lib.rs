//! What every bus of a cluster must do, as tests that any [`ClusterBus`] runs: broadcasts,
//! acknowledgements, requests and failures over several servers and their clients.
//! Does not know any bus; it is given a way to make them.
//!
//! ```
//! use sockeye::cluster::{InProcessBus, InProcessCluster};
//!
//! struct Buses {
//!     cluster: InProcessCluster,
//!     made: Vec<InProcessBus>,
//! }
//!
//! impl sockeye_cluster_kit::Buses for Buses {
//!     type Bus = InProcessBus;
//!
//!     const TELLS_WHO_DIES: bool = true;
//!
//!     async fn bus(&mut self) -> InProcessBus {
//!         self.made.push(self.cluster.bus());
//!         self.made[self.made.len() - 1].clone()
//!     }
//!
//!     async fn kill(&mut self, index: usize) {
//!         self.made[index].sever();
//!     }
//! }
//!
//! sockeye_cluster_kit::conformance!(async {
//!     Buses { cluster: InProcessCluster::new(), made: Vec::new() }
//! });
//! ```
//!
//! Each test makes a cluster of its own, so a bus over a shared service needs names of its own in
//! each. Waiting is on a condition; no test looks at the clock.

pub mod checks;
mod client;
mod cluster;

use std::future::Future;

use sockeye::cluster::ClusterBus;

pub use client::{Claim, Client};
pub use cluster::{Cluster, until};

/// Makes the buses of one cluster.
pub trait Buses: Send + 'static {
    /// The bus of one node.
    type Bus: ClusterBus;

    /// Whether the others learn which node has died, not only that one has: then the clients that
    /// it had asked are not waited for.
    const TELLS_WHO_DIES: bool;

    /// The bus of one more node of the same cluster.
    fn bus(&mut self) -> impl Future<Output = Self::Bus> + Send;

    /// The node with the bus that was made as this one (from 0) dies: it is not heard any more and
    /// does not say so.
    fn kill(&mut self, index: usize) -> impl Future<Output = ()> + Send;

    /// Waits until what the nodes want to hear now is heard: a bus may subscribe to the channel of
    /// a room a moment after the room is there. Default: it is heard at once.
    fn settled(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// As [`conformance`], what every bus with a log must do beyond that: clients whose connection
/// state is recovered on other nodes.
#[macro_export]
macro_rules! log_conformance {
    ($make:expr) => {
        $crate::with_each_log_check! { conformance_each; $make }
    };
}

/// As [`conformance_in_turn`], of what [`log_conformance`] checks.
#[macro_export]
macro_rules! log_conformance_in_turn {
    ($name:ident, $shared:expr, $make:expr) => {
        $crate::with_each_log_check! { conformance_all; $name, $shared, $make }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! with_each_log_check {
    ($then:ident; $($given:tt)*) => {
        $crate::$then! {
            ($($given)*);
            recovery: a_client_goes_on_at_another_node,
            recovery: it_works_before_the_first_event,
            recovery: a_node_that_came_later_reads_what_it_has_not_heard,
            recovery: events_of_rooms_are_those_of_the_time_in_them,
            recovery: a_socket_is_taken_up_once,
            recovery: what_is_not_kept_is_not_sent_again,
            recovery: a_disconnection_comes_behind_what_was_emitted,
            recovery: a_node_that_shuts_down_hands_its_clients_over,
            recovery: clients_that_move_about_miss_nothing,
            live_sessions: the_clients_of_a_node_that_is_killed_go_on,
            live_sessions: who_has_left_is_not_let_in_again,
        }
    };
}

/// Makes a test of each check, for the buses that `$make`, a future, makes.
#[macro_export]
macro_rules! conformance {
    ($make:expr) => {
        $crate::with_each_check! { conformance_each; $make }
    };
}

/// Makes one test of all checks in turn, where what the buses share takes long to be set up.
/// `$make` makes a future of the buses from what `$shared`, a future, makes once, and a number that
/// is another for each check.
#[macro_export]
macro_rules! conformance_in_turn {
    ($name:ident, $shared:expr, $make:expr) => {
        $crate::with_each_check! { conformance_all; $name, $shared, $make }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_each {
    (($make:expr); $($module:ident: $check:ident,)*) => {
        $(#[tokio::test]
        async fn $check() {
            $crate::checks::$module::$check($make.await).await;
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_all {
    (($name:ident, $shared:expr, $make:expr); $($module:ident: $check:ident,)*) => {
        #[tokio::test]
        async fn $name() {
            let shared = $shared.await;
            let mut number = 0_usize;
            $(
                number += 1;
                // What fails is shown with what was printed last.
                println!("{}", stringify!($check));
                $crate::checks::$module::$check($make(&shared, number).await).await;
            )*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! with_each_check {
    ($then:ident; $($given:tt)*) => {
        $crate::$then! {
            ($($given)*);
            broadcasts: everyone_hears_a_broadcast,
            broadcasts: rooms_are_a_union_and_each_member_hears_once,
            broadcasts: who_is_excepted_hears_nothing,
            broadcasts: a_socket_of_another_node_is_a_room,
            broadcasts: local_broadcasts_stay,
            broadcasts: namespaces_are_apart,
            broadcasts: volatile_and_conflated_events_arrive,
            broadcasts: values_arrive_as_they_were,
            broadcasts: binary_arrives_as_it_was,
            broadcasts: order_is_kept,
            broadcasts: rooms_come_and_go,
            acks: clients_of_all_nodes_answer,
            acks: one_room_answers,
            acks: binary_answers_arrive,
            acks: the_time_limit_gives_what_came,
            acks: nobody_there_is_no_wait,
            sockets: remote_sockets_join_and_leave,
            sockets: remote_sockets_are_disconnected,
            sockets: h68_local_acts_stay,
            sockets: sockets_of_all_nodes_are_fetched,
            sockets: a_fetched_socket_can_be_used,
            servers: servers_hear_each_other,
            servers: servers_answer,
            servers: a_server_without_a_listener_is_missing,
            servers: nodes_are_counted,
            servers: a_node_that_comes_late_takes_part,
            forwarding: requests_find_the_node_of_their_session,
            failures: a_node_that_shuts_down_is_not_waited_for,
            failures: a_node_that_dies_is_not_waited_for,
        }
    };
}
