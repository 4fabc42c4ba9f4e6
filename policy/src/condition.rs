//! Conditions in CEL: what patterns cannot say.
//!
//! Bounded without a clock: an expression has at most [`MAX_EXPRESSION`] bytes and [`MAX_LOOPS`] loops
//! within one another, and an evaluation goes through at most [`MAX_ITEMS`] items in all its loops. Names
//! and functions that are not known are refused when the policy is read. An evaluation that fails has no
//! answer; what that means is the rule's to say. The interpreter is the crate `cel`.

use crate::facts::{Artifact, Content, Context as Site, Evidence, Facts, Point};
use crate::yaml::{Node, Place, Reader, Value as Yaml};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp,
    CelUInt,
};
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, ExecutionError, FunctionContext, extensions};
use jiff::Timestamp;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// Longest expression, in bytes. Ours: those of the examples have a hundred.
pub(crate) const MAX_EXPRESSION: usize = 2048;

/// Most loops within one another. Ours: findings of results of scanners.
pub(crate) const MAX_LOOPS: usize = 3;

/// Most items that the loops of one evaluation go through. Ours: an SBOM of that many packages; some
/// tens of milliseconds at most.
pub(crate) const MAX_ITEMS: usize = 100_000;

/// What an expression may speak of.
const INPUTS: [&str; 6] = ["artifact", "signer", "predicate", "statement", "time", "context"];

/// Functions of CEL's standard and of its library for strings, operators aside.
const FUNCTIONS: [&str; 50] = [
    "contains",
    "endsWith",
    "startsWith",
    "matches",
    "size",
    "has",
    "timestamp",
    "duration",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "type",
    "dyn",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "quote",
    "replace",
    "reverse",
    "split",
    "substring",
    "trim",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "orValue",
    "or",
    "hasValue",
    "value",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "of",
    "none",
    "ofNonZeroValue",
    "max",
    "min",
];

/// The charge for a loop; no expression can write it.
const CHARGE: &str = "@charge";

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Declared once, in an environment that has nothing else of these names.
    let _ = env.add_extension(extensions::strings);
    Arc::new(env)
});

/// An expression, and what to say when it does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// The expression.
    pub(crate) that: String,
    /// What is the matter when it does not hold.
    otherwise: Option<String>,
    expression: Arc<IdedExpr>,
    uses: Vec<&'static str>,
    /// It goes through lists, which is charged.
    loops: bool,
}

/// What an expression comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Truth {
    Yes,
    No,
    /// It has no answer: a member that is missing, two types that do not compare.
    Error(String),
    /// It asks for what is not known at this point.
    Unknown(&'static str),
}

impl Condition {
    /// Reads an expression, alone or as `that` with an `else`.
    pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Self> {
        let (node, otherwise) = match &node.value {
            Yaml::Map(_) => {
                let map = reader.map(node, "a condition", &["that", "else"])?;
                let otherwise = map.get("else");
                let otherwise = otherwise.and_then(|node| reader.text(node, "what is the matter"));
                (reader.need(map, "a condition", "that")?, otherwise.map(str::to_owned))
            }
            _ => (node, None),
        };
        let that = reader.text(node, "a CEL expression")?;
        let wrong = |reader: &mut Reader, message: String| reader.wrong(node.place, message);
        if that.len() > MAX_EXPRESSION {
            let message = format!(
                "an expression has at most {MAX_EXPRESSION} bytes, this has {}",
                that.len()
            );
            return wrong(reader, message);
        }
        // The interpreter is not ours: a panic in it is an expression that it cannot read.
        let parsed = catch_unwind(AssertUnwindSafe(|| ENV.parser().parse(that)));
        let mut expression = match parsed {
            Ok(Ok(expression)) => expression,
            Ok(Err(errors)) => {
                let first = errors.to_string();
                let first = first.lines().next().unwrap_or_default().to_owned();
                return wrong(reader, format!("this is not CEL: {first}"));
            }
            Err(_) => return wrong(reader, "this is not CEL".to_owned()),
        };
        let mut walk = Walk {
            reader,
            place: node.place,
            names: vec![],
            uses: vec![],
            sound: true,
            loops: false,
        };
        walk.expression(&mut expression, 0);
        let Walk { mut uses, sound, loops, .. } = walk;
        uses.sort_unstable();
        uses.dedup();
        sound.then(|| Self {
            that: that.to_owned(),
            otherwise,
            expression: Arc::new(expression),
            uses,
            loops,
        })
    }

    /// What is the matter when it does not hold.
    pub(crate) fn complaint(&self) -> &str {
        self.otherwise.as_deref().unwrap_or("the condition does not hold")
    }

