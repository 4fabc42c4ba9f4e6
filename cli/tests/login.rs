//! A person logs in, and the test is the browser.

mod common;

use common::{Dev, clean, run, verdict};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// A bare GET; the answer with its head.
fn get(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host.replace("localhost", "127.0.0.1")).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_person_who_logs_in_signs_under_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("dev"));
    let file = folder.path().join("file");
    std::fs::write(&file, "hello").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(["sign-blob", "--login", "browser", "--trust-config"])
        .arg(dev.config())
        .arg(&file);
    // Nothing is opened here.
    command.env("PATH", folder.path());
    let mut signing = clean(&mut command).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(signing.stderr.take().unwrap()).lines();
    let page = lines.find_map(|line| line.unwrap().strip_prefix("log in at ").map(str::to_owned));
    let page = page.expect("the page is shown");
    assert!(page.contains("code_challenge_method=S256"), "{page}");
    let callback = |answer: &str| {
        let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
        location.expect("a redirect").trim().to_owned()
    };
    let back = callback(&get(&format!("{page}&login_hint=a%40example.com")));

    // Another page that knows the port cannot end the login, nor stop it.
    let (base, _) = back.split_once('?').unwrap();
    assert!(get(&format!("{base}?code=x&state=guessed")).starts_with("HTTP/1.1 400"));
    assert!(get(&base.replace("/auth/callback", "/favicon.ico")).starts_with("HTTP/1.1 404"));
    assert!(get(&back).contains("You are logged in"));
    assert!(signing.wait().unwrap().success());
    let bundle = folder.path().join("file.sigstore.json");
    let verified = dev.verify(&file, &bundle, "a@example.com");
    assert_eq!(verdict(&verified).0, 0, "{verified:?}");

    let device = run(["sign-blob", "--login", "device", "--trust-config"]
        .map(std::ffi::OsString::from)
        .into_iter()
        .chain([dev.config().into(), file.into()]));
    let (status, text) = verdict(&device);
    assert!(status == 2 && text.contains("offers no login by another device"), "{text}");
}
