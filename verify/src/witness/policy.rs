//! Witness policies (C2SP tlog-policy): logs, witnesses, and how many of which must have cosigned.
//!
//! ```text
//! # comment
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> all|any|<k> <name>…          (witnesses and groups of lines before)
//! quorum <name>|none
//! ```
//! Words are divided by spaces and tabs. Refused: other lines, a name that is used twice or is a member
//! twice, a key that stands there twice, logs whose keys are witnesses' and the reverse, a threshold
//! outside 1 to the number of members, and anything but one quorum.

use crate::limits::{MAX_WITNESS_POLICY, MAX_WITNESS_POLICY_LINES};
use crate::note::{KeyError, KeyType, Note, SignatureError, VerifierKey};
use crate::witness::decimal;
use std::collections::HashMap;

/// Whose signatures make a checkpoint good.
#[derive(Clone, Debug)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// A witness of a policy.
#[derive(Clone, Debug)]
pub struct Witness {
    /// What the policy calls it.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where a log asks it: `<url>/add-checkpoint`. Not checked to be a URL.
    pub url: Option<String>,
}

/// A name's meaning: by place in the list of witnesses or groups.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Each name is a member once at most, so groups are trees, and walking them takes as long as the file is.
#[derive(Clone, Debug)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// Names the first line that is not as it must be.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_WITNESS_POLICY {
            return Err(Error { line: 1, reason: Reason::TooLong });
        }
        let mut reader = Reader::default();
        for (number, line) in text.split('\n').enumerate() {
            reader.line(line).map_err(|reason| Error { line: number + 1, reason })?;
        }
        let Reader { logs, witnesses, groups, quorum, .. } = reader;
        let line = text.split('\n').count();
        let quorum = quorum.ok_or(Error { line, reason: Reason::NoQuorum })?;
        Ok(Self { logs, witnesses, groups, quorum })
    }

    /// The keys of the logs; none where the logs are known otherwise.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses in the order of their lines.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether the witnesses for which `cosigned` holds are enough. It is asked by place in
    /// [`witnesses`](Self::witnesses).
    #[must_use]
    pub fn suffices(&self, cosigned: impl Fn(usize) -> bool) -> bool {
        let mut held = Vec::with_capacity(self.groups.len());
        let holds = |member: Member, held: &[bool]| match member {
            Member::Witness(place) => cosigned(place),
            Member::Group(place) => held[place],
        };
        for group in &self.groups {
            let count = group.members.iter().filter(|member| holds(**member, &held)).count();
            held.push(count >= group.threshold);
        }
        self.quorum.is_none_or(|member| holds(member, &held))
    }

    /// Checks a checkpoint: signed by one of the logs, if there are any, and cosigned by enough
    /// witnesses. Gives the names of those that did. Lines by other keys are passed over.
    ///
    /// # Errors
    /// When it is not, or a line by a key of the policy does not hold.
    pub fn check(&self, note: &Note) -> Result<Vec<&str>, Refusal> {
        let signed = |key: &VerifierKey| {
            let broken = |reason| Refusal::Signature { name: key.name().to_owned(), reason };
            key.signed(note).map_err(broken)
        };
        let mut by_log = self.logs.is_empty();
        for log in &self.logs {
            by_log |= signed(log)?.is_some();
        }
        if !by_log {
            return Err(Refusal::OtherLog);
        }
        let cosigned = self.witnesses.iter().map(|witness| Ok(signed(&witness.key)?.is_some()));
        let cosigned = cosigned.collect::<Result<Vec<bool>, Refusal>>()?;
        self.demand(|place| cosigned[place])?;
        let witnesses = self.witnesses.iter().zip(&cosigned);
        Ok(witnesses.filter(|(_, cosigned)| **cosigned).map(|(it, _)| it.name.as_str()).collect())
    }

    /// As [`suffices`](Self::suffices), with the reason if not.
    ///
    /// # Errors
    /// [`Refusal::TooFew`], with the names of those that are missing.
    pub fn demand(&self, cosigned: impl Fn(usize) -> bool) -> Result<(), Refusal> {
        if self.suffices(&cosigned) {
            return Ok(());
        }
        let mut wanted = Vec::new();
        let expected =
            self.quorum.map_or_else(String::new, |quorum| self.describe(quorum, &mut wanted));
        let names = |places: &mut dyn Iterator<Item = usize>| {
            places.map(|place| self.witnesses[place].name.clone()).collect()
        };
        let found = names(&mut (0..self.witnesses.len()).filter(|place| cosigned(*place)));
        let missing = names(&mut wanted.into_iter().filter(|place| !cosigned(*place)));
        Err(Refusal::TooFew { expected, found, missing })
    }

    /// A member in words; adds the witnesses in it to `witnesses`.
    fn describe(&self, member: Member, witnesses: &mut Vec<usize>) -> String {
        match member {
            Member::Witness(place) => {
                witnesses.push(place);
                self.witnesses[place].name.clone()
            }
            Member::Group(place) => {
                let Group { threshold, members } = &self.groups[place];
                let members: Vec<_> = members
                    .iter()
                    .map(|member| match (self.describe(*member, witnesses), member) {
                        (name, Member::Witness(_)) => name,
                        (group, Member::Group(_)) => format!("({group})"),
                    })
                    .collect();
                format!("{threshold} of {}", members.join(", "))
            }
        }
    }
}

