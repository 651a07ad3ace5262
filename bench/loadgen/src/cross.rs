//! Messages that cross a cluster: sent to one node, received by clients of another.
//! Does not know what joins the nodes.
use crate::{
    args::Args,
    measure::{Line, switches},
    scenarios::{Many, drive_watching, join_all, join_rooms, rest, to_rooms},
    swarm::Swarm,
};

/// The senders are at the node on `--port` and in no room, the receivers at the one on `--to`,
/// spread over the rooms. `--pids` are those two nodes, Redis and, if there is one, a node without
/// any member.
pub fn run(a: &Args) -> String {
    let mut sw = Swarm::new(a, a.senders + a.conns, 0);
    sw.elsewhere = (a.senders, a.to);
    let ok = join_all(a, &mut sw, 0.3).ok;
    let per = a.conns / a.rooms;
    let mut app = Many::new(to_rooms(a), per, a.depth, a.senders);
    join_rooms(a, &mut sw, &mut app, a.senders, per * a.rooms);
    // subscriptions to the rooms that are new
    rest(&mut sw, 0.5);
    if !ok {
        eprintln!("{} of {} connected", sw.ready, a.conns + a.senders);
    }
    let aside = a.pids.get(3).copied();
    let before = aside.map(switches);
    let mut line = Line::new(a);
    let used = drive_watching(a, &mut sw, &mut app, &mut line, &a.pids);
    let messages = app.complete.max(1) as f64;
    let deliveries = app.deliveries.max(1) as f64;
    let us = |k: usize| used.get(k).map_or(0.0, |used| used.cpu_secs * 1e6);
    let user_us = |k: usize| us(k) * used.get(k).map_or(0.0, |used| used.user_share);
    line.n("rooms", a.rooms as f64)
        .n("cpu_us_each", (us(0) + us(1)) / deliveries)
        .n("user_us_each", (user_us(0) + user_us(1)) / deliveries)
        .n("send_us_msg", us(0) / messages)
        .n("send_user_us_msg", user_us(0) / messages)
        .n("receive_us_each", us(1) / deliveries)
        .n("receive_us_msg", us(1) / messages)
        .n("receive_user_us_msg", user_us(1) / messages)
        .n("redis_us_msg", us(2) / messages)
        .n("client_util", used[0].client_util)
        .n("messages", f64::from(app.next));
    if let (Some(pid), Some(before)) = (aside, before) {
        // From before the warm-up on, as all messages are.
        let woken = switches(pid).saturating_sub(before) as f64;
        line.n("aside_us_msg", us(3) / messages).n("aside_wakes_msg", woken / f64::from(app.next));
    }
    line.done()
}
