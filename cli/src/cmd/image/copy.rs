//! `copy`, `save` and `load`: an image with all that refers to it.

use super::{failure, image, registries};
use crate::args::image::{Copy, Load, Save};
use crate::failure::Failure;
use crate::output;
use crate::runtime::block_on;
use countersign_client::oci::{self, Copied, Descriptor, Digest, Layout, Reference, Where};
use std::process::ExitCode;

/// `copy`
pub(crate) fn copy(args: &Copy) -> Result<ExitCode, Failure> {
    let [source, target] = [&args.source, &args.target].map(|name| Reference::parse(name));
    let (source, target) = (source.map_err(failure)?, target.map_err(failure)?);
    let registries = registries(&args.registry, args.timeout)?;
    let place = |name| registries.repository(name).map(Where::Registry).map_err(failure);
    let (from, to) = (place(&source)?, place(&target)?);
    let named = args.target.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if named { target.tag() } else { source.tag() };
    let copied = block_on(oci::copy(&from, &to, &source, tag))?.map_err(failure)?;
    told(&copied, &target.name())
}

/// `save`
pub(crate) fn save(args: &Save) -> Result<ExitCode, Failure> {
    let (reference, repository) = image(&args.image)?;
    let layout = Layout::create(&args.dir).map_err(failure)?;
    let name = match reference.tag() {
        Some(tag) => format!("{}:{tag}", reference.name()),
        None => reference.to_string(),
    };
    let (from, to) = (Where::Registry(repository), Where::Layout(layout));
    let copied = block_on(oci::copy(&from, &to, &reference, Some(&name)))?.map_err(failure)?;
    told(&copied, &args.dir.display().to_string())
}

/// `load`
pub(crate) fn load(args: &Load) -> Result<ExitCode, Failure> {
    let (reference, repository) = image(&args.image)?;
    let layout = Layout::open(&args.dir).map_err(failure)?;
    let images = layout.images().map_err(failure)?;
    let wanted = reference.at(&wanted(&images, &reference)?);
    let (from, to) = (Where::Layout(layout), Where::Registry(repository));
    let copied = block_on(oci::copy(&from, &to, &wanted, reference.tag()))?.map_err(failure)?;
    told(&copied, &reference.name())
}

/// What a reference means in a layout: its digest, the one image that is there, the one with the name, or else the one
/// with the tag.
fn wanted(images: &[Descriptor], reference: &Reference) -> Result<Digest, Failure> {
    if let Some(digest) = reference.digest() {
        return Ok(digest.clone()); // it is found or not
    }
    if let [only] = images {
        return Ok(only.digest.clone());
    }
    let tag = reference.tag().unwrap_or("latest");
    let name = format!("{}:{tag}", reference.name());
    let named = |wanted: &dyn Fn(&str) -> bool| {
        let found = images.iter().filter(|one| Layout::name(one).is_some_and(wanted));
        found.collect::<Vec<_>>()
    };
    let tagged = |found: &str| found.rsplit_once(':').map_or(found, |(_, tag)| tag) == tag;
    let whole = named(&|found| found == name);
    let found = if whole.is_empty() { named(&tagged) } else { whole };
    match found.as_slice() {
        [only] => Ok(only.digest.clone()),
        _ => {
            let names: Vec<_> = images.iter().filter_map(Layout::name).collect();
            let (count, names) = (found.len(), names.join(", "));
            Err(Failure::unclear(format!("expected one image {name} in the layout, found {count}"))
                .hint(format!("what is in it: {names}; or name it by its digest")))
        }
    }
}

fn told(copied: &Copied, target: &str) -> Result<ExitCode, Failure> {
    let Copied { image, manifests, blobs, attachments } = copied;
    output::print(&format!(
        "copied {} to {target}\n  {manifests} manifests, {attachments} of them refer to it; {blobs} blobs were sent\n",
        image.digest
    ))?;
    Ok(ExitCode::SUCCESS)
}
