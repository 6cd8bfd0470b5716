//! Corrupt binaries: errors at most, never a panic, a hang or much memory.

use crate::image::{FileMemory, Image};
use crate::programs::{lab, Mode};
use mapscope::binary::buildinfo::{BuildInfo, GoVersion};
use mapscope::binary::hashstate;
use mapscope::binary::moduledata;
use mapscope::binary::pclntab::{Bytes, FunctionTable};
use mapscope::binary::rtype::Descriptors;
use mapscope::binary::typeindex::TypeIndex;
use mapscope::files::Mapped;
use mapscope::memory::Memory;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

const VERSIONS: [&str; 3] = ["1.19", "1.23.9", "1.27.3"];

/// The bytes of a program, loaded once.
fn image(version: usize) -> &'static Image {
    static IMAGES: [OnceLock<Image>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    IMAGES[version].get_or_init(|| Image::open(&lab(VERSIONS[version], Mode::Linked)))
}

/// Where to write, as a share of what is written to, and what.
fn damage() -> impl Strategy<Value = Vec<(f64, u64, u8)>> {
    let value = prop_oneof![any::<u64>(), Just(u64::MAX), Just(0), 0u64..1 << 16, Just(1 << 63)];
    // Damage near the start hits headers.
    let place = prop_oneof![0.0..1.0f64, 0.0..0.001f64];
    prop::collection::vec((place, value, 1u8..=8), 1..24)
}

fn spoil(bytes: &mut [u8], damage: &[(f64, u64, u8)]) {
    for &(place, value, size) in damage {
        let at = (bytes.len() as f64 * place) as usize & !3;
        let end = bytes.len().min(at + size as usize);
        let len = end - at;
        bytes[at..end].copy_from_slice(&value.to_le_bytes()[..len]);
    }
}

fn use_functions(table: &FunctionTable, memory: &dyn Memory, gofunc: u64) {
    let mut wanted = None;
    for (i, function) in table.functions().enumerate() {
        function.file_line(function.entry);
        function.stack_delta(function.entry.wrapping_add(function.size() / 2));
        let _ = (function.id(), function.flags(), function.args_size(), function.start_line(), function.defer_return());
        let _ = table.frames(function.entry, memory, gofunc);
        if i % 64 == 0 {
            wanted = Some(function.name().into_owned());
        }
        if i > 2000 {
            break;
        }
    }
    wanted.and_then(|name| table.function_named(&name));
    for pc in [0, 1, u64::MAX, gofunc] {
        table.function_at(pc);
    }
}

fn use_types(descriptors: &Descriptors<'_>, index: &TypeIndex) {
    for address in index.addresses().take(3000).collect::<Vec<_>>() {
        let _ = descriptors.load(address);
        let _ = descriptors.full_name(address);
        let Ok(common) = descriptors.descriptor(address) else { continue };
        let _ = (descriptors.methods(&common), descriptors.signature(&common), descriptors.map(address));
        let _ = (descriptors.interface_methods(address), descriptors.package(&common), descriptors.itab(address));
    }
    let _ = index.find(descriptors, "main.registry");
    let _ = index.find(descriptors, "shared.T");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_function_tables_are_read_or_refused(version in 0..3usize, damage in damage(), cut in 0.0..1.2f64) {
        let image = image(version);
        let data = &image.module().data;
        let len = (data.pclntab.end - data.pclntab.start) as usize;
        let mut bytes = (&image.memory as &dyn Memory).bytes(data.pclntab.start, len).expect("the table").into_owned();
        bytes.truncate((len as f64 * cut) as usize);
        if !bytes.is_empty() {
            spoil(&mut bytes, &damage);
        }
        if let Ok(table) = FunctionTable::parse(Bytes::Copied(bytes), data.text.start, image.version.number()) {
            use_functions(&table, &image.memory, data.gofunc);
        }
    }

    #[test]
    fn damaged_types_and_module_data_are_read_or_refused(version in 0..3usize, types in damage(), module in damage()) {
        let image = image(version);
        let data = &image.module().data;
        let mut memory = FileMemory { segments: image.memory.segments.clone() };
        let mut spoil_range = |range: Range<u64>, damage: &[(f64, u64, u8)]| {
            spoil(memory.at(range.start, (range.end - range.start) as usize).expect("the range"), damage);
        };
        spoil_range(data.types.clone(), &types);
        let descriptors = Descriptors { memory: &memory, modules: &image.modules, version: &image.version };
        use_types(&descriptors, &TypeIndex::build(&descriptors));
        // Half the words of the module data change seldom enough that some damage passes its checks.
        let size = if module.len() > 12 { 568 } else { 552 };
        let mut memory = FileMemory { segments: memory.segments };
        spoil(memory.at(data.address, size).expect("the module data"), &module[..module.len().min(2)]);
        let file = Arc::new(Mapped::open(&lab(VERSIONS[version], Mode::Linked)).expect("the lab"));
        if let Ok(modules) = moduledata::find(&file, &memory, 0, &image.version) {
            let descriptors = Descriptors { memory: &memory, modules: &modules, version: &image.version };
            use_types(&descriptors, &TypeIndex::build(&descriptors));
            use_functions(&modules[0].functions, &memory, modules[0].data.gofunc);
            hashstate::locate(&memory, &modules[0], image.version.number(), false);
            hashstate::locate(&memory, &modules[0], image.version.number(), true);
        }
    }

    #[test]
    fn damaged_build_info_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200), len in any::<u8>()) {
        let mut block = b"\xff Go buildinf:\x08\x02".to_vec();
        block.resize(32, 0);
        block.extend(b"\x08go1.21.5");
        block.push(len);
        block.extend(&text);
        let info = BuildInfo::parse(&block).expect("a version");
        prop_assert_eq!(info.go, GoVersion::parse("go1.21.5").expect("a version"));
        BuildInfo::parse(&text);
        BuildInfo::search(&text);
    }
}

