//! Which slot of a Redis Cluster a key has, and which node has which slot.
//! Does not know connections.

use std::sync::Arc;

use redis::{ServerError, ServerErrorKind, Value};

/// How many slots there are.
const SLOTS: usize = 16_384;
/// The shard of a slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// The slot of a key or a channel: of what is between its first braces, if anything is.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS as u16
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|&byte| byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// A number that behind a name makes one with this slot.
pub(crate) fn number_for(name: &str, aim: u16) -> Option<u32> {
    if hash_tag(name.as_bytes()).is_some() {
        return (slot(name.as_bytes()) == aim).then_some(0);
    }
    // One in 16,384 is of a slot. Digits have no braces.
    let begun = crc16(name.as_bytes());
    let is_it = |number: &u32| crc16_on(begun, number.to_string().as_bytes()) % SLOTS as u16 == aim;
    (0..1_000_000).find(is_it)
}

/// CRC-16/XMODEM, as the specification of Redis Cluster asks for.
fn crc16(bytes: &[u8]) -> u16 {
    crc16_on(0, bytes)
}

/// That of what came before, and these.
fn crc16_on(before: u16, bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = (index as u16) << 8;
            let mut bit = 0;
            while bit < 8 {
                value = (value << 1) ^ if value & 0x8000 == 0 { 0 } else { 0x1021 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    bytes.iter().fold(before, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The nodes and their slots, as far as is known. An address is `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotMap {
    shards: Vec<Shard>,
    /// The index of each slot's shard.
    owners: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shard {
    primary: Arc<str>,
    replicas: Vec<Arc<str>>,
}

impl Default for SlotMap {
    fn default() -> Self {
        Self { shards: Vec::new(), owners: vec![NOBODY; SLOTS] }
    }
}

impl SlotMap {
    /// Reads what `CLUSTER SLOTS` answers; a node that does not tell a host has that of the node
    /// that was asked.
    pub(crate) fn read(answer: &Value, asked: &str) -> Option<Self> {
        let mut map = Self::default();
        for range in list(answer)? {
            let [first, last, primary, replicas @ ..] = list(range)? else { return None };
            let (first, last) = (index(first)?, index(last)?);
            let Some(primary) = address(primary, asked) else { continue };
            let shard = map.shard(primary);
            for replica in replicas.iter().filter_map(|replica| address(replica, asked)) {
                let known = &mut map.shards[usize::from(shard)].replicas;
                if !known.contains(&replica) {
                    known.push(replica);
                }
            }
            map.owners.get_mut(first..=last)?.fill(shard);
        }
        (!map.shards.is_empty()).then_some(map)
    }

    /// The shard of a primary, which may be new.
    fn shard(&mut self, primary: Arc<str>) -> u16 {
        let known = self.shards.iter().position(|shard| shard.primary == primary);
        let shard = known.unwrap_or_else(|| {
            self.shards.push(Shard { primary, replicas: Vec::new() });
            self.shards.len() - 1
        });
        u16::try_from(shard).expect("there are fewer nodes than slots")
    }

    /// A slot has moved.
    pub(crate) fn set_owner(&mut self, slot: u16, address: Arc<str>) {
        let shard = self.shard(address);
        self.owners[usize::from(slot)] = shard;
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Arc<str>> {
        let shard = self.owners.get(usize::from(slot)).filter(|shard| **shard != NOBODY)?;
        Some(&self.shards[usize::from(*shard)].primary)
    }

    /// Who may hear what is published to a slot: its owner, and the replicas of that.
    pub(crate) fn hearers(&self, slot: u16) -> Vec<Arc<str>> {
        let shard = self.owners.get(usize::from(slot)).filter(|shard| **shard != NOBODY);
        shard
            .map(|shard| self.shards[usize::from(*shard)].nodes().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn primaries(&self) -> impl Iterator<Item = &Arc<str>> {
        self.shards.iter().map(|shard| &shard.primary)
    }

    /// All nodes, the primaries first.
    pub(crate) fn nodes(&self) -> Vec<Arc<str>> {
        let replicas = self.shards.iter().flat_map(|shard| &shard.replicas);
        self.primaries().chain(replicas).cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }
}

impl Shard {
    fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }
}

/// Another node is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// It has the slot.
    Moved(u16, Arc<str>),
    /// It may have the key, for this once: the slot is on its way there.
    Ask(Arc<str>),
}

impl Redirect {
    /// Reads an error of the node that was asked.
    pub(crate) fn read(error: &ServerError, asked: &str) -> Option<Self> {
        let mut words = error.details()?.split_ascii_whitespace();
        let slot = words.next()?.parse().ok().filter(|slot| usize::from(*slot) < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let address = joined(host, port, asked);
        match error.kind()? {
            ServerErrorKind::Moved => Some(Self::Moved(slot, address)),
            ServerErrorKind::Ask => Some(Self::Ask(address)),
            _ => None,
        }
    }
}

/// An entry for a node: its host (or nothing), its port, its id and more.
fn address(node: &Value, asked: &str) -> Option<Arc<str>> {
    let [host, port, ..] = list(node)? else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    // A node whose name is not known yet.
    let port = index(port).filter(|_| host != "?")?;
    Some(joined(host, &port.to_string(), asked))
}

fn joined(host: &str, port: &str, asked: &str) -> Arc<str> {
    let own = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    let host = if host.is_empty() { own } else { host };
    format!("{host}:{port}").into()
}

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn index(value: &Value) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"), "empty braces count for nothing");
    }

    #[test]
    fn a_number_makes_a_name_of_a_slot() {
        for aim in [0, 1, 5_000, 16_383] {
            let number = number_for("name#", aim).expect("there is one");
            assert_eq!(slot(format!("name#{number}").as_bytes()), aim);
        }
        let own = slot(b"{all}");
        assert_eq!(number_for("{all}#", own), Some(0));
        assert_eq!(number_for("{all}#", (own + 1) % 16_384), None);
    }

    fn node(host: &str, port: i64) -> Value {
        let host = if host.is_empty() { Value::Nil } else { Value::BulkString(host.into()) };
        Value::Array(vec![host, Value::Int(port), Value::BulkString("id".into())])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    #[test]
    fn the_answer_is_read_and_what_has_moved_is_noted() {
        let answer = Value::Array(vec![
            range(0, 99, vec![node("a", 1), node("b", 2), node("?", 3)]),
            range(100, 100, vec![node("", 7)]),
            range(200, 16_383, vec![node("a", 1)]),
        ]);
        let mut map = SlotMap::read(&answer, "asked:6").expect("it is an answer");
        let owner = |map: &SlotMap, slot| map.owner(slot).map(|owner| owner.to_string());
        assert_eq!(owner(&map, 0).as_deref(), Some("a:1"));
        assert_eq!(owner(&map, 100).as_deref(), Some("asked:7"));
        assert_eq!(owner(&map, 101), None);
        assert_eq!(owner(&map, 16_383).as_deref(), Some("a:1"));
        assert_eq!(map.hearers(5).join(" "), "a:1 b:2");
        assert_eq!(map.nodes().join(" "), "a:1 asked:7 b:2");
        map.set_owner(5, "c:4".into());
        assert_eq!(map.hearers(5).join(" "), "c:4");
        assert_eq!(map.primaries().count(), 3);
        for wrong in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![range(0, 16_384, vec![node("a", 1)])]),
        ] {
            assert_eq!(SlotMap::read(&wrong, "asked:6"), None);
        }
    }
}
