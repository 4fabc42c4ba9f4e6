//! `countersign log verify-export`: evidence, checked offline with a trusted root.

use super::remote::log_key;
use crate::args::Format;
use crate::args::log::VerifyExport as Args;
use crate::failure::Failure;
use crate::output;
use crate::trust::Choice;
use countersign_log::evidence::{Check, Error, MAX_LINE};
use countersign_verify::TrustedRoot;
use countersign_verify::certificate::Certificate;
use countersign_verify::entry::{Entry, OwnedVerifier};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::ExitCode;

/// By whose certificates the entries are.
#[derive(Default)]
struct Signers {
    /// A trusted authority's, valid when they were issued.
    certified: u64,
    /// Anybody's own.
    uncertified: u64,
    /// No certificate: a bare key, or a kind that is not read.
    without: u64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (root, _) = Choice::of(&args.trust)?.load_with(true)?.root()?;
    let path = &args.file;
    let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
    let mut lines = Lines { reader: BufReader::new(file), text: String::new() };
    let name = path.display();
    let refused = |error: Error| Failure::no(format!("{name}: {error}"));
    let unread = |error| Failure::file("read", path, &error);
    let first = lines.next().map_err(unread)?;
    let mut check = Check::begin(first, |id, origin| {
        let log = root.logs().iter().find(|log| log.id() == id)?;
        log_key(log, origin).ok()
    })
    .map_err(refused)?;
    let mut signers = Signers::default();
    loop {
        let line = lines.next().map_err(unread)?;
        if line.is_empty() {
            break;
        }
        if let Some(evidence) = check.line(line).map_err(refused)? {
            signers.count(&evidence.body, &root);
        }
    }
    check.finish().map_err(refused)?;
    let (span, checkpoint) = (check.span(), check.checkpoint());
    let Signers { certified, uncertified, without } = signers;
    output::print(&match args.output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.evidence-check/1", "file": name.to_string(), "holds": true,
                "log": checkpoint.origin, "from": span.start, "to": span.end,
                "size": checkpoint.size, "root": checkpoint.root.to_string(),
                "certified": certified, "uncertified": uncertified, "withoutCertificate": without })
        ),
        Format::Text => format!(
            "holds: {name}, the entries from {} to before {} of log {:?}\n  in the tree of {} entries, root {}, signed by the log\n  {certified} by certificates of a trusted authority, {uncertified} by others, {without} without a certificate\n",
            span.start, span.end, checkpoint.origin, checkpoint.size, checkpoint.root
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Signers {
    fn count(&mut self, body: &[u8], root: &TrustedRoot) {
        let verifiers = Entry::parse(body).map(|entry| entry.verifiers).unwrap_or_default();
        let certificates: Vec<_> = verifiers
            .iter()
            .filter_map(|verifier| match verifier {
                OwnedVerifier::Certificate(der) => Some(der),
                OwnedVerifier::PublicKey(_) => None,
            })
            .collect();
        let trusted = |der: &&Vec<u8>| {
            let Ok(certificate) = Certificate::parse(der) else { return false };
            let issued = [certificate.not_before()];
            let authorities = root.certificate_authorities();
            authorities.iter().any(|authority| authority.verify(&certificate, &issued).is_ok())
        };
        match certificates.is_empty() {
            true => self.without += 1,
            false if certificates.iter().all(trusted) => self.certified += 1,
            false => self.uncertified += 1,
        }
    }
}

/// Lines of bounded length.
struct Lines {
    reader: BufReader<File>,
    text: String,
}

impl Lines {
    /// The next line with its line feed; empty at the end.
    fn next(&mut self) -> std::io::Result<&str> {
        self.text.clear();
        let limit = MAX_LINE as u64;
        self.reader.by_ref().take(limit).read_line(&mut self.text)?;
        Ok(&self.text)
    }
}
