//! A safetensors file against the format's own library: whatever we accept, it accepts and describes alike.
//! We are stricter in how JSON is written and in limits (keys twice, unknown keys, names over 4 KiB), and in nothing else.

use safetensors::SafeTensors;
use sentry_manifest::SafetensorsError;
use sentry_manifest::safetensors::{Header, data_start};

pub fn run(data: &[u8]) -> bool {
    let size = data.len() as u64;
    let Some(length_field) = data.first_chunk() else { return false };
    let Ok(start) = data_start(*length_field, size) else { return false };
    let library = SafeTensors::deserialize(data);
    let header = match Header::parse(&data[..start as usize], size) {
        Ok(header) => header,
        Err(SafetensorsError::Json { .. } | SafetensorsError::DuplicateKey { .. } | SafetensorsError::TooManyTensors) => return false,
        Err(error) => {
            assert!(library.is_err(), "the library accepts it: {error}");
            return false;
        }
    };
    let library = library.expect("the library accepts what we accept");
    assert_eq!(library.len(), header.tensors.len());
    let mut next = header.data_start;
    for tensor in &header.tensors {
        assert_eq!(tensor.range.start, next, "tensors abut");
        next = tensor.range.end;
        let view = library.tensor(&tensor.name).expect("the library has every tensor that we have");
        assert_eq!(format!("{:?}", view.dtype()), tensor.dtype.name());
        assert!(view.shape().iter().map(|&dim| dim as u64).eq(tensor.shape.iter().copied()));
        assert_eq!(view.data(), &data[tensor.range.start as usize..tensor.range.end as usize]);
    }
    assert_eq!(next, size, "tensors end with the file");
    true
}
