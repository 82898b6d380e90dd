//! Importance matrices in the making: sums of squares of what went into a model's matrices, from many steps and
//! from earlier files.
//!
//! Written in llama.cpp's form, which `imatrix` reads. Knows which matrices the model has, and nothing of how
//! their inputs come to be.

use super::imatrix::{CHUNK_COUNT, CHUNK_SIZE, COUNTS, DATASETS, Imatrix, ImatrixError, SUMS};
use crate::gguf::{Gguf, Shape, Source, Split, TensorType, WriteError, Writer};
use crate::model::{Class, Role};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What has been seen of a model's matrices.
pub struct Collector {
    model: PathBuf,
    matrices: BTreeMap<String, Matrix>,
    texts: Vec<String>,
    chunk_len: usize,
    n_tokens: u64,
}

struct Matrix {
    row: u64,
    /// Experts or heads.
    n: u64,
    role: Role,
    /// Whether steps add to it, and not only files.
    is_collected: bool,
    /// What there is so far.
    seen: Option<Sums>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sums {
    values: Vec<f64>,
    /// Of each expert, or of all matrices alike.
    counts: Vec<f64>,
}

/// What there is data for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    pub n_seen: usize,
    /// Matrices whose inputs were never seen, though they were looked for.
    pub without_data: Vec<String>,
    /// Layer by layer.
    pub experts: Vec<Reached>,
}

/// The experts of a layer that some token was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    pub layer: u32,
    pub n_reached: usize,
    pub n_experts: usize,
}

impl Collector {
    /// For a model, of whose files only the headers are read, and texts in chunks of so many tokens. Nothing is
    /// collected for the head but `with_head`.
    pub fn new(model: impl Into<Source>, chunk_len: usize, with_head: bool) -> Result<Collector, ImatrixError> {
        let model = model.into();
        let gguf = Gguf::open(&model)?;
        let mut matrices = BTreeMap::new();
        for tensor in gguf.tensors() {
            let (role, [row, _, n, more]) = (Role::of(&tensor.info.name), tensor.info.shape.ne());
            if tensor.info.shape.dims().len() > 1 && role.class != Class::Norm {
                let is_collected = role.class != Class::Embedding && (with_head || role.class != Class::Head);
                let matrix = Matrix { row, n: n.saturating_mul(more), role, is_collected, seen: None };
                matrices.insert(tensor.info.name.clone(), matrix);
            }
        }
        Ok(Collector { model: model.path().to_owned(), matrices, texts: Vec::new(), chunk_len, n_tokens: 0 })
    }

    /// Adds what a step has shown of `tensor`: `sums` [columns, matrices], and how many inputs there were.
    pub fn add(&mut self, tensor: &str, sums: &[f32], counts: &[f32]) -> Result<(), ImatrixError> {
        let Some(matrix) = self.matrices.get_mut(tensor).filter(|matrix| matrix.is_collected) else {
            return Ok(());
        };
        if !sums.par_iter().all(|x| x.is_finite()) {
            return Err(ImatrixError::NotFinite(tensor.to_owned()));
        }
        matrix.add(sums, counts);
        Ok(())
    }

    /// Counts tokens whose sums have been added.
    pub fn count(&mut self, n_tokens: usize) {
        self.n_tokens += n_tokens as u64;
    }

    /// Notes where the tokens are from.
    pub fn name_text(&mut self, name: &str) {
        self.texts.push(name.to_owned());
    }

    /// Adds what is in a file.
    pub fn merge(&mut self, path: &Path) -> Result<(), ImatrixError> {
        let file = Imatrix::open(path)?;
        for name in file.names() {
            let foreign =
                || ImatrixError::Foreign { path: path.to_owned(), tensor: name.to_owned(), model: self.model.clone() };
            let matrix = self.matrices.get_mut(name).ok_or_else(foreign)?;
            if let Some(sums) = file.sums(name, matrix.row, matrix.n)? {
                matrix.add(&sums.values, &sums.counts);
            }
        }
        let n_tokens = file.n_chunks().zip(file.chunk_len()).map(|(n, len)| u64::from(n) * u64::from(len));
        self.n_tokens += n_tokens.unwrap_or(0);
        self.texts.extend(file.texts());
        Ok(())
    }

