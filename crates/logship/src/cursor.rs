//! How far a log was delivered, by what rotation and compression do not change: the time of the last entry, and how many
//! entries of that very time were delivered.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Nanoseconds since the epoch.
    pub at: i64,
    pub count: u64,
}

#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    pub place: Option<Place>,
}

impl Cursor {
    /// One that is not there, or cannot be read, is at the beginning: twice is better than never.
    pub fn open(path: &Path) -> Self {
        let place = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path: path.to_owned(), place }
    }

    pub fn advance(&mut self, at: i64) {
        self.place = match self.place {
            Some(place) if place.at == at => Some(Place { at, count: place.count + 1 }),
            _ => Some(Place { at, count: 1 }),
        };
    }

    pub fn save(&self) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        let new = self.path.with_extension("new");
        fs::write(&new, serde_json::to_vec(place)?)?;
        fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_of_one_time_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("delivered");
        let mut cursor = Cursor::open(&path);
        assert_eq!(cursor.place, None);
        [5, 5, 7, 7, 7].into_iter().for_each(|at| cursor.advance(at));
        cursor.save().unwrap();
        assert_eq!(Cursor::open(&path).place, Some(Place { at: 7, count: 3 }));
    }
}
