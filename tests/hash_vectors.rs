//! Our hashes against vectors that the Go runtime itself computed, 1.19 to 1.27, amd64 and arm64.

use mapscope::map::hash::{Algorithm, HashState};
use serde_json::Value;

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
