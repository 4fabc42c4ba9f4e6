//! Registries that are honest, slow, forgetful and hostile: what is asked of them, what is made of their answers,
//! and where credentials go.

mod hostile;
mod mirror;

use countersign_client::http;
use countersign_client::oci::{
    Attachment, Credential, Digest, Error, Layout, Options, Payload, Reference, Registries,
    Repository, Stored, Suffix, Where, attach, attach_legacy, copy, detach,
};
use countersign_testkit::registry::{Registry, Reply, Request};
use countersign_testkit::{Instance, Signer};
use countersign_verify::{Artifact, Bundle, TrustedRoot, verify_json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const REPOSITORY: &str = "acme/app";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A client's view of a registry, with an image in it.
struct Case {
    registry: Registry,
    repository: Repository,
    place: Where,
    image: Stored,
    instance: Instance,
    signer: Signer,
}

fn reference(registry: &Registry) -> Reference {
    Reference::parse(&format!("{}/{REPOSITORY}:v1", registry.address)).unwrap()
}

fn registries(credential: Option<Credential>) -> Registries {
    Registries::new(Options { credential, budget: Duration::from_secs(5), ..Options::default() })
}

impl Case {
    async fn new(referrers: bool) -> Self {
        let registry = Registry::start(referrers);
        let _ = registry.push_image(REPOSITORY, "v1", "hello");
        let repository = registries(None).repository(&reference(&registry)).unwrap();
        let place = Where::Registry(repository.clone());
        let image = place.resolve(&reference(&registry)).await.unwrap();
        let _ = registry.requests();
        let instance = Instance::new();
        let signer = instance.certify("https://git.example.test/acme", "https://i.example.test");
        Self { registry, repository, place, image, instance, signer }
    }

    fn digest(&self) -> &Digest {
        &self.image.descriptor.digest
    }

    fn bundle(&self) -> Arc<Bundle> {
        Arc::new(self.instance.attest(&self.signer, &self.image.bytes))
    }

    async fn attach(&self) -> Digest {
        let (subject, now) = (&self.image.descriptor, self.instance.now);
        attach(&self.repository, subject, &self.bundle(), now).await.unwrap().digest
    }

    async fn listed(&self) -> Vec<Attachment> {
        match self.place.listed(self.digest()).await.unwrap() {
            Some(listed) => listed,
            None => self.place.listed_by_tag(self.digest()).await.unwrap(),
        }
    }

    fn holds(&self, bundle: &[u8]) -> bool {
        let root = TrustedRoot::parse(self.instance.trusted_root().as_bytes()).unwrap();
        verify_json(bundle, &self.digest().artifact(), &root).result().is_ok()
    }

    /// The first bundle that refers to the image, or the first error.
    async fn first(&self) -> Result<Option<Vec<u8>>, Error> {
        let listed = match self.place.listed(self.digest()).await? {
            Some(listed) => listed,
            None => self.place.listed_by_tag(self.digest()).await?,
        };
        for attachment in &listed {
            if let Some(evidence) = self.place.bundle(self.digest(), attachment).await? {
                return Ok(Some(evidence.bundle));
            }
        }
        Ok(None)
    }

    fn lines(&self) -> Vec<String> {
        let (subject, tag) = (self.digest().to_string(), self.digest().tag());
        let line = |request: Request| {
            let line = request.line().replace(&subject, "IMAGE").replace(&tag, "TAG");
            let (path, query) = line.split_once('?').unwrap_or((&line, ""));
            let mark = if query.is_empty() { "" } else { "?" };
            let path = path.replace("/v2/acme/app/", "");
            let path = path.split("sha256:").next().unwrap_or_default().to_owned();
            format!("{path}{mark}")
        };
        let mut lines: Vec<_> = self.registry.requests().into_iter().map(line).collect();
        lines.sort();
        lines
    }
}

#[tokio::test]
async fn a_bundle_is_stored_and_found_within_a_budget_of_requests() {
    // With the API: two blobs, of which the empty one may be there; the manifest; one question whether the
    // registry really lists. Without: read, write and look again at the fallback tag.
    for (referrers, listing) in [
        (true, vec!["GET referrers/IMAGE"]),
        (false, vec!["GET manifests/TAG", "GET manifests/TAG", "PUT manifests/TAG"]),
    ] {
        let case = Case::new(referrers).await;
        case.attach().await;
        let mut expected = vec![
            "HEAD blobs/",
            "POST blobs/uploads/",
            "POST blobs/uploads/",
            "PUT blobs/uploads/session?",
            "PUT blobs/uploads/session?",
            "PUT manifests/",
        ];
        expected.extend(&listing);
        expected.sort_unstable();
        assert_eq!(case.lines(), expected, "signing");
        let bundle = case.first().await.unwrap().expect("it was stored");
        assert!(case.holds(&bundle));
        let mut expected = vec!["GET manifests/", "GET referrers/IMAGE"];
        expected.extend(listing.first().filter(|_| !referrers));
        expected.sort_unstable();
        let lines = case.lines();
        assert_eq!(lines, expected, "verifying");
        assert!(lines.len() <= 3);
    }
}

#[tokio::test]
async fn a_referrer_is_what_cosign_3_stores() {
    let case = Case::new(true).await;
    let digest = case.attach().await;
    let bytes = case.registry.manifest(REPOSITORY, digest.as_str()).unwrap();
    let mut found: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let json = case.first().await.unwrap().unwrap();
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    assert!(found["layers"][0].as_object_mut().unwrap().remove("data").is_some());
    let expected = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" },
        "layers": [{ "mediaType": kind, "size": json.len(), "digest": Digest::of(&json) }],
        "subject": { "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": case.image.bytes.len(), "digest": case.digest() },
        "annotations": { "org.opencontainers.image.created": "2026-11-23T12:00:00Z",
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": found["annotations"]["dev.sigstore.bundle.predicateType"] } });
    assert_eq!(found, expected);
    assert!(found["annotations"]["dev.sigstore.bundle.predicateType"].is_string());
}

#[tokio::test]
async fn twenty_who_sign_at_once_lose_no_signature() {
    let case = Arc::new(Case::new(false).await);
    let signers: Vec<_> = (0..20)
        .map(|_| {
            let case = Arc::clone(&case);
            tokio::spawn(async move { case.attach().await })
        })
        .collect();
    let mut stored = Vec::new();
    for signer in signers {
        stored.push(signer.await.unwrap());
    }
    let listed: Vec<_> =
        case.listed().await.into_iter().map(|found| found.descriptor.digest).collect();
    assert!(stored.iter().all(|digest| listed.contains(digest)), "{} of 20", listed.len());
    assert_eq!(listed.len(), 20, "each once");
}

#[tokio::test]
async fn what_another_wrote_over_is_written_again() {
    let case = Case::new(false).await;
    let first = case.attach().await;
    let index = case.registry.manifest(REPOSITORY, &case.digest().tag()).unwrap();
    // Somebody who read before the second one wrote puts the first index back, once.
    let (registry, tag) = (case.registry.clone(), case.digest().tag());
    let mut puts = 0;
    let path = format!("PUT /v2/{REPOSITORY}/manifests/{tag}");
    case.registry.meddle(move |request, honest| {
        if request.line() == path {
            puts += 1;
            if puts == 1 {
                let _ = registry.push_manifest(REPOSITORY, &tag, INDEX, &index);
            }
        }
        honest
    });
    let second = case.attach().await;
    let listed: Vec<_> =
        case.listed().await.into_iter().map(|found| found.descriptor.digest).collect();
    assert!(listed.contains(&first) && listed.contains(&second), "{listed:?}");
}

#[tokio::test]
async fn a_failing_registry_is_an_error_and_never_an_absence() {
    for status in [429, 500, 502, 503] {
        let case = Case::new(true).await;
        case.attach().await;
        let registries = Registries::new(Options { budget: Duration::ZERO, ..Options::default() });
        let place = Where::Registry(registries.repository(&reference(&case.registry)).unwrap());
        for path in ["/referrers/", "/manifests/sha256-"] {
            case.registry.meddle(move |request, honest| match request.path.contains(path) {
                true => Reply::new(status, ""),
                false => honest,
            });
            let found = match path {
                "/referrers/" => place.listed(case.digest()).await.map(Option::unwrap_or_default),
                _ => place.listed_by_tag(case.digest()).await,
            };
            let error = found.expect_err("not an empty list");
            assert_eq!(error.code(), "REGISTRY_UNAVAILABLE", "{status} {path}: {error}");
        }
    }
}

#[tokio::test]
async fn a_throttled_registry_is_asked_again_when_it_says() {
    let case = Case::new(true).await;
    case.attach().await;
    let mut refusals = 2;
    case.registry.meddle(move |_, honest| {
        if refusals == 0 {
            return honest;
        }
        refusals -= 1;
        Reply::new(429, "").with("retry-after", "0")
    });
    assert!(case.first().await.unwrap().is_some());
}

/// Changes one kind of answer.
fn bent(
    of: &'static str,
    bend: impl Fn(Reply) -> Reply + Send + 'static,
) -> impl FnMut(&Request, Reply) -> Reply + Send + 'static {
    move |request, honest| match request.path.contains(of) {
        true => bend(honest),
        false => honest,
    }
}

fn edit(reply: Reply, change: impl Fn(&mut serde_json::Value)) -> Reply {
    let mut json = serde_json::from_slice(&reply.body).unwrap_or_default();
    change(&mut json);
    Reply { body: json.to_string().into_bytes(), ..reply }
}

type Bend = Box<dyn Fn(Reply) -> Reply + Send>;

#[tokio::test]
async fn answers_that_are_not_what_led_to_them_are_refused() {
    let kind = |found: &str| {
        let found = found.to_owned();
        move |reply: Reply| reply.with("content-type", found.clone())
    };
    let table: Vec<(&str, &str, Bend, &str)> = vec![
        (
            "a referrer with other bytes",
            "/manifests/",
            Box::new(|reply| edit(reply, |json| json["x"] = 1.into())),
            "DIGEST_MISMATCH",
        ),
        (
            "a referrer that is no manifest",
            "/manifests/",
            Box::new(|reply| Reply { body: b"<html>".to_vec(), ..reply }),
            "MANIFEST_MALFORMED",
        ),
        (
            "an index served as an image",
            "/manifests/",
            Box::new(kind(INDEX)),
            "MEDIA_TYPE_MISMATCH",
        ),
        (
            "a manifest bomb",
            "/manifests/",
            Box::new(|reply| Reply { body: vec![b' '; (4 << 20) + 1], ..reply }),
            "REGISTRY_ERROR",
        ),
        (
            "a descriptor with another size",
            "/referrers/",
            Box::new(|reply| edit(reply, |json| json["manifests"][0]["size"] = 1.into())),
            "SIZE_MISMATCH",
        ),
        (
            "a descriptor with a negative size",
            "/referrers/",
            Box::new(|reply| edit(reply, |json| json["manifests"][0]["size"] = (-1).into())),
            "MANIFEST_MALFORMED",
        ),
        (
            "a digest that is none",
            "/referrers/",
            Box::new(|reply| {
                edit(reply, |json| json["manifests"][0]["digest"] = "sha256:ab".into())
            }),
            "MANIFEST_MALFORMED",
        ),
        (
            "a list of ten thousand",
            "/referrers/",
            Box::new(|reply| {
                edit(reply, |json| {
                    let one = json["manifests"][0].clone();
                    json["manifests"] = vec![serde_json::json!({ "mediaType": one["mediaType"], "digest": one["digest"], "size": one["size"] }); 10_000].into();
                })
            }),
            "TOO_MANY",
        ),
        (
            "a list that goes on forever",
            "/referrers/",
            Box::new(|reply| {
                reply
                    .with("link", "</v2/acme/app/referrers/next>; rel=\"next\"")
                    .with("content-type", INDEX)
            }),
            "TOO_MANY",
        ),
        (
            "a next page elsewhere",
            "/referrers/",
            Box::new(|reply| reply.with("link", "<http://127.0.0.1:9/>; rel=\"next\"")),
            "REGISTRY_ERROR",
        ),
        (
            "a registry without permission",
            "/referrers/",
            Box::new(|_| Reply::new(403, "")),
            "REGISTRY_ACCESS",
        ),
        (
            "a redirect in circles",
            "/manifests/",
            Box::new(|reply| Reply {
                status: 307,
                ..reply.with("location", "/v2/acme/app/manifests/x")
            }),
            "REDIRECT_REFUSED",
        ),
        (
            "a redirect to plain HTTP",
            "/manifests/",
            Box::new(|reply| Reply {
                status: 307,
                ..reply.with("location", "http://registry.example.com/x")
            }),
            "REDIRECT_REFUSED",
        ),
        (
            "a redirect to a file",
            "/manifests/",
            Box::new(|reply| Reply { status: 307, ..reply.with("location", "file:///x") }),
            "REDIRECT_REFUSED",
        ),
    ];
    for (name, path, bend, code) in table {
        let case = Case::new(true).await;
        case.attach().await;
        let _ = case.registry.requests();
        case.registry.meddle(bent(path, bend));
        let error = case.first().await.expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(case.registry.requests().len() <= 102, "{name}: bounded work");
    }
}

#[tokio::test]
async fn referrers_of_another_shape_are_refused_or_passed_over() {
    type Change = fn(&mut serde_json::Value);
    let table: [(&str, Change, Option<&str>); 6] = [
        (
            "another subject",
            |json| json["subject"]["digest"] = Digest::of(b"x").as_str().into(),
            Some("SUBJECT_MISMATCH"),
        ),
        (
            "no subject",
            |json| drop(json.as_object_mut().unwrap().remove("subject")),
            Some("SUBJECT_MISMATCH"),
        ),
        (
            "two layers",
            |json| json["layers"] = vec![json["layers"][0].clone(); 2].into(),
            Some("MANIFEST_MALFORMED"),
        ),
        (
            "a layer of another type",
            |json| json["layers"][0]["mediaType"] = "text/plain".into(),
            Some("MEDIA_TYPE_MISMATCH"),
        ),
        ("another artifact", |json| json["artifactType"] = "text/plain".into(), None),
        (
            "embedded data of something else",
            |json| json["layers"][0]["data"] = "eHg=".into(),
            Some("FOUND"),
        ),
    ];
    for (name, change, expected) in table {
        let case = Case::new(true).await;
        let digest = case.attach().await;
        let bytes = case.registry.manifest(REPOSITORY, digest.as_str()).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut json);
        let (bytes, kind) = (json.to_string(), json["artifactType"].clone());
        let other = case.registry.push_manifest(
            REPOSITORY,
            "other",
            "application/vnd.oci.image.manifest.v1+json",
            bytes.as_bytes(),
        );
        // Listed for the image, whatever it says itself.
        let size = bytes.len();
        case.registry.meddle(bent("/referrers/", move |reply| {
            edit(reply, |list| {
                list["manifests"] = serde_json::json!([{ "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": other, "size": size, "artifactType": kind }]);
            })
        }));
        let found = match case.first().await {
            Ok(None) => None,
            Ok(Some(_)) => Some("FOUND"),
            Err(error) => Some(error.code()),
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn a_list_in_pages_is_read_whole() {
    let case = Case::new(true).await;
    for _ in 0..5 {
        case.attach().await;
    }
    let subject = case.digest().to_string();
    case.registry.meddle(move |request, honest| {
        if !request.path.contains("/referrers/") {
            return honest;
        }
        // A registry may write the type with parameters.
        let page = request.path.split("page=").nth(1).map_or(0, |page| page.parse().unwrap());
        let reply = edit(honest, |list| {
            let all = list["manifests"].as_array().unwrap().clone();
            list["manifests"] = all.into_iter().skip(page * 2).take(2).collect();
        });
        let reply = reply.with("content-type", format!("{INDEX}; charset=utf-8"));
        match page {
            2 => reply,
            page => {
                let next = format!(
                    "</v2/{REPOSITORY}/referrers/{subject}?page={}>; rel=\"next\"",
                    page + 1
                );
                reply.with("link", next)
            }
        }
    });
    let found = case.place.listed(case.digest()).await.unwrap().expect("the API is there");
    assert_eq!(found.len(), 5);
}

#[tokio::test]
async fn a_tag_means_the_digest_of_its_bytes() {
    let case = Case::new(true).await;
    let said = Digest::of(b"something else").to_string();
    case.registry.meddle(move |_, honest| honest.with("docker-content-digest", said.clone()));
    let error = case.place.resolve(&reference(&case.registry)).await.unwrap_err();
    assert_eq!(error.code(), "DIGEST_MISMATCH", "{error}");
    // A registry that serves other bytes the second time is found out by the digest.
    case.registry.behave();
    let _ = case.registry.push_image(REPOSITORY, "v1", "forged");
    let moved = case.place.resolve(&reference(&case.registry)).await.unwrap();
    assert_ne!(moved.descriptor.digest, *case.digest());
    let forged = moved.bytes;
    case.registry.meddle(move |_, honest| Reply { body: forged.clone(), ..honest });
    let error = case.place.manifest(case.digest()).await.unwrap_err();
    assert_eq!(error.code(), "DIGEST_MISMATCH", "{error}");
}

/// Demands a token for everything but the token server itself.
fn guarded(
    realm: String,
    seen: Arc<Mutex<Vec<String>>>,
) -> impl FnMut(&Request, Reply) -> Reply + Send + 'static {
    move |request, honest| {
        let authorization = request.authorization.clone().unwrap_or_default();
        if request.path.starts_with("/token") {
            seen.lock().unwrap().push(format!("{} {authorization}", request.path));
            return Reply::new(200, r#"{"token":"letmein"}"#);
        }
        if authorization == "Bearer letmein" {
            return honest;
        }
        let challenge =
            format!(r#"Bearer realm="{realm}",service="reg",scope="repository:{REPOSITORY}:pull""#);
        Reply::new(401, "").with("www-authenticate", challenge)
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_credentials_go_to_its_server_alone() {
    let case = Case::new(true).await;
    case.attach().await;
    for (credential, expected) in [
        (None, ""),
        (
            Some(Credential::Password("me".to_owned(), "secret".to_owned().into())),
            "Basic bWU6c2VjcmV0",
        ),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        case.registry.meddle(guarded("/token".to_owned(), Arc::clone(&seen)));
        // Docker's files of whoever runs the tests say nothing about this port.
        let registries = registries(credential);
        let place = Where::Registry(registries.repository(&reference(&case.registry)).unwrap());
        let _ = case.registry.requests();
        let name = reference(&case.registry);
        let (one, two) = tokio::join!(place.resolve(&name), place.listed(case.digest()));
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
        let seen = seen.lock().unwrap().clone();
        let path = format!("/token?service=reg&scope=repository%3A{}%3Apull", "acme%2Fapp");
        assert_eq!(seen, [format!("{path} {expected}")], "once, for both");
        for request in case.registry.requests() {
            let authorization = request.authorization.unwrap_or_default();
            let token_server = request.path.starts_with("/token");
            assert!(token_server || !authorization.starts_with("Basic"), "{}", request.path);
        }
    }
}

#[tokio::test]
async fn a_registry_that_wants_what_nobody_has_is_told_from_one_that_has_nothing() {
    let case = Case::new(true).await;
    for (name, challenge, expected) in [
        ("none at all", None, "demands nothing that is known"),
        ("Basic", Some("Basic realm=\"r\""), "demands user and password"),
        (
            "a token server without TLS",
            Some("Bearer realm=\"http://token.example.com/\""),
            "anybody could read",
        ),
        (
            "a token that is refused",
            Some("Bearer realm=\"/token\""),
            "although it was shown credentials",
        ),
    ] {
        case.registry.meddle(move |request, _| match (request.path.as_str(), challenge) {
            (path, _) if path.starts_with("/token") => Reply::new(200, r#"{"access_token":"no"}"#),
            (_, Some(challenge)) => Reply::new(401, "").with("www-authenticate", challenge),
            (_, None) => Reply::new(401, ""),
        });
        let place = registries(None).repository(&reference(&case.registry)).unwrap();
        let error = Where::Registry(place).listed(case.digest()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!error.is_finding(), "{name}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_credentials() {
    let case = Case::new(true).await;
    let storage = Registry::start(true);
    let _ = storage.push_image(REPOSITORY, "v1", "hello");
    let address = storage.address;
    case.registry.meddle(move |request, honest| match &request.authorization {
        None => Reply::new(401, "").with("www-authenticate", "Basic realm=\"r\""),
        Some(_) if request.path.contains("/manifests/") => {
            Reply::new(307, "").with("location", format!("http://{address}{}", request.path))
        }
        Some(_) => honest,
    });
    let credential = Credential::Password("me".to_owned(), "secret".to_owned().into());
    let registries = registries(Some(credential));
    let place = Where::Registry(registries.repository(&reference(&case.registry)).unwrap());
    assert_eq!(place.manifest(case.digest()).await.unwrap().bytes, case.image.bytes);
    assert!(storage.requests().iter().all(|request| request.authorization.is_none()));
    // Nor do the ones that were given for one registry go to another.
    let other = registries.repository(&reference(&storage)).unwrap_err();
    assert_eq!(other.code(), "REGISTRY_ACCESS", "{other}");
}

#[tokio::test]
async fn an_image_is_copied_with_all_that_refers_to_it_and_back_again() {
    let case = Case::new(false).await;
    let child = case.registry.push_image(REPOSITORY, "child", "other");
    let digest = case.registry.push_index(REPOSITORY, "v1", &[case.digest().as_str(), &child]);
    let digest = Digest::parse(&digest).unwrap();
    case.attach().await; // to a part of the index
    let index = case.place.manifest(&digest).await.unwrap();
    let bundle = Arc::new(case.instance.attest(&case.signer, &index.bytes));
    attach(&case.repository, &index.descriptor, &bundle, case.instance.now).await.unwrap();
    let payload = legacy(&case).await;
    let folder = tempfile::tempdir().unwrap();
    let layout = Where::Layout(Layout::create(folder.path()).unwrap());
    let name = reference(&case.registry);
    let saved = copy(&case.place, &layout, &name, Some("r.example/app:v1")).await.unwrap();
    assert_eq!((saved.image.digest.clone(), saved.attachments), (digest.clone(), 3));
    let again = copy(&case.place, &layout, &name, Some("r.example/app:v1")).await.unwrap();
    assert_eq!(again.blobs, 0, "what is there is not fetched again");

    // Out of the folder, into a registry with the API.
    let target = Registry::start(true);
    let layout = Layout::open(folder.path()).unwrap();
    assert_eq!(layout.images().unwrap().len(), 1);
    let (layout, to) = (Where::Layout(layout), reference(&target));
    let to_place = Where::Registry(registries(None).repository(&to).unwrap());
    let loaded = copy(&layout, &to_place, &to.at(&digest), to.tag()).await.unwrap();
    assert_eq!((loaded.manifests, loaded.attachments), (saved.manifests, 3));
    for place in [&layout, &to_place] {
        let listed = place.listed(case.digest()).await.unwrap().unwrap();
        let evidence = place.bundle(case.digest(), &listed[0]).await.unwrap().unwrap();
        assert!(case.holds(&evidence.bundle));
        assert_eq!(place.listed(&digest).await.unwrap().unwrap().len(), 1);
        let layers = place.legacy_layers(case.digest(), Suffix::Signatures).await.unwrap();
        assert_eq!(place.legacy(&layers[0]).await.unwrap().content, payload);
    }

    // A blob that was changed in the folder is noticed.
    let layer = case.image.manifest.layers()[0].digest.hex().to_owned();
    std::fs::write(folder.path().join("blobs/sha256").join(layer), "x".repeat(50)).unwrap();
    let third = Registry::start(true);
    let to_place = Where::Registry(registries(None).repository(&reference(&third)).unwrap());
    let error = copy(&layout, &to_place, &to.at(&digest), Some("v1")).await.unwrap_err();
    assert!(error.is_finding(), "{error}");
    assert!(third.manifest(REPOSITORY, "v1").is_none(), "no tag without its parts");
}

/// Stores a legacy signature of the image: its payload.
async fn legacy(case: &Case) -> Vec<u8> {
    let (digest, name) = (case.digest().to_string(), reference(&case.registry).name());
    let payload = Payload { digest, name, annotations: [].into() }.to_json();
    let bundle = case.instance.sign_v1(&case.signer, &payload);
    attach_legacy(&case.repository, case.digest(), &bundle, &payload).await.unwrap();
    payload
}

#[tokio::test]
async fn a_legacy_signature_reads_as_a_bundle_that_holds() {
    let case = Case::new(true).await;
    let payload = legacy(&case).await;
    legacy(&case).await;
    let layers = case.place.legacy_layers(case.digest(), Suffix::Signatures).await.unwrap();
    assert_eq!(layers.len(), 2, "of the same payload, each kept");
    let root = TrustedRoot::parse(case.instance.trusted_root().as_bytes()).unwrap();
    for layer in &layers {
        let layer = case.place.legacy(layer).await.unwrap();
        assert_eq!(layer.content, payload);
        let report = verify_json(&layer.bundle, &Artifact::from_bytes(&layer.content), &root);
        assert!(report.result().is_ok(), "{:?}", report.result());
    }
    let bundle = case.bundle();
    let error = attach_legacy(&case.repository, case.digest(), &bundle, b"").await.unwrap_err();
    assert!(error.to_string().contains("Rekor v1"), "{error}");
}

#[tokio::test]
async fn what_is_removed_is_gone_from_the_list() {
    for referrers in [true, false] {
        let case = Case::new(referrers).await;
        case.attach().await;
        let kept = case.attach().await;
        let listed = case.listed().await;
        let gone: Vec<_> =
            listed.into_iter().filter(|found| found.descriptor.digest != kept).collect();
        detach(&case.repository, case.digest(), &gone).await.unwrap();
        let left: Vec<_> =
            case.listed().await.into_iter().map(|found| found.descriptor.digest).collect();
        assert_eq!(left, [kept]);
    }
    let case = Case::new(true).await;
    case.attach().await;
    let listed = case.listed().await;
    case.registry.meddle(|request, honest| match request.method.as_str() {
        "DELETE" => Reply::new(405, ""),
        _ => honest,
    });
    let error = detach(&case.repository, case.digest(), &listed).await.unwrap_err();
    assert!(matches!(error, Error::Http(http::Error::Status { status: 405, .. })), "{error}");
}
