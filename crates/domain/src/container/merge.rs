//! How an image's config fills what a request left open (dockerd's `merge`).

use super::Config;
use crate::{Result, image::ImageRunConfig};

/// Fills `config` from the image. `InvalidParameter` for a malformed exposed port of the image.
pub fn merge(_config: &mut Config, _image: &ImageRunConfig) -> Result<()> {
    todo!()
}
