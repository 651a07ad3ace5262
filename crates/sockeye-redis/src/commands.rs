//! Asks and publishes: each command goes to where its key is, and to another node when that says
//! so. Does not know what is published.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::line::{Hang, Line, server_error};
use crate::redis::{Place, Redis};
use crate::slots::{Redirect, SlotMap, slot};

/// How often a command is sent to another node: a slot that moves twice meanwhile is rare.
const REDIRECTS_MAX: usize = 5;
/// How long a node may take to tell the slots, or to count, before others are asked.
const NODE_TIMEOUT: Duration = Duration::from_secs(1);
/// The least time between two looks at the slots that failures ask for.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);
/// How long what a node said of a slot that had moved counts more than what others say of all:
/// they hear of it a moment later.
const MOVE_TIME: Duration = Duration::from_secs(2);
/// Commands without a key, which any node takes.
const KEYLESS: [&[u8]; 3] = [b"PUBLISH", b"PUBSUB", b"CLUSTER"];

pub(crate) struct Commands {
    redis: Redis,
    lines: Mutex<BTreeMap<Place, Arc<Line>>>,
    cluster: Option<Nodes>,
}

/// What is known of the nodes of a cluster.
struct Nodes {
    map: RwLock<Arc<SlotMap>>,
    /// How often the map has changed.
    version: watch::Sender<u64>,
    /// It is looked at again before it is used.
    is_stale: AtomicBool,
    /// Those who look wait for each other; when the last one did.
    looked: tokio::sync::Mutex<Option<Instant>>,
    /// Slots that have moved just now.
    moves: Mutex<BTreeMap<u16, (Arc<str>, Instant)>>,
    /// The last that did not answer: it is asked at last.
    suspect: Mutex<Option<Arc<str>>>,
    /// The node that takes what has no key: always the same, so that order is kept.
    home: Mutex<Option<Arc<str>>>,
}

impl Commands {
    pub(crate) fn new(redis: Redis) -> Self {
        let cluster = redis.seeds().is_some().then(|| Nodes {
            map: RwLock::default(),
            version: watch::channel(0).0,
            is_stale: AtomicBool::new(true),
            looked: tokio::sync::Mutex::new(None),
            moves: Mutex::default(),
            suspect: Mutex::default(),
            home: Mutex::default(),
        });
        Self { redis, lines: Mutex::default(), cluster }
    }

    /// As [`run_each`](Self::run_each), for who wants all of the answers.
    ///
    /// # Errors
    /// The first of those that are none.
    ///
    /// # Cancel safety
    /// The commands may or may not be run.
    pub(crate) async fn run(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.run_each(commands).await.into_iter().collect()
    }

    /// Runs commands, those for one node in one round trip; the answer to each. What a node has not
    /// run since another is to be asked is sent there. Nothing else is sent again: it may have been
    /// run.
    ///
    /// # Cancel safety
    /// The commands may or may not be run.
    pub(crate) async fn run_each(&self, commands: &Pipeline) -> Vec<RedisResult<Value>> {
        match &self.cluster {
            _ if commands.is_empty() => Vec::new(),
            None => match self.line(&Place::Only).run(commands).await {
                Ok(answers) => answers.into_iter().map(Value::extract_error).collect(),
                Err(error) => vec![Err(error); commands.len()],
            },
            Some(nodes) => self.run_by_slots(nodes, commands).await,
        }
    }

