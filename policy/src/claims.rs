//! The claims that roles speak of, out of what a certificate carries.
//!
//! Fulcio's extensions hold URIs of a provider's; a role names a repository, a workflow, a ref. The host
//! of those URIs is the CA's configuration for the issuer, which every role names, so it is left out. A
//! URI that could be read in two ways (percent-encoding, `..`, an empty segment, a query) gives no
//! claim, and what is absent matches nothing.

use countersign_verify::certificate::Subject;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The names of all claims, and what each is.
pub const CLAIMS: [(&str, &str); 25] = [
    ("subject", "the certificate's subject alternative name"),
    ("email", "a person's e-mail address"),
    ("username", "NAME!DOMAIN"),
    ("spiffe", "a SPIFFE ID"),
    ("kubernetes-namespace", "a service account's namespace"),
    ("kubernetes-service-account", "a service account's name"),
    ("repository", "the repository that was built, OWNER/NAME"),
    ("repository-name", "its last segment"),
    ("repository-id", "its number, which a renamed repository keeps"),
    ("owner", "the repository's owner"),
    ("owner-id", "the owner's number"),
    ("ref", "the Git ref that was built"),
    ("commit", "the commit that was built"),
    ("workflow", "the workflow that ran, OWNER/NAME/PATH; of a reusable one the one called"),
    ("workflow-ref", "the Git ref that the workflow came from"),
    ("workflow-commit", "the commit that the workflow came from"),
    ("caller-workflow", "the workflow that called it"),
    ("caller-workflow-ref", "the Git ref of the calling workflow"),
    ("trigger", "what started the job: push, workflow_dispatch, schedule…"),
    ("environment", "the deployment environment"),
    ("runner", "github-hosted, self-hosted…"),
    ("visibility", "public, private or internal"),
    ("run", "the run's URL"),
    ("token-subject", "the token's sub"),
    ("groups", "the groups of a token; no certificate carries them"),
];

/// The claims that no certificate carries: only the CA, which sees the token, can judge them.
pub(crate) const TOKEN_ONLY: [&str; 1] = ["groups"];

/// What a claim says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Claim {
    /// One text.
    One(String),
    /// Several, such as groups.
    Many(Vec<String>),
}

impl Claim {
    /// Its texts.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    /// For a refusal.
    #[must_use]
    pub fn shown(&self) -> String {
        self.texts().join(", ")
    }
}

/// Claims by name, see [`CLAIMS`].
pub type Claims = BTreeMap<String, Claim>;

/// The claims of a certificate with this subject and these of Fulcio's extensions, by number.
#[must_use]
pub fn claims(subject: &Subject, extensions: &BTreeMap<u8, String>) -> Claims {
    let mut claims = BTreeMap::new();
    let mut set = |name: &str, text: &str| {
        if !text.is_empty() {
            claims.insert(name.to_owned(), Claim::One(text.to_owned()));
        }
    };
    set("subject", subject.as_str());
    match subject {
        Subject::Email(email) => set("email", email),
        Subject::Username(name) => set("username", name),
        Subject::Uri(uri) if uri.starts_with("spiffe://") => {
            if path(uri).is_some() {
                set("spiffe", uri);
            }
        }
        Subject::Uri(uri) => {
            let account = uri.strip_prefix("https://kubernetes.io/namespaces/");
            let account = account.and_then(|rest| rest.split_once("/serviceaccounts/"));
            if let Some((namespace, account)) = account.filter(|_| path(uri).is_some()) {
                set("kubernetes-namespace", namespace);
                set("kubernetes-service-account", account);
            }
        }
    }
    let extension = |number: u8| extensions.get(&number).map(String::as_str);
    // The old GitHub extensions say the same as the later ones where both are there; one that
    // contradicts is a reason to believe neither.
    let either = |new: u8, old: u8| match (extension(new), extension(old)) {
        (Some(new), Some(old)) if new != old => None,
        (new, old) => new.or(old),
    };
    let source = extension(12).and_then(path);
    let repository = match (source, extension(5)) {
        (Some(new), Some(old)) if new != old => None,
        (new, old) => new.or(if extension(12).is_none() { old } else { None }),
    };
    if let Some(repository) = repository {
        set("repository", repository);
        set("repository-name", repository.rsplit('/').next().unwrap_or_default());
    }
    if let Some(owner) = extension(16).and_then(path) {
        set("owner", owner);
    }
    let plain = [
        ("repository-id", extension(15)),
        ("owner-id", extension(17)),
        ("ref", either(14, 6)),
        ("commit", either(13, 3)),
        ("workflow-commit", extension(10)),
        ("trigger", either(20, 2)),
        ("environment", extension(23)),
        ("runner", extension(11)),
        ("visibility", extension(22)),
        ("run", extension(21)),
        ("token-subject", extension(24)),
    ];
    for (name, text) in plain {
        set(name, text.unwrap_or_default());
    }
    let workflows =
        [(9, "workflow", "workflow-ref"), (18, "caller-workflow", "caller-workflow-ref")];
    for (number, file_name, ref_name) in workflows {
        if let Some((file, git_ref)) = extension(number).and_then(workflow) {
            set(file_name, file);
            set(ref_name, git_ref);
        }
    }
    claims
}