    pub fn n_chunks(&self) -> u64 {
        self.n_tokens / self.chunk_len.max(1) as u64
    }

    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        let mut layers: BTreeMap<u32, Reached> = BTreeMap::new();
        for (name, matrix) in &self.matrices {
            match matrix.seen {
                Some(_) => coverage.n_seen += 1,
                None if matrix.is_collected => coverage.without_data.push(name.clone()),
                None => {}
            }
            let (Some(layer), Some(n_reached)) = (matrix.role.layer, matrix.n_reached()) else {
                continue;
            };
            let reached = Reached { layer, n_reached, n_experts: usize::try_from(matrix.n).unwrap_or(usize::MAX) };
            let least = layers.entry(layer).or_insert(reached);
            least.n_reached = least.n_reached.min(n_reached);
        }
        coverage.experts = layers.into_values().collect();
        coverage
    }

    /// Writes a file; only with `replace` over another.
    pub fn write(&self, path: &Path, replace: bool) -> Result<(), WriteError> {
        let mut writer = Writer::new();
        writer.set("general.type", "imatrix")?;
        writer.set(DATASETS, self.texts.as_slice())?;
        writer.set(CHUNK_COUNT, u32::try_from(self.n_chunks()).unwrap_or(u32::MAX))?;
        writer.set(CHUNK_SIZE, u32::try_from(self.chunk_len).unwrap_or(u32::MAX))?;
        let seen = || self.matrices.iter().filter_map(|(name, matrix)| Some((name, matrix.seen.as_ref()?)));
        for (name, Sums { values, counts }) in seen() {
            let n = counts.len().max(1);
            writer.add_tensor(&format!("{name}{SUMS}"), TensorType::F32, shape(values.len() / n, n))?;
            writer.add_tensor(&format!("{name}{COUNTS}"), TensorType::F32, shape(1, n))?;
        }
        let mut output = match replace {
            true => writer.create_over(path, Split::None)?,
            false => writer.create(path, Split::None)?,
        };
        for (name, Sums { values, counts }) in seen() {
            for (suffix, values) in [(SUMS, values), (COUNTS, counts)] {
                output.write_with(&format!("{name}{suffix}"), |out| write_floats(out, values))?;
            }
        }
        output.finish().map(drop)
    }
}

impl Matrix {
    fn add(&mut self, values: &[f32], counts: &[f32]) {
        let widen = |values: &[f32]| values.par_iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let mut new = Sums { values: widen(values), counts: widen(counts) };
        match self.role.class.is_routed() {
            true => new.spread(self.n),
            false => new.gather(),
        }
        match &mut self.seen {
            Some(seen) => seen.add(&new),
            None => self.seen = Some(new),
        }
    }

    /// Experts with data; `None` where these are no experts.
    fn n_reached(&self) -> Option<usize> {
        let reached = |seen: &Sums| seen.counts.iter().filter(|count| **count > 0.0).count();
        self.role.class.is_routed().then(|| self.seen.as_ref().map_or(0, reached))
    }
}

impl Sums {
    /// One count for all experts, as there is in files of an older form, counts for each.
    fn spread(&mut self, n: u64) {
        if let ([count], Ok(n)) = (self.counts.as_slice(), usize::try_from(n)) {
            self.counts = vec![*count; n];
        }
    }

    /// Matrices that are no experts get the same inputs, so that one count is enough.
    fn gather(&mut self) {
        self.counts.truncate(1);
    }

    fn add(&mut self, other: &Sums) {
        self.values.par_iter_mut().zip(&other.values).for_each(|(sum, x)| *sum += x);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, x)| *sum += x);
    }
}

/// [columns, matrices]; llama.cpp leaves out a last dimension of 1.
fn shape(columns: usize, matrices: usize) -> Shape {
    let dims = [columns as u64, matrices as u64];
    let used = if matrices == 1 { &dims[..1] } else { &dims[..] };
    Shape::new(used).expect("two dimensions at most")
}