    async fn run_by_slots(&self, nodes: &Nodes, pipeline: &Pipeline) -> Vec<RedisResult<Value>> {
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let mut answers = vec![Ok(Value::Nil); commands.len()];
        // The index of each, and the node that has told to ask another for this once.
        let mut waiting: Vec<(usize, Option<Arc<str>>)> =
            (0..commands.len()).map(|index| (index, None)).collect();
        for _ in 0..=REDIRECTS_MAX {
            let map = self.map(nodes).await;
            let (batches, unserved) = split(nodes, &map, &commands, std::mem::take(&mut waiting));
            unserved.into_iter().for_each(|(index, error)| answers[index] = Err(error));
            let is_one = batches.len() == 1;
            let running = batches.into_iter().map(async |(address, batch)| {
                let line = self.line(&Place::Node(address.clone()));
                let hang = Hang::new(|| nodes.note_failure(&address));
                // Usually all go to one node, as they are.
                let result = match is_one && batch.is_all(commands.len()) {
                    true => line.run(pipeline).await,
                    false => line.run(&batch.pipeline(&commands)).await,
                };
                hang.end();
                (address, batch, result)
            });
            for (address, batch, result) in join_all(running).await {
                match result {
                    Ok(from_node) => {
                        let sorted = batch.sort(from_node, &address, nodes, &mut answers);
                        waiting.extend(sorted);
                    }
                    Err(error) => {
                        nodes.note_failure(&address);
                        let indices = batch.0.into_iter().flatten();
                        indices.for_each(|index| answers[index] = Err(error.clone()));
                    }
                }
            }
            if waiting.is_empty() {
                return answers;
            }
            waiting.sort_by_key(|(index, _)| *index);
        }
        for (index, _) in waiting {
            answers[index] = Err(unserved("a slot moves all the time"));
        }
        answers
    }

    /// The answers of nodes to the same. Those that do not answer have none.
    pub(crate) async fn ask_each(
        &self,
        addresses: Vec<Arc<str>>,
        commands: &Pipeline,
    ) -> Vec<Vec<Value>> {
        let asking = addresses.into_iter().map(async |address| {
            let line = self.line(&Place::Node(address));
            timeout(NODE_TIMEOUT, line.run(commands)).await.ok()?.ok()
        });
        join_all(asking).await.into_iter().flatten().collect()
    }

    /// The nodes of a cluster that may hear a channel: all, or with a slot those who have it.
    /// Nothing where there is no cluster.
    pub(crate) async fn hearers(&self, slot: Option<u16>) -> RedisResult<Option<Vec<Arc<str>>>> {
        let Some(nodes) = &self.cluster else { return Ok(None) };
        let map = self.map(nodes).await?;
        Ok(Some(slot.map_or_else(|| map.nodes(), |slot| map.hearers(slot))))
    }

    fn line(&self, place: &Place) -> Arc<Line> {
        let mut lines = self.lines.lock();
        let new = || Arc::new(Line::new(self.redis.clone(), place.clone()));
        lines.entry(place.clone()).or_insert_with(new).clone()
    }

    /// Where a key is now.
    pub(crate) async fn place(&self, key: &str) -> RedisResult<Place> {
        let Some(nodes) = &self.cluster else { return Ok(Place::Only) };
        let owner = self.map(nodes).await?.owner(slot(key.as_bytes())).cloned();
        owner.map(Place::Node).ok_or_else(|| unserved("nobody serves the slot"))
    }

    /// The slots as they are known, which is nothing at first.
    pub(crate) fn known(&self) -> Option<Arc<SlotMap>> {
        self.cluster.as_ref().map(|nodes| nodes.map.read().clone())
    }

