//! One file that is read, and where.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// As much as is read at once.
const CHUNK: usize = 256 << 10;

/// The last bytes that were read: if they are others, the file was overwritten.
const FINGERPRINT: usize = 64;

/// A file that is open stays readable when it is renamed or deleted.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    offset: u64,
    fingerprint: Vec<u8>,
}

/// Device and inode.
pub(super) type FileId = (u64, u64);

pub(super) enum Chunk {
    Bytes(Vec<u8>),
    End,
    /// It is shorter than what was read, or has other content there.
    Overwritten,
}

pub(super) fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

impl OpenFile {
    /// A regular file: opening others can block or do worse.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let check = |metadata: &Metadata| {
            let error = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            metadata.is_file().then_some(()).ok_or_else(error)
        };
        check(&fs::metadata(path)?)?;
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
        let metadata = file.metadata()?;
        check(&metadata)?;
        let id = id(&metadata);
        Ok(Self { file, path: path.to_owned(), id, offset: 0, fingerprint: Vec::new() })
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// What was not read yet.
    pub(super) fn unread(&self) -> io::Result<u64> {
        Ok(self.len()?.saturating_sub(self.offset))
    }

    /// Starts this many bytes before the end.
    pub(super) fn seek_back(&mut self, bytes: u64) -> io::Result<()> {
        self.offset = self.len()?.saturating_sub(bytes);
        self.fingerprint.clear();
        Ok(())
    }

    pub(super) const fn is_at_start(&self) -> bool {
        self.offset == 0
    }

    pub(super) fn rewind(&mut self) {
        self.offset = 0;
        self.fingerprint.clear();
    }

    /// Reads on.
    pub(super) fn read(&mut self) -> io::Result<Chunk> {
        let length = self.len()?;
        if length < self.offset {
            return Ok(Chunk::Overwritten);
        }
        let known = self.fingerprint.len();
        let from = self.offset.saturating_sub(known as u64);
        // Most often there is nothing new.
        let wanted = usize::try_from(length - from).unwrap_or(CHUNK);
        let mut buffer = vec![0; wanted.clamp(known + 1, CHUNK)];
        let length = loop {
            match self.file.read_at(&mut buffer, from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        buffer.truncate(length);
        if !buffer.starts_with(&self.fingerprint) {
            return Ok(Chunk::Overwritten);
        }
        let keep = buffer.len().saturating_sub(FINGERPRINT);
        let bytes = buffer.split_off(known);
        if bytes.is_empty() {
            return Ok(Chunk::End);
        }
        buffer.extend_from_slice(&bytes);
        self.fingerprint = buffer.split_off(keep.min(buffer.len()));
        self.offset += bytes.len() as u64;
        Ok(Chunk::Bytes(bytes))
    }
}
