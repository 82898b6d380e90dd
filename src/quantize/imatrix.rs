//! Importance matrices: how much each input column of each matrix matters, from the activations that were
//! seen there.
//!
//! Read from llama.cpp's GGUF form: for a matrix `NAME` the tensors `NAME.in_sum2` [columns, experts], the
//! sums of the squares of its inputs, and `NAME.counts` [1, experts], how many inputs there were. Where a tensor
//! has a matrix for each head, which all get the same number of inputs, there is one count, and the columns of
//! all heads are one row. `collect` makes such files.

use crate::gguf::{self, Gguf, Tensor};
use crate::text::Escaped;
use std::path::{Path, PathBuf};

/// What is behind a matrix's name.
pub(super) const SUMS: &str = ".in_sum2";
pub(super) const COUNTS: &str = ".counts";
/// Keys: the texts' names, how many chunks they were cut into, and the tokens of one.
pub(super) const DATASETS: &str = "imatrix.datasets";
pub(super) const CHUNK_COUNT: &str = "imatrix.chunk_count";
pub(super) const CHUNK_SIZE: &str = "imatrix.chunk_size";
/// What may be too little for ggml's arithmetic is raised to this part of the mean.
const LEAST: f64 = 1e-9;
/// Below this mean, nothing was measured.
const NOTHING: f64 = 1e-20;

/// An importance matrix in a file.
pub(super) struct Imatrix {
    gguf: Gguf,
    pub(super) path: PathBuf,
}

/// The importance of the columns of one tensor.
#[derive(Debug, PartialEq)]
pub(super) struct Importance {
    /// Row after row [columns, experts].
    pub(super) values: Vec<f32>,
    /// Experts that no input has reached.
    pub(super) n_unreached: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ImatrixError {
    #[error(transparent)]
    Open(#[from] gguf::Error),
    #[error("{path}: no importance matrix in llama.cpp's GGUF format: it has no tensor NAME.in_sum2", path = .0.display())]
    Other(PathBuf),
    #[error("{path}: '{tensor}' {fault}", path = path.display())]
    Faulty { path: PathBuf, tensor: String, fault: String },
    #[error(
        "{path}: is of another model: {model} has no matrix '{tensor}'",
        path = path.display(), model = model.display(), tensor = Escaped(tensor)
    )]
    Foreign { path: PathBuf, tensor: String, model: PathBuf },
    #[error("the inputs of '{0}' are not finite: the model computes numbers that are none")]
    NotFinite(String),
}

/// What a file holds of one matrix.
pub(super) struct Sums {
    pub(super) values: Vec<f32>,
    /// One for all matrices, or one each.
    pub(super) counts: Vec<f32>,
}

impl Imatrix {
    pub(super) fn open(path: &Path) -> Result<Imatrix, ImatrixError> {
        let gguf = Gguf::open(path)?;
        let imatrix = Imatrix { gguf, path: path.to_owned() };
        if imatrix.names().next().is_none() {
            return Err(ImatrixError::Other(path.to_owned()));
        }
        Ok(imatrix)
    }

    /// How many matrices it knows.
    pub(super) fn len(&self) -> u32 {
        self.names().count() as u32
    }

    /// How many chunks of text it is from, where it says so.
    pub(super) fn n_chunks(&self) -> Option<u32> {
        self.gguf.metadata().get(CHUNK_COUNT).ok().flatten()
    }

    /// How many tokens a chunk had, where it says so.
    pub(super) fn chunk_len(&self) -> Option<u32> {
        self.gguf.metadata().get(CHUNK_SIZE).ok().flatten()
    }

    /// The texts' names.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts: Option<Vec<&str>> = self.gguf.metadata().get(DATASETS).ok().flatten();
        texts.unwrap_or_default().into_iter().map(str::to_owned).collect()
    }

    /// The importance of the columns of the tensor `name`, which has `matrices` matrices with rows of `row`
    /// values; `None` where the file has none.
    ///
    /// An expert that was never reached gets 1 for all columns, as llama.cpp does: nothing is known of it, so
    /// none is preferred.
    pub(super) fn importance(&self, name: &str, row: u64, matrices: u64) -> Result<Option<Importance>, ImatrixError> {
        let Some(Sums { mut values, counts }) = self.sums(name, row, matrices)? else {
            return Ok(None);
        };
        let part = values.len() / counts.len();
        for (values, count) in values.chunks_mut(part).zip(&counts) {
            mean_squares(values, *count);
        }
        let unreached = counts.iter().filter(|count| **count == 0.0).count() as u64;
        Ok(Some(Importance { values, n_unreached: unreached }))
    }

    /// The matrices that it knows.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.gguf.tensors().filter_map(|tensor| tensor.info.name.strip_suffix(SUMS))
    }

    /// What it holds of the tensor `name`, as it is.
    pub(super) fn sums(&self, name: &str, row: u64, matrices: u64) -> Result<Option<Sums>, ImatrixError> {
        let Some(sums) = self.gguf.tensor(&format!("{name}{SUMS}")) else {
            return Ok(None);
        };
        let faulty = |tensor: &str, fault: String| {
            Err(ImatrixError::Faulty { path: self.path.clone(), tensor: tensor.to_owned(), fault })
        };
        let counts_name = format!("{name}{COUNTS}");
        let Some(counts) = self.gguf.tensor(&counts_name) else {
            return faulty(&counts_name, "is missing".to_owned());
        };
        let shape = sums.info.shape;
        let n_values = row.checked_mul(matrices);
        let is_one_row = counts.info.shape.n_elements() == Some(1) && Some(shape.ne()[0]) == n_values;
        if !(shape.ne()[0] == row || is_one_row) || shape.n_elements() != n_values {
            let fault = format!("has the shape {shape}; the model's tensor needs [{row}, {matrices}]");
            return faulty(&sums.info.name, fault);
        }
        let (Some(values), Some(counts)) = (floats(&sums), floats(&counts)) else {
            return faulty(&sums.info.name, "and its counts must be F32".to_owned());
        };
        if counts.is_empty() || values.is_empty() || !values.len().is_multiple_of(counts.len()) {
            return faulty(&counts_name, format!("has {} numbers for {matrices} matrices", counts.len()));
        }
        let sane = |x: &f32| x.is_finite() && *x >= 0.0;
        if let Some(value) = values.iter().chain(&counts).find(|x| !sane(x)) {
            return faulty(&sums.info.name, format!("holds {value}, which is no sum of squares and no count"));
        }
        Ok(Some(Sums { values, counts }))
    }
}

