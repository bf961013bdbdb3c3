//! How files are opened, and who may read them.

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; one that exists is an error.
    CreateNew,
}

/// Who may read a file or directory that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// 0600, and 0700 for directories.
    Owner,
    /// 0644, and 0755 for directories.
    Everyone,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceType {
    Directory,
    /// A regular file, or a FIFO.
    File,
    Socket,
    CharDevice,
    BlockDevice,
}
