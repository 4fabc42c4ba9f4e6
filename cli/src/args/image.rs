//! Arguments about container images; names are cosign's.

use super::policy::ByPolicy;
use super::{Evidence, Format, Signing, Timeout};
use clap::builder::BoolishValueParser;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// How registries are spoken to. Without credentials here, those of Docker or Podman are used.
#[derive(Debug, ClapArgs)]
pub(crate) struct Registry {
    /// User of the registry [default: as `docker login` or `podman login` keep it]
    #[arg(
        long,
        env = "COUNTERSIGN_REGISTRY_USERNAME",
        value_name = "NAME",
        requires = "registry_password"
    )]
    pub(crate) registry_username: Option<String>,
    /// The user's password; better given by the environment
    #[arg(
        long,
        env = "COUNTERSIGN_REGISTRY_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD",
        requires = "registry_username"
    )]
    pub(crate) registry_password: Option<String>,
    /// A bearer token for the registry; better given by the environment
    #[arg(
        long,
        env = "COUNTERSIGN_REGISTRY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "registry_username"
    )]
    pub(crate) registry_token: Option<String>,
    /// Speak plain HTTP to registries beyond this machine, too
    #[arg(long, env = "COUNTERSIGN_ALLOW_HTTP_REGISTRY", value_parser = BoolishValueParser::new())]
    pub(crate) allow_http_registry: bool,
    /// Authorities of the registry's TLS certificate, PEM, beside the system's
    #[arg(long, env = "COUNTERSIGN_REGISTRY_CACERT", value_name = "FILE")]
    pub(crate) registry_cacert: Option<PathBuf>,
    /// Read what has a digest from this mirror first, HOST=MIRROR or HOST=MIRROR/PATH; tags and signatures the registry itself is asked for
    #[arg(
        long,
        env = "COUNTERSIGN_REGISTRY_MIRROR",
        value_name = "HOST=MIRROR",
        value_delimiter = ','
    )]
    pub(crate) registry_mirror: Vec<String>,
}

/// What to sign of images, and as whom.
#[derive(Debug, ClapArgs)]
pub(crate) struct ImageSigning {
    /// The images; a tag means the digest it leads to now
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Of a multi-architecture index each manifest, too, for itself
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Store it also as cosign 1 and 2 did, under a tag, for verifiers that read nothing else
    #[arg(long)]
    pub(crate) legacy: bool,
    /// Pass over images of which the same signer has said the same already, as after an interruption
    #[arg(long, conflicts_with = "legacy")]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
    #[command(flatten)]
    pub(crate) registry: Registry,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Sign {
    /// What to add to the signature; `verify -a` can demand it
    #[arg(long = "annotations", short, value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,
    #[command(flatten)]
    pub(crate) images: ImageSigning,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Attest {
    /// What is attested: a JSON file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) predicate: PathBuf,
    /// What kind of claim that is: slsaprovenance1, spdxjson, cyclonedx, vuln, openvex, link… or a URI
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: String,
    #[command(flatten)]
    pub(crate) images: ImageSigning,
}

/// Which images to verify, and by what.
#[derive(Debug, ClapArgs)]
pub(crate) struct ImageVerification {
    /// The images; a tag means the digest it leads to now, which is printed
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// The images are folders, as `countersign save` makes them; no registry is asked
    #[arg(long)]
    pub(crate) local_image: bool,
    /// Of a multi-architecture index each manifest, too, must be signed for itself
    #[arg(long, short)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) by_policy: ByPolicy,
    #[command(flatten)]
    pub(crate) evidence: Evidence,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) registry: Registry,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// What the signer must have added
    #[arg(long = "annotations", short, value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,
    #[command(flatten)]
    pub(crate) images: ImageVerification,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyAttestation {
    /// What must be attested: slsaprovenance1, spdxjson, cyclonedx, vuln, openvex, link… or a URI
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "policy")]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) images: ImageVerification,
}

/// One image in a registry.
#[derive(Debug, ClapArgs)]
pub(crate) struct Image {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) registry: Registry,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Tree {
    #[command(flatten)]
    pub(crate) image: Image,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Copy {
    /// The image
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where it is to go; without a tag under the source's
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) registry: Registry,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) image: Image,
    /// The folder, an OCI image layout; made if need be
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Load {
    /// Where it is to go
    #[command(flatten)]
    pub(crate) image: Image,
    /// The folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Download {
    /// Print the bundles of an image's signatures, one a line; nothing of them is verified
    Signature(Image),
    /// Print the bundles of an image's attestations, one a line; nothing of them is verified
    Attestation {
        #[command(flatten)]
        image: Image,
        /// Only of this type
        #[arg(long = "predicate-type", alias = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Attach {
    /// Bundles about the image, as `download` prints them or other tools make them
    #[arg(long, required = true, value_name = "FILE")]
    pub(crate) bundle: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) image: Image,
}

/// What to remove.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// Signatures
    Signature,
    /// Attestations
    Attestation,
    /// Bills of material under a legacy tag
    Sbom,
    /// All of it
    All,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Clean {
    #[command(flatten)]
    pub(crate) image: Image,
    /// What to remove
    #[arg(long = "type", value_name = "KIND", default_value = "all")]
    pub(crate) kind: Kind,
    /// Accepted for scripts written for cosign: nothing asks here
    #[arg(long, short, hide = true)]
    pub(crate) force: bool,
}