    /// Tells each change of the slots.
    pub(crate) fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.cluster.as_ref().map(|nodes| nodes.version.subscribe())
    }

    /// A node has said that a slot has moved.
    pub(crate) fn note_move(&self, slot: u16, address: Arc<str>) {
        if let Some(nodes) = &self.cluster {
            nodes.note_move(slot, address);
        }
    }

    /// The slots may have changed.
    pub(crate) fn note_doubt(&self) {
        if let Some(nodes) = &self.cluster {
            nodes.is_stale.store(true, Ordering::Release);
        }
    }

    async fn map(&self, nodes: &Nodes) -> RedisResult<Arc<SlotMap>> {
        if nodes.is_stale.load(Ordering::Acquire)
            && let Err(error) = self.refresh(nodes).await
            && nodes.map.read().is_empty()
        {
            return Err(error);
        }
        Ok(nodes.map.read().clone())
    }

    /// Looks at the slots anew where that is due or they are in doubt; whether they still are.
    pub(crate) async fn look(&self, is_due: bool) -> RedisResult<bool> {
        let Some(nodes) = &self.cluster else { return Ok(false) };
        if is_due || nodes.is_stale.load(Ordering::Acquire) {
            self.refresh(nodes).await?;
        }
        Ok(nodes.is_stale.load(Ordering::Acquire))
    }

    async fn refresh(&self, nodes: &Nodes) -> RedisResult<()> {
        let mut looked = nodes.looked.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < REFRESH_PAUSE) {
            return match nodes.map.read().is_empty() {
                true => Err(unserved("no node tells the slots")),
                false => Ok(()),
            };
        }
        let mut slots = Pipeline::new();
        slots.cmd("CLUSTER").arg("SLOTS");
        // A doubt that comes meanwhile stays, and so does this one if nobody waits any more.
        nodes.is_stale.store(false, Ordering::Release);
        let mut doubt = Doubt(Some(nodes));
        let mut result = Err(unserved("no node tells the slots"));
        for address in self.candidates(nodes) {
            let line = self.line(&Place::Node(address.clone()));
            match timeout(NODE_TIMEOUT, line.run(&slots)).await {
                Ok(Ok(answers)) => match SlotMap::read(&answers[0], &address) {
                    Some(map) => {
                        nodes.put(map);
                        result = Ok(());
                        break;
                    }
                    None => result = answers[0].clone().extract_error().map(drop),
                },
                Ok(Err(error)) => {
                    nodes.note_failure(&address);
                    result = Err(error);
                }
                Err(_) => nodes.note_failure(&address),
            }
        }
        if result.is_ok() {
            let known = nodes.map.read().nodes();
            let is_known = |place: &Place| matches!(place, Place::Node(at) if known.contains(at));
            self.lines.lock().retain(|place, _| is_known(place));
            doubt.0 = None;
        }
        *looked = Some(Instant::now());
        result
    }

    /// Whom to ask for the slots: any node, at last those of the URL.
    fn candidates(&self, nodes: &Nodes) -> Vec<Arc<str>> {
        let mut known = nodes.map.read().nodes();
        if !known.is_empty() {
            let first = random_below(known.len());
            known.rotate_left(first);
        }
        let suspect = nodes.suspect.lock();
        // A stable sort.
        known.sort_by_key(|address| Some(address) == suspect.as_ref());
        known.extend(self.redis.seeds().unwrap_or_default().iter().cloned());
        known
    }

    /// The connections are not needed any more.
    pub(crate) async fn close(&self) {
        let lines = std::mem::take(&mut *self.lines.lock());
        for line in lines.into_values() {
            line.close().await;
        }
    }
}

impl Nodes {
    fn put(&self, mut map: SlotMap) {
        let mut moves = self.moves.lock();
        moves.retain(|_, (_, since)| since.elapsed() < MOVE_TIME);
        for (slot, (address, _)) in &*moves {
            map.set_owner(*slot, address.clone());
        }
        self.replace(map);
    }

    fn note_move(&self, slot: u16, address: Arc<str>) {
        let mut moves = self.moves.lock();
        moves.insert(slot, (address.clone(), Instant::now()));
        let known = self.map.read().clone();
        if known.owner(slot) != Some(&address) {
            let mut map = SlotMap::clone(&known);
            map.set_owner(slot, address);
            self.replace(map);
        }
        // Others may have moved with it.
        self.is_stale.store(true, Ordering::Release);
    }

    fn replace(&self, map: SlotMap) {
        let mut known = self.map.write();
        if **known != map {
            *known = Arc::new(map);
            drop(known);
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn note_failure(&self, address: &Arc<str>) {
        self.is_stale.store(true, Ordering::Release);
        *self.suspect.lock() = Some(address.clone());
        let mut home = self.home.lock();
        if home.as_ref() == Some(address) {
            *home = other_primary(&self.map.read(), Some(address));
        }
    }

    fn home(&self, map: &SlotMap) -> Option<Arc<str>> {
        let mut home = self.home.lock();
        if !home.as_ref().is_some_and(|home| map.primaries().any(|known| known == home)) {
            *home = other_primary(map, None);
        }
        home.clone()
    }
}

/// The slots are in doubt, should this be dropped while there are nodes in it.
struct Doubt<'a>(Option<&'a Nodes>);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(nodes) = self.0 {
            nodes.is_stale.store(true, Ordering::Release);
        }
    }
}

