//! Where objects name images.

use super::{Error, MAX_IMAGES};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One place that names an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// A JSON pointer (RFC 6901) into the object.
    pub pointer: String,
    /// What stands there.
    pub image: String,
}

/// Of the kinds that Kubernetes itself has, group, kind, resource, and the way to the pod spec (`reference`
/// in its API: core/v1, apps/v1, batch/v1).
const POD_SPECS: [(&str, &str, &str, &[&str]); 9] = [
    ("", "Pod", PODS, &["spec"]),
    ("", "ReplicationController", "replicationcontrollers", &["spec", "template", "spec"]),
    ("", "PodTemplate", "podtemplates", &["template", "spec"]),
    ("apps", "Deployment", "deployments", &["spec", "template", "spec"]),
    ("apps", "ReplicaSet", "replicasets", &["spec", "template", "spec"]),
    ("apps", "StatefulSet", "statefulsets", &["spec", "template", "spec"]),
    ("apps", "DaemonSet", "daemonsets", &["spec", "template", "spec"]),
    ("batch", "Job", "jobs", &["spec", "template", "spec"]),
    ("batch", "CronJob", "cronjobs", &["spec", "jobTemplate", "spec", "template", "spec"]),
];

/// What all workloads become.
const PODS: &str = "pods";

/// What arrives for subresources and names no image.
const WITHOUT_IMAGES: [(&str, &str); 3] =
    [("autoscaling", "Scale"), ("", "Binding"), ("policy", "Eviction")];

/// The lists of a pod spec that hold containers.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Members whose own members are named by users, and a volume of another system that has an `image`.
const FREE: [&str; 9] = [
    "labels",
    "annotations",
    "nodeSelector",
    "matchLabels",
    "limits",
    "requests",
    "volumeAttributes",
    "options",
    "rbd",
];

/// Which kinds have images, and where.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    /// Of Kubernetes' own resources those that are looked at; empty is all.
    only: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// What was configured and does not do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KindsError {
    /// A way to a pod spec that is none.
    #[error("{resource}: expected a way to a pod spec such as spec.template.spec, found {found:?}")]
    Way {
        /// The resource it was given for.
        resource: String,
        /// What was given.
        found: String,
    },
    /// No resource that Kubernetes itself has.
    #[error(
        "expected a resource with pods such as deployments, found {found:?}; other resources go below extra-images-at"
    )]
    Resource {
        /// What was given.
        found: String,
    },
    /// All workloads become pods: who leaves them out checks nothing.
    #[error("expected pods among the kinds: whoever may make a pod needs no workload")]
    WithoutPods,
}

impl Kinds {
    /// Of Kubernetes' own resources `only` these, or all if there are none; and `extra`: resources as
    /// `rollouts.argoproj.io`, with the way to their pod spec as `spec.template.spec`.
    ///
    /// # Errors
    /// When a resource is unknown, pods are left out, or a way has no step or an empty one.
    pub fn new<'a>(
        only: &[String],
        extra: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, KindsError> {
        let known = |name: &&String| POD_SPECS.iter().any(|known| known.2 == **name);
        if let Some(unknown) = only.iter().find(|name| !known(name)) {
            return Err(KindsError::Resource { found: unknown.clone() });
        }
        if !only.is_empty() && !only.iter().any(|name| name == PODS) {
            return Err(KindsError::WithoutPods);
        }
        let extra = extra.into_iter().map(|(resource, way)| {
            let steps: Vec<_> = way.split('.').map(str::to_owned).collect();
            match steps.iter().any(String::is_empty) {
                true => Err(KindsError::Way { resource: resource.into(), found: way.into() }),
                false => Ok((resource.to_owned(), steps)),
            }
        });
        Ok(Self { only: only.to_vec(), extra: extra.collect::<Result<_, _>>()? })
    }

    /// Group and resource of all of Kubernetes' own kinds that have images: what a webhook must register.
    pub fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
        POD_SPECS.iter().map(|&(group, _, resource, _)| (group, resource))
    }

    /// The steps to a pod spec; `None` for a kind of which nobody knows.
    pub(super) fn pod_spec(
        &self,
        group: &str,
        kind: &str,
        resource_group: &str,
        resource: &str,
    ) -> Option<PodSpec<'_>> {
        if let Some((_, _, known, steps)) =
            POD_SPECS.iter().find(|known| (known.0, known.1) == (group, kind))
        {
            if !self.only.is_empty() && !self.only.iter().any(|name| name == known) {
                return Some(PodSpec::None);
            }
            return Some(PodSpec::At { steps, pod: *known == PODS });
        }
        if WITHOUT_IMAGES.contains(&(group, kind)) {
            return Some(PodSpec::None);
        }
        let steps = self.extra.get(&format!("{resource}.{resource_group}"))?;
        Some(PodSpec::Extra(steps))
    }
}

/// The way from an object to its pod spec.
#[derive(Clone, Copy)]
pub(super) enum PodSpec<'a> {
    At { steps: &'static [&'static str], pod: bool },
    Extra(&'a [String]),
    None,
}

/// What an object names.
#[derive(Default)]
pub(super) struct Found {
    pub(super) places: Vec<Place>,
    pub(super) unknown: Vec<String>,
}

