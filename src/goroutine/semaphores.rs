//! The runtime's table of semaphores: who waits on which address (src/runtime/sema.go go1.19 to 1.27).

use super::runtime::Runtime;
use crate::error::Watch;
use crate::Result;
use rustc_hash::{FxHashMap, FxHashSet};

/// Semaphore address of each waiting g, and the gs that wait on each address, in their order.
#[derive(Default)]
pub struct Semaphores {
    pub of_g: FxHashMap<u64, u64>,
    pub waiters: FxHashMap<u64, Vec<u64>>,
}

impl Semaphores {
    /// Walks the treap of every root; a link that leads nowhere ends that branch.
    pub fn read(runtime: &Runtime<'_>, watch: &dyn Watch) -> Result<Semaphores> {
        let (memory, at) = (runtime.memory, &runtime.sudog);
        let Some(table) = runtime.semaphores() else { return Ok(Semaphores::default()) };
        let treap = runtime.offset("runtime.semaRoot", "treap").unwrap_or(8);
        let mut found = Semaphores::default();
        let mut seen = FxHashSet::default();
        for root in 0..table.count {
            let mut left =
                vec![memory.u64(table.address.wrapping_add(root * table.stride).wrapping_add(treap)).unwrap_or(0)];
            while let Some(node) = left.pop() {
                if node == 0 || !seen.insert(node) {
                    continue;
                }
                if seen.len() % 4096 == 0 {
                    watch.tick(seen.len() as u64, 0)?;
                }
                let word = |offset: u64| memory.u64(node.wrapping_add(offset)).unwrap_or(0);
                left.extend([word(at.prev), word(at.next)]);
                found.add_chain(runtime, node, word(at.elem), &mut seen);
            }
        }
        Ok(found)
    }

    /// All sudogs of one address: the treap's node, then its wait links.
    fn add_chain(&mut self, runtime: &Runtime<'_>, node: u64, address: u64, seen: &mut FxHashSet<u64>) {
        let (memory, at) = (runtime.memory, &runtime.sudog);
        let mut sudog = node;
        while sudog != 0 {
            let Ok(g) = memory.u64(sudog.wrapping_add(at.g)) else { return };
            self.of_g.insert(g, address);
            self.waiters.entry(address).or_default().push(g);
            sudog = memory.u64(sudog.wrapping_add(at.waitlink)).unwrap_or(0);
            if sudog != 0 && !seen.insert(sudog) {
                return;
            }
        }
    }
}