/// What one node is sent, by the indices of the commands; nothing stands for `ASKING`.
#[derive(Default)]
struct Batch(Vec<Option<usize>>);

impl Batch {
    fn add(&mut self, index: usize, is_asking: bool) {
        if is_asking {
            self.0.push(None);
        }
        self.0.push(Some(index));
    }

    /// Whether it is all of so many commands.
    fn is_all(&self, count: usize) -> bool {
        self.0.len() == count && self.0.iter().all(Option::is_some)
    }

    fn pipeline(&self, commands: &[&Cmd]) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.0.len());
        for index in &self.0 {
            match index {
                Some(index) => pipeline.add_command(commands[*index].clone()),
                None => pipeline.cmd("ASKING"),
            };
        }
        pipeline
    }

    /// Puts the answers to where they belong; returns what is to be sent to another node.
    fn sort(
        self,
        from_node: Vec<Value>,
        address: &str,
        nodes: &Nodes,
        answers: &mut [RedisResult<Value>],
    ) -> Vec<(usize, Option<Arc<str>>)> {
        let mut waiting = Vec::new();
        for (index, answer) in self.0.into_iter().zip(from_node) {
            let Some(index) = index else { continue };
            let error = server_error(&answer);
            match error.and_then(|error| Redirect::read(error, address)) {
                Some(Redirect::Moved(slot, to)) => {
                    nodes.note_move(slot, to);
                    waiting.push((index, None));
                }
                Some(Redirect::Ask(to)) => waiting.push((index, Some(to))),
                None => answers[index] = answer.extract_error(),
            }
        }
        waiting
    }
}

/// What each node is to be sent, and what none can be.
type Split = (BTreeMap<Arc<str>, Batch>, Vec<(usize, RedisError)>);

fn split(
    nodes: &Nodes,
    map: &RedisResult<Arc<SlotMap>>,
    commands: &[&Cmd],
    waiting: Vec<(usize, Option<Arc<str>>)>,
) -> Split {
    let (mut batches, mut unserved) = (BTreeMap::<_, Batch>::new(), Vec::new());
    for (index, asked) in waiting {
        let (is_asking, place) = match (asked, map) {
            (Some(address), _) => (true, Ok(address)),
            (None, Ok(map)) => (false, place_of(commands[index], map, nodes)),
            (None, Err(error)) => (false, Err(error.clone())),
        };
        match place {
            Ok(address) => batches.entry(address).or_default().add(index, is_asking),
            Err(error) => unserved.push((index, error)),
        }
    }
    (batches, unserved)
}

fn place_of(command: &Cmd, map: &SlotMap, nodes: &Nodes) -> RedisResult<Arc<str>> {
    let mut words = command.args_iter().filter_map(|arg| match arg {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    let verb = words.next().unwrap_or_default();
    // The script and the number of its keys come before them.
    let key = if verb == b"EVAL" { words.nth(2) } else { words.next() };
    let owner = match key.filter(|_| !KEYLESS.contains(&verb)) {
        Some(key) => map.owner(slot(key)).cloned(),
        None => nodes.home(map),
    };
    owner.ok_or_else(|| {
        // Somebody may by now.
        nodes.is_stale.store(true, Ordering::Release);
        unserved("nobody serves the slot")
    })
}

/// Any primary but this one, or that one where there is no other.
pub(crate) fn other_primary(map: &SlotMap, but: Option<&Arc<str>>) -> Option<Arc<str>> {
    let others: Vec<_> = map.primaries().filter(|address| Some(*address) != but).collect();
    match others.len() {
        0 => map.primaries().next().cloned(),
        count => Some(others[random_below(count)].clone()),
    }
}

fn random_below(limit: usize) -> usize {
    let entropy = getrandom::u32().expect("the system has randomness to give");
    entropy as usize % limit
}

fn unserved(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::ClusterConnectionNotFound, what))
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Commands").field(&self.redis).finish()
    }
}
