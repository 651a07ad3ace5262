//! Memory, counted by an allocator that stands in front of the system's: what a machine holds is
//! measured, not believed.

/// Runs `work` and returns how many bytes more (or fewer) its thread holds afterwards, and the
/// most it held on the way.
pub fn measure(work: impl FnOnce()) -> Heap {
    let info = allocation_counter::measure(work);
    Heap { held: info.bytes_current, most: info.bytes_max }
}

/// What [`measure`] counted, in bytes beyond what was held before.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Held afterwards; negative where memory was freed.
    pub held: i64,
    /// Held at the most at one time, growing buffers with their copies.
    pub most: u64,
}
