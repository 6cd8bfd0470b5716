//! Functions, lines, inlined calls, stack depths, build info and hash state.

use crate::image::Image;
use crate::programs::{ask, build_info, documents, lab, symbols, Mode, VERSIONS};
use mapscope::binary::buildinfo::BuildInfo;
use mapscope::binary::hashstate;
use mapscope::layout::hash_state;
use std::collections::BTreeMap;
use std::fmt::Write;

const STRIPPED: [Mode; 4] = [Mode::Linked, Mode::LinkedPie, Mode::Stripped, Mode::NoSections];

#[test]
fn functions_are_those_of_the_symbol_table() {
    for version in VERSIONS {
        let program = lab(version, Mode::Default);
        let image = Image::open(&program);
        let module = image.module();
        // Marks of the linker's, at addresses that functions have too.
        let marks = ["runtime.text", "runtime.etext", "go:buildid", "go.buildid"];
        let code = symbols(version, &program);
        let code = code.iter().filter(|(_, _, kind, name)| "Tt".contains(*kind) && !marks.contains(&name.as_str()));
        let mut expected: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (address, _, _, name) in code.clone() {
            expected.entry(*address).or_default().push(name);
        }
        let found: Vec<_> = module.functions.functions().map(|f| (f.entry, f.name().into_owned())).collect();
        assert_eq!(found.len(), module.functions.len());
        assert_eq!(
            found.iter().map(|f| f.0).collect::<Vec<_>>(),
            expected.keys().copied().collect::<Vec<_>>(),
            "{version}"
        );
        for (entry, name) in &found {
            // The table leaves type arguments out to Go 1.20.
            let same = |symbol: &&str| {
                symbol.trim_end_matches(".abi0") == name.replace('·', ".")
                    || name.contains("[...]") && symbol.contains('[')
            };
            assert!(expected[entry].iter().any(same), "{version}: {name} at {entry:#x}, not {:?}", expected[entry]);
            let by_name = module.functions.function_named(name).expect("a function by its name");
            assert_eq!(by_name.name(), *name);
        }
        for (address, size, _, name) in code {
            let function = module.functions.function_at(address + size.saturating_sub(1)).expect("a function");
            assert_eq!(function.entry, *address, "{version}: {name}");
            assert!(function.size() >= *size, "{version}: {name}");
        }
        assert!(module.functions.function_at(module.data.text.start.wrapping_sub(1)).is_none());
        assert!(module.functions.function_at(u64::MAX).is_none());
        assert!(module.functions.function_named("no.such.function").is_none());
    }
}

/// Instructions all over the program: entries, and places inside functions.
fn samples(image: &Image) -> Vec<u64> {
    let functions = image.module().functions.functions().enumerate();
    let chosen = functions.filter(|(i, f)| i % 7 == 0 || f.name().starts_with("main."));
    let places = chosen.flat_map(|(i, f)| [0, 1 + i as u64 % 40, f.size() / 2].map(|offset| (f.entry + offset, f.end)));
    // The runtime is asked for the return address behind; that must not be the next function.
    places.filter(|(pc, end)| pc + 1 < *end).map(|(pc, _)| pc).collect()
}

