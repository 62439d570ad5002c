//! One life of gantryd: lock, engine, sockets, then signals until the end.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use gantry_api::Api;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    assemble::{self, Assembled},
    cli::CommandLine,
    config::{self, Config, Environment, TlsMode},
    host_end::Host,
    limits, listen,
    listen::{Door, Group, Inherited, Serve, Socket, Stream},
    lock::{self, PidFile},
    logging::{self, Log},
    remap, selinux, service,
};

/// How long writing out what is lazily kept may take at the end; what is not written is rebuilt.
const CLOSING: Duration = Duration::from_secs(1);

/// After a start: recovery, the first passes of the sweep and the first requests are over.
const SETTLED: Duration = Duration::from_secs(10);

/// Serves until a signal ends it.
pub fn run(line: CommandLine, environment: Environment, config: Config) -> Result<()> {
    let log = logging::start(config.log_level, config.log_format)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("another TLS provider was there first"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("gantryd")
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .context("start threads")?;
    let done = runtime.block_on(Daemon::live(line, environment, config, log));
    // Blocking work that still runs (a copy, a walk of a tree) does not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

/// Signals that mean something here.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// `true`: the configuration is to be read again; `false`: the end.
    async fn next(&mut self) -> bool {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return false,
                _ = self.interrupt.recv() => return false,
                _ = self.hang_up.recv() => return true,
                // dockerd writes its goroutines; there is nothing alike here, and it must not end us.
                _ = self.user.recv() => tracing::info!("SIGUSR1: gantryd has no stacks to dump"),
            }
        }
    }
}

struct Daemon {
    line: CommandLine,
    environment: Environment,
    config: Config,
    log: Log,
    parts: Assembled,
    servers: JoinSet<()>,
    shutdown: CancellationToken,
}

#[derive(Clone)]
struct Connections {
    api: Api,
}

impl Serve for Connections {
    async fn serve(&self, stream: Stream, shutdown: CancellationToken) {
        gantry_api::serve_connection(stream, self.api.clone(), shutdown).await;
    }
}

impl Daemon {
    async fn live(line: CommandLine, environment: Environment, config: Config, log: Log) -> Result<()> {
        let mut signals = Signals::listen()?;
        let mut inherited = Inherited::take();
        for note in config.notes.iter().chain(&config.settings.warnings) {
            tracing::warn!("{note}");
        }
        let base = (PathBuf::from(&config.settings.data_root), PathBuf::from(&config.settings.exec_root));
        let config = selinux::applied(config).and_then(remap::applied).map_err(|text| anyhow!(text))?;
        let data_root = PathBuf::from(&config.settings.data_root);
        let exec_root = PathBuf::from(&config.settings.exec_root);
        // A root that is new is not even made where another engine has our place. One that is there, with or without
        // remapped users, may be about to change hands: then its socket is looked at when the lock is ours.
        if !base.0.exists() {
            listen::check_free(config.hosts.iter()).await.map_err(|text| anyhow!(text))?;
        }
        let _lock = lock::acquire(&data_root, lock::PATIENCE).await.map_err(|text| anyhow!(text))?;
        lock::make_folder(&exec_root).map_err(|text| anyhow!(text))?;
        let _pid = PidFile::write(&config.pidfile).map_err(|text| anyhow!(text))?;

        let door = door(&config)?;
        remap::release_sockets((&base.0, &base.1), &exec_root, &config.hosts);
        let ours = assemble::left_with_netd(&exec_root);
        let others = config.hosts.iter().filter(|address| !ours(address));
        listen::check_free(others).await.map_err(|text| anyhow!(text))?;
        let (parts, read_again) = assembled(&config, &mut signals).await?;
        let mut daemon =
            Self { line, environment, config, log, parts, servers: JoinSet::new(), shutdown: door.shutdown.clone() };
        daemon.open(&door, &mut inherited).await?;
        service::ready();
        tracing::info!(pid = std::process::id(), "gantryd is ready");
        // Ends within seconds.
        tokio::spawn(async {
            tokio::time::sleep(SETTLED).await;
            limits::forget_code();
        });
        if read_again {
            daemon.reload();
        }
        while signals.next().await {
            daemon.reload();
        }
        daemon.end(signals).await;
        Ok(())
    }

