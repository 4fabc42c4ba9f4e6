//! How often: tokens that are good for one certificate, and certificates an identity may have in a minute.
//! Both are off unless asked for, kept in memory, and bounded.
//!
//! One-time tokens: a token, known by the SHA-256 of what its issuer signed, is spent by the certificate that it
//! got; a request that fails gives it back. What was spent before this process began is not known, so
//! tokens issued earlier are refused: a restart forgets nothing that it still accepts. Several processes
//! beside each other do not know of each other's tokens.

use crate::identity::{Identity, San, token};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

/// Most tokens and most identities that are remembered; some 10 MiB. A token is forgotten when it expires, an
/// identity after a minute without certificates.
const MAX_REMEMBERED: usize = 100_000;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

type Digest = [u8; 32];

/// The limits of an authority, and what they remember. Clones share that.
#[derive(Clone, Default)]
pub struct Limits {
    one_time: Option<Arc<OneTime>>,
    rate: Option<Rate>,
}

struct OneTime {
    /// Tokens issued before are refused.
    since: Timestamp,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    tokens: BTreeMap<Digest, Timestamp>,
    by_end: BTreeSet<(Timestamp, Digest)>,
}

#[derive(Clone)]
struct Rate {
    /// Between two certificates, in the long run.
    interval: SignedDuration,
    /// When an identity has paid for what it got, if it gets no more.
    paid: Arc<Mutex<BTreeMap<Digest, Timestamp>>>,
}

impl Limits {
    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Each token is good for one certificate. `now` is when this process begins.
    #[must_use]
    pub fn one_time_tokens(self, now: Timestamp) -> Self {
        let since = Timestamp::from_second(now.as_second()).unwrap_or(now); // tokens know whole seconds
        Self { one_time: Some(Arc::new(OneTime { since, spent: Mutex::default() })), ..self }
    }

    /// So many certificates a minute for each identity, all of them at once if it likes.
    #[must_use]
    pub fn per_minute(self, certificates: NonZeroU32) -> Self {
        let interval = SignedDuration::from_nanos(60_000_000_000 / i64::from(certificates.get()));
        Self { rate: Some(Rate { interval, paid: Arc::default() }), ..self }
    }

    /// These limits in place of `before`, with what those remember: a token that was used stays used when
    /// a configuration is read again. Tokens that came in while they were not limited nobody remembers, so
    /// whoever begins to limit them begins afresh.
    #[must_use]
    pub fn following(self, before: &Self) -> Self {
        let one_time = match (self.one_time, &before.one_time) {
            (Some(_), Some(before)) => Some(Arc::clone(before)),
            (new, _) => new,
        };
        let rate = match (self.rate, &before.rate) {
            (Some(new), Some(before)) => Some(Rate { paid: Arc::clone(&before.paid), ..new }),
            (new, _) => new,
        };
        Self { one_time, rate }
    }

    /// Takes one certificate's worth for `identity`, which the verified `token` names.
    pub(crate) fn take(
        &self,
        token: &str,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Taken<'_>, Error> {
        let mut taken = Taken { of: None, paid: None };
        if let Some(one_time) = &self.one_time {
            let (signed, _) = token.rsplit_once('.').unwrap_or_default();
            let token = sha256(signed.as_bytes());
            one_time.spend(token, identity, now)?;
            taken.of = Some((&one_time.spent, token));
        }
        if let Some(rate) = &self.rate {
            taken.paid = Some((rate, rate.pay(identity, now)?));
        }
        Ok(taken)
    }
}

