//! `--where PATTERN`: which entries to show.
//!
//! ```text
//! pattern    = text | comparison { "&&" comparison }
//! comparison = path operator literal | path ("=~" | "!~") "/regex/"
//! path       = ("key" | "elem") { "." field }
//! operator   = "==" | "!=" | "<" | "<=" | ">" | ">="
//! literal    = "string" | 'x' | 42 | 0x2a | 1.5 | NaN | true | false | nil
//! text       = /regex/ | glob with * or ? | any other text: a substring
//! ```
//!
//! A text is looked for in the key: in the string itself when it is one, else in the key as printed
//! (numbers in decimal). Case counts. Pointers and interfaces on a path are followed as in Go, and what
//! is behind a nil or unreadable one matches nothing but `== nil`.

use super::context::Context;
use super::csv::CsvCell;
use super::demand::{unsigned_ranges, Demand, TextBounds};
use super::gosyntax::GoSyntax;
use super::plan::{Form, Plan};
use super::scan::{self, Scanner, Wrong};
use super::time::word_at;
use super::walk;
use crate::binary::rtype;
use crate::types::{GoType, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use regex::bytes::Regex;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// Pointers followed at one step of a path.
const MOST_POINTERS: usize = 4;
/// Embedded structs searched for a field, one within the other.
const DEEPEST_FIELD: usize = 16;

/// A compiled pattern for the entries of one map type.
#[derive(Debug)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Debug)]
struct Term {
    path: Path,
    test: Test,
}

/// How to get from the key or elem to the value that is tested.
#[derive(Debug)]
struct Path {
    of_key: bool,
    steps: Vec<Step>,
    plan: Arc<Plan>,
}

#[derive(Debug)]
enum Step {
    /// The field at this offset, of this size.
    Field(usize, usize),
    /// The pointee, of this size.
    Follow(usize),
}

#[derive(Debug)]
enum Test {
    /// The text of the value matches, or does not.
    Text {
        regex: Regex,
        wanted: bool,
        /// What is known of the texts that the expression matches.
        bounds: Option<TextBounds>,
    },
    Compare {
        operator: Operator,
        literal: Literal,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug)]
enum Literal {
    Integer(i128),
    Float(f64),
    Text(Vec<u8>),
    Bool(bool),
    Nil,
}

impl Filter {
    /// Compiles `pattern` for entries with keys of type `key` and elems of type `elem`.
    ///
    /// Errors are [`Error::Usage`] and say where the pattern is wrong.
    pub fn compile(types: &dyn TypeSource, key: TypeId, elem: TypeId, pattern: &str) -> Result<Filter> {
        let mut parser = Parser { types, key, elem, scan: Scanner::new(pattern) };
        let terms = if parser.is_comparison() { parser.comparisons()? } else { vec![parser.text()?] };
        Ok(Filter { terms })
    }

    /// Whether the entry with these bytes matches; what cannot be read does not.
    pub fn matches(&self, context: &Context<'_>, key: &[u8], elem: &[u8]) -> Result<bool> {
        for term in &self.terms {
            let holds = match term.path.value(context, if term.path.of_key { key } else { elem }) {
                Some(value) => term.test.holds(context, &term.path.plan, &value)?,
                None => false,
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the pattern demands of a key's own bytes, and whether that is all of it.
    pub fn demands(&self) -> (Vec<Demand>, bool) {
        let demands: Vec<Demand> = self.terms.iter().filter_map(Term::demand).collect();
        let whole = demands.len() == self.terms.len();
        (demands, whole)
    }
}

impl Term {
    fn demand(&self) -> Option<Demand> {
        let Path { steps, plan, of_key: true } = &self.path else { return None };
        let offset = steps.iter().try_fold(0usize, |sum, step| match step {
            Step::Field(offset, _) => sum.checked_add(*offset),
            Step::Follow(_) => None,
        })?;
        let of_text = |bounds: TextBounds| Demand::Text { offset, length: bounds.length, start: bounds.start };
        match (&plan.form, &self.test) {
            (Form::String, Test::Text { wanted: true, bounds, .. }) => bounds.clone().map(of_text),
            (Form::String, Test::Compare { operator: Operator::Equal, literal: Literal::Text(text) }) => {
                Some(of_text(TextBounds::exactly(text)))
            }
            (Form::Int | Form::Uint, Test::Compare { operator, literal: Literal::Integer(value) }) => {
                let signed = matches!(plan.form, Form::Int);
                let intervals = operator.intervals(*value);
                let ranges =
                    intervals.into_iter().flat_map(|(low, high)| unsigned_ranges(low, high, plan.size, signed));
                Some(Demand::Number { offset, size: plan.size, ranges: ranges.collect() })
            }
            (Form::Bool, Test::Compare { operator, literal: Literal::Bool(value) }) => {
                let is_true = *value == (*operator == Operator::Equal);
                Some(Demand::Number { offset, size: 1, ranges: vec![if is_true { (1, 255) } else { (0, 0) }] })
            }
            _ => None,
        }
    }
}

impl Path {
    /// The bytes at the end of the path; `None` behind a nil pointer or in missing memory.
    fn value<'v>(&self, context: &'v Context<'_>, start: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        let mut value = Cow::Borrowed(start);
        for step in &self.steps {
            value = match *step {
                Step::Field(offset, size) => {
                    let end = offset.checked_add(size)?;
                    match value {
                        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(offset..end)?),
                        Cow::Owned(bytes) => Cow::Owned(bytes.get(offset..end)?.to_vec()),
                    }
                }
                Step::Follow(size) => match word_at(&value, 0) {
                    0 => return None,
                    address => context.memory.bytes(address, size).ok()?,
                },
            };
        }
        Some(value)
    }
}

impl Test {
    fn holds(&self, context: &Context<'_>, plan: &Plan, value: &[u8]) -> Result<bool> {
        if value.len() < plan.size {
            return Ok(false);
        }
        if let Form::Interface { methods } = plan.form {
            if !matches!(self, Test::Compare { literal: Literal::Nil, .. }) {
                return self.holds_within(context, methods, value);
            }
        }
        match self {
            Test::Text { regex, wanted, .. } => Ok(regex.is_match(&printed(context, plan, value)?) == *wanted),
            Test::Compare { operator, literal } => {
                Ok(compare(context, plan, value, literal).is_some_and(|order| operator.accepts(order)))
            }
        }
    }

    /// Tests the dynamic value of an interface.
    fn holds_within(&self, context: &Context<'_>, methods: bool, value: &[u8]) -> Result<bool> {
        let first = word_at(value, 0);
        let descriptor = rtype::of_interface(context.memory, methods, first).ok();
        let Some(dynamic) = descriptor.filter(|_| first != 0).and_then(|address| context.dynamic(address).ok()) else {
            return Ok(false);
        };
        let plan = &dynamic.plan;
        if dynamic.direct {
            return self.holds(context, plan, value.get(8..16).unwrap_or_default());
        }
        match context.memory.bytes(word_at(value, 8), plan.size) {
            Ok(bytes) => self.holds(context, plan, &bytes),
            Err(_) => Ok(false),
        }
    }
}

impl Operator {
    /// The integers that satisfy it with `value` on the right, as ranges with both ends.
    fn intervals(self, value: i128) -> Vec<(i128, i128)> {
        let (below, above) = ((i128::MIN, value.saturating_sub(1)), (value.saturating_add(1), i128::MAX));
        match self {
            Operator::Equal => vec![(value, value)],
            Operator::NotEqual => vec![below, above],
            Operator::Less => vec![below],
            Operator::LessOrEqual => vec![(i128::MIN, value)],
            Operator::Greater => vec![above],
            Operator::GreaterOrEqual => vec![(value, i128::MAX)],
        }
    }

    /// `None` (NaN is on one side) satisfies only `!=`.
    fn accepts(self, order: Option<Ordering>) -> bool {
        match self {
            Operator::Equal => order == Some(Ordering::Equal),
            Operator::NotEqual => order != Some(Ordering::Equal),
            Operator::Less => order == Some(Ordering::Less),
            Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Operator::Greater => order == Some(Ordering::Greater),
            Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// How a value compares with a literal; `None` when it is of another kind or cannot be read.
fn compare(context: &Context<'_>, plan: &Plan, value: &[u8], literal: &Literal) -> Option<Option<Ordering>> {
    let first = word_at(value, 0);
    Some(match (&plan.form, literal) {
        (Form::Int | Form::Uint, literal) => {
            let value = match (&plan.form, value) {
                (Form::Int, &[a]) => i128::from(a as i8),
                (Form::Int, &[a, b]) => i16::from_le_bytes([a, b]).into(),
                (Form::Int, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
                (Form::Int, _) => (first as i64).into(),
                (_, &[a]) => a.into(),
                (_, &[a, b]) => u16::from_le_bytes([a, b]).into(),
                (_, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).into(),
                _ => first.into(),
            };
            match literal {
                Literal::Integer(wanted) => Some(value.cmp(wanted)),
                Literal::Float(wanted) => (value as f64).partial_cmp(wanted),
                _ => return None,
            }
        }
        (Form::Float64, literal) => f64::from_bits(first).partial_cmp(&number(literal)?),
        (Form::Float32, literal) => {
            let value = f32::from_le_bytes(value.try_into().ok()?);
            // 0.1 typed by the user means the float32 nearest to it.
            value.partial_cmp(&(number(literal)? as f32))
        }
        (Form::Bool, Literal::Bool(wanted)) => Some((value.first() != Some(&0)).cmp(wanted)),
        (Form::String | Form::Bytes, Literal::Text(wanted)) => {
            let text = walk::text(context, first, word_at(value, 8), 0).ok()?;
            Some(text.as_ref().cmp(wanted))
        }
        (Form::Pointer(_) | Form::UnsafePointer | Form::Func | Form::Chan | Form::Map, Literal::Integer(wanted)) => {
            Some(i128::from(first).cmp(wanted))
        }
        (form, Literal::Nil) if has_nil(form) => Some(if first == 0 { Ordering::Equal } else { Ordering::Greater }),
        _ => return None,
    })
}

fn number(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Integer(value) => Some(*value as f64),
        Literal::Float(value) => Some(*value),
        _ => None,
    }
}

fn has_nil(form: &Form) -> bool {
    use Form::*;
    matches!(form, Pointer(_) | UnsafePointer | Func | Chan | Map | Slice { .. } | Bytes | Interface { .. })
}

/// The text in which texts and expressions are looked for.
fn printed<'v>(context: &'v Context<'_>, plan: &Plan, value: &[u8]) -> Result<Cow<'v, [u8]>> {
    let mut out = Vec::new();
    match plan.form {
        Form::String | Form::Bytes => {
            let text = walk::text(context, word_at(value, 0), word_at(value, 8), 0);
            return Ok(text.unwrap_or_default());
        }
        Form::Time(_) => CsvCell::default().write(plan, context, value, &mut out)?,
        _ if plan.is_scalar() => CsvCell::default().write(plan, context, value, &mut out)?,
        _ => plan.write(context, value, &mut GoSyntax::new(&mut out, false))?,
    }
    Ok(Cow::Owned(out))
}

struct Parser<'p> {
    types: &'p dyn TypeSource,
    key: TypeId,
    elem: TypeId,
    scan: Scanner<'p>,
}

impl Parser<'_> {
    fn wrong(&self, at: usize, expected: impl std::fmt::Display) -> Error {
        let column = self.scan.text.get(..at).map_or(0, |before| before.chars().count()) + 1;
        Error::Usage(format!(
            "column {column} of the pattern: expected {expected}; a pattern is a text, a glob, /regex/, or like key>=10 && elem.Name==\"x\""
        ))
    }

    fn lexical<T>(&self, scanned: Result<T, Wrong>) -> Result<T> {
        scanned.map_err(|wrong| self.wrong(wrong.at, wrong.expected))
    }

    /// Whether the pattern begins with a path and an operator; else it is a text.
    fn is_comparison(&self) -> bool {
        let mut ahead = self.scan.clone();
        if !matches!(ahead.name(), "key" | "elem") {
            return false;
        }
        while ahead.accept(".") {
            ahead.name();
        }
        operator(&mut ahead).is_some() || ahead.accept("=~") || ahead.accept("!~")
    }

    fn comparisons(&mut self) -> Result<Vec<Term>> {
        let mut terms = Vec::new();
        loop {
            terms.push(self.comparison()?);
            if self.scan.accept("&&") {
                continue;
            }
            return match self.scan.peek() {
                None => Ok(terms),
                Some(_) => Err(self.wrong(self.scan.at, "&& or the end")),
            };
        }
    }

    /// A pattern that is one text, for the key.
    fn text(&mut self) -> Result<Term> {
        let text = self.scan.text;
        let (regex, bounds) = match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(regex) => (self.regex(0, regex)?, None),
            None if text.contains(['*', '?']) => (self.regex(0, &glob(text))?, Some(TextBounds::of_glob(text))),
            None => (self.regex(0, &regex::escape(text))?, Some(TextBounds::containing(text))),
        };
        let path = Path { of_key: true, steps: Vec::new(), plan: Plan::compile(self.types, self.key)? };
        Ok(Term { path, test: Test::Text { regex, wanted: true, bounds } })
    }

    fn regex(&self, at: usize, regex: &str) -> Result<Regex> {
        Regex::new(regex).map_err(|error| {
            let reason = error.to_string();
            self.wrong(at, format_args!("a regular expression ({})", reason.lines().last().unwrap_or("")))
        })
    }

    fn comparison(&mut self) -> Result<Term> {
        let mut path = self.path()?;
        for (sign, wanted) in [("=~", true), ("!~", false)] {
            if self.scan.accept(sign) {
                self.follow(&mut path)?;
                let regex = self.delimited_regex()?;
                return Ok(Term { path, test: Test::Text { regex, wanted, bounds: None } });
            }
        }
        let Some(operator) = operator(&mut self.scan) else {
            return Err(self.wrong(self.scan.at, "one of == != < <= > >= =~ !~"));
        };
        self.scan.skip_space();
        let at = self.scan.at;
        let literal = self.literal()?;
        // A pointer compares with an address or nil itself, and through its pointee with anything else.
        let own = matches!(path.plan.form, Form::Pointer(_)) && matches!(literal, Literal::Nil);
        if !own {
            self.follow(&mut path)?;
        }
        self.check(at, &path.plan, operator, &literal)?;
        Ok(Term { path, test: Test::Compare { operator, literal } })
    }

    fn delimited_regex(&mut self) -> Result<Regex> {
        let at = self.scan.at;
        if !self.scan.accept("/") {
            return Err(self.wrong(at, "a regular expression between slashes"));
        }
        let rest = self.scan.rest();
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '/' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { return Err(self.wrong(self.scan.text.len(), "a closing /")) };
        self.scan.at += end + 1;
        self.regex(at, &rest[..end])
    }

    fn path(&mut self) -> Result<Path> {
        self.scan.skip_space();
        let at = self.scan.at;
        let (of_key, start) = match self.scan.name() {
            "key" => (true, self.key),
            "elem" => (false, self.elem),
            _ => return Err(self.wrong(at, "key or elem")),
        };
        let mut path = Path { of_key, steps: Vec::new(), plan: Plan::compile(self.types, start)? };
        while self.scan.accept(".") {
            self.follow(&mut path)?;
            let at = self.scan.at;
            let name = self.scan.name();
            let ty = path.plan.ty().clone();
            match self.field(&ty, name, 0)? {
                Some(steps) => {
                    for (offset, id) in steps {
                        if matches!(path.plan.form, Form::Pointer(_)) {
                            self.follow(&mut path)?;
                        }
                        path.plan = Plan::compile(self.types, id)?;
                        path.steps.push(Step::Field(offset, path.plan.size));
                    }
                }
                None => {
                    let fields = fields_of(&ty);
                    return Err(match fields.is_empty() {
                        true => self.wrong(at, format_args!("an operator: {} has no fields", path.plan.name())),
                        false => self.wrong(at, format_args!("a field of {}: {fields}", path.plan.name())),
                    });
                }
            }
        }
        Ok(path)
    }

    /// Follows pointers at the end of the path, as Go does before a dot.
    fn follow(&self, path: &mut Path) -> Result<()> {
        for _ in 0..MOST_POINTERS {
            let Form::Pointer(Some(elem)) = path.plan.form else { break };
            path.plan = Plan::compile(self.types, elem)?;
            path.steps.push(Step::Follow(path.plan.size));
        }
        Ok(())
    }

    /// Offsets and types on the way to a field, through embedded structs where it is promoted.
    fn field(&self, ty: &GoType, name: &str, nest: usize) -> Result<Option<Vec<(usize, TypeId)>>> {
        let Shape::Struct(fields) = &ty.shape else { return Ok(None) };
        if nest > DEEPEST_FIELD {
            return Ok(None);
        }
        if let Some(field) = fields.iter().find(|field| &*field.name == name) {
            return Ok(Some(vec![(field.offset as usize, field.ty)]));
        }
        for embedded in fields.iter().filter(|field| field.embedded) {
            let mut ty = self.types.load(embedded.ty)?;
            if let Shape::Pointer(Some(elem)) = ty.shape {
                ty = self.types.load(elem)?;
            }
            if let Some(rest) = self.field(&ty, name, nest + 1)? {
                let mut steps = vec![(embedded.offset as usize, embedded.ty)];
                steps.extend(rest);
                return Ok(Some(steps));
            }
        }
        Ok(None)
    }

    fn literal(&mut self) -> Result<Literal> {
        match self.scan.peek() {
            Some('"' | '`') => {
                let scanned = self.scan.string();
                return self.lexical(scanned).map(Literal::Text);
            }
            Some('\'') => {
                let scanned = self.scan.rune();
                return self.lexical(scanned).map(|rune| Literal::Integer(rune.into()));
            }
            _ => {}
        }
        let at = self.scan.at;
        let number = self.scan.number();
        if !number.is_empty() {
            let integer = scan::integer(&number).map(Literal::Integer);
            let literal = integer.or_else(|| scan::float(&number).map(Literal::Float));
            return literal.ok_or_else(|| self.wrong(at, "a number"));
        }
        Ok(match self.scan.name() {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "nil" => Literal::Nil,
            _ => return Err(self.wrong(at, "a string in double quotes, a number, true, false or nil")),
        })
    }

    /// Refuses a comparison that no value can satisfy.
    fn check(&self, at: usize, plan: &Plan, operator: Operator, literal: &Literal) -> Result<()> {
        let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
        let expected = match (&plan.form, literal) {
            (Form::Interface { .. }, _) => return Ok(()),
            (form, Literal::Nil) if has_nil(form) && !ordered => return Ok(()),
            (Form::Bool, Literal::Bool(_)) if !ordered => return Ok(()),
            (Form::Int | Form::Uint | Form::Float32 | Form::Float64, Literal::Integer(_) | Literal::Float(_)) => {
                return Ok(())
            }
            (Form::String | Form::Bytes, Literal::Text(_)) => return Ok(()),
            (Form::Pointer(_) | Form::UnsafePointer | Form::Func | Form::Chan | Form::Map, Literal::Integer(_)) => {
                return Ok(())
            }
            (Form::Int | Form::Uint | Form::Float32 | Form::Float64, _) => "a number",
            (Form::String | Form::Bytes, _) => "a string in double quotes",
            (Form::Bool, _) => "== or != and true or false",
            (form, _) if has_nil(form) => "== or != and nil",
            _ => "one of its fields before the operator, or =~ /regex/",
        };
        Err(self.wrong(at, format_args!("{expected}, for a {}", plan.name())))
    }
}

fn fields_of(ty: &GoType) -> String {
    match &ty.shape {
        Shape::Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| &*field.name).filter(|name| *name != "_").collect();
            names.join(", ")
        }
        _ => String::new(),
    }
}

fn operator(scan: &mut Scanner<'_>) -> Option<Operator> {
    use Operator::*;
    let operators =
        [("==", Equal), ("!=", NotEqual), ("<=", LessOrEqual), (">=", GreaterOrEqual), ("<", Less), (">", Greater)];
    operators.into_iter().find_map(|(sign, operator)| scan.accept(sign).then_some(operator))
}

/// A glob as a regular expression over the whole text: `*` is any bytes, `?` one character.
pub fn glob(text: &str) -> String {
    let mut out = String::from("^");
    for c in text.chars() {
        match c {
            '*' => out.push_str("(?s-u:.*)"),
            '?' => out.push_str("(?s:.)"),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    out
}
