//! The vectors of `testdata/identity`: a provider's claims, and what they become.

use super::config::FulcioConfig;
use super::{Claims, Identity, Mapping, MappingError, San};
use serde_json::Value;
use std::collections::BTreeMap;

/// One of them.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) mapping: Mapping,
    pub(crate) claims: Value,
    pub(crate) san: San,
    pub(crate) extensions: BTreeMap<u8, String>,
}

pub(crate) fn cases() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/identity");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let cases: Vec<_> = files
        .map(|path| {
            let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let config = FulcioConfig::parse(&case["configuration"].to_string()).unwrap();
            let issuer = config.issuers.into_iter().next().unwrap();
            let text = case["expected"]["name"][1].as_str().unwrap().to_owned();
            let san = match case["expected"]["name"][0].as_str().unwrap() {
                "uri" => San::Uri(text),
                "email" => San::Email(text),
                _ => San::Username(text),
            };
            let extensions = case["expected"]["extensions"].as_object().unwrap().iter();
            let extensions = extensions
                .map(|(number, text)| (number.parse().unwrap(), text.as_str().unwrap().to_owned()));
            Case {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                mapping: issuer.mapping,
                claims: case["claims"].clone(),
                san,
                extensions: extensions.collect(),
            }
        })
        .collect();
    assert!(cases.len() > 15, "the vectors are there");
    cases
}

pub(crate) fn identity(mapping: &Mapping, claims: &Value) -> Result<Identity, MappingError> {
    mapping.identity(Claims::parse(claims.to_string().as_bytes()).unwrap())
}
