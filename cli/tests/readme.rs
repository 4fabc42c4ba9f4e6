//! Every command in the README does what it says. The blocks marked `sh` are run line by line, in one
//! shell, from the root of a copy of the workspace; `./test`, which runs this, is only looked for.

use std::path::Path;
use std::process::Command;

#[test]
fn every_command_in_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut script = String::from("set -eu\nset -m\n");
    let mut commands = 0;
    for block in readme.split("```sh\n").skip(1) {
        let (block, _) = block.split_once("```").expect("each block ends");
        for line in block.lines() {
            commands += 1;
            script.push_str(&match line {
                "./test" => "test -x ./test\n".to_owned(),
                // The binary under test is built; building it again from within a test would wait for
                // the lock that this test's own build may hold.
                "cargo run --release -- demo" => "countersign demo\n".to_owned(),
                line if line.starts_with("cargo build --release && ") => String::new(),
                line => format!("{line}\n"),
            });
        }
    }
    assert!(commands >= 10, "the README shows its commands: {commands}");
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("target")).unwrap();
    std::fs::copy(root.join("test"), here.join("test")).unwrap();
    // A port of its own, in place of the one a developer may be using.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = script.replace("8420", &port.to_string());
    let binary = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("bash").arg("-c").arg(&script).current_dir(here).env("PATH", path).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{text}\n{errors}");
    assert!(
        text.contains("verified hello.txt") && text.contains("Nothing is left behind"),
        "{text}"
    );
}
