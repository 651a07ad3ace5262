//! A result that cannot be an acknowledgement.

use sockeye::{Data, Server};

fn main() {
    Server::default().on("double", async |Data(number): Data<u64>| number * 2);
}