    /// Binds every address, then serves them all.
    async fn open(&mut self, door: &Door, inherited: &mut Inherited) -> Result<()> {
        let group = Group { name: &self.config.group, named: self.config.group_named };
        let group = group.resolve(Path::new("/etc/group")).map_err(|text| anyhow!(text))?;
        let mut listeners = Vec::new();
        let kept = self.parts.sockets(&self.config.settings.exec_root);
        for address in &self.config.hosts {
            match kept.take(address).await {
                Some(listener) => {
                    listen::admit(&listener, group).map_err(|text| anyhow!(text))?;
                    listeners.push(listener);
                }
                None => listeners.extend(listen::bind(address, group, inherited).await.map_err(|text| anyhow!(text))?),
            }
        }
        for listener in &listeners {
            if let Socket::Tcp(socket) = &listener.socket {
                let address = format!("{} (tcp://{})", listener.address, socket.local_addr()?);
                self.config.tls.admits_tcp(&address).map_err(|text| anyhow!(text))?;
            }
        }
        kept.keep(&listeners).await;
        let door = door.for_each_of(listeners.len());
        for listener in listeners {
            tracing::info!(address = %listener.address, "API listens");
            let api = Connections { api: self.parts.api.clone() };
            self.servers.spawn(listen::accept(listener, door.clone(), api));
        }
        Ok(())
    }

    /// SIGHUP. An error changes nothing.
    fn reload(&mut self) {
        service::reloading();
        match config::reload(&self.config, &self.line, &self.environment) {
            Ok(mut reloaded) => {
                remap::keep(&self.config.settings, &mut reloaded.config.settings);
                self.log.set_level(reloaded.config.log_level);
                self.parts.reload(&reloaded.config);
                tracing::info!(
                    changed = reloaded.changed.join(","),
                    new_containers = reloaded.for_new_containers.join(","),
                    "configuration was read again"
                );
                if !reloaded.waiting.is_empty() {
                    tracing::warn!(keys = reloaded.waiting.join(","), "these change only when gantryd starts again");
                }
                for note in reloaded.config.notes.iter().filter(|note| !self.config.notes.contains(note)) {
                    tracing::warn!("{note}");
                }
                self.config = reloaded.config;
            }
            Err(error) => tracing::error!(error, "configuration was not read again, nothing has changed"),
        }
        service::ready();
    }

    /// SIGTERM or SIGINT: containers go on, unless the host itself goes down. A second signal ends at once.
    async fn end(mut self, mut signals: Signals) {
        service::stopping();
        let work = async {
            if Host::default().is_ending().await {
                tracing::info!("the host goes down: containers are stopped");
                self.parts.engine.shutdown_containers().await;
            }
            self.shutdown.cancel();
            while self.servers.join_next().await.is_some() {}
            if tokio::time::timeout(CLOSING, self.parts.engine.close()).await.is_err() {
                tracing::warn!("what was kept lazily is not written, the next start rebuilds it");
            }
        };
        tokio::select! {
            () = work => tracing::info!("gantryd ends, containers go on"),
            () = async { while signals.next().await {} } => tracing::warn!("a second signal: gantryd ends at once"),
        }
    }
}

fn door(config: &Config) -> Result<Door> {
    let tls = match &config.tls {
        TlsMode::Verify(files) => Some(listen::acceptor(files).map_err(|text| anyhow!(text))?),
        TlsMode::Off | TlsMode::Unsaid | TlsMode::Anyone => None,
    };
    Ok(Door { tls, places: limits::connections(), shutdown: CancellationToken::new() })
}

/// The parts, and whether the configuration is to be read again: a SIGHUP before the start was done is kept for then.
async fn assembled(config: &Config, signals: &mut Signals) -> Result<(Assembled, bool)> {
    let assembling = assemble::assemble(config);
    tokio::pin!(assembling);
    let mut read_again = false;
    loop {
        tokio::select! {
            parts = &mut assembling => return Ok((parts?, read_again)),
            again = signals.next() => match again {
                true => read_again = true,
                false => return Err(anyhow!("ended before the start was done")),
            },
        }
    }
}
