//! What else a registry may answer: blobs that are not what led to them, lists without end, and other answers the second time.

use super::{Case, INDEX, REPOSITORY, edit, reference};
use countersign_client::oci::Error;
use countersign_testkit::registry::Reply;

#[tokio::test]
async fn a_blob_is_read_to_its_size_and_no_further() {
    let case = Case::new(true).await;
    let layer = &case.image.manifest.layers()[0];
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let table: [(&str, Change, &str); 4] = [
        ("longer", |body| [body, vec![0; 1 << 20]].concat(), "SIZE_MISMATCH"),
        ("shorter", |body| body[1..].to_vec(), "SIZE_MISMATCH"),
        ("empty", |_| Vec::new(), "SIZE_MISMATCH"),
        ("other", |body| body.iter().map(|byte| byte ^ 1).collect(), "DIGEST_MISMATCH"),
    ];
    for (name, change, code) in table {
        case.registry.meddle(move |request, honest| match request.path.contains("/blobs/") {
            true => Reply { body: change(honest.body.clone()), ..honest },
            false => honest,
        });
        let error = case.place.blob(layer, 1000).await.expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.is_finding(), "{name}: it must not be used");
    }
    case.registry.behave();
    let _ = case.registry.requests();
    let error = case.place.blob(layer, 4).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(case.registry.requests().len(), 0, "what is too large is not asked for");
}

#[tokio::test]
async fn manifests_that_are_made_to_be_costly_are_refused() {
    let case = Case::new(false).await;
    case.attach().await;
    let tag = case.digest().tag();
    let deep = format!("{}1{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let nested = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{deep}}}"#);
    type Bend = Box<dyn Fn(Reply) -> Reply + Send>;
    let list = |count: usize| -> Bend {
        Box::new(move |reply| {
            edit(reply, |json| json["manifests"] = vec![json["manifests"][0].clone(); count].into())
        })
    };
    let table: [(&str, Bend, &str); 3] = [
        ("a fallback tag of ten thousand", list(10_000), "TOO_MANY"),
        ("one more than is read", list(1001), "TOO_MANY"),
        (
            "nested a million deep",
            Box::new(move |reply| Reply { body: nested.clone().into_bytes(), ..reply }),
            "MANIFEST_MALFORMED",
        ),
    ];
    for (name, bend, code) in table {
        let tag = tag.clone();
        case.registry.meddle(move |request, honest| match request.path.ends_with(&tag) {
            // Without the digest that the registry says, which would not fit.
            true => {
                bend(Reply { headers: [("content-type".into(), INDEX.into())].into(), ..honest })
            }
            false => honest,
        });
        let error = case.place.listed_by_tag(case.digest()).await.expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_registry_that_answers_differently_the_second_time_is_found_out() {
    let case = Case::new(true).await;
    case.attach().await;
    let listed = case.listed().await;
    let forged = case.registry.push_image(REPOSITORY, "other", "forged");
    let forged = case.registry.manifest(REPOSITORY, &forged).unwrap();
    let mut asked = 0;
    case.registry.meddle(move |request, honest| {
        asked += usize::from(request.path.contains("/manifests/"));
        match asked {
            0 | 1 => honest,
            _ => Reply { body: forged.clone(), ..honest },
        }
    });
    let image = case.place.resolve(&reference(&case.registry)).await.unwrap();
    assert_eq!(image.descriptor, case.image.descriptor);
    // By the tag it may be another image; by the digest it is none, and neither is the referrer.
    let error = case.place.manifest(case.digest()).await.unwrap_err();
    assert_eq!(error.code(), "DIGEST_MISMATCH", "{error}");
    let error = case.place.bundle(case.digest(), &listed[0]).await.unwrap_err();
    assert_eq!(error.code(), "DIGEST_MISMATCH", "{error}");
    // One that is listed and gone is not "no signature".
    case.registry.meddle(|request, honest| match request.path.contains("/manifests/") {
        true => Reply::new(404, ""),
        false => honest,
    });
    let error = case.place.bundle(case.digest(), &listed[0]).await.unwrap_err();
    assert!(!error.is_finding(), "{error}");
}
