//! `countersign log hammer`: it rides through a server's death, and tells when a log breaks its word.

mod common;

use common::{Dev, assert_fails, clean, run};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

fn hammer(dev: &Dev, flags: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    clean(&mut command)
        .args(["log", "hammer", "--instance", &dev.url, "--output", "json"])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Waits until the log has what was written; before that, keys are made and entries are signed.
fn until_it_writes(dev: &Dev) {
    for _ in 0..3000 {
        let note = std::fs::read_to_string(dev.dir.join("log/checkpoint")).unwrap_or_default();
        if note.lines().nth(1).and_then(|size| size.parse().ok()).is_some_and(|size: u64| size > 1)
        {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("nothing is written to {}", dev.url);
}

#[test]
fn an_honest_log_keeps_its_word_however_often_its_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&folder.path().join("dev"));
    let token = dev.token("you@example.com");
    let flags = ["--writers", "8", "--readers", "1", "--duration", "3s"];
    let flags =
        [&flags[..], &["--repeats", "0.3", "--invalid", "0.1"], &["--identity-token", &token]];
    let hammer = hammer(&dev, &flags.concat());
    until_it_writes(&dev);
    for _ in 0..2 {
        sleep(Duration::from_millis(500));
        dev.kill();
        dev = Dev::start(&dev.dir.clone());
    }
    let output = hammer.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    for some in ["accepted", "repeats", "refused", "reads", "retries", "checkpoints"] {
        assert!(count(some) > 0, "{some}: {report}");
    }
    for none in
        ["lost", "broken_proofs", "doubled", "wrongly_accepted", "wrongly_refused", "failed"]
    {
        assert_eq!(count(none), 0, "{none}: {report}");
    }
    assert_eq!(count("checked"), count("accepted"), "{report}");
    // What was not acknowledged in time may be there as well.
    assert!(count("size") > count("accepted"), "{report}");
    assert!(report["p50_ms"].as_f64() <= report["p99_ms"].as_f64(), "{report}");
}

#[test]
fn a_log_that_was_put_back_to_an_old_copy_is_caught() {
    let folder = tempfile::tempdir().unwrap();
    let (place, old) = (folder.path().join("dev"), folder.path().join("old"));
    let mut dev = Dev::start(&place);
    assert!(dev.terminate());
    copy(&place, &old);
    dev = Dev::start(&place);
    let hammer = hammer(&dev, &["--writers", "2", "--duration", "2s"]);
    until_it_writes(&dev);
    dev.kill();
    std::fs::remove_dir_all(&place).unwrap();
    copy(&old, &place);
    let _dev = Dev::start(&place);
    let output = hammer.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let broken = report["lost"].as_u64().unwrap() + report["broken_proofs"].as_u64().unwrap();
    assert!(broken > 0, "{report}");
}

#[test]
fn a_log_that_is_away_is_neither_whole_nor_broken() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&folder.path().join("dev"));
    dev.kill();
    let config = dev.config();
    let config = ["log", "hammer", "--trust-config", config.to_str().unwrap()];
    let flags = ["--writers", "1", "--duration", "1ms", "--timeout", "100ms"];
    assert_fails(&run(config.iter().chain(&flags)), 2, "no entry was accepted");
    assert_fails(&run(config.iter().chain(&["--repeats", "1.1"])), 2, "expected 0 to 1");
}