/// Sums of `count` squares to what they are on average.
fn mean_squares(values: &mut [f32], count: f32) {
    if count > 0.0 {
        values.iter_mut().for_each(|value| *value /= count);
    }
    let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64;
    if count == 0.0 || mean < NOTHING {
        values.fill(1.0);
    }
    let least = (mean * LEAST) as f32;
    values.iter_mut().for_each(|value| *value = value.max(least));
}

fn floats(tensor: &Tensor<'_>) -> Option<Vec<f32>> {
    let is_f32 = tensor.info.ty == gguf::TensorType::F32;
    let (words, _) = tensor.data.as_chunks();
    is_f32.then(|| words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Shape, Split, TensorType, Writer};

    /// A file with one matrix `a`.
    fn imatrix(folder: &Path, sums: &[f32], counts: &[f32]) -> Imatrix {
        let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let mut writer = Writer::new();
        let experts = counts.len() as u64;
        let shape = |columns| Shape::new(&[columns, experts]).unwrap();
        writer.add_tensor("a.in_sum2", TensorType::F32, shape(sums.len() as u64 / experts)).unwrap();
        writer.add_tensor("a.counts", TensorType::F32, shape(1)).unwrap();
        let path = folder.join("imatrix.gguf");
        let _ = std::fs::remove_file(&path);
        let mut output = writer.create(&path, Split::None).unwrap();
        output.write("a.in_sum2", &bytes(sums)).unwrap();
        output.write("a.counts", &bytes(counts)).unwrap();
        output.finish().unwrap();
        Imatrix::open(&path).unwrap()
    }

    #[test]
    fn sums_become_means_and_experts_never_reached_prefer_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let read = imatrix(folder.path(), &[2.0, 6.0, 0.0, 0.0, 0.0, 8.0], &[2.0, 0.0, 4.0]);
        let importance = read.importance("a", 2, 3).unwrap().unwrap();
        assert_eq!(importance, Importance { values: vec![1.0, 3.0, 1.0, 1.0, 1e-9, 2.0], n_unreached: 1 });
        assert_eq!(read.importance("b", 2, 3).unwrap(), None);
        assert_eq!((read.len(), read.n_chunks(), read.texts()), (1, None, vec![]));
    }

    /// So llama.cpp writes tensors with a matrix for each head.
    #[test]
    fn heads_may_be_one_row_with_one_count() {
        let folder = tempfile::tempdir().unwrap();
        let read = imatrix(folder.path(), &[2.0, 6.0, 4.0, 8.0], &[2.0]);
        let importance = read.importance("a", 2, 2).unwrap().unwrap();
        assert_eq!(importance, Importance { values: vec![1.0, 3.0, 2.0, 4.0], n_unreached: 0 });
        assert!(read.importance("a", 2, 3).is_err());
    }

    #[test]
    fn what_does_not_belong_to_the_tensor_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = |sums: &[f32], counts: &[f32]| {
            let error = imatrix(folder.path(), sums, counts).importance("a", 2, 2).unwrap_err().to_string();
            error.split_once(".gguf: ").unwrap().1.to_owned()
        };
        let shape = "'a.in_sum2' has the shape [3, 2]; the model's tensor needs [2, 2]";
        assert_eq!(error(&[1.0; 6], &[1.0; 2]), shape);
        let value = "holds NaN, which is no sum of squares and no count";
        assert_eq!(error(&[f32::NAN, 1.0, 1.0, 1.0], &[1.0; 2]), format!("'a.in_sum2' {value}"));
        assert!(error(&[1.0; 4], &[1.0, -1.0]).contains("holds -1"));
    }
}
