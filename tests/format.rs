//! Our reader and writer against ggml's: what we write it reads, what it writes we read, and what
//! it refuses we refuse.

#![allow(unsafe_code)]

mod support;

use cachalot::gguf::{
    Array, Fault, FromValue, Gguf, Header, MetadataError, Shape, Split, TensorType, Value, WriteError, Writer,
};
use ggml_sys as sys;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use support::models::{TINY, V3, tensors, write_holes, write_tiny, writer};
use support::raw::Raw;

/// What ggml's reader makes of a file.
#[derive(Debug, PartialEq)]
struct GgmlView {
    keys: Vec<(String, u32)>,
    /// Name, type id, offset from the start of the file, bytes.
    tensors: Vec<(String, u32, u64, u64)>,
    alignment: u64,
}

fn read_with_ggml(path: &Path) -> Option<GgmlView> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let text = |p| unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned();
    // SAFETY: ggml's documented calls in their documented order; indices are below the counts.
    unsafe {
        let params = sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        let ctx = sys::gguf_init_from_file(path.as_ptr(), params);
        if ctx.is_null() {
            return None;
        }
        let data = sys::gguf_get_data_offset(ctx) as u64;
        let view = GgmlView {
            keys: (0..sys::gguf_get_n_kv(ctx))
                .map(|i| (text(sys::gguf_get_key(ctx, i)), sys::gguf_get_kv_type(ctx, i)))
                .collect(),
            tensors: (0..sys::gguf_get_n_tensors(ctx))
                .map(|i| {
                    let (name, ty) = (text(sys::gguf_get_tensor_name(ctx, i)), sys::gguf_get_tensor_type(ctx, i));
                    let offset = data + sys::gguf_get_tensor_offset(ctx, i) as u64;
                    (name, ty, offset, sys::gguf_get_tensor_size(ctx, i) as u64)
                })
                .collect(),
            alignment: sys::gguf_get_alignment(ctx) as u64,
        };
        sys::gguf_free(ctx);
        Some(view)
    }
}

/// What our reader makes of one file of a model.
fn read_with_ours(path: &Path) -> GgmlView {
    let bytes = fs::read(path).unwrap();
    let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
    GgmlView {
        keys: header.metadata(&bytes).iter().map(|(key, value)| (key.to_owned(), value.ty() as u32)).collect(),
        tensors: header
            .tensors()
            .iter()
            .map(|t| (t.name.clone(), t.ty.id(), t.range.start, t.range.end - t.range.start))
            .collect(),
        alignment: header.alignment().into(),
    }
}

#[test]
fn ggml_reads_what_we_write() {
    for (split, shards) in [(Split::None, 1), (Split::MaxTensors(12), 3), (Split::MaxBytes(1000), 5)] {
        let dir = tempfile::tempdir().unwrap();
        let files = write_tiny(&dir.path().join("tiny.gguf"), split);
        assert_eq!(files.len(), shards, "{split:?}");
        for file in &files {
            assert_eq!(read_with_ggml(file), Some(read_with_ours(file)), "{split:?}");
        }
        let total: usize = files.iter().map(|file| read_with_ours(file).tensors.len()).sum();
        assert_eq!(total, tensors(&TINY).len(), "{split:?}");
    }
}

/// Our table of tensor types against ggml's, id by id, both ways.
#[test]
fn the_type_table_is_ggmls() {
    for id in 0..sys::GGML_TYPE_COUNT {
        // SAFETY: the id is below GGML_TYPE_COUNT; names are static NUL-terminated strings, or null.
        let (name, block_len, block_bytes) =
            unsafe { (sys::ggml_type_name(id), sys::ggml_blck_size(id) as u64, sys::ggml_type_size(id) as u64) };
        match TensorType::from_id(id) {
            Some(ours) => {
                let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().to_lowercase();
                assert_eq!(name, ours.name().to_lowercase());
                assert_eq!((block_len, block_bytes), (ours.block_len(), ours.block_bytes()), "{ours}");
            }
            None => assert!(block_len == 0 && TensorType::removed(id), "type {id} is missing"),
        }
    }
    assert!(TensorType::ALL.iter().all(|ty| ty.id() < sys::GGML_TYPE_COUNT));
}

/// The file that the README inspects; a change of it is a change of the format that we write.
#[test]
fn the_committed_file_is_what_the_writer_makes() {
    let dir = tempfile::tempdir().unwrap();
    let made = fs::read(&write_tiny(&dir.path().join("tiny.gguf"), Split::None)[0]).unwrap();
    let committed = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.gguf")).unwrap();
    assert!(made == committed, "run `cargo run --example fuzz-seeds -- FOLDER` and copy whole.gguf");
}