#[derive(Default)]
struct Reader {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Option<Member>>,
    names: HashMap<String, Member>,
    /// Which names are members already.
    members: HashMap<Member, String>,
    lines: usize,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Reason> {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Reason::ControlCharacter);
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(keyword) = words.next().filter(|keyword| !keyword.starts_with('#')) else {
            return Ok(());
        };
        self.lines += 1;
        if self.lines > MAX_WITNESS_POLICY_LINES {
            return Err(Reason::TooLong);
        }
        let words: Vec<_> = words.collect();
        match (keyword, &words[..]) {
            ("log", [key] | [key, _]) => {
                let key = VerifierKey::parse(key)?;
                let fits = matches!(key.key_type(), KeyType::Ed25519 | KeyType::MlDsa44);
                self.new_key(&key, fits)?;
                self.logs.push(key);
            }
            ("witness", [name, key, url @ ..]) if url.len() <= 1 => {
                let key = VerifierKey::parse(key)?;
                let fits = matches!(key.key_type(), KeyType::Cosignature | KeyType::MlDsa44);
                self.new_key(&key, fits)?;
                self.new_name(name, Member::Witness(self.witnesses.len()))?;
                let (name, url) = ((*name).to_owned(), url.first().map(|url| (*url).to_owned()));
                self.witnesses.push(Witness { name, key, url });
            }
            ("group", [name, threshold, members @ ..]) => {
                let group = self.group(threshold, members)?;
                self.new_name(name, Member::Group(self.groups.len()))?;
                self.groups.push(group);
            }
            ("quorum", [name]) => {
                let quorum = if *name == "none" { None } else { Some(self.named(name)?) };
                if self.quorum.replace(quorum).is_some() {
                    return Err(Reason::SecondQuorum);
                }
            }
            ("log" | "witness" | "group" | "quorum", _) => return Err(Reason::Words),
            _ => return Err(Reason::Keyword { found: keyword.chars().take(40).collect() }),
        }
        Ok(())
    }

    fn new_key(&self, key: &VerifierKey, fits: bool) -> Result<(), Reason> {
        if !fits {
            return Err(Reason::KeyType);
        }
        let keys = self.logs.iter().chain(self.witnesses.iter().map(|witness| &witness.key));
        // Lines name keys by name and ID, so these must differ, too.
        let same = |known: &VerifierKey| {
            known.public_key() == key.public_key()
                || (known.name(), known.id()) == (key.name(), key.id())
        };
        if keys.into_iter().any(same) { Err(Reason::SameKey) } else { Ok(()) }
    }

    fn new_name(&mut self, name: &str, member: Member) -> Result<(), Reason> {
        if name == "none" || self.names.insert(name.to_owned(), member).is_some() {
            return Err(Reason::Name { found: name.chars().take(100).collect() });
        }
        Ok(())
    }

    fn named(&self, name: &str) -> Result<Member, Reason> {
        let unknown = || Reason::Unknown { found: name.chars().take(100).collect() };
        self.names.get(name).copied().ok_or_else(unknown)
    }

    fn group(&mut self, threshold: &str, names: &[&str]) -> Result<Group, Reason> {
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let member = self.named(name)?;
            if self.members.insert(member, (*name).to_owned()).is_some() {
                return Err(Reason::SecondMembership { found: name.chars().take(100).collect() });
            }
            members.push(member);
        }
        let threshold = match threshold {
            "any" => Some(1),
            "all" => Some(members.len()),
            number => decimal(number).and_then(|number| usize::try_from(number).ok()),
        };
        let threshold = threshold.filter(|threshold| (1..=members.len()).contains(threshold));
        Ok(Group { threshold: threshold.ok_or(Reason::Threshold)?, members })
    }
}

