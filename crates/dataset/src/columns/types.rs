//! The type of a field as it is signed: what is stored, without the physical layout.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use sentry_manifest::limits::{MAX_FIELDS, MAX_RECORD_DEPTH};

/// The text of a type that stands in a statement. Dictionaries, runs, long offsets, views, names of list items, nullability and metadata are
/// ways to store the same values, and are left out; a map is a list of structures.
///
/// # Errors
/// Why values of the type cannot stand in a record.
pub fn signed_type(data_type: &DataType) -> Result<String, String> {
    plain(data_type, 1).map(|plain| plain.to_string())
}

fn plain(data_type: &DataType, depth: usize) -> Result<DataType, String> {
    if depth > MAX_RECORD_DEPTH {
        return Err(format!("values are nested deeper than {MAX_RECORD_DEPTH} levels"));
    }
    let item = |field: &Field| Ok::<_, String>(Arc::new(Field::new_list_field(plain(field.data_type(), depth + 1)?, true)));
    Ok(match data_type {
        DataType::Dictionary(_, value) => plain(value, depth)?,
        DataType::RunEndEncoded(_, values) => plain(values.data_type(), depth)?,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::List(field) | DataType::LargeList(field) | DataType::ListView(field) | DataType::LargeListView(field) => {
            DataType::List(item(field)?)
        }
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field)?, *size),
        DataType::Map(entries, _) => DataType::List(Arc::new(Field::new_list_field(entries_of_map(entries, depth + 1)?, true))),
        DataType::Struct(fields) => structure(fields, depth)?,
        DataType::Union(..) | DataType::Interval(_) => return Err(format!("values of type {data_type} cannot be signed")),
        other => other.clone(),
    })
}

/// Entries of a map have fields of these names, whatever their writer calls them.
pub const MAP_FIELDS: [&str; 2] = ["key", "value"];

fn entries_of_map(entries: &Field, depth: usize) -> Result<DataType, String> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == MAP_FIELDS.len() => {
            let named = fields.iter().zip(MAP_FIELDS).map(|(field, name)| Field::clone(field).with_name(name));
            structure(&named.collect(), depth)
        }
        other => Err(format!("entries of a map are no {other}")),
    }
}

/// Fields sorted by name, as in a record.
fn structure(fields: &Fields, depth: usize) -> Result<DataType, String> {
    if fields.len() > MAX_FIELDS {
        return Err(format!("a structure has at most {MAX_FIELDS} fields"));
    }
    let mut plain_fields = Vec::with_capacity(fields.len());
    for field in fields {
        plain_fields.push(Field::new(field.name(), plain(field.data_type(), depth + 1)?, true));
    }
    plain_fields.sort_unstable_by(|one, other| one.name().as_bytes().cmp(other.name().as_bytes()));
    Ok(DataType::Struct(plain_fields.into()))
}
