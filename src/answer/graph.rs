//! Chains of waits as a graph, in Mermaid or in DOT.

use super::goroutines::{object_texts, place};
use super::leaks::site_label;
use crate::goroutine::holders::Holder;
use crate::goroutine::leaks::{Cluster, Leaks};
use crate::goroutine::{Blocked, Goroutine};
use crate::score::Reach;
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use std::fmt::Write as _;

/// A language to draw in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Mermaid,
    Dot,
}

impl Language {
    /// The language of this name.
    pub fn of(name: &str) -> Result<Language> {
        match name {
            "mermaid" => Ok(Language::Mermaid),
            "dot" => Ok(Language::Dot),
            _ => Err(Error::Usage(format!("a graph is drawn as mermaid or dot, not as {name:?}"))),
        }
    }
}

/// What a node stands for; its shape tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Goroutines,
    Site,
    Object,
    Entry,
}

/// A directed graph; nodes of one text are one node, but for entries, which are told apart by where they are.
#[derive(Default)]
struct Graph {
    nodes: Vec<(Kind, String)>,
    known: FxHashMap<(String, u64), usize>,
    edges: Vec<(usize, usize, &'static str)>,
}

/// Entries drawn for one cluster.
const MOST_ENTRIES: usize = 12;

impl Graph {
    fn node(&mut self, kind: Kind, text: String) -> usize {
        self.node_at(kind, text, 0)
    }

    fn node_at(&mut self, kind: Kind, text: String, address: u64) -> usize {
        *self.known.entry((text.clone(), address)).or_insert_with(|| {
            self.nodes.push((kind, text));
            self.nodes.len() - 1
        })
    }

    fn edge(&mut self, from: usize, to: usize, label: &'static str) {
        if !self.edges.contains(&(from, to, label)) {
            self.edges.push((from, to, label));
        }
    }

    /// What a goroutine waits on and the entries that hold that, below `waiter`.
    fn add_wait(&mut self, waiter: usize, leaks: &Leaks, goroutine: &Goroutine) {
        let Some(blocked) = &goroutine.blocked_on else { return };
        for (address, text) in object_texts(blocked) {
            let object = self.node(Kind::Object, text);
            self.edge(waiter, object, "waits on");
            let holders: &[Holder] = leaks.holders.of.get(&address).map_or(&[], Vec::as_slice);
            for holder in holders {
                let text = format!("{}[{}]\n{}", holder.map, holder.key, holder.type_name);
                let entry = self.node_at(Kind::Entry, text, holder.key_address);
                self.edge(object, entry, "is stored in");
            }
        }
    }

    fn add_sites(&mut self, waiter: usize, cluster: &Cluster) {
        for site in &cluster.sites {
            let node = self.node(Kind::Site, site_label(site));
            self.edge(waiter, node, edge_words(site.reach));
        }
    }

    fn draw(&self, language: Language) -> String {
        match language {
            Language::Mermaid => self.mermaid(),
            Language::Dot => self.dot(),
        }
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_string();
        for (i, (kind, label)) in self.nodes.iter().enumerate() {
            let label = mermaid_text(label);
            let _ = match kind {
                Kind::Goroutines => writeln!(text, "  n{i}([\"{label}\"])"),
                Kind::Site => writeln!(text, "  n{i}[[\"{label}\"]]"),
                Kind::Object => writeln!(text, "  n{i}{{{{\"{label}\"}}}}"),
                Kind::Entry => writeln!(text, "  n{i}[(\"{label}\")]"),
            };
        }
        for (from, to, label) in &self.edges {
            let _ = writeln!(text, "  n{from} -->|{label}| n{to}");
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = "digraph gomap {\n  rankdir=LR;\n".to_string();
        for (i, (kind, label)) in self.nodes.iter().enumerate() {
            let shape = match kind {
                Kind::Goroutines => "ellipse",
                Kind::Site => "component",
                Kind::Object => "hexagon",
                Kind::Entry => "cylinder",
            };
            let _ = writeln!(text, "  n{i} [shape={shape}, label=\"{}\"];", dot_text(label));
        }
        for (from, to, label) in &self.edges {
            let _ = writeln!(text, "  n{from} -> n{to} [label=\"{label}\"];");
        }
        text + "}\n"
    }
}

/// Text of a target inside a quoted Mermaid label: everything that the language could take for its own becomes an
/// entity by number.
fn mermaid_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("<br/>"),
            c if c.is_alphanumeric() || " .,:/_*+-".contains(c) => out.push(c),
            c => {
                let _ = write!(out, "#{};", c as u32);
            }
        }
    }
    out
}

