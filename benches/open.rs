//! How long it takes to open a model of V3's size: 1,086 tensors, 129,280 tokens, 127,741 merges,
//! 8 shards. The tensor data are holes; opening does not read them.

#[path = "../tests/support/models.rs"]
#[allow(dead_code, unreachable_pub)]
mod models;

use cachalot::gguf::{Gguf, Split};
use cachalot::model::{Detail, ModelFile};
use criterion::{Criterion, criterion_group, criterion_main};
use models::{V3, write_holes};

fn open(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let files = write_holes(&V3, &dir.path().join("v3.gguf"), Split::MaxBytes(32 << 30));
    assert_eq!(files.len(), 8);
    c.bench_function("open V3, 8 shards", |b| b.iter(|| Gguf::open(&files[0]).unwrap().tensors().count()));
    c.bench_function("inspect V3, 8 shards", |b| {
        b.iter(|| ModelFile::open(&files[0]).unwrap().inspect(Detail::default()).parameters)
    });
}

criterion_group!(benches, open);
criterion_main!(benches);
