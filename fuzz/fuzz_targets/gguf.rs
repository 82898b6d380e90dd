//! The GGUF parser on arbitrary bytes. What it accepts must keep its promises: tensors within the
//! file, aligned, apart from each other; every value readable.
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo run --release --example fuzz-seeds -- fuzz/corpus/gguf
//! cargo +nightly fuzz run gguf -- -max_len=8192 -malloc_limit_mb=64 -timeout=10
//! ```

#![no_main]

use cachalot::gguf::{Header, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes, bytes.len() as u64) else {
        return;
    };
    let mut ranges: Vec<_> = header.tensors().iter().map(|t| t.range.clone()).filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    for tensor in header.tensors() {
        assert!(tensor.range.end <= bytes.len() as u64);
        assert!((tensor.range.start - header.data_start()).is_multiple_of(header.alignment().into()));
        assert_eq!(tensor.shape.n_bytes(tensor.ty), Some(tensor.range.end - tensor.range.start));
    }
    for (key, value) in header.metadata(bytes).iter() {
        assert_eq!(header.metadata(bytes).value(key).map(|v| v.ty()), Some(value.ty()));
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
});
