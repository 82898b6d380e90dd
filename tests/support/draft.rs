//! Models that are changed before they are written: other layouts of the same weights, and bad ones.

use super::models::write_tiny;
use cachalot::gguf::{Gguf, Shape, Split, TensorType, Writer};
use std::path::Path;
use std::sync::Arc;

/// A model in memory: keys and tensors in the file's order.
#[derive(Clone)]
pub struct Draft {
    pub keys: Vec<(String, Key)>,
    pub tensors: Vec<Part>,
    pub alignment: u32,
}

/// A metadata value.
#[derive(Clone)]
pub enum Key {
    /// As another file has it.
    Copied(Arc<Gguf>),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(&'static str),
    Texts(Vec<String>),
    U32s(Vec<u32>),
    F32s(Vec<f32>),
}

#[derive(Clone)]
pub struct Part {
    pub name: String,
    pub ty: TensorType,
    pub dims: Vec<u64>,
    pub data: Vec<u8>,
}

impl Part {
    pub fn f32(name: &str, dims: &[u64], values: &[f32]) -> Part {
        let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Part { name: name.to_owned(), ty: TensorType::F32, dims: dims.to_vec(), data }
    }

    pub fn values(&self) -> Vec<f32> {
        assert_eq!(self.ty, TensorType::F32, "{}", self.name);
        self.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// Other dimensions and values that fit them.
    pub fn resize(&mut self, dims: &[u64]) {
        self.dims = dims.to_vec();
        let shape = Shape::new(dims).unwrap();
        self.data.resize(shape.n_bytes(self.ty).unwrap() as usize, 0);
    }
}

impl Draft {
    pub fn of(gguf: &Arc<Gguf>) -> Draft {
        let keys = gguf.metadata().iter().map(|(key, _)| (key.to_owned(), Key::Copied(gguf.clone()))).collect();
        let part = |tensor: cachalot::gguf::Tensor<'_>| Part {
            name: tensor.info.name.clone(),
            ty: tensor.info.ty,
            dims: tensor.info.shape.dims().to_vec(),
            data: tensor.data.to_vec(),
        };
        Draft { keys, tensors: gguf.tensors().map(part).collect(), alignment: 32 }
    }

    /// The tiny model: [`super::models::TINY`].
    pub fn tiny() -> Draft {
        let folder = tempfile::tempdir().unwrap();
        let shards = write_tiny(&folder.path().join("tiny.gguf"), Split::None);
        Draft::of(&Arc::new(Gguf::open(&shards[0]).unwrap()))
    }

    /// Sets a key of the architecture in its place, or behind the others.
    pub fn set(&mut self, key: &str, value: Key) {
        self.set_key(&format!("deepseek2.{key}"), value);
    }

    pub fn set_key(&mut self, key: &str, value: Key) {
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.keys.push((key.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        let n = self.keys.len();
        self.keys.retain(|(name, _)| name.strip_prefix("deepseek2.").unwrap_or(name) != key);
        assert_eq!(self.keys.len() + 1, n, "{key}");
    }

    pub fn index(&self, name: &str) -> usize {
        self.tensors.iter().position(|part| part.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn part(&mut self, name: &str) -> &mut Part {
        let index = self.index(name);
        &mut self.tensors[index]
    }

    /// Takes a tensor out.
    pub fn take(&mut self, name: &str) -> Part {
        let index = self.index(name);
        self.tensors.remove(index)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|part| part.name == name)
    }

    pub fn write(&self, path: &Path) {
        let mut writer = Writer::new();
        for (key, value) in &self.keys {
            match value {
                Key::Copied(gguf) => writer.set(key, gguf.metadata().value(key).unwrap()),
                Key::U32(value) => writer.set(key, *value),
                Key::I32(value) => writer.set(key, *value),
                Key::F32(value) => writer.set(key, *value),
                Key::Bool(value) => writer.set(key, *value),
                Key::Text(value) => writer.set(key, *value),
                Key::Texts(values) => writer.set(key, values.as_slice()),
                Key::U32s(values) => writer.set(key, values.as_slice()),
                Key::F32s(values) => writer.set(key, values.as_slice()),
            }
            .unwrap();
        }
        if self.alignment != 32 {
            writer.set_alignment(self.alignment).unwrap();
        }
        for part in &self.tensors {
            writer.add_tensor(&part.name, part.ty, Shape::new(&part.dims).unwrap()).unwrap();
        }
        let mut out = writer.create(path, Split::None).unwrap();
        for part in &self.tensors {
            out.write(&part.name, &part.data).unwrap();
        }
        out.finish().unwrap();
    }

    /// Written, and opened again.
    pub fn open(&self) -> super::parity::Fixture {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        self.write(&path);
        super::parity::Fixture { gguf: Arc::new(Gguf::open(&path).unwrap()), path, folder }
    }
}
