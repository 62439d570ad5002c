//! Hostile and ordinary layers.
