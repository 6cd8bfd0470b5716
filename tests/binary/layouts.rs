//! Our layout facts against each release's own debug information.

use crate::image::debug_sections;
use crate::programs::{lab, Mode, VERSIONS};
use mapscope::binary::buildinfo::GoVersion;
use mapscope::layout::{goroutine, moduledata, pclntab};
use std::collections::BTreeMap;

/// Offsets of the members of a struct that the compiler described, by name, and its size.
fn members(file: &[u8], wanted: &str) -> Option<(BTreeMap<String, u64>, u64)> {
    let sections = debug_sections(file);
    let dwarf = sections.borrow(|section| gimli::EndianSlice::new(section, gimli::LittleEndian));
    let mut units = dwarf.units();
    while let Some(header) = units.next().expect("a unit") {
        let unit = dwarf.unit(header).expect("a unit");
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs().expect("an entry") {
            let name = |entry: &gimli::DebuggingInformationEntry<_>| {
                let name = entry.attr_value(gimli::DW_AT_name).expect("a name")?;
                Some(dwarf.attr_string(&unit, name).expect("a string").to_string_lossy().into_owned())
            };
            if entry.tag() != gimli::DW_TAG_structure_type || name(entry).as_deref() != Some(wanted) {
                continue;
            }
            let number = |entry: &gimli::DebuggingInformationEntry<_>, what| {
                entry.attr_value(what).expect("a number").and_then(|value| value.udata_value())
            };
            let size = number(entry, gimli::DW_AT_byte_size).expect("a size");
            let mut tree = unit.entries_tree(Some(entry.offset())).expect("a tree");
            let mut children = tree.root().expect("a root").children();
            let mut found = BTreeMap::new();
            while let Some(child) = children.next().expect("a member") {
                let child = child.entry();
                let offset = number(child, gimli::DW_AT_data_member_location).expect("an offset");
                found.insert(name(child).expect("a name"), offset);
            }
            return Some((found, size));
        }
    }
    None
}

fn file(version: &str) -> (Vec<u8>, (u32, u32)) {
    let go = GoVersion::parse(&format!("go{version}")).expect("a version").number();
    (std::fs::read(lab(version, Mode::Default)).expect("the lab"), go)
}

#[test]
fn module_data_is_where_the_compiler_puts_it() {
    for version in VERSIONS {
        let (file, go) = file(version);
        let (members, size) = members(&file, "runtime.moduledata").expect("runtime.moduledata");
        let at = |name: &str| members.get(name).copied();
        let known = moduledata::offsets(go);
        assert_eq!(known.size, size, "size in {version}");
        let fixed = [
            ("pcHeader", moduledata::PC_HEADER),
            ("funcnametab", moduledata::FUNCNAMETAB),
            ("pclntable", moduledata::PCLNTABLE),
            ("ftab", moduledata::FTAB),
            ("minpc", moduledata::MINPC),
            ("maxpc", moduledata::MAXPC),
            ("text", moduledata::TEXT),
            ("etext", moduledata::ETEXT),
            ("noptrdata", moduledata::NOPTRDATA),
            ("data", moduledata::DATA),
            ("bss", moduledata::BSS),
            ("noptrbss", moduledata::NOPTRBSS),
            ("types", known.types),
            ("etypes", known.etypes),
            ("rodata", known.rodata),
            ("gofunc", known.gofunc),
            ("modulename", known.modulename),
            ("gcdatamask", known.gcdatamask),
            ("next", known.next),
        ];
        for (name, offset) in fixed {
            assert_eq!(at(name), Some(offset), "{name} in {version}");
        }
        let optional = [
            ("typedesclen", known.typedesclen),
            ("itaboffset", known.itaboffset),
            ("epclntab", known.epclntab),
            ("typelinks", known.typelinks),
            ("itablinks", known.itablinks),
        ];
        for (name, offset) in optional {
            assert_eq!(at(name), offset, "{name} in {version}");
        }
        let pairs = [
            ("noptrdata", "enoptrdata"),
            ("data", "edata"),
            ("bss", "ebss"),
            ("noptrbss", "enoptrbss"),
            ("itaboffset", "itabsize"),
        ];
        for (first, second) in pairs {
            assert_eq!(at(first).map(|offset| offset + 8), at(second), "{second} in {version}");
        }
        assert_eq!(at("gcdatamask").map(|offset| offset + 16), at("gcbssmask"), "gcbssmask in {version}");
    }
}

