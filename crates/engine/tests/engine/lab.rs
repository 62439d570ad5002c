//! One engine on fakes, and the verbs in short.

use std::time::Duration;

use futures::StreamExt as _;
use gantry_domain::{
    ContainerId, ExecId, Result,
    container::validate::ApiVersion,
    engine_id::EngineId,
    exec::ExecConfig,
    filter::Filters,
    id_maps::{IdMaps, UserNamespace},
    settings::Settings,
};
use gantry_engine::{
    Engine, EventQuery, Ports, Start,
    container::{
        ContainerCreate, ContainerDelete, ContainerDetails, ContainerWait, NetworkConnect, NetworkDisconnect,
        WaitCondition,
    },
    exec::ExecStart,
    network::{NetworkCreate, predefined::DefaultBridge},
};
use gantry_fakes::Fakes;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// An engine and its host. The engine's own tasks end with it.
pub struct Lab {
    pub fakes: Fakes,
    pub engine: Engine,
    tasks: JoinHandle<()>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Lab {
    pub async fn new() -> Self {
        Self::on(Fakes::new()).await
    }

    /// A gantryd that starts on what another one left.
    pub async fn on(fakes: Fakes) -> Self {
        Self::with(fakes, Settings::default()).await
    }

    /// One whose containers get user namespaces.
    pub async fn remapped_on(fakes: Fakes) -> Self {
        let maps = IdMaps::of_subordinate(&[(100_000, 65_536)], &[(200_000, 65_536)]).unwrap();
        let user_namespace = Some(UserNamespace { owner: "them:them".into(), maps });
        Self::with(fakes, Settings { user_namespace, ..Settings::default() }).await
    }

    /// One on a host with SELinux.
    pub async fn labelled_on(fakes: Fakes) -> Self {
        let contexts =
            "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"";
        let selinux = Some(gantry_domain::selinux::Policy::parse(contexts).unwrap());
        Self::with(fakes, Settings { selinux, ..Settings::default() }).await
    }

    async fn with(fakes: Fakes, settings: Settings) -> Self {
        let (engine, recovery) = Engine::open(start(&fakes, settings)).await.unwrap();
        engine.recover(recovery).await.unwrap();
        let running = engine.clone();
        let tasks = tokio::spawn(async move { running.run().await });
        // Its listeners are there when everybody has had a turn.
        tokio::task::yield_now().await;
        Self { fakes, engine, tasks }
    }

    /// Lets everything that waits for nothing but time happen, up to a minute.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    pub async fn create(&self, name: &str, host_config: Value) -> Result<ContainerId> {
        self.create_with(name, json!({"Image": "busybox", "Cmd": ["sleep", "1"]}), host_config).await
    }

    pub async fn create_with(&self, name: &str, config: Value, host_config: Value) -> Result<ContainerId> {
        let request = ContainerCreate {
            name: Some(name.to_owned()),
            platform: None,
            config: serde_json::from_value(config).unwrap(),
            host_config: serde_json::from_value(host_config).unwrap(),
            networking: serde_json::from_value(json!({"EndpointsConfig": {}})).unwrap(),
            api: ApiVersion(1, 51),
        };
        self.engine.container_create(request).await.map(|created| created.id)
    }

    /// A container that runs.
    pub async fn running(&self, name: &str, host_config: Value) -> ContainerId {
        let id = self.create(name, host_config).await.unwrap();
        self.engine.container_start(name).await.unwrap();
        id
    }

    pub async fn network(&self, name: &str) -> Result<gantry_domain::NetworkId> {
        let request = NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() };
        self.engine.network_create(request).await
    }

    pub async fn connect(&self, network: &str, container: &str) -> Result<()> {
        let request = NetworkConnect { container: container.to_owned(), ..NetworkConnect::default() };
        self.engine.network_connect(network, request).await
    }

    pub async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        let request = NetworkDisconnect { container: container.to_owned(), force: false };
        self.engine.network_disconnect(network, request).await
    }

    pub async fn remove(&self, name: &str) -> Result<()> {
        self.engine.container_delete(name, ContainerDelete { force: true, volumes: true, link: false }).await
    }

    pub async fn wait(&self, name: &str, condition: WaitCondition) -> ContainerWait {
        self.engine.container_wait(name, condition).await.unwrap()
    }

    pub async fn inspect(&self, name: &str) -> ContainerDetails {
        self.engine.container_inspect(name, false).await.unwrap()
    }

    pub async fn status(&self, name: &str) -> &'static str {
        self.inspect(name).await.snapshot.status.as_str()
    }

    pub async fn exec(&self, name: &str) -> Result<ExecId> {
        let config = ExecConfig { cmd: Some(vec!["true".into()]), attach_stdout: true, ..ExecConfig::default() };
        let id = self.engine.container_exec(name, config).await?;
        self.engine.exec_start(id.as_str(), ExecStart { detach: true, ..ExecStart::default() }).await?;
        Ok(id)
    }

    /// Actions of the container events so far, oldest first.
    pub async fn actions(&self) -> Vec<String> {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
        let since = Some(jiff::Timestamp::UNIX_EPOCH);
        let query = EventQuery { since, until: Some(now), filters: Filters::default() };
        let events = self.engine.system_events(query).await.unwrap();
        let kind = gantry_domain::event::EventType::Container;
        let timed = tokio::time::timeout(Duration::from_secs(5), events.collect::<Vec<_>>());
        let events = timed.await.expect("a query with an end ends");
        events.into_iter().filter(|event| event.kind == kind).map(|event| event.action).collect()
    }

    /// How often a new process was begun.
    pub fn starts(&self) -> usize {
        self.fakes.calls.count("runtime.start_task")
    }
}

fn start(fakes: &Fakes, settings: Settings) -> Start {
    let all = fakes.shared();
    Start {
        id: EngineId("an-engine".into()),
        ports: Ports {
            runtime: all.clone(),
            stdio: all.clone(),
            store: all.clone(),
            images: all.clone(),
            registry: all.clone(),
            network: all.clone(),
            plugins: all.clone(),
            files: all.clone(),
            execs: all.clone(),
            volumes: all.clone(),
            rootfs: all.clone(),
            host: all,
        },
        settings,
        bridge: DefaultBridge {
            interface: "docker0".into(),
            address: Some("172.17.0.1/16".parse().unwrap()),
            range: None,
            address_v6: None,
            range_v6: None,
            pools: Vec::new(),
        },
    }
}
