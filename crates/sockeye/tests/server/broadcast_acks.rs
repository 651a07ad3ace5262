//! Broadcasts that ask for acknowledgements: who answers, who does not, and what is kept of it.

use std::time::Duration;

use sockeye::{AckError, Server, SocketId};
use tokio::time::Instant;

use crate::support::{Host, Polling, WebSocket};

/// The acknowledgement id of `42<id>["ask"…`.
fn id(packet: &str) -> &str {
    let digits = packet.strip_prefix("42").expect("an event");
    &digits[..digits.find('[').expect("a list")]
}

async fn answer(client: &mut WebSocket, json: &str) {
    let packet = client.next().await.expect("the question");
    client.send(&format!("43{}[{json}]", id(&packet))).await;
}

#[tokio::test(start_paused = true)]
async fn h52_everyone_answers_nobody_does_and_some_do() {
    let host = Host::in_memory(Server::default());
    let limit = Duration::from_secs(5);
    let start = Instant::now();
    let none = host.io.broadcast().timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    let none = none.collect().await;
    assert!(none.answers.is_empty() && none.failures.is_empty());
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody is waited for");

    let mut ann = WebSocket::join(&host).await;
    let mut ben = WebSocket::join(&host).await;
    let carl = Polling::join(&host).await;
    let acks = host.io.broadcast().timeout(limit).emit_with_ack::<u8>("ask", "now").expect("sent");
    answer(&mut ann, "1,\"more\"").await;
    answer(&mut ben, "2").await;
    let question = carl.get().await.expect("200").remove(0);
    carl.post(&format!("43{}[3]", id(&question))).await;
    // A second answer, and one that was never asked for, count for nothing.
    carl.post(&format!("43{}[9]", id(&question))).await;
    carl.post("4399[9]").await;
    let all = acks.collect().await;
    let mut answers: Vec<u8> = all.answers.iter().map(|(_, answer)| *answer).collect();
    answers.sort_unstable();
    assert_eq!((answers, all.failures.len()), (vec![1, 2, 3], 0));
    assert_eq!(start.elapsed(), Duration::ZERO);

    let acks = host.io.broadcast().timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    answer(&mut ann, "1").await;
    answer(&mut ben, "\"no number\"").await;
    let some = acks.collect().await;
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(some.answers.len(), 1);
    let failures: Vec<_> = some.failures.iter().map(|(_, error)| error).collect();
    assert!(matches!(failures[..], [AckError::Data(_), AckError::Timeout]), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_come_as_they_come_and_who_goes_is_not_waited_for() {
    let host = Host::in_memory(Server::default());
    let mut quick = WebSocket::join(&host).await;
    let mut slow = WebSocket::join(&host).await;
    let mut gone = WebSocket::join(&host).await;
    let room = host.io.broadcast().timeout(Duration::from_secs(60));
    let mut acks = room.emit_with_ack::<String>("ask", ()).expect("sent");
    let start = Instant::now();

    answer(&mut quick, "\"quick\"").await;
    let (first, text) = acks.next().await.expect("an answer");
    assert_eq!(text.expect("in time"), "quick");
    gone.next().await.expect("the question");
    gone.close().await;
    let (second, error) = acks.next().await.expect("an end");
    assert!(matches!(error, Err(AckError::Disconnected)));
    let waiting = tokio::time::timeout(Duration::from_secs(1), acks.next()).await;
    assert!(waiting.is_err(), "nothing is lost when the wait is given up");
    answer(&mut slow, "\"slow\"").await;
    let (third, text) = acks.next().await.expect("an answer");
    assert_eq!(text.expect("in time"), "slow");
    assert!(acks.next().await.is_none());
    assert_eq!(start.elapsed().as_secs(), 1);
    let ids: std::collections::BTreeSet<Option<SocketId>> = [first, second, third].into();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_question_nobody_listens_to_any_more_is_forgotten() {
    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let limit = Duration::from_secs(1);
    let dropped = host.io.broadcast().timeout(limit).emit_with_ack::<u8>("ask", ());
    drop(dropped.expect("sent"));
    let late = host.io.broadcast().timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    let late = late.collect().await;
    assert!(matches!(late.failures[..], [(_, AckError::Timeout)]));
    for _ in 0..2 {
        answer(&mut client, "1").await;
    }
    // The connection lives on, and the next question is answered.
    let next = host.io.broadcast().timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    answer(&mut client, "7").await;
    assert_eq!(next.collect().await.answers[0].1, 7);
}

#[tokio::test(start_paused = true)]
async fn h53_h54_rooms_and_one_socket_are_asked_like_everyone() {
    let host = Host::in_memory(Server::default());
    let mut one = WebSocket::join(&host).await;
    let id = host.io.of("/").sockets()[0].id();
    let mut other = WebSocket::join(&host).await;
    let limit = Duration::from_secs(1);
    let acks = host.io.to(id).timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    answer(&mut one, "1").await;
    let all = acks.collect().await;
    assert_eq!(all.answers, [(Some(id), 1)]);
    let rest = host.io.except(id).timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    answer(&mut other, "2").await;
    assert_eq!(rest.collect().await.answers[0].1, 2);
}