    /// Evaluates it for one signature or attestation, by somebody in `role`.
    pub(crate) fn holds(&self, facts: &Facts, evidence: &Evidence, role: &str) -> Truth {
        let early = facts.at != Point::Use;
        for name in &self.uses {
            match *name {
                "artifact" if facts.artifact.is_none() => return Truth::Unknown("artifact"),
                "context" if early => return Truth::Unknown("context"),
                "predicate" | "statement" if early || is_unknown(&evidence.content) => {
                    return Truth::Unknown("predicate");
                }
                "time" if evidence.signed.is_none() && self.that.contains("time.signed") => {
                    return Truth::Unknown("time");
                }
                _ => {}
            }
        }
        let evaluate = || {
            let mut context = Context::with_env(Arc::clone(&ENV));
            for name in &self.uses {
                let value = input(name, facts, evidence, role);
                context.add_variable_as_val(*name, value);
            }
            let left = AtomicUsize::new(MAX_ITEMS);
            let charge = || -> Charge {
                Box::new(move |call| {
                    let list = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
                    let items = list.as_iterable().map_or(0, |list| {
                        let (mut items, mut count) = (list.iter(), 0);
                        while count <= MAX_ITEMS && items.next().is_some() {
                            count += 1;
                        }
                        count
                    });
                    let paid = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(items)
                    });
                    let too_many = |_| {
                        ExecutionError::function_error(
                            "loop",
                            format!("more than {MAX_ITEMS} items in all loops"),
                        )
                    };
                    paid.map_err(too_many)?;
                    Ok(list)
                })
            };
            if self.loops {
                context.add_function(CHARGE, charge()).map_err(|error| error.to_string())?;
            }
            let value = cel::Value::resolve_val(&self.expression, &context);
            let value = value.map_err(|error| error.to_string())?;
            value
                .downcast_ref::<CelBool>()
                .map(|value| *value.inner())
                .ok_or_else(|| "expected true or false".to_owned())
        };
        match catch_unwind(AssertUnwindSafe(evaluate)) {
            Ok(Ok(true)) => Truth::Yes,
            Ok(Ok(false)) => Truth::No,
            Ok(Err(error)) => Truth::Error(error.chars().take(200).collect()),
            Err(_) => Truth::Error("the interpreter failed".to_owned()),
        }
    }
}

type Charge = Box<
    dyn for<'c, 'k> Fn(&mut FunctionContext<'c, 'k>) -> Result<CowVal<'c, 'k>, ExecutionError>
        + Send
        + Sync,
>;

/// Refuses what is not known, and puts the charge before each loop.
struct Walk<'r> {
    reader: &'r mut Reader,
    place: Place,
    /// Variables of the loops around.
    names: Vec<String>,
    uses: Vec<&'static str>,
    sound: bool,
    loops: bool,
}

impl Walk<'_> {
    fn refuse(&mut self, what: &str, found: &str, known: &[&str]) {
        self.sound = false;
        let _: Option<()> = self.reader.unknown(self.place, what, found, known);
    }

    fn expression(&mut self, node: &mut IdedExpr, loops: usize) {
        match &mut node.expr {
            Expr::Ident(name) => {
                if self.names.contains(name) || name.starts_with('@') {
                    return;
                }
                match INPUTS.iter().find(|input| *input == name) {
                    Some(input) => self.uses.push(input),
                    None if name == "optional" => {}
                    None => self.refuse("in an expression the name", &name.clone(), &INPUTS),
                }
            }
            Expr::Call(call) => {
                let operator = call.func_name.starts_with(['_', '@', '!', '-']);
                if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    self.refuse(
                        "in an expression the function",
                        &call.func_name.clone(),
                        &FUNCTIONS,
                    );
                }
                let target = call.target.iter_mut().map(|target| &mut **target);
                for part in target.chain(&mut call.args) {
                    self.expression(part, loops);
                }
            }
            Expr::Comprehension(part) => {
                if loops == MAX_LOOPS {
                    self.sound = false;
                    let message =
                        format!("an expression has at most {MAX_LOOPS} loops within one another");
                    let _: Option<()> = self.reader.wrong(self.place, message);
                    return;
                }
                self.loops = true;
                self.expression(&mut part.iter_range, loops);
                let range = std::mem::take(&mut part.iter_range);
                let charge =
                    CallExpr { func_name: CHARGE.to_owned(), target: None, args: vec![range] };
                part.iter_range = IdedExpr { id: 0, expr: Expr::Call(charge) };
                self.expression(&mut part.accu_init, loops);
                let before = self.names.len();
                self.names.extend([part.iter_var.clone(), part.accu_var.clone()]);
                self.names.extend(part.iter_var2.clone());
                for part in [&mut part.loop_cond, &mut part.loop_step, &mut part.result] {
                    self.expression(part, loops + 1);
                }
                self.names.truncate(before);
            }
            Expr::List(list) => {
                list.elements.iter_mut().for_each(|part| self.expression(part, loops));
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.expression(&mut entry.key, loops);
                        self.expression(&mut entry.value, loops);
                    }
                }
            }
            Expr::Select(select) => self.expression(&mut select.operand, loops),
            Expr::Struct(structure) => {
                self.refuse("in an expression the type", &structure.type_name.clone(), &["none"]);
            }
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }
}

