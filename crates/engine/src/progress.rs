//! How far long work on a file has come, told to whoever shows it.

/// A step of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is done: `downloading`, `checking`, `digesting`.
    pub doing: &'static str,
    /// The file it is done to.
    pub name: &'a str,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Who is told.
pub type Tell<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);
