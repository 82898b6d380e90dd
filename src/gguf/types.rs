//! The tensor types of GGUF: ids, names, and how many bytes a block of weights takes.
//!
//! The table is ours so that a file can be checked before ggml sees it; `tests/format.rs`
//! holds it against ggml's own.

use std::fmt;

macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal => $bytes:literal;)*) => {
        /// How the values of a tensor are stored; the discriminant is ggml's type id.
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum TensorType { $($variant = $id,)* }

        impl TensorType {
            pub const ALL: &[TensorType] = &[$(TensorType::$variant,)*];

            pub fn from_id(id: u32) -> Option<TensorType> {
                match id { $($id => Some(TensorType::$variant),)* _ => None }
            }

            /// The name that GGUF tools print, for instance `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(TensorType::$variant => $name,)* }
            }

            /// Values in a block; a row holds a whole number of blocks.
            pub const fn block_len(self) -> u64 {
                match self { $(TensorType::$variant => $block,)* }
            }

            /// Bytes in a block.
            pub const fn block_bytes(self) -> u64 {
                match self { $(TensorType::$variant => $bytes,)* }
            }
        }
    };
}

tensor_types! {
    F32 = 0, "F32", 1 => 4;
    F16 = 1, "F16", 1 => 2;
    Q4_0 = 2, "Q4_0", 32 => 18;
    Q4_1 = 3, "Q4_1", 32 => 20;
    Q5_0 = 6, "Q5_0", 32 => 22;
    Q5_1 = 7, "Q5_1", 32 => 24;
    Q8_0 = 8, "Q8_0", 32 => 34;
    Q8_1 = 9, "Q8_1", 32 => 36;
    Q2_K = 10, "Q2_K", 256 => 84;
    Q3_K = 11, "Q3_K", 256 => 110;
    Q4_K = 12, "Q4_K", 256 => 144;
    Q5_K = 13, "Q5_K", 256 => 176;
    Q6_K = 14, "Q6_K", 256 => 210;
    Q8_K = 15, "Q8_K", 256 => 292;
    IQ2_XXS = 16, "IQ2_XXS", 256 => 66;
    IQ2_XS = 17, "IQ2_XS", 256 => 74;
    IQ3_XXS = 18, "IQ3_XXS", 256 => 98;
    IQ1_S = 19, "IQ1_S", 256 => 50;
    IQ4_NL = 20, "IQ4_NL", 32 => 18;
    IQ3_S = 21, "IQ3_S", 256 => 110;
    IQ2_S = 22, "IQ2_S", 256 => 82;
    IQ4_XS = 23, "IQ4_XS", 256 => 136;
    I8 = 24, "I8", 1 => 1;
    I16 = 25, "I16", 1 => 2;
    I32 = 26, "I32", 1 => 4;
    I64 = 27, "I64", 1 => 8;
    F64 = 28, "F64", 1 => 8;
    IQ1_M = 29, "IQ1_M", 256 => 56;
    BF16 = 30, "BF16", 1 => 2;
    TQ1_0 = 34, "TQ1_0", 256 => 54;
    TQ2_0 = 35, "TQ2_0", 256 => 66;
    MXFP4 = 39, "MXFP4", 32 => 17;
    NVFP4 = 40, "NVFP4", 64 => 36;
    Q1_0 = 41, "Q1_0", 128 => 18;
    Q2_0 = 42, "Q2_0", 64 => 18;
}

impl TensorType {
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Types that ggml once had, and what became of them.
    pub fn removed(id: u32) -> bool {
        matches!(id, 4 | 5 | 31..=33 | 36..=38)
    }

    /// Bits of storage for one value, scales included.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor's dimensions in ggml order: the first is the contiguous one. Dimensions that a file
/// leaves out are 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    ne: [u64; 4],
    n_dims: u8,
}

impl Shape {
    /// `None` for more than four dimensions.
    pub fn new(dims: &[u64]) -> Option<Shape> {
        let mut ne = [1; 4];
        ne.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(Shape { ne, n_dims: dims.len() as u8 })
    }

    /// All four dimensions.
    pub fn ne(&self) -> [u64; 4] {
        self.ne
    }

    /// The dimensions that the file states.
    pub fn dims(&self) -> &[u64] {
        self.ne.get(..usize::from(self.n_dims)).unwrap_or(&self.ne)
    }

    /// Values in the tensor; `None` if the product does not fit a signed 64-bit integer, as ggml
    /// counts. A zero dimension does not hide an overflow of the others.
    pub fn n_elements(&self) -> Option<u64> {
        let product = self.ne.iter().try_fold(1u64, |product, &n| product.checked_mul(n.max(1)))?;
        i64::try_from(product).ok()?;
        Some(if self.ne.contains(&0) { 0 } else { product })
    }

    /// Bytes of a tensor of this shape and type; `None` on overflow or when a row is no whole
    /// number of blocks.
    pub fn n_bytes(&self, ty: TensorType) -> Option<u64> {
        let [row, ..] = self.ne;
        let blocks = row.is_multiple_of(ty.block_len()).then(|| self.n_elements())??.checked_div(ty.block_len())?;
        let bytes = blocks.checked_mul(ty.block_bytes())?;
        i64::try_from(bytes).ok()?;
        Some(bytes)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(u64::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[u64]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn ids_and_names_are_unique() {
        for (i, a) in TensorType::ALL.iter().enumerate() {
            assert_eq!(TensorType::from_id(a.id()), Some(*a));
            assert!(!TensorType::removed(a.id()), "{a}");
            assert!(TensorType::ALL[..i].iter().all(|b| b.name() != a.name()), "{a}");
        }
    }

    #[test]
    fn sizes_of_v3_shapes() {
        assert_eq!(shape(&[7168, 2048, 256]).n_bytes(TensorType::IQ1_S), Some(734_003_200));
        assert_eq!(shape(&[7168]).n_bytes(TensorType::F32), Some(28_672));
        assert_eq!(shape(&[]).n_bytes(TensorType::F32), Some(4));
    }

    #[test]
    fn overflow_and_ragged_rows_are_refused() {
        assert_eq!(shape(&[255, 1]).n_bytes(TensorType::Q4_K), None);
        assert_eq!(shape(&[1 << 62, 4]).n_elements(), None);
        assert_eq!(shape(&[0, 1 << 62, 4]).n_elements(), None, "a zero must not hide the overflow");
        assert_eq!(shape(&[0, 5]).n_elements(), Some(0));
        assert_eq!(shape(&[1 << 61]).n_bytes(TensorType::F64), None);
        assert!(Shape::new(&[1; 5]).is_none());
    }
}