#[test]
fn function_records_are_as_the_compiler_lays_them_out() {
    for version in VERSIONS {
        let (file, go) = file(version);
        let known = pclntab::offsets(go);
        let (func, size) = members(&file, "runtime._func").expect("runtime._func");
        let at = |name: &str| func.get(name).map(|&offset| offset as usize);
        assert_eq!(size as usize, known.func_size, "{version}");
        // Fields lost their lower-case names in 1.20.
        let name = if go < (1, 20) { "nameoff" } else { "nameOff" };
        let fields = [
            (name, Some(pclntab::func::NAME)),
            ("args", Some(pclntab::func::ARGS)),
            ("deferreturn", Some(pclntab::func::DEFER_RETURN)),
            ("pcsp", Some(pclntab::func::PCSP)),
            ("pcfile", Some(pclntab::func::PCFILE)),
            ("pcln", Some(pclntab::func::PCLN)),
            ("npcdata", Some(pclntab::func::NPCDATA)),
            ("cuOffset", Some(pclntab::func::CU)),
            ("startLine", known.start_line),
            ("funcID", Some(known.func_id)),
            ("flag", Some(known.func_id + 1)),
            ("nfuncdata", Some(known.nfuncdata)),
        ];
        for (name, offset) in fields {
            assert_eq!(at(name), offset, "_func.{name} in {version}");
        }
        let (call, size) = members(&file, "runtime.inlinedCall").expect("runtime.inlinedCall");
        assert_eq!(size, known.inlined_size, "{version}");
        let name = if go < (1, 20) { "func_" } else { "nameOff" };
        let fields =
            [(name, known.inlined_name), ("parentPc", known.inlined_parent_pc), ("funcID", known.inlined_func_id)];
        for (name, offset) in fields {
            assert_eq!(call.get(name).copied(), Some(offset), "inlinedCall.{name} in {version}");
        }
        let (header, size) = members(&file, "runtime.pcHeader").expect("runtime.pcHeader");
        assert_eq!(size as usize, pclntab::header::SIZE, "{version}");
        let fields = [
            ("pad1", pclntab::header::PADDING),
            ("minLC", pclntab::header::QUANTUM),
            ("ptrSize", pclntab::header::POINTER_SIZE),
            ("nfunc", pclntab::header::NFUNC),
            ("funcnameOffset", pclntab::header::FUNCNAME_OFFSET),
            ("cuOffset", pclntab::header::CU_OFFSET),
            ("filetabOffset", pclntab::header::FILETAB_OFFSET),
            ("pctabOffset", pclntab::header::PCTAB_OFFSET),
            ("pclnOffset", pclntab::header::PCLN_OFFSET),
        ];
        for (name, offset) in fields {
            assert_eq!(header.get(name).map(|&offset| offset as usize), Some(offset), "pcHeader.{name} in {version}");
        }
    }
}

/// What the compiler says of a field that [`goroutine::RECORDS`] names, or of a type's size.
fn declared(file: &[u8], ty: &str, path: &str) -> Option<u64> {
    let (fields, size) = members(file, ty).unwrap_or_else(|| panic!("no {ty}"));
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let inner = |ty: &str, field: &str| members(file, ty).map(|(fields, _)| fields[field]);
    let within = match (ty, first) {
        ("runtime.g", "") => return Some(size),
        ("runtime.g", "stack") => inner("runtime.stack", rest)?,
        ("runtime.g", "sched") => inner("runtime.gobuf", rest)?,
        ("runtime.hchan", "recvq" | "sendq") => inner("runtime.waitq", rest)?,
        ("sync.Cond", "notify") => inner("sync.notifyList", rest)?,
        // Pairs since Go 1.26, plain pointers before.
        ("runtime.sudog", "elem" | "c") => inner("runtime.maybeTraceablePtr", "vu").unwrap_or(0),
        _ => 0,
    };
    fields.get(first).map(|at| at + within)
}

#[test]
fn the_runtimes_records_are_what_the_compiler_makes_of_them() {
    for version in VERSIONS {
        let (file, go) = file(version);
        for &(ty, path, _) in goroutine::RECORDS {
            assert_eq!(goroutine::record(go, ty, path), declared(&file, ty, path), "{ty}.{path} in {version}");
        }
        assert_eq!(goroutine::goid(go), declared(&file, "runtime.g", "goid").expect("goid"), "{version}");
    }
}

#[test]
fn wait_reasons_and_roots_of_semaphores_are_as_many_as_the_compiler_lays_out() {
    for version in VERSIONS {
        let (file, go) = file(version);
        let count = |name: &str| array_length(&file, name).unwrap_or_else(|| panic!("no {name} in {version}"));
        assert_eq!(count("runtime.waitReasonStrings"), goroutine::reasons(go) as u64, "{version}");
        assert_eq!(count("runtime.semtable"), goroutine::semtable::ROOTS, "{version}");
    }
}

/// Elements of the array variable `wanted`.
fn array_length(file: &[u8], wanted: &str) -> Option<u64> {
    let sections = debug_sections(file);
    let dwarf = sections.borrow(|section| gimli::EndianSlice::new(section, gimli::LittleEndian));
    let mut variable = None;
    let mut units = dwarf.units();
    while let Some(header) = units.next().expect("a unit") {
        let unit = dwarf.unit(header).expect("a unit");
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs().expect("an entry") {
            let name = entry.attr_value(gimli::DW_AT_name).expect("a name");
            let named = name
                .is_some_and(|name| dwarf.attr_string(&unit, name).is_ok_and(|name| name.to_string_lossy() == wanted));
            if entry.tag() == gimli::DW_TAG_variable && named {
                variable = entry.attr_value(gimli::DW_AT_type).expect("a type");
            }
        }
    }
    let at = match variable? {
        gimli::AttributeValue::DebugInfoRef(at) => at,
        other => panic!("a type by {other:?}"),
    };
    let mut units = dwarf.units();
    while let Some(header) = units.next().expect("a unit") {
        let Some(at) = at.to_unit_offset(&header) else { continue };
        let unit = dwarf.unit(header).expect("a unit");
        let entry = unit.entry(at).ok()?;
        // semTable is a type with a name of its own.
        let at = match entry.attr_value(gimli::DW_AT_type).expect("a type") {
            Some(gimli::AttributeValue::DebugInfoRef(to)) if entry.tag() == gimli::DW_TAG_typedef => {
                to.to_unit_offset(&header)?
            }
            _ => at,
        };
        let mut tree = unit.entries_tree(Some(at)).expect("a tree");
        let mut children = tree.root().expect("a root").children();
        while let Some(child) = children.next().expect("a child") {
            let count = child.entry().attr_value(gimli::DW_AT_count).expect("a count");
            if let Some(count) = count.and_then(|count| count.udata_value()) {
                return Some(count);
            }
        }
    }
    None
}