/// A token that is spent, unless this is dropped without [`keep`](Self::keep), and a certificate that is counted,
/// unless [it is given back](Self::give_back): who hangs up has had the authority's work.
pub(crate) struct Taken<'a> {
    of: Option<(&'a Mutex<Spent>, Digest)>,
    paid: Option<(&'a Rate, Digest)>,
}

impl Taken<'_> {
    /// The certificate is made.
    pub(crate) fn keep(mut self) {
        self.of = None;
    }

    /// There is no certificate, and that is not the asker's doing.
    pub(crate) fn give_back(self) {
        if let Some((rate, who)) = self.paid {
            let mut paid = rate.paid.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(until) = paid.get_mut(&who) {
                *until -= rate.interval;
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some((spent, token)) = self.of.take() {
            let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(end) = spent.tokens.remove(&token) {
                spent.by_end.remove(&(end, token));
            }
        }
    }
}

impl OneTime {
    fn spend(&self, token: Digest, identity: &Identity, now: Timestamp) -> Result<(), Error> {
        let time = |name| token::time(identity.claims(), name).ok().flatten();
        let (issued, end) = (time("iat").unwrap_or(self.since), time("exp").unwrap_or(now));
        if issued < self.since {
            return Err(Error::Before { since: self.since, issued });
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let Spent { tokens, by_end } = &mut *spent;
        // An expired token is refused before it comes here.
        while let Some((end, token)) = by_end.first().copied().filter(|(end, _)| *end < now) {
            by_end.remove(&(end, token));
            tokens.remove(&token);
        }
        if tokens.contains_key(&token) {
            return Err(Error::Spent);
        }
        if tokens.len() >= MAX_REMEMBERED {
            return Err(Error::Full);
        }
        tokens.insert(token, end);
        by_end.insert((end, token));
        Ok(())
    }
}

impl Rate {
    /// GCRA: a certificate costs an interval, and a minute's worth may be had ahead.
    /// Returns whose.
    fn pay(&self, identity: &Identity, now: Timestamp) -> Result<Digest, Error> {
        // A workflow is one, whichever branch it runs for: anybody who may push can make branches.
        let name = identity.san().as_str();
        let name = match identity.san() {
            San::Uri(_) => name.split_once("@refs/").map_or(name, |(workflow, _)| workflow),
            San::Email(_) | San::Username(_) => name,
        };
        let who = format!("{}\0{name}", identity.issuer());
        let who = sha256(who.as_bytes());
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        if paid.len() >= MAX_REMEMBERED {
            paid.retain(|_, until| *until > now);
        }
        let known = paid.get(&who).copied();
        if known.is_none() && paid.len() >= MAX_REMEMBERED {
            return Err(Error::Full);
        }
        // A clock that was set back must not lock anybody out.
        let until =
            known.filter(|until| until.duration_since(now) <= MINUTE).unwrap_or(now).max(now);
        let until = until + self.interval;
        let over = until.duration_since(now) - MINUTE;
        if over > SignedDuration::ZERO {
            let seconds = (over.as_millis() + 999) / 1000;
            return Err(Error::Rate { retry_after: u64::try_from(seconds).unwrap_or(60).max(1) });
        }
        paid.insert(who, until);
        Ok(who)
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Why there is no certificate now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The token has its certificate.
    #[error("the identity token was used before, and each is good for one certificate")]
    Spent,
    /// The token may have had its certificate.
    #[error(
        "the identity token was issued at {issued}, before this authority began at {since} to remember which tokens were used"
    )]
    Before {
        /// Since when used tokens are known.
        since: Timestamp,
        /// When the token was issued.
        issued: Timestamp,
    },
    /// Too many certificates.
    #[error("this identity has had as many certificates as it may in a minute")]
    Rate {
        /// Seconds until the next.
        retry_after: u64,
    },
    /// Nothing more can be remembered.
    #[error("too many tokens or identities are in use at once to keep their limits")]
    Full,
}

impl Error {
    /// A stable code for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Spent | Self::Before { .. } => "TOKEN_USED",
            Self::Rate { .. } => "RATE_LIMITED",
            Self::Full => "OVERLOADED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn identity(name: &str) -> Identity {
        Identity::for_tests(San::Email(name.to_owned()))
    }

    #[test]
    fn a_token_is_spent_by_what_it_gets_and_by_nothing_that_fails() {
        let limits = Limits::none().one_time_tokens(at(0));
        let take = |token, second| limits.take(token, &identity("a@b"), at(second));
        drop(take("a.b.c", 0).unwrap());
        take("a.b.c", 0).unwrap().keep();
        assert_eq!(take("a.b.c", 0).err(), Some(Error::Spent));
        assert_eq!(
            take("a.b.other", 0).err(),
            Some(Error::Spent),
            "another signature, the same token"
        );
        take("a.bb.c", 0).unwrap().keep();
        let first = take("a.d.c", 0).unwrap();
        assert_eq!(take("a.d.c", 0).err(), Some(Error::Spent), "while the first is under way");
        drop(first);
        assert!(take("a.d.c", 0).is_ok());
    }

    #[test]
    fn what_follows_remembers_what_was_used_and_limits_by_its_own_number() {
        let per_minute = |number| Limits::none().per_minute(NonZeroU32::new(number).unwrap());
        let first = per_minute(1).one_time_tokens(at(0));
        first.take("a.b.c", &identity("a@b"), at(1)).unwrap().keep();
        let next = per_minute(2).one_time_tokens(at(5)).following(&first);
        let take = |token, who| next.take(token, &identity(who), at(1)).map(Taken::keep).err();
        assert_eq!(take("a.b.c", "a@b"), Some(Error::Spent));
        assert_eq!(take("a.d.c", "a@b"), Some(Error::Rate { retry_after: 30 }));
        assert_eq!(take("a.d.c", "c@d"), None);
        assert_eq!(next.one_time.as_ref().unwrap().since, at(0));
        let off = Limits::none().following(&next);
        assert!(off.take("a.b.c", &identity("a@b"), at(7)).is_ok());
        // Nobody has looked meanwhile.
        let on = Limits::none().one_time_tokens(at(9)).following(&off);
        assert_eq!(on.one_time.unwrap().since, at(9));
    }

    #[test]
    fn used_tokens_are_forgotten_when_they_end_and_their_number_is_bounded() {
        let limits = Limits::none().one_time_tokens(at(0));
        let one_time = limits.one_time.as_ref().unwrap();
        for token in 0..MAX_REMEMBERED {
            let token = sha256(&token.to_be_bytes());
            let mut spent = one_time.spent.lock().unwrap();
            spent.tokens.insert(token, at(10));
            spent.by_end.insert((at(10), token));
        }
        assert_eq!(limits.take("a.b.c", &identity("a@b"), at(10)).err(), Some(Error::Full));
        limits.take("a.b.c", &identity("a@b"), at(11)).unwrap().keep();
        assert_eq!(one_time.spent.lock().unwrap().by_end.len(), 1);
    }

    #[test]
    fn an_identity_has_its_number_a_minute_and_others_have_theirs() {
        let limits = Limits::none().per_minute(NonZeroU32::new(3).unwrap());
        let take = |who, second| limits.take("a.b.c", &identity(who), at(second)).map(Taken::keep);
        for _ in 0..3 {
            assert_eq!(take("a@b", 0), Ok(()));
        }
        assert_eq!(take("a@b", 0), Err(Error::Rate { retry_after: 20 }));
        assert_eq!(take("c@d", 0), Ok(()));
        assert_eq!(take("a@b", 19), Err(Error::Rate { retry_after: 1 }));
        assert_eq!(take("a@b", 20), Ok(()));
        assert_eq!(take("a@b", 20), Err(Error::Rate { retry_after: 20 }));
        assert_eq!(take("a@b", -3600), Ok(()), "the clock was set back");
    }

    #[test]
    fn what_fails_by_no_fault_of_the_asker_is_not_counted_and_branches_count_as_one() {
        let limits = Limits::none().per_minute(NonZeroU32::new(1).unwrap());
        let take = |name: &str| {
            let identity = Identity::for_tests(San::Uri(name.to_owned()));
            limits.take("a.b.c", &identity, at(0))
        };
        let workflow = "https://github.com/acme/web/.github/workflows/release.yml@refs/heads";
        take(&format!("{workflow}/main")).unwrap().give_back();
        drop(take(&format!("{workflow}/main")).unwrap());
        let refused = take(&format!("{workflow}/other@refs/x")).err();
        assert_eq!(refused, Some(Error::Rate { retry_after: 60 }), "hung up, on another branch");
        assert!(
            take("https://example.com/@me").is_ok() && take("https://example.com/@you").is_ok()
        );
    }
}
