//! The part of Go's text/template that Fulcio's provider configurations use.
//!
//! ```text
//! template = name-of-a-claim | *( text | action )          an action makes it a template
//! action   = "{{" value "}}"
//!          | "{{" "if" "eq" value value "}}" template [ "{{" "else" "}}" template ] "{{" "end" "}}"
//! value    = "." name | string | index | "(" index ")"
//! index    = "index" "." string                            for names that are no identifiers
//! string   = DQUOTE *( any character but DQUOTE and backslash ) DQUOTE
//! ```
//! A claim by `.name` or by its bare name must be there; one by `index` may be missing and is empty then, as
//! in Go. Nothing is escaped. All else of the language is refused when the configuration is read.

/// Most conditions within each other.
const MAX_DEPTH: usize = 8;

/// A template that has been read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Value(Value),
    If { left: Value, right: Value, then: Vec<Part>, otherwise: Vec<Part> },
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    Text(String),
    Claim(String),
    Optional(String),
}

impl Template {
    /// Reads a template, or the bare name of a claim.
    ///
    /// # Errors
    /// Names the first action that is not understood.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if !text.contains("{{") {
            return match text.is_empty() || text.contains("}}") {
                true => Err(TemplateError::Name),
                false => Ok(Self(vec![Part::Value(Value::Claim(text.to_owned()))])),
            };
        }
        let mut rest = text;
        let (parts, end) = parts(&mut rest, 0)?;
        match end {
            Stop::Text => Ok(Self(parts)),
            Stop::Else | Stop::End => {
                Err(TemplateError::Action { found: "else or end without if".to_owned() })
            }
        }
    }

    /// The text that it begins with, whatever the claims.
    #[must_use]
    pub fn start(&self) -> &str {
        match self.0.first() {
            Some(Part::Value(Value::Text(text))) => text,
            _ => "",
        }
    }

    /// The text that the template stands for; `claim` has the text of a claim. In a `whole` text, as a name
    /// must be, no value may be missing or empty.
    ///
    /// # Errors
    /// Gives the name of a claim that must be there and is not.
    pub fn fill(
        &self,
        claim: &dyn Fn(&str) -> Option<String>,
        whole: bool,
    ) -> Result<String, String> {
        let mut text = String::new();
        fill(&self.0, claim, whole, &mut text)?;
        Ok(text)
    }
}

fn fill(
    parts: &[Part],
    claim: &dyn Fn(&str) -> Option<String>,
    whole: bool,
    text: &mut String,
) -> Result<(), String> {
    let value = |value: &Value| match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Claim(name) => claim(name).ok_or_else(|| name.clone()),
        Value::Optional(name) => Ok(claim(name).unwrap_or_default()),
    };
    for part in parts {
        match part {
            Part::Value(one @ (Value::Claim(name) | Value::Optional(name))) => {
                let found = value(one)?;
                if whole && found.is_empty() {
                    return Err(name.clone());
                }
                text.push_str(&found);
            }
            Part::Value(Value::Text(found)) => text.push_str(found),
            Part::If { left, right, then, otherwise } => {
                let branch = if value(left)? == value(right)? { then } else { otherwise };
                fill(branch, claim, whole, text)?;
            }
        }
    }
    Ok(())
}

/// What ended a run of parts.
enum Stop {
    Text,
    Else,
    End,
}

