//! A tour of the API through bollard, which decodes each answer into the types of Docker's specification: a field that is
//! missing or of another type ends it. `bollard_tour SOCKET` against an engine that has the image busybox.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use bollard::{
    Docker,
    container::{AttachContainerResults, LogOutput},
    exec::StartExecResults,
    models::{
        ContainerCreateBody, ContainerStateStatusEnum, ContainerUpdateBody, ExecConfig, HostConfig,
        NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, PortBinding, RestartPolicy,
        RestartPolicyNameEnum, VolumeCreateRequest,
    },
    query_parameters as query,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let socket = std::env::args().nth(1).unwrap();
    let docker = Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION)?.negotiate_version().await?;
    engine(&docker).await?;
    let seen = docker.events(None::<query::EventsOptions>).take(3).try_collect::<Vec<_>>();
    let (seen, lived) = tokio::join!(seen, life(&docker));
    lived?;
    assert!(seen?.iter().all(|event| event.typ.is_some() && event.time_nano.is_some()));
    attached(&docker).await?;
    networks_and_volumes(&docker).await?;
    errors(&docker).await?;
    println!("the tour is over");
    Ok(())
}

async fn engine(docker: &Docker) -> Outcome {
    assert_eq!(docker.ping().await?, "OK");
    assert_eq!(docker.version().await?.os.as_deref(), Some("linux"));
    let info = docker.info().await?;
    assert!(info.ncpu.unwrap() > 0 && info.mem_total.unwrap() > 0);
    let image = docker.inspect_image("busybox").await?;
    assert!(image.id.unwrap().starts_with("sha256:"));
    let images = docker.list_images(Some(query::ListImagesOptionsBuilder::default().all(true).build())).await?;
    assert!(images.iter().any(|image| image.repo_tags.iter().any(|tag| tag == "busybox:latest")));
    Ok(())
}

fn busybox(words: &[&str]) -> ContainerCreateBody {
    let cmd = words.iter().map(|word| (*word).to_owned()).collect();
    ContainerCreateBody { image: Some("busybox".into()), cmd: Some(cmd), ..Default::default() }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> Result<String, bollard::errors::Error> {
    let options = query::CreateContainerOptionsBuilder::default().name(name).build();
    Ok(docker.create_container(Some(options), body).await?.id)
}

/// One container, and every verb that it has.
async fn life(docker: &Docker) -> Outcome {
    let ports = HashMap::from([("80/tcp".to_owned(), Some(vec![PortBinding::default()]))]);
    let host = HostConfig {
        memory: Some(64 << 20),
        port_bindings: Some(ports),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: Some(2),
        }),
        ..Default::default()
    };
    let body = ContainerCreateBody {
        env: Some(vec!["A=b".into()]),
        labels: Some(HashMap::from([("tour".to_owned(), "yes".to_owned())])),
        host_config: Some(host),
        ..busybox(&["sh", "-c", "echo out; echo err >&2; exec sleep 1000"])
    };
    let id = create(docker, "tour", body).await?;
    docker.start_container(&id, None::<query::StartContainerOptions>).await?;
    let about = docker.inspect_container("tour", None::<query::InspectContainerOptions>).await?;
    let state = about.state.unwrap();
    assert_eq!((state.status, state.running), (Some(ContainerStateStatusEnum::RUNNING), Some(true)));
    let network = about.network_settings.unwrap();
    assert!(network.ports.unwrap()["80/tcp"].as_ref().unwrap()[0].host_port.as_ref().unwrap().parse::<u16>()? > 0);
    let filters = HashMap::from([("label".to_owned(), vec!["tour=yes".to_owned()])]);
    let options = query::ListContainersOptionsBuilder::default().filters(&filters).build();
    let listed = docker.list_containers(Some(options)).await?;
    assert_eq!((listed.len(), listed[0].id.as_ref()), (1, Some(&id)));

    let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail("all").build();
    let (out, err) = streams(docker.logs(&id, Some(options))).await?;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let options = query::StatsOptionsBuilder::default().stream(true).build();
    let stats: Vec<_> = docker.stats(&id, Some(options)).take(2).try_collect().await?;
    assert!(stats[1].memory_stats.as_ref().unwrap().usage.unwrap() > 0);
    assert!(docker.top_processes(&id, None::<query::TopOptions>).await?.processes.unwrap().len() == 1);

    let exec = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(vec!["C=d".into()]),
        cmd: Some(["sh", "-c", "echo $A$C; exit 3"].map(str::to_owned).into()),
        ..Default::default()
    };
    let exec = docker.create_exec(&id, exec).await?.id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await? else { unreachable!() };
    assert_eq!(streams(output).await?.0, "bd\n");
    assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(3));
    let changes = docker.container_changes(&id).await?;
    assert!(changes.is_none_or(|changes| !changes.is_empty()));

    docker.pause_container(&id).await?;
    docker.unpause_container(&id).await?;
    docker.update_container(&id, ContainerUpdateBody { cpu_shares: Some(512), ..Default::default() }).await?;
    docker.rename_container(&id, query::RenameContainerOptionsBuilder::default().name("toured").build()).await?;
    let archive: Vec<_> = {
        let options = query::DownloadFromContainerOptionsBuilder::default().path("/etc/passwd").build();
        docker.download_from_container("toured", Some(options)).try_collect().await?
    };
    assert!(archive.concat().windows(4).any(|part| part == b"root"));
    let waited = docker.wait_container(&id, None::<query::WaitContainerOptions>);
    let options = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
    docker.stop_container(&id, Some(query::StopContainerOptionsBuilder::default().t(0).build())).await?;
    assert!(docker.kill_container(&id, Some(options)).await.is_err(), "it does not run any more");
    // bollard makes an exit code that is not 0 an error.
    let waited = waited.try_collect::<Vec<_>>().await;
    assert!(matches!(waited, Err(bollard::errors::Error::DockerContainerWaitError { code: 137, .. })), "{waited:?}");
    docker.remove_container(&id, None::<query::RemoveContainerOptions>).await?;
    Ok(())
}