/// Finds the images of an object.
pub(super) fn find(object: &Value, way: PodSpec<'_>) -> Result<Found, Error> {
    let (steps, pod): (Vec<&str>, bool) = match way {
        PodSpec::None => return Ok(Found::default()),
        PodSpec::At { steps, pod } => (steps.to_vec(), pod),
        PodSpec::Extra(steps) => (steps.iter().map(String::as_str).collect(), false),
    };
    let (mut value, mut pointer) = (object, String::new());
    for step in steps {
        let members = members(value, &pointer)?;
        pointer = below(&pointer, step);
        match members.get(step) {
            // Only a pod must have a spec; templates are optional in some kinds.
            None | Some(Value::Null) if !pod => return Ok(Found::default()),
            None => return Err(Error::Type { pointer, expected: "an object, found nothing" }),
            Some(next) => value = next,
        }
    }
    let mut search = Search { pod, found: Found::default() };
    search.pod_spec(members(value, &pointer)?, &pointer)?;
    Ok(search.found)
}

struct Search {
    /// It is a pod, not a template that somebody may still fill in.
    pod: bool,
    found: Found,
}

impl Search {
    fn pod_spec(&mut self, spec: &Map<String, Value>, pointer: &str) -> Result<(), Error> {
        for (name, value) in spec {
            let pointer = below(pointer, name);
            match value {
                Value::Null => {}
                _ if CONTAINERS.contains(&name.as_str()) => self.containers(value, &pointer)?,
                _ if name == "volumes" => self.volumes(value, &pointer)?,
                // Whatever else lists things with images is taken for containers of a newer Kubernetes.
                Value::Array(items)
                    if items.iter().any(|item| item.get("image").is_some_and(Value::is_string)) =>
                {
                    self.containers(value, &pointer)?;
                }
                _ => self.look_around(name, value, &pointer),
            }
        }
        Ok(())
    }

    fn containers(&mut self, containers: &Value, pointer: &str) -> Result<(), Error> {
        for (pointer, container) in items(containers, pointer)? {
            for (name, value) in members(container, &pointer)? {
                match name.as_str() {
                    "image" => {}
                    _ => self.look_around(name, value, &below(&pointer, name)),
                }
            }
            self.image(container, "image", &pointer)?;
        }
        Ok(())
    }

    fn volumes(&mut self, volumes: &Value, pointer: &str) -> Result<(), Error> {
        for (pointer, volume) in items(volumes, pointer)? {
            for (name, value) in members(volume, &pointer)? {
                let pointer = below(&pointer, name);
                match name.as_str() {
                    "image" if value.is_null() => {}
                    "image" => {
                        members(value, &pointer)?;
                        self.image(value, "reference", &pointer)?;
                    }
                    _ => self.look_around(name, value, &pointer),
                }
            }
        }
        Ok(())
    }

    fn image(&mut self, owner: &Value, member: &str, pointer: &str) -> Result<(), Error> {
        let pointer = below(pointer, member);
        match owner.get(member) {
            None | Some(Value::Null) => self.nothing(pointer),
            Some(Value::String(image)) if image.is_empty() => self.nothing(pointer),
            Some(Value::String(image)) => {
                if self.found.places.len() == MAX_IMAGES {
                    return Err(Error::TooMany);
                }
                self.found.places.push(Place { pointer, image: image.clone() });
                Ok(())
            }
            Some(_) => Err(Error::Type { pointer, expected: "the name of an image" }),
        }
    }

    /// A template may leave its image open; a pod runs something.
    fn nothing(&self, pointer: String) -> Result<(), Error> {
        if self.pod { Err(Error::NoImage { pointer }) } else { Ok(()) }
    }

    /// Notes what looks like an image at a place where none is expected: the member `name`, and all in it.
    fn look_around(&mut self, name: &str, value: &Value, pointer: &str) {
        if FREE.contains(&name) {
            return;
        }
        match value {
            Value::String(_) => {
                let name = name.to_ascii_lowercase();
                let suspect = name.ends_with("image") || name.ends_with("reference");
                if suspect && self.found.unknown.len() < MAX_IMAGES {
                    self.found.unknown.push(pointer.to_owned());
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.look_around("", item, &format!("{pointer}/{index}"));
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    self.look_around(name, value, &below(pointer, name));
                }
            }
            _ => {}
        }
    }
}

fn below(pointer: &str, member: &str) -> String {
    format!("{pointer}/{}", member.replace('~', "~0").replace('/', "~1"))
}

fn members<'a>(value: &'a Value, pointer: &str) -> Result<&'a Map<String, Value>, Error> {
    let expected = "an object";
    value.as_object().ok_or_else(|| Error::Type { pointer: pointer.to_owned(), expected })
}

fn items<'a>(
    value: &'a Value,
    pointer: &str,
) -> Result<impl Iterator<Item = (String, &'a Value)>, Error> {
    let expected = "a list";
    let list = value.as_array();
    let list = list.ok_or_else(|| Error::Type { pointer: pointer.to_owned(), expected })?;
    Ok(list.iter().enumerate().map(move |(index, item)| (format!("{pointer}/{index}"), item)))
}