#[test]
fn every_type_of_tensor_and_value_survives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.gguf");
    let mut w = Writer::new();
    w.set("u8", 1u8).unwrap();
    w.set("i8", -1i8).unwrap();
    w.set("u16", 2u16).unwrap();
    w.set("i16", -2i16).unwrap();
    w.set("u32", 3u32).unwrap();
    w.set("i32", -3i32).unwrap();
    w.set("u64", u64::MAX).unwrap();
    w.set("i64", i64::MIN).unwrap();
    w.set("f32", 0.1f32).unwrap();
    w.set("f64", 0.1f64).unwrap();
    w.set("bool", true).unwrap();
    w.set("text", "｜é\n").unwrap();
    w.set("texts", ["", "a", "｜"].as_slice()).unwrap();
    w.set("flags", [true, false].as_slice()).unwrap();
    w.set("floats", [1.5f32, -2.0].as_slice()).unwrap();
    w.set("empty", [0u32; 0].as_slice()).unwrap();
    w.set_alignment(64).unwrap();
    for ty in TensorType::ALL {
        w.add_tensor(ty.name(), *ty, Shape::new(&[ty.block_len() * 2, 3]).unwrap()).unwrap();
    }
    let mut out = w.create(&path, Split::None).unwrap();
    for (ty, byte) in TensorType::ALL.iter().zip(1u8..) {
        out.write(ty.name(), &vec![byte; 6 * ty.block_bytes() as usize]).unwrap();
    }
    out.finish().unwrap();
    assert_eq!(read_with_ggml(&path), Some(read_with_ours(&path)));

    let gguf = Gguf::open(&path).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.require::<u64>("u64"), Ok(u64::MAX));
    assert_eq!(metadata.require::<u32>("u8"), Ok(1), "an integer of another width that fits");
    assert_eq!(metadata.require::<i32>("i16"), Ok(-2));
    assert_eq!(metadata.require::<f32>("f64"), Ok(0.1));
    assert_eq!(metadata.require::<&str>("text"), Ok("｜é\n"));
    assert_eq!(metadata.require::<Vec<&str>>("texts"), Ok(vec!["", "a", "｜"]));
    assert_eq!(metadata.require::<Vec<f32>>("floats"), Ok(vec![1.5, -2.0]));
    assert_eq!(metadata.require::<Vec<u32>>("empty"), Ok(vec![]));
    assert_eq!(metadata.require::<bool>("bool"), Ok(true));
    assert_eq!(metadata.value("i64"), Some(Value::I64(i64::MIN)));
    assert_eq!(metadata.value("flags").and_then(Array::from_value).map(|a| a.len()), Some(2));
    for (ty, byte) in TensorType::ALL.iter().zip(1u8..) {
        let tensor = gguf.tensor(ty.name()).unwrap();
        assert_eq!((tensor.info.ty, tensor.info.range.start % 64), (*ty, 0));
        assert!(tensor.data.iter().all(|b| *b == byte) && tensor.data.len() == 6 * ty.block_bytes() as usize);
    }
}

#[test]
fn metadata_of_the_wrong_type_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, Raw::new().i32("n", -5).text("s", "x").bytes()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let error = |e: Result<u32, MetadataError>| e.unwrap_err().to_string();
    let metadata = gguf.metadata();
    assert_eq!(error(metadata.require("gone")), "the metadata key 'gone' is missing");
    assert_eq!(metadata.get::<u32>("gone"), Ok(None));
    let expected = "an integer of 32 bits, not negative";
    assert_eq!(error(metadata.require("n")), format!("the metadata key 'n' must be {expected}, but is i32 -5"));
    assert_eq!(error(metadata.require("s")), format!("the metadata key 's' must be {expected}, but is a string"));
}

#[test]
fn a_v3_in_eight_shards_opens_whole_by_any_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_holes(&V3, &dir.path().join("v3.gguf"), Split::MaxBytes(32 << 30));
    assert_eq!(files.len(), 8);
    let by_last = Gguf::open(&files[7]).unwrap();
    let mut shuffled = files.clone();
    shuffled.reverse();
    shuffled.swap(1, 4);
    for gguf in [&by_last, &Gguf::open(dir.path()).unwrap(), &Gguf::open_shards(&shuffled).unwrap()] {
        assert_eq!(gguf.tensors().count(), 1086);
        assert_eq!(gguf.metadata().require::<Vec<&str>>("tokenizer.ggml.merges").unwrap().len(), 127_741);
        let parameters: u64 = gguf.tensors().map(|t| t.info.shape.n_elements().unwrap()).sum();
        assert_eq!(parameters, 671_026_419_200);
        assert!(gguf.tensors().all(|t| t.data.len() as u64 == t.info.shape.n_bytes(t.info.ty).unwrap()));
    }
}

