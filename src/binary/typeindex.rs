//! Type descriptors by name: all that the modules list, and all that those lead to.

use super::rtype::Descriptors;
use super::typename::plain_paths;
use crate::memory::{Memory, MemoryError, Place, Region};
use crate::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

/// Types of one program at most; the largest known have some hundred thousand.
const MAX_TYPES: usize = 1 << 24;

/// Descriptors by the names that the runtime and DWARF give them.
#[derive(Debug, Default)]
pub struct TypeIndex {
    /// By the runtime's name. Types of different packages can share one.
    by_name: FxHashMap<Box<str>, Vec<u64>>,
    /// By the name with whole import paths; made when a name is not found, or is not the name of one type.
    by_full_name: OnceLock<FxHashMap<Box<str>, u64>>,
}

impl TypeIndex {
    /// Reads every descriptor that can be come to.
    pub fn build(descriptors: &Descriptors<'_>) -> TypeIndex {
        let windows = Windows::over(descriptors);
        let descriptors = Descriptors { memory: &windows, ..*descriptors };
        let mut queue: Vec<u64> = Vec::new();
        for module in descriptors.modules {
            queue.extend(descriptors.listed(module));
            let itabs = descriptors.itabs(module).into_iter().filter_map(|itab| descriptors.itab(itab).ok());
            queue.extend(itabs.flat_map(|itab| [itab.interface, itab.ty]));
        }
        let mut index = TypeIndex::default();
        let mut seen = FxHashSet::default();
        while let Some(address) = queue.pop() {
            if seen.len() == MAX_TYPES || !seen.insert(address) {
                continue;
            }
            let Ok(descriptor) = descriptors.descriptor(address) else { continue };
            let Ok(name) = descriptors.type_name(&descriptor) else { continue };
            queue.extend(descriptors.parts(&descriptor));
            index.by_name.entry(plain_paths(&name).into()).or_default().push(address);
        }
        index
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.by_name.values().map(Vec::len).sum()
    }

    /// Whether no type was found.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Every descriptor, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_name.values().flatten().copied()
    }

    /// The types that the runtime calls so.
    pub fn of_name(&self, name: &str) -> &[u64] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The type named `name`, with packages by their names (`a.T`) or by their import paths (`example.com/a.T`).
    pub fn find(&self, descriptors: &Descriptors<'_>, name: &str) -> Result<Option<u64>> {
        let name = &*plain_paths(name);
        let addresses = match self.by_name.get(name).map(Vec::as_slice) {
            Some(&[only]) => return Ok(Some(only)),
            Some(several) => several,
            None => return Ok(self.by_full_name(descriptors).get(name).copied()),
        };
        // The same type in several modules has the same full name and the same hash.
        let identity =
            |address: u64| Some((descriptors.full_name(address).ok()?, descriptors.descriptor(address).ok()?.hash));
        let mut types: Vec<(String, u32)> = addresses.iter().filter_map(|&address| identity(address)).collect();
        types.sort();
        types.dedup();
        if types.len() < 2 {
            return Ok(addresses.first().copied());
        }
        let mut names: Vec<String> = types.into_iter().map(|(full, _)| full).collect();
        names.dedup();
        match names.iter().any(|full| full == name) {
            _ if names.len() == 1 => {
                Err(Error::Type(format!("{name} is the name of several types, declared in functions")))
            }
            true => Ok(self.by_full_name(descriptors).get(name).copied()),
            false => Err(Error::Type(format!("{name} is the name of several types; say which: {}", names.join(", ")))),
        }
    }

    fn by_full_name(&self, descriptors: &Descriptors<'_>) -> &FxHashMap<Box<str>, u64> {
        self.by_full_name.get_or_init(|| {
            let windows = Windows::over(descriptors);
            let descriptors = Descriptors { memory: &windows, ..*descriptors };
            let named =
                self.addresses().filter_map(|address| Some((descriptors.full_name(address).ok()?.into(), address)));
            named.collect()
        })
    }
}

/// Memory with the modules' types read once, so that an index of a live process costs few system calls.
struct Windows<'m> {
    windows: Vec<(Range<u64>, Cow<'m, [u8]>)>,
    behind: &'m dyn Memory,
}

impl<'m> Windows<'m> {
    fn over(descriptors: &Descriptors<'m>) -> Windows<'m> {
        let ranges = descriptors.modules.iter().map(|module| module.data.types.clone());
        let windows = ranges.filter_map(|range| {
            let bytes = descriptors.memory.bytes(range.start, usize::try_from(range.end - range.start).ok()?).ok()?;
            Some((range, bytes))
        });
        Windows { windows: windows.collect(), behind: descriptors.memory }
    }
}

impl Memory for Windows<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        match self.mapped(address, buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => self.behind.read(address, buf),
        }
    }

    fn mapped(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (range, bytes) = self.windows.iter().find(|(range, _)| range.contains(&address))?;
        let start = (address - range.start) as usize;
        bytes.get(start..start.checked_add(len)?)
    }

    fn regions(&self) -> Vec<Region> {
        self.behind.regions()
    }

    fn place(&self) -> Place {
        self.behind.place()
    }
}