#[test]
fn other_files_are_told_apart() {
    let version = GoVersion::parse("go1.23.9").expect("a version");
    let memory = FileMemory { segments: Vec::new() };
    let shell = Arc::new(Mapped::open(std::path::Path::new("/bin/sh")).expect("a shell"));
    assert_eq!(BuildInfo::of_file(&shell), None);
    let error = moduledata::find(&shell, &memory, 0, &version).expect_err("no Go program").to_string();
    assert!(error.contains("module data was not found"), "{error}");
    // A version whose layout is another one must not be read with this one's.
    let other = GoVersion::parse("go1.19").expect("a version");
    let image = image(2);
    let file = Arc::new(Mapped::open(&lab(VERSIONS[2], Mode::Linked)).expect("the lab"));
    let read = moduledata::find(&file, &image.memory, 0, &other);
    assert!(read.is_err() || read.is_ok_and(|modules| modules[0].data.types != image.module().data.types));
}

/// Obfuscators give the function table a magic of their own; its section and the pointers to it still tell.
#[test]
fn another_magic_hides_no_function() {
    for (version, name) in VERSIONS.into_iter().enumerate() {
        let whole = lab(name, Mode::Linked);
        let mut file = std::fs::read(&whole).expect("the lab");
        let data = &image(version).module().data;
        let bytes = (&image(version).memory as &dyn Memory).bytes(data.pclntab.start, 64).expect("the header");
        let at = memchr::memmem::find(&file, &bytes).expect("the table in the file");
        file[at..at + 4].copy_from_slice(&[1, 2, 3, 4]);
        let hidden = whole.with_extension("hidden");
        std::fs::write(&hidden, file).expect("the changed lab");
        let functions = &Image::open(&hidden).modules[0].functions;
        assert_eq!(functions.len(), image(version).module().functions.len());
        assert!(functions.function_named("main.main").is_some());
    }
}

/// An end of the types far behind the last page costs no walk through nothing.
#[test]
fn types_without_end_end_with_the_memory() {
    for (version, name) in VERSIONS.into_iter().enumerate() {
        let image = image(version);
        let offsets = mapscope::layout::moduledata::offsets(image.version.number());
        let data = &image.module().data;
        let mut memory = FileMemory { segments: image.memory.segments.clone() };
        let mut set = |offset: u64, value: u64| {
            memory.at(data.address + offset, 8).expect("a word").copy_from_slice(&value.to_le_bytes());
        };
        set(offsets.etypes, u64::MAX);
        if let Some(offset) = offsets.typedesclen {
            set(offset, u64::MAX - data.types.start);
        }
        if let Some(offset) = offsets.typelinks.into_iter().chain(offsets.itablinks).max() {
            set(offset + 8, u64::MAX);
        }
        let file = Arc::new(Mapped::open(&lab(name, Mode::Linked)).expect("the lab"));
        let modules = moduledata::find(&file, &memory, 0, &image.version).expect("module data");
        let descriptors = Descriptors { memory: &memory, modules: &modules, version: &image.version };
        assert!(TypeIndex::build(&descriptors).len() > 300);
    }
}