#[test]
fn the_writer_refuses_what_no_reader_would_take() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let shape = Shape::new(&[32]).unwrap();
    let mut w = Writer::new();
    assert!(matches!(w.set("", 1u32), Err(WriteError::Key(_))));
    assert!(matches!(w.set("a\0", 1u32), Err(WriteError::Key(_))));
    assert!(matches!(w.set_alignment(3), Err(WriteError::Alignment)));
    assert!(matches!(w.add_tensor("", TensorType::F32, shape), Err(WriteError::TensorName { .. })));
    assert!(matches!(w.add_tensor(&"n".repeat(64), TensorType::F32, shape), Err(WriteError::TensorName { .. })));
    assert!(matches!(w.add_tensor("w", TensorType::Q4_K, shape), Err(WriteError::Shape { .. })));
    w.add_tensor("a", TensorType::F32, shape).unwrap();
    assert!(matches!(w.add_tensor("a", TensorType::F32, shape), Err(WriteError::DuplicateTensor(_))));
    w.add_tensor("b", TensorType::F32, shape).unwrap();

    let mut out = w.create(&path, Split::None).unwrap();
    assert!(matches!(out.write("b", &[0; 128]), Err(WriteError::Order { .. })));
    assert!(matches!(w.create(&path, Split::None), Err(WriteError::Exists(_))), "two writers of one file");
    drop(out);
    let mut out = w.create(&path, Split::None).unwrap();
    assert!(matches!(out.write("a", &[0; 127]), Err(WriteError::Length { expected: 128, got: 127, .. })));
    assert!(matches!(out.write("b", &[0; 128]), Err(WriteError::Failed)), "after a failure nothing goes on");
    assert!(matches!(out.finish(), Err(WriteError::Failed)));
    let mut out = w.create(&path, Split::None).unwrap();
    out.write("a", &[0; 128]).unwrap();
    assert!(matches!(out.finish(), Err(WriteError::Order { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half-done may stay");

    let mut out = w.create(&path, Split::None).unwrap();
    out.write("a", &[0; 128]).unwrap();
    out.write("b", &[0; 128]).unwrap();
    out.finish().unwrap();
    assert!(matches!(w.create(&path, Split::None), Err(WriteError::Exists(_))));
    assert!(matches!(w.create(&dir.path().join("gone/m.gguf"), Split::None), Err(WriteError::Io { .. })));
}

#[test]
fn a_set_key_can_be_set_again_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
    let mut w = writer(&TINY);
    w.set("general.name", "again").unwrap();
    let mut out = w.create(&first, Split::None).unwrap();
    tensors(&TINY).iter().for_each(|(name, _, _)| out.write_hole(name).unwrap());
    out.finish().unwrap();
    let gguf = Gguf::open(&first).unwrap();
    assert_eq!(gguf.metadata().require::<&str>("general.name"), Ok("again"));

    let mut copy = Writer::new();
    gguf.metadata().iter().for_each(|(key, value)| copy.set(key, value).unwrap());
    copy.create(&second, Split::None).unwrap().finish().unwrap();
    let copied = Gguf::open(&second).unwrap();
    assert!(gguf.metadata().iter().eq(copied.metadata().iter()));
}

/// From shards of another alignment to one file, and back: what the writer lays out follows the keys.
#[test]
fn a_whole_model_can_be_copied_from_shards_and_into_them() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &str, split: Split| {
        let source = Gguf::open(from).unwrap();
        let mut w = Writer::new();
        source.metadata().iter().for_each(|(key, value)| w.set(key, value).unwrap());
        source.tensors().for_each(|t| w.add_tensor(&t.info.name, t.info.ty, t.info.shape).unwrap());
        let mut out = w.create(&dir.path().join(to), split).unwrap();
        source.tensors().for_each(|t| out.write(&t.info.name, t.data).unwrap());
        out.finish().unwrap()
    };
    let mut w = Writer::new();
    w.set_alignment(128).unwrap();
    for name in ["a", "b", "c"] {
        w.add_tensor(name, TensorType::F32, Shape::new(&[3]).unwrap()).unwrap();
    }
    let mut out = w.create(&dir.path().join("first.gguf"), Split::MaxTensors(1)).unwrap();
    ["a", "b", "c"].iter().for_each(|name| out.write(name, &[name.as_bytes()[0]; 12]).unwrap());
    let shards = out.finish().unwrap();

    let whole = copy(&shards[1], "whole.gguf", Split::None);
    let again = copy(&whole[0], "again.gguf", Split::MaxTensors(2));
    assert_eq!((shards.len(), whole.len(), again.len()), (3, 1, 2));
    for files in [&shards, &whole, &again] {
        assert!(files.iter().all(|file| read_with_ggml(file) == Some(read_with_ours(file))));
        let gguf = Gguf::open(&files[0]).unwrap();
        for tensor in gguf.tensors() {
            assert_eq!((tensor.data, tensor.info.range.start % 128), (&[tensor.info.name.as_bytes()[0]; 12][..], 0));
        }
    }
}

#[test]
fn listed_shards_are_proven_too() {
    let dir = tempfile::tempdir().unwrap();
    let shards = write_tiny(&dir.path().join("tiny.gguf"), Split::MaxTensors(12));
    let error = |paths: &[usize]| {
        let paths: Vec<_> = paths.iter().map(|i| shards[*i].clone()).collect();
        Gguf::open_shards(&paths).err().unwrap().problem.to_string()
    };
    assert_eq!(error(&[]), "no such file or folder");
    assert_eq!(error(&[0, 2]), "shard 2 of 3 is missing: download it, or copy it here");
    assert_eq!(error(&[2, 1]), "shard 1 of 3 is missing: download it, or copy it here");
    assert!(error(&[0, 1, 2, 1]).starts_with("two files are shard 2: "));
}

#[test]
fn shards_are_found_through_links_and_odd_names() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    for (i, shard) in write_tiny(&dir.path().join("tiny.gguf"), Split::MaxTensors(12)).iter().enumerate() {
        let mut name = odd.clone().into_os_string();
        name.push(format!("-{:05}-of-00003.gguf", i + 1));
        fs::copy(shard, name).unwrap();
    }
    let link = dir.path().join("latest.gguf");
    std::os::unix::fs::symlink(dir.path().join("tiny-00002-of-00003.gguf"), &link).unwrap();
    assert_eq!(Gguf::open(&link).unwrap().shards().len(), 3);
    let mut second = odd.into_os_string();
    second.push("-00002-of-00003.gguf");
    assert_eq!(Gguf::open(Path::new(&second)).unwrap().shards().len(), 3);
}

