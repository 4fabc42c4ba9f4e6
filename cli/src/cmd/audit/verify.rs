//! `countersign audit verify`: each certificate leaves two entries in the record, before anything is signed
//! and when it is, and its precertificate in the certificate log. All are read, and the three are joined by
//! serial number.

use super::{entry, read, shards};
use crate::args::Format;
use crate::args::audit::Verify;
use crate::failure::Failure;
use crate::instance::{LogName, Stored};
use crate::output;
use crate::trust::read_bounded;
use countersign_ca::audit::{Entry, Event, Who};
use countersign_log::record::{Certified, certified};
use countersign_verify::TrustedRoot;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::hex;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use countersign_verify::merkle::Hash;
use countersign_verify::sct::precertificate_tbs;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::ExitCode;

/// Problems that are told one by one.
const TOLD: usize = 100;

pub(super) fn run(args: &Verify) -> Result<ExitCode, Failure> {
    let mut joined = Joined { authorities: authorities(&args.dir)?, ..Joined::default() };
    // The certificate log first: a serial number is on record before its precertificate is logged, so the
    // record that is read later has all of them.
    let mut trees = Vec::new();
    for (number, shard) in shards(&args.dir, LogName::Ct)?.into_iter().enumerate() {
        let read = read(&args.dir, &shard, &mut |index, record| {
            joined.logged(Place { shard: number, index }, false, record);
        })?;
        trees.push((shard, read.size));
    }
    for shard in shards(&args.dir, LogName::Audit)? {
        let read = read(&args.dir, &shard, &mut |index, record| {
            joined.recorded(&format!("{} entry {index}", shard.folder), record);
        })?;
        trees.push((shard, read.size));
    }
    // What was issued meanwhile is in the certificate log by now.
    for number in joined.grown(&trees) {
        let (shard, before) = &mut trees[number];
        let read = read(&args.dir, shard, &mut |index, record| {
            if index >= *before {
                joined.logged(Place { shard: number, index }, true, record);
            }
        })?;
        *before = read.size;
    }
    joined.join(&trees);
    tell(&joined, &trees, args.output)
}

/// A log that was read, and its size.
type Tree = (Stored, u64);

