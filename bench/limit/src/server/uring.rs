//! Broadcasts through io_uring in place of write(2): a batch of sends for one system call.
//! Does not know what is sent; what the ring could not send is written or closed as elsewhere.
use super::Server;
use std::os::fd::RawFd;

/// Sends that are submitted at a time.
const BATCH: usize = 4096;

/// `files`: the length of the table of registered files, if there is to be one.
pub(super) fn ring(files: Option<u32>) -> io_uring::IoUring {
    let r = io_uring::IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(BATCH as u32)
        .or_else(|_| io_uring::IoUring::new(BATCH as u32))
        .expect("io_uring");
    if let Some(files) = files {
        r.submitter().register_files_sparse(files).expect("sparse file table");
    }
    r
}

impl Server {
    /// Puts `file` (-1: none) where the ring looks for the connection `fd`.
    pub(super) fn register(&self, fd: RawFd, file: RawFd) {
        if self.fixed
            && let Some(r) = &self.ring
        {
            let _ = r.submitter().register_files_update(fd as u32, &[file]);
        }
    }

    pub(super) fn bcast_uring(&mut self, data: &[u8], zdata: &[u8]) {
        let mut failed: Vec<(RawFd, i32)> = Vec::new();
        let n = self.members.len();
        let mut i = 0;
        while i < n {
            let ring = self.ring.as_mut().unwrap();
            let stop = (i + BATCH).min(n);
            let mut queued = 0;
            {
                let mut sq = ring.submission();
                for &fd in &self.members[i..stop] {
                    let c = &self.conns[fd as usize];
                    let d = if c.deflate { zdata } else { data };
                    if c.slow.as_ref().is_some_and(|s| !s.out.is_empty()) {
                        failed.push((fd, 0));
                        continue;
                    }
                    let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
                    let e = if self.fixed {
                        io_uring::opcode::Send::new(
                            io_uring::types::Fixed(fd as u32),
                            d.as_ptr(),
                            d.len() as u32,
                        )
                        .flags(flags)
                        .build()
                    } else {
                        io_uring::opcode::Send::new(
                            io_uring::types::Fd(fd),
                            d.as_ptr(),
                            d.len() as u32,
                        )
                        .flags(flags)
                        .build()
                    };
                    let e = e.flags(io_uring::squeue::Flags::SKIP_SUCCESS).user_data(fd as u64);
                    unsafe { sq.push(&e).unwrap() };
                    queued += 1;
                }
            }
            if queued > 0 {
                ring.submit().expect("io_uring_enter");
            }
            for c in ring.completion() {
                failed.push((c.user_data() as RawFd, c.result()));
            }
            i = stop;
        }
        for (fd, res) in failed {
            let d = if self.conns[fd as usize].deflate { zdata } else { data };
            if res >= 0 {
                self.write(fd, &d[res as usize..]);
            } else if -res == libc::EAGAIN {
                self.write(fd, d);
            } else {
                self.close(fd);
            }
        }
    }
}
