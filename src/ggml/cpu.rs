//! Whether this CPU has what ggml's CPU backend was compiled for.
//!
//! The backend is compiled for the machine that builds it. On a lesser one it would die of an
//! illegal instruction, perhaps minutes into a load; asking first costs nothing.

/// Instruction sets that the binary needs and this CPU lacks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this binary was compiled for CPUs with {}, which this one lacks: build it on this machine, \
     or portably with `GGML_CPU_ARCH=x86-64-v3 cargo build --release`",
    .0.join(", ")
)]
pub struct MissingFeatures(pub Vec<&'static str>);

pub fn check() -> Result<(), MissingFeatures> {
    missing(ggml_sys::CPU_FEATURES, has_feature)
}

/// Instruction sets that this CPU has, that kernels are written for, and that the binary does not use.
pub fn unused() -> Vec<&'static str> {
    const MATTER: [&str; 9] =
        ["avx2", "avx512f", "avx512vnni", "avx512bf16", "avxvnni", "amx-int8", "dotprod", "i8mm", "sve"];
    let used: Vec<&str> = ggml_sys::CPU_FEATURES.split(',').collect();
    MATTER.into_iter().filter(|feature| has_feature(feature) && !used.contains(feature)).collect()
}

fn missing(required: &'static str, has: impl Fn(&str) -> bool) -> Result<(), MissingFeatures> {
    let missing: Vec<_> = required.split(',').filter(|feature| !feature.is_empty() && !has(feature)).collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingFeatures(missing)) }
}

#[cfg(target_arch = "x86_64")]
fn has_feature(name: &str) -> bool {
    macro_rules! detect {
        ($($feature:tt)*) => {
            match name { $($feature => is_x86_feature_detected!($feature),)* _ => amx(name) }
        };
    }
    detect! {
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "f16c" "fma" "bmi1" "bmi2" "lzcnt" "movbe"
        "avx2" "gfni" "vaes" "vpclmulqdq" "avxvnni" "avxvnniint8" "avxvnniint16" "avxifma" "avxneconvert" "avx512f" "avx512cd" "avx512bw" "avx512dq"
        "avx512vl" "avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512vnni" "avx512bitalg"
        "avx512vpopcntdq" "avx512bf16" "avx512fp16"
    }
}

/// AMX by CPUID: Rust's own detection of it is not stable yet.
#[cfg(target_arch = "x86_64")]
fn amx(name: &str) -> bool {
    let bit = match name {
        "amx-bf16" => 22,
        "amx-tile" => 24,
        "amx-int8" => 25,
        _ => return false,
    };
    let max_leaf = std::arch::x86_64::__cpuid(0).eax;
    max_leaf >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & (1 << bit) != 0
}

#[cfg(target_arch = "aarch64")]
fn has_feature(name: &str) -> bool {
    macro_rules! detect {
        ($($feature:tt)*) => {
            match name { $($feature => std::arch::is_aarch64_feature_detected!($feature),)* _ => false }
        };
    }
    detect! { "dotprod" "fp16" "i8mm" "bf16" "sve" "sve2" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_that_built_it_can_run_it() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = missing("avx2,avx512f,amx-int8", |feature| feature == "avx2").unwrap_err();
        assert_eq!(error, MissingFeatures(vec!["avx512f", "amx-int8"]));
        assert!(error.to_string().contains("avx512f, amx-int8"));
        assert_eq!(missing("", |_| false), Ok(()));
    }

    #[test]
    fn a_feature_nobody_knows_counts_as_missing() {
        assert!(!has_feature("avx99"));
    }
}
