//! `verify` and `verify-attestation` by a policy: everything that refers to an image is evidence, and one
//! decision is made of it.

use super::images::{Image, each, images};
use crate::args::image::ImageVerification;
use crate::cmd::verify::by_policy::{conclude, context};
use crate::failure::Failure;
use crate::judge::Judge;
use crate::report::{Decided, Result as Found};
use crate::runtime::block_on;
use countersign_policy::{Artifact, Kind, image_name};
use jiff::Timestamp;
use std::process::ExitCode;

/// Decides about each image. `wanted` is what must be attested beside what the policy demands.
pub(super) fn run(args: &ImageVerification, wanted: Option<String>) -> Result<ExitCode, Failure> {
    let (by, output) = (&args.by_policy, &args.evidence.output);
    let judge = Judge::of(&args.evidence, by)?;
    if let Some(Err(error)) = by.name.as_deref().map(image_name) {
        return Err(Failure::unclear(format!("--name: {error}")));
    }
    let now = Timestamp::now();
    let results = block_on(async {
        let decide = async |image: &Image| {
            let gathered = judge.gather(&image.place, image.digest()).await?;
            let subject = subject(image, by.name.as_deref());
            let (decision, facts) = judge.decide(subject, context(by), &gathered, now);
            let lacking = wanted.as_deref().filter(|kind| !judge.attested(&facts, kind));
            let decided = Decided { decision: &decision, facts, gathered, lacking };
            Ok(Found::decided(&shown(image), decided))
        };
        each(&images(args).await?, output.output, decide).await
    })??;
    conclude(by, output, results)
}

/// The image as policies know it, by the name that the command line says. The tag is what stands there, too;
/// nothing proves it, and a digest beside it decides. What a layout calls its images is no name: whoever wrote
/// the layout would choose the rules.
fn subject(image: &Image, name: Option<&str>) -> Artifact {
    let given = image.reference.to_string();
    let (name, tag) = match (name, &image.layout) {
        (None, Some(layout)) => (layout.clone(), None),
        (name, _) => match image_name(name.unwrap_or(&given)) {
            Ok(name) => (name.repository, name.tag),
            // No image's name, so no rule about images has it.
            Err(_) => (name.unwrap_or(&given).to_owned(), None),
        },
    };
    Artifact {
        kind: Kind::Image,
        name,
        version: tag,
        digest: image.digest().to_string(),
        pinned: image.pinned,
        ..Artifact::default()
    }
}

/// The image for whoever reads the answer.
fn shown(image: &Image) -> String {
    match &image.layout {
        Some(layout) => format!("{layout}@{}", image.digest()),
        None => image.reference.to_string(),
    }
}
