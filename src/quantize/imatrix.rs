//! Importance matrices: how much each input column of each matrix matters, from the activations that were
//! seen there.
//!
//! Read from llama.cpp's GGUF form: for a matrix `NAME` the tensors `NAME.in_sum2` [columns, experts], the
//! sums of the squares of its inputs, and `NAME.counts` [1, experts], how many inputs there were.

use crate::gguf::{self, Gguf, Tensor};
use std::path::{Path, PathBuf};

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
}

impl Imatrix {
    pub(super) fn open(path: &Path) -> Result<Imatrix, ImatrixError> {
        let gguf = Gguf::open(path)?;
        if !gguf.tensors().any(|tensor| tensor.info.name.ends_with(".in_sum2")) {
            return Err(ImatrixError::Other(path.to_owned()));
        }
        Ok(Imatrix { gguf, path: path.to_owned() })
    }

    /// How many matrices it knows.
    pub(super) fn len(&self) -> u32 {
        self.gguf.tensors().filter(|tensor| tensor.info.name.ends_with(".in_sum2")).count() as u32
    }

    /// How many chunks of text it is from, and the first text's name, where it says so.
    pub(super) fn origin(&self) -> (Option<u32>, Option<String>) {
        let metadata = self.gguf.metadata();
        let chunks = metadata.get("imatrix.chunk_count").ok().flatten();
        let texts: Option<Vec<&str>> = metadata.get("imatrix.datasets").ok().flatten();
        (chunks, texts.and_then(|texts| texts.first().map(|text| (*text).to_owned())))
    }

    /// The importance of the columns of the tensor `name`, which has `matrices` matrices with rows of `row`
    /// values; `None` where the file has none.
    ///
    /// An expert that was never reached gets 1 for all columns, as llama.cpp does: nothing is known of it, so
    /// none is preferred.
    pub(super) fn importance(&self, name: &str, row: u64, matrices: u64) -> Result<Option<Importance>, ImatrixError> {
        let Some(sums) = self.gguf.tensor(&format!("{name}.in_sum2")) else {
            return Ok(None);
        };
        let faulty = |tensor: &str, fault: String| {
            Err(ImatrixError::Faulty { path: self.path.clone(), tensor: tensor.to_owned(), fault })
        };
        let counts_name = format!("{name}.counts");
        let Some(counts) = self.gguf.tensor(&counts_name) else {
            return faulty(&counts_name, "is missing".to_owned());
        };
        let shape = sums.info.shape;
        let n_values = row.checked_mul(matrices);
        if shape.ne()[0] != row || shape.n_elements() != n_values {
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
        let mut values = values;
        let part = values.len() / counts.len();
        for (values, count) in values.chunks_mut(part).zip(&counts) {
            mean_squares(values, *count);
        }
        let unreached = counts.iter().filter(|count| **count == 0.0).count() as u64;
        Ok(Some(Importance { values, n_unreached: unreached }))
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
        assert_eq!((read.len(), read.origin()), (1, (None, None)));
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
