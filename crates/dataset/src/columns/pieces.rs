//! How many rows are turned into values at a time. A few bytes of a column can stand for many values: the same list in each row,
//! or a list of a million nulls.

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int8Type;
    use arrow_array::{DictionaryArray, Int8Array, Int64Array, ListArray, ListViewArray, NullArray};
    use arrow_buffer::{OffsetBuffer, ScalarBuffer};
    use arrow_schema::Field;

    use super::*;

    fn batch(array: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("x", array, true)]).unwrap()
    }

    fn nulls(lengths: &[usize]) -> ListArray {
        let item = Arc::new(Field::new_list_field(DataType::Null, true));
        ListArray::new(item, OffsetBuffer::from_lengths(lengths.iter().copied()), Arc::new(NullArray::new(lengths.iter().sum())), None)
    }

    #[test]
    fn rows_without_lists_are_some_thousands_at_a_time() {
        let rows = batch(Arc::new(Int64Array::from(vec![0; 10_000])));
        assert_eq!(pieces(&rows), Ok(vec![0..4096, 4096..8192, 8192..10_000]));
        assert_eq!(pieces(&rows.slice(0, 0)), Ok(vec![]));
    }

    #[test]
    fn rows_with_long_lists_are_few_at_a_time() {
        let rows = batch(Arc::new(nulls(&[200_000, 50_000, 20_000, 300_000, 1])));
        assert_eq!(pieces(&rows), Ok(vec![0..2, 2..3, 3..4, 4..5]));
        assert_eq!(pieces(&rows.slice(1, 3)), Ok(vec![0..2, 2..3]));
    }

    #[test]
    fn a_list_that_many_rows_refer_to_counts_in_each() {
        let keys = Int8Array::from(vec![Some(0), Some(0), None, Some(0)]);
        let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(nulls(&[200_000])));
        assert_eq!(pieces(&batch(Arc::new(dictionary))), Ok(vec![0..1, 1..3, 3..4]));
        let item = Arc::new(Field::new_list_field(DataType::Null, true));
        let (offsets, sizes) = (ScalarBuffer::from(vec![0; 3]), ScalarBuffer::from(vec![200_000; 3]));
        let views = ListViewArray::new(item, offsets, sizes, Arc::new(NullArray::new(200_000)), None);
        assert_eq!(pieces(&batch(Arc::new(views))), Ok(vec![0..1, 1..2, 2..3]));
    }

    #[test]
    fn a_row_of_too_many_values_is_refused() {
        assert_eq!(pieces(&batch(Arc::new(nulls(&[1, 1 << 26])))), Err(1));
        // Views within views: 1000 to the power of 5 values in some kilobytes.
        let mut views: ArrayRef = Arc::new(NullArray::new(1000));
        for _ in 0..5 {
            let item = Arc::new(Field::new_list_field(views.data_type().clone(), true));
            let (offsets, sizes) = (ScalarBuffer::from(vec![0; 1000]), ScalarBuffer::from(vec![1000; 1000]));
            views = Arc::new(ListViewArray::new(item, offsets, sizes, views, None));
        }
        assert_eq!(pieces(&batch(views)), Err(0));
    }
}
