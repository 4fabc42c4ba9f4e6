//! The next version of a policy.

use super::*;
use countersign_policy::{AcceptError, POLICY, accept};

fn version(serial: u64, previous: Option<&str>, owners: &str) -> Policy {
    Policy::parse(&text(serial, previous, owners)).unwrap()
}

fn text(serial: u64, previous: Option<&str>, owners: &str) -> String {
    let previous = previous.map_or(String::new(), |digest| format!("previous: {digest}\n"));
    format!(
        "policy: p\nserial: {serial}\nexpires: 2027-01-01\n{previous}owners: {{roles: [owners], at-least: 2}}
who:
  owners: {{issuer: {LOGIN}, email: [{owners}]}}
"
    )
}

fn by(email: &str, policy: &Policy) -> Evidence {
    let signer = signer(LOGIN, &[("subject", email), ("email", email)]);
    Evidence { digest: policy.digest.clone(), ..attestation(signer, POLICY, json!({})) }
}

const OLD: &str = "ana@a, raj@a";

#[test]
fn a_version_follows_the_one_before_and_is_signed_by_the_owners_of_both() {
    let old = version(3, None, OLD);
    let next = version(4, Some(&old.digest), OLD);
    let signed = [by("ana@a", &next), by("raj@a", &next)];
    assert_eq!(accept(Some(&old), &next, None, &signed, &signed, now()), Ok(()));
    assert_eq!(accept(Some(&next), &next, None, &[], &[], now()), Ok(()), "the same is no news");
    // Each version's owners are vouched for by the roots that it names itself.
    let nobody = |serial| Err(AcceptError::Owners { serial, expected: 2, found: 0 });
    assert_eq!(accept(Some(&old), &next, None, &[], &signed, now()), nobody(3));
    assert_eq!(accept(Some(&old), &next, None, &signed, &[], now()), nobody(4));
    // Nor does a role publish any more once it is retired.
    let retired = text(3, None, OLD).replace("{issuer", "{retired: 2020-01-01, issuer");
    let retired = Policy::parse(&retired).unwrap();
    let after = version(4, Some(&retired.digest), OLD);
    let signed = [by("ana@a", &after), by("raj@a", &after)];
    assert_eq!(accept(Some(&retired), &after, None, &signed, &signed, now()), nobody(3));

    let others = version(4, Some(&old.digest), "eve@a, mal@a");
    let digest = DIGEST;
    let mut unlogged = by("raj@a", &next);
    unlogged.logged = false;
    let mut other_digest = by("raj@a", &next);
    other_digest.digest = digest.to_owned();
    let owners = |serial, found| AcceptError::Owners { serial, expected: 2, found };
    for (new, signed, expected) in [
        (next.clone(), vec![by("ana@a", &next)], owners(3, 1)),
        (next.clone(), vec![by("ana@a", &next), by("ana@a", &next)], owners(3, 1)),
        (next.clone(), vec![by("ana@a", &next), unlogged], owners(3, 1)),
        (next.clone(), vec![by("ana@a", &next), other_digest], owners(3, 1)),
        (others.clone(), vec![by("eve@a", &others), by("mal@a", &others)], owners(3, 0)),
        (others.clone(), vec![by("ana@a", &others), by("raj@a", &others)], owners(4, 0)),
        (
            version(3, Some(&old.digest), OLD),
            vec![],
            AcceptError::Rollback { expected: 3, found: 3 },
        ),
        (version(2, None, OLD), vec![], AcceptError::Rollback { expected: 3, found: 2 }),
        (version(1004, None, OLD), vec![], AcceptError::FastForward { expected: 3, found: 1004 }),
        (
            version(4, Some(digest), OLD),
            vec![],
            AcceptError::Previous { expected: old.digest.clone(), found: digest.to_owned() },
        ),
    ] {
        assert_eq!(accept(Some(&old), &new, None, &signed, &signed, now()), Err(expected));
    }
}

#[test]
fn the_first_policy_is_told_by_its_digest_and_none_that_has_expired_is_taken() {
    let first = version(1, None, OLD);
    let signed = [by("ana@a", &first), by("raj@a", &first)];
    assert_eq!(accept(None, &first, None, &[], &signed, now()), Err(AcceptError::FirstUse));
    assert_eq!(accept(None, &first, Some(&first.digest), &[], &signed, now()), Ok(()));
    assert!(accept(None, &first, Some(&first.digest), &[], &signed[..1], now()).is_err());
    let later = "2027-01-01T00:00:00Z".parse().unwrap();
    let refused = accept(None, &first, Some(&first.digest), &[], &signed, later);
    assert!(matches!(refused, Err(AcceptError::Expired { .. })));
    let refused = accept(None, &first, Some(DIGEST), &[], &signed, now());
    assert!(matches!(refused, Err(AcceptError::Pinned { .. })));
}
