//! A future that is not `Send`.

use std::rc::Rc;

use sockeye::Server;

fn main() {
    Server::default().on("event", async || {
        let count = Rc::new(1);
        tokio::task::yield_now().await;
        drop(count);
    });
}
