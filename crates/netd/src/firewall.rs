//! The firewall's table: what it should hold, written to the kernel, and put back when somebody else changes it.
//!
//! The frame is nft's text, loaded by one `nft` process at first, when it changes, or to repair; elements of sets and
//! maps, those of networks as those of containers, go by netlink. Whoever changes our table from outside is told by the port id of the notification,
//! which is neither ours nor that of an `nft` we ran.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    io::{self, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gantry_wire::net::Element;

use crate::netlink::{Message, NFNL_SUBSYS_NFTABLES, Socket, messages};

mod elements;
mod foreign;
mod legacy;

/// NFNLGRP_NFTABLES (7) as a bit.
const GROUP_NFTABLES: u32 = 1 << 6;
/// Lets a reload that comes in several transactions finish first.
const SETTLE: Duration = Duration::from_millis(30);
/// At most so often are the rules repaired, whatever another program does to them.
const REPAIR_EVERY: Duration = Duration::from_millis(400);
/// A program that changes our table again and again is not logged again and again.
const QUIET: Duration = Duration::from_secs(10);
/// NFTA_TABLE_NAME, and NFTA_{CHAIN,RULE,SET,SET_ELEM_LIST,OBJ}_TABLE.
const ATTRIBUTE_TABLE: u16 = 1;

/// What the table holds whatever runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fixed {
    /// In nft's language, whole; empty for no table.
    pub text: String,
    /// The text without `elements`; empty from a gantryd that does not tell.
    pub frame: String,
    pub elements: BTreeSet<Element>,
}

pub struct Firewall {
    table: String,
    fixed: Fixed,
    /// By container.
    elements: BTreeMap<String, Vec<Element>>,
    socket: Socket,
    pub watch: Socket,
    /// Port ids of the latest `nft` processes of our own.
    own: VecDeque<u32>,
    repair_at: Option<Instant>,
    repaired: Option<Instant>,
}

impl Firewall {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            table: String::new(),
            fixed: Fixed::default(),
            elements: BTreeMap::new(),
            socket: Socket::new(0)?,
            watch: Socket::new(GROUP_NFTABLES)?,
            own: VecDeque::new(),
            repair_at: None,
            repaired: None,
        })
    }

    /// Replaces the fixed part: by its elements where no more has changed, else in one transaction with all elements.
    /// On failure the kernel keeps what it had.
    pub fn set_rules(&mut self, table: String, fixed: Fixed) -> io::Result<()> {
        if self.repair_at.is_none() && (&self.table, &self.fixed) == (&table, &fixed) {
            return Ok(());
        }
        let before = (std::mem::replace(&mut self.table, table), std::mem::replace(&mut self.fixed, fixed));
        if before.0 == self.table && self.exchange_fixed(&before.1) {
            return Ok(());
        }
        let written = self.write_all();
        if written.is_err() {
            (self.table, self.fixed) = before;
        } else if before.0 != self.table && !before.0.is_empty() {
            self.run_nft(&format!("add table inet {0}\ndelete table inet {0}\n", before.0))?;
        }
        written
    }

    /// Whether the elements that came and went were all there was to write, and are written.
    fn exchange_fixed(&self, before: &Fixed) -> bool {
        let same = self.repair_at.is_none() && !self.fixed.frame.is_empty() && self.fixed.frame == before.frame;
        let (old, new) = (&before.elements, &self.fixed.elements);
        let went: Vec<Element> = old.difference(new).cloned().collect();
        let came: Vec<Element> = new.difference(old).cloned().collect();
        same && elements::exchange(&self.socket, &self.table, &went, &came).is_ok()
    }

    /// Puts a container's elements in, in place of those it had.
    pub fn put(&mut self, container: &str, elements: Vec<Element>) -> io::Result<()> {
        if self.elements.get(container) == Some(&elements) {
            return Ok(());
        }
        let old = self.elements.remove(container).unwrap_or_default();
        if !elements.is_empty() {
            self.elements.insert(container.to_owned(), elements.clone());
        }
        if self.fixed.text.is_empty() || (old.is_empty() && elements.is_empty()) {
            return Ok(());
        }
        // What netlink refuses (the table is gone, an element differs from what we think) is written anew as a whole.
        match elements::exchange(&self.socket, &self.table, &old, &elements) {
            Ok(()) => Ok(()),
            Err(_) => self.write_all(),
        }
    }

    /// Chains of others that drop what is forwarded, of nftables and of what was before it.
    pub fn foreign_drops(&self) -> io::Result<Vec<String>> {
        let mut chains = foreign::drops(&self.socket, &self.table)?;
        chains.extend(legacy::drops());
        Ok(chains)
    }

    /// Reads what the kernel says about nftables.
    pub fn notified(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        let mut touched = false;
        loop {
            match self.watch.receive(&mut buffer) {
                Ok(Some(datagram)) => touched |= messages(datagram).any(|message| self.is_foreign(message)),
                Ok(None) => break,
                // Notifications were lost: what they said is unknown.
                Err(_) => touched = true,
            }
        }
        if touched && !self.fixed.text.is_empty() {
            let earliest = self.repaired.map_or_else(Instant::now, |at| at + REPAIR_EVERY);
            self.repair_at.get_or_insert((Instant::now() + SETTLE).max(earliest));
        }
    }

    fn is_foreign(&self, message: Message<'_>) -> bool {
        message.kind >> 8 == NFNL_SUBSYS_NFTABLES
            && message.attributes().text(ATTRIBUTE_TABLE) == Some(&self.table)
            && message.portid != self.socket.portid
            && !self.own.contains(&message.portid)
    }

    /// When `repair` is to be called next.
    pub fn repair_at(&self) -> Option<Instant> {
        self.repair_at
    }

    /// Writes everything again. A failure is tried again later.
    pub fn repair(&mut self) {
        self.repair_at = None;
        let before = self.repaired.replace(Instant::now());
        let said = match self.write_all() {
            Ok(()) => format!("another program changed table {}; it is repaired", self.table),
            Err(error) => {
                self.repair_at = Some(Instant::now() + REPAIR_EVERY);
                format!("cannot repair table {}: {error}", self.table)
            }
        };
        if before.is_none_or(|at| at.elapsed() > QUIET) {
            // The log may be gone; that must not end us.
            let _ = writeln!(io::stderr(), "gantry-netd: {said}");
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        if self.table.is_empty() {
            return Ok(());
        }
        let script = self.script();
        self.run_nft(&script)
    }

    /// The whole table as one transaction: away with the old one, in with the new.
    fn script(&self) -> String {
        let mut script = format!("add table inet {0}\ndelete table inet {0}\n{1}\n", self.table, self.fixed.text);
        if self.fixed.text.is_empty() {
            return script;
        }
        let mut sets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for element in self.elements.values().flatten() {
            sets.entry(&element.set).or_default().push(element.to_string());
        }
        for (set, elements) in sets {
            let _ = writeln!(script, "add element inet {} {set} {{ {} }}", self.table, elements.join(", "));
        }
        script
    }

    fn run_nft(&mut self, script: &str) -> io::Result<()> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot run nft: {error}")))?;
        self.own.push_front(child.id());
        self.own.truncate(8);
        if let Some(mut stdin) = child.stdin.take() {
            // An nft that ends early says why on its standard error.
            let _ = stdin.write_all(script.as_bytes());
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("nft: {}", said.lines().next().unwrap_or("failed"))))
    }
}