#[test]
fn lines_and_inlined_calls_are_those_that_the_runtime_tells() {
    for version in VERSIONS {
        // A position-independent program lies elsewhere in each run, so it is asked of its own stack below.
        for mode in [Mode::Default, Mode::Linked, Mode::Stripped] {
            let program = lab(version, mode);
            let image = Image::open(&program);
            let samples = samples(&image);
            let mut input = String::new();
            for pc in &samples {
                writeln!(input, "{pc}").expect("text");
            }
            let (_, answers) = documents(&ask(&program, "frames", &input));
            assert_eq!(answers.len(), samples.len());
            let (mut inlined, mut nameless) = (0, 0);
            for answer in answers {
                let pc = answer["PC"].as_u64().expect("a PC");
                let frames =
                    image.module().functions.frames(pc, &image.memory, image.module().data.gofunc).expect("frames");
                let frame = &frames[0];
                inlined += frame.inlined as usize;
                // The runtime prints generic functions without their type arguments.
                let name = match (frame.function.find('['), frame.function.rfind(']')) {
                    (Some(start), Some(end)) => {
                        format!("{}[...]{}", &frame.function[..start], &frame.function[end + 1..])
                    }
                    _ => frame.function.clone(),
                };
                let told = (name.as_str(), frame.file.as_deref().unwrap_or("?"), frame.line.unwrap_or(0) as u64);
                let expected = ["Function", "File"].map(|key| answer[key].as_str().expect("text"));
                // Older runtimes take the first name of the table for none.
                if expected[0].is_empty() {
                    nameless += 1;
                    continue;
                }
                assert_eq!(
                    told,
                    (expected[0], expected[1], answer["Line"].as_u64().expect("a line")),
                    "{version} {mode:?} at {pc:#x}"
                );
            }
            assert!(nameless < 4, "{version}: the runtime has no name for {nameless} places");
            assert!(inlined > 50, "{version}: {inlined} inlined calls are too few to prove anything");
        }
    }
}

#[test]
fn a_stack_unfolds_as_the_runtime_unfolds_it() {
    for version in VERSIONS {
        for mode in [Mode::Default, Mode::Pie, Mode::Linked, Mode::LinkedPie, Mode::Cgo] {
            let program = lab(version, mode);
            let (base, answers) = documents(&ask(&program, "stack", ""));
            let image = Image::load(&program, base);
            let stack = answers[0].as_array().expect("frames");
            let mut at = 0;
            let mut deepest = 0;
            while at < stack.len() {
                let pc = stack[at]["PC"].as_u64().expect("a PC") - 1;
                let data = &image.module().data;
                let frames = image.module().functions.frames(pc, &image.memory, data.gofunc).expect("frames");
                assert!(!frames.is_empty(), "{version} {mode:?}: nothing at {pc:#x}");
                for (frame, expected) in frames.iter().zip(&stack[at..]) {
                    assert_eq!(frame.function, expected["Function"].as_str().expect("a name"), "{version} {mode:?}");
                    assert_eq!(frame.file.as_deref(), expected["File"].as_str(), "{version} {mode:?}");
                    assert_eq!(frame.line.map(u64::from), expected["Line"].as_u64(), "{version} {mode:?}");
                }
                deepest = deepest.max(frames.len());
                at += frames.len();
            }
            // main.middle, and with it main.inner where the compiler likes that, are part of main.outer.
            assert_eq!(at, stack.len(), "{version} {mode:?}");
            assert!(deepest > 1, "{version} {mode:?} inlined nothing");
        }
    }
}

#[test]
fn module_data_is_found_in_stripped_programs_too() {
    for version in VERSIONS {
        let whole = Image::open(&lab(version, Mode::Default));
        let names =
            |image: &Image| image.module().functions.functions().map(|f| f.name().into_owned()).collect::<Vec<_>>();
        for mode in STRIPPED {
            let image = Image::open(&lab(version, mode));
            let mut lost = names(&whole);
            let here: std::collections::BTreeSet<_> = names(&image).into_iter().collect();
            lost.retain(|name| !here.contains(name));
            // A position-independent program is set up by other functions of the runtime.
            assert!(lost.len() < 3, "{version} {mode:?} lost {lost:?}");
        }
        let symbols = symbols(version, &lab(version, Mode::Default));
        let address = |wanted: &str| symbols.iter().find(|s| s.3 == wanted).map(|s| s.0);
        let data = &whole.module().data;
        assert_eq!(Some(data.address), address("runtime.firstmoduledata"), "{version}");
        assert_eq!(
            Some(data.types.start),
            address("runtime.types").or(address("type:*")).or(address("type.*")),
            "{version}"
        );
        assert_eq!(Some(data.bss.start), address("runtime.bss"), "{version}");
        assert_eq!(Some(data.noptrbss.end), address("runtime.enoptrbss"), "{version}");
    }
}