fn tell(joined: &Joined, trees: &[Tree], format: Format) -> Result<ExitCode, Failure> {
    let Joined { issued, refused, unfinished, acts, others, problems, .. } = joined;
    let whole = problems.is_empty();
    if format == Format::Json {
        let log = |(Stored { folder, key, .. }, size): &Tree| {
            let key = key.verifier_key().map(|key| key.to_string());
            json!({ "log": folder, "size": size, "key": key })
        };
        let logs: Vec<_> = trees.iter().map(log).collect();
        let json = json!({ "schema": "countersign.audit-verify/1", "whole": whole, "logs": logs,
            "issued": issued, "refused": refused, "unfinished": unfinished, "acts": acts,
            "others": others, "problems": problems });
        output::print(&format!("{json}\n"))?;
    }
    if !whole {
        let told = problems.iter().take(TOLD).map(|problem| format!("\n  {problem}"));
        let mut lines: String = told.collect();
        if problems.len() > TOLD {
            lines += &format!("\n  and {} more", problems.len() - TOLD);
        }
        let message = format!("record and certificate log do not agree:{lines}");
        return Err(Failure::no(message).hint(
            "somebody has signed with the issuing CA's key past the record, or has exchanged one of the two logs: find out who",
        ));
    }
    if format == Format::Text {
        let line = |(Stored { folder, key, .. }, size): &Tree| {
            let key = key.verifier_key().map_or_else(String::new, |key| format!(", key {key}"));
            format!("whole: {folder}, {size} entries{key}\n")
        };
        let lines: String = trees.iter().map(line).collect();
        // Each shard of the certificate log begins with an entry of its own.
        let first = trees.iter().filter(|(stored, _)| stored.log == LogName::Ct).count() as u64;
        let others = others.saturating_sub(first);
        output::print(&format!(
            "{lines}{issued} issued, each in the certificate log; {refused} refused, {unfinished} begun and given up, {acts} acts\n\
             every certificate of this authority in the certificate log is on record; beside them are {first} first entries of the log's shards, and {others} of others\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The issuing CAs: SHA-256 of their keys (SubjectPublicKeyInfo) and of their certificates.
#[derive(Default)]
struct Authorities {
    keys: BTreeSet<String>,
    certificates: BTreeSet<Hash>,
}

fn authorities(dir: &Path) -> Result<Authorities, Failure> {
    let path = dir.join("trust/trusted_root.json");
    let root = TrustedRoot::parse(&read_bounded(&path, MAX_TRUSTED_ROOT)?);
    let root = root.map_err(|error| Failure::unclear(format!("{}: {error}", path.display())))?;
    let issuing = || root.certificate_authorities().iter().map(|authority| authority.issuer());
    Ok(Authorities {
        keys: issuing().map(|issuer| hex(Hash::of(issuer.spki()).as_bytes())).collect(),
        certificates: issuing().map(|issuer| Hash::of(issuer.der())).collect(),
    })
}

/// Where in the certificate log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    shard: usize,
    index: u64,
}

/// A certificate as the certificate log has it.
struct Logged {
    at: Place,
    /// Found after the record was read, which may lack it.
    late: bool,
    issuer: Issuer,
    /// SHA-256, hexadecimal.
    key: String,
    who: Hash,
    /// SHA-256 of the whole of it.
    certificate: Hash,
    /// SHA-256 of what is signed, without poison and receipts: precertificate and certificate have one. The whole may
    /// be another, for whoever has it can alter its signature so that it holds still.
    signed: Hash,
}

/// Who signed it, as far as its entry says.
enum Issuer {
    Key(String),
    Certificate(Hash),
}

/// A certificate as the record has it.
struct Begun {
    key: Option<String>,
    who: Hash,
    issued: Option<Issued>,
    refused: bool,
}

/// What the record says of a certificate that was issued.
struct Issued {
    /// SHA-256, hexadecimal.
    certificate: String,
    /// The certificate log's ID, hexadecimal, and the place of the precertificate in it.
    log_id: Option<String>,
    log_index: Option<u64>,
}

/// All that was read, by serial number in hexadecimal.
#[derive(Default)]
struct Joined {
    authorities: Authorities,
    logged: HashMap<String, Vec<Logged>>,
    begun: HashMap<String, Begun>,
    issued: u64,
    refused: u64,
    /// Neither issued nor refused: the process or the client went away.
    unfinished: u64,
    acts: u64,
    /// Entries of the certificate log that are none of this authority's.
    others: u64,
    problems: Vec<String>,
}

impl Joined {
    fn logged(&mut self, at: Place, late: bool, record: &[u8]) {
        let (der, issuer) = match certified(record) {
            Some(Certified::Precertificate(der, key)) => (der, Issuer::Key(hex(key))),
            Some(Certified::Certificate(der, Some(issuer))) => {
                (der, Issuer::Certificate(Hash::new(*issuer)))
            }
            // A root.
            Some(Certified::Certificate(_, None)) | None => {
                self.others += 1;
                return;
            }
        };
        // One that does not parse is on no record: by whichever key, it comes up as such.
        let certificate = Certificate::parse(der).ok();
        let name = certificate.as_ref().and_then(|certificate| certificate.identity().ok());
        let who = name.map_or_else(
            || Hash::of(b""),
            |name| who(name.subject().as_str(), name.issuer().unwrap_or_default()),
        );
        let tbs = certificate.as_ref().and_then(|certificate| precertificate_tbs(certificate).ok());
        let signed = Hash::of(tbs.as_deref().unwrap_or(der));
        let (serial, key) = certificate.map_or_else(Default::default, |certificate| {
            let key = hex(Hash::of(certificate.spki()).as_bytes());
            (hex(certificate.serial()), key)
        });
        self.logged.entry(serial).or_default().push(Logged {
            at,
            late,
            issuer,
            key,
            who,
            certificate: Hash::of(der),
            signed,
        });
    }

    fn recorded(&mut self, place: &str, record: &[u8]) {
        let mut wrong = |what: &str| self.problems.push(format!("{place}: {what}"));
        let Some((Entry { event, .. }, _)) = entry(record) else {
            return wrong("it is none that this program writes");
        };
        match event {
            Event::Serial { serial, key_sha256: key, who: named } => {
                let who = who(&named.identity, &named.issuer);
                let begun = Begun { key, who, issued: None, refused: false };
                if self.begun.insert(serial, begun).is_some() {
                    wrong("its serial number was taken before");
                }
            }
            Event::Issued {
                serial,
                who: Who { identity, issuer },
                certificate_sha256: certificate,
                log_id,
                log_index,
            } => {
                self.issued += 1;
                match self.begun.get_mut(&serial) {
                    Some(begun)
                        if begun.who == who(&identity, &issuer) && begun.issued.is_none() =>
                    {
                        begun.issued = Some(Issued { certificate, log_id, log_index });
                    }
                    Some(_) => wrong("what was issued is not what was begun"),
                    None => wrong("issued, and never begun"),
                }
            }
            Event::Refused { serial, .. } => {
                self.refused += 1;
                if let Some(begun) = serial.and_then(|serial| self.begun.get_mut(&serial)) {
                    begun.refused = true;
                }
            }
            Event::WouldRefuse { .. } => {}
            Event::Administered { about, .. } => {
                self.acts += 1;
                // Those that were taken out of the configuration since.
                let keys = about.iter().filter_map(|text| text.strip_prefix("issuing key "));
                let keys = keys.filter_map(|text| text.split(' ').next());
                self.authorities.keys.extend(keys.map(str::to_owned));
            }
        }
    }

    /// The shards of the certificate log that have grown since they were read, by the record.
    fn grown(&self, trees: &[Tree]) -> BTreeSet<usize> {
        let issued = self.begun.values().filter_map(|begun| begun.issued.as_ref());
        let places = issued.filter_map(|issued| issued.place(trees));
        places.filter(|at| at.index >= trees[at.shard].1).map(|at| at.shard).collect()
    }

    /// `trees` has the shards of the certificate log first.
    fn join(&mut self, trees: &[Tree]) {
        let Self { authorities, logged, begun, .. } = &*self;
        let ours = |issuer: &Issuer| match issuer {
            Issuer::Key(key) => authorities.keys.contains(key),
            Issuer::Certificate(certificate) => authorities.certificates.contains(certificate),
        };
        let (mut found, mut others, mut unfinished) = (Vec::new(), 0, 0);
        for (serial, all, each) in
            logged.iter().flat_map(|(serial, all)| all.iter().map(move |each| (serial, all, each)))
        {
            let what = match begun.get(serial) {
                None if each.late => continue,
                None if !ours(&each.issuer) => {
                    others += 1;
                    continue;
                }
                None => "no issuance on record has its serial number",
                Some(begun) if begun.who != each.who => "the record has another name for it",
                Some(begun) if begun.key.as_ref().is_some_and(|key| *key != each.key) => {
                    "the record has another key for it"
                }
                Some(begun) => match (&each.issuer, &begun.issued) {
                    // A precertificate is compared with the others under its serial number, below.
                    (Issuer::Key(_), _) => continue,
                    (Issuer::Certificate(_), _) if !ours(&each.issuer) => continue,
                    (Issuer::Certificate(_), None) if each.late => continue,
                    (Issuer::Certificate(_), None) => "it is not on record as issued",
                    (Issuer::Certificate(_), Some(issued)) => {
                        let place = issued.place(trees);
                        let is_its = |logged: &Logged| {
                            matches!(logged.issuer, Issuer::Key(_))
                                && place.is_none_or(|place| logged.at == place)
                                && logged.signed == each.signed
                        };
                        if issued.certificate == hex(each.certificate.as_bytes())
                            || all.iter().any(is_its)
                        {
                            continue;
                        }
                        "the record has another certificate for it"
                    }
                },
            };
            let (folder, index) = (&trees[each.at.shard].0.folder, each.at.index);
            found.push(format!("{folder} entry {index}, serial {serial}: {what}"));
        }
        // Of one serial number there is one precertificate: another with the same name and key has other
        // dates or claims, and was signed past the record.
        for (serial, all) in logged {
            let mut ours = all
                .iter()
                .filter(|each| matches!(each.issuer, Issuer::Key(_)) && ours(&each.issuer));
            let first = ours.next().map(|each| each.signed);
            for other in ours.filter(|each| Some(each.signed) != first) {
                let (folder, index) = (&trees[other.at.shard].0.folder, other.at.index);
                found.push(format!(
                    "{folder} entry {index}, serial {serial}: a second precertificate under it"
                ));
            }
        }
        for (serial, begun) in begun {
            let Some(issued) = &begun.issued else {
                unfinished += u64::from(!begun.refused);
                continue;
            };
            let Issued { log_id, log_index: index, .. } = issued;
            let all = logged.get(serial).map_or(&[][..], |all| all);
            let agrees = match (log_id, index) {
                (Some(_), Some(_)) => {
                    issued.place(trees).is_some_and(|place| all.iter().any(|each| each.at == place))
                }
                // An old record does not say which log.
                _ => !all.is_empty(),
            };
            if !agrees {
                let place = index.map_or("unknown".to_owned(), |index| index.to_string());
                found.push(format!(
                    "serial {serial}: issued by the record, and not entry {place} of the certificate log"
                ));
            }
        }
        found.sort();
        self.others += others;
        self.unfinished = unfinished;
        self.problems.extend(found);
    }
}

impl Issued {
    /// Where its precertificate is, if the record says so of a shard that is there.
    fn place(&self, trees: &[Tree]) -> Option<Place> {
        let (log, index) = (self.log_id.as_ref()?, self.log_index?);
        let shard = trees.iter().position(|(tree, _)| hex(tree.key.log_id()) == *log);
        shard.map(|shard| Place { shard, index })
    }
}

/// A name with its issuer, short.
fn who(identity: &str, issuer: &str) -> Hash {
    Hash::of(format!("{identity}\0{issuer}").as_bytes())
}
