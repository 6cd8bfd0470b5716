//! Nothing decides by reading our own sentences: a comparison with a literal that occurs in what we say fails here.
//!
//! What we say: literals in `Display` and `name`-like functions, in `#[error("…")]` and in the macros that format.
//! Comparisons: `==`, `!=`, string methods, patterns of `match`, `matches!`, `if let`, and lists asked with `contains`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// Words that we say and that are not ours first: where they are compared, which, and whose they are. An entry that
/// nothing needs any more fails too.
const OTHERS: &[(&str, &[&str], &str)] = &[
    ("src/answer/leaks.rs", &["none"], "a user's word: --fail-on"),
    ("src/python.rs", &["key", "elem", "count"], "a user's word: --sort"),
    ("src/expression.rs", &["key "], "a user's word: m[key K], the key itself"),
    ("src/value/pattern.rs", &["key", "elem"], "a user's word: what a pattern is about"),
    (
        "src/probe/functions.rs",
        &["access", "access1", "access2", "assign", "delete", "clear"],
        "parts of the runtime's names",
    ),
    ("src/probe/record.rs", &["offset:"], "the kernel's: a tracefs format"),
    ("src/binary/buildinfo.rs", &["path"], "the go command's: a line of build information"),
    ("src/evidence/profile/", &["goroutine", "log"], "runtime/pprof's head line, and Docker's field"),
    ("src/evidence/join/", &["forever"], "the tracer's: traceBlockReasonStrings"),
    ("src/answer/watch/", &["access"], "the runtime's: what its mapaccess1, mapaccess2 have in common"),
    ("src/audit/baseline.rs", &[" more"], "a file's: baselines of 0.1.0 have paths that were cut like this"),
    ("src/memory/rights.rs", &["Kthread"], "the kernel's: a line of /proc/PID/status"),
    ("src/score.rs", &["network"], "the tracer's: traceBlockReasonStrings"),
];

/// What Go itself says, wherever it is compared: wait reasons (`waitReasonStrings`, src/runtime/runtime2.go), types,
/// predeclared words and values as Go writes them; and the beginnings of its names and types.
const GO: [&str; 27] = [
    "chan receive",
    "chan send",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "select",
    "select (no cases)",
    "sync.Cond.Wait",
    "semacquire",
    "sync.Mutex.Lock",
    "sync.RWMutex.Lock",
    "sync.RWMutex.RLock",
    "sync.WaitGroup.Wait",
    "IO wait",
    "sleep",
    "chan ",
    "map",
    "map[",
    "nil",
    "true",
    "bool",
    "int",
    "string",
    "float64",
    "complex128",
    "UTC",
    "Local",
    "go1.",
];
const GO_NAMES: [&str; 8] =
    ["runtime.", "go.shape.", "reflect.", "sync.", "internal/", "unsafe.Pointer", "interface {", "struct {"];

/// A literal that something is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Compared {
    file: String,
    line: usize,
    text: String,
    /// Whether a part of a sentence is enough: `contains`, `starts_with`.
    part: bool,
}

/// What sources say and what they compare with.
#[derive(Default)]
struct Reader {
    file: String,
    /// Whole words and sentences, placeholders cut out.
    said: BTreeSet<String>,
    /// Other literals, that may come to be said.
    words: BTreeSet<String>,
    compared: Vec<Compared>,
    /// Where what is compared stands.
    places: BTreeSet<(usize, usize)>,
    /// Within a `Display` or a function that names something.
    naming: bool,
}

/// Functions whose literals are words for the reader.
const NAMING: [&str; 7] = ["name", "words", "meaning", "label", "describe", "kind", "status_name"];
/// Macros whose literals are.
const FORMATTING: [&str; 9] =
    ["format", "write", "writeln", "println", "eprintln", "print", "eprint", "panic", "format_args"];
/// Methods that compare with a part, and with a whole.
const PART: [&str; 12] = [
    "contains",
    "starts_with",
    "ends_with",
    "find",
    "rfind",
    "strip_prefix",
    "strip_suffix",
    "split_once",
    "rsplit_once",
    "trim_start_matches",
    "trim_end_matches",
    "matches",
];
const WHOLE: [&str; 3] = ["eq", "ne", "eq_ignore_ascii_case"];

