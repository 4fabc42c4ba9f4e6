//! Conditions in CEL: what patterns cannot say.
//!
//! Bounded without a clock: an expression has at most [`MAX_EXPRESSION`] bytes, [`MAX_DEPTH`] levels and
//! [`MAX_LOOPS`] loops within one another, and an evaluation stays within its [`Bounds`]. Names
//! and functions that are not known are refused when the policy is read. An evaluation that fails has no
//! answer; what that means is the rule's to say. The interpreter is the crate `cel`.

mod bounds;
mod input;

use crate::facts::{Content, Evidence, Facts, Point};
use crate::yaml::{Node, Place, Reader, Value as Yaml};
use bounds::{Bounds, LOOK, LOOP, MAKE, SHORT};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use cel::common::types::CelBool;
use cel::parser::PrattParser;
use cel::{Context, Env, extensions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// Longest expression, in bytes. Ours: those of the examples have a hundred.
pub(crate) const MAX_EXPRESSION: usize = 2048;

/// Most levels: `1 + 1 + 1` has three, and each takes of the stack. Ours: a thread's 2 MiB are enough for five times
/// as many.
pub(crate) const MAX_DEPTH: usize = 200;

/// Most loops within one another. Ours: findings of results of scanners.
pub(crate) const MAX_LOOPS: usize = 3;

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

/// Those that make more of a text than it is long, or look for one text at each place of another: at most 64 times
/// what [`MAKE`] counts.
const MAKERS: [&str; 4] = ["indexOf", "lastIndexOf", "replace", "split"];

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
    /// It goes through lists or makes texts, which is charged.
    pays: bool,
    /// It writes maps of its own, which equal only maps of the interpreter's.
    literal: bool,
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
        let parser = PrattParser::new().enable_optional_syntax(true);
        let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse(that)));
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
            depth: 0,
            names: vec![],
            uses: vec![],
            sound: true,
            pays: false,
            literal: false,
            copies: that.contains('{'),
        };
        walk.expression(&mut expression, 0);
        let Walk { mut uses, sound, pays, literal, .. } = walk;
        if sound && uses.is_empty() {
            let message = "the condition is the same for every artifact and signer".to_owned();
            let suggestion = format!("ask about {}", INPUTS.join(", "));
            return reader.suggest(node.place, message, suggestion);
        }
        if sound && is_never_boolean(&expression.expr) {
            let message = "the condition is neither true nor false".to_owned();
            return reader.suggest(node.place, message, "compare it with something");
        }
        uses.sort_unstable();
        uses.dedup();
        sound.then(|| Self {
            that: that.to_owned(),
            otherwise,
            expression: Arc::new(expression),
            uses,
            pays,
            literal,
        })
    }

    /// What is the matter when it does not hold.
    pub(crate) fn complaint(&self) -> &str {
        self.otherwise.as_deref().unwrap_or("the condition does not hold")
    }

    /// Whether it asks what an attestation says.
    pub(crate) fn reads_statement(&self) -> bool {
        self.uses.iter().any(|name| matches!(*name, "predicate" | "statement"))
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
            let bounds = Arc::new(Bounds::default());
            let mut context = Context::with_env(Arc::clone(&ENV));
            for name in &self.uses {
                let value = input::value(name, facts, evidence, role, self.literal, &bounds);
                context.add_variable_as_val(*name, value);
            }
            if self.pays {
                for name in [LOOP, LOOK, MAKE, SHORT] {
                    let pays = bounds::function(Arc::clone(&bounds), name);
                    context.add_function(name, pays).map_err(|error| error.to_string())?;
                }
            }
            let value = cel::Value::resolve_val(&self.expression, &context);
            // Whatever it has come to: `error || true` is true.
            bounds.hold()?;
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

/// Refuses what is not known, and has what loops go through and look at paid for.
struct Walk<'r> {
    reader: &'r mut Reader,
    place: Place,
    /// Levels above.
    depth: usize,
    /// Variables of the loops around.
    names: Vec<String>,
    uses: Vec<&'static str>,
    sound: bool,
    pays: bool,
    literal: bool,
    /// It may write maps, so that its inputs are copied: what is read of them is not paid for again.
    copies: bool,
}

impl Walk<'_> {
    fn refuse(&mut self, what: &str, found: &str, known: &[&str]) {
        self.sound = false;
        let _: Option<()> = self.reader.unknown(self.place, what, found, known);
    }

    /// Of an expression whose value is used.
    fn expression(&mut self, node: &mut IdedExpr, loops: usize) {
        self.operand(node, loops);
        let unpaid = match &node.expr {
            Expr::Ident(name) => self.names.contains(name) && !name.starts_with('@'),
            Expr::Select(select) => self.copies && !select.test,
            _ => false,
        };
        if unpaid && loops > 0 {
            paid_by(LOOK, node);
        }
    }

    /// Of one of which only a member is.
    fn operand(&mut self, node: &mut IdedExpr, loops: usize) {
        if self.depth < MAX_DEPTH {
            self.depth += 1;
            self.parts(node, loops);
            self.depth -= 1;
        } else if self.sound {
            self.sound = false;
            let message = format!("an expression has at most {MAX_DEPTH} levels");
            let _: Option<()> = self.reader.wrong(self.place, message);
        }
    }

    fn parts(&mut self, node: &mut IdedExpr, loops: usize) {
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
                // `join` repeats its separator, and reads its list.
                let joins = call.func_name == "join";
                let makes = MAKERS.contains(&call.func_name.as_str());
                self.pays |= makes || joins;
                let target = call.target.iter_mut().map(|target| &mut **target);
                for (place, part) in target.chain(&mut call.args).enumerate() {
                    self.expression(part, loops);
                    match place {
                        0 if makes => paid_by(MAKE, part),
                        0 if joins => paid_by(LOOK, part),
                        _ if makes || joins => paid_by(SHORT, part),
                        _ => {}
                    }
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
                self.pays = true;
                self.operand(&mut part.iter_range, loops);
                paid_by(LOOP, &mut part.iter_range);
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
                self.literal = true;
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.expression(&mut entry.key, loops);
                        self.expression(&mut entry.value, loops);
                    }
                }
            }
            Expr::Select(select) => self.operand(&mut select.operand, loops),
            Expr::Struct(structure) => {
                self.refuse("in an expression the type", &structure.type_name.clone(), &["none"]);
            }
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }
}

fn paid_by(function: &str, node: &mut IdedExpr) {
    let call =
        CallExpr { func_name: function.to_owned(), target: None, args: vec![std::mem::take(node)] };
    *node = IdedExpr { id: 0, expr: Expr::Call(call) };
}

/// Whether an expression is certainly a number, a text, a list or a map.
fn is_never_boolean(expression: &Expr) -> bool {
    const OTHERS: [&str; 12] = [
        "_+_",
        "_-_",
        "_*_",
        "_/_",
        "_%_",
        "-_",
        "size",
        "lowerAscii",
        "upperAscii",
        "substring",
        "replace",
        "split",
    ];
    match expression {
        Expr::Call(call) if call.func_name == "_?_:_" => {
            call.args.iter().skip(1).any(|part| is_never_boolean(&part.expr))
        }
        Expr::Call(call) => OTHERS.contains(&call.func_name.as_str()),
        Expr::Ident(name) => INPUTS.contains(&name.as_str()),
        Expr::List(_) | Expr::Map(_) => true,
        _ => false,
    }
}

/// An attestation whose statement was not kept.
fn is_unknown(content: &Content) -> bool {
    matches!(content, Content::Attestation { statement, .. } if statement.is_unknown())
}
