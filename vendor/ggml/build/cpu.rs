//! The CPU backend, compiled for one instruction set, and the list of what that set requires.

use crate::sources::Sources;

pub fn compile(sources: &Sources) -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=GGML_CPU_ARCH");
    let arch = std::env::var("GGML_CPU_ARCH").unwrap_or_else(|_| "native".to_owned());
    let target_arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let (folder, flag) = match target_arch.as_str() {
        "x86_64" => ("x86", format!("-march={arch}")),
        "aarch64" if arch == "native" => ("arm", "-mcpu=native".to_owned()),
        "aarch64" => ("arm", format!("-march={arch}")),
        other => return Err(format!("no CPU backend is set up for {other}; x86_64 and aarch64 are")),
    };

    let c = ["ggml-cpu.c".to_owned(), "quants.c".to_owned(), format!("arch/{folder}/quants.c")];
    let cpp = [
        "ggml-cpu.cpp",
        "repack.cpp",
        "hbm.cpp",
        "traits.cpp",
        "amx/amx.cpp",
        "amx/mmq.cpp",
        "tiled/tiled.cpp",
        "tiled/tiled-kernel.cpp",
        "binary-ops.cpp",
        "unary-ops.cpp",
        "vec.cpp",
        "ops.cpp",
        "llamafile/sgemm.cpp",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("arch/{folder}/repack.cpp")]);

    let file = |name: String| sources.src(&format!("ggml-cpu/{name}"));
    let with_arch = |mut build: cc::Build| {
        build
            .include(sources.src("ggml-cpu"))
            .flag(&flag)
            .define("GGML_USE_LLAMAFILE", None)
            .define("GGML_USE_CPU_REPACK", None);
        build
    };
    let c_build = with_arch(sources.c());
    let required = required_features(&c_build, &target_arch)?;
    println!("cargo:rustc-env=GGML_SYS_CPU_ARCH={arch}");
    println!("cargo:rustc-env=GGML_SYS_CPU_FEATURES={}", required.join(","));

    let relax = std::path::absolute("src/relax.h").map_err(|e| format!("src/relax.h: {e}"))?;
    c_build.clone().flag("-include").flag(relax).files(c.map(file)).compile("ggml-cpu-c");
    with_arch(sources.cpp()).files(cpp.map(file)).compile("ggml-cpu");
    Ok(())
}

/// The instruction-set extensions that the compiler may use under these flags, by the names that
/// Rust's feature detection knows: read out of the macros that the compiler predefines.
fn required_features(build: &cc::Build, target_arch: &str) -> Result<Vec<&'static str>, String> {
    let table: &[(&str, &str)] = match target_arch {
        "x86_64" => X86_FEATURES,
        _ => ARM_FEATURES,
    };
    let mut command = build.get_compiler().to_command();
    command.args(["-dM", "-E", "-x", "c", "/dev/null"]);
    let output = command.output().map_err(|e| format!("cannot run the C compiler: {e}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the C compiler refuses GGML_CPU_ARCH: {}", stderr.lines().next().unwrap_or("no message")));
    }
    let macros = String::from_utf8_lossy(&output.stdout);
    let defined = |name: &str| macros.lines().any(|line| line.split(' ').nth(1) == Some(name));
    Ok(table.iter().filter(|(name, _)| defined(name)).map(|(_, feature)| *feature).collect())
}

const X86_FEATURES: &[(&str, &str)] = &[
    ("__SSE3__", "sse3"),
    ("__SSSE3__", "ssse3"),
    ("__SSE4_1__", "sse4.1"),
    ("__SSE4_2__", "sse4.2"),
    ("__POPCNT__", "popcnt"),
    ("__AVX__", "avx"),
    ("__F16C__", "f16c"),
    ("__FMA__", "fma"),
    ("__BMI__", "bmi1"),
    ("__BMI2__", "bmi2"),
    ("__LZCNT__", "lzcnt"),
    ("__MOVBE__", "movbe"),
    ("__AVX2__", "avx2"),
    ("__GFNI__", "gfni"),
    ("__VAES__", "vaes"),
    ("__VPCLMULQDQ__", "vpclmulqdq"),
    ("__AVXVNNI__", "avxvnni"),
    ("__AVXVNNIINT8__", "avxvnniint8"),
    ("__AVXVNNIINT16__", "avxvnniint16"),
    ("__AVXIFMA__", "avxifma"),
    ("__AVXNECONVERT__", "avxneconvert"),
    ("__AVX512F__", "avx512f"),
    ("__AVX512CD__", "avx512cd"),
    ("__AVX512BW__", "avx512bw"),
    ("__AVX512DQ__", "avx512dq"),
    ("__AVX512VL__", "avx512vl"),
    ("__AVX512IFMA__", "avx512ifma"),
    ("__AVX512VBMI__", "avx512vbmi"),
    ("__AVX512VBMI2__", "avx512vbmi2"),
    ("__AVX512VNNI__", "avx512vnni"),
    ("__AVX512BITALG__", "avx512bitalg"),
    ("__AVX512VPOPCNTDQ__", "avx512vpopcntdq"),
    ("__AVX512BF16__", "avx512bf16"),
    ("__AVX512FP16__", "avx512fp16"),
    ("__AMX_TILE__", "amx-tile"),
    ("__AMX_INT8__", "amx-int8"),
    ("__AMX_BF16__", "amx-bf16"),
];

const ARM_FEATURES: &[(&str, &str)] = &[
    ("__ARM_FEATURE_DOTPROD", "dotprod"),
    ("__ARM_FEATURE_FP16_VECTOR_ARITHMETIC", "fp16"),
    ("__ARM_FEATURE_MATMUL_INT8", "i8mm"),
    ("__ARM_FEATURE_BF16", "bf16"),
    ("__ARM_FEATURE_SVE", "sve"),
    ("__ARM_FEATURE_SVE2", "sve2"),
];
