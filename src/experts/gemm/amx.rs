//! Tiles of AMX. Rust has no stable intrinsics for them, so they are written as instructions; the compiler itself
//! never uses tile registers.

use super::{Sums, TILE_BYTES};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Whether the CPU has tiles with BF16, and the system permits this process to use them.
pub(super) fn is_permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| has_tiles() && is_granted())
}

fn has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Linux saves tiles for processes that have asked for it only.
#[cfg(target_os = "linux")]
fn is_granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_granted() -> bool {
    false
}

/// What LDTILECFG reads: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// # Safety
/// Tiles are permitted.
pub(super) unsafe fn configure() {
    // SAFETY: the configuration is one that all CPUs with tiles have.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) }
}

/// # Safety
/// Tiles are permitted.
pub(super) unsafe fn release() {
    // SAFETY: nobody else uses them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// Adds two panels times two packs to sums [panel][pack].
///
/// # Safety
/// Panels and packs have `n_k` tiles, at least one, and tiles are configured.
pub(super) unsafe fn two_by_two(
    panels: [*const u16; 2],
    packs: [*const u32; 2],
    n_k: usize,
    sums: &mut [[Sums; 2]; 2],
) {
    // SAFETY: the caller's word; each sum is a tile.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c} + {row}]",
            "tileloadd tmm1, [{c} + {row} + {tile}]",
            "tileloadd tmm2, [{c} + {row} + 2 * {tile}]",
            "tileloadd tmm3, [{c} + {row} + 3 * {tile}]",
            "2:",
            "tileloadd tmm4, [{a0} + {row}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tileloadd tmm5, [{a1} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, {tile}",
            "add {a1}, {tile}",
            "add {b0}, {tile}",
            "add {b1}, {tile}",
            "dec {n}",
            "jnz 2b",
            "tilestored [{c} + {row}], tmm0",
            "tilestored [{c} + {row} + {tile}], tmm1",
            "tilestored [{c} + {row} + 2 * {tile}], tmm2",
            "tilestored [{c} + {row} + 3 * {tile}], tmm3",
            a0 = inout(reg) panels[0] => _,
            a1 = inout(reg) panels[1] => _,
            b0 = inout(reg) packs[0] => _,
            b1 = inout(reg) packs[1] => _,
            n = inout(reg) n_k => _,
            c = in(reg) sums.as_mut_ptr(),
            row = in(reg) 64usize,
            tile = const TILE_BYTES,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The same for one pack.
///
/// # Safety
/// As there.
pub(super) unsafe fn two_by_one(panels: [*const u16; 2], pack: *const u32, n_k: usize, sums: &mut [[Sums; 2]; 2]) {
    // SAFETY: the caller's word; each sum is a tile.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c} + {row}]",
            "tileloadd tmm2, [{c} + {row} + 2 * {tile}]",
            "2:",
            "tileloadd tmm4, [{a0} + {row}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tileloadd tmm5, [{a1} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "add {a0}, {tile}",
            "add {a1}, {tile}",
            "add {b0}, {tile}",
            "dec {n}",
            "jnz 2b",
            "tilestored [{c} + {row}], tmm0",
            "tilestored [{c} + {row} + 2 * {tile}], tmm2",
            a0 = inout(reg) panels[0] => _,
            a1 = inout(reg) panels[1] => _,
            b0 = inout(reg) pack => _,
            n = inout(reg) n_k => _,
            c = in(reg) sums.as_mut_ptr(),
            row = in(reg) 64usize,
            tile = const TILE_BYTES,
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}
