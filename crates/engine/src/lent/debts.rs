//! The table of debts, as the store has them. One that somebody is at (who takes, or who gives back) is held.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gantry_domain::{
    ContainerId, Result,
    network::lent::Debt,
    ports::{Gift, Write},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::parts::Parts;

#[derive(Default)]
pub(crate) struct Debts {
    known: Mutex<BTreeMap<String, Known>>,
    /// Somebody let go of a debt that is still owed.
    pub(super) dropped: Notify,
    /// The start is over: from now on it is worth waiting for a plugin.
    pub(super) working: AtomicBool,
}

struct Known {
    debt: Debt,
    held: bool,
    /// How often a plugin that answered did not take it.
    refusals: u8,
}

impl Debts {
    /// Of gantryds before, or of a write that failed: those are in memory alone.
    pub fn load(&self, debts: &[Debt]) {
        let mut known = self.known.lock();
        known.extend(debts.iter().map(|debt| (debt.id.clone(), Known::new(debt.clone(), false))));
    }

    pub fn ids(&self) -> Vec<String> {
        self.known.lock().keys().cloned().collect()
    }

    pub fn of_container(&self, container: &ContainerId) -> Vec<Debt> {
        let known = self.known.lock();
        known.values().map(|known| &known.debt).filter(|debt| debt.container() == Some(container)).cloned().collect()
    }

    pub(super) fn has(&self, gift: &Gift) -> bool {
        self.known.lock().values().any(|known| known.debt.has(gift))
    }

    pub(super) fn is_owed(&self, id: &str) -> bool {
        self.known.lock().contains_key(id)
    }

    pub(super) fn is_working(&self) -> bool {
        self.working.load(Ordering::Relaxed)
    }

    /// The debt, if nobody is at it.
    pub(crate) fn hold(&self, id: &str) -> Option<Debt> {
        let mut known = self.known.lock();
        let found = known.get_mut(id).filter(|known| !known.held)?;
        found.held = true;
        Some(found.debt.clone())
    }

    pub(crate) fn release(&self, id: &str) {
        if let Some(known) = self.known.lock().get_mut(id) {
            known.held = false;
        }
    }

    pub(crate) fn forget(&self, id: &str) {
        self.known.lock().remove(id);
    }

    /// What is left of it after a part was given back, to be written, and how often something was refused. Somebody may
    /// have struck something off meanwhile.
    pub(super) fn keep_rest(&self, rest: &Debt, refused: bool) -> (Option<Debt>, u8) {
        let mut known = self.known.lock();
        let Some(found) = known.get_mut(&rest.id) else { return (None, 0) };
        found.refusals += u8::from(refused);
        let before = found.debt.what.clone();
        found.debt.reduce_to(rest);
        ((found.debt.what != before).then(|| found.debt.clone()), found.refusals)
    }

    fn insert(&self, debt: Debt, held: bool) {
        let mut known = self.known.lock();
        match known.get_mut(&debt.id) {
            Some(found) => {
                found.debt = debt;
                found.held |= held;
            }
            None => drop(known.insert(debt.id.clone(), Known::new(debt, held))),
        }
    }

    fn next_generation(&self, id: &str) -> u64 {
        self.known.lock().get(id).map_or(1, |known| known.debt.generation + 1)
    }

    /// Other debts that name what a plugin has given anew.
    fn forgive(&self, than: &str, gift: &Gift) -> Vec<Debt> {
        let mut known = self.known.lock();
        let others = known.values_mut().filter(|known| known.debt.id != than);
        others.filter_map(|known| known.debt.forgive(gift).then(|| known.debt.clone())).collect()
    }
}

impl Known {
    fn new(debt: Debt, held: bool) -> Self {
        Self { debt, held, refusals: 0 }
    }
}

/// Something that is being taken. When it is dropped before a record has it, it is given back.
pub(crate) struct Holding {
    parts: Arc<Parts>,
    pub debt: Debt,
}

impl Holding {
    /// Makes the debt durable, before anything is taken.
    pub async fn begin(parts: &Arc<Parts>, mut debt: Debt) -> Result<Self> {
        debt.generation = parts.debts.next_generation(&debt.id);
        parts.debts.insert(debt.clone(), true);
        let holding = Self { parts: parts.clone(), debt: debt.clone() };
        if let Err(error) = parts.ports.store.commit(vec![Write::Debt(debt)]).await {
            parts.debts.forget(&holding.debt.id);
            return Err(error);
        }
        Ok(holding)
    }

    /// Makes durable what was given, and is in the debt already. What was `free` before is owed by nobody else any more;
    /// a pool that was asked for by its name may be given to several.
    pub async fn keep(&mut self, gift: &Gift, free: bool) -> Result<()> {
        let forgiven = if free { self.parts.debts.forgive(&self.debt.id, gift) } else { Vec::new() };
        self.debt.generation += 1;
        self.parts.debts.insert(self.debt.clone(), true);
        let writes = std::iter::once(self.debt.clone()).chain(forgiven).map(Write::Debt);
        self.parts.ports.store.commit(writes.collect()).await?;
        self.parts.ports.plugins.noted(gift).await;
        Ok(())
    }

    /// What nobody wants after all is given back by itself: debts of its own, in the write that strikes it off this one.
    pub async fn part_with(&mut self, gifts: &[Gift]) -> Result<()> {
        let mut rest = self.debt.clone();
        for gift in gifts {
            rest.forgive(gift);
        }
        self.parts.owe(gifts.iter().map(Debt::of_gift).collect(), vec![Write::Debt(rest.clone())]).await?;
        self.parts.debts.insert(rest.clone(), true);
        self.debt = rest;
        self.parts.debts.dropped.notify_one();
        Ok(())
    }

    /// To be written together with the record that has it from now on.
    pub fn gone(&self) -> Write {
        Write::DebtGone { id: self.debt.id.clone() }
    }

    /// The record that has it is durable.
    pub fn settled(self) {
        self.parts.debts.forget(&self.debt.id);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.parts.debts.release(&self.debt.id);
        if self.parts.debts.is_owed(&self.debt.id) {
            self.parts.debts.dropped.notify_one();
        }
    }
}

impl Parts {
    /// Makes debts durable in one write with that of the records which let go of what is owed.
    pub async fn owe(&self, debts: Vec<Debt>, writes: Vec<Write>) -> Result<()> {
        self.owe_so(debts, writes, false).await
    }

    /// The same, and nobody gives anything back before `Debts::release`: it may be undone.
    pub async fn owe_held(&self, debts: Vec<Debt>, writes: Vec<Write>) -> Result<()> {
        self.owe_so(debts, writes, true).await
    }

    async fn owe_so(&self, mut debts: Vec<Debt>, mut writes: Vec<Write>, held: bool) -> Result<()> {
        for debt in &mut debts {
            debt.generation = self.debts.next_generation(&debt.id);
        }
        writes.extend(debts.iter().cloned().map(Write::Debt));
        self.ports.store.commit(writes).await?;
        debts.into_iter().for_each(|debt| self.debts.insert(debt, held));
        Ok(())
    }
}