/// An attestation whose statement was not kept.
fn is_unknown(content: &Content) -> bool {
    matches!(content, Content::Attestation { statement: Json::Null, .. })
}

/// The value of one of [`INPUTS`].
fn input<'f>(
    name: &str,
    facts: &'f Facts,
    evidence: &'f Evidence,
    role: &'f str,
) -> Box<dyn Val + 'f> {
    match name {
        "artifact" => facts.artifact.as_ref().map_or_else(|| map([]), artifact),
        "signer" => {
            let claims = evidence.signer.claims.iter().map(|(name, claim)| {
                let texts = claim.texts();
                let value = match claim {
                    crate::claims::Claim::One(one) => text(one),
                    crate::claims::Claim::Many(_) => Box::new(CelList::from(
                        texts.iter().map(|one| text(one)).collect::<Vec<_>>(),
                    )),
                };
                (CelMapKey::from(name.replace('-', "_")), value)
            });
            let claims: HashMap<CelMapKey<'f>, Box<dyn Val + 'f>> = claims.collect();
            let subject =
                evidence.signer.claims.get("subject").and_then(|claim| claim.texts().first());
            map([
                ("role", text(role)),
                ("issuer", text(&evidence.signer.issuer)),
                ("subject", text(subject.map_or("", String::as_str))),
                ("claims", Box::new(CelMap::from(claims))),
            ])
        }
        "predicate" | "statement" => match &evidence.content {
            Content::Attestation { statement, .. } if name == "predicate" => {
                json(statement.get("predicate").unwrap_or(&Json::Null))
            }
            Content::Attestation { statement, .. } => json(statement),
            _ => Box::new(CelNull),
        },
        "time" => {
            let mut times = vec![("now", time(facts.now))];
            times.extend(evidence.signed.map(|signed| ("signed", time(signed))));
            map(times)
        }
        _ => site(&facts.context),
    }
}

fn artifact(artifact: &Artifact) -> Box<dyn Val + '_> {
    let kind = match artifact.kind {
        crate::facts::Kind::Image => "image",
        crate::facts::Kind::Blob => "blob",
        crate::facts::Kind::Package => "package",
        crate::facts::Kind::Git => "git",
        crate::facts::Kind::Model => "model",
    };
    let version = artifact.version.as_deref();
    let mut members = vec![
        ("name", text(&artifact.name)),
        ("repository", text(&artifact.name)),
        ("digest", text(&artifact.digest)),
        ("kind", text(kind)),
    ];
    members.extend(version.map(|version| ("version", text(version))));
    members.extend(version.map(|version| ("tag", text(version))));
    members.extend(artifact.media_type.as_deref().map(|kind| ("mediaType", text(kind))));
    map(members)
}

fn site(site: &Site) -> Box<dyn Val + '_> {
    let labels: &BTreeMap<String, String> = &site.labels;
    let labels = labels.iter().map(|(name, label)| (CelMapKey::from(name.as_str()), text(label)));
    let labels: HashMap<CelMapKey<'_>, Box<dyn Val + '_>> = labels.collect();
    let mut members: Vec<(&str, Box<dyn Val + '_>)> =
        vec![("labels", Box::new(CelMap::from(labels)))];
    let named = [("name", &site.name), ("cluster", &site.cluster), ("namespace", &site.namespace)];
    members.extend(
        named.into_iter().filter_map(|(name, value)| Some((name, text(value.as_deref()?)))),
    );
    map(members)
}

fn text(text: &str) -> Box<dyn Val + '_> {
    Box::new(CelString::from(text))
}

fn time(time: Timestamp) -> Box<dyn Val + 'static> {
    let nanoseconds = u32::try_from(time.subsec_nanosecond()).unwrap_or_default();
    let time = chrono::DateTime::from_timestamp(time.as_second(), nanoseconds).unwrap_or_default();
    Box::new(CelTimestamp::from(time.fixed_offset()))
}

fn map<'f>(members: impl IntoIterator<Item = (&'f str, Box<dyn Val + 'f>)>) -> Box<dyn Val + 'f> {
    let members = members.into_iter().map(|(name, value)| (CelMapKey::from(name), value));
    Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
}

/// JSON as CEL has it: whole numbers are integers, all others are doubles.
fn json(value: &Json) -> Box<dyn Val + '_> {
    match value {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(value) => text(value),
        Json::Array(values) => Box::new(CelList::from(values.iter().map(json).collect::<Vec<_>>())),
        Json::Object(members) => {
            let members =
                members.iter().map(|(name, value)| (CelMapKey::from(name.as_str()), json(value)));
            Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
        }
    }
}