/// Why a text is no policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Error {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Larger than any policy that is read.
    #[error(
        "a policy has at most {MAX_WITNESS_POLICY} bytes and {MAX_WITNESS_POLICY_LINES} lines besides comments"
    )]
    TooLong,
    /// A character that terminals and parsers read differently.
    #[error("a control character")]
    ControlCharacter,
    /// An unknown kind of line.
    #[error("expected log, witness, group or quorum, found {found:?}")]
    Keyword {
        /// The first word.
        found: String,
    },
    /// Too few words or too many.
    #[error(
        "expected `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME all|any|K NAME…` or `quorum NAME`"
    )]
    Words,
    /// Not a verifier key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A log's key where a witness's is needed, or the reverse.
    #[error("expected for a log a key of type 0x01 or 0x06, for a witness one of 0x04 or 0x06")]
    KeyType,
    /// The key is there already, perhaps under another name.
    #[error("the same public key stands in a line before")]
    SameKey,
    /// A name that cannot be given.
    #[error("the name {found:?} is taken")]
    Name {
        /// The name.
        found: String,
    },
    /// A name that no line before has given.
    #[error("no line before names {found:?}")]
    Unknown {
        /// The name.
        found: String,
    },
    /// A member of two groups, or twice of one.
    #[error("{found:?} is a member of a group already: each counts once")]
    SecondMembership {
        /// The name.
        found: String,
    },
    /// A threshold that cannot be met, or demands nothing.
    #[error("expected all, any or a number from 1 to that of the members")]
    Threshold,
    /// Two quorums.
    #[error("a policy has one quorum, this is the second")]
    SecondQuorum,
    /// No quorum.
    #[error("expected a quorum, found none")]
    NoQuorum,
}

