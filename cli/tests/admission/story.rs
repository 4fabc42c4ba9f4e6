//! The whole story: only the release pipeline may sign production images, and only from a tag; one file says
//! so at the authority, at the log, before use and in the cluster, and every no is on record.

use super::*;
use common::{certified_request, signing_certificate};
use countersign_testkit::Instance;
use countersign_verify::encoding::{base64, hex};
use countersign_verify::key::HashAlgorithm;
use jiff::Timestamp;

/// A pipeline that releases one image, by tags of one repository.
const POLICY: &str = "policy: acme
serial: 1
expires: 2099-01-01
who:
  release:
    issuer: ISSUER/ci
    repository: acme/pay
    workflow: acme/pay/.github/workflows/release.yml
    workflow-ref: refs/tags/v*
    ref: refs/tags/v*
    runner: self-hosted
what:
  pay: {images: REGISTRY/acme/pay}
may:
  - {who: release, do: sign, to: pay}
never:
  - name: nothing from pull requests
    who: anyone
    do: [sign, attest anything]
    to: anything
    when: {trigger: [pull_request, pull_request_target]}
must:
  - name: pay is released
    every: pay
    needs: [signature: {by: release}]
    proof: {logged: true, timestamp: required}
    otherwise: refuse
admission: {pin-tags-to-digests: true}
";

const TAG: (&str, &str, &str) = ("acme/pay", "refs/tags/v1", "push");
const BRANCH: (&str, &str, &str) = ("acme/pay", "refs/heads/main", "push");
const FORK: (&str, &str, &str) = ("acme/pay", "refs/pull/7/merge", "pull_request");
const STRANGER: (&str, &str, &str) = ("eve/pay", "refs/tags/v1", "push");

impl World {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn token(&self, (repository, git_ref, event): (&str, &str, &str)) -> String {
        self.dev.job(repository, git_ref, event)
    }

    /// Runs `countersign` as a job does.
    fn as_job(&self, job: (&str, &str, &str), args: &[&str]) -> Output {
        let (token, config) = (self.token(job), self.dev.config());
        let config = config.to_str().unwrap();
        run([&args[..1], &["--trust-config", config, "--identity-token", &token], &args[1..]]
            .concat())
    }

    fn verified(&self, image: &str) -> Output {
        let (config, policy) = (self.dev.config(), self.path("policy.yaml"));
        run(["verify", "--trust-config", config.to_str().unwrap(), "--policy", &policy, image])
    }

    /// The authority and the log decide by what is in the file by now.
    fn restart(&mut self) {
        assert!(self.dev.terminate());
        self.dev = Dev::governed(&self.dev.dir, &self.folder.path().join("policy.yaml"));
    }
}

