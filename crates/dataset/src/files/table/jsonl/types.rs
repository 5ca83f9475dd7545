//! Which type all values of a key have.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, NullArray, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use sentry_manifest::limits::MAX_FIELDS;
use sentry_manifest::printable;

use super::value::Json;

/// Largest whole number, without its sign, up to which every one is a float.
const LARGEST_EXACT: u64 = 1 << 53;

/// The type of values; each may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Nothing but null.
    Null,
    Bool,
    Integer,
    /// Whole numbers too, if they are exact.
    Float,
    Text,
    List(Box<Type>),
    Object(BTreeMap<String, Type>),
}

type Reason = String;

impl Type {
    /// The type of a line whose keys are the columns of a schema; none if they are of types that JSON has not.
    pub fn of_line(schema: &Schema) -> Option<Self> {
        Self::of_fields(schema.fields())
    }

    fn of_fields(fields: &Fields) -> Option<Self> {
        let field = |field: &Arc<Field>| Some((field.name().clone(), Self::of(field.data_type())?));
        fields.iter().map(field).collect::<Option<BTreeMap<_, _>>>().filter(|types| types.len() == fields.len()).map(Self::Object)
    }

    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool,
            DataType::Int64 => Self::Integer,
            DataType::Float64 => Self::Float,
            DataType::Utf8 => Self::Text,
            DataType::List(item) => Self::List(Box::new(Self::of(item.data_type())?)),
            DataType::Struct(fields) => Self::of_fields(fields)?,
            _ => return None,
        })
    }

    /// The columns of lines of this type.
    pub fn schema(&self) -> Schema {
        match self {
            Self::Object(types) => Schema::new(fields(types)),
            _ => Schema::empty(),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::List(item) => DataType::List(list_field(item)),
            Self::Object(types) => DataType::Struct(fields(types)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a truth value",
            Self::Integer => "a whole number",
            Self::Float => "a float",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The narrowest type that has this value too.
    ///
    /// # Errors
    /// There is none.
    pub fn add(&mut self, value: &Json) -> Result<(), Reason> {
        if *self == Self::Null {
            *self = match value {
                Json::Null => return Ok(()),
                Json::Bool(_) => Self::Bool,
                Json::Integer(_) => Self::Integer,
                Json::Float(_) => Self::Float,
                Json::Text(_) => Self::Text,
                Json::List(_) => Self::List(Box::new(Self::Null)),
                Json::Object(_) => Self::Object(BTreeMap::new()),
            };
        }
        match (&mut *self, value) {
            (Self::List(item), Json::List(values)) => values.iter().try_for_each(|value| item.add(value)),
            (Self::Object(types), Json::Object(values)) => values.iter().try_for_each(|(key, value)| {
                if !types.contains_key(key) {
                    if types.len() == MAX_FIELDS {
                        return Err(format!("there are more than {MAX_FIELDS} keys"));
                    }
                    types.insert(key.clone(), Self::Null);
                }
                let known = types.get_mut(key).expect("it is there now");
                known.add(value).map_err(|reason| in_key(key, &reason))
            }),
            (Self::Integer, Json::Float(_)) => {
                *self = Self::Float;
                Ok(())
            }
            (known, value) => known.check(value),
        }
    }

    /// Whether a value is of this type.
    pub fn check(&self, value: &Json) -> Result<(), Reason> {
        match (self, value) {
            (_, Json::Null)
            | (Self::Bool, Json::Bool(_))
            | (Self::Integer, Json::Integer(_))
            | (Self::Float, Json::Float(_))
            | (Self::Text, Json::Text(_)) => Ok(()),
            (Self::Float, Json::Integer(integer)) if integer.unsigned_abs() <= LARGEST_EXACT => Ok(()),
            (Self::Float, Json::Integer(integer)) => Err(format!("the number {integer} is among floats, and no float is the same")),
            (Self::List(item), Json::List(values)) => values.iter().try_for_each(|value| item.check(value)),
            (Self::Object(types), Json::Object(values)) => values.iter().try_for_each(|(key, value)| match types.get(key) {
                Some(known) => known.check(value).map_err(|reason| in_key(key, &reason)),
                None => Err(format!("the key \"{}\" is none of the fields", printable(key))),
            }),
            (known, value) => Err(format!("{} is expected, and this is {}", known.name(), value.name())),
        }
    }

    /// Values of this type as a column; they have been checked. What is not there is null.
    pub fn array(&self, values: &[Option<&Json>]) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Null => Arc::new(NullArray::new(values.len())),
            Self::Bool => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
                Some(Json::Bool(truth)) => Some(*truth),
                _ => None,
            }))),
            Self::Integer => Arc::new(Int64Array::from_iter(values.iter().map(|value| match value {
                Some(Json::Integer(integer)) => Some(*integer),
                _ => None,
            }))),
            Self::Float => Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
                Some(Json::Float(float)) => Some(*float),
                Some(Json::Integer(integer)) => Some(*integer as f64),
                _ => None,
            }))),
            Self::Text => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
                Some(Json::Text(text)) => Some(text),
                _ => None,
            }))),
            Self::List(item) => list(item, values)?,
            Self::Object(types) => object(types, values)?,
        })
    }
}

