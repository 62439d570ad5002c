//! Who is called what, and who may see it: look-ups in dockerd's order, no I/O.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use gantry_wire::net::{NetworkNames, Resolver};

/// What a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    V4,
    V6,
    /// A type that containers have no records of.
    Other,
}

/// What the table knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// At least one, the first one another time each time.
    Addresses(Vec<IpAddr>),
    /// The name is a container's, and it has nothing of this kind.
    Nothing,
    /// Not ours.
    Unknown,
}

/// All networks' names. A container's are there from `tell` to `forget`.
#[derive(Debug, Default)]
pub struct Table {
    containers: BTreeMap<String, Resolver>,
    /// By the network's id.
    networks: HashMap<String, Network>,
}

#[derive(Debug, Default)]
struct Network {
    /// By the name in lower case.
    names: HashMap<String, Named>,
    /// The name behind an address, and whose.
    pointers: HashMap<IpAddr, (String, String)>,
}

#[derive(Debug, Default)]
struct Named {
    /// Container and address.
    members: Vec<(String, IpAddr)>,
    turn: Cell<usize>,
}

impl Table {
    /// Puts a container in, or in the place of what was said of it.
    pub fn tell(&mut self, container: &str, resolver: Resolver) {
        self.forget(container);
        for place in &resolver.networks {
            self.networks.entry(place.id.clone()).or_default().insert(container, place);
        }
        self.containers.insert(container.to_owned(), resolver);
    }

    pub fn forget(&mut self, container: &str) {
        let Some(resolver) = self.containers.remove(container) else { return };
        for place in &resolver.networks {
            if let Some(network) = self.networks.get_mut(&place.id) {
                network.remove(container, place);
                if network.names.is_empty() {
                    self.networks.remove(&place.id);
                }
            }
        }
    }

    pub fn resolver(&self, container: &str) -> Option<&Resolver> {
        self.containers.get(container)
    }

    /// Looks a name (lower case, without the closing dot) up as this container sees it.
    ///
    /// Names and networks may have dots: `a.b.c` is `a.b.c` in any of its networks, then `a.b` in network `c`, then `a`
    /// in network `b.c`. Links come before names.
    pub fn look_up(&self, container: &str, name: &str, wanted: Wanted) -> Found {
        let Some(resolver) = self.containers.get(container) else { return Found::Unknown };
        let cuts = name.rmatch_indices('.').map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
        for (name, network) in std::iter::once((name, None)).chain(cuts) {
            let places = resolver.networks.iter().filter(|place| network.is_none_or(|n| place.name == n));
            let linked = places.clone().filter_map(|place| Some((place, place.aliases.get(name)?.as_str())));
            let plain = places.filter(|place| !place.aliases.contains_key(name)).map(|place| (place, name));
            for found in [self.among(linked, wanted), self.among(plain, wanted)] {
                if found != Found::Unknown {
                    return found;
                }
            }
        }
        Found::Unknown
    }

    /// `name.network` of the container that has this address in one of the asking container's networks.
    pub fn pointer(&self, container: &str, address: IpAddr) -> Option<String> {
        self.containers.get(container)?.networks.iter().find_map(|place| {
            let (name, _) = self.networks.get(&place.id)?.pointers.get(&address)?;
            Some(format!("{name}.{}", place.name))
        })
    }

    /// The first place that has what is wanted; `Nothing` where only the name is known.
    fn among<'a>(&self, places: impl Iterator<Item = (&'a NetworkNames, &'a str)>, wanted: Wanted) -> Found {
        let mut found = Found::Unknown;
        for (place, name) in places {
            let lower = name.to_ascii_lowercase();
            let Some(named) = self.networks.get(&place.id).and_then(|network| network.names.get(&lower)) else {
                continue;
            };
            let addresses = named.addresses(wanted);
            if !addresses.is_empty() {
                return Found::Addresses(addresses);
            }
            found = Found::Nothing;
        }
        found
    }
}

impl Network {
    fn insert(&mut self, container: &str, place: &NetworkNames) {
        for address in addresses(place) {
            for name in &place.names {
                let members = &mut self.names.entry(name.to_ascii_lowercase()).or_default().members;
                if !members.iter().any(|(owner, known)| owner == container && *known == address) {
                    members.push((container.to_owned(), address));
                }
            }
            if let Some(name) = place.names.first() {
                self.pointers.insert(address, (name.clone(), container.to_owned()));
            }
        }
    }

