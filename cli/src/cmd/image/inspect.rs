//! `tree` and `download`: what refers to an image, as it is stored. Nothing is verified here.

use super::{failure, image};
use crate::args::Format;
use crate::args::image::{Download, Tree};
use crate::cmd::verify::predicate;
use crate::failure::Failure;
use crate::output::{self, visible};
use crate::runtime::block_on;
use countersign_client::oci::{Digest, Error, Reference, Suffix, Where};
use countersign_verify::Bundle;
use countersign_verify::bundle::Content;
use countersign_verify::statement::{IMAGE_SIGNATURE, Statement};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

/// How deep what refers to what refers to an image is shown.
const MAX_DEPTH: usize = 3;

/// An image or something that refers to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// What it claims to attest.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    referrers: Vec<Node>,
}

#[derive(Serialize)]
struct Whole {
    schema: &'static str,
    image: String,
    #[serde(flatten)]
    root: Node,
    /// Digests of layers by tag.
    legacy: BTreeMap<String, Vec<Digest>>,
}

/// `tree`
pub(crate) fn tree(args: &Tree) -> Result<ExitCode, Failure> {
    let (reference, repository) = image(&args.image)?;
    let place = Where::Registry(repository);
    let whole = block_on(whole(&place, &reference))?.map_err(failure)?;
    match args.output {
        Format::Json => {
            let json = serde_json::to_string(&whole).expect("texts only");
            output::print(&format!("{json}\n"))?;
        }
        Format::Text => output::print(&drawn(&whole))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn whole(place: &Where, reference: &Reference) -> Result<Whole, Error> {
    let digest = place.resolve(reference).await?.descriptor.digest;
    let referrers = below(place, &digest, MAX_DEPTH).await?;
    let mut legacy = BTreeMap::new();
    for suffix in Suffix::ALL {
        let tag = suffix.tag(&digest);
        if let Some(stored) = place.tagged(&tag).await? {
            let layers = stored.manifest.layers().iter().map(|layer| layer.digest.clone());
            legacy.insert(tag, layers.collect());
        }
    }
    let image = reference.at(&digest).to_string();
    let root = Node { digest, artifact_type: None, predicate_type: None, referrers };
    Ok(Whole { schema: "countersign.tree/1", image, root, legacy })
}

async fn below(place: &Where, digest: &Digest, depth: usize) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    if depth == 0 {
        return Ok(nodes);
    }
    for attachment in place.referrers(digest).await? {
        let descriptor = &attachment.descriptor;
        let referrers = Box::pin(below(place, &descriptor.digest, depth - 1)).await?;
        nodes.push(Node {
            digest: descriptor.digest.clone(),
            artifact_type: descriptor.artifact_type.clone(),
            predicate_type: attachment.predicate_type().map(str::to_owned),
            referrers,
        });
    }
    Ok(nodes)
}

/// A line of the tree, and what is below it.
struct Branch {
    text: String,
    below: Vec<Branch>,
}

/// Referrers by type, as `oras discover` draws them; then legacy tags.
fn drawn(whole: &Whole) -> String {
    let mut branches = grouped(&whole.root.referrers);
    for (tag, layers) in &whole.legacy {
        let leaf = |digest: &Digest| Branch { text: digest.to_string(), below: Vec::new() };
        branches.push(Branch { text: tag.clone(), below: layers.iter().map(leaf).collect() });
    }
    let mut text = format!("{}\n", whole.image);
    draw(&mut text, &branches, "");
    text
}

fn grouped(nodes: &[Node]) -> Vec<Branch> {
    let mut types: Vec<Branch> = Vec::new();
    for node in nodes {
        let kind = node.artifact_type.as_deref().unwrap_or("of unknown type");
        let claim = node.predicate_type.as_deref().map(|uri| format!("  {}", predicate::flag(uri)));
        let text = format!("{}{}", node.digest, claim.unwrap_or_default());
        let leaf = Branch { text, below: grouped(&node.referrers) };
        match types.iter_mut().find(|branch| branch.text == kind) {
            Some(branch) => branch.below.push(leaf),
            None => types.push(Branch { text: kind.to_owned(), below: vec![leaf] }),
        }
    }
    types
}

fn draw(text: &mut String, branches: &[Branch], indent: &str) {
    for (place, branch) in branches.iter().enumerate() {
        let last = place + 1 == branches.len();
        let (fork, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let _ = writeln!(text, "{indent}{fork}{}", visible(&branch.text));
        draw(text, &branch.below, &format!("{indent}{below}"));
    }
}

/// `download`
pub(crate) fn download(args: &Download) -> Result<ExitCode, Failure> {
    let (args, wanted) = match args {
        Download::Signature(image) => (image, Some(IMAGE_SIGNATURE.to_owned())),
        Download::Attestation { image, kind } => {
            (image, kind.as_deref().map(predicate::uri).transpose()?)
        }
    };
    let (reference, repository) = image(args)?;
    let place = Where::Registry(repository);
    let found = block_on(bundles(&place, &reference, wanted.as_deref()))?.map_err(failure)?;
    if found.is_empty() {
        return Err(Failure::no(format!("{reference}: nothing of that kind refers to it"))
            .hint("`countersign tree` shows all that does"));
    }
    output::print(&found.concat())?;
    Ok(ExitCode::SUCCESS)
}

/// The bundles of a type, or all attestations, each on a line. Legacy ones come in the bundle's first form.
async fn bundles(
    place: &Where,
    reference: &Reference,
    wanted: Option<&str>,
) -> Result<Vec<String>, Error> {
    let digest = place.resolve(reference).await?.descriptor.digest;
    let fits = |kind: &str| wanted.map_or(kind != IMAGE_SIGNATURE, |wanted| wanted == kind);
    let mut lines = Vec::new();
    for attachment in place.referrers(&digest).await? {
        if attachment.predicate_type().is_some_and(|kind| !fits(kind)) {
            continue;
        }
        let Some(evidence) = place.bundle(&digest, &attachment).await? else { continue };
        let Ok(bundle) = Bundle::parse(&evidence.bundle) else { continue };
        let kind = match bundle.content() {
            Content::Dsse(envelope) => Statement::parse(&envelope.payload).ok(),
            Content::Message(_) => None,
        };
        if kind.is_some_and(|statement| fits(statement.predicate_type())) {
            lines.push(format!("{}\n", bundle.to_json()));
        }
    }
    let suffix = match wanted {
        Some(IMAGE_SIGNATURE) => Suffix::Signatures,
        _ => Suffix::Attestations,
    };
    for descriptor in place.legacy_layers(&digest, suffix).await? {
        let layer = place.legacy(&descriptor).await?;
        let signature = suffix == Suffix::Signatures;
        if signature || layer.descriptor.legacy_predicate_type().is_none_or(fits) {
            lines.push(format!("{}\n", String::from_utf8_lossy(&layer.bundle)));
        }
    }
    Ok(lines)
}
