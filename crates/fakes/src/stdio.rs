//! The stdio port: a session for each run; what a test says is what attached clients hear.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{
    ContainerId, Error, Result,
    log::Stream,
    ports::{AttachRequest, AttachStreams, BoxStream, OutputChunk, Stdio, StdioPaths, StdioSetup},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::Fakes;

#[async_trait]
impl Stdio for Fakes {
    async fn open(&self, setup: &StdioSetup) -> Result<StdioPaths> {
        self.calls.pass("stdio.open")?;
        self.world().sessions.insert(setup.id.clone(), setup.clone());
        let path = |name: &str| format!("/run/fake/{}/{name}", setup.id);
        Ok(StdioPaths { stdin: path("stdin"), stdout: path("stdout"), stderr: path("stderr") })
    }

    async fn adopt(&self, setup: &StdioSetup) -> Result<()> {
        self.calls.pass("stdio.adopt")?;
        self.world().sessions.insert(setup.id.clone(), setup.clone());
        Ok(())
    }

    async fn attach(&self, id: &ContainerId, _: &AttachRequest) -> Result<AttachStreams> {
        self.calls.pass("stdio.attach")?;
        let mut world = self.world();
        if !world.sessions.contains_key(id) {
            return Err(Error::not_found(format!("{id} has no companion")));
        }
        let (sender, output) = mpsc::unbounded_channel();
        world.attached.entry(id.clone()).or_default().push(sender);
        let output = UnboundedReceiverStream::new(output).map(Ok).boxed();
        Ok(AttachStreams { log_position: Some(0), output, stdin: None })
    }

    async fn drained(&self, _: &ContainerId) -> Result<()> {
        self.calls.pass("stdio.drained")
    }

    async fn close(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("stdio.close").await?;
        let mut world = self.world();
        world.sessions.remove(id);
        world.attached.remove(id);
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<ContainerId>> {
        self.calls.pass("stdio.sessions")?;
        Ok(self.world().sessions.keys().cloned().collect())
    }

    fn deaths(&self) -> BoxStream<ContainerId> {
        let (sender, deaths) = mpsc::unbounded_channel();
        self.world().deaths.push(sender);
        UnboundedReceiverStream::new(deaths).boxed()
    }

    fn stdin_ends(&self) -> BoxStream<ContainerId> {
        futures::stream::pending().boxed()
    }
}

impl Fakes {
    /// The container writes to its standard output.
    pub fn say(&self, id: &ContainerId, text: &str) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        for client in self.world().attached.get(id).into_iter().flatten() {
            // A client that is gone hears nothing.
            let _ = client.send(OutputChunk { stream: Stream::Stdout, data: data.clone() });
        }
    }

    /// All ports as the engine wants them, each a clone of this.
    pub fn shared(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }
}
