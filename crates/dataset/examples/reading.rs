//! Reads Parquet files and does nothing with their rows: what signing them is held against. `reading FILE…` prints seconds.
//!
//! The same library as it reads by itself, by all threads, a row group each. (Signing reads text and bytes as views of the pages that
//! hold them, and uses the memory of pages again.)

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let began = Instant::now();
    let opened: Vec<(&String, ArrowReaderMetadata)> = files
        .iter()
        .map(|path| {
            let file = File::open(path).expect("the file can be opened");
            let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).expect("it is Parquet");
            (path, metadata)
        })
        .collect();
    let groups: Vec<(usize, usize)> = opened
        .iter()
        .enumerate()
        .flat_map(|(file, (_, metadata))| (0..metadata.metadata().num_row_groups()).map(move |group| (file, group)))
        .collect();
    let (next, rows) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(file, group)) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (opened, metadata) = &opened[file];
                    let rows_of_group = metadata.metadata().row_group(group);
                    let row_bytes = (rows_of_group.total_byte_size() / rows_of_group.num_rows().max(1)).max(1);
                    let batch = ((8 << 20) / row_bytes).clamp(1, 1 << 14) as usize;
                    // A copy of the handle would share its position.
                    let file = File::open(opened).expect("the file can be opened");
                    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
                    let reader = builder.with_row_groups(vec![group]).with_batch_size(batch).build().expect("it can be read");
                    for batch in reader {
                        rows.fetch_add(batch.expect("it is whole").num_rows(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{} {}", began.elapsed().as_secs_f64(), rows.into_inner());
}