#[test]
fn only_the_release_pipeline_signs_and_only_from_a_tag() {
    let mut world = World::new();
    let name = |world: &World, name: &str| format!("{}/acme/{name}", world.registry.address);
    let (pay, other) = (name(&world, "pay:v1"), name(&world, "other:v1"));
    let key = SigningKey::generate(KeyDetails::EcdsaP256Sha256);

    // An authority that ignores the policy, for it has none, certifies a branch: all signatures hold.
    let forged = world.push("acme/pay:forged", "forged");
    done(&world.as_job(BRANCH, &["sign", &forged]));
    let [careless, proper] = [BRANCH, TAG]
        .map(|job| signing_certificate(&world.dev.certify(&key, &world.token(job), Value::Null).1));

    let text = POLICY.replace("ISSUER", &world.dev.url);
    let text = text.replace("REGISTRY", &world.registry.address.to_string());
    let policy = world.write("policy.yaml", &text);
    world.restart();
    world.serve();

    // A release.
    let released = world.push("acme/pay:v1", "pay");
    let _ = world.push("acme/other:v1", "other");
    done(&world.as_job(TAG, &["sign", &pay]));
    assert!(done(&world.verified(&pay)).contains("pay is released"));
    world.allows(&new_pod(&released));

    // One thing off, and there is no certificate; the rule says which.
    let size = world.dev.size();
    world.write("predicate.json", "{}");
    let predicate = world.path("predicate.json");
    let attest = ["attest", "--type", "slsaprovenance1", "--predicate", &predicate, &pay];
    for (job, args, rule) in [
        (BRANCH, &["sign", &pay][..], "claim-mismatch:ref"),
        (FORK, &["sign", &pay], "denied-by:nothing from pull requests"),
        (STRANGER, &["sign", &pay], "claim-mismatch:repository"),
        (TAG, &["sign", &other], "not-granted"),
        (TAG, &attest, "not-granted"),
    ] {
        assert_fails(&world.as_job(job, args), 1, rule);
    }
    assert_eq!(world.dev.size(), size, "nothing was logged");

    // The forged path: the log derives all from the certificate again, and so does whoever uses the image.
    let headers = "Content-Type: application/json\r\nX-Request-Id: forged-1\r\n";
    let submit = |signature: &[u8], certificate: &str| {
        let request = certified_request(b"forged", signature, certificate);
        world.dev.request("POST /api/v2/log/entries", headers, &request)
    };
    let (status, body) = submit(&key.sign(b"forged"), &careless);
    let reply: Value = serde_json::from_str(&body).unwrap();
    let detail = &reply["details"][0];
    assert_eq!((status, &detail["reason"]), (403, &json!("POLICY_REFUSED")), "{body}");
    for (member, expected) in [
        ("rule", "may: claim-mismatch:ref"),
        ("expected", "ref refs/tags/v* for role \"release\""),
        ("found", "refs/heads/main"),
        ("request_id", "forged-1"),
    ] {
        assert_eq!(detail[member], expected, "{body}");
    }
    // Nor does the older log take it, nor a certificate of nobody's.
    let older = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": { "hash": { "algorithm": "sha256", "value": hex(&HashAlgorithm::Sha256.digest(b"forged")) } },
        "signature": { "content": base64(&key.sign(b"forged")),
            "publicKey": { "content": base64(careless.as_bytes()) } } } });
    let (status, body) = world.dev.request("POST /api/v1/log/entries", headers, &older.to_string());
    assert_eq!(status, 403, "{body}");
    let foreign = Instance::new().certify("ana@acme.example", &world.dev.url);
    let (status, body) = submit(&foreign.sign(b"forged"), &base64(foreign.certificate()));
    assert!(status == 403 && body.contains("a certificate of this instance's authority"), "{body}");
    assert_eq!(world.dev.size(), size);
    assert_eq!(
        submit(&key.sign(b"forged"), &proper).0,
        201,
        "what the policy allows is taken, with the very same key"
    );
    assert_fails(&world.verified(&forged), 1, "ref: wanted refs/tags/v*, got refs/heads/main");
    world.refuses(&new_pod(&forged), 403, "ref: wanted refs/tags/v*, got refs/heads/main");

    // The tag is made to name something else; what was released stays known by its digest.
    let overwritten = world.push("acme/pay:v1", "overwritten");
    assert_fails(&world.verified(&pay), 1, "signature by release: there is none of this artifact");
    let mut review = new_pod(&pay);
    let answer = world.ask("/mutate", &review);
    apply(&answer, &mut review["request"]["object"]);
    let digest = overwritten.split_once('@').unwrap().1;
    assert_eq!(
        review["request"]["object"]["spec"]["containers"][0]["image"],
        format!("{pay}@{digest}")
    );
    world.refuses(&review, 403, "signature by release: there is none of this artifact");
    world.allows(&new_pod(&released));
    done(&world.verified(&released));

    // What another policy would have said of what is in the log.
    let next = text.replace("    ref: refs/tags/v*", "    ref: refs/tags/release-*");
    let next = world.write("next.yaml", &next);
    let config = world.dev.config();
    let replayed = done(&run([
        "policy".as_ref(),
        "replay".as_ref(),
        next.as_os_str(),
        "--against".as_ref(),
        policy.as_os_str(),
        "--over".as_ref(),
        "log:30d".as_ref(),
        "--trust-config".as_ref(),
        config.as_os_str(),
    ]));
    assert!(replayed.contains("allowed -> refused (may: claim-mismatch:ref)\n"), "{replayed}");
    assert!(replayed.ends_with("3 decided, 2 changed\n"), "{replayed}");

    // The pipeline's role ends: it signs no more, and its old releases still verify and run.
    let end = Timestamp::from_second(Timestamp::now().as_second() + 1).unwrap();
    let retired = text.replace("serial: 1", "serial: 2");
    let retired = retired.replace("    runner: ", &format!("    retired: {end}\n    runner: "));
    world.write("policy.yaml", &retired);
    while Timestamp::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    world.restart();
    assert_fails(&world.as_job(TAG, &["sign", &pay]), 1, "role-retired");
    done(&world.verified(&released));
    world.hang_up();
    let by_the_new = |world: &World| {
        let answer = world.validate(&new_pod(&released));
        assert_eq!(answer["allowed"], true, "{answer}");
        answer["auditAnnotations"]["rules"] == "acme serial 2: pay is released"
    };
    world.until("admission decides by the new policy", by_the_new);

    // All of it is in the audit log, which is a tree.
    for (rule, times) in [
        ("may: claim-mismatch:ref", 3),
        ("never \"nothing from pull requests\": denied-by:nothing from pull requests", 1),
        ("may: claim-mismatch:repository", 1),
        ("may: not-granted", 2),
        ("not-granted", 2),
        ("nothing from pull requests", 1),
        ("may: role-retired", 1),
    ] {
        let found = world.dev.record(&["--outcome", "refused", "--rule", rule]);
        assert_eq!(found.len(), times, "{rule}: {found:?}");
    }
    let all = world.dev.record(&["--outcome", "refused"]);
    assert_eq!(all.len(), 9, "{all:?}");
    let forged = all.iter().find(|entry| entry["request_id"] == "forged-1").unwrap();
    assert!(forged["message"].as_str().unwrap().contains("refuses this entry"), "{forged}");
}
