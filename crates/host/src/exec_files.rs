//! Notes of running execs, one file each under the run directory.

use std::path::PathBuf;

use async_trait::async_trait;
use gantry_domain::{ExecId, Result, container::record::ExecRecord, ports::ExecFiles};

/// `<exec_root>/execs/<id>.json`; not synced, for a boot ends every exec.
pub struct ExecNotes {
    folder: PathBuf,
}

impl ExecNotes {
    pub fn new(exec_root: &std::path::Path) -> Self {
        Self { folder: exec_root.join("execs") }
    }

    fn path(&self, id: &ExecId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

#[async_trait]
impl ExecFiles for ExecNotes {
    async fn put(&self, record: &ExecRecord) -> Result<()> {
        let bytes = serde_json::to_vec(record).expect("an exec's record is plain data");
        tokio::fs::create_dir_all(&self.folder).await?;
        // Whole or not at all: a note that is cut off would be skipped, and its exec forgotten.
        let part = self.folder.join(format!("{}.part", record.id));
        tokio::fs::write(&part, bytes).await?;
        Ok(tokio::fs::rename(&part, self.path(&record.id)).await?)
    }

    async fn remove(&self, id: &ExecId) -> Result<()> {
        match tokio::fs::remove_file(self.path(id)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<ExecRecord>> {
        let mut entries = match tokio::fs::read_dir(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut records = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            if entry.path().extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = tokio::fs::read(entry.path()).await.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            match read {
                Some(record) => records.push(record),
                None => tracing::warn!(path = %entry.path().display(), "an exec's note cannot be read: skipped"),
            }
        }
        Ok(records)
    }
}
