use super::*;
use crate::identity::MappingError;
use crate::identity::pattern::PatternError;
use crate::identity::template::TemplateError;
use crate::identity::vectors::{cases, identity};
use serde_json::{Value, json};

const CONFIGURATION: &str = include_str!("../../../../testdata/fulcio/configuration.yaml");

fn mistakes(text: &str) -> Vec<Mistake> {
    FulcioConfig::parse(text).expect_err("there is a mistake").0
}

/// The one thing that is wrong.
fn fault(text: &str) -> Fault {
    let [mistake] = <[Mistake; 1]>::try_from(mistakes(text)).expect("one mistake");
    mistake.fault
}

#[test]
fn a_configuration_in_use_is_accepted_as_it_is() {
    let config = FulcioConfig::parse(CONFIGURATION).unwrap();
    let urls: Vec<_> = config
        .issuers
        .iter()
        .map(|issuer| match &issuer.url {
            IssuerUrl::Exact(url) => (&url[..], issuer.kind),
            IssuerUrl::Pattern(pattern) => (pattern.as_str(), issuer.kind),
        })
        .collect();
    let expected = [
        ("https://agent.buildkite.com", "buildkite-job"),
        ("https://dex.acme.test/auth", "email"),
        ("https://git.acme.test", "ci-provider"),
        ("https://gitlab.com", "gitlab-pipeline"),
        ("https://issuer.enforce.dev", "chainguard-identity"),
        ("https://kubernetes.default.svc", "kubernetes"),
        ("https://login.acme.test", "email"),
        ("https://oidc.codefresh.io", "codefresh-workflow"),
        ("https://spire.acme.test", "spiffe"),
        ("https://token.actions.githubusercontent.com", "ci-provider"),
        ("https://users.acme.test", "username"),
        ("https://workloads.acme.test", "uri"),
        ("https://*.oic.prod-aks.azure.com/*", "kubernetes"),
        ("https://container.googleapis.com/v1/projects/*/locations/*/clusters/*", "kubernetes"),
        ("https://oidc.circleci.com/org/*", "ci-provider"),
        ("https://oidc.eks.*.amazonaws.com/id/*", "kubernetes"),
        ("https://token.actions.githubusercontent.com/*", "ci-provider"),
    ];
    assert_eq!(urls, expected);
    assert!(config.issuers[2].ca_cert.is_some());
    let federated = &config.issuers[1].mapping;
    let Mapping::Email { issuer_claim: Some(path), skip_verification: true } = federated else {
        panic!("{federated:?}")
    };
    assert_eq!(*path, ["federated_claims", "connector_id"]);
}

#[test]
fn json_in_its_own_spelling_says_the_same() {
    let json = json!({ "OIDCIssuers": { "https://a.example": { "IssuerURL": "https://a.example", "ClientID": "b",
        "Type": "ci-provider", "CIProvider": "c", "Description": "d", "ChallengeClaim": "e" } },
        "MetaIssuers": {}, "CIIssuerMetadata": { "c": { "DefaultTemplateValues": { "url": "https://a.example" },
        "ExtensionTemplates": { "GithubWorkflowSHA": "sha", "BuildSignerURI": "" },
        "SubjectAlternativeNameTemplate": "{{ .url }}/{{ .sub }}" } } });
    let [issuer] =
        <[Issuer; 1]>::try_from(FulcioConfig::parse(&json.to_string()).unwrap().issuers).unwrap();
    assert_eq!((&issuer.audience[..], &issuer.challenge_claim[..]), ("b", "e"));
    let Mapping::Templates(templates) = issuer.mapping else { panic!("a ci-provider") };
    assert_eq!(templates.extensions.keys().copied().collect::<Vec<_>>(), [3]);
}

/// A configuration of one issuer with these settings beside `client-id`.
fn one(url: &str, settings: &str) -> String {
    format!(
        "oidc-issuers:\n  {url}:\n    client-id: sigstore\n    {}\n",
        settings.replace("; ", "\n    ")
    )
}

