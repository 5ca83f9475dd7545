//! A reader for files of vectors that hold one field a line: NIST's `Name = value` and the `"name": value,` of JSON.

#[allow(clippy::duplicate_mod, reason = "each of the files is used alone as well")]
#[path = "repository.rs"]
mod repository;

use std::array;
use std::fs;

/// The records of a file: the values of the fields `names`, which every record has in this order.
///
/// `path` starts at the root of the repository. `count` records must be there, so that a file that is cut or that no
/// longer parses fails.
pub fn records<const N: usize>(path: &str, names: [&str; N], count: usize) -> Vec<[String; N]> {
    let file = repository::root().join(path);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let fields: Vec<(usize, &str)> = text.lines().filter_map(|line| field(line, &names)).collect();
    for (index, (position, _)) in fields.iter().enumerate() {
        assert_eq!(*position, index % N, "{path}: field {index} is out of order");
    }
    assert_eq!(fields.len(), count * N, "{path}: fields of {count} records");
    fields.chunks_exact(N).map(|record| array::from_fn(|i| record[i].1.to_owned())).collect()
}

/// Which of `names` a line gives, and its value.
fn field<'a>(line: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let (name, value) = line.split_once(" = ").or_else(|| line.split_once("\": "))?;
    let bare = |text: &'a str| text.trim_matches([' ', '"', ',']);
    let position = names.iter().position(|&wanted| wanted == bare(name))?;
    Some((position, bare(value)))
}
