//! Execs and their streams.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use gantry_domain::{
    ContainerId, ErrorKind, ExecId,
    log::Stream,
    ports::{BoxStream, ExecSetup, OutputChunk, Runtime as _},
};
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Bench, SOON, able, process};

fn setup(container: &ContainerId, args: &[&str]) -> ExecSetup {
    ExecSetup {
        container: container.clone(),
        exec: ExecId::random(),
        process: Bytes::from(process(args).to_string()),
        terminal: false,
        stdin: false,
        output: true,
        console_size: None,
    }
}

async fn collect(mut output: BoxStream<gantry_domain::Result<OutputChunk>>) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = async {
        while let Some(chunk) = output.next().await {
            let chunk = chunk.unwrap();
            if chunk.stream == Stream::Stdout { out.extend(chunk.data) } else { err.extend(chunk.data) }
        }
    };
    timeout(SOON, all).await.expect("the output ends");
    (out, err)
}

async fn exit_code(bench: &Bench, setup: &ExecSetup) -> u32 {
    let exit = timeout(SOON, bench.runtime.wait(&setup.container, Some(&setup.exec))).await.unwrap().unwrap();
    bench.runtime.delete_task(&setup.container, Some(&setup.exec)).await.unwrap();
    exit.code
}

fn folders(bench: &Bench) -> usize {
    std::fs::read_dir(bench.dir.path().join("run/exec")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_tells_its_output_and_exit_and_leaves_nothing() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let exec = setup(&id, &["sh", "-c", "echo out; echo err >&2; exit 5"]);
    let started = bench.runtime.exec(&exec).await.unwrap();
    assert!(started.pid > 0 && started.stdin.is_none());
    let (out, err) = collect(started.output.unwrap()).await;
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(exit_code(&bench, &exec).await, 5);
    assert_eq!(folders(&bench), 0);
    // Detached: no streams at all.
    let exec = ExecSetup { output: false, ..setup(&id, &["sh", "-c", "echo nobody; exit 6"]) };
    let started = bench.runtime.exec(&exec).await.unwrap();
    assert!(started.output.is_none());
    assert_eq!(exit_code(&bench, &exec).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_takes_input_to_its_end_and_gives_it_back_whole() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let exec = ExecSetup { stdin: true, ..setup(&id, &["cat"]) };
    let started = bench.runtime.exec(&exec).await.unwrap();
    let mut stdin = started.stdin.unwrap();
    let input: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = Bytes::from(input.clone());
    let sending = tokio::spawn(async move {
        for chunk in sent.chunks(100_000) {
            stdin.send(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        stdin.close().await.unwrap();
    });
    let (out, _) = collect(started.output.unwrap()).await;
    sending.await.unwrap();
    assert!(out == input, "{} of {} bytes came back", out.len(), input.len());
    assert_eq!(exit_code(&bench, &exec).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_of_an_exec_is_told_and_undone() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let exec = setup(&id, &["nosuch"]);
    let error = bench.runtime.exec(&exec).await.err().unwrap();
    assert_eq!(
        error.message(),
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": executable file \
         not found in $PATH: unknown"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert_eq!(folders(&bench), 0);
    assert!(bench.runtime.wait(&id, Some(&exec.exec)).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_of_an_exec_has_its_size() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let mut document = process(&["stty", "size"]);
    document["terminal"] = json!(true);
    document["consoleSize"] = json!({ "height": 33, "width": 99 });
    let process = Bytes::from(document.to_string());
    let exec = ExecSetup { terminal: true, stdin: true, process, console_size: Some([33, 99]), ..setup(&id, &[]) };
    let started = bench.runtime.exec(&exec).await.unwrap();
    let (out, err) = collect(started.output.unwrap()).await;
    assert_eq!((out.as_slice(), err.len()), (&b"33 99\r\n"[..], 0));
    started.stdin.unwrap().close().await.unwrap();
    assert_eq!(exit_code(&bench, &exec).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_makes_the_process_wait_and_one_that_left_does_not() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let exec = setup(&id, &["sh", "-c", "yes | head -c 50000000"]);
    let started = bench.runtime.exec(&exec).await.unwrap();
    let mut output = started.output.unwrap();
    let waited = timeout(Duration::from_secs(2), bench.runtime.wait(&id, Some(&exec.exec))).await;
    assert!(waited.is_err(), "50 MB do not fit into the buffers on the way");
    assert!(output.next().await.unwrap().unwrap().data.len() <= 64 << 10);
    drop(output);
    assert_eq!(exit_code(&bench, &exec).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_with_the_process_though_a_child_lives_on() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let exec = setup(&id, &["sh", "-c", "sleep 500 & echo said"]);
    let started = bench.runtime.exec(&exec).await.unwrap();
    let (out, _) = collect(started.output.unwrap()).await;
    assert_eq!(out, b"said\n");
    assert_eq!(exit_code(&bench, &exec).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gantryd_joins_a_running_exec() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let exec = ExecSetup { stdin: true, ..setup(&id, &["sh", "-c", "read a; echo got $a; exit 9"]) };
    let first = bench.runtime.exec(&exec).await.unwrap();
    let listed = bench.runtime.pids(&id).await.unwrap();
    assert!(listed.iter().any(|pid| pid.exec.as_ref() == Some(&exec.exec)), "{listed:?}");
    // A second runtime stands for the next gantryd; the first one's reader stays silent as it is never asked.
    let next = gantry_containerd::runtime::ContainerdRuntime::new(
        bench.containerd.as_ref().unwrap(),
        gantry_domain::engine_id::EngineId("x".into()),
        bench.dir.path().join("run"),
        Default::default(),
    );
    let joined = next.adopt_exec(&exec).await.unwrap();
    assert_eq!(joined.pid, first.pid);
    drop(first.stdin);
    let mut stdin = joined.stdin.unwrap();
    stdin.send(Bytes::from_static(b"it\n")).await.unwrap();
    // Both read the one FIFO here, so either may have the line; the exit is certain.
    assert_eq!(exit_code(&bench, &exec).await, 9);
    assert!(next.adopt_exec(&exec).await.err().unwrap().is_not_found());
}
