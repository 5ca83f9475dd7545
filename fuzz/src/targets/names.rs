//! Names of files and shards, and ignored paths: a name that is accepted stays inside the model.

use sentry_manifest::{EntryKind, IgnoreRules, ModelPath, ResourcePath, parse_shard_name, printable};

pub fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    assert!(!printable(text).chars().any(char::is_control));
    let (name, ignored) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok((path, shard)) = parse_shard_name(name) {
        assert!(shard.start < shard.end, "{path:?}");
    }
    let _ = ResourcePath::new(name);
    let Ok(path) = ModelPath::new(name) else { return false };
    assert_eq!(path.as_str(), name, "a name is taken as it is or not at all");
    assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")), "{name:?}");
    assert!(!name.contains(['\\', '\0']) && name.len() <= sentry_manifest::limits::MAX_NAME_BYTES);
    let mut rules = IgnoreRules::default();
    rules.add(ignored);
    if let Some(hidden) = rules.hides(&path, EntryKind::File) {
        assert!(path.is_within(hidden), "{hidden:?} does not hold {name:?}");
    }
    true
}