/// The path of `https://host/path` or `spiffe://domain/path`, if it can be read in one way only.
fn path(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("spiffe://"))?;
    let (_, path) = rest.split_once('/')?;
    unambiguous(path).then_some(path)
}

fn unambiguous(path: &str) -> bool {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..");
    path.split('/').all(segment) && !path.contains(['%', '\\', '?', '#'])
}

/// File and ref of `https://host/OWNER/NAME/PATH@REF`. GitLab writes `//` between project and file.
fn workflow(uri: &str) -> Option<(&str, &str)> {
    let (_, path) = uri.strip_prefix("https://")?.split_once('/')?;
    let (file, git_ref) = path.split_once('@')?;
    let parts = file.split_once("//").map_or((file, None), |(project, file)| (project, Some(file)));
    let clear = unambiguous(parts.0) && parts.1.is_none_or(unambiguous) && !git_ref.is_empty();
    clear.then_some((file, git_ref))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(extensions: &[(u8, &str)]) -> Claims {
        let extensions = extensions.iter().map(|&(n, text)| (n, text.to_owned())).collect();
        claims(&Subject::Uri("https://github.com/x".to_owned()), &extensions)
    }

    fn one<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
        claims.get(name).map(|claim| claim.texts()[0].as_str())
    }

    #[test]
    fn a_reusable_workflow_and_its_caller_are_two_claims() {
        let found = of(&[
            (9, "https://github.com/acme/pipelines/.github/workflows/release.yml@refs/tags/v4"),
            (12, "https://github.com/acme/pay"),
            (18, "https://github.com/acme/pay/.github/workflows/ci.yml@refs/tags/v1.2"),
        ]);
        for (name, expected) in [
            ("workflow", "acme/pipelines/.github/workflows/release.yml"),
            ("workflow-ref", "refs/tags/v4"),
            ("caller-workflow", "acme/pay/.github/workflows/ci.yml"),
            ("caller-workflow-ref", "refs/tags/v1.2"),
            ("repository", "acme/pay"),
            ("repository-name", "pay"),
        ] {
            assert_eq!(one(&found, name), Some(expected));
        }
    }

    #[test]
    fn ambiguous_uris_are_no_claim() {
        for uri in [
            "https://github.com/acme/pay%2fother",
            "https://github.com/acme/../evil/pay",
            "https://github.com/acme//pay",
            "https://github.com/acme/pay/",
            "https://github.com/acme/pay?x",
            "http://github.com/acme/pay",
            "acme/pay",
        ] {
            // Nor does the old extension then stand in.
            assert_eq!(one(&of(&[(12, uri), (5, "acme/pay")]), "repository"), None, "{uri}");
        }
        assert_eq!(one(&of(&[(5, "acme/pay")]), "repository"), Some("acme/pay"));
        let gitlab = of(&[(9, "https://git.example/a/b//.gitlab-ci.yml@refs/heads/main")]);
        assert_eq!(one(&gitlab, "workflow"), Some("a/b//.gitlab-ci.yml"));
    }

    #[test]
    fn extensions_that_contradict_each_other_are_no_claim() {
        let both = of(&[(14, "refs/heads/main"), (6, "refs/tags/v1"), (20, "push"), (2, "push")]);
        assert_eq!((one(&both, "ref"), one(&both, "trigger")), (None, Some("push")));
        let named = of(&[(12, "https://github.com/acme/pay"), (5, "acme/other")]);
        assert_eq!(one(&named, "repository"), None);
    }
}
