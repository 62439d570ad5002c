//! What the tar reader takes and refuses.