    fn remove(&mut self, container: &str, place: &NetworkNames) {
        for name in &place.names {
            let name = name.to_ascii_lowercase();
            if let Some(named) = self.names.get_mut(&name) {
                named.members.retain(|(owner, _)| owner != container);
                if named.members.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        self.pointers.retain(|_, (_, owner)| owner != container);
    }
}

impl Named {
    /// Each time another one is the first.
    fn addresses(&self, wanted: Wanted) -> Vec<IpAddr> {
        let of_kind = |address: &IpAddr| match wanted {
            Wanted::V4 => address.is_ipv4(),
            Wanted::V6 => address.is_ipv6(),
            Wanted::Other => false,
        };
        let mut found: Vec<IpAddr> = Vec::new();
        for (_, address) in self.members.iter().filter(|(_, address)| of_kind(address)) {
            if !found.contains(address) {
                found.push(*address);
            }
        }
        if found.len() > 1 {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            let by = turn % found.len();
            found.rotate_left(by);
        }
        found
    }
}

fn addresses(place: &NetworkNames) -> impl Iterator<Item = IpAddr> {
    place.v4.map(IpAddr::V4).into_iter().chain(place.v6.map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(network: &str, names: &[&str], v4: &str) -> NetworkNames {
        NetworkNames {
            id: format!("id-{network}"),
            name: network.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            v4: v4.parse().ok(),
            ..NetworkNames::default()
        }
    }

    fn table(containers: &[(&str, Vec<NetworkNames>)]) -> Table {
        let mut table = Table::default();
        for (id, networks) in containers {
            table.tell(id, Resolver { networks: networks.clone(), ..Resolver::default() });
        }
        table
    }

    fn v4(text: &str) -> Found {
        Found::Addresses(vec![text.parse().unwrap()])
    }

    #[test]
    fn a_name_is_seen_from_the_same_network_alone() {
        let table = table(&[
            ("a", vec![place("front", &["a"], "10.0.1.2")]),
            ("b", vec![place("front", &["b"], "10.0.1.3"), place("back", &["b"], "10.0.2.3")]),
            ("c", vec![place("back", &["c"], "10.0.2.4")]),
        ]);
        assert_eq!(table.look_up("a", "b", Wanted::V4), v4("10.0.1.3"));
        assert_eq!(table.look_up("c", "b", Wanted::V4), v4("10.0.2.3"));
        assert_eq!(table.look_up("a", "c", Wanted::V4), Found::Unknown);
        assert_eq!(table.look_up("nobody", "c", Wanted::V4), Found::Unknown);
    }

    #[test]
    fn names_and_networks_may_have_dots() {
        let table = table(&[("a", vec![place("net.one", &["web.a", "web"], "10.0.1.2")])]);
        for name in ["web", "web.a", "web.net.one", "web.a.net.one"] {
            assert_eq!(table.look_up("a", name, Wanted::V4), v4("10.0.1.2"), "{name}");
        }
        assert_eq!(table.look_up("a", "web.one", Wanted::V4), Found::Unknown);
    }

    #[test]
    fn a_known_name_without_such_an_address_is_nothing_and_not_unknown() {
        let table = table(&[("a", vec![place("net", &["Web"], "10.0.1.2")])]);
        assert_eq!(table.look_up("a", "web", Wanted::V6), Found::Nothing);
        assert_eq!(table.look_up("a", "web", Wanted::Other), Found::Nothing);
        assert_eq!(table.look_up("a", "example.com", Wanted::V6), Found::Unknown);
    }

    #[test]
    fn each_address_of_a_name_is_the_first_one_in_turn() {
        let table = table(&[
            ("a", vec![place("net", &["a", "web"], "10.0.1.2")]),
            ("b", vec![place("net", &["b", "web"], "10.0.1.3")]),
        ]);
        let mut first = Vec::new();
        for _ in 0..4 {
            let Found::Addresses(found) = table.look_up("a", "web", Wanted::V4) else { unreachable!() };
            assert_eq!(found.len(), 2);
            first.push(found[0].to_string());
            // What a client asks besides does not take a turn.
            assert_eq!(table.look_up("a", "web", Wanted::V6), Found::Nothing);
        }
        assert_eq!(first, ["10.0.1.2", "10.0.1.3", "10.0.1.2", "10.0.1.3"]);
    }

    #[test]
    fn a_link_is_seen_by_its_container_alone_and_hides_the_name() {
        let mut linked = place("net", &["a"], "10.0.1.2");
        linked.aliases.insert("db".into(), "b".into());
        let table = table(&[
            ("a", vec![linked]),
            ("b", vec![place("net", &["b"], "10.0.1.3")]),
            ("c", vec![place("net", &["db"], "10.0.1.4")]),
        ]);
        assert_eq!(table.look_up("a", "db", Wanted::V4), v4("10.0.1.3"));
        assert_eq!(table.look_up("b", "db", Wanted::V4), v4("10.0.1.4"));
    }

    #[test]
    fn an_address_leads_back_to_the_first_name() {
        let mut table = table(&[("a", vec![place("net", &["a", "alias"], "10.0.1.2")])]);
        assert_eq!(table.pointer("a", "10.0.1.2".parse().unwrap()).unwrap(), "a.net");
        assert_eq!(table.pointer("a", "10.0.1.3".parse().unwrap()), None);
        table.forget("a");
        assert!(table.networks.is_empty() && table.containers.is_empty());
    }

    #[test]
    fn what_is_told_again_takes_the_place_of_what_was() {
        let mut table = table(&[("a", vec![place("net", &["old"], "10.0.1.2")])]);
        table.tell("a", Resolver { networks: vec![place("net", &["new"], "10.0.1.2")], ..Resolver::default() });
        assert_eq!(table.look_up("a", "old", Wanted::V4), Found::Unknown);
        assert_eq!(table.look_up("a", "new", Wanted::V4), v4("10.0.1.2"));
        assert_eq!(table.pointer("a", "10.0.1.2".parse().unwrap()).unwrap(), "new.net");
    }
}
