//! How long an image's signature takes, and a verification, whole process, beside the registry alone; and
//! the memory of a large attestation. See docs/performance.md.
//!
//! `cargo bench -p countersign-cli --bench image`. The registry is in this process, so no network is measured.
//! `COUNTERSIGN_BENCH_SBOM_MB` sets the size of the attestation (100; 0 leaves it out).

use countersign_testkit::registry::Registry;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EMAIL: &str = "you@example.com";
const IMAGES: usize = 1000;
const ROUNDS: usize = 15;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    for referrers in [true, false] {
        let registry = Registry::start(referrers);
        let kind = if referrers { "with the referrers API" } else { "with the fallback tag" };
        let images: Vec<_> = (0..IMAGES)
            .map(|number| {
                let name = format!("acme/app{number}");
                let digest = registry.push_image(&name, "v1", &number.to_string());
                format!("{}/{name}@{digest}", registry.address)
            })
            .collect();
        println!("registry {kind}");
        let floor = Rounds::of(|_| countersign(&["--version"]));
        println!("  start of the process                       {floor}");
        for (what, work) in
            [("sign", Dev::signing as fn(&Dev, &[&str]) -> Command), ("verify", Dev::verifying)]
        {
            let _ = registry.requests();
            let rounds = Rounds::of(|round| work(&dev, &[what, &images[round]]));
            let requests = registry.requests().len() / ROUNDS;
            let ratio = rounds.median.as_secs_f64() / floor.median.as_secs_f64();
            println!(
                "  {what:6} by digest, whole process            {rounds}, {requests} requests, {ratio:.1} times the start"
            );
        }
        let mut all = vec!["sign"];
        all.extend(images.iter().skip(ROUNDS).map(String::as_str));
        let many = timed(|| dev.sign(&all));
        println!("  sign {} images in one call                {many:>10.1?}", all.len() - 1);
        let mut all = vec!["verify"];
        all.extend(images.iter().map(String::as_str));
        let _ = registry.requests();
        let many = timed(|| dev.verify(&all));
        let asked = registry.requests();
        println!("  verify {IMAGES} images in one call            {many:>10.1?}");
        let bare = timed(|| bare(&registry, asked.iter().map(|request| request.path.as_str())));
        let ratio = many.as_secs_f64() / bare.as_secs_f64();
        println!("  the same requests and nothing else         {bare:>10.1?}, ratio {ratio:.2}");
    }
    large(&dev, folder.path());
}

/// The same requests, one after the other over one connection.
fn bare<'a>(registry: &Registry, paths: impl Iterator<Item = &'a str>) {
    use std::io::{Read as _, Write as _};
    let mut stream = BufReader::new(std::net::TcpStream::connect(registry.address).unwrap());
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", registry.address);
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
    }
}

/// A bill of material of the size that large ones have.
fn large(dev: &Dev, folder: &Path) {
    let size = std::env::var("COUNTERSIGN_BENCH_SBOM_MB").ok().map_or(100, |s| s.parse().unwrap());
    if size == 0 {
        return;
    }
    let line = r#"{"type":"library","name":"component","version":"1.0.0","purl":"pkg:cargo/component@1.0.0"},"#;
    let mut json = String::from(r#"{"components":["#);
    while json.len() + line.len() + 4 < size * 1_000_000 {
        json.push_str(line);
    }
    json.push_str("{}]}");
    let file = folder.join("sbom.json");
    std::fs::write(&file, &json).unwrap();
    drop(json);
    let registry = Registry::start(true);
    let digest = registry.push_image("acme/app", "v1", "app");
    let image = format!("{}/acme/app@{digest}", registry.address);
    let entries = || std::fs::metadata(dev.dir.join("countersign.db")).unwrap().len();
    let before = entries();
    let file = file.to_str().unwrap();
    let attest = ["attest", "--type", "cyclonedx", "--predicate", file, &image];
    let (signed, most) = measured(dev.signing(&attest));
    println!(
        "attest a bill of material of {size} MB             {signed:>10.1?}, {most} MiB resident"
    );
    println!("  the instance's database grew by {} bytes", entries() - before);
    let verify = ["verify-attestation", "--type", "cyclonedx", &image];
    let (verified, most) = measured(dev.verifying(&verify));
    println!(
        "verify it                                     {verified:>10.1?}, {most} MiB resident"
    );
}

/// How long a command takes, and the most memory it has resident, MiB: the kernel's high-water mark.
fn measured(mut command: Command) -> (Duration, u64) {
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut most, status) = (0, format!("/proc/{}/status", child.id()));
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(peak.unwrap_or(0_u64));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(ended.success());
    (start.elapsed(), most / 1024)
}

/// The same command some times over.
struct Rounds {
    least: Duration,
    median: Duration,
    cpu: Duration,
}

impl Rounds {
    /// Making a command, and what it needs, is not part of it.
    fn of(command: impl Fn(usize) -> Command) -> Self {
        let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
        for round in 0..ROUNDS {
            let mut command = command(round);
            let before = children();
            times.push(timed(|| assert!(command.status().unwrap().success())));
            cpu += children() - before;
        }
        times.sort_unstable();
        let count = u32::try_from(ROUNDS).unwrap();
        Self { least: times[0], median: times[ROUNDS / 2], cpu: cpu / count }
    }
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { least, median, cpu } = self;
        write!(f, "{median:>10.1?} median, {least:.1?} least, {cpu:.1?} of a core")
    }
}

/// What the processes that this one waited for used of a core, in the kernel's ticks of 10 ms: the fields `cutime` and
/// `cstime`, after the name, which may have blanks.
fn children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_ascii_whitespace().skip(13).take(2);
    Duration::from_millis(10 * ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

struct Dev {
    child: Child,
    url: String,
    dir: PathBuf,
    token: PathBuf,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        let (dir, token) = (folder.join("dev"), folder.join("token.jwt"));
        let mut child = countersign(&["dev", "--listen", "127.0.0.1:0"]);
        let mut child = child.arg("--dir").arg(&dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("Serving ").map(|rest| rest.split(' ').next().unwrap().to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: url.expect("the instance serves"), dir, token }
    }

    fn signing(&self, args: &[&str]) -> Command {
        let output = countersign(&["token", "--instance", &self.url, "--email", EMAIL])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        std::fs::write(&self.token, output.stdout).unwrap();
        let mut command = countersign(args);
        command.arg("--identity-token").arg(&self.token).arg("--trust-config").arg(self.config());
        command
    }

    fn verifying(&self, args: &[&str]) -> Command {
        let mut command = countersign(args);
        command.args(["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &self.url]);
        command.arg("--trust-config").arg(self.config());
        command
    }

    fn sign(&self, args: &[&str]) {
        assert!(self.signing(args).status().unwrap().success());
    }

    fn verify(&self, args: &[&str]) {
        assert!(self.verifying(args).status().unwrap().success());
    }

    fn config(&self) -> PathBuf {
        self.dir.join("trust/client_trust_config.json")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn countersign(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(args).stdout(Stdio::null()).stdin(Stdio::null());
    command
}
