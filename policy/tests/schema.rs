//! The schema for editors takes what the reader takes. It is checked here by a validator of the few keywords
//! that it uses; any other keyword fails, so that none is passed over.

use countersign_policy::Policy;
use countersign_policy::yaml::{Node, Value as Yaml, documents};
use regex::Regex;
use serde_json::{Map, Value, json};

const EXAMPLES: [&str; 4] = [
    include_str!("policies/acme-pay.yaml"),
    include_str!("policies/acme-apps.yaml"),
    include_str!("policies/acme-releases.yaml"),
    include_str!("policies/prod-cluster.yaml"),
];

/// Plain scalars as editors read them.
fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Text(text) => match text.as_str() {
            "true" | "false" => json!(text == "true"),
            _ => text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        },
        Yaml::List(list) => list.iter().map(json).collect(),
        Yaml::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.text.clone(), json(node)));
            Value::Object(entries.collect())
        }
    }
}

fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let schema = schema.as_object().expect("a schema is an object");
    schema.iter().all(|(keyword, wanted)| keyword_holds(root, schema, keyword, wanted, value))
}

fn keyword_holds(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    wanted: &Value,
    value: &Value,
) -> bool {
    let one_of = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("type {other}"),
    };
    let members = value.as_object();
    match keyword {
        "$schema" | "$defs" | "title" | "description" => true,
        "type" => match wanted {
            Value::Array(names) => names.iter().any(|name| one_of(name.as_str().unwrap())),
            name => one_of(name.as_str().unwrap()),
        },
        "$ref" => {
            let pointer = wanted.as_str().unwrap().trim_start_matches('#');
            valid(root, root.pointer(pointer).unwrap(), value)
        }
        "anyOf" => wanted.as_array().unwrap().iter().any(|schema| valid(root, schema, value)),
        "enum" => wanted.as_array().unwrap().contains(value),
        "pattern" => value
            .as_str()
            .is_none_or(|text| Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)),
        "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|number| number <= wanted.as_i64().unwrap()),
        "items" => {
            value.as_array().is_none_or(|items| items.iter().all(|item| valid(root, wanted, item)))
        }
        "minItems" => {
            value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap())
        }
        "required" => members.is_none_or(|members| {
            wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|name| members.contains_key(name.as_str().unwrap()))
        }),
        "minProperties" => {
            members.is_none_or(|members| members.len() as u64 >= wanted.as_u64().unwrap())
        }
        "maxProperties" => {
            members.is_none_or(|members| members.len() as u64 <= wanted.as_u64().unwrap())
        }
        "properties" => members.is_none_or(|members| {
            wanted.as_object().unwrap().iter().all(|(name, schema)| {
                members.get(name).is_none_or(|member| valid(root, schema, member))
            })
        }),
        "additionalProperties" => members.is_none_or(|members| {
            let known = schema.get("properties").and_then(Value::as_object);
            let others = members
                .iter()
                .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
            others.into_iter().all(|(_, member)| match wanted {
                Value::Bool(allowed) => *allowed,
                schema => valid(root, schema, member),
            })
        }),
        other => panic!("keyword {other}"),
    }
}

fn takes(text: &str) -> bool {
    let schema: Value =
        serde_json::from_str(include_str!("../../docs/policy.schema.json")).unwrap();
    valid(&schema, &schema, &json(&documents(text).unwrap()[0]))
}

#[test]
fn the_schema_takes_the_examples() {
    for text in EXAMPLES {
        assert!(takes(text), "{text}");
    }
}

/// Each is refused by the reader and by the schema, so that an editor tells of it first.
#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let text = EXAMPLES[1];
    for (from, to) in [
        ("serial: 12", "serial: twelve"),
        ("serial: 12\n", ""),
        ("expires: 2027-03-01", "expires: soon"),
        ("owner-id: 5551234", "owner_id: 5551234"),
        ("at-least: 2}\n\nwho", "atleast: 2}\n\nwho"),
        ("do: approve", "do: aprove"),
        ("do: attest vuln-scan", "do: attest vuln-scans"),
        ("needs:\n      - signature", "needs:\n      - sgnature"),
        ("otherwise: refuse", "otherwise: reject"),
        ("younger-than: 7d", "younger-than: 7 days"),
        ("witnesses: 2", "witnesses: two"),
        ("timestamp: required", "timestamp: true"),
        ("kind: slsa-provenance", "kind: provenance"),
        ("min-level: 3", "min-level: 5"),
        ("skips: [production images are released]", "skips: []"),
        ("unmatched: refuse", "unmatched: deny"),
        ("images: registry.example/acme/base/*", "image: registry.example/acme/base/*"),
    ] {
        let mutation = text.replacen(from, to, 1);
        assert_ne!(mutation, text, "{from}");
        assert!(Policy::parse(&mutation).is_err(), "the reader takes {to:?}");
        assert!(!takes(&mutation), "the schema takes {to:?}");
    }
}
