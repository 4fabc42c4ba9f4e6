//! Which images the arguments name, and the answer about each.

use super::super::{AT_ONCE, failure, parts, registries};
use crate::args::Format;
use crate::args::image::ImageVerification;
use crate::failure::Failure;
use crate::report;
use countersign_client::oci::{Descriptor, Digest, Error, Layout, Reference, Registries, Where};
use futures_util::{StreamExt as _, stream};
use std::path::Path;

/// An image to verify.
pub(super) struct Image {
    /// Where it and its evidence are.
    pub(super) place: Where,
    /// As given, with its digest; in a layout as whoever wrote the layout calls it.
    pub(super) reference: Reference,
    /// The layout that was given, where it is one.
    pub(super) layout: Option<String>,
    /// The digest was given, so that it cannot mean another image tomorrow.
    pub(super) pinned: bool,
}

impl Image {
    /// What it is verified as.
    pub(super) fn digest(&self) -> &Digest {
        self.reference.digest().expect("resolved when it was found")
    }
}

/// An image, or the name given and why it cannot be told what it means.
pub(super) type Found = Result<Image, (String, Error)>;

/// All images that the arguments name; of an index its manifests, too, with `--recursive`.
pub(super) async fn images(args: &ImageVerification) -> Result<Vec<Found>, Failure> {
    if args.evidence.offline && !args.local_image {
        return Err(Failure::unclear("--offline makes no network call, and registries need some")
            .hint(
                "`countersign save` the image where there is a network, and give --local-image",
            ));
    }
    let registries = registries(&args.registry, args.timeout)?;
    let find = async |name: &String| {
        let places = match args.local_image {
            true => local(Path::new(name)),
            false => remote(&registries, name).map(|place| vec![place]),
        };
        let places = match places {
            Ok(places) => places,
            Err(error) => return vec![Err((name.clone(), error))],
        };
        let mut found = Vec::new();
        for (place, reference) in places {
            match resolve(place, &reference, args.recursive).await {
                Ok(images) => found.extend(images.into_iter().map(|image| {
                    Ok(Image { layout: args.local_image.then(|| name.clone()), ..image })
                })),
                Err(error) => found.push(Err((reference.to_string(), error))),
            }
        }
        found
    };
    let found: Vec<_> = stream::iter(&args.images).map(find).buffered(AT_ONCE).collect().await;
    Ok(found.into_iter().flatten().collect())
}

/// The answer about each, several at once. Alone, an image that cannot be read is an error with its hint;
/// among others it is a line.
pub(super) async fn each(
    found: &[Found],
    format: Format,
    answer: impl AsyncFn(&Image) -> Result<report::Result, Error>,
) -> Result<Vec<report::Result>, Failure> {
    let answer = async |found: &Found| match found {
        Ok(image) => answer(image).await.map_err(|error| (image.reference.to_string(), error)),
        Err(unknown) => Err(unknown.clone()),
    };
    let answers: Vec<_> = stream::iter(found).map(answer).buffered(AT_ONCE).collect().await;
    if let ([Err((_, error))], Format::Text) = (answers.as_slice(), format) {
        return Err(failure(error.clone()));
    }
    let settle = |answer: Result<_, (String, Error)>| {
        answer.unwrap_or_else(|(name, error)| unread(&name, error))
    };
    Ok(answers.into_iter().map(settle).collect())
}

/// The answer about an image that cannot be read.
pub(super) fn unread(name: &str, error: Error) -> report::Result {
    let (code, finding) = (error.code(), error.is_finding());
    match finding {
        true => report::Result::refused(name, code, error.to_string()),
        false => report::Result::unread(name, code, &failure(error)),
    }
}

fn remote(registries: &Registries, name: &str) -> Result<(Where, Reference), Error> {
    let reference = Reference::parse(name)?;
    Ok((Where::Registry(registries.repository(&reference)?), reference))
}

/// The images of a layout, by the names that they were saved under.
fn local(path: &Path) -> Result<Vec<(Where, Reference)>, Error> {
    let layout = Layout::open(path)?;
    let images = layout.images()?;
    if images.is_empty() {
        return Err(Error::NotFound { what: format!("an image in {}", path.display()) });
    }
    let named = |image: &Descriptor| {
        let name = Layout::name(image).unwrap_or("localhost/image");
        Ok((Where::Layout(layout.clone()), Reference::parse(name)?.at(&image.digest)))
    };
    images.iter().map(named).collect()
}

/// The digest is that of the bytes under a tag. One that is given needs no resolving: its signatures speak
/// of it, whether it is there or not.
async fn resolve(
    place: Where,
    reference: &Reference,
    recursive: bool,
) -> Result<Vec<Image>, Error> {
    let pinned = reference.digest().is_some();
    let stored = match (reference.digest(), recursive) {
        (Some(_), false) => None,
        _ => Some(place.resolve(reference).await?),
    };
    let resolved = stored.as_ref().map(|stored| &stored.descriptor.digest);
    let digest = resolved.or(reference.digest()).expect("resolved unless given").clone();
    let reference = reference.at(&digest);
    let below = match &stored {
        Some(index) if recursive => parts(&place, &reference, index).await?,
        _ => Vec::new(),
    };
    let below = below.into_iter().map(|(reference, _)| reference);
    let image = |reference| Image { place: place.clone(), reference, layout: None, pinned };
    Ok(std::iter::once(reference.clone()).chain(below).map(image).collect())
}
