//! Our hashes against vectors that the Go runtime itself computed, 1.19 to 1.27, amd64 and arm64.

use mapscope::map::hash::{Algorithm, HashState};
use mapscope::map::keys::{KeyHash, Keys, Recipe};
use mapscope::memory::{Memory, MemoryError, Place, Region};
use mapscope::types::{Field, GoType, Kind, Shape, TypeId, TypeSource};
use serde_json::Value;
use std::sync::Arc;

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

pub fn state(set: &Value) -> HashState {
    let algorithm = match (set["use_aeshash"].as_bool().unwrap(), set["arch"].as_str().unwrap()) {
        (true, "amd64") => Algorithm::AmdAes,
        (true, _) => Algorithm::ArmAes,
        (false, _) => Algorithm::Fallback,
    };
    let schedule: [u8; 128] = unhex(&set["aeskeysched"]).try_into().unwrap();
    let keys: Vec<u64> = set["hashkey"].as_array().unwrap().iter().map(number).collect();
    let minor = set["go"].as_str().unwrap().split('.').nth(1).unwrap().parse().unwrap();
    HashState::new(algorithm, &schedule, keys.try_into().unwrap(), (1, minor))
}

#[test]
fn memhash_and_its_fixed_forms_equal_the_runtime_s() {
    let file: Value = serde_json::from_str(include_str!("data/hash-vectors.json")).unwrap();
    let mut checked = 0;
    for set in file["sets"].as_array().unwrap() {
        for state in [state(set), state(set).portable()] {
            for vector in set["vectors"].as_array().unwrap() {
                let (key, seed) = (unhex(&vector["key_bytes"]), number(&vector["seed"]));
                let hash = match vector["kind"].as_str().unwrap() {
                    "memhash" => state.memhash(&key, seed),
                    "memhash32" => state.memhash32(u32::from_le_bytes(key[..4].try_into().unwrap()), seed),
                    "memhash64" => state.memhash64(u64::from_le_bytes(key[..8].try_into().unwrap()), seed),
                    _ => continue,
                };
                assert_eq!(hash, number(&vector["hash"]), "{} {} {vector}", set["go"], set["arch"]);
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "only {checked} vectors");
}

/// The types that the vectors name, and memory that holds their strings and dynamic values.
struct Fake {
    types: Vec<GoType>,
    bytes: Vec<u8>,
}

const BASE: u64 = 0x10000;

impl Fake {
    fn add(&mut self, name: &str, kind: Kind, size: u64, shape: Shape) -> TypeId {
        let id = TypeId::Runtime(self.types.len() as u64);
        self.types.push(GoType { id, name: name.into(), size, kind, shape, descriptor: None });
        id
    }

    fn plain(&mut self, name: &str) -> TypeId {
        let kind = match name {
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "uint8" => Kind::Uint8,
            "int8" => Kind::Int8,
            "int16" => Kind::Int16,
            "uint16" => Kind::Uint16,
            "bool" => Kind::Bool,
            "float32" => Kind::Float32,
            "float64" => Kind::Float64,
            "complex64" => Kind::Complex64,
            "complex128" => Kind::Complex128,
            "string" => Kind::String,
            _ => panic!("{name}"),
        };
        self.add(name, kind, kind.fixed_size().unwrap(), Shape::Plain)
    }

    /// A type by its name in Go: the few forms that the vectors use.
    fn parse(&mut self, name: &str) -> TypeId {
        if let Some(rest) = name.strip_prefix('[') {
            let (len, elem) = rest.split_once(']').unwrap();
            let (len, elem) = (len.parse().unwrap(), self.parse(elem));
            let size = len * self.get(elem).size;
            return self.add(name, Kind::Array, size, Shape::Array { elem, len });
        }
        if let Some(fields) = name.strip_prefix("struct{").and_then(|rest| rest.strip_suffix('}')) {
            return self.parse_struct(name, fields);
        }
        match name {
            "any" => self.add(name, Kind::Interface, 16, Shape::Interface { methods: false }),
            "interface{M()}" => self.add(name, Kind::Interface, 16, Shape::Interface { methods: true }),
            "*int" => self.add(name, Kind::Pointer, 8, Shape::Pointer(None)),
            _ => self.plain(name),
        }
    }

    fn parse_struct(&mut self, name: &str, fields: &str) -> TypeId {
        let (mut list, mut end, mut widest) = (Vec::new(), 0u64, 1u64);
        for group in fields.split("; ").filter(|group| !group.is_empty()) {
            let (names, ty) = group.rsplit_once(' ').unwrap();
            let ty = self.parse(ty);
            let align = self.align(ty);
            for field in names.split(", ").flat_map(|names| names.split(',')) {
                let offset = end.next_multiple_of(align);
                list.push(Field { name: field.trim().into(), offset, ty, embedded: false });
                end = offset + self.get(ty).size;
            }
            widest = widest.max(align);
        }
        self.add(name, Kind::Struct, end.next_multiple_of(widest), Shape::Struct(list))
    }

    fn align(&self, ty: TypeId) -> u64 {
        match &self.get(ty).shape {
            Shape::Array { elem, .. } => self.align(*elem),
            _ => self.get(ty).size.clamp(1, 8),
        }
    }

    fn get(&self, id: TypeId) -> &GoType {
        match id {
            TypeId::Runtime(at) => &self.types[at as usize],
            _ => panic!("{id:?}"),
        }
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let address = BASE + self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        address
    }
}

impl Memory for Fake {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = address.checked_sub(BASE).and_then(|at| self.bytes.get(at as usize..)?.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(MemoryError { address, place: Place::Core })?);
        Ok(())
    }

    fn regions(&self) -> Vec<Region> {
        Vec::new()
    }

    fn place(&self) -> Place {
        Place::Core
    }
}

impl TypeSource for Fake {
    fn load(&self, id: TypeId) -> mapscope::Result<Arc<GoType>> {
        Ok(Arc::new(self.get(id).clone()))
    }

    fn by_name(&self, _name: &str) -> mapscope::Result<Option<TypeId>> {
        Ok(None)
    }

    /// Descriptors hold the number of their type in the first word.
    fn by_descriptor(&self, address: u64) -> mapscope::Result<TypeId> {
        let memory: &dyn Memory = self;
        Ok(TypeId::Runtime(memory.u64(address)?))
    }

    fn function_name(&self, _pc: u64) -> Option<String> {
        None
    }
}

/// The hasher function that a compiler of this version gives a map with such keys.
fn hasher_name(ty: &GoType, name: &str, go: (u32, u32)) -> String {
    let signature = match name {
        "struct{A int32; _ int32; B int64}" => "M4K4M8",
        "struct{A int8; B int64}" => "M1K7M8",
        "struct{A int32; S string; B float64; C uint16}" => "M4K4SGM2",
        "struct{A int64; F float32; G, H int32; I any}" => "M8FM8K4E",
        "struct{A int32; B [3]int8; C string; D int64; E bool}" => "M7K1SM9",
        "[2]string" => "SS",
        "[2]float32" => "FF",
        _ => "",
    };
    if !signature.is_empty() {
        return if go >= (1, 27) { format!("type:.hash.{signature}") } else { format!("type:.hash.{name}") };
    }
    let function = match (ty.kind, ty.size) {
        (Kind::String, _) => "strhash",
        (Kind::Float32, _) => "f32hash",
        (Kind::Float64, _) => "f64hash",
        (Kind::Complex64, _) => "c64hash",
        (Kind::Complex128, _) => "c128hash",
        (Kind::Interface, _) if name == "any" => "nilinterhash",
        (Kind::Interface, _) => "interhash",
        (_, 0) => "memhash0",
        (_, 1) => "memhash8",
        (_, 2) => "memhash16",
        (_, 4) => "memhash32",
        (_, 8) => "memhash64",
        (_, 16) => "memhash128",
        _ => "memhash_varlen",
    };
    format!("runtime.{function}")
}

/// The key's bytes with its pointers led to where the fake memory holds what they point to.
fn key_bytes(fake: &mut Fake, name: &str, vector: &Value) -> Vec<u8> {
    let mut key = unhex(&vector["key_bytes"]);
    let text = vector.get("string_bytes").map(unhex).unwrap_or_default();
    let note = vector["note"].as_str().unwrap_or("");
    let put = |key: &mut Vec<u8>, at: usize, address: u64| key[at..at + 8].copy_from_slice(&address.to_le_bytes());
    match name {
        "string" => {
            key = [[0; 8], (text.len() as u64).to_le_bytes()].concat();
            let address = fake.store(&text);
            put(&mut key, 0, address);
        }
        "[2]string" => {
            let (a, b) = (fake.store(&text[..2]), fake.store(&text[2..]));
            put(&mut key, 0, a);
            put(&mut key, 16, b);
        }
        _ if name.contains("; S string") || name.contains("; C string") => {
            let address = fake.store(&text);
            put(&mut key, 8, address);
        }
        "any" | "interface{M()}" => {
            key = vec![0; 16];
            if note == "nil interface" {
                return key;
            }
            let dynamic = note.strip_prefix("dynamic ").unwrap();
            let dynamic = dynamic.split(" (").next().unwrap().replace("A,B", "A, B").replace("X,Y", "X, Y");
            let ty = fake.parse(&dynamic);
            let TypeId::Runtime(number) = ty else { panic!() };
            let direct = dynamic == "*int";
            let mut descriptor = number.to_le_bytes().to_vec();
            descriptor.resize(48, 0);
            descriptor[23] = if direct { 1 << 5 } else { 0 };
            let descriptor = fake.store(&descriptor);
            let word = match name {
                "any" => descriptor,
                _ => fake.store(&[[0; 8], descriptor.to_le_bytes()].concat()),
            };
            put(&mut key, 0, word);
            let value = match dynamic.as_str() {
                "string" => {
                    let address = fake.store(&text);
                    [address.to_le_bytes(), (text.len() as u64).to_le_bytes()].concat()
                }
                _ => unhex(&vector["dynamic_bytes"]),
            };
            let data = if direct { u64::from_le_bytes(value[..8].try_into().unwrap()) } else { fake.store(&value) };
            put(&mut key, 8, data);
        }
        _ => {}
    }
    key
}

#[test]
fn hashes_of_typed_keys_equal_the_runtime_s() {
    let file: Value = serde_json::from_str(include_str!("data/hash-vectors.json")).unwrap();
    let mut checked = 0;
    for set in file["sets"].as_array().unwrap() {
        let state = state(set);
        for vector in set["vectors"].as_array().unwrap().iter().filter(|v| v["kind"] == "map") {
            let name = vector["type"].as_str().unwrap();
            let mut fake = Fake { types: Vec::new(), bytes: Vec::new() };
            let ty = fake.parse(name);
            let key = key_bytes(&mut fake, name, vector);
            let hasher = hasher_name(fake.get(ty), name, state.go());
            let size = fake.get(ty).size;
            let recipe = Recipe::of_hasher(&fake, &fake, ty, &hasher, size, state.go()).unwrap().expect(&hasher);
            let hash = Keys::new(&fake, &fake).hash(&state, &recipe, &key, number(&vector["seed"])).unwrap();
            assert_eq!(hash, KeyHash::Known(number(&vector["hash"])), "{} {} {vector}", set["go"], set["arch"]);
            checked += 1;
        }
    }
    assert!(checked > 900, "only {checked} vectors");
}
