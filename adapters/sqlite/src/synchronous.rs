//! Whether a commit waits for the disk.

/// What a commit waits for before it is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Until it is on the disk: what was answered outlives a power failure.
    #[default]
    Full,
    /// For nothing: what was answered outlives the process, but not the machine, and after a power failure the file may
    /// be **damaged**. Only for tests, and for data that may be thrown away.
    Off,
}

impl Synchronous {
    /// As SQLite calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Off => "OFF",
        }
    }
}