#[test]
fn each_mistake_is_told_for_what_it_is() {
    let a = "https://a.example.org";
    let provider = |text: &str| {
        format!(
            "{}ci-issuer-metadata:\n  p:\n    {}\n",
            one(a, "type: email"),
            text.replace("; ", "\n    ")
        )
    };
    let meta = |pattern: &str, settings: &str| {
        one(pattern, settings).replace("oidc-issuers", "meta-issuers")
    };
    let found = str::to_owned;
    for (text, expected) in [
        (one(a, "type: emial"), Fault::Type { found: found("emial") }),
        (one(a, "type: Email"), Fault::Type { found: found("Email") }),
        (one(a, "{}").replace("    {}\n", ""), Fault::Missing { name: "type" }),
        (
            one(a, "type: email").replace("    client-id: sigstore\n", ""),
            Fault::Missing { name: "client-id" },
        ),
        (one(a, "type: email").replace("sigstore", "\"\""), Fault::Missing { name: "client-id" }),
        (
            one(a, "type: email; issuer-url: https://b.example.org"),
            Fault::OtherUrl { found: found("https://b.example.org") },
        ),
        (
            one(a, "type: email; issuer-url: https://a.example.org/"),
            Fault::OtherUrl { found: found("https://a.example.org/") },
        ),
        (one("http://a.example.org", "type: email"), Fault::Url),
        (one("https://a.example.org?b", "type: email"), Fault::Url),
        (one("https://b@a.example.org", "type: email"), Fault::Url),
        (one("a.example.org", "type: email"), Fault::Url),
        (
            one(a, "type: email; issuer-claim: federated_claims"),
            Fault::ClaimPath { found: found("federated_claims") },
        ),
        (one(a, "type: email; issuer-claim: $"), Fault::ClaimPath { found: found("$") }),
        (one(a, "type: email; issuer-claim: $..a"), Fault::ClaimPath { found: found("$..a") }),
        (one(a, "type: email; issuer-claim: $.a[0]"), Fault::ClaimPath { found: found("$.a[0]") }),
        (
            one(a, "type: email; skip-email-verification: yes"),
            Fault::Boolean { setting: "skip-email-verification" },
        ),
        (
            one(a, "type: email; skip-email-verification: True"),
            Fault::Boolean { setting: "skip-email-verification" },
        ),
        (
            one(a, "type: email; subject-domain: a.example.org"),
            Fault::NotForType { setting: "subject-domain", kind: "email" },
        ),
        (
            one(a, "type: kubernetes; spiffe-trust-domain: a"),
            Fault::NotForType { setting: "spiffe-trust-domain", kind: "kubernetes" },
        ),
        (
            one(a, "type: github-workflow; ci-provider: a"),
            Fault::NotForType { setting: "ci-provider", kind: "github-workflow" },
        ),
        (
            one(a, "type: kubernetes; issuer-claim: $.a"),
            Fault::NotForType { setting: "issuer-claim", kind: "kubernetes" },
        ),
        (one(a, "type: uri"), Fault::Missing { name: "subject-domain" }),
        (
            one(a, "type: uri; subject-domain: b.example.org"),
            Fault::SubjectOrigin { scheme: found("https"), found: found("b.example.org") },
        ),
        (
            one(a, "type: uri; subject-domain: http://b.example.org"),
            Fault::SubjectOrigin { scheme: found("https"), found: found("http://b.example.org") },
        ),
        (
            one(a, "type: uri; subject-domain: https://b.example.org/c"),
            Fault::SubjectOrigin {
                scheme: found("https"),
                found: found("https://b.example.org/c"),
            },
        ),
        (
            one(a, "type: uri; subject-domain: https://b.example.com"),
            Fault::Foreign { found: found("https://b.example.com") },
        ),
        (
            one("https://a.acme.co.uk", "type: uri; subject-domain: https://b.evil.co.uk"),
            Fault::Foreign { found: found("https://b.evil.co.uk") },
        ),
        (
            one(a, "type: username; subject-domain: https://example.org"),
            Fault::SubjectHost { found: found("https://example.org") },
        ),
        (
            one(a, "type: username; subject-domain: Example.org"),
            Fault::SubjectHost { found: found("Example.org") },
        ),
        (
            one(a, "type: username; subject-domain: example.com"),
            Fault::Foreign { found: found("example.com") },
        ),
        (one(a, "type: spiffe"), Fault::Missing { name: "spiffe-trust-domain" }),
        (
            one(a, "type: spiffe; spiffe-trust-domain: spiffe://a"),
            Fault::TrustDomain { found: found("spiffe://a") },
        ),
        (one(a, "type: spiffe; spiffe-trust-domain: A"), Fault::TrustDomain { found: found("A") }),
        (one(a, "type: ci-provider"), Fault::Missing { name: "ci-provider" }),
        (
            one(a, "type: ci-provider; ci-provider: jenkins"),
            Fault::Provider { found: found("jenkins") },
        ),
        (one(a, "type: email; ca-cert: PEM"), Fault::Certificates),
        (one(a, "type: email; contact: [a]"), Fault::NoText),
        (one(a, "type: email; ClientID: b"), Fault::BothSpellings { name: found("ClientID") }),
        (format!("oidc-issuers:\n  {a}: email"), Fault::NoMapping),
        ("oidc-issuers: []".to_owned(), Fault::NoMapping),
        ("[]".to_owned(), Fault::NoMapping),
        ("oidc-issuers: {}".to_owned(), Fault::NoIssuer),
        (String::new(), Fault::NoIssuer),
        (meta(a, "type: email"), Fault::Pattern(PatternError::Plain)),
        (meta("http://*.example.org", "type: email"), Fault::Pattern(PatternError::Url)),
        (meta("https://*.org", "type: email"), Fault::Pattern(PatternError::Host)),
        (
            meta("https://*.example.org", "type: spiffe; spiffe-trust-domain: a"),
            Fault::PatternType { kind: "spiffe" },
        ),
        (
            meta("https://*.example.org", "type: username; subject-domain: example.org"),
            Fault::PatternType { kind: "username" },
        ),
        (
            provider("extension-templates: {build-signer-uri: a}"),
            Fault::Missing { name: "subject-alternative-name-template" },
        ),
        (
            provider("subject-alternative-name-template: '{{ .a | html }}'"),
            Fault::Template(TemplateError::Action { found: found(".a | html") }),
        ),
        (
            provider(
                "subject-alternative-name-template: a; extension-templates: {build-signer-uri: '{{ .a'}",
            ),
            Fault::Template(TemplateError::Unclosed),
        ),
        (
            provider(
                "subject-alternative-name-template: a; extension-templates: {build-trigger: a, BuildTrigger: b}",
            ),
            Fault::BothSpellings { name: found("BuildTrigger") },
        ),
        (
            provider("subject-alternative-name-template: a; default-template-values: {url: [a]}"),
            Fault::NoText,
        ),
        ("a: b: c".to_owned(), fault("a: b: c")),
    ] {
        assert_eq!(fault(&text), expected, "{text}");
    }
    for (text, name) in [
        (one(a, "type: email; client_id: a"), "client_id"),
        (one(a, "type: email; skip-email-verifcation: true"), "skip-email-verifcation"),
        (one(a, "type: email") + "oidc-issuer: {}", "oidc-issuer"),
        (provider("subject-alternative-name-template: a; extensions: {}"), "extensions"),
        (
            provider(
                "subject-alternative-name-template: a; extension-templates: {build-signer: a}",
            ),
            "build-signer",
        ),
        (
            provider("subject-alternative-name-template: a; extension-templates: {issuer: a}"),
            "issuer",
        ),
    ] {
        let found = fault(&text);
        assert!(
            matches!(&found, Fault::Unknown { found, expected } if found == name && expected.contains(", ")),
            "{found:?}"
        );
    }
    let text = format!(
        "{}  https://*.b.example.org/x:\n    client-id: a\n    type: email\n",
        meta("https://a.b.example.org/*", "type: email")
    );
    assert_eq!(fault(&text), Fault::Overlap { other: found("https://*.b.example.org/x") });
    // Entries with a URL of their own go before patterns: that is no overlap.
    let both = one("https://b.example.org/x", "type: email")
        + &meta("https://b.example.org/*", "type: kubernetes");
    assert!(FulcioConfig::parse(&both).is_ok());
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_line() {
    let text = "oidc-issuers:
  https://a.example.org:
    issuer-url: https://a.example.org
    type: emial
    colour: red
  http://b.example.org:
    client-id: sigstore
    type: email
meta-issuers:
  https://*:
    client-id: sigstore
    type: kubernetes
ci-issuer-metadata:
  p:
    extension-templates: {build-trigger: '{{ range }}'}
    subject-alternative-name-template: a
";
    let found: Vec<_> =
        mistakes(text).iter().map(|mistake| (mistake.line, mistake.place.clone())).collect();
    let expected = [
        (3, "oidc-issuers.https://a.example.org"),
        (3, "oidc-issuers.https://a.example.org"),
        (5, "oidc-issuers.https://a.example.org"),
        (7, "oidc-issuers.http://b.example.org"),
        (11, "meta-issuers.https://*"),
        (15, "ci-issuer-metadata.p.extension-templates.build-trigger"),
    ];
    assert_eq!(found, expected.map(|(line, place)| (line, place.to_owned())));
    let told = FulcioConfig::parse(text).unwrap_err().to_string();
    assert_eq!(told.lines().count(), 6);
    assert!(told.contains("line 5, oidc-issuers.https://a.example.org: unknown name \"colour\"; expected one of issuer-url, client-id"), "{told}");
}

#[test]
fn the_claims_of_every_provider_become_the_name_and_extensions_that_fulcio_writes() {
    for case in cases() {
        let identity = identity(&case.mapping, &case.claims)
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(*identity.san(), case.san, "{}", case.name);
        assert_eq!(*identity.extensions(), case.extensions, "{}", case.name);
        assert_eq!(identity.challenges().last().unwrap(), &case.claims["sub"], "{}", case.name);
    }
}

#[test]
fn a_claim_that_is_missing_or_mistyped_never_makes_another_name() {
    let (mut same, mut refused) = (0, 0);
    for case in cases() {
        for name in case.claims.as_object().unwrap().keys() {
            for value in [
                Value::Null,
                json!([]),
                json!({}),
                json!(""),
                json!(1.5),
                json!([case.claims[name]]),
            ] {
                let mut claims = case.claims.clone();
                claims[name] = value.clone();
                match identity(&case.mapping, &claims) {
                    // An e-mail address in the claims of a job is for the proof of possession alone.
                    Ok(identity) => {
                        assert_eq!(*identity.san(), case.san, "{} {name} {value}", case.name);
                        assert!(identity.extensions().values().all(|text| !text.is_empty()));
                        same += 1;
                    }
                    Err(MappingError::Claim { name: found }) => {
                        assert!(
                            found.starts_with(&name[..]),
                            "{} {name} {value}: {found}",
                            case.name
                        );
                        refused += 1;
                    }
                    Err(error) => {
                        let expected = [MappingError::EmailNotVerified, MappingError::EmailAddress];
                        let constant = matches!(error, MappingError::Constant { .. });
                        assert!(
                            constant || expected.contains(&error),
                            "{} {name} {value}: {error}",
                            case.name
                        );
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(same > 200 && refused > 300, "{same} {refused}");
}

#[test]
fn names_of_others_are_refused() {
    let cases = cases();
    let with = |case: &str, name: &str, value: Value| {
        let case = cases.iter().find(|found| found.name == case).unwrap();
        let mut claims = case.claims.clone();
        match name.split_once('/') {
            Some(("kubernetes.io", name)) => {
                *claims["kubernetes.io"].pointer_mut(&format!("/{name}")).unwrap() = value
            }
            _ => claims[name] = value,
        }
        identity(&case.mapping, &claims).map(|identity| identity.san().as_str().to_owned())
    };
    let claim = |name: &str| MappingError::Claim { name: name.to_owned() };
    let spiffe = || MappingError::Spiffe { expected: "prod.example.test".to_owned() };
    let domain =
        || MappingError::SubjectDomain { expected: "https://builds.example.test".to_owned() };
    let constant = |name: &str, expected: &str| MappingError::Constant {
        name: name.to_owned(),
        expected: expected.to_owned(),
    };
    for (case, name, value, expected) in [
        ("uri", "sub", "https://builds.example.test.evil.example/a", domain()),
        ("uri", "sub", "https://builds.example.test@evil.example/a", domain()),
        ("uri", "sub", "https://a@builds.example.test/a", domain()),
        ("uri", "sub", "https://builds.example.test:8443/a", domain()),
        ("uri", "sub", "https://builds.example.test\\@evil.example/a", domain()),
        ("uri", "sub", "http://builds.example.test/a", domain()),
        ("uri", "sub", "HTTPS://builds.example.test/a", domain()),
        ("uri", "sub", " https://builds.example.test/a", domain()),
        ("uri", "sub", "https:/builds.example.test/a", domain()),
        ("uri", "sub", "a@builds.example.test", domain()),
        ("uri", "sub", "https://builds.example.test/a\nb", MappingError::Uri),
        ("uri", "sub", "https://builds.example.test/%", MappingError::Uri),
        ("username", "sub", "alice!example.com", MappingError::Username),
        ("username", "sub", "alice@example.com", MappingError::Username),
        ("username", "sub", "alice\u{0}", MappingError::Username),
        ("spiffe", "sub", "spiffe://prod.example.test.evil.example/a", spiffe()),
        ("spiffe", "sub", "spiffe://test.example.test/a", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test/", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test/a/", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test//a", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test/../a", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test/./a", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test/a?b", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test:443/a", spiffe()),
        ("spiffe", "sub", "spiffe://prod.example.test/\u{e4}", spiffe()),
        ("spiffe", "sub", "SPIFFE://prod.example.test/a", spiffe()),
        ("spiffe", "sub", "https://prod.example.test/a", spiffe()),
        ("kubernetes", "kubernetes.io/namespace", "", claim("kubernetes.io.namespace")),
        (
            "kubernetes",
            "kubernetes.io/namespace",
            "a/serviceaccounts/admin",
            claim("kubernetes.io.namespace"),
        ),
        ("kubernetes", "kubernetes.io/namespace", "Payments", claim("kubernetes.io.namespace")),
        (
            "kubernetes",
            "kubernetes.io/serviceaccount/name",
            "",
            claim("kubernetes.io.serviceaccount.name"),
        ),
        (
            "kubernetes",
            "kubernetes.io/serviceaccount/name",
            "../admin",
            claim("kubernetes.io.serviceaccount.name"),
        ),
        (
            "kubernetes",
            "kubernetes.io/serviceaccount/name",
            "a%2fb",
            claim("kubernetes.io.serviceaccount.name"),
        ),
        ("github-actions", "url", "https://evil.example", constant("url", "https://github.com")),
        (
            "codefresh",
            "platform_url",
            "https://evil.example",
            constant("platform_url", "https://g.codefresh.io"),
        ),
        ("circleci", "oidc.circleci.com/project-id", "", claim("oidc.circleci.com/project-id")),
        (
            "gitlab",
            "ci_config_ref_uri",
            "github.com/acme/widget/.github/workflows/a.yml@refs/heads/main",
            MappingError::Host,
        ),
        ("gitlab", "ci_config_ref_uri", "gitlab.com@evil.example/a", MappingError::Host),
        ("gitlab", "ci_config_ref_uri", "evil.example#gitlab.com/a", MappingError::Host),
        ("gitlab", "ci_config_ref_uri", "gitlab.com/a\r\nb", MappingError::Uri),
        ("email", "email", "a", MappingError::EmailAddress),
        ("email", "email", "\u{e4}@example.com", MappingError::EmailAddress),
        ("email", "email", "a@b@c", MappingError::EmailAddress),
        ("email", "email", "a b@c", MappingError::EmailAddress),
        ("chainguard", "sub", "a\tb", MappingError::Uri),
    ] {
        assert_eq!(with(case, name, value.into()), Err(expected), "{case} {name} {value}");
    }
    for (case, sub) in [
        ("spiffe", "spiffe://prod.example.test"),
        ("uri", "https://builds.example.test"),
        ("username", "a b"),
    ] {
        assert!(with(case, "sub", sub.into()).is_ok(), "{sub}");
    }
}

#[test]
fn github_enterprise_hosts_follow_from_the_issuer_and_never_from_the_token() {
    for (issuer, expected) in [
        ("https://token.actions.githubusercontent.com", None),
        ("https://github.example.test/_services/token", Some("https://github.example.test")),
        ("https://token.actions.acme.ghe.com", Some("https://acme.ghe.com")),
        ("https://token.actions.evil.example", None),
    ] {
        assert_eq!(web_address("github-workflow", issuer).as_deref(), expected, "{issuer}");
    }
}
