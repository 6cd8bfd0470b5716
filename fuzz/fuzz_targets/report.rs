use mapscope::evidence::profile_report::profile_report;

/// Reads a profile as `mapscope profile` does: either an answer that is safe to show, or one sentence.
pub fn report(data: &[u8]) {
    match profile_report(&[("a", data), ("b", data)], true) {
        Ok(json) => {
            assert!(!json.contains('\n'));
            serde_json::from_str::<serde_json::Value>(&json).expect("one JSON document");
            let text = profile_report(&[("a", data)], false).expect("it was read before");
            assert!(!text.contains('\u{1b}'));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}