fn list(item: &Type, values: &[Option<&Json>]) -> Result<ArrayRef, ArrowError> {
    let lists: Vec<Option<&[Json]>> = values
        .iter()
        .map(|value| match value {
            Some(Json::List(items)) => Some(items.as_slice()),
            _ => None,
        })
        .collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, <[Json]>::len)));
    let items: Vec<Option<&Json>> = lists.iter().flatten().flat_map(|list| list.iter()).map(Some).collect();
    let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
    Ok(Arc::new(ListArray::try_new(list_field(item), offsets, item.array(&items)?, Some(nulls))?))
}

fn object(types: &BTreeMap<String, Type>, values: &[Option<&Json>]) -> Result<ArrayRef, ArrowError> {
    let nulls: NullBuffer = values.iter().map(|value| matches!(value, Some(Json::Object(_)))).collect();
    let column = |(key, known): (&String, &Type)| {
        let values: Vec<_> = values.iter().map(|value| value.and_then(|value| field_of(value, key))).collect();
        known.array(&values)
    };
    let columns = types.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    if columns.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(values.len(), Some(nulls))));
    }
    Ok(Arc::new(StructArray::try_new(fields(types), columns, Some(nulls))?))
}

fn field_of<'a>(object: &'a Json, key: &str) -> Option<&'a Json> {
    let Json::Object(fields) = object else { return None };
    fields.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok().map(|place| &fields[place].1)
}

fn list_field(item: &Type) -> Arc<Field> {
    Arc::new(Field::new_list_field(item.data_type(), true))
}

fn fields(types: &BTreeMap<String, Type>) -> Fields {
    types.iter().map(|(name, field)| Field::new(name, field.data_type(), true)).collect()
}

fn in_key(key: &str, reason: &str) -> Reason {
    format!("\"{}\": {reason}", printable(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Json {
        Json::parse_line(text.as_bytes()).unwrap()
    }

    fn types_of(lines: &[&str]) -> Result<Type, Reason> {
        let mut types = Type::Null;
        lines.iter().try_for_each(|text| types.add(&line(text)))?;
        Ok(types)
    }

    #[test]
    fn types_are_those_of_all_lines_in_any_order() {
        let lines = ["{\"a\": null, \"b\": []}", "{\"a\": 1}", "{\"b\": [[{\"c\": \"x\"}], null]}", "{\"a\": 2.5, \"d\": true}"];
        let types = types_of(&lines).unwrap();
        let shown: Vec<String> = types
            .schema()
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), crate::columns::signed_type(field.data_type()).unwrap()))
            .collect();
        assert_eq!(shown, ["a Float64", "b List(List(Struct(\"c\": Utf8)))", "d Boolean"]);
        let backwards: Vec<&str> = lines.into_iter().rev().collect();
        assert_eq!(types_of(&backwards).unwrap(), types);
        assert_eq!(Type::of_line(&types.schema()), Some(types));
    }

    #[test]
    fn values_of_other_types_are_refused() {
        for (lines, expected) in [
            (["{\"a\": 1}", "{\"a\": \"1\"}"], "\"a\": a whole number is expected, and this is text"),
            (["{\"a\": true}", "{\"a\": 1}"], "\"a\": a truth value is expected, and this is a whole number"),
            (["{\"a\": [1]}", "{\"a\": 1}"], "\"a\": a list is expected, and this is a whole number"),
            (["{\"a\": {\"b\": [0]}}", "{\"a\": {\"b\": [{}]}}"], "\"a\": \"b\": a whole number is expected, and this is an object"),
            (["{\"a\": 0.5}", "{\"a\": 9007199254740993}"], "\"a\": the number 9007199254740993 is among floats, and no float is the same"),
        ] {
            assert_eq!(types_of(&lines).unwrap_err(), expected);
        }
        // Found only when the values are read: the large number came first.
        let types = types_of(&["{\"a\": 9007199254740993}", "{\"a\": 0.5}"]).unwrap();
        assert!(types.check(&line("{\"a\": 9007199254740993}")).is_err());
        assert_eq!(types.check(&line("{\"z\": 1}")).unwrap_err(), "the key \"z\" is none of the fields");
    }
}
