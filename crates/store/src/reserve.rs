//! A file that only takes up room, so that removals can still be recorded on a full disk (T55).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

const SIZE: u64 = 1 << 20;

/// While it is given up, only removals may be written; anything else first has to get it back.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    pub fn open(root: &Path) -> Self {
        let mut reserve = Self { path: root.join("reserve"), held: false };
        reserve.held = fs::metadata(&reserve.path).is_ok_and(|meta| meta.len() >= SIZE);
        if let Err(error) = reserve.take() {
            tracing::warn!(%error, "no room for the store's reserve");
        }
        reserve
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes the room, when it is not held.
    pub fn take(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        let file = fs::File::create(&self.path)?;
        let filled = match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Err(rustix::io::Errno::OPNOTSUPP) => io::Write::write_all(&mut &file, &vec![0; SIZE as usize]),
            other => other.map_err(io::Error::from),
        };
        if let Err(error) = filled {
            let _ = fs::remove_file(&self.path);
            return Err(error);
        }
        self.held = true;
        Ok(())
    }

    /// Gives the room up; whether there was any.
    pub fn release(&mut self) -> bool {
        let had = std::mem::take(&mut self.held);
        had && fs::remove_file(&self.path).is_ok()
    }
}
