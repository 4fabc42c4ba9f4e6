//! Mirrors: what is read from them, and what is not.

use super::{Case, REPOSITORY, reference};
use countersign_client::oci::{Credential, Mirrors, Options, Registries, Where};
use countersign_testkit::registry::{Registry, Reply};
use std::time::Duration;

/// A view of the case's registry with `mirror` before it.
fn mirrored(case: &Case, mirror: std::net::SocketAddr, credential: Option<Credential>) -> Where {
    let text = format!("{}={mirror}/hub", case.registry.address);
    let mirrors = Mirrors::parse([text.as_str()]).unwrap();
    let budget = Duration::from_secs(5);
    let options = Options { credential, mirrors, budget, ..Options::default() };
    let repository = Registries::new(options).repository(&reference(&case.registry)).unwrap();
    Where::Registry(repository)
}

/// The same image below `hub`, and nothing that refers to it.
fn mirror() -> (Registry, String) {
    let mirror = Registry::start(true);
    let repository = format!("hub/{REPOSITORY}");
    let _ = mirror.push_image(&repository, "v1", "hello");
    (mirror, repository)
}

#[tokio::test]
async fn content_comes_from_the_mirror_and_tags_and_signatures_from_the_registry() {
    let case = Case::new(true).await;
    case.attach().await;
    let (mirror, repository) = mirror();
    let _ = mirror.push_image(&repository, "v1", "older");
    let place = mirrored(&case, mirror.address, None);
    let _ = (case.registry.requests(), mirror.requests());

    let image = place.manifest(case.digest()).await.unwrap();
    place.blob(&image.manifest.layers()[0], 1000).await.unwrap();
    assert_eq!(case.registry.requests().len(), 0, "all of it is in the mirror");
    assert!(mirror.requests().iter().all(|request| request.path.starts_with("/v2/hub/acme/app/")));

    assert_eq!(
        &place.resolve(&reference(&case.registry)).await.unwrap().descriptor.digest,
        case.digest()
    );
    let listed = place.referrers(case.digest()).await.unwrap();
    assert_eq!(mirror.requests().len(), 0, "it would not know");
    assert!(place.bundle(case.digest(), &listed[0]).await.unwrap().is_some(), "read where it is");
}

#[tokio::test]
async fn what_a_mirror_lacks_or_has_wrongly_is_read_from_the_registry() {
    let case = Case::new(true).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (what, status, asked) in [
        ("other bytes", 200, 3),
        ("nothing", 404, 3),
        ("a demand for credentials", 401, 3),
        ("no answer", 503, 1),
        ("no server", 0, 0),
    ] {
        let (mirror, _) = mirror();
        mirror.meddle(move |_, honest| match status {
            200 => Reply { body: b"{}".to_vec(), ..honest },
            status => Reply::new(status, "").with("www-authenticate", "Basic realm=\"r\""),
        });
        let address = if status == 0 { closed } else { mirror.address };
        let credential = Credential::Password("me".to_owned(), "secret".to_owned().into());
        let place = mirrored(&case, address, Some(credential));
        let image = place.manifest(case.digest()).await.unwrap();
        assert_eq!(image.bytes, case.image.bytes, "{what}");
        place.blob(&image.manifest.layers()[0], 1000).await.unwrap();
        place.manifest(case.digest()).await.unwrap();
        let seen = mirror.requests();
        assert_eq!(seen.len(), asked, "{what}: one that does not answer is left alone");
        // Those that were given are for the registry.
        assert!(seen.iter().all(|request| request.authorization.is_none()), "{what}");
    }
}
