//! Two connections over a stream that does what a stream may, as a seed says: it takes and brings a
//! few bytes at once, and says "not now" when it likes. What they send arrives once, whole and in
//! order, up to the close frame, and nobody waits for ever.

use std::cell::Cell;
use std::future::{poll_fn, ready};
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sockeye_ws::net::{Client, CloseFrame, Error, KeepAlive, Message, MessagePart};
use sockeye_ws::net::{Server, WebSocket, WebSocketWriter};
use sockeye_ws::{CloseCode, Frame, Limits, SendError, deflate};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::poll_and_drop;

/// By a clock that moves only while everybody waits: then nobody would ever go on.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Numbers that look random, from a seed (xorshift).
#[derive(Clone, Debug)]
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 up to `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A length: often short, sometimes long.
    fn len(&mut self) -> usize {
        let end = [4, 130, 3000, 40_000][self.below(4)];
        self.below(end)
    }
}

/// One end of a pipe whose reads and writes are cut, and put off.
struct Chaos {
    pipe: DuplexStream,
    numbers: Numbers,
    is_vectored: bool,
    /// How many bytes go through at once, at the most.
    bytes_max: usize,
}

impl Chaos {
    /// Says "not now", and that it may be asked again; or how many bytes go through.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.numbers.one_in(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(1 + self.numbers.below(self.bytes_max))
    }
}

impl AsyncRead for Chaos {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = ready!(self.poll_turn(cx)).min(buffer.remaining());
        let mut bytes = vec![0; len];
        let mut part = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.pipe).poll_read(cx, &mut part))?;
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chaos {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = ready!(self.poll_turn(cx)).min(bytes.len());
        Pin::new(&mut self.pipe).poll_write(cx, &bytes[..len])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let bytes: Vec<u8> = bytes.take(self.bytes_max).collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx));
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx));
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Both sides of a connection: how narrow it is, whether it compresses, what may wait, is chance.
async fn connect(numbers: &mut Numbers) -> [WebSocket<Chaos>; 2] {
    let width = [17, 100, 5000, 200_000][numbers.below(4)];
    let (near, far) = tokio::io::duplex(width);
    let bytes_max = [17, 300, 5000][numbers.below(3)].min(width);
    let mut chaos = |pipe| Chaos {
        pipe,
        numbers: Numbers::new(numbers.below(1 << 40) as u64),
        is_vectored: numbers.one_in(2),
        bytes_max,
    };
    let (near, far) = (chaos(near), Cell::new(Some(chaos(far))));
    // Nobody means harm here, however many pings come at once.
    let limits = Limits { pending_pongs_max: u32::MAX, ..Limits::default() };
    let mut server = Server::builder().limits(limits);
    let mut client = Client::new("ws://localhost/").limits(limits);
    if numbers.one_in(2) {
        let options = deflate::Options {
            server_no_context_takeover: numbers.one_in(2),
            client_no_context_takeover: numbers.one_in(2),
            threshold_bytes: 100,
            ..deflate::Options::default()
        };
        (server, client) = (server.deflate(options), client.deflate(options));
    }
    if numbers.one_in(2) {
        let interval = Duration::from_secs(5);
        let keep_alive = KeepAlive { interval, timeout: interval };
        (server, client) = (server.keep_alive(keep_alive), client.keep_alive(keep_alive));
    }
    let mut waits_max = || [0, 1, 1000, 100_000][numbers.below(4)];
    let server = server.write_buffer_bytes_max(waits_max()).build();
    let client = client.write_buffer_bytes_max(waits_max());
    let connecting = client.connect_over(|_| ready(Ok(far.take().expect("one stream"))));
    let (server, client) = tokio::join!(server.accept(near), connecting);
    [server.expect("a handshake"), client.expect("a handshake")]
}

/// One call of a sender's.
#[derive(Clone, Debug)]
enum Call {
    Send(Message),
    Feed(Message),
    SendFrame(Frame),
    FeedFrame(Frame),
    SendPart(Message, bool),
    Flush,
}

/// What one side sends.
#[derive(Clone, Debug, Default)]
struct Plan {
    calls: Vec<Call>,
    /// The messages of text and data, each with the call that completes it.
    messages: Vec<(usize, Message)>,
    /// Which side closes: behind its last call, when it has received so many messages.
    closes_after: Option<usize>,
    in_parts: bool,
}

fn message(numbers: &mut Numbers) -> Message {
    let len = numbers.len();
    if numbers.one_in(2) {
        let characters = ['x', 'é', '€', '🐟'];
        let text = (0..len / 2).map(|_| characters[numbers.below(4)]);
        Message::text(text.collect::<String>())
    } else {
        Message::binary((0..len).map(|_| numbers.below(17) as u8).collect::<Vec<_>>())
    }
}

fn plan(numbers: &mut Numbers) -> Plan {
    let mut plan = Plan { in_parts: numbers.one_in(3), ..Plan::default() };
    for _ in 0..numbers.below(12) {
        let message = message(numbers);
        match numbers.below(6) {
            0 | 1 => plan.calls.push(Call::Send(message.clone())),
            2 => plan.calls.push(Call::Feed(message.clone())),
            3 | 4 => {
                let frame = match &message {
                    Message::Text(text) => Frame::text(text),
                    other => Frame::binary(other.as_bytes()),
                };
                let call = if numbers.one_in(2) { Call::SendFrame } else { Call::FeedFrame };
                plan.calls.push(call(frame));
            }
            _ => plan_parts(&message, numbers, &mut plan.calls),
        }
        plan.messages.push((plan.calls.len() - 1, message));
        if numbers.one_in(4) {
            plan.calls.push(Call::Send(Message::Ping("?".into())));
        }
        if numbers.one_in(4) {
            plan.calls.push(Call::Flush);
        }
    }
    // What was fed leaves, too.
    plan.calls.push(Call::Flush);
    plan
}

/// The message in parts, between which there may be a ping.
fn plan_parts(message: &Message, numbers: &mut Numbers, calls: &mut Vec<Call>) {
    // At most some hundred of them: there is a limit.
    let len_max = 1 + numbers.len() + message.as_bytes().len() / 100;
    match message {
        Message::Text(text) => {
            let characters: Vec<char> = text.chars().collect();
            for part in characters.chunks(len_max) {
                calls.push(Call::SendPart(part.iter().collect::<String>().into(), false));
            }
            calls.push(Call::SendPart("".into(), true));
        }
        other => {
            for part in other.as_bytes().chunks(len_max) {
                calls.push(Call::SendPart(part.into(), false));
                if numbers.one_in(3) {
                    calls.push(Call::Feed(Message::Ping("between".into())));
                }
            }
            calls.push(Call::SendPart(Message::binary(""), true));
        }
    }
}

/// What one side has seen.
#[derive(Debug, Default)]
struct Outcome {
    /// How many calls were heeded.
    calls: usize,
    received: Vec<Message>,
    end: Option<CloseFrame>,
}

/// Puts parts together.
#[derive(Default)]
struct Receiver {
    received: Vec<Message>,
    begun: Option<Vec<u8>>,
    end: Option<CloseFrame>,
}

impl Receiver {
    fn receive(&mut self, part: Result<MessagePart, Error>) {
        let MessagePart { message, first, last } = part.expect("the connection does not fail");
        match message {
            Message::Close(end) => self.end = end,
            Message::Ping(_) | Message::Pong(_) => {}
            part if first && last => self.received.push(part),
            part => {
                assert_eq!(first, self.begun.is_none(), "the first part is the first");
                let mut begun = self.begun.take().unwrap_or_default();
                begun.extend_from_slice(part.as_bytes());
                match (last, part) {
                    (false, _) => self.begun = Some(begun),
                    (true, Message::Text(_)) => {
                        self.received.push(String::from_utf8(begun).expect("a text").into());
                    }
                    (true, _) => self.received.push(begun.into()),
                }
            }
        }
    }
}

/// Whether a call was heeded. The peer may have closed before it.
fn is_heeded(called: &Result<(), Error>) -> bool {
    match called {
        Ok(()) => true,
        Err(Error::Send(SendError::Closing)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// What comes first on a connection that is asked for both.
enum Turn {
    Room,
    Received(Option<Result<MessagePart, Error>>),
}

/// In one task, where each call is polled once and dropped.
async fn run_whole(mut websocket: WebSocket<Chaos>, mut plan: Plan) -> Outcome {
    let mut receiver = Receiver::default();
    let mut heeded = 0;
    let mut calls = plan.calls.drain(..).peekable();
    loop {
        let is_done = calls.peek().is_none();
        if is_done && plan.closes_after.is_some_and(|count| receiver.received.len() >= count) {
            websocket.start_close(GOODBYE, "bye").expect("a close frame can carry both");
            plan.closes_after = None;
        }
        let turn = poll_fn(|cx| {
            if !is_done && pin!(websocket.ready()).poll(cx)?.is_ready() {
                return Poll::Ready(Ok(Turn::Room));
            }
            let received = match plan.in_parts {
                true => pin!(websocket.next_part()).poll(cx),
                false => pin!(websocket.next()).poll(cx).map(|next| Some(next?.map(Into::into))),
            };
            received.map(|received| Ok::<_, Error>(Turn::Received(received)))
        });
        match turn.await.expect("the stream does not fail") {
            Turn::Room => {
                let call = calls.next().expect("there is one left");
                match call_once(&mut websocket, call) {
                    // Queued, and no more: what is left of it is seen to with `next`.
                    Poll::Pending => heeded += 1,
                    Poll::Ready(called) if is_heeded(&called) => heeded += 1,
                    Poll::Ready(_) => calls.by_ref().for_each(drop),
                }
            }
            Turn::Received(Some(received)) => receiver.receive(received),
            Turn::Received(None) => {
                let Receiver { received, end, .. } = receiver;
                return Outcome { calls: heeded, received, end };
            }
        }
    }
}

fn call_once(websocket: &mut WebSocket<Chaos>, call: Call) -> Poll<Result<(), Error>> {
    match call {
        Call::Send(message) => poll_and_drop(websocket.send(message)),
        Call::Feed(message) => poll_and_drop(websocket.feed(message)),
        Call::SendFrame(frame) => poll_and_drop(websocket.send_frame(&frame)),
        Call::FeedFrame(frame) => poll_and_drop(websocket.feed_frame(&frame)),
        Call::SendPart(part, last) => poll_and_drop(websocket.send_part(part, last)),
        Call::Flush => poll_and_drop(websocket.flush()),
    }
}

/// In two tasks.
async fn run_halves(websocket: WebSocket<Chaos>, plan: Plan) -> Outcome {
    let (mut reader, mut writer) = websocket.split();
    let (count, mut counted) = watch::channel(0);
    let Plan { calls, closes_after, in_parts, .. } = plan;
    let reading = tokio::spawn(async move {
        let mut receiver = Receiver::default();
        loop {
            let received = match in_parts {
                true => reader.next_part().await,
                false => reader.next().await.map(|message| message.map(Into::into)),
            };
            let Some(received) = received else { break receiver };
            receiver.receive(received);
            count.send_replace(receiver.received.len());
        }
    });
    let writing = tokio::spawn(async move {
        let mut heeded = 0;
        for call in calls {
            if !is_heeded(&call_half(&mut writer, call).await) {
                break;
            }
            heeded += 1;
        }
        if let Some(wanted) = closes_after {
            counted.wait_for(|count| *count >= wanted).await.expect("the other side sends them");
            writer.start_close(GOODBYE, "bye").expect("a close frame can carry both");
        }
        heeded
    });
    let calls = writing.await.expect("no assertion fails");
    let Receiver { received, end, .. } = reading.await.expect("no assertion fails");
    Outcome { calls, received, end }
}

async fn call_half(writer: &mut WebSocketWriter<Chaos>, call: Call) -> Result<(), Error> {
    match call {
        Call::Send(message) => writer.send(message).await,
        Call::Feed(message) => writer.feed(message).await,
        Call::SendFrame(frame) => writer.send_frame(&frame).await,
        Call::FeedFrame(frame) => writer.feed_frame(&frame).await,
        Call::SendPart(part, last) => writer.send_part(part, last).await,
        Call::Flush => writer.flush().await,
    }
}

const GOODBYE: CloseCode = CloseCode(4000);

async fn run_seed(seed: u64) {
    let mut numbers = Numbers::new(seed);
    let sides = connect(&mut numbers).await;
    let mut plans = [plan(&mut numbers), plan(&mut numbers)];
    let closer = numbers.below(2);
    let sent = plans[1 - closer].messages.len();
    plans[closer].closes_after = Some(numbers.below(sent + 1));
    let [one, other] = [0, 1].map(|side| (plans[side].clone(), numbers.one_in(2)));
    let [server, client] = sides;
    let run = |websocket, (plan, is_split)| async move {
        match is_split {
            true => run_halves(websocket, plan).await,
            false => run_whole(websocket, plan).await,
        }
    };
    let both = async { tokio::join!(run(server, one), run(client, other)) };
    let (one, other) = timeout(WAIT_MAX, both).await.expect("nobody waits for ever");
    let outcomes = [one, other];
    for (side, outcome) in outcomes.iter().enumerate() {
        let peer = 1 - side;
        let sent = plans[peer].messages.iter();
        let heeded = sent.filter(|(call, _)| *call < outcomes[peer].calls);
        let expected: Vec<_> = heeded.map(|(_, message)| message.clone()).collect();
        assert!(outcome.received == expected, "side {side}");
        let reason = if side == closer { "" } else { "bye" };
        assert_eq!(outcome.end, Some(CloseFrame { code: GOODBYE, reason: reason.into() }));
    }
    assert_eq!(outcomes[closer].calls, plans[closer].calls.len(), "who closes has sent all");
}

#[test]
#[expect(clippy::print_stderr, reason = "a failure says which seed it came with")]
fn whatever_the_stream_does_messages_arrive_once_and_in_order_up_to_the_close_frame() {
    for seed in 0..50 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let run = AssertUnwindSafe(|| runtime.block_on(run_seed(seed)));
        if let Err(failure) = catch_unwind(run) {
            eprintln!("with the seed {seed}");
            resume_unwind(failure);
        }
    }
}