/// Input and output over a hijacked connection, from before the start.
async fn attached(docker: &Docker) -> Outcome {
    let body = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        ..busybox(&["cat"])
    };
    let id = create(docker, "cat", body).await?;
    let options = query::AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true);
    let AttachContainerResults { output, mut input } = docker.attach_container(&id, Some(options.build())).await?;
    docker.start_container(&id, None::<query::StartContainerOptions>).await?;
    input.write_all(b"there and back\n").await?;
    input.shutdown().await?;
    assert_eq!(streams(output).await?.0, "there and back\n");
    let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(&id, Some(options)).await?;
    Ok(())
}

async fn networks_and_volumes(docker: &Docker) -> Outcome {
    let request = NetworkCreateRequest { name: "tour-net".into(), ..Default::default() };
    docker.create_network(request).await?;
    let volume = VolumeCreateRequest { name: Some("tour-data".into()), ..Default::default() };
    assert_eq!(docker.create_volume(volume).await?.driver, "local");
    let host = HostConfig { binds: Some(vec!["tour-data:/data".into()]), ..Default::default() };
    let body = ContainerCreateBody { host_config: Some(host), ..busybox(&["sleep", "1000"]) };
    let id = create(docker, "joined", body).await?;
    docker.start_container(&id, None::<query::StartContainerOptions>).await?;
    let request = NetworkConnectRequest { container: id.clone(), endpoint_config: None };
    docker.connect_network("tour-net", request).await?;
    let found = docker.inspect_network("tour-net", None::<query::InspectNetworkOptions>).await?;
    assert!(found.containers.unwrap().contains_key(&id));
    let request = NetworkDisconnectRequest { container: id.clone(), force: Some(false) };
    docker.disconnect_network("tour-net", request).await?;
    assert!(docker.remove_volume("tour-data", None::<query::RemoveVolumeOptions>).await.is_err(), "it is in use");
    let options = query::RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&id, Some(options)).await?;
    docker.remove_volume("tour-data", None::<query::RemoveVolumeOptions>).await?;
    docker.remove_network("tour-net").await?;
    Ok(())
}

/// Statuses arrive as what they are.
async fn errors(docker: &Docker) -> Outcome {
    let status = |error| match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => status_code,
        other => panic!("{other}"),
    };
    let missing = docker.inspect_container("nosuch", None::<query::InspectContainerOptions>).await;
    assert_eq!(status(missing.unwrap_err()), 404);
    let image = ContainerCreateBody { image: Some("nosuch:never".into()), ..Default::default() };
    assert_eq!(status(create(docker, "nothing", image).await.unwrap_err()), 404);
    create(docker, "taken", busybox(&["true"])).await?;
    assert_eq!(status(create(docker, "taken", busybox(&["true"])).await.unwrap_err()), 409);
    docker.remove_container("taken", None::<query::RemoveContainerOptions>).await?;
    Ok(())
}

async fn streams(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
) -> Result<(String, String), bollard::errors::Error> {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(piece) = output.try_next().await? {
        match piece {
            LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
            other => out.push_str(&String::from_utf8_lossy(&other.into_bytes())),
        }
    }
    Ok((out, err))
}
