//! The codebooks of the IQ types, read out of ggml's decoder: one crafted entry after the other is decoded with
//! a scale that is known. They are not written down here, so they cannot be wrong here.

use crate::ggml::dequantize;
use crate::gguf::TensorType;
use std::sync::OnceLock;

/// What indices stand for.
pub(in crate::experts) struct Codebooks {
    /// IQ1_S and IQ1_M: eight of -1, 0 and 1.
    pub(in crate::experts) iq1: Vec<[i8; 8]>,
    /// IQ2: eight amounts without sign.
    pub(in crate::experts) iq2_xxs: Vec<[i8; 8]>,
    pub(in crate::experts) iq2_xs: Vec<[i8; 8]>,
    pub(in crate::experts) iq2_s: Vec<[i8; 8]>,
    /// IQ3: four amounts without sign.
    pub(in crate::experts) iq3_xxs: Vec<[i8; 4]>,
    pub(in crate::experts) iq3_s: Vec<[i8; 4]>,
    /// IQ4_NL and IQ4_XS.
    pub(in crate::experts) iq4: [i8; 16],
}

pub(in crate::experts) fn codebooks() -> &'static Codebooks {
    static BOOKS: OnceLock<Codebooks> = OnceLock::new();
    BOOKS.get_or_init(|| Codebooks {
        iq1: entries(TensorType::IQ1_S, 2048, 1.0, |block, at, index| {
            block[..2].copy_from_slice(&ONE);
            block[2 + at] = index as u8;
            let field = 34 + 2 * (at / 4) + usize::from(at % 4 == 3); // three bits at 3 · (at % 4) of a u16
            match at % 4 {
                0 => block[field] |= (index >> 8) as u8,
                1 => block[field] |= (index >> 8 << 3) as u8,
                2 => {
                    let high = (index >> 8 << 6) as u16;
                    block[field] |= high as u8;
                    block[field + 1] |= (high >> 8) as u8;
                }
                _ => block[field] |= (index >> 8 << 1) as u8,
            }
        }),
        iq2_xxs: entries(TensorType::IQ2_XXS, 256, 8.0, |block, at, index| {
            block[..2].copy_from_slice(&ONE);
            block[2 + 8 * (at / 4) + at % 4] = index as u8;
        }),
        iq2_xs: entries(TensorType::IQ2_XS, 512, 8.0, |block, at, index| {
            block[..2].copy_from_slice(&ONE);
            block[2 + 2 * at..4 + 2 * at].copy_from_slice(&(index as u16).to_le_bytes());
        }),
        iq2_s: entries(TensorType::IQ2_S, 1024, 8.0, |block, at, index| {
            block[..2].copy_from_slice(&ONE);
            block[2 + at] = index as u8;
            block[66 + at / 4] |= ((index >> 8) << (2 * (at % 4))) as u8;
        }),
        iq3_xxs: entries(TensorType::IQ3_XXS, 256, 4.0, |block, at, index| {
            block[..2].copy_from_slice(&ONE);
            block[2 + at] = index as u8;
        }),
        iq3_s: entries(TensorType::IQ3_S, 512, 1.0, |block, at, index| {
            block[..2].copy_from_slice(&ONE);
            block[2 + at] = index as u8;
            block[66 + at / 8] |= ((index >> 8) << (at % 8)) as u8;
        }),
        iq4: {
            let one: Vec<[i8; 1]> = entries(TensorType::IQ4_NL, 16, 1.0, |block, at, index| {
                block[..2].copy_from_slice(&ONE);
                block[2 + at % 16] |= (index << (4 * (at / 16))) as u8;
            });
            std::array::from_fn(|n| one[n][0])
        },
    })
}

/// 1 as an F16.
const ONE: [u8; 2] = [0x00, 0x3c];

/// `n` entries of `N` values: `craft` writes an index to a place of a block that is zero otherwise, and decoded
/// values times `factor` are the entry's, but for fractions.
fn entries<const N: usize>(
    ty: TensorType,
    n: usize,
    factor: f32,
    craft: impl Fn(&mut [u8], usize, usize),
) -> Vec<[i8; N]> {
    let (bytes, len) = (ty.block_bytes() as usize, ty.block_len() as usize);
    let mut all = Vec::with_capacity(n);
    let (mut block, mut values) = (vec![0; bytes], vec![0f32; len]);
    while all.len() < n {
        block.fill(0);
        let at_once = (n - all.len()).min(len / N);
        (0..at_once).for_each(|at| craft(&mut block, at, all.len() + at));
        if dequantize(ty, &block, &mut values).is_err() {
            unreachable!("ggml decodes {ty}, and the block and its values are as long as it says");
        }
        let (decoded, _) = values.as_chunks::<N>();
        all.extend(decoded.iter().take(at_once).map(|entry| entry.map(|value| (value * factor).floor() as i8)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The papers of the types say which values there are; two equal entries would be a crafted index gone wrong.
    #[test]
    fn entries_are_of_the_known_values_and_all_different() {
        let books = codebooks();
        let distinct = |book: &[[i8; 8]], n: usize, values: &[i8]| {
            assert_eq!(book.iter().collect::<HashSet<_>>().len(), n);
            assert!(book.iter().flatten().all(|value| values.contains(value)));
        };
        distinct(&books.iq1, 2048, &[-1, 0, 1]);
        distinct(&books.iq2_xxs, 256, &[8, 25, 43]);
        distinct(&books.iq2_xs, 512, &[8, 25, 43]);
        distinct(&books.iq2_s, 1024, &[8, 25, 43]);
        let distinct = |book: &[[i8; 4]], n: usize, largest: i8| {
            assert_eq!(book.iter().collect::<HashSet<_>>().len(), n);
            assert!(book.iter().flatten().all(|value| (1..=largest).contains(value)));
        };
        distinct(&books.iq3_xxs, 256, 62);
        distinct(&books.iq3_s, 512, 15);
        assert!(books.iq4.is_sorted() && books.iq4[0] < 0 && books.iq4[15] > 0);
    }
}
