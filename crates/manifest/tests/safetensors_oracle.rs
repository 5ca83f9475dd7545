//! Our header parser against the safetensors library: whatever we accept, the library accepts and describes alike.
//! We are stricter, so the library may accept what we refuse.

use safetensors::SafeTensors;
use sentry_manifest::safetensors::Header;

/// A small generator of numbers (xorshift64*), so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// A file with up to five tensors; `defects` of ten times something is off by a little.
fn file(random: &mut Random, defects: u64) -> Vec<u8> {
    let dtypes = [("U8", 1), ("F16", 2), ("BF16", 2), ("F32", 4), ("I64", 8), ("F8_E4M3", 1), ("BOOL", 1), ("C64", 8)];
    let mut offset = 0;
    let mut entries = Vec::new();
    for index in 0..random.below(6) {
        let (dtype, size) = dtypes[random.below(dtypes.len() as u64) as usize];
        let shape: Vec<u64> = (0..random.below(4)).map(|_| random.below(4)).collect();
        let end = offset + size * shape.iter().product::<u64>();
        let mut off = || if random.below(10) < defects { random.below(3) } else { 0 };
        let (begin, stop) = (offset + off(), (end + off()).saturating_sub(off()));
        entries.push(format!("\"t{}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{stop}]}}", index + off()));
        offset = end;
    }
    let json = format!("{{{}}}{}", entries.join(","), " ".repeat(random.below(9) as usize));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    let data = offset + if random.below(10) < defects { random.below(3) } else { 0 };
    bytes.extend((0..data).map(|byte| byte as u8));
    bytes
}

fn compare(bytes: &[u8]) -> bool {
    let data_start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let Ok(header) = Header::parse(&bytes[..data_start as usize], bytes.len() as u64) else { return false };
    let library = SafeTensors::deserialize(bytes).expect("the library accepts what we accept");
    assert_eq!(library.len(), header.tensors.len());
    for tensor in &header.tensors {
        let view = library.tensor(&tensor.name).expect("the library has every tensor that we have");
        assert_eq!(format!("{:?}", view.dtype()), tensor.dtype.name());
        assert_eq!(view.shape(), tensor.shape.iter().map(|&dim| dim as usize).collect::<Vec<_>>());
        assert_eq!(view.data(), &bytes[tensor.range.start as usize..tensor.range.end as usize]);
    }
    true
}

#[test]
fn sound_files_are_read_alike() {
    let mut random = Random(20_261_122);
    for _ in 0..5000 {
        assert!(compare(&file(&mut random, 0)), "a sound file is accepted");
    }
}

#[test]
fn damaged_files_are_refused_or_read_alike() {
    let mut random = Random(1);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        if compare(&file(&mut random, 2)) { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused: both must occur");
}
