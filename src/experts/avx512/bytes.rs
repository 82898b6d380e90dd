//! Rows of weights as panels of whole numbers, for many tokens at once: numbers and scales as they are unpacked.

use super::panel::{prefetch, run_lanes, scales_and_mins};
use super::tables::tables;
use super::{Floats, Scales, Whole};
use crate::experts::activation::Order;
use crate::experts::block::group_bytes;
use crate::experts::gemm::{BytePanel, Kind, PANEL_ROWS};
use std::arch::x86_64::*;

/// Added to amounts that have signs, so that they have none. Amounts are smaller.
const MIDDLE: u8 = 64;

/// A group of sixteen rows that are `stride` bytes apart: to the panel at `to`.
///
/// # Safety
/// `from` points to a group of each row, `to` to a panel; the CPU has what [`is_supported`](super::is_supported) asks
/// for.
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
pub(super) unsafe fn whole<F: Whole>(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    let tables = tables();
    let kind = const {
        Kind {
            order: F::ORDER,
            offset: if F::HAS_SIGNS { MIDDLE } else { F::OFFSET },
            is_wide: matches!(F::SCALES, Scales::Words),
            has_mins: F::HAS_MINS && F::OFFSET == 0,
        }
    };
    // SAFETY: as the caller says; the arrays are as long as the vectors.
    unsafe {
        let panel = &mut *to.cast::<BytePanel>();
        panel.kind = kind;
        for row in 0..PANEL_ROWS {
            let group = from.add(row * stride);
            prefetch(soon.wrapping_add(row * stride), const { group_bytes(F::TYPE) });
            let w = F::unpack::<0>(group, tables);
            for i in 0..4 {
                let mut u = w.u[i];
                if F::HAS_SIGNS {
                    let middle = _mm512_set1_epi8(MIDDLE as i8);
                    u = _mm512_mask_sub_epi8(_mm512_add_epi8(middle, u), w.signs[i], middle, u);
                }
                _mm512_store_si512(panel.u[row].as_mut_ptr().add(64 * i).cast(), u);
            }
            let (scale, _) = scales_and_mins!(F, w);
            _mm512_store_ps(panel.scales[row].as_mut_ptr(), scale);
            if kind.has_mins {
                _mm256_store_si256(panel.mins[row].as_mut_ptr().cast(), w.mins);
                panel.d_min[row] = w.d_min;
            }
        }
    }
}

/// The same.
///
/// # Safety
/// As with [`whole`].
#[target_feature(enable = "avx512vnni,avx512vbmi,avx512vl,avx512dq,bmi2")]
pub(super) unsafe fn by_floats<F: Floats>(from: *const u8, stride: usize, soon: *const u8, to: *mut u16) {
    let tables = tables();
    let runs = const { run_lanes(F::ORDER) };
    // SAFETY: as the caller says; the arrays are as long as the vectors.
    unsafe {
        let panel = &mut *to.cast::<BytePanel>();
        // Blocks of all these types are of 32 weights.
        let is_wide = matches!(F::ORDER, Order::Natural);
        panel.kind = Kind { order: F::ORDER, offset: const { F::OFFSET as u8 }, is_wide, has_mins: false };
        for row in 0..PANEL_ROWS {
            let group = from.add(row * stride);
            prefetch(soon.wrapping_add(row * stride), const { group_bytes(F::TYPE) });
            let w = F::unpack::<0>(group, tables);
            for (i, u) in w.u.into_iter().enumerate() {
                _mm512_store_si512(panel.u[row].as_mut_ptr().add(64 * i).cast(), u);
            }
            let scale = _mm512_permutexvar_ps(_mm512_loadu_si512(runs.as_ptr().cast()), w.scale);
            _mm512_store_ps(panel.scales[row].as_mut_ptr(), scale);
        }
    }
}
