//! How long a review takes over TLS, warm and cold, beside a request that asks nothing. See docs/performance.md.
//!
//! `cargo bench -p countersign-cli --bench admission`. The registry is in this process and admission on
//! loopback, so no network is measured.

#[path = "../tests/common/mod.rs"]
mod common;

use common::https::Https;
use common::{Dev, run};
use countersign_testkit::registry::Registry;
use countersign_testkit::tls_certificate;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EMAIL: &str = "ci@example.com";
/// Reviews one after the other.
const WARM: usize = 5000;
/// Connections that ask at the same time, as the webhook client of an API server does under load.
const CONNECTIONS: usize = 8;
/// Images of which nothing is known yet.
const COLD: usize = 100;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let dev = Dev::start(&folder.join("dev"));
    let registry = Registry::start(true);
    let images: Vec<_> = (0..=COLD)
        .map(|number| {
            let name = format!("acme/app{number}");
            let digest = registry.push_image(&name, "v1", &number.to_string());
            format!("{}/{name}@{digest}", registry.address)
        })
        .collect();
    let (token, config) = (dev.token(EMAIL), dev.config());
    let mut sign = vec!["sign", "--trust-config", config.to_str().unwrap()];
    sign.extend(["--identity-token", &token]);
    sign.extend(images.iter().map(String::as_str));
    assert!(run(sign).status.success());
    let server = Server::start(folder, &dev, &registry);

    let mut https = server.connect();
    let known = review(&images[0]);
    assert!(https.post("/validate", &known).1.contains("\"allowed\":true"));
    let mut floor: Vec<_> = (0..WARM).map(|_| timed(|| https.get("/healthz"))).collect();
    let mut warm: Vec<_> = (0..WARM).map(|_| timed(|| https.post("/validate", &known))).collect();
    floor.sort_unstable();
    warm.sort_unstable();
    let ratio = warm[WARM / 2].as_secs_f64() / floor[WARM / 2].as_secs_f64();
    println!("a review of one image over TLS, evidence known");
    print("p50", warm[WARM / 2], "");
    print("p99", warm[WARM * 99 / 100], "");
    print("p50 of a request that asks nothing", floor[WARM / 2], &format!("ratio {ratio:.2}"));

    let all = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut https = server.connect();
                for _ in 0..WARM / CONNECTIONS {
                    https.post("/validate", &known);
                }
            });
        }
    });
    let second = (WARM / CONNECTIONS * CONNECTIONS) as f64 / all.elapsed().as_secs_f64();
    println!("  {CONNECTIONS} connections                    {second:>10.0} reviews a second");

    let _ = registry.requests();
    let mut cold: Vec<_> = images[1..]
        .iter()
        .map(|image| {
            let review = review(image);
            timed(|| assert!(https.post("/validate", &review).1.contains("\"allowed\":true")))
        })
        .collect();
    let requests = registry.requests().len() as f64 / COLD as f64;
    cold.sort_unstable();
    println!("a review of one image over TLS, nothing known");
    print(
        "p50",
        cold[COLD / 2],
        &format!("{requests:.1} requests, of which one waits for another"),
    );
    print("p99", cold[COLD * 99 / 100], "");
}

fn print(what: &str, time: Duration, more: &str) {
    println!("  {what:<40}{time:>10.1?}   {more}");
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A pod as an API server sends it.
fn review(image: &str) -> Vec<u8> {
    let kind = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let resource = json!({ "group": "", "version": "v1", "resource": "pods" });
    let container = json!({ "name": "pay", "image": image, "imagePullPolicy": "IfNotPresent",
        "resources": { "requests": { "cpu": "100m" } }, "terminationMessagePath": "/dev/termination-log" });
    let object = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "pay" },
        "spec": { "containers": [container], "restartPolicy": "Always" } });
    let request = json!({ "uid": "8f4b9c1e-0d0b-4c58-9a51-4f0a3f7be4a6", "kind": kind,
        "resource": resource, "namespace": "payments", "operation": "CREATE",
        "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
        "object": object, "oldObject": null, "dryRun": false });
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
        .to_string()
        .into_bytes()
}

struct Server {
    child: Child,
    address: String,
    certificate: String,
}

impl Server {
    fn start(folder: &Path, dev: &Dev, registry: &Registry) -> Self {
        let (certificate, key) = tls_certificate(&["localhost"]);
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("tls.crt", &certificate);
        write("tls.key", &key);
        write(
            "policy.yaml",
            &format!(
                "policy: bench
serial: 1
owners: {{roles: [ci], at-least: 1}}
who: {{ci: {{issuer: {}, email: {EMAIL}}}}}
what: {{apps: {{images: {}/acme/**}}}}
may: [{{who: ci, do: sign, to: apps}}]
must: [{{name: apps are signed, every: apps, needs: [signature: {{by: ci}}], otherwise: refuse}}]
",
                dev.url, registry.address
            ),
        );
        write(
            "admission.toml",
            &format!(
                "listen = \"127.0.0.1:0\"\n[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n[admission]\npolicy = [\"policy.yaml\"]\ntrusted-root = [\"{}\"]\ncluster = \"main\"\n",
                dev.dir.join("trust/trusted_root.json").display()
            ),
        );
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["serve", "--role", "admission", "--config", "admission.toml"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next();
        let line = line.expect("it says where it serves").unwrap();
        let address = line.strip_prefix("Serving https://").unwrap().split(' ').next().unwrap();
        Self { address: address.to_owned(), child, certificate }
    }

    fn connect(&self) -> Https {
        Https::connect(&self.address, &self.certificate)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
