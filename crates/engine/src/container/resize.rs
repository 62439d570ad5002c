//! `POST /containers/{id}/resize`: rows and columns of the terminal.

use std::time::Duration;

use gantry_domain::Result;

use crate::{Engine, parts::within};

/// A shim that hangs does not hold the client.
const LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    pub async fn container_resize(&self, name: &str, height: u32, width: u32) -> Result<()> {
        let handle = self.parts.container(name)?;
        let snapshot = handle.snapshot();
        snapshot.may_resize()?;
        let resized = self.parts.ports.runtime.resize(&handle.id, None, height, width);
        within(LIMIT, "resizing the terminal", resized).await?;
        let size = [("height", height.to_string()), ("width", width.to_string())];
        let event = super::owner::container_event(&snapshot.record, "resize".into(), &size, jiff::Timestamp::now());
        self.parts.events.publish(event);
        Ok(())
    }
}
