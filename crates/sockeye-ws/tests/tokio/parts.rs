//! Long messages that are never held whole, in and out.
//! How the machine cuts them is tested there; here is what applications see.

use sockeye_ws::net::{Error, Message, MessagePart, Options, WebSocket};
use sockeye_ws::{Limits, Role, SendError};

use crate::support::*;

#[tokio::test]
async fn a_message_above_the_limit_goes_through_in_parts_and_is_not_held() {
    const PART: usize = 100_000;
    const PARTS: usize = 40;

    let (near, far) = tokio::io::duplex(256 << 10);
    let connect = |stream, role| {
        let limits = Limits { message_bytes_max: PART, ..Limits::default() };
        WebSocket::from_connection(stream, machine(role, limits), [], &Options::default())
    };
    let (mut server, mut client) = (connect(near, Role::Server), connect(far, Role::Client));
    let sending = async {
        for number in 0..PARTS {
            client.send_part(vec![number as u8; PART], number == PARTS - 1).await.unwrap();
            assert_eq!(client.buffered_amount(), 0);
        }
        client.send("whole").await.unwrap();
    };
    let receiving = async {
        let mut arrived = Vec::new();
        loop {
            let part = server.next_part().await.unwrap().unwrap();
            assert_eq!(part.first, arrived.is_empty());
            assert!(
                part.message.as_bytes().len() <= (64 << 10) + 14,
                "no more than one read brings"
            );
            arrived.extend_from_slice(part.message.as_bytes());
            if part.last {
                break arrived;
            }
        }
    };
    let ((), arrived) = tokio::join!(sending, receiving);
    let sent: Vec<u8> = (0..PARTS).flat_map(|number| vec![number as u8; PART]).collect();
    assert!(arrived == sent, "{} bytes arrived", arrived.len());
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("whole"));
}

#[tokio::test]
async fn text_in_parts_is_cut_between_characters_and_pings_stand_between() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    let (first, second) = "🐟🐠".as_bytes().split_at(6);
    write(&mut peer, &masked(0x01, first)).await;
    write(&mut peer, &masked(FIN_PING, b"between")).await;
    write(&mut peer, &masked(0x80, second)).await;
    let part = |text: &str, first, last| MessagePart { message: text.into(), first, last };
    assert_eq!(server.next_part().await.unwrap().unwrap(), part("🐟", true, false));
    assert_eq!(server.next_part().await.unwrap().unwrap(), Message::Ping("between".into()).into());
    assert_eq!(server.next_part().await.unwrap().unwrap(), part("🐠", false, true));
    // The application need not come back for the pong to leave.
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PONG, b"between".to_vec()));
}

#[tokio::test]
async fn next_passes_over_the_rest_of_a_message_that_came_in_parts() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    write(&mut peer, &masked(0x02, b"begun")).await;
    assert!(!server.next_part().await.unwrap().unwrap().last);
    write(&mut peer, &[masked(0x80, b"rest"), masked(FIN_TEXT, b"next")].concat()).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("next"));
}

#[tokio::test]
async fn what_cannot_stand_between_parts() {
    let (mut server, mut client) = pair(1 << 20);
    server.send_part("Grü", false).await.unwrap();
    let other = server.send("another message").await.unwrap_err();
    assert!(matches!(other, Error::Send(SendError::UnfinishedMessage)), "{other}");
    let large = server.send(vec![7; 100_000]).await.unwrap_err();
    assert!(matches!(large, Error::Send(SendError::UnfinishedMessage)), "{large}");
    let kind = server.send_part(vec![7], false).await.unwrap_err();
    assert!(matches!(kind, Error::Send(SendError::OtherKind)), "{kind}");
    let control = server.send_part(Message::Pong("x".into()), true).await.unwrap_err();
    assert!(matches!(control, Error::Send(SendError::ControlFragment)), "{control}");
    server.send(Message::Pong("between".into())).await.unwrap();
    server.send_part("ße", true).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong("between".into()));
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("Grüße"));
}
