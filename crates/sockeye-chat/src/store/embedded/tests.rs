//! The store on a disk that is kept in memory, counts its fsyncs and fails when it is told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::*;

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Sectors>);

#[derive(Debug, Default)]
struct Sectors {
    bytes: Mutex<Vec<u8>>,
    syncs: AtomicUsize,
    is_full: AtomicBool,
}

impl Disk {
    fn store(&self) -> Embedded {
        let disk = self.clone();
        let open = move || Ok(Database::builder().create_with_backend(disk.clone())?);
        Embedded::with(open().expect("a file"), open, 1000).expect("a store")
    }

    fn syncs(&self) -> usize {
        self.0.syncs.load(Ordering::Relaxed)
    }

    fn set_full(&self, is_full: bool) {
        self.0.is_full.store(is_full, Ordering::Relaxed);
    }

    fn has_space(&self) -> io::Result<()> {
        match self.0.is_full.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).expect("a small file");
        out.copy_from_slice(&self.0.bytes.lock()[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.has_space()?;
        self.0.bytes.lock().resize(usize::try_from(len).expect("a small file"), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.has_space()?;
        let from = usize::try_from(offset).expect("a small file");
        self.0.bytes.lock()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn message(text: &str) -> Message {
    let (username, room) = ("ann".into(), "lobby".into());
    Message { id: 0, username, text: text.into(), room, timestamp: 0 }
}

async fn append(store: &Embedded, text: &str) -> Result<u64> {
    Ok(store.append(message(text), None, |_| {}).await?.id)
}

fn texts(store: &Embedded) -> Vec<String> {
    let history = store.history("lobby", 100).expect("a history");
    history.into_iter().map(|message| message.text).collect()
}

fn session(username: &str, rooms: &[&str], ended_at: Option<u64>) -> Session {
    let rooms = rooms.iter().map(|room| (*room).to_owned()).collect();
    Session { username: username.into(), rooms, ended_at }
}

#[tokio::test]
async fn messages_that_come_while_one_is_written_share_one_fsync() {
    const COUNT: usize = 500;
    let disk = Disk::default();
    let store = disk.store();
    let (go_on, gate) = channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    // The thread is busy until all of them have come.
    let writer = store.writer.clone();
    let job = move |_: &WriteTransaction| {
        begun.send(()).expect("somebody waits");
        Ok(gate.recv()?)
    };
    let busy = tokio::spawn(async move { writer.write(job).await });
    has_begun.await.expect("it has begun");
    let before = disk.syncs();
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut appends = tokio::task::JoinSet::new();
    let come = Arc::new(AtomicUsize::new(0));
    for number in 0..COUNT {
        let (store, told, come) = (store.clone(), told.clone(), come.clone());
        appends.spawn(async move {
            come.fetch_add(1, Ordering::Relaxed);
            let written = move |message: &Message| told.lock().push(message.id);
            store.append(message(&number.to_string()), None, written).await.expect("written").id
        });
    }
    while come.load(Ordering::Relaxed) < COUNT {
        tokio::task::yield_now().await;
    }
    go_on.send(()).expect("the thread waits");
    busy.await.expect("done").expect("written");
    let mut ids = appends.join_all().await;
    ids.sort_unstable();
    let all: Vec<u64> = (1..=COUNT as u64).collect();
    assert_eq!(ids, all);
    assert_eq!(*told.lock(), all, "in the order of their ids");
    // One for the transaction, and one where the file grows.
    assert!((1..=2).contains(&(disk.syncs() - before)));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_not_the_end() {
    let disk = Disk::default();
    let store = disk.store();
    append(&store, "before").await.expect("written");
    disk.set_full(true);
    let told = Arc::new(AtomicBool::new(false));
    let tells = told.clone();
    let lost = store.append(message("lost"), None, move |_| tells.store(true, Ordering::Relaxed));
    lost.await.expect_err("the disk is full");
    assert!(!told.load(Ordering::Relaxed), "what is not on the disk is told to nobody");
    assert!(!store.is_well());
    append(&store, "lost as well").await.expect_err("the disk is full");
    disk.set_full(false);
    // Nobody writes: the store finds out by itself.
    while !store.is_well() {
        tokio::task::yield_now().await;
    }
    append(&store, "after").await.expect("written");
    assert_eq!(texts(&store), ["before", "after"]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_no_other() {
    let disk = Disk::default();
    let store = disk.store();
    for text in ["one", "two", "three"] {
        append(&store, text).await.expect("written");
    }
    store.add_session("broken".into(), session("ann", &[], None)).await.expect("written");
    let corrupt = |transaction: &WriteTransaction| {
        transaction.open_table(MESSAGES)?.insert(("lobby", 2), b"{".as_slice())?;
        transaction.open_table(SESSIONS)?.insert("broken", b"{".as_slice())?;
        transaction.open_table(SIGN_INS)?.insert("broken", b"{".as_slice())?;
        Ok(())
    };
    store.writer.write(corrupt).await.expect("written");
    assert_eq!(texts(&store), ["one", "three"]);
    store.add_session("new".into(), session("ann", &[], None)).await.expect("written");
    let moved = store.move_session("broken".into(), "new".into(), 0).await.expect("an answer");
    assert_eq!(moved, None);
    let new = SignIn { username: String::new(), token_hash: "new".into(), expires_at: 9 };
    let rotated = store.rotate("broken".into(), "old".into(), new, 1).await.expect("an answer");
    assert_eq!(rotated, None);
    drop(store);
    // Sessions are looked through when the file is opened.
    assert_eq!(texts(&disk.store()), ["one", "three"]);
}

#[tokio::test]
async fn a_session_moves_once_and_to_its_own_user() {
    let store = Disk::default().store();
    for (key, session) in [
        ("old", session("ann", &["a", "b"], Some(500))),
        ("late", session("ann", &["c"], Some(100))),
        ("live", session("ann", &["d"], None)),
        ("new", session("ann", &["a"], None)),
        ("other", session("ben", &[], None)),
    ] {
        store.add_session(key.into(), session).await.expect("written");
    }
    let mover = store.clone();
    let moved = async |from: &str, to: &str| {
        mover.move_session(from.into(), to.into(), 100).await.expect("an answer")
    };
    let rooms = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(moved("old", "other").await, None, "another user's");
    assert_eq!(moved("new", "new").await, None, "its own");
    assert_eq!(moved("old", "new").await, rooms(&["a", "b"]), "the failed ones used nothing up");
    assert_eq!(moved("old", "new").await, None, "used");
    assert_eq!(moved("late", "new").await, None, "expired");
    assert_eq!(moved("live", "new").await, rooms(&["d"]), "its connection is not known to be dead");
    let saved = store.save_session("live".into(), session("ann", &["e"], Some(600)));
    saved.await.expect("passed over");
    assert_eq!(moved("live", "new").await, None, "its end does not bring it back");
    let last = session("ann", &[], None);
    store.add_session("last".into(), last).await.expect("written");
    assert_eq!(moved("new", "last").await, rooms(&["a", "b", "d"]), "nothing twice");
}

#[tokio::test]
async fn a_key_makes_one_message() {
    let store = Disk::default().store();
    let send = async |text: &str, room: &str, key: &str| {
        let message = Message { room: room.into(), ..message(text) };
        store.append(message, Some(key.into()), |_| {}).await.expect("written")
    };
    let first = send("one", "lobby", "k").await;
    assert_eq!(send("another text", "lobby", "k").await, first);
    assert_ne!(send("two", "lobby", "l").await.id, first.id);
    assert_ne!(send("elsewhere", "hall", "k").await.id, first.id);
    let bens = Message { username: "ben".into(), ..message("ben's") };
    let bens = store.append(bens, Some("k".into()), |_| {}).await.expect("written");
    assert_ne!(bens.id, first.id);
    assert_eq!(texts(&store), ["one", "two", "ben's"]);
}

#[tokio::test]
async fn a_sweep_removes_what_has_ended_and_writes_only_then() {
    let disk = Disk::default();
    let store = disk.store();
    let now = 3 * DAY_MS / 1000;
    let ended = |transaction: &WriteTransaction| {
        let ended = session("ann", &[], Some(100));
        (0..SWEPT_AT_ONCE + 10)
            .try_for_each(|number| put_session(transaction, &format!("ended {number}"), &ended))
    };
    store.writer.write(ended).await.expect("written");
    for (key, expires_at) in [("ended", now), ("open", now + 1)] {
        let sign_in = SignIn { username: "ann".into(), token_hash: key.into(), expires_at };
        store.add_sign_in(key.into(), sign_in).await.expect("written");
    }
    store.add_session("open".into(), session("ann", &[], Some(101))).await.expect("written");
    store.add_session("live".into(), session("ann", &[], None)).await.expect("written");
    let sent = |transaction: &WriteTransaction| {
        let mut sent = transaction.open_table(SENT)?;
        for day in 0..4 {
            sent.insert((day, "ann", "lobby", "k"), 1)?;
        }
        Ok(())
    };
    store.writer.write(sent).await.expect("written");
    store.sweep(100, now).await.expect("swept");
    let left = store.read(|transaction| {
        let sessions = transaction.open_table(SESSIONS)?;
        let sign_ins = transaction.open_table(SIGN_INS)?;
        let mut keys = Vec::new();
        for row in sessions.iter()?.chain(sign_ins.iter()?) {
            keys.push(row?.0.value().to_owned());
        }
        for row in transaction.open_table(SENT)?.iter()? {
            keys.push(row?.0.value().0.to_string());
        }
        Ok(keys)
    });
    assert_eq!(left.expect("read"), ["live", "open", "open", "2", "3"]);
    let before = disk.syncs();
    store.sweep(100, now).await.expect("swept");
    assert_eq!(disk.syncs(), before);
}

#[tokio::test]
async fn a_made_up_refresh_token_costs_no_fsync() {
    let disk = Disk::default();
    let store = disk.store();
    let before = disk.syncs();
    let new = SignIn { username: String::new(), token_hash: String::new(), expires_at: 9 };
    let rotated = store.rotate("made up".into(), "x".into(), new, 1).await;
    assert_eq!(rotated.expect("an answer"), None);
    store.end_sign_in("made up".into()).await.expect("an answer");
    assert_eq!(disk.syncs(), before);
}

#[tokio::test]
async fn a_thread_that_panics_leaves_the_store_unwell() {
    let store = Disk::default().store();
    assert!(store.is_well());
    let panics = store.writer.write(|_| -> Result<()> { panic!("a defect") });
    panics.await.expect_err("no answer");
    while store.is_well() {
        tokio::task::yield_now().await;
    }
    append(&store, "anything").await.expect_err("nobody writes");
}

#[test]
fn a_file_has_one_server_and_one_reader() {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::env::temp_dir().join(format!("sockeye-chat-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let first = Embedded::open(&folder, 0).expect("a store");
    let error = Embedded::open(&folder, 0).err().expect("it is in use").to_string();
    let mode = std::fs::metadata(folder.join("chat.redb")).expect("there").permissions().mode();
    drop(first);
    std::fs::remove_dir_all(&folder).expect("removed");
    assert!(error.contains("chat.redb is in use by another server"), "{error}");
    assert_eq!(mode & 0o777, 0o600);
}
