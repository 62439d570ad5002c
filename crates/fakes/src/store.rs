//! The store port: records in maps; an older generation never replaces a newer one.

use async_trait::async_trait;
use gantry_domain::{
    Error, Result,
    ports::{Loaded, Store, Write},
};

use crate::{Fakes, world::Records};

#[async_trait]
impl Store for Fakes {
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        self.calls.pass(name_of(writes.first()))?;
        let mut world = self.world();
        for write in &writes {
            check(&world.records, write)?;
        }
        for write in writes {
            apply(&mut world.records, write);
        }
        Ok(())
    }

    async fn load(&self) -> Result<Loaded> {
        self.calls.pass("store.load")?;
        let mut world = self.world();
        let damage = std::mem::take(&mut world.records.damage);
        let records = &world.records;
        Ok(Loaded {
            containers: records.containers.values().cloned().collect(),
            container_tombstones: records.container_tombstones.iter().cloned().collect(),
            volumes: records.volumes.values().cloned().collect(),
            volume_tombstones: records.volume_tombstones.iter().cloned().collect(),
            debts: records.debts.values().cloned().collect(),
            networks: records.networks.values().cloned().collect(),
            network_tombstones: records.network_tombstones.iter().cloned().collect(),
            kept: records.kept.clone(),
            damage,
        })
    }

    async fn put_cache(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let mut world = self.world();
        if value.is_empty() {
            world.cache.remove(key);
        } else {
            world.cache.insert(key.to_owned(), value);
        }
        Ok(())
    }

    async fn get_cache(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.world().cache.get(key).cloned())
    }

    async fn flush(&self) -> Result<()> {
        self.calls.pass("store.flush")
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Calls bear the kind of what is written first, so that a test can order the failure of one of them.
fn name_of(write: Option<&Write>) -> &'static str {
    match write {
        Some(Write::Container(_)) => "store.commit container",
        Some(Write::ContainerTombstone { .. }) => "store.commit tombstone",
        Some(Write::ContainerGone { .. }) => "store.commit gone",
        Some(Write::Volume(_)) => "store.commit volume",
        Some(Write::VolumeTombstone { .. }) => "store.commit volume tombstone",
        Some(Write::VolumeGone { .. }) => "store.commit volume gone",
        Some(Write::Debt(_)) => "store.commit debt",
        Some(Write::DebtGone { .. }) => "store.commit debt gone",
        Some(_) => "store.commit network",
        None => "store.commit nothing",
    }
}

fn check(records: &Records, write: &Write) -> Result<()> {
    let record = match write {
        Write::Container(record) => record,
        Write::Debt(debt) => {
            let known = records.debts.get(&debt.id).map_or(0, |known| known.generation);
            let older = debt.generation < known;
            return if older { Err(Error::conflict("the debt was changed meanwhile")) } else { Ok(()) };
        }
        _ => return Ok(()),
    };
    let known = records.containers.get(&record.id).map_or(0, |known| known.generation);
    if records.container_tombstones.contains(&record.id) {
        return Err(Error::conflict("the container is being removed"));
    }
    if record.generation <= known {
        return Err(Error::conflict(format!("generation {} is not newer than {known}", record.generation)));
    }
    Ok(())
}

fn apply(records: &mut Records, write: Write) {
    match write {
        Write::Container(record) => {
            records.containers.insert(record.id.clone(), *record);
        }
        Write::ContainerTombstone { id } => {
            records.containers.remove(&id);
            records.container_tombstones.insert(id);
        }
        Write::ContainerGone { id } => {
            records.containers.remove(&id);
            records.container_tombstones.remove(&id);
        }
        Write::Volume(record) => {
            records.volumes.insert(record.name.clone(), record);
        }
        Write::VolumeTombstone { name } => {
            records.volumes.remove(&name);
            records.volume_tombstones.insert(name);
        }
        Write::VolumeGone { name } => {
            records.volumes.remove(&name);
            records.volume_tombstones.remove(&name);
        }
        Write::Network(record) => {
            records.networks.insert(record.id.clone(), record);
        }
        Write::NetworkTombstone { id } => {
            records.networks.remove(&id);
            records.network_tombstones.insert(id);
        }
        Write::NetworkGone { id } => {
            records.networks.remove(&id);
            records.network_tombstones.remove(&id);
        }
        Write::Debt(debt) => {
            records.debts.insert(debt.id.clone(), debt);
        }
        Write::DebtGone { id } => {
            records.debts.remove(&id);
        }
    }
}