/// Text of a target inside a quoted DOT label.
fn dot_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// All clusters shown.
pub fn of_leaks<'l>(leaks: &Leaks, shown: impl Iterator<Item = &'l Cluster>, language: Language) -> String {
    let mut graph = Graph::default();
    for (i, cluster) in shown.enumerate() {
        let members = || cluster.members.iter().filter_map(|&at| leaks.goroutines.all.get(at));
        let at = members().next().and_then(super::goroutines::user_line).map(place).unwrap_or_default();
        let class = cluster.score.class().words();
        let plural = if cluster.members.len() == 1 { "" } else { "s" };
        let head = format!("c{}: {} goroutine{plural} in {}", i + 1, cluster.members.len(), cluster.state);
        let waiter = graph.node(Kind::Goroutines, format!("{head}\n{at}\n{class}, score {}", cluster.score.total()));
        graph.add_sites(waiter, cluster);
        members().take(MOST_ENTRIES).for_each(|goroutine| graph.add_wait(waiter, leaks, goroutine));
    }
    graph.draw(language)
}

/// One goroutine, and who else has to do with what it waits on.
pub fn of_goroutine(leaks: &Leaks, goroutine: &Goroutine, cluster: Option<&Cluster>, language: Language) -> String {
    let ids = leaks.goroutines.ids();
    let mut graph = Graph::default();
    let at = super::goroutines::user_line(goroutine).map(place).unwrap_or_default();
    let head = format!("goroutine {} in {}\n{at}", goroutine.goid, goroutine.state());
    let waiter = graph.node(Kind::Goroutines, head);
    if let (Some(created), Some(parent)) = (&goroutine.created_at, goroutine.parent.filter(|&parent| parent != 0)) {
        let by = graph.node(Kind::Goroutines, format!("goroutine {parent}\n{}", place(created)));
        graph.edge(by, waiter, "created");
    }
    if let Some(cluster) = cluster {
        graph.add_sites(waiter, cluster);
    }
    graph.add_wait(waiter, leaks, goroutine);
    let channels = match &goroutine.blocked_on {
        Some(Blocked::Chan { channel, .. }) => vec![channel],
        Some(Blocked::Select(cases)) => cases.iter().map(|case| &case.channel).collect(),
        _ => Vec::new(),
    };
    for channel in channels {
        let object = graph.node(Kind::Object, super::goroutines::channel_label(channel));
        let others = channel.receivers.first.iter().chain(&channel.senders.first);
        for goid in others.filter_map(|g| ids.get(g)).filter(|&&goid| goid != goroutine.goid) {
            let other = graph.node(Kind::Goroutines, format!("goroutine {goid}"));
            graph.edge(other, object, "waits on");
        }
    }
    graph.draw(language)
}

/// How a wait hangs together with a map operation.
fn edge_words(reach: Reach) -> &'static str {
    match reach {
        Reach::Flow => "waits on what it gave",
        Reach::Either => "may wait on what it gave",
        Reach::Stored => "waits on what it stored",
        Reach::Until => "waits until it gives something else",
        Reach::Decides => "waits because of it",
        Reach::SameFunction => "did before",
        Reach::Caller => "was called after",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_target_stay_texts() {
        let mut graph = Graph::default();
        let a = graph.node(Kind::Goroutines, "a \"]) --> x\n\\".into());
        let b = graph.node(Kind::Entry, "m[\"<b>\"]".into());
        graph.edge(a, b, "waits on");
        graph.edge(a, b, "waits on");
        assert_eq!(
            graph.mermaid(),
            "flowchart LR\n  n0([\"a #34;#93;#41; --#62; x<br/>#92;\"])\n  n1[(\"m#91;#34;#60;b#62;#34;#93;\")]\n  \
             n0 -->|waits on| n1\n"
        );
        assert_eq!(
            graph.dot(),
            "digraph gomap {\n  rankdir=LR;\n  n0 [shape=ellipse, label=\"a \\\"]) --> x\\n\\\\\"];\n  \
             n1 [shape=cylinder, label=\"m[\\\"<b>\\\"]\"];\n  n0 -> n1 [label=\"waits on\"];\n}\n"
        );
    }
}
