//! Compiles ggml, and ggml alone: no cmake, no libclang, a C++ compiler is all it takes.
//!
//! Environment:
//! - `GGML_SOURCE_DIR`: ggml's folder (the one with `include/` and `src/`) instead of the pinned package's;
//! - `GGML_CPU_ARCH`: what `-march` gets; `native` by default (on Arm that is `-mcpu=native`),
//!   `x86-64-v3` for a build that runs on every x86 machine with AVX2;
//! - with the feature `cuda`: see `build/cuda.rs`.
//!
//! ggml is optimised in every profile: a debug build of the Rust code should not run a model at a
//! hundredth of its speed.

#[path = "build/cpu.rs"]
mod cpu;
#[path = "build/cuda.rs"]
mod cuda;
#[path = "build/cuda_library.rs"]
mod cuda_library;
#[path = "build/sources.rs"]
mod sources;

use sources::Sources;
use std::path::Path;

/// The version that `src/bindings.rs` was generated from.
const BINDINGS_VERSION: &str = "0.26.0";

fn main() {
    for file in ["build.rs", "build", "Cargo.toml", "src/layout.c", "src/relax.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    if let Err(message) = build() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let sources = Sources::find()?;
    if sources.version != BINDINGS_VERSION {
        return Err(format!(
            "{} holds ggml {}, but the bindings are those of ggml {BINDINGS_VERSION}: \
             use that version, or run vendor/ggml/update-bindings.sh",
            sources.dir.display(),
            sources.version
        ));
    }
    let with_cuda = std::env::var_os("CARGO_FEATURE_CUDA").is_some();
    println!("cargo:rustc-env=GGML_SYS_VERSION={}", sources.version);
    if !with_cuda {
        println!("cargo:rustc-env=GGML_SYS_CUDA_ARCHS=");
        println!("cargo:rustc-env=GGML_SYS_CUDA_VERSION=");
    }

    write_version_header(&sources)?;
    compile_base(&sources);
    cpu::compile(&sources)?;
    if with_cuda {
        cuda::compile(&sources)?;
    }
    compile_registry(&sources, with_cuda);
    Ok(())
}

/// ggml's own build generates this header; `ggml_version()` and `ggml_commit()` return what it says.
fn write_version_header(sources: &Sources) -> Result<(), String> {
    let path = sources.out_dir.join("ggml-version.h");
    let text = format!(
        "#pragma once\n#define GGML_VERSION \"{}\"\n#define GGML_COMMIT \"{}\"\n",
        sources.version, sources.origin
    );
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Tensors, graphs, the allocator, quantisation, the backend interface: all that no instruction-set
/// flag touches, so that it runs before the CPU has been checked.
fn compile_base(sources: &Sources) {
    let c = ["ggml.c", "ggml-alloc.c", "ggml-quants.c"];
    let cpp =
        ["ggml.cpp", "ggml-backend.cpp", "ggml-backend-meta.cpp", "ggml-opt.cpp", "ggml-threading.cpp", "gguf.cpp"];
    sources.c().file("src/layout.c").files(c.map(|f| sources.src(f))).compile("ggml-base-c");
    sources.cpp().files(cpp.map(|f| sources.src(f))).compile("ggml-base");
}

/// The list of backends in the binary.
fn compile_registry(sources: &Sources, with_cuda: bool) {
    let mut build = sources.cpp();
    build.files(["ggml-backend-dl.cpp", "ggml-backend-reg.cpp"].map(|f| sources.src(f))).define("GGML_USE_CPU", None);
    if with_cuda {
        build.define("GGML_USE_CUDA", None);
    }
    build.compile("ggml");
}

/// The names of the files in `dir` for which `keep` holds, sorted so that builds are reproducible.
fn files_in(dir: &Path, keep: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| keep(name)).collect();
    names.sort();
    Ok(names)
}
