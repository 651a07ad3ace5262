//! An async closure that captures.

use std::sync::Arc;

use sockeye::{Data, Server};

fn main() {
    let io = Server::default();
    let words = Arc::new(vec!["a".to_owned()]);
    io.on("has", async move |Data(word): Data<String>| {
        tokio::task::yield_now().await;
        assert!(words.contains(&word));
    });
}