/// Why a checkpoint does not satisfy a policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// None of the policy's logs signed it.
    #[error("the checkpoint is signed by none of the witness policy's logs")]
    OtherLog,
    /// A line by one of its keys does not hold.
    #[error("the signature of {name} on the checkpoint does not hold: {reason}")]
    Signature {
        /// The key's name.
        name: String,
        /// Why.
        reason: SignatureError,
    },
    /// Witnesses are missing.
    #[error(
        "expected cosignatures by {expected}, found {}; missing {}",
        if found.is_empty() { "none".to_owned() } else { found.join(", ") },
        missing.join(", ")
    )]
    TooFew {
        /// The quorum in words.
        expected: String,
        /// The witnesses that cosigned.
        found: Vec<String>,
        /// The witnesses of the quorum that did not.
        missing: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Signature, cosigned};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    const LOG: &str = "log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const NOTE: &str = "log.example.test\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\
        \u{2014} log.example.test rxvZ1ycB5BXE51nrYw45V4ekTSuyYFYYuCIhyFYOx/JBtmPpdi2lKc3ZVfKufyEN90u9o7w+UnkU0Xqbmr6zXBF5IwM=\n";

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn witness(seed: u8) -> VerifierKey {
        let name = format!("w{seed}.example");
        VerifierKey::new(&name, KeyType::Cosignature, pair(seed).public_key().as_ref()).unwrap()
    }

    /// The note with cosignatures by these seeds.
    fn note(cosigners: &[u8]) -> Note {
        let note = Note::parse(NOTE).unwrap();
        let mut lines = note.signatures().to_vec();
        lines.extend(cosigners.iter().map(|seed| {
            let (time, key) = (1_764_000_000_u64, witness(*seed));
            let signature = pair(*seed).sign(cosigned(time, note.text()).as_bytes());
            let signature = [&time.to_be_bytes()[..], signature.as_ref()].concat();
            Signature { name: key.name().to_owned(), key_id: key.id(), signature }
        }));
        Note::new(note.text().to_owned(), lines).unwrap()
    }

    fn lines(count: u8) -> String {
        (1..=count).map(|seed| format!("witness W{seed} {}\n", witness(seed))).collect()
    }

    #[test]
    fn a_quorum_is_met_by_enough_witnesses_and_by_no_fewer() {
        let two_levels = format!(
            "# two levels\nlog {LOG} https://log.example.test\n{}group X 2 W1 W2 W3\n\tgroup Y  any W4 W5\ngroup Z all X Y\nquorum Z\n",
            lines(5)
        );
        let policy = Policy::parse(&two_levels).unwrap();
        for (cosigners, expected) in [
            (&[1, 2, 4][..], Ok(vec!["W1", "W2", "W4"])),
            (&[5, 3, 1, 9], Ok(vec!["W1", "W3", "W5"])),
            (&[1, 2], Err(("W1, W2", "W3, W4, W5"))),
            (&[1, 1, 4, 5], Err(("W1, W4, W5", "W2, W3"))),
            (&[], Err(("none", "W1, W2, W3, W4, W5"))),
        ] {
            let expected = expected.map_err(|(found, missing)| {
                format!("expected cosignatures by 2 of (2 of W1, W2, W3), (1 of W4, W5), found {found}; missing {missing}")
            });
            let found = policy.check(&note(cosigners)).map_err(|refusal| refusal.to_string());
            assert_eq!(found, expected, "{cosigners:?}");
        }
        let none = Policy::parse("quorum none").unwrap();
        assert_eq!(none.check(&note(&[1])), Ok(vec![]));
        let one = Policy::parse(&format!("{}quorum W2", lines(2))).unwrap();
        assert_eq!(one.check(&note(&[2])), Ok(vec!["W2"]));
        let refusal = one.check(&note(&[1])).unwrap_err().to_string();
        assert_eq!(refusal, "expected cosignatures by W2, found W1; missing W2");
    }

    #[test]
    fn a_broken_cosignature_of_a_witness_and_another_log_are_refused() {
        let policy = Policy::parse(&format!("{}group G any W1 W2\nquorum G", lines(2))).unwrap();
        let good = note(&[1, 2]);
        let mut lines = good.signatures().to_vec();
        *lines[1].signature.last_mut().unwrap() ^= 1;
        let altered = Note::new(good.text().to_owned(), lines).unwrap();
        let refusal = policy.check(&altered);
        assert!(matches!(refusal, Err(Refusal::Signature { name, .. }) if name == "w1.example"));
        let other = "log example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let other = Policy::parse(&format!("{other}\nquorum none")).unwrap();
        assert_eq!(other.check(&good), Err(Refusal::OtherLog));
    }

    #[test]
    fn each_line_that_is_not_as_it_must_be_is_named() {
        let (one, two) = (witness(1), witness(2));
        let renamed =
            VerifierKey::new("other", KeyType::Cosignature, witness(1).public_key()).unwrap();
        let name = |found: &str| Reason::Name { found: found.to_owned() };
        let unknown = |found: &str| Reason::Unknown { found: found.to_owned() };
        for (text, line, reason) in [
            (format!("witness a {one}\n"), 2, Reason::NoQuorum),
            ("quorum none\nquorum none".to_owned(), 2, Reason::SecondQuorum),
            ("quorum a".to_owned(), 1, unknown("a")),
            (format!("quorum a\nwitness a {one}"), 1, unknown("a")),
            (format!("witness a {one}\nwitness a {two}"), 2, name("a")),
            (format!("witness none {one}"), 1, name("none")),
            (format!("witness a {one}\nwitness b {renamed}"), 2, Reason::SameKey),
            (format!("witness a {LOG}"), 1, Reason::KeyType),
            (format!("log {one}"), 1, Reason::KeyType),
            (format!("witness a {one} url more"), 1, Reason::Words),
            ("quorum".to_owned(), 1, Reason::Words),
            ("witnesses a".to_owned(), 1, Reason::Keyword { found: "witnesses".to_owned() }),
            ("quorum none\r\n".to_owned(), 1, Reason::ControlCharacter),
            (format!("witness a {one}\ngroup g 2 a"), 2, Reason::Threshold),
            (format!("witness a {one}\ngroup g 0 a"), 2, Reason::Threshold),
            (format!("witness a {one}\ngroup g 01 a"), 2, Reason::Threshold),
            ("group g all".to_owned(), 1, Reason::Threshold),
            ("group g any none".to_owned(), 1, unknown("none")),
            (
                format!("witness a {one}\ngroup g any a\ngroup h any g a"),
                3,
                Reason::SecondMembership { found: "a".to_owned() },
            ),
        ] {
            assert_eq!(Policy::parse(&text).unwrap_err(), Error { line, reason }, "{text:?}");
        }
    }
}
