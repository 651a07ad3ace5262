//! Events and their acknowledgements, in both directions.

use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use sockeye::{Args, Binary, Data, HandlerError, Reply, Server, Socket};

#[derive(Deserialize)]
struct Order {
    item: String,
    amount: u32,
}

#[derive(Serialize)]
struct Receipt {
    item: String,
    cents: u32,
}

pub(crate) fn app() -> Router {
    let io = Server::default();
    io.on_connection(async |socket: Socket| {
        // An event that nobody answers. It fails only if the client has gone already.
        let _ = socket.emit("welcome", "What would you like?");
    });
    io.on("order", order);
    io.on("cancel", cancel);
    // As many arguments as the client likes, and an answer of two.
    io.on("sum", async |Args(numbers): Args<Vec<i64>>| {
        Reply((numbers.iter().sum::<i64>(), numbers.len()))
    });
    // Binary data, anywhere among the arguments.
    io.on("upload", async |Data(name): Data<String>, Data(picture): Data<Binary>| {
        Reply(format!("{name} has {} bytes", picture.len()))
    });
    Router::new().layer(io.layer())
}

/// What a listener returns is the client's acknowledgement. So is an error, as an object with a
/// code and a message; and an order that cannot be read is answered in the same way.
async fn order(Data(order): Data<Order>) -> Result<Receipt, HandlerError> {
    if order.amount == 0 {
        return Err(HandlerError::new("nothing_ordered", "Order at least one."));
    }
    Ok(Receipt { item: order.item, cents: 250 * order.amount })
}

/// The client is asked, and answers: the same in the other direction.
async fn cancel(socket: Socket, Data(item): Data<String>) -> Result<String, HandlerError> {
    let limit = Duration::from_secs(10);
    let sure: bool = socket.timeout(limit).emit_with_ack("sure?", &item).await?;
    Ok(if sure { format!("{item} is cancelled") } else { format!("{item} is on its way") })
}