impl Reader {
    fn say(&mut self, text: &str) {
        // Between placeholders, where the sentence is ours.
        let mut depth = 0;
        let pieces = text.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == '{' || c == '}' || depth > 0
        });
        self.said.extend(pieces.map(str::to_string).chain([text.to_string()]).filter(|piece| !piece.trim().is_empty()));
    }

    fn compare(&mut self, literal: &syn::LitStr, part: bool) {
        let (text, line) = (literal.value(), literal.span().start().line);
        self.places.insert(place(literal));
        self.compared.push(Compared { file: self.file.clone(), line, text, part });
    }

    /// Literals of a list, a reference or a pair of parentheses.
    fn compare_all(&mut self, expression: &syn::Expr, part: bool) {
        match expression {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(literal), .. }) => self.compare(literal, part),
            syn::Expr::Reference(inner) => self.compare_all(&inner.expr, part),
            syn::Expr::Paren(inner) => self.compare_all(&inner.expr, part),
            syn::Expr::Call(inner) => inner.args.iter().for_each(|one| self.compare_all(one, part)),
            syn::Expr::Array(list) => list.elems.iter().for_each(|one| self.compare_all(one, part)),
            syn::Expr::Tuple(list) => list.elems.iter().for_each(|one| self.compare_all(one, part)),
            _ => {}
        }
    }

    /// Literals among the tokens of a macro that is not parsed further.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream, is_pattern: bool) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => self.tokens(group.stream(), is_pattern),
                proc_macro2::TokenTree::Literal(literal) => {
                    if let Ok(literal) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        match is_pattern {
                            true => self.compared.push(Compared {
                                file: self.file.clone(),
                                line: 0,
                                text: literal.value(),
                                part: false,
                            }),
                            false => self.say(&literal.value()),
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn naming(&mut self, yes: bool, inside: impl FnOnce(&mut Reader)) {
        let before = self.naming;
        self.naming |= yes;
        inside(self);
        self.naming = before;
    }
}

fn place(literal: &syn::LitStr) -> (usize, usize) {
    let start = literal.span().start();
    (start.line, start.column)
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let shows = item.trait_.as_ref().and_then(|(path, _)| path.segments.last().map(|last| last.ident == "Display"));
        self.naming(shows == Some(true), |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let names = NAMING.iter().any(|name| item.sig.ident == name);
        self.naming(names, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            let names = NAMING.iter().any(|name| item.sig.ident == name);
            self.naming(names, |reader| visit::visit_item_fn(reader, item));
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let (true, syn::Meta::List(list)) = (attribute.path().is_ident("error"), &attribute.meta) {
            self.tokens(list.tokens.clone(), false);
        }
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        if FORMATTING.contains(&name.as_str()) {
            self.tokens(item.tokens.clone(), false);
        }
        // `matches!(subject, pattern if guard)`: the subject is an expression like others.
        let parsed = item.parse_body_with(|input: syn::parse::ParseStream<'_>| {
            let subject: syn::Expr = input.parse()?;
            input.parse::<syn::Token![,]>()?;
            let pattern = syn::Pat::parse_multi_with_leading_vert(input)?;
            let rest: proc_macro2::TokenStream = input.parse()?;
            Ok((subject, pattern, rest))
        });
        if let ("matches", Ok((subject, pattern, _))) = (name.as_str(), parsed) {
            // What was parsed here lives as long as this call only.
            let mut inner = Reader { file: self.file.clone(), naming: self.naming, ..Reader::default() };
            inner.visit_expr(&subject);
            inner.visit_pat(&pattern);
            self.said.extend(inner.said);
            self.words.extend(inner.words);
            self.compared.extend(inner.compared);
        } else if name.starts_with("assert") || name == "vec" {
            if let Ok(all) =
                item.parse_body_with(syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated)
            {
                let mut inner = Reader { file: self.file.clone(), naming: self.naming, ..Reader::default() };
                all.iter().for_each(|one| inner.visit_expr(one));
                self.said.extend(inner.said);
                self.words.extend(inner.words);
                self.compared.extend(inner.compared);
            }
        }
    }

    fn visit_expr_lit(&mut self, item: &'ast syn::ExprLit) {
        let syn::Lit::Str(literal) = &item.lit else { return };
        match self.naming {
            true => self.say(&literal.value()),
            // What is compared is no word of ours by that alone.
            false if !self.places.contains(&place(literal)) => drop(self.words.insert(literal.value())),
            false => {}
        }
    }

    fn visit_expr_binary(&mut self, item: &'ast syn::ExprBinary) {
        if matches!(item.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            self.compare_all(&item.left, false);
            self.compare_all(&item.right, false);
        }
        visit::visit_expr_binary(self, item);
    }

    fn visit_expr_method_call(&mut self, item: &'ast syn::ExprMethodCall) {
        let name = item.method.to_string();
        let part = PART.contains(&name.as_str());
        if part || WHOLE.contains(&name.as_str()) {
            item.args.iter().for_each(|argument| self.compare_all(argument, part));
            // A list of literals that is asked for a text.
            self.compare_all(&item.receiver, false);
        }
        visit::visit_expr_method_call(self, item);
    }

    fn visit_pat(&mut self, item: &'ast syn::Pat) {
        if let syn::Pat::Lit(syn::ExprLit { lit: syn::Lit::Str(literal), .. }) = item {
            self.compare(literal, false);
        }
        visit::visit_pat(self, item);
    }
}

/// Comparisons with what the same sources say.
fn found(sources: &[(String, String)]) -> BTreeSet<Compared> {
    let mut all = Reader::default();
    for (file, text) in sources {
        let mut reader = Reader { file: file.clone(), ..Reader::default() };
        reader.visit_file(&syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}")));
        all.said.extend(reader.said);
        all.words.extend(reader.words);
        all.compared.extend(reader.compared);
    }
    let of_ours = |compared: &Compared| {
        let text = compared.text.as_str();
        if GO.contains(&text) || GO_NAMES.iter().any(|start| text.starts_with(start)) {
            return false;
        }
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        // A part of two letters is in every sentence.
        letters > 1
            && (all.said.contains(text)
                || all.words.contains(text)
                || compared.part && letters > 2 && all.said.iter().any(|said| said.contains(text)))
    };
    all.compared.iter().filter(|compared| of_ours(compared)).cloned().collect()
}

fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true if entry.file_name().unwrap() != "tests" => walk(&entry, all),
                false if entry.extension().is_some_and(|ext| ext == "rs") && entry.file_stem().unwrap() != "tests" => {
                    all.push(entry)
                }
                _ => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    walk(&root.join("src"), &mut all);
    all.sort();
    let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    all.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn nothing_compares_with_what_we_say_ourselves() {
    let mut unused: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (place, words, whose) in OTHERS {
        unused.extend(words.iter().map(|word| ((*place, *word), *whose)));
    }
    let mut ours = Vec::new();
    for compared in found(&sources()) {
        let known = OTHERS
            .iter()
            .filter(|(place, words, _)| compared.file.starts_with(place) && words.contains(&compared.text.as_str()));
        let mut is_known = false;
        for (place, _, _) in known {
            is_known = true;
            unused.retain(|&(at, word), _| !(at == *place && word == compared.text));
        }
        if !is_known {
            ours.push(format!("{}:{} {:?}", compared.file, compared.line, compared.text));
        }
    }
    assert!(ours.is_empty(), "decided by what we say ourselves; use an enum or a field:\n{}", ours.join("\n"));
    assert!(unused.is_empty(), "in the list of others' words, but not compared: {unused:?}");
}

#[test]
fn every_form_of_comparison_is_seen_and_others_words_are_not() {
    const SAYS: &str = r#"
        impl std::fmt::Display for Note {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    Note::Cycle(at) => write!(f, "the chain returns to itself at {at:#x}"),
                    Note::Free => f.write_str("not locked"),
                }
            }
        }
        impl Kind { fn name(self) -> &'static str { match self { Kind::Absent => "absent", Kind::Zero => "zero" } } }
        #[derive(thiserror::Error)]
        enum Error { #[error("cannot open {path}: {reason}")] File { path: String, reason: String } }
    "#;
    const COMPARES: [&str; 12] = [
        r#"text.contains("returns to itself")"#,
        r#"text.starts_with("not locked")"#,
        r#"text.find("cannot open").is_some()"#,
        r#"text.strip_prefix("cannot open ").is_some()"#,
        r#"text == "absent""#,
        r#""absent" != text"#,
        r#"matches!(text, "absent" | "present")"#,
        r#"matches!(verdict, Some("zero") if true)"#,
        r#"verdict == Some("zero")"#,
        r#"["absent", "other"].contains(&text)"#,
        r#"match text { "zero" => true, _ => false }"#,
        r#"if let Some("not locked") = verdict { true } else { false }"#,
    ];
    let ask = |body: &str| {
        let compares = format!("fn f(text: &str, verdict: Option<&str>) -> bool {{ {body} }}");
        found(&[("says.rs".into(), SAYS.into()), ("compares.rs".into(), compares)])
    };
    for body in COMPARES {
        assert_eq!(ask(body).len(), 1, "{body}");
    }
    for body in [r#"text == "runtime.mapassign""#, r#"text.starts_with("sync.")"#, r#"text.contains("at")"#, "true"] {
        assert!(ask(body).is_empty(), "{body}");
    }
    let in_a_test = format!("{SAYS} #[cfg(test)] mod tests {{ fn f(t: &str) -> bool {{ t == \"absent\" }} }}");
    assert!(found(&[("says.rs".into(), in_a_test)]).is_empty());
}
