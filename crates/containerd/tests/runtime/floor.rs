//! The floor: what containerd and runc alone take for one run of `true`. Run by hand:
//! `cargo test --release -p gantry-containerd --test runtime floor -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use gantry_domain::ports::Runtime as _;

use crate::harness::{Bench, able, null_io};

const ROUNDS: usize = 20;
const STEPS: [&str; 7] = ["create_container", "create_task", "start", "wait", "delete", "delete_container", "sum"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn floor() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(cycle(&bench).await);
    }
    for (step, name) in STEPS.iter().enumerate() {
        let mut times: Vec<Duration> = rounds.iter().map(|round| round[step]).collect();
        times.sort();
        let ms = |at: usize| times[at].as_secs_f64() * 1e3;
        println!("{name:>17} median {:6.1} ms  min {:6.1}  max {:6.1}", ms(ROUNDS / 2), ms(0), ms(ROUNDS - 1));
    }
}

async fn cycle(bench: &Bench) -> [Duration; 7] {
    let setup = bench.setup(|_| {});
    let (id, runtime) = (&setup.id, &bench.runtime);
    let began = Instant::now();
    let mut times = [Duration::ZERO; 7];
    let mut lap = began;
    let mut note = |step: usize| {
        times[step] = lap.elapsed();
        lap = Instant::now();
    };
    runtime.create_container(&setup).await.unwrap();
    note(0);
    runtime.create_task(&null_io(id)).await.unwrap();
    note(1);
    runtime.start_task(id).await.unwrap();
    note(2);
    runtime.wait(id, None).await.unwrap();
    note(3);
    runtime.delete_task(id, None).await.unwrap();
    note(4);
    runtime.delete_container(id).await.unwrap();
    note(5);
    times[6] = began.elapsed();
    times
}
