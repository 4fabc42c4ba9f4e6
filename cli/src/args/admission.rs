//! `countersign containerd-verify`: how containerd calls what verifies images.

use crate::failure::Failure;
use clap::Args as ClapArgs;
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub(crate) struct ContainerdVerify {
    /// The configuration of admission: policy, trusted-root and cluster under [admission]
    #[arg(long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// As containerd gives them: -name IMAGE -digest DIGEST -stdin-media-type TYPE
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGS"
    )]
    given: Vec<String>,
}

impl ContainerdVerify {
    /// The image that is about to be used, by the digest that was pulled. containerd (its documentation of
    /// image verification, and `pkg/imageverifier/bindir`) gives each flag with one dash and a value behind
    /// it, and may give more in times to come.
    pub(crate) fn image(&self) -> Result<String, Failure> {
        let value = |flag: &str| {
            let expected = || {
                Failure::unclear(format!("expected -{flag} VALUE, as containerd gives it"))
                    .hint("call it as: countersign containerd-verify --config FILE -name IMAGE -digest DIGEST -stdin-media-type TYPE")
            };
            let mut values = self.given.chunks(2).filter_map(|pair| match pair {
                [name, value] if name.trim_start_matches('-') == flag => Some(value),
                _ => None,
            });
            values.next().ok_or_else(expected)
        };
        let (name, digest) = (value("name")?, value("digest")?);
        let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
        Ok(format!("{name}@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn containerds_flags_are_read_and_the_digest_that_was_pulled_decides() {
        #[derive(clap::Parser)]
        struct Args {
            #[command(flatten)]
            verify: ContainerdVerify,
        }
        let image = |given: &[&str]| {
            let fixed = ["x", "--config", "c"];
            let args = Args::try_parse_from(fixed.iter().chain(given)).unwrap();
            args.verify.image().map_err(|failure| failure.text())
        };
        let all = ["-name", "r.example/a:v1", "-digest", "sha256:1", "-stdin-media-type", "x"];
        assert_eq!(image(&all).unwrap(), "r.example/a:v1@sha256:1");
        let named = ["-digest", "sha256:1", "-name", "r.example/a@sha256:2", "-operation", "run"];
        assert_eq!(image(&named).unwrap(), "r.example/a@sha256:1");
        for lacking in [&["-name", "a"][..], &["-digest", "sha256:1"], &["-name", "-digest"]] {
            assert!(image(lacking).unwrap_err().contains("expected -"), "{lacking:?}");
        }
    }
}
