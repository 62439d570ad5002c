//! Every operation of Docker's API: each group opens with its route table.

mod container;
mod container_archive;
mod container_stats;
mod container_streams;
mod container_update;
mod distribution;
mod exec;
mod image;
mod image_commit;
mod image_transfer;
mod network;
mod plugin;
mod swarm;
mod system;
mod unbuilt;
mod volume;

use crate::route::Route;

/// All 122 operations, in the order of Docker's own description.
pub fn all() -> Vec<Route> {
    [
        container::routes(),
        container_archive::routes(),
        container_stats::routes(),
        container_streams::routes(),
        container_update::routes(),
        exec::routes(),
        image::routes(),
        image_transfer::routes(),
        image_commit::routes(),
        distribution::routes(),
        system::routes(),
        volume::routes(),
        network::routes(),
        plugin::routes(),
        swarm::routes(),
        unbuilt::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
