//! The loop of the thread that answers: datagrams and connections of containers, answers of other servers.
//!
//! ```text
//! query ─► table: ours? ─► answer
//!             │ no
//!             ├─► the container may not forward: SERVFAIL
//!             ├─► cache ─► answer
//!             └─► exchange with the upstream servers ─► cache, answer
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::{Arc, mpsc},
    time::Instant,
};

use gantry_wire::net::Resolver;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{
    Command,
    cache::{Cache, Key},
    client::{Client, IDLE},
    message::{self, Query},
    namespace::Home,
    table::{Found, Table, Wanted},
    upstream::{Exchange, Progress, Route},
};
use crate::poll::{Interest, Poll, Token};

/// Queries under way, of all containers and of one.
const EXCHANGES: usize = 1024;
const EXCHANGES_EACH: usize = 256;
/// Connections of clients, of all containers and of one.
const CLIENTS: usize = 1024;
const CLIENTS_EACH: usize = 64;
/// Datagrams of one socket before others have their turn.
const BURST: usize = 64;

pub struct Server {
    poll: Poll,
    inbox: mpsc::Receiver<Command>,
    wake: (Token, Arc<OwnedFd>),
    home: Home,
    table: Table,
    containers: HashMap<Rc<str>, Container>,
    /// Look-ups wait in their sockets, which are not watched yet.
    hushed: bool,
    sources: HashMap<Token, Source>,
    clients: BTreeMap<Token, Client>,
    exchanges: BTreeMap<u64, (Asker, Exchange)>,
    number: u64,
    cache: Cache,
    buffer: Vec<u8>,
}

struct Container {
    udp: (Token, UdpSocket),
    tcp: (Token, TcpListener),
    /// Who shares answers of the cache with it.
    scope: Rc<str>,
    /// Its exchanges.
    open: usize,
    /// Its connections.
    connected: usize,
}

#[derive(Clone)]
enum Source {
    Datagrams(Rc<str>),
    Listener(Rc<str>),
    Client,
    Upstream(u64),
}

/// Where an answer goes.
#[derive(Debug, Clone)]
struct Asker {
    container: Rc<str>,
    way: Way,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Datagram(SocketAddr),
    Stream(Token),
}

impl Server {
    pub fn new(inbox: mpsc::Receiver<Command>, wake: Arc<OwnedFd>) -> io::Result<Self> {
        let mut poll = Poll::new()?;
        Ok(Self {
            wake: (poll.add(&*wake, Interest::Level)?, wake),
            poll,
            inbox,
            home: Home::here()?,
            table: Table::default(),
            containers: HashMap::new(),
            hushed: false,
            sources: HashMap::new(),
            clients: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            number: 0,
            cache: Cache::default(),
            buffer: vec![0; 64 << 10],
        })
    }

