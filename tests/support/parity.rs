//! Small models with reference logits, and how far numbers are from them.

use cachalot::gguf::Gguf;
use lzma_rust2::XzReader;
use safetensors::SafeTensors;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads `tests/data/NAME.xz`.
fn packed(name: &str) -> impl Read {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.xz"));
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    XzReader::new(BufReader::new(file), false)
}

/// Unpacks `tests/data/NAME.xz`.
pub fn unpacked(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed(name).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Unpacks the six mixes into a folder.
pub fn unpack_mixes(folder: &Path) {
    tar::Archive::new(packed("mixes/models.tar")).unpack(folder).unwrap();
}

/// Unpacks a model into a folder.
pub fn unpack_model(name: &str, folder: &Path) -> PathBuf {
    let path = folder.join(Path::new(name).file_name().unwrap());
    fs::write(&path, unpacked(name)).unwrap();
    path
}

/// An open model in a folder of its own, which goes when it is dropped.
pub struct Fixture {
    pub gguf: Arc<Gguf>,
    pub path: PathBuf,
    pub folder: tempfile::TempDir,
}

pub fn fixture(name: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = unpack_model(name, folder.path());
    Fixture { gguf: Arc::new(Gguf::open(&path).unwrap()), path, folder }
}

/// Tensors of a safetensors file.
pub struct Reference(Vec<u8>);

impl Reference {
    pub fn of(name: &str) -> Reference {
        Reference(unpacked(&format!("{name}.safetensors")))
    }

    pub fn from_bytes(bytes: Vec<u8>) -> Reference {
        Reference(bytes)
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.words(name).into_iter().map(u32::from_le_bytes).collect()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        tensor.data().as_chunks().0.to_vec()
    }
}

/// Relative distance in L2: |a − b| / |b|.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = sum(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (difference / sum(&mut b.iter().map(|b| f64::from(*b)))).sqrt()
}

/// Row `row` of a matrix of `width` columns.
pub fn row(values: &[f32], width: usize, row: usize) -> &[f32] {
    &values[row * width..(row + 1) * width]
}

pub fn argmax(row: &[f32]) -> u32 {
    (0..).zip(row).fold((0, f32::NEG_INFINITY), |best, (id, &x)| if x > best.1 { (id, x) } else { best }).0
}
