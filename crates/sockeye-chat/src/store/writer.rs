//! The one thread that writes, and the file as others may read it meanwhile.
//! Does not know what is written.
//!
//! The thread takes what has come while it was busy into one transaction, so many writes share
//! one fsync. When the disk has failed once, redb answers nothing any more from this file; the
//! thread then opens it again, which brings back what was committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use super::COUNTERS;

/// The writes that one transaction takes at the most.
const GROUP_MAX: usize = 1024;
/// After a failure it is tried again so often whether the disk takes something, also when nobody
/// writes: a server that is not ready gets no work.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&WriteTransaction) -> Done + Send>;
/// Answers a job once its transaction is on the disk, or is not.
type Done = Box<dyn FnOnce(bool) + Send>;

/// The handle of the thread; it ends with the last handle.
#[derive(Clone)]
pub(super) struct Writer {
    file: Arc<File>,
    jobs: Sender<Job>,
}

struct File {
    open: Box<dyn Fn() -> Result<Database> + Send + Sync>,
    /// `None` where it could not be opened again.
    database: RwLock<Option<Database>>,
    is_well: AtomicBool,
}

impl Writer {
    /// Begins to write to `database`; `open` opens it again.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(
        database: Database,
        open: impl Fn() -> Result<Database> + Send + Sync + 'static,
    ) -> Result<Self> {
        let file = Arc::new(File {
            open: Box::new(open),
            database: RwLock::new(Some(database)),
            is_well: AtomicBool::new(true),
        });
        let (jobs, waiting) = channel();
        let writes_to = file.clone();
        let thread = std::thread::Builder::new().name("store".into());
        thread.spawn(move || write_all(&writes_to, &waiting))?;
        Ok(Self { file, jobs })
    }

    /// Whether the last transaction was written.
    pub(super) fn is_well(&self) -> bool {
        self.file.is_well.load(Ordering::Acquire)
    }

    /// The data as the last transaction left it.
    ///
    /// # Errors
    /// The disk has failed.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction> {
        // Who opens it again holds the lock for as long as that takes.
        let database = self.file.database.try_read();
        let database = database.as_deref().and_then(Option::as_ref);
        Ok(database.context("the file is being opened again")?.begin_read()?)
    }

    /// Has the thread find out whether the disk has failed.
    pub(super) fn check(&self) {
        // Where the thread has ended there is nothing to find out.
        let _ = self.jobs.send(Box::new(probe));
    }

    /// Runs a job in the next transaction, and returns when that is on the disk. What a job
    /// has written stays even if it then fails: it does what can fail first.
    ///
    /// # Errors
    /// The job's own, or the transaction was not written.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_then(job, |_| {}).await
    }

    /// As [`write`](Self::write); calls `written` in the thread once it is on the disk, before
    /// the jobs after it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) async fn write_then<T: Send + 'static>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T> + Send + 'static,
        written: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (answer, waiting) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let result = job(transaction);
            Box::new(move |committed| {
                let result = match result {
                    Ok(_) if !committed => Err(anyhow!("the data could not be written")),
                    result => result.inspect(written),
                };
                // Nobody waits any more where the client has gone.
                let _ = answer.send(result);
            })
        });
        self.jobs.send(job).map_err(|_| anyhow!("the store has ended"))?;
        waiting.await.context("the data could not be written")?
    }
}

/// The thread.
fn write_all(file: &File, jobs: &Receiver<Job>) {
    let _unwell_at_the_end = Unwell(file);
    while let Some(first) = next(file, jobs) {
        let mut done: Vec<Done> = Vec::new();
        let begun = Instant::now();
        let written = write_group(file, first, jobs, &mut done);
        metrics::histogram!("chat_store_transaction_seconds").record(begun.elapsed());
        metrics::counter!("chat_store_writes_total").increment(done.len() as u64);
        let committed = written.is_ok();
        file.is_well.store(committed, Ordering::Release);
        done.into_iter().for_each(|answer| answer(committed));
        if let Err(error) = written {
            metrics::counter!("chat_store_failures_total").increment(1);
            tracing::error!(error = format!("{error:#}"), "a transaction was not written");
            file.open_again();
        }
    }
}

fn next(file: &File, jobs: &Receiver<Job>) -> Option<Job> {
    if file.is_well.load(Ordering::Acquire) {
        return jobs.recv().ok();
    }
    match jobs.recv_timeout(PROBE_INTERVAL) {
        Ok(job) => Some(job),
        Err(RecvTimeoutError::Timeout) => Some(Box::new(probe)),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

fn write_group(file: &File, first: Job, jobs: &Receiver<Job>, done: &mut Vec<Done>) -> Result<()> {
    let transaction = file.begin_write()?;
    done.push(first(&transaction));
    done.extend(jobs.try_iter().take(GROUP_MAX - 1).map(|job| job(&transaction)));
    Ok(transaction.commit()?)
}

impl File {
    fn begin_write(&self) -> Result<WriteTransaction> {
        let begin = || {
            let database = self.database.read();
            Ok(database.as_ref().context("the file is not open")?.begin_write()?)
        };
        begin().or_else(|_: anyhow::Error| {
            // A read may have met the failure.
            self.open_again();
            begin()
        })
    }

    fn open_again(&self) {
        let mut database = self.database.write();
        // Two may not have it open.
        *database = None;
        match (self.open)() {
            Ok(opened) => *database = Some(opened),
            Err(error) => tracing::error!(error = format!("{error:#}"), "the file stays closed"),
        }
    }
}

/// Writes something: a transaction of nothing asks nothing of the disk.
fn probe(transaction: &WriteTransaction) -> Done {
    let write = || -> Result<()> {
        let mut counters = transaction.open_table(COUNTERS)?;
        let probes = counters.get("probes")?.map_or(0, |row| row.value());
        counters.insert("probes", probes.wrapping_add(1))?;
        Ok(())
    };
    // The transaction fails where this does.
    let _ = write();
    Box::new(|_| {})
}

/// Should the thread panic, the server is not ready any more.
struct Unwell<'a>(&'a File);

impl Drop for Unwell<'_> {
    fn drop(&mut self) {
        self.0.is_well.store(false, Ordering::Release);
    }
}