/// Files that ggml's reader refuses must not pass ours, but for what we take on purpose: gaps
/// between tensors, and tensors in another order than their data.
#[test]
fn what_ggml_refuses_we_refuse() {
    // SAFETY: silences ggml's messages about the files it refuses.
    unsafe extern "C" fn quiet(_: sys::ggml_log_level, _: *const std::ffi::c_char, _: *mut std::ffi::c_void) {}
    unsafe { sys::ggml_log_set(Some(quiet), std::ptr::null_mut()) };

    let dir = tempfile::tempdir().unwrap();
    let good = fs::read(&write_tiny(&dir.path().join("tiny.gguf"), Split::None)[0]).unwrap();
    let end = Header::parse(&good, good.len() as u64).unwrap().data_start() as usize;
    let path = dir.path().join("flipped.gguf");
    let (mut both, mut neither, mut ours_only, mut theirs_only) = (0, 0, 0, 0);
    for at in 0..end {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            let ours = Header::parse(&bytes, bytes.len() as u64);
            let theirs = read_with_ggml(&path);
            match (&ours, &theirs) {
                (Ok(_), Some(theirs)) => {
                    assert_eq!(read_with_ours(&path), *theirs, "byte {at} bit {bit}");
                    both += 1;
                }
                (Err(_), None) => neither += 1,
                (Ok(header), None) => {
                    let mut offset = header.data_start();
                    let in_order = header.tensors().iter().all(|t| {
                        let found = t.range.start == offset;
                        offset = t.range.end.next_multiple_of(header.alignment().into());
                        found
                    });
                    assert!(!in_order, "byte {at} bit {bit}: ggml refuses what we take");
                    ours_only += 1;
                }
                // ggml looks neither at UTF-8, NULs and bools nor, without the data, at the file's end,
                // and counts bytes without a sign.
                (Err(damage), Some(_)) => {
                    let stricter = matches!(
                        damage.fault,
                        Fault::NotUtf8(_)
                            | Fault::Nul(_)
                            | Fault::Bool(_)
                            | Fault::PastEnd { .. }
                            | Fault::ShapeOverflow(_)
                    );
                    assert!(stricter, "byte {at} bit {bit}: {damage}");
                    theirs_only += 1;
                }
            }
        }
    }
    assert!(both > 0 && neither > 0 && ours_only > 0 && theirs_only > 0, "{both} {neither} {ours_only} {theirs_only}");
}