fn parts(rest: &mut &str, depth: usize) -> Result<(Vec<Part>, Stop), TemplateError> {
    if depth > MAX_DEPTH {
        return Err(TemplateError::Depth);
    }
    let mut parts = Vec::new();
    loop {
        let Some((before, after)) = rest.split_once("{{") else {
            push_text(&mut parts, rest)?;
            return Ok((parts, Stop::Text));
        };
        push_text(&mut parts, before)?;
        let (inside, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
        *rest = after;
        let action = inside.trim();
        let unknown = || TemplateError::Action { found: action.chars().take(100).collect() };
        match action {
            "else" => return Ok((parts, Stop::Else)),
            "end" => return Ok((parts, Stop::End)),
            _ => {}
        }
        let Some(condition) = action.strip_prefix("if ") else {
            let (value, tail) = value(action).ok_or_else(unknown)?;
            if !tail.is_empty() {
                return Err(unknown());
            }
            parts.push(Part::Value(value));
            continue;
        };
        let condition = condition.trim_start().strip_prefix("eq ").ok_or_else(unknown)?;
        let (left, tail) = value(condition.trim_start()).ok_or_else(unknown)?;
        let (right, tail) = value(tail.trim_start()).ok_or_else(unknown)?;
        if !tail.is_empty() {
            return Err(unknown());
        }
        let (then, end) = self::parts(rest, depth + 1)?;
        let (otherwise, end) = match end {
            Stop::Else => self::parts(rest, depth + 1)?,
            end => (Vec::new(), end),
        };
        if !matches!(end, Stop::End) {
            return Err(TemplateError::Unclosed);
        }
        parts.push(Part::If { left, right, then, otherwise });
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.contains("}}") {
        return Err(TemplateError::Unclosed);
    }
    if !text.is_empty() {
        parts.push(Part::Value(Value::Text(text.to_owned())));
    }
    Ok(())
}

/// The value that `text` begins with, and what follows it.
fn value(text: &str) -> Option<(Value, &str)> {
    if let Some(inside) = text.strip_prefix('(') {
        let (value, tail) = index(inside.trim_start())?;
        return Some((value, tail.trim_start().strip_prefix(')')?.trim_start()));
    }
    if let Some(name) = text.strip_prefix('.') {
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        let (name, tail) = name.split_at(end);
        let identifier = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let apart = tail.is_empty() || tail.starts_with(' ');
        return (identifier && apart).then(|| (Value::Claim(name.to_owned()), tail.trim_start()));
    }
    if text.starts_with('"') {
        let (text, tail) = string(text)?;
        return Some((Value::Text(text.to_owned()), tail));
    }
    index(text)
}

fn index(text: &str) -> Option<(Value, &str)> {
    let name = text.strip_prefix("index ")?.trim_start().strip_prefix(". ")?.trim_start();
    let (name, tail) = string(name)?;
    Some((Value::Optional(name.to_owned()), tail))
}

fn string(text: &str) -> Option<(&str, &str)> {
    let (text, tail) = text.strip_prefix('"')?.split_once('"')?;
    (!text.contains('\\')).then(|| (text, tail.trim_start()))
}

/// Why a template is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// An empty template.
    #[error("expected a template or the name of a claim")]
    Name,
    /// Braces or conditions that are not closed.
    #[error("an action, or a condition, of the template is not closed")]
    Unclosed,
    /// Another construct.
    #[error(
        "expected {{{{ .claim }}}}, {{{{ index . \"claim\" }}}} or {{{{ if eq .claim \"text\" }}}}, found {found:?}"
    )]
    Action {
        /// Its beginning.
        found: String,
    },
    /// Too many conditions within each other.
    #[error("expected at most {MAX_DEPTH} conditions within each other")]
    Depth,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Result<String, String> {
        let claim = |name: &str| match name {
            "ref" => Some("v1".to_owned()),
            "ref_type" => Some("tag".to_owned()),
            "oidc.circleci.com/ssh-rerun" => Some("true".to_owned()),
            "html" => Some("<a&'b\">".to_owned()),
            "braces" => Some("{{ .ref }}".to_owned()),
            _ => None,
        };
        Template::parse(template).unwrap().fill(&claim, false)
    }

    #[test]
    fn the_constructs_of_public_configurations_mean_what_go_makes_of_them() {
        for (template, expected) in [
            ("ref", "v1"),
            ("{{ .ref }}", "v1"),
            ("{{.ref}}-{{  .ref_type  }}!", "v1-tag!"),
            ("{{index . \"ref\"}}", "v1"),
            ("{{(index . \"ref\")}}", "v1"),
            ("a{{index . \"missing\"}}b", "ab"),
            ("{{if eq .ref_type \"branch\"}}heads/{{ else }}tags/{{end}}{{ .ref }}", "tags/v1"),
            ("{{if eq .ref_type \"tag\"}}tags{{end}}", "tags"),
            (
                "{{if eq (index . \"oidc.circleci.com/ssh-rerun\") \"true\"}}ssh-rerun{{ else }}\"\"{{end}}",
                "ssh-rerun",
            ),
            ("{{if eq (index . \"missing\") \"true\"}}ssh-rerun{{ else }}\"\"{{end}}", "\"\""),
            ("{{if eq .ref .ref_type}}a{{else}}{{if eq .ref \"v1\"}}b{{end}}c{{end}}d", "bcd"),
            ("{{ .html }}", "<a&'b\">"),
            ("{{ .braces }}", "{{ .ref }}"),
        ] {
            assert_eq!(filled(template), Ok(expected.to_owned()), "{template}");
        }
        for template in ["missing", "{{ .missing }}", "{{if eq .missing \"a\"}}b{{end}}"] {
            assert_eq!(filled(template), Err("missing".to_owned()), "{template}");
        }
    }

    #[test]
    fn a_name_lacks_no_part() {
        let claim = |name: &str| (name == "empty").then(String::new);
        for template in
            ["{{ .empty }}", "a{{index . \"missing\"}}", "{{if eq .empty \"\"}}{{ .empty }}{{end}}"]
        {
            let template = Template::parse(template).unwrap();
            assert!(template.fill(&claim, true).is_err(), "{template:?}");
        }
        let condition = Template::parse("{{if eq .empty \"\"}}a{{end}}").unwrap();
        assert_eq!(condition.fill(&claim, true), Ok("a".to_owned()));
    }

    #[test]
    fn what_is_not_understood_is_refused_when_it_is_read() {
        for near_miss in [
            "",
            "{{",
            "{{ .a",
            "a }}",
            "{{ .a }} }}",
            "{{}}",
            "{{ . }}",
            "{{ a }}",
            "{{ .a.b }}",
            "{{ .a-b }}",
            "{{- .a }}",
            "{{ .a | html }}",
            "{{ printf \"%s\" .a }}",
            "{{ $a }}",
            "{{ \"a\\\"b\" }}",
            "{{ index .a \"b\" }}",
            "{{ index . b }}",
            "{{ (index . \"b\" }}",
            "{{ if .a }}b{{ end }}",
            "{{ if ne .a \"b\" }}c{{ end }}",
            "{{ if eq .a }}c{{ end }}",
            "{{ if eq .a \"b\" \"c\" }}d{{ end }}",
            "{{ if eq .a \"b\" }}c",
            "{{ if eq .a \"b\" }}c{{ else }}d",
            "{{ end }}",
            "{{ else }}",
            "{{ if eq .a \"b\" }}c{{ else }}d{{ else }}e{{ end }}",
            "{{/* a */}}",
            "{{ template \"a\" }}",
            "{{ range .a }}{{ end }}",
        ] {
            assert!(Template::parse(near_miss).is_err(), "{near_miss}");
        }
        let deep = format!("{}{}", "{{if eq .a \"b\"}}".repeat(9), "{{end}}".repeat(9));
        assert_eq!(Template::parse(&deep), Err(TemplateError::Depth));
    }
}
