//! How many rows are turned into values at a time. A few bytes of a column can stand for many values: the same list in each row, or a list of a
//! million nulls.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, RecordBatch};
use arrow_schema::DataType;

use super::resolve;

/// Rows at a time, at most.
const PIECE_ROWS: usize = 1 << 12;

/// Values at a time, at most, unless one row has more.
const PIECE_VALUES: u64 = 1 << 18;

/// Values of one row at most: ten minutes of sound, sample by sample, take 27 millions.
const MAX_ROW_VALUES: u64 = 1 << 25;

/// The rows of a batch, some at a time.
///
/// # Errors
/// The number of a row that has too many values.
pub fn pieces(batch: &RecordBatch) -> Result<Vec<Range<usize>>, usize> {
    let lists: Vec<&ArrayRef> = batch.columns().iter().filter(|column| has_lists(column.data_type())).collect();
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut values = 0;
    for row in 0..batch.num_rows() {
        let of_row = lists.iter().try_fold(0, |sum, column| add(sum, column, row, row + 1)).ok_or(row)?;
        values += of_row;
        match pieces.last_mut() {
            Some(piece) if piece.len() < PIECE_ROWS && values <= PIECE_VALUES => piece.end = row + 1,
            _ => {
                pieces.push(row..row + 1);
                values = of_row;
            }
        }
    }
    Ok(pieces)
}

pub fn too_many() -> String {
    format!("it has more than {MAX_ROW_VALUES} values in lists")
}

fn has_lists(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..)
        | DataType::Map(..) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_lists(field.data_type())),
        DataType::Dictionary(_, value) => has_lists(value),
        DataType::RunEndEncoded(_, values) => has_lists(values.data_type()),
        _ => false,
    }
}

/// `sum` and the values in some rows of a column, those in lists included. None if they are too many.
fn add(sum: u64, array: &ArrayRef, start: usize, end: usize) -> Option<u64> {
    let sum = sum + end.checked_sub(start)? as u64;
    if sum > MAX_ROW_VALUES {
        return None;
    }
    match array.data_type() {
        DataType::List(_) => of_list::<i32>(sum, array, start, end),
        DataType::LargeList(_) => of_list::<i64>(sum, array, start, end),
        DataType::ListView(_) => of_views::<i32>(sum, array, start, end),
        DataType::LargeListView(_) => of_views::<i64>(sum, array, start, end),
        DataType::FixedSizeList(_, size) => {
            let (list, size) = (array.as_fixed_size_list(), usize::try_from(*size).ok()?);
            add(sum, list.values(), start.checked_mul(size)?, end.checked_mul(size)?)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (start, end) = (map.value_offsets()[start] as usize, map.value_offsets()[end] as usize);
            map.entries().columns().iter().try_fold(sum, |sum, column| add(sum, column, start, end))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().try_fold(sum, |sum, column| add(sum, column, start, end)),
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) if has_lists(array.data_type()) => {
            (start..end).filter(|row| array.is_valid(*row)).try_fold(sum, |sum, row| match resolve(array, row) {
                Ok((values, row)) => add(sum, values, row, row + 1),
                // What is wrong with it is found when it is read.
                Err(_) => Some(sum),
            })
        }
        _ => Some(sum),
    }
}

fn of_list<O: OffsetSizeTrait>(sum: u64, array: &ArrayRef, start: usize, end: usize) -> Option<u64> {
    let list = array.as_list::<O>();
    add(sum, list.values(), list.value_offsets()[start].as_usize(), list.value_offsets()[end].as_usize())
}

fn of_views<O: OffsetSizeTrait>(sum: u64, array: &ArrayRef, start: usize, end: usize) -> Option<u64> {
    let list = array.as_list_view::<O>();
    (start..end).try_fold(sum, |sum, row| {
        let first = list.value_offset(row).as_usize();
        add(sum, list.values(), first, first.checked_add(list.value_size(row).as_usize())?)
    })
}