    /// Until nobody can command it any more.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let timeout = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            let tokens = self.poll.wait(timeout)?;
            // What was commanded before a query came holds for it.
            loop {
                match self.inbox.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for token in tokens {
                self.ready(token);
            }
            self.tick(Instant::now());
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Serve { container, udp, tcp } => {
                if let Err(error) = self.serve(&container, udp, tcp) {
                    eprintln!("gantry-netd: cannot serve the names of {container}: {error}");
                }
            }
            Command::Tell { container, resolver } => {
                if let Some(known) = self.containers.get_mut(container.as_str()) {
                    known.scope = scope(&resolver);
                }
                self.table.tell(&container, resolver);
            }
            Command::Forget { container } => {
                self.table.forget(&container);
                self.close(&container);
            }
            Command::Hush => self.hush(),
            Command::Answer => self.listen(),
        }
    }

    fn hush(&mut self) {
        if !std::mem::replace(&mut self.hushed, true) {
            for known in self.containers.values() {
                self.poll.forget(&known.udp.1);
                self.poll.forget(&known.tcp.1);
            }
        }
    }

    fn listen(&mut self) {
        if std::mem::take(&mut self.hushed) {
            for (container, known) in &self.containers {
                if let Err(error) = watch(&self.poll, known) {
                    eprintln!("gantry-netd: cannot serve the names of {container}: {error}");
                }
            }
        }
    }

    fn serve(&mut self, container: &str, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
        self.close(container);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let name: Rc<str> = container.into();
        let (datagrams, connections) = (self.poll.token(), self.poll.token());
        self.sources.insert(datagrams, Source::Datagrams(name.clone()));
        self.sources.insert(connections, Source::Listener(name.clone()));
        let (udp, tcp) = ((datagrams, udp), (connections, tcp));
        let container = Container { udp, tcp, scope: "".into(), open: 0, connected: 0 };
        let watched = if self.hushed { Ok(()) } else { watch(&self.poll, &container) };
        self.containers.insert(name, container);
        watched
    }

    fn close(&mut self, container: &str) {
        let Some(known) = self.containers.remove(container) else { return };
        // gantryd has copies of them.
        self.poll.forget(&known.udp.1);
        self.poll.forget(&known.tcp.1);
        self.sources.remove(&known.udp.0);
        self.sources.remove(&known.tcp.0);
        let exchanges: Vec<u64> = self.exchanges_where(|asker| &*asker.container == container);
        exchanges.into_iter().for_each(|number| drop(self.take_exchange(number)));
        let clients = self.clients.iter().filter(|(_, client)| &*client.container == container);
        let clients: Vec<Token> = clients.map(|(token, _)| *token).collect();
        clients.into_iter().for_each(|token| self.close_client(token));
    }

    fn ready(&mut self, token: Token) {
        if token == self.wake.0 {
            let _ = rustix::io::read(&*self.wake.1, &mut [0; 8]);
            return;
        }
        match self.sources.get(&token).cloned() {
            Some(Source::Datagrams(container)) => self.read_datagrams(&container),
            Some(Source::Listener(container)) => self.accept(&container),
            Some(Source::Client) => self.read_client(token),
            Some(Source::Upstream(number)) => self.advance(number, Some(token)),
            None => {}
        }
    }

    fn read_datagrams(&mut self, container: &Rc<str>) {
        for _ in 0..BURST {
            let Some(known) = self.containers.get(container) else { return };
            match known.udp.1.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let asker = Asker { container: container.clone(), way: Way::Datagram(from) };
                    let raw = self.buffer[..length].to_vec();
                    self.ask(asker, &raw);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier answer, for instance.
                Err(_) => {}
            }
        }
    }

    fn accept(&mut self, container: &Rc<str>) {
        let Some(known) = self.containers.get_mut(container) else { return };
        let Ok((stream, _)) = known.tcp.1.accept() else { return };
        if self.clients.len() >= CLIENTS || known.connected >= CLIENTS_EACH {
            return;
        }
        let Ok(client) = Client::new(container.clone(), stream, Instant::now()) else { return };
        let Ok(token) = self.poll.add(&client.stream, Interest::Edge) else { return };
        known.connected += 1;
        self.sources.insert(token, Source::Client);
        self.clients.insert(token, client);
    }

    fn read_client(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let container = client.container.clone();
        let Ok(queries) = client.advance(Instant::now()) else { return self.close_client(token) };
        for raw in queries {
            self.ask(Asker { container: container.clone(), way: Way::Stream(token) }, &raw);
        }
        if self.clients.get(&token).is_some_and(Client::is_done) {
            self.close_client(token);
        }
    }

    fn close_client(&mut self, token: Token) {
        let Some(client) = self.clients.remove(&token) else { return };
        self.sources.remove(&token);
        if let Some(known) = self.containers.get_mut(&client.container) {
            known.connected -= 1;
        }
    }

    /// One query: answered at once, or on its way.
    fn ask(&mut self, asker: Asker, raw: &[u8]) {
        let query = match message::read(raw) {
            Ok(query) => query,
            Err(instead) => return self.send(&asker, &instead.unwrap_or_default()),
        };
        match self.answer(&asker, &query) {
            Some(bytes) => self.reply(&asker, &query, bytes),
            None => self.forward(asker, query),
        }
    }

    /// The answer that needs nobody else.
    fn answer(&mut self, asker: &Asker, query: &Query) -> Option<Vec<u8>> {
        let container = &*asker.container;
        if query.is_internet() {
            if query.record_type() == RecordType::PTR
                && let Some(name) = query.pointed_at().and_then(|address| self.table.pointer(container, address))
            {
                return Some(query.pointer(&name));
            }
            let wanted = match query.record_type() {
                RecordType::A => Wanted::V4,
                RecordType::AAAA => Wanted::V6,
                _ => Wanted::Other,
            };
            match self.table.look_up(container, &query.name, wanted) {
                Found::Addresses(addresses) => return Some(query.addresses(addresses)),
                Found::Nothing => return Some(query.code(ResponseCode::NoError)),
                Found::Unknown => {}
            }
        }
        let resolver = self.table.resolver(container)?;
        if !resolver.forward || resolver.upstream.is_empty() {
            return Some(query.code(ResponseCode::ServFail));
        }
        let of_addresses = matches!(query.record_type(), RecordType::A | RecordType::AAAA);
        if resolver.dotless_stay && of_addresses && !query.name.contains('.') {
            return Some(query.code(ResponseCode::NoError));
        }
        let known = self.containers.get(container)?;
        self.cache.answer(&Key::new(known.scope.clone(), query), query, Instant::now())
    }

    fn forward(&mut self, asker: Asker, query: Query) {
        let busy = self.exchanges.len() >= EXCHANGES
            || self.containers.get(&asker.container).is_none_or(|known| known.open >= EXCHANGES_EACH);
        let Some(resolver) = self.table.resolver(&asker.container).filter(|_| !busy) else {
            let bytes = query.code(ResponseCode::ServFail);
            return self.reply(&asker, &query, bytes);
        };
        self.number += 1;
        let exchange = Exchange::new(query, resolver.upstream.clone(), Instant::now());
        if let Some(known) = self.containers.get_mut(&asker.container) {
            known.open += 1;
        }
        self.exchanges.insert(self.number, (asker, exchange));
        self.advance(self.number, None);
    }

    /// Goes on with an exchange, by news of one of its sockets or of the time.
    fn advance(&mut self, number: u64, token: Option<Token>) {
        let Some((asker, exchange)) = self.exchanges.get_mut(&number) else { return };
        let Some(known) = self.containers.get(&asker.container) else { return };
        let by_tcp = matches!(asker.way, Way::Stream(_));
        let route = Route { home: &self.home, inside: known.udp.1.as_fd(), by_tcp };
        let before: Vec<Token> = exchange.tokens().collect();
        let progress = match token {
            Some(token) => exchange.ready(token, Instant::now(), &route, &mut self.poll),
            None => exchange.tick(Instant::now(), &route, &mut self.poll),
        };
        before.iter().for_each(|token| drop(self.sources.remove(token)));
        self.sources.extend(exchange.tokens().map(|token| (token, Source::Upstream(number))));
        let bytes = match progress {
            Progress::Wait => return,
            Progress::Answer(bytes) => Some(bytes),
            Progress::Failed => None,
        };
        let Some((asker, query)) = self.take_exchange(number) else { return };
        if let (Some(bytes), Some(known)) = (&bytes, self.containers.get(&asker.container)) {
            self.cache.keep(Key::new(known.scope.clone(), &query), bytes.clone(), Instant::now());
        }
        let bytes = bytes.unwrap_or_else(|| query.code(ResponseCode::ServFail));
        self.reply(&asker, &query, bytes);
    }

    fn take_exchange(&mut self, number: u64) -> Option<(Asker, Query)> {
        let (asker, exchange) = self.exchanges.remove(&number)?;
        exchange.tokens().for_each(|token| drop(self.sources.remove(&token)));
        if let Some(known) = self.containers.get_mut(&asker.container) {
            known.open -= 1;
        }
        Some((asker, exchange.query))
    }

    fn exchanges_where(&self, of: impl Fn(&Asker) -> bool) -> Vec<u64> {
        self.exchanges.iter().filter(|(_, (asker, _))| of(asker)).map(|(number, _)| *number).collect()
    }

    fn reply(&mut self, asker: &Asker, query: &Query, bytes: Vec<u8>) {
        let bytes = match asker.way {
            Way::Datagram(_) => message::fit(bytes, query.limit),
            Way::Stream(_) => bytes,
        };
        self.send(asker, &bytes);
    }

    fn send(&mut self, asker: &Asker, bytes: &[u8]) {
        match asker.way {
            Way::Datagram(to) => {
                if let (Some(known), false) = (self.containers.get(&asker.container), bytes.is_empty()) {
                    // A client that went does not hear it.
                    let _ = known.udp.1.send_to(bytes, to);
                }
            }
            Way::Stream(token) => {
                let done = self.clients.get_mut(&token).is_some_and(|client| {
                    let sent = client.answer(bytes);
                    sent.is_err() || client.is_done()
                });
                if done {
                    self.close_client(token);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let exchanges = self.exchanges.values().map(|(_, exchange)| exchange.deadline());
        let clients = self.clients.values().map(|client| client.heard + IDLE);
        exchanges.chain(clients).min()
    }

    fn tick(&mut self, now: Instant) {
        let due = self.exchanges.iter().filter(|(_, (_, exchange))| exchange.deadline() <= now);
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        due.into_iter().for_each(|number| self.advance(number, None));
        let idle = self.clients.iter().filter(|(_, client)| client.heard + IDLE <= now);
        let idle: Vec<Token> = idle.map(|(token, _)| *token).collect();
        idle.into_iter().for_each(|token| self.close_client(token));
    }
}

fn watch(poll: &Poll, container: &Container) -> io::Result<()> {
    poll.watch(&container.udp.1, container.udp.0, Interest::Level)?;
    poll.watch(&container.tcp.1, container.tcp.0, Interest::Level)
}

/// Containers with the same servers, asked from the same place, share what is kept.
fn scope(resolver: &Resolver) -> Rc<str> {
    let mut scope = String::new();
    for server in &resolver.upstream {
        let _ = write!(scope, "{}{} ", server.address, if server.host { "@host" } else { "" });
    }
    if resolver.upstream.iter().any(|server| !server.host) {
        resolver.networks.iter().for_each(|network| scope.push_str(&network.id));
    }
    scope.into()
}
