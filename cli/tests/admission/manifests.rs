//! The manifests and the chart: rendered here by another implementation of Go's templates than Helm's.

use countersign_policy::admission::Kinds;
use countersign_policy::yaml::{Node, Value as Yaml, documents};
use gtmpl_value::Value as Template;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

fn deploy(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Numbers, truth and nothing are read as YAML 1.2 has them.
fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Text(text) => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            text => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        },
        Yaml::List(list) => list.iter().map(json).collect(),
        Yaml::Map(map) => {
            let members = map.iter().map(|(key, node)| (key.text.clone(), json(node)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

fn template(value: &Value) -> Template {
    match value {
        Value::Null => Template::Nil,
        Value::Bool(truth) => Template::Bool(*truth),
        Value::Number(number) => Template::from(number.as_u64().unwrap()),
        Value::String(text) => Template::String(text.clone()),
        Value::Array(list) => Template::Array(list.iter().map(template).collect()),
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| (key.clone(), template(value)));
            Template::Map(members.collect::<HashMap<_, _>>())
        }
    }
}

fn values() -> Value {
    json(&documents(&deploy("chart/countersign-admission/values.yaml")).unwrap()[0])
}

/// What the chart makes of `values`, in the order in which it is to be applied.
fn render(values: &Value, namespace: &str) -> String {
    let context = json!({ "Values": values, "Release": { "Namespace": namespace } });
    let rendered = ["config", "tls", "deployment", "webhooks"].map(|name| {
        let text = deploy(&format!("chart/countersign-admission/templates/{name}.yaml"));
        let text = gtmpl::template(&text, template(&context)).unwrap();
        text.trim_start_matches('\n').to_owned()
    });
    rendered.into_iter().filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("---\n")
}

/// The chart's configuration, with one more line.
pub(super) fn config(cluster: &str, namespace: &str, more: &str) -> String {
    let mut values = values();
    values["cluster"] = cluster.into();
    values["extraConfig"] = json!([more]);
    let objects = objects(&render(&values, namespace));
    of_kind(&objects, "ConfigMap")[0]["data"]["admission.toml"].as_str().unwrap().to_owned()
}

fn objects(text: &str) -> Vec<Value> {
    documents(text)
        .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
        .iter()
        .map(json)
        .collect()
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let plain = deploy("kubernetes/countersign-admission.yaml");
    let (head, rest) = plain.split_once("---\n").unwrap();
    assert_eq!(objects(head)[0]["metadata"]["name"], "countersign-system");
    let rendered = render(&values(), "countersign-system");
    assert!(rest == rendered, "what the chart renders is\n{rendered}");
}

#[test]
fn the_webhooks_see_every_kind_and_cannot_lock_the_cluster_out() {
    let objects = objects(&render(&values(), "own"));
    let mut hooks = of_kind(&objects, "ValidatingWebhookConfiguration");
    hooks.extend(of_kind(&objects, "MutatingWebhookConfiguration"));
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        let [webhook] = hook["webhooks"].as_array().unwrap().as_slice() else { panic!("{hook}") };
        for (group, resource) in Kinds::resources() {
            let names = |rule: &&Value| {
                let has = |member: &str, text: &str| {
                    rule[member].as_array().unwrap().iter().any(|one| one == text)
                };
                has("apiGroups", group)
                    && has("resources", resource)
                    && has("operations", "CREATE")
                    && has("operations", "UPDATE")
            };
            let rules = webhook["rules"].as_array().unwrap();
            assert!(rules.iter().any(|rule| names(&rule)), "{resource}.{group}");
        }
        assert!(webhook["rules"].to_string().contains("pods/ephemeralcontainers"));
        let selected = &webhook["namespaceSelector"]["matchExpressions"];
        let out = json!([{ "key": "kubernetes.io/metadata.name", "operator": "NotIn",
            "values": ["own", "kube-system"] }]);
        assert_eq!(*selected, out);
        assert_eq!(
            (&webhook["failurePolicy"], &webhook["sideEffects"]),
            (&json!("Fail"), &json!("None"))
        );
        assert_eq!(
            (&webhook["timeoutSeconds"], &webhook["matchPolicy"]),
            (&json!(10), &json!("Equivalent"))
        );
        let validates = hook["kind"] == "ValidatingWebhookConfiguration";
        let path = if validates { "/validate" } else { "/mutate" };
        let service = &webhook["clientConfig"]["service"];
        let (name, namespace) = (&service["name"], &service["namespace"]);
        assert_eq!((name, namespace), (&json!("countersign-admission"), &json!("own")));
        assert_eq!((&service["path"], &service["port"]), (&json!(path), &json!(443)));
        let again = webhook.get("reinvocationPolicy").is_some_and(|policy| policy == "IfNeeded");
        assert_eq!(again, !validates);
        let authority = &hook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
        assert_eq!(authority, "own/countersign-admission");
    }
    let deployment = of_kind(&objects, "Deployment")[0];
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(of_kind(&objects, "PodDisruptionBudget").len(), 1);
    assert_eq!(of_kind(&objects, "Certificate").len(), 1);
    let config = config("main", "own", "");
    for (mounted, name) in [("/tls", "tls"), ("/policy", "policy")] {
        assert!(config.contains(&format!("\"{mounted}/")), "{config}");
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|it| it["name"] == name && it["mountPath"] == mounted));
    }
    assert!(config.contains("own-namespace = \"own\""), "{config}");
}

#[test]
fn what_the_chart_offers_arrives_where_it_belongs() {
    let mut values = values();
    values["imagePullSecrets"] = json!(["pull"]);
    values["registryCredentials"] = "registries".into();
    values["tls"] = json!({ "certManager": false, "secret": "mine", "caBundle": "QUJD" });
    values["webhooks"]["extraRules"] =
        json!([{ "group": "argoproj.io", "version": "v1alpha1", "resource": "rollouts" }]);
    let text = render(&values, "own");
    let objects = objects(&text);
    assert!(of_kind(&objects, "Certificate").is_empty() && !text.contains("cert-manager.io"));
    let pod = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(
        pod["containers"][0]["env"],
        json!([{ "name": "DOCKER_CONFIG", "value": "/registry" }])
    );
    assert!(pod["volumes"].to_string().contains("\"registries\""), "{pod}");
    assert!(pod["volumes"].to_string().contains("\"mine\""), "{pod}");
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let webhook = &of_kind(&objects, kind)[0]["webhooks"][0];
        assert_eq!(webhook["clientConfig"]["caBundle"], "QUJD");
        assert_eq!(webhook["rules"][3]["resources"], json!(["rollouts"]));
    }
}
