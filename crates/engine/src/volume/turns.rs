//! One at a time makes or removes a volume of one name: its record, its folder and its claim are one thing to others.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The names that somebody is at.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

/// Held while a volume of this name is made or removed; given back when it is dropped.
pub(crate) struct Turn {
    turns: Turns,
    name: String,
}

impl Turns {
    /// Waits until nobody else is at this name. Who takes several takes them in the order of their names.
    pub async fn take(&self, name: &str) -> Turn {
        loop {
            let mut before = {
                let mut taken = self.0.lock();
                match taken.get(name) {
                    Some(turn) => turn.subscribe(),
                    None => {
                        taken.insert(name.to_owned(), watch::Sender::new(()));
                        return Turn { turns: self.clone(), name: name.to_owned() };
                    }
                }
            };
            // Nothing is ever sent: it ends with the turn of the one before.
            while before.changed().await.is_ok() {}
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_of_a_name_waits_for_the_first_and_another_name_does_not() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let _other = turns.take("b").await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take("a").await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.expect("its turn comes");
        assert_eq!(turns.0.lock().len(), 1);
    }
}
