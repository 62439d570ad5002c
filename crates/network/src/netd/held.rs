//! What gantryd holds besides netd: copies of its sockets and of what it was told, to hand to the next one.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use gantry_wire::net::{Element, Port, Request, Resolver, SOCKETS_PER_MESSAGE, Targets};

/// Sockets beside a request.
pub type Sockets = Vec<Arc<OwnedFd>>;

#[derive(Debug, Default)]
pub struct Held {
    rules: Option<Request>,
    containers: BTreeMap<String, HeldContainer>,
    kept: BTreeMap<String, Arc<OwnedFd>>,
    /// By container, with the datagram and the listening socket.
    resolvers: BTreeMap<String, (Resolver, Sockets)>,
}

#[derive(Debug, Default)]
struct HeldContainer {
    ports: Vec<(Port, Arc<OwnedFd>)>,
    lead: Option<(Targets, Vec<Element>)>,
}

impl Held {
    /// Notes a request that netd has carried out.
    pub fn note(&mut self, request: &Request, sockets: &[Arc<OwnedFd>]) {
        match request {
            Request::Rules { .. } => self.rules = Some(request.clone()),
            Request::Hold { container, ports } => {
                let held = &mut self.containers.entry(container.clone()).or_default().ports;
                held.extend(ports.iter().copied().zip(sockets.iter().cloned()));
            }
            Request::Lead { container, targets, elements } => {
                self.containers.entry(container.clone()).or_default().lead = Some((*targets, elements.clone()));
            }
            Request::Rest { container } => {
                if let Some(held) = self.containers.get_mut(container) {
                    held.lead = None;
                }
                self.containers.retain(|_, held| held.lead.is_some() || !held.ports.is_empty());
            }
            Request::Release { container } => drop(self.containers.remove(container)),
            Request::Keep { name } => self.kept.extend(sockets.first().map(|socket| (name.clone(), socket.clone()))),
            Request::Forget { name } => drop(self.kept.remove(name)),
            Request::Resolve { container, resolver } => {
                let held = self.resolvers.entry(container.clone()).or_default();
                held.0.clone_from(resolver);
                if !sockets.is_empty() {
                    // The third one was for the translation, which stays in the kernel.
                    held.1 = sockets.iter().take(2).cloned().collect();
                }
            }
            Request::Unresolve { container } => drop(self.resolvers.remove(container)),
            _ => {}
        }
    }

    /// The requests that bring an empty netd to the same state.
    pub fn retell(&self) -> Vec<(Request, Sockets)> {
        let mut requests = Vec::new();
        for (name, socket) in &self.kept {
            requests.push((Request::Keep { name: name.clone() }, vec![socket.clone()]));
        }
        if !self.resolvers.is_empty() {
            requests.push((Request::Hush, Vec::new()));
            for (container, (resolver, sockets)) in &self.resolvers {
                let (container, resolver) = (container.clone(), resolver.clone());
                requests.push((Request::Resolve { container, resolver }, sockets.clone()));
            }
            requests.push((Request::Answer, Vec::new()));
        }
        for (container, held) in &self.containers {
            for part in held.ports.chunks(SOCKETS_PER_MESSAGE) {
                let (ports, sockets) = part.iter().cloned().unzip();
                requests.push((Request::Hold { container: container.clone(), ports }, sockets));
            }
            if let Some((targets, elements)) = held.lead.clone() {
                requests.push((Request::Lead { container: container.clone(), targets, elements }, Vec::new()));
            }
        }
        // Last: one transaction then writes all elements.
        requests.extend(self.rules.clone().map(|rules| (rules, Vec::new())));
        requests
    }

    pub fn resolvers(&self) -> Vec<String> {
        self.resolvers.keys().cloned().collect()
    }

    pub fn ports(&self) -> BTreeMap<String, Vec<Port>> {
        let ports = |held: &HeldContainer| held.ports.iter().map(|(port, _)| *port).collect();
        self.containers.iter().map(|(id, held)| (id.clone(), ports(held))).collect()
    }
}