fn write_floats(out: &mut dyn Write, values: &[f64]) -> std::io::Result<()> {
    values.iter().try_for_each(|x| out.write_all(&(*x as f32).to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERTS: &str = "blk.1.ffn_up_exps.weight";
    const HEADS: &str = "blk.1.attn_k_b.weight";
    const HEAD: &str = "output.weight";

    /// For a model with three experts, two heads, and a head, all with rows of 2.
    fn collector(folder: &Path) -> Collector {
        let path = folder.join("model.gguf");
        let mut writer = Writer::new();
        let tensors = [(EXPERTS, &[2, 1, 3][..]), (HEADS, &[2, 1, 2]), (HEAD, &[2, 1]), ("output_norm.weight", &[2])];
        for (name, dims) in tensors {
            writer.add_tensor(name, TensorType::F32, Shape::new(dims).unwrap()).unwrap();
        }
        let mut output = writer.create_over(&path, Split::None).unwrap();
        tensors.iter().for_each(|(name, _)| output.write_hole(name).unwrap());
        output.finish().unwrap();
        Collector::new(&path, 4, false).unwrap()
    }

    fn sums(collector: &Collector, name: &str) -> Sums {
        collector.matrices[name].seen.clone().unwrap()
    }

    #[test]
    fn sums_grow_and_what_is_left_out_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut collector = collector(folder.path());
        collector.add(EXPERTS, &[1.0, 2.0, 0.0, 0.0, 3.0, 4.0], &[1.0, 0.0, 2.0]).unwrap();
        collector.add(EXPERTS, &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], &[1.0, 0.0, 0.0]).unwrap();
        collector.add(HEAD, &[1.0, 1.0], &[4.0]).unwrap();
        let expected = Sums { values: vec![2.0, 3.0, 0.0, 0.0, 3.0, 4.0], counts: vec![2.0, 0.0, 2.0] };
        assert_eq!(sums(&collector, EXPERTS), expected);
        let coverage = collector.coverage();
        assert_eq!((coverage.n_seen, coverage.without_data), (1, vec![HEADS.to_owned()]));
        assert_eq!(coverage.experts, [Reached { layer: 1, n_reached: 2, n_experts: 3 }]);
        let error = collector.add(HEADS, &[1.0, f32::NAN, 0.0, 0.0], &[1.0]).unwrap_err();
        assert!(matches!(error, ImatrixError::NotFinite(name) if name == HEADS));
    }

    /// Files of older forms have a count for each head, or one for all experts.
    #[test]
    fn files_of_older_forms_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("older.gguf");
        let mut writer = Writer::new();
        let values = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let tensors = [
            (HEADS, SUMS, &[2, 2][..], values(&[1.0, 2.0, 3.0, 4.0])),
            (HEADS, COUNTS, &[1, 2], values(&[5.0, 5.0])),
            (EXPERTS, SUMS, &[2, 3], values(&[6.0; 6])),
            (EXPERTS, COUNTS, &[1], values(&[7.0])),
        ];
        for (name, suffix, dims, _) in &tensors {
            writer.add_tensor(&format!("{name}{suffix}"), TensorType::F32, Shape::new(dims).unwrap()).unwrap();
        }
        let mut output = writer.create(&path, Split::None).unwrap();
        tensors.iter().for_each(|(name, suffix, _, data)| output.write(&format!("{name}{suffix}"), data).unwrap());
        output.finish().unwrap();

        let mut collector = collector(folder.path());
        collector.add(HEADS, &[1.0; 4], &[2.0]).unwrap();
        collector.merge(&path).unwrap();
        assert_eq!(sums(&collector, HEADS), Sums { values: vec![2.0, 3.0, 4.0, 5.0], counts: vec![7.0] });
        assert_eq!(sums(&collector, EXPERTS), Sums { values: vec![6.0; 6], counts: vec![7.0; 3] });
        assert_eq!(collector.n_chunks(), 0, "the file does not say");
    }
}
