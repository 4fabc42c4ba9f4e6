//! Admission as an API server has it: the binary, over TLS, with reviews as they are sent, and a registry in
//! memory that counts what it is asked.

mod common;
#[path = "admission/manifests.rs"]
mod manifests;
#[path = "admission/story.rs"]
mod story;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::https::Https;
use common::{Dev, assert_fails, clean, run, verdict};
use countersign_testkit::registry::{Registry, Reply};
use countersign_testkit::{SigningKey, tls_certificate};
use countersign_verify::key::KeyDetails;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the tests wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster with admission in front of it: an instance that signs, a registry, a policy by which images of
/// `acme` are signed by CI.
struct World {
    folder: tempfile::TempDir,
    dev: Dev,
    registry: Registry,
    server: Option<Server>,
    certificate: String,
}

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("dev"));
        let (certificate, key) = tls_certificate(&["localhost"]);
        let registry = Registry::start(true);
        let world = Self { folder, dev, registry, server: None, certificate };
        world.write("tls.crt", &world.certificate);
        world.write("tls.key", &key);
        world.configure("deadline = \"20s\"");
        world.write("policy.yaml", &world.policy(1, "ci"));
        world
    }

    /// The same, with admission at work.
    fn serving() -> Self {
        let mut world = Self::new();
        world.serve();
        world
    }

    /// As the chart configures it, but for where the files are.
    fn configure(&self, more: &str) {
        let root = self.dev.dir.join("trust/trusted_root.json");
        let config = manifests::config("prod-eu", "countersign-system", more)
            .replace("0.0.0.0:8443", "127.0.0.1:0")
            .replace("/policy/trusted_root.json", root.to_str().unwrap())
            .replace("/policy/", "")
            .replace("/tls/", "");
        self.write("admission.toml", &config);
    }

    fn policy(&self, serial: u32, role: &str) -> String {
        let (issuer, host) = (&self.dev.url, self.registry.address);
        format!(
            "policy: cluster
serial: {serial}
owners: {{roles: [ci], at-least: 1}}
who:
  ci: {{issuer: {issuer}, email: ci@example.com}}
  humans: {{issuer: {issuer}, email: human@example.com}}
what:
  apps: {{images: {host}/acme/**}}
where:
  production: {{clusters: [prod-*], namespaces: {{not: [sandbox]}}}}
may:
  - {{who: [ci, humans], do: sign, to: apps}}
must:
  - {{name: apps are signed, every: apps, in: production, needs: [signature: {{by: {role}}}], otherwise: refuse}}
admission:
  pin-tags-to-digests: true
  extra-images-at: {{rollouts.argoproj.io: spec.template.spec}}
"
        )
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["serve", "--role", "admission", "--config", "admission.toml"]);
        clean(command.current_dir(self.folder.path()));
        command
    }

    fn serve(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut child = self.command().stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().map(Result::unwrap).unwrap_or_default();
        let address =
            line.strip_prefix("Serving https://").unwrap_or_else(|| panic!("{}", self.log()));
        let address = address.split(' ').next().unwrap().to_owned();
        self.server = Some(Server { child, address });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn https(&self) -> Https {
        Https::connect(&self.server.as_ref().unwrap().address, &self.certificate)
    }

    fn hang_up(&self) {
        let id = self.server.as_ref().unwrap().child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "never: {what}; {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A counter, by its whole name; 0 while it is not there.
    fn counted(&self, series: &str) -> u64 {
        let (_, text) = self.https().get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Stores an image under a tag: its name by digest.
    fn push(&self, name: &str, text: &str) -> String {
        let (repository, tag) = name.split_once(':').unwrap();
        let digest = self.registry.push_image(repository, tag, text);
        format!("{}/{repository}@{digest}", self.registry.address)
    }

    fn sign(&self, image: &str, email: &str) {
        let (token, config) = (self.dev.token(email), self.dev.config());
        let config = config.to_str().unwrap();
        let args = ["sign", "--trust-config", config, "--identity-token", &token, image];
        done(&run(args));
    }

    /// What validation says of an object.
    fn validate(&self, review: &Value) -> Value {
        self.ask("/validate", review)
    }

    fn ask(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.https().post(path, review.to_string().as_bytes());
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    fn allows(&self, review: &Value) {
        let answer = self.validate(review);
        assert_eq!(answer["allowed"], true, "{answer}");
    }

    /// That validation says no, with this status and reason.
    fn refuses(&self, review: &Value, code: u16, reason: &str) {
        let answer = self.validate(review);
        assert_eq!(answer["allowed"], false, "{answer}");
        assert_eq!(answer["status"]["code"], code, "{answer}");
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "expected {reason:?} in {message:?}");
    }
}

fn done(output: &Output) -> String {
    let (status, errors) = verdict(output);
    assert_eq!(status, 0, "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A review as an API server of 1.36 sends it.
fn review(kind: (&str, &str, &str), operation: &str, object: Value) -> Value {
    let (group, name, resource) = kind;
    let options = match operation {
        "CREATE" => json!({ "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions",
            "fieldManager": "kubectl-client-side-apply", "fieldValidation": "Strict" }),
        _ => json!({ "apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions" }),
    };
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "8f4b9c1e-0d0b-4c58-9a51-4f0a3f7be4a6",
            "kind": { "group": group, "version": "v1", "kind": name },
            "resource": { "group": group, "version": "v1", "resource": resource },
            "requestKind": { "group": group, "version": "v1", "kind": name },
            "requestResource": { "group": group, "version": "v1", "resource": resource },
            "name": "pay-7d4b9",
            "namespace": "payments",
            "operation": operation,
            "userInfo": { "username": "kubernetes-admin", "groups": ["system:masters"] },
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": options,
        },
    })
}

const POD: (&str, &str, &str) = ("", "Pod", "pods");

fn pod(images: &[&str]) -> Value {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(number, image)| {
            json!({ "name": format!("c{number}"), "image": image,
            "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log" })
        })
        .collect();
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": "pay-7d4b9", "namespace": "payments", "labels": { "app": "pay" } },
        "spec": { "containers": containers, "restartPolicy": "Always", "serviceAccountName": "default" },
        "status": {},
    })
}

fn new_pod(image: &str) -> Value {
    review(POD, "CREATE", pod(&[image]))
}

#[test]
fn reviews_of_every_kind_and_operation_are_answered_by_the_policy() {
    let world = World::serving();
    let (good, bad) = (world.push("acme/good:v1", "good"), world.push("acme/bad:v1", "bad"));
    world.sign(&good, "ci@example.com");
    let missing = "must \"apps are signed\"";

    world.allows(&new_pod(&good));
    let refused = world.validate(&new_pod(&bad));
    assert_eq!(refused["allowed"], false);
    assert_eq!(refused["status"]["reason"], "Forbidden");
    let message = refused["status"]["message"].as_str().unwrap();
    let expected = format!("spec.containers[0].image {bad}: policy cluster serial 1, {missing}");
    assert!(message.starts_with(&expected), "{message}");
    let audit = &refused["auditAnnotations"];
    assert_eq!(audit["images"], *bad);
    assert_eq!(audit["rules"], format!("cluster serial 1: {missing}"));
    assert_eq!(audit["decisions"].as_str().unwrap().len(), 24, "{audit}");
    assert!(world.log().contains(audit["decisions"].as_str().unwrap()), "it stands in our log");

    // One no is no for all, and the place is told.
    let mut volume = pod(&[&good]);
    volume["spec"]["initContainers"] = json!([{ "name": "i", "image": good }]);
    volume["spec"]["volumes"] = json!([{ "name": "v", "image": { "reference": bad } }]);
    world.refuses(&review(POD, "CREATE", volume), 403, "spec.volumes[0].image.reference");
    let template = |image: &str| json!({ "template": { "spec": pod(&[image])["spec"] } });
    let job = |image: &str| json!({ "jobTemplate": { "spec": template(image) } });
    for (kind, spec) in [
        (("apps", "Deployment", "deployments"), &template as &dyn Fn(&str) -> Value),
        (("batch", "CronJob", "cronjobs"), &job),
        (("argoproj.io", "Rollout", "rollouts"), &template),
    ] {
        let object = |image: &str| json!({ "metadata": { "name": "pay" }, "spec": spec(image) });
        world.allows(&review(kind, "CREATE", object(&good)));
        world.refuses(&review(kind, "CREATE", object(&bad)), 403, missing);
    }

    // An update is about what it changes; its subresource comes with the whole pod.
    let update = |new: Value, old: Value| {
        let mut review = review(POD, "UPDATE", new);
        review["request"]["oldObject"] = old;
        review
    };
    world.allows(&update(pod(&[&bad]), pod(&[&bad])));
    world.refuses(&update(pod(&[&bad, &bad]), pod(&[&bad])), 403, missing);
    let mut debugged = pod(&[&good]);
    debugged["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": bad,
        "targetContainerName": "c0", "stdin": true, "tty": true }]);
    let mut ephemeral = update(debugged, pod(&[&good]));
    ephemeral["request"]["subResource"] = "ephemeralcontainers".into();
    ephemeral["request"]["requestSubResource"] = "ephemeralcontainers".into();
    world.refuses(&ephemeral, 403, "spec.ephemeralContainers[0].image");
    let mut delete = review(POD, "DELETE", Value::Null);
    delete["request"]["oldObject"] = pod(&[&bad]);
    world.allows(&delete);
    let connect = json!({ "kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"] });
    world.allows(&review(("", "PodExecOptions", "pods"), "CONNECT", connect));

    // The place decides, too; what is not known of it counts as every place.
    let at = |namespace: &str, image: &str| {
        let mut review = new_pod(image);
        review["request"]["namespace"] = namespace.into();
        review
    };
    world.refuses(&at("sandbox", &bad), 403, "there are rules in production");
    let mut nowhere = new_pod(&bad);
    nowhere["request"].as_object_mut().unwrap().remove("namespace");
    world.refuses(&nowhere, 403, missing);
    let own = world.validate(&at("countersign-system", &bad));
    assert_eq!(
        (&own["allowed"], &own["auditAnnotations"]["let-through"]),
        (&json!(true), &json!("own namespace"))
    );
    world.refuses(&at("countersign-system-2", &bad), 403, missing);
    world.refuses(&new_pod("elsewhere.example/x@sha256:00"), 403, "names no image");
    let other = format!("elsewhere.example/x@{}", good.split_once('@').unwrap().1);
    world.refuses(&new_pod(&other), 403, "no rule that refuses is about");

    // A dry run is answered alike, and counted nowhere.
    let series = "countersign_admission_reviews_total{webhook=\"validate\",verdict=\"refused\"}";
    let before = world.counted(series);
    assert!(before > 5);
    let mut dry = new_pod(&bad);
    dry["request"]["dryRun"] = true.into();
    let answer = world.validate(&dry);
    assert_eq!(answer, refused, "the same answer");
    assert_eq!(world.counted(series), before);
    let mut odd = pod(&[&good]);
    odd["spec"]["runtime"] = json!({ "baseImage": "x" });
    world.allows(&review(POD, "CREATE", odd));
    assert_eq!(world.counted("countersign_admission_unknown_members_total"), 1);
}

#[test]
fn what_is_no_review_of_a_known_kind_is_never_allowed() {
    let world = World::serving();
    let whole = new_pod("r.example/a:v1");
    let with = |pointer: &str, value: Value| {
        let mut review = whole.clone();
        *review.pointer_mut(pointer).unwrap() = value;
        review
    };
    for (review, reason) in [
        (with("/request/kind/kind", "Secret".into()), "where Secret has its images is not known"),
        (with("/request/object/spec/containers", "x".into()), "/spec/containers: expected a list"),
        (
            with("/request/object/spec/containers/0/image", 7.into()),
            "expected the name of an image",
        ),
        (with("/request/object", Value::Null), "expected an object"),
        (with("/request/operation", "PATCH".into()), "unknown variant"),
        (with("/request/dryRun", "no".into()), "invalid type"),
        (with("/apiVersion", "admission.k8s.io/v1beta1".into()), "expected admission.k8s.io/v1"),
        (with("/request/namespace", json!([])), "invalid type"),
    ] {
        let answer = world.validate(&review);
        assert_eq!(answer["allowed"], false, "{reason}");
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "expected {reason:?} in {message:?}");
        // Mutation leaves the no to validation.
        let answer = world.ask("/mutate", &review);
        assert_eq!((&answer["allowed"], answer.get("patch")), (&json!(true), None), "{reason}");
    }
    // What has no uid to repeat, or is too large, is not answered as a review at all.
    for (body, status) in [
        (vec![b' '; (8 << 20) + 1], 413),
        (b"{".to_vec(), 400),
        ("[".repeat(1 << 16).into_bytes(), 400),
        (with("/request/uid", 7.into()).to_string().into_bytes(), 400),
        (json!({ "request": null }).to_string().into_bytes(), 400),
    ] {
        for path in ["/validate", "/mutate"] {
            let (found, answer) = world.https().post(path, &body);
            assert_eq!(found, status, "{path}: {answer}");
        }
    }
    for waits in ["9000000000000000000s", "-1s", "x", ""] {
        let query = format!("/validate?timeout={waits}");
        let (status, answer) = world.https().post(&query, whole.to_string().as_bytes());
        assert_eq!(status, 200, "{waits}: {answer}");
    }
    assert_eq!(world.https().get("/validate").0, 405);
    assert!(!world.log().contains("panicked"));
}

#[test]
fn tags_are_pinned_once_and_a_tag_that_was_moved_is_refused() {
    let world = World::serving();
    let good = world.push("acme/app:v1", "good");
    world.sign(&good, "ci@example.com");
    let tag = format!("{}/acme/app:v1", world.registry.address);
    let review = review(POD, "CREATE", pod(&[&tag, &good, &tag]));
    world.refuses(&review, 403, "it is named by a tag, which may come to mean another image");

    let _ = world.registry.requests();
    let answer = world.ask("/mutate", &review);
    assert_eq!(world.registry.requests().len(), 1, "one tag, asked for once");
    let mut object = review["request"]["object"].clone();
    apply(&answer, &mut object);
    let digest = good.split_once('@').unwrap().1;
    let pinned = format!("{tag}@{digest}");
    let images: Vec<_> =
        object["spec"]["containers"].as_array().unwrap().iter().map(|one| &one["image"]).collect();
    assert_eq!(images, [&json!(pinned), &json!(good), &json!(pinned)]);
    world.allows(&self::review(POD, "CREATE", object.clone()));
    let again = world.ask("/mutate", &self::review(POD, "CREATE", object));
    assert!(again.get("patch").is_none(), "{again}");

    // A deployment's replica set is compared with its template, so it is left alone; its pods are not.
    let owned = |kind: (&str, &str, &str), mut object: Value| {
        object["metadata"]["ownerReferences"] =
            json!([{ "kind": "Deployment", "controller": true }]);
        self::review(kind, "CREATE", object)
    };
    let template =
        json!({ "metadata": {}, "spec": { "template": { "spec": pod(&[&tag])["spec"] } } });
    let set = owned(("apps", "ReplicaSet", "replicasets"), template);
    assert!(world.ask("/mutate", &set).get("patch").is_none());
    world.allows(&set);
    let its_pod = owned(POD, pod(&[&tag]));
    assert!(world.ask("/mutate", &its_pod).get("patch").is_some());
    world.refuses(&its_pod, 403, "it is named by a tag");
    // What an update does not bring runs already.
    let mut labelled = self::review(POD, "UPDATE", pod(&[&tag]));
    labelled["request"]["oldObject"] = pod(&[&tag]);
    assert!(world.ask("/mutate", &labelled).get("patch").is_none());

    let _ = world.push("acme/app:v1", "forged");
    world.refuses(&set, 403, "must \"apps are signed\"");
    let review = new_pod(&tag);
    let mut object = review["request"]["object"].clone();
    apply(&world.ask("/mutate", &review), &mut object);
    let forged = self::review(POD, "CREATE", object);
    world.refuses(&forged, 403, "must \"apps are signed\"");
    world.allows(&new_pod(&pinned));

    // What cannot be pinned is told, and refused where it is decided.
    let missing = format!("{}/acme/none:v1", world.registry.address);
    let answer = world.ask("/mutate", &new_pod(&missing));
    assert_eq!((&answer["allowed"], answer.get("patch")), (&json!(true), None));
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("was not pinned") && warning.contains("does not exist"), "{warning}");
    world.refuses(&new_pod(&missing), 403, "it is named by a tag");
}

/// What only warns is told by evidence, and nothing that is let in without a rule is let in unseen if it may be barred.
#[test]
fn where_what_no_rule_is_about_comes_in_warnings_are_true_and_a_barred_part_of_an_index_stays_out()
{
    let world = World::new();
    let good = world.push("acme/good:v1", "good");
    world.sign(&good, "ci@example.com");
    let bad = world.push("acme/bad:v1", "bad");
    let barred = world.registry.push_image("other/app", "part", "barred");
    let index = world.registry.push_index("other/app", "v1", &[&barred]);
    let host = world.registry.address;
    let policy = world.policy(1, "ci").replace("otherwise: refuse", "otherwise: warn");
    let open = policy.replace("  pin-tags-to-digests: true\n", "") + "unmatched: allow\n";
    world.write("policy.yaml", &open);
    let mut world = world;
    world.serve();
    let ask = |image: &str| -> (Value, Vec<String>) {
        let question = json!({ "image": image, "namespace": "payments" }).to_string();
        let (_, body) = world.https().post("/verify", question.as_bytes());
        let answer: Value = serde_json::from_str(&body).unwrap();
        let warnings = serde_json::from_value(answer["warnings"].clone()).unwrap();
        (answer["allowed"].clone(), warnings)
    };
    let (allowed, warnings) = ask(&good);
    assert_eq!((allowed, warnings), (json!(true), vec![]));
    let (allowed, warnings) = ask(&bad);
    assert_eq!(allowed, true);
    assert!(
        warnings.len() == 1 && warnings[0].contains("must \"apps are signed\" is not met"),
        "{warnings:?}"
    );
    let (allowed, warnings) = ask(&format!("{host}/acme/good:v1"));
    assert_eq!(allowed, true);
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("judged by what its tag means now"),
        "{warnings:?}"
    );

    let part = format!("{host}/other/app@{index}");
    assert_eq!(ask(&part).0, true);
    world.write("policy.yaml", &format!("{open}never: [{{name: broken, digest: \"{barred}\"}}]\n"));
    world.until("the part is barred", |_| ask(&part).0 == false);
}

fn apply(answer: &Value, object: &mut Value) {
    assert_eq!((&answer["allowed"], &answer["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(object, &patch).unwrap();
}

#[test]
fn a_thousand_identical_reviews_get_one_answer_and_one_verification() {
    let world = World::serving();
    let good = world.push("acme/app:v1", "good");
    world.sign(&good, "ci@example.com");
    let review = new_pod(&good).to_string();
    let _ = world.registry.requests();
    // Fifty at once, before anything is known.
    let ask = |count: usize| {
        let mut https = world.https();
        (0..count).map(|_| https.post("/validate", review.as_bytes())).collect::<Vec<_>>()
    };
    let mut answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(|| ask(20))).collect();
        asked.into_iter().flat_map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(answers.len(), 1000);
    let requests = world.registry.requests().len();
    assert!((1..10).contains(&requests), "{requests} requests");
    answers.dedup();
    let [(200, answer)] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(answer.contains("\"allowed\":true"), "{answer}");
    let from = |place: &str| {
        world.counted(&format!("countersign_admission_evidence_total{{from=\"{place}\"}}"))
    };
    assert_eq!(from("registry"), 1, "verified once");
}

#[test]
fn without_registry_authority_and_log_what_is_known_comes_in_and_what_is_not_is_told_why() {
    let mut world = World::new();
    world.configure("deadline = \"1s\"");
    let [known, unknown] = ["known", "unknown"].map(|name| {
        let image = world.push(&format!("acme/{name}:v1"), name);
        world.sign(&image, "ci@example.com");
        image
    });
    let unsigned = world.push("acme/unsigned:v1", "unsigned");
    world.serve();
    // Neither the authority nor the log is asked: all evidence comes with the image.
    world.dev.kill();
    world.allows(&new_pod(&known));
    let late = world.push("acme/late:v1", "late");
    world.refuses(&new_pod(&late), 403, "must \"apps are signed\"");

    let undecided = |image: &str, reason: &str| {
        let answer = world.validate(&new_pod(image));
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(503)));
        let message = answer["status"]["message"].as_str().unwrap();
        let told = message.starts_with("it could not be told") && message.contains(reason);
        assert!(told, "expected {reason:?} in {message:?}");
    };
    // It fails.
    world.registry.meddle(|_, _| Reply::new(503, "").with("retry-after", "60"));
    world.allows(&new_pod(&known));
    undecided(&unknown, "answered 503");
    undecided(&unsigned, "answered 503");
    // It hangs: the answer comes at our deadline, not at the API server's.
    world.registry.meddle(|_, honest| {
        thread::sleep(Duration::from_secs(3));
        honest
    });
    let digest = known.split_once('@').unwrap().1;
    let [other, another] =
        ["other", "another"].map(|name| format!("{}/acme/{name}@{digest}", world.registry.address));
    undecided(&other, "did not answer");
    // Earlier still where the API server says that it does not wait as long.
    let (_, answer) =
        world.https().post("/validate?timeout=1s", new_pod(&another).to_string().as_bytes());
    assert!(answer.contains("did not answer within 0.8 s"), "{answer}");
    world.allows(&new_pod(&known));
    let tag = format!("{}/acme/known:v1", world.registry.address);
    let answer = world.ask("/mutate", &new_pod(&tag));
    assert!(answer["warnings"][0].as_str().unwrap().contains("did not answer"));
    // What was refused may be signed by now, and nobody can say.
    world.registry.meddle(|_, _| Reply::new(503, "").with("retry-after", "60"));
    let code = |world: &World| world.validate(&new_pod(&late))["status"]["code"].clone();
    world.until("it is undecided", |world| code(world) == 503);
    // It is back: what failed is asked for again after some seconds.
    world.registry.behave();
    world.until("it comes in", |world| world.validate(&new_pod(&unknown))["allowed"] == true);
    world.refuses(&new_pod(&unsigned), 403, "must \"apps are signed\"");
}

#[test]
fn a_policy_that_does_not_do_is_not_taken_and_the_last_good_one_stays() {
    let mut world = World::new();
    // At the start there is none that could stay.
    let policy = world.policy(1, "ci");
    let starts = |world: &World| world.command().output().unwrap();
    world
        .write("policy.yaml", &policy.replace("may:", "mya:").replace("every: apps", "every: app"));
    let refused = starts(&world);
    assert_fails(&refused, 2, "the key \"mya\" is not known");
    assert_fails(&refused, 2, "did you mean \"apps\"?");
    world.write("policy.yaml", &policy.replace("{not: [sandbox]}", "{label: tier=apps}"));
    assert_fails(&starts(&world), 2, "chooses namespaces by label in production");
    world.write("policy.yaml", &policy.replace("admission:", "admission:\n  kinds: [deployments]"));
    assert_fails(&starts(&world), 2, "expected pods among the kinds");
    world.configure("clutser = \"x\"");
    assert_fails(&starts(&world), 2, "admission.clutser is unknown; did you mean \"cluster\"?");
    let both = ["serve", "--role", "ca,admission", "--config", "x"];
    assert_fails(&run(both), 2, "admission runs in a process of its own");

    world.configure("");
    world.write("policy.yaml", &policy);
    world.serve();
    let (ci, human) = (world.push("acme/ci:v1", "ci"), world.push("acme/human:v1", "human"));
    world.sign(&ci, "ci@example.com");
    world.sign(&human, "human@example.com");
    world.allows(&new_pod(&ci));
    world.refuses(&new_pod(&human), 403, "serial 1");
    let failed = "countersign_admission_reload_failed";
    let serial = |world: &World| world.counted("countersign_admission_policy_serial");

    world.write("policy.yaml", "policy: [");
    world.hang_up();
    world.until("it is told", |world| world.log().contains("the old policy stays in use"));
    world.until("it is measured", |world| world.counted(failed) == 1);
    world.allows(&new_pod(&ci));
    world.refuses(&new_pod(&human), 403, "serial 1");
    // A file that changes is enough; all that was known is verified anew.
    world.write("policy.yaml", &world.policy(2, "humans"));
    world.until("it is taken", |world| serial(world) == 2);
    assert_eq!(world.counted(failed), 0);
    world.allows(&new_pod(&human));
    world.refuses(&new_pod(&ci), 403, "serial 2");
    // So is a file of trust that the policy names.
    let key = STANDARD.encode(SigningKey::generate(KeyDetails::EcdsaP256Sha256).spki());
    let (first, rest) = key.split_at(64);
    let key = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{rest}\n-----END PUBLIC KEY-----\n");
    let vendor =
        format!("{}trust: {{vendor: {{key-file: vendor.pub}}}}\n", world.policy(3, "humans"));
    world.write("vendor.pub", &key);
    world.write("policy.yaml", &vendor);
    world.until("it is taken", |world| serial(world) == 3);
    world.write("vendor.pub", "none");
    world.until("it is told", |world| world.counted(failed) == 1);
    world.allows(&new_pod(&human));
    world.write("vendor.pub", &key);
    world.until("it is taken", |world| world.counted(failed) == 0);
    // ClusterImagePolicy is taken as it is, and pins tags as the webhook does that it is made for.
    let (host, issuer) = (world.registry.address, &world.dev.url);
    let cluster_image_policy = format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {{name: images-are-signed}}
spec:
  images: [{{glob: \"{host}/acme/**\"}}]
  authorities:
    - name: ci
      keyless: {{trustRootRef: ours, identities: [{{issuer: \"{issuer}\", subject: ci@example.com}}]}}
      ctlog: {{trustRootRef: ours}}
"
    );
    world.write("policy.yaml", &cluster_image_policy);
    world.hang_up();
    world.until("it is taken", |world| serial(world) == 1);
    world.allows(&new_pod(&ci));
    world.refuses(&new_pod(&human), 403, "images-are-signed");
    world.refuses(&new_pod(&format!("{host}/acme/ci:v1")), 403, "it is named by a tag");
    let server = world.server.as_mut().unwrap();
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn gatekeeper_kyverno_and_containerd_are_told_the_same() {
    let world = World::serving();
    let (good, bad) = (world.push("acme/good:v1", "good"), world.push("acme/bad:v1", "bad"));
    world.sign(&good, "ci@example.com");
    let (host, digest) = (world.registry.address, good.split_once('@').unwrap().1);
    let tag = format!("{host}/acme/good:v1");
    let ask = |path: &str, question: &Value| -> (u16, Value) {
        let (status, body) = world.https().post(path, question.to_string().as_bytes());
        (status, serde_json::from_str(&body).unwrap())
    };

    let (_, answer) = ask("/verify", &json!({ "image": tag, "namespace": "payments" }));
    assert_eq!((&answer["allowed"], &answer["digest"]), (&json!(true), &json!(digest)));
    assert_eq!(answer["reasons"], json!([]));
    let (_, answer) = ask("/verify", &json!({ "image": bad, "namespace": "payments" }));
    assert_eq!((&answer["allowed"], &answer["outcome"]), (&json!(false), &json!("refused")));
    assert!(
        answer["reasons"][0].as_str().unwrap().contains("must \"apps are signed\""),
        "{answer}"
    );
    let (_, answer) = ask("/verify", &json!({ "image": format!("{host}/acme/none:v1") }));
    assert_eq!((&answer["allowed"], &answer["outcome"]), (&json!(false), &json!("undecided")));
    assert_eq!(ask("/verify", &json!({ "images": [good] })).0, 400);

    let version = "externaldata.gatekeeper.sh/v1beta1";
    let keys = [tag.clone(), format!("sandbox|{bad}"), bad.clone(), "UPPER".to_owned()];
    let question =
        json!({ "apiVersion": version, "kind": "ProviderRequest", "request": { "keys": keys } });
    let (status, answer) = ask("/gatekeeper/v1", &question);
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!(version), &json!("ProviderResponse"))
    );
    let response = &answer["response"];
    assert_eq!((&response["idempotent"], &response["systemError"]), (&json!(true), &json!("")));
    let items = response["items"].as_array().unwrap();
    let allowed: Vec<_> = items.iter().map(|item| item["value"]["allowed"] == true).collect();
    assert_eq!(allowed, [true, false, false, false]);
    let found: Vec<_> = items.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(found, keys.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(items[1].to_string().contains("there are rules in production"), "{}", items[1]);
    let mut other = question.clone();
    other["kind"] = "ProviderResponse".into();
    let (_, answer) = ask("/gatekeeper/v1", &other);
    assert_eq!(answer["response"]["items"], json!([]));
    let error = answer["response"]["systemError"].as_str().unwrap();
    assert!(error.contains("ProviderRequest"), "{error}");

    // A template that has no namespace to name asks about every place.
    let stricter = world.policy(2, "ci").replace("{not: [sandbox]}", "[payments]");
    world.write("policy.yaml", &stricter);
    let bare = json!({ "apiVersion": version, "kind": "ProviderRequest",
        "request": { "keys": [format!("|{bad}")] } });
    world.until("the new policy is in use", |_| {
        let (_, answer) = ask("/gatekeeper/v1", &bare);
        answer.to_string().contains("serial 2")
    });
    let (_, answer) = ask("/gatekeeper/v1", &bare);
    assert!(answer.to_string().contains("must \\\"apps are signed"), "{answer}");

    let containerd = |config: &str, name: &str, digest: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["containerd-verify", "--config", config, "-name", name, "-digest", digest]);
        command.args(["-stdin-media-type", "application/vnd.oci.descriptor.v1+json"]);
        let mut child = clean(command.current_dir(world.folder.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let descriptor = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json" });
        child.stdin.take().unwrap().write_all(descriptor.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let node = fs::read_to_string(world.folder.path().join("admission.toml")).unwrap();
    world.write("node.toml", &node[node.find("[admission]").unwrap()..]);
    for config in ["admission.toml", "node.toml"] {
        assert_eq!(containerd(config, &tag, digest), (Some(0), "allowed\n".to_owned()));
    }
    let (status, reason) = containerd("node.toml", &tag, bad.split_once('@').unwrap().1);
    assert_eq!(status, Some(1), "another digest than the tag's was pulled");
    assert!(reason.contains("must \"apps are signed\""), "{reason}");
    let (status, reason) = containerd("gone.toml", &tag, digest);
    assert_eq!(status, Some(2));
    assert!(reason.contains("gone.toml"), "{reason}");
}