#[test]
fn build_info_is_what_go_version_prints() {
    for version in VERSIONS {
        for mode in [Mode::Default, Mode::LinkedPie, Mode::NoSections] {
            let program = lab(version, mode);
            let info = BuildInfo::of_file(&std::fs::read(&program).expect("the lab")).expect("build info");
            // Go's own reader wants section headers to find nothing but the segments.
            let printed =
                build_info(version, &lab(version, if mode == Mode::NoSections { Mode::Default } else { mode }));
            let mut lines = printed.lines();
            let first = lines.next().expect("the version");
            assert!(first.ends_with(&format!(": {}", info.go.text)), "{first}");
            let mut expected = Vec::new();
            for line in lines {
                let fields: Vec<&str> = line.split('\t').collect();
                match fields[1] {
                    "path" => assert_eq!(fields[2], info.path),
                    "mod" => assert_eq!(Some(fields[2]), info.main.as_ref().map(|main| main.path.as_str())),
                    "build" => {
                        let (key, value) = fields[2].split_once('=').expect("a setting");
                        expected.push((key.to_string(), value.trim_matches('"').to_string()));
                    }
                    other => panic!("{other} is new in the output of go version -m"),
                }
            }
            assert_eq!(info.settings, expected, "{version} {mode:?}");
            assert_eq!(info.arch(), Some("amd64"));
        }
    }
}

#[test]
fn hash_state_is_where_the_symbols_are() {
    for version in VERSIONS {
        for mode in [Mode::Default, Mode::Arm] {
            let program = lab(version, mode);
            let image = Image::open(&program);
            let go = image.version.number();
            let symbols = symbols(version, &program);
            let expected = hash_state::variables(go).map(|name| {
                symbols.iter().find(|s| s.3 == name).unwrap_or_else(|| panic!("{version} has no {name}")).0
            });
            let found = hashstate::locate(&image.memory, image.module(), go, mode == Mode::Arm);
            assert_eq!(found, Some(expected), "{version} {mode:?}");
        }
    }
}

/// The compiler describes the stack twice: for the runtime, and for debuggers in `.debug_frame`.
#[test]
fn stack_depths_are_those_of_the_debug_information() {
    use gimli::{BaseAddresses, CfaRule, DebugFrame, UnwindContext, UnwindSection};
    use object::{Object, ObjectSection};
    for version in VERSIONS {
        let program = lab(version, Mode::Default);
        let image = Image::open(&program);
        let file = std::fs::read(&program).expect("the lab");
        let object = object::File::parse(&file[..]).expect("an ELF file");
        let section = object.section_by_name(".debug_frame").expect("frames").uncompressed_data().expect("frames");
        let mut frames = DebugFrame::new(&section, gimli::LittleEndian);
        frames.set_address_size(8);
        let mut context = UnwindContext::new();
        let (mut compared, mut deepest) = (0, 0);
        for pc in samples(&image) {
            let bases = BaseAddresses::default();
            let found = frames.unwind_info_for_address(&bases, &mut context, pc, DebugFrame::cie_from_offset);
            let function = image.module().functions.function_at(pc).expect("a function");
            let (Ok(row), Some(depth)) = (found, function.stack_delta(pc)) else { continue };
            let CfaRule::RegisterAndOffset { offset, .. } = row.cfa() else {
                panic!("{version}: an odd rule at {pc:#x}")
            };
            // The frame's address is above the return address.
            assert_eq!(depth + 8, *offset, "{version}: {} at {pc:#x}", function.name());
            compared += 1;
            deepest = deepest.max(depth);
        }
        assert!(compared > 1000 && deepest > 200, "{version}: {compared} compared, {deepest} deep");
    }
}
