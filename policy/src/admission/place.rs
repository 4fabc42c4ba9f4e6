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

/// Members whose own members are named by users, and a volume of another system that has an `image`: a text
/// there names none.
const FREE: [&str; 11] = [
    "labels",
    "annotations",
    "nodeSelector",
    "selector",
    "matchLabels",
    "limits",
    "requests",
    "overhead",
    "volumeAttributes",
    "options",
    "rbd",
];

/// What of a whole object is not what runs: who it is, and what has become of it.
const BESIDE: [&str; 2] = ["metadata", "status"];

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

/// Finds the images of an object. Only where Kubernetes has them if `strays` is false; otherwise wherever
/// something has an `image`, since a newer Kubernetes may run that, too.
pub(super) fn find(object: &Value, way: PodSpec<'_>, strays: bool) -> Result<Found, Error> {
    let (steps, pod, known): (Vec<&str>, bool, bool) = match way {
        PodSpec::None => return Ok(Found::default()),
        PodSpec::At { steps, pod } => (steps.to_vec(), pod, true),
        PodSpec::Extra(steps) => (steps.iter().map(String::as_str).collect(), false, false),
    };
    let mut search = Search { pod, strays, found: Found::default() };
    let (mut value, mut pointer) = (object, String::new());
    for step in steps {
        let members = members(value, &pointer)?;
        // What others have beside their pod spec is theirs.
        let others = members.iter().filter(|(name, _)| known && *name != step);
        let whole = pointer.is_empty();
        for (name, other) in others.filter(|(name, _)| !(whole && BESIDE.contains(&name.as_str())))
        {
            search.look_around(name, other, &below(&pointer, name))?;
        }
        pointer = below(&pointer, step);
        match members.get(step) {
            // Only a pod must have a spec; templates are optional in some kinds.
            None | Some(Value::Null) if !pod => return Ok(search.found),
            None => return Err(Error::Type { pointer, expected: "an object, found nothing" }),
            Some(next) => value = next,
        }
    }
    search.pod_spec(members(value, &pointer)?, &pointer)?;
    Ok(search.found)
}

struct Search {
    /// It is a pod, not a template that somebody may still fill in.
    pod: bool,
    /// Images at places where none are expected are found, too.
    strays: bool,
    found: Found,
}

impl Search {
    fn pod_spec(&mut self, spec: &Map<String, Value>, pointer: &str) -> Result<(), Error> {
        for (name, value) in spec {
            let pointer = below(pointer, name);
            match name.as_str() {
                _ if value.is_null() => {}
                list if CONTAINERS.contains(&list) => self.containers(value, &pointer)?,
                "volumes" => self.volumes(value, &pointer)?,
                _ => self.look_around(name, value, &pointer)?,
            }
        }
        Ok(())
    }

    fn containers(&mut self, containers: &Value, pointer: &str) -> Result<(), Error> {
        for (pointer, container) in items(containers, pointer)? {
            for (name, value) in members(container, &pointer)? {
                match name.as_str() {
                    "image" => {}
                    _ => self.look_around(name, value, &below(&pointer, name))?,
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
                        let others = members(value, &pointer)?;
                        for (name, other) in others.iter().filter(|(name, _)| *name != "reference")
                        {
                            self.look_around(name, other, &below(&pointer, name))?;
                        }
                        self.image(value, "reference", &pointer)?;
                    }
                    _ => self.look_around(name, value, &pointer)?,
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
            Some(Value::String(image)) => self.take(image, pointer),
            Some(_) => Err(Error::Type { pointer, expected: "the name of an image" }),
        }
    }

    fn take(&mut self, image: &str, pointer: String) -> Result<(), Error> {
        if self.found.places.len() == MAX_IMAGES {
            return Err(Error::TooMany);
        }
        self.found.places.push(Place { pointer, image: image.to_owned() });
        Ok(())
    }

    /// A template may leave its image open; a pod runs something.
    fn nothing(&self, pointer: String) -> Result<(), Error> {
        if self.pod { Err(Error::NoImage { pointer }) } else { Ok(()) }
    }

    /// Takes images from a place where none is expected, the member `name` and all in it, and notes what only
    /// looks like one.
    fn look_around(&mut self, name: &str, value: &Value, pointer: &str) -> Result<(), Error> {
        if !self.strays {
            return Ok(());
        }
        match value {
            Value::String(image) if name == "image" && !image.is_empty() => {
                self.take(image, pointer.to_owned())?;
            }
            Value::String(_) => {
                let name = name.to_ascii_lowercase();
                let suspect = name.ends_with("image") || name.ends_with("reference");
                if suspect && self.found.unknown.len() < MAX_IMAGES {
                    self.found.unknown.push(pointer.to_owned());
                }
            }
            Value::Array(items) => {
                // A list is none that users name, whatever its name.
                let name = if name == "image" { name } else { "" };
                for (index, item) in items.iter().enumerate() {
                    self.look_around(name, item, &format!("{pointer}/{index}"))?;
                }
            }
            Value::Object(members) => {
                let free = FREE.contains(&name);
                for (member, value) in
                    members.iter().filter(|(_, value)| !(free && value.is_string()))
                {
                    let pointer = below(pointer, member);
                    match value {
                        Value::String(image)
                            if (name, member.as_str()) == ("image", "reference")
                                && !image.is_empty() =>
                        {
                            self.take(image, pointer)?;
                        }
                        _ => self.look_around(member, value, &pointer)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
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
