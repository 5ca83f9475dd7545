//! Sample tables: what is read is written alike, and every sample is found.

use sentry_hash::lattice::Entry;
use sentry_hash::table::Table;

pub fn run(data: &[u8]) -> bool {
    let Ok(table) = Table::parse(data.to_vec()) else { return false };
    let entries: Vec<Entry> = table.entries().collect();
    assert_eq!(entries.len(), table.count());
    for entry in &entries {
        assert_eq!(table.check(entry), Ok(()));
        let next = Entry { id: entry.id.wrapping_add(1), ..*entry };
        assert_eq!(table.find(next.id).is_some(), entries.iter().any(|other| other.id == next.id));
    }
    let again = Table::from_entries(entries.into_iter().rev().collect()).expect("the ids of a table are unique");
    assert_eq!(again, table);
    true
}
