//! The CUDA backend, compiled by nvcc, one file a process, as many at once as cargo allows.
//!
//! Environment:
//! - `CUDA_HOME` or `CUDA_PATH`: the toolkit; else the one whose `nvcc` is on the `PATH`;
//! - `CUDAARCHS`: the architectures, as CMake spells them (`90`, `80-virtual;86-real;120a-real`);
//!   else those of the GPUs in this machine, as `nvidia-smi` gives them; else `DEFAULT_ARCHS`;
//! - `GGML_CUDA_LIB_DIR`: a folder with what such a build made before, and nothing is compiled by nvcc:
//!   see `build/cuda_library.rs`.
//!
//! A finished object is kept, so a build that was interrupted goes on where it stopped.
//!
//! The program starts where there is no driver and no CUDA: the runtime is linked statically and opens the
//! driver by itself, and cuBLAS is opened by `src/cublas.c` when it is needed.

use crate::cuda_library::Library;
use crate::{files_in, sources::Sources};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// From the A100 to Blackwell, plus portable code for what comes after.
const DEFAULT_ARCHS: &str = "80;86-real;89-real;90;120";

/// K and V types of the KV cache for which the vector flash-attention kernel is compiled.
const FATTN_TYPES: [&str; 7] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "bf16", "f16"];
const FATTN_PAIRS: [&str; 4] = ["q4_0-q4_0", "q8_0-q8_0", "f16-f16", "bf16-bf16"];

pub fn compile(sources: &Sources) -> Result<(), String> {
    for name in ["CUDA_HOME", "CUDA_PATH", "CUDAARCHS", "GGML_CUDA_LIB_DIR", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let library = match std::env::var_os("GGML_CUDA_LIB_DIR") {
        Some(dir) => Library::take(Path::new(&dir), sources)?,
        None => compile_library(sources)?,
    };
    println!("cargo:rustc-env=GGML_SYS_CUDA_ARCHS={}", library.archs);
    let (major, minor) = library.cuda;
    println!("cargo:rustc-env=GGML_SYS_CUDA_VERSION={major}.{minor}");
    println!("cargo:rerun-if-changed=src/cublas.c");
    let version = major.to_string();
    sources.c().file("src/cublas.c").define("CUDA_VERSION_MAJOR", version.as_str()).compile("ggml-cublas");
    for lib_dir in &library.lib_dirs {
        println!("cargo:rustc-link-search=native={}", lib_dir.display());
    }
    for lib in ["static=cudart_static", "dl", "rt", "pthread"] {
        println!("cargo:rustc-link-lib={lib}");
    }
    Ok(())
}

fn compile_library(sources: &Sources) -> Result<Library, String> {
    let toolkit = Toolkit::find()?;
    let archs = architectures();
    let flags = flags(sources, &toolkit, &archs)?;
    let files = source_files(sources)?;

    let dir = sources.out_dir.join(format!("cuda-{:016x}", fingerprint(&flags, &toolkit)));
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let objects = compile_all(&toolkit, &flags, &files, &dir, sources.mutable)?;

    let mut archive = cc::Build::new();
    archive.objects(objects).cpp(true).compile("ggml-cuda");
    let library = Library { cuda: toolkit.version, archs: archs.join(";"), lib_dirs: toolkit.lib_dirs() };
    library.describe(sources)?;
    Ok(library)
}

struct Toolkit {
    nvcc: PathBuf,
    /// Major and minor, for instance (13, 0).
    version: (u32, u32),
}

impl Toolkit {
    fn find() -> Result<Toolkit, String> {
        let home = ["CUDA_HOME", "CUDA_PATH"].iter().find_map(std::env::var_os);
        let nvcc = match &home {
            Some(home) => Path::new(home).join("bin/nvcc"),
            None => PathBuf::from("nvcc"),
        };
        let output = Command::new(&nvcc).arg("--version").output().map_err(|e| {
            format!(
                "the feature `cuda` needs nvcc, and {} cannot be run ({e}): install the CUDA toolkit \
                 (12.4 or later) and set CUDA_HOME to its folder or put nvcc on the PATH, or build \
                 without `--features cuda`",
                nvcc.display()
            )
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .split("release ")
            .nth(1)
            .and_then(|rest| rest.split(',').next()?.split_once('.'))
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .ok_or(format!("{} --version names no release", nvcc.display()))?;
        Ok(Toolkit { nvcc, version })
    }

    fn lib_dirs(&self) -> Vec<PathBuf> {
        let nvcc = match self.nvcc.is_absolute() {
            true => Some(self.nvcc.clone()),
            false => std::env::var_os("PATH")
                .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join("nvcc")).find(|p| p.exists())),
        };
        let nvcc = nvcc.and_then(|path| path.canonicalize().ok());
        let root = nvcc.as_deref().and_then(|path| path.parent()?.parent());
        root.map(|root| ["lib64", "lib"].map(|lib| root.join(lib)).into_iter().filter(|dir| dir.is_dir()).collect())
            .unwrap_or_default()
    }
}

fn flags(sources: &Sources, toolkit: &Toolkit, archs: &[String]) -> Result<Vec<String>, String> {
    let mut flags: Vec<String> =
        ["-O3", "-std=c++17", "-use_fast_math", "-extended-lambda", "-Xcompiler=-fPIC", "-w"].map(str::to_owned).into();
    if toolkit.version >= (12, 8) {
        flags.push("-compress-mode=size".to_owned());
    }
    let defines = ["NDEBUG", "_GNU_SOURCE", "_XOPEN_SOURCE=600", "GGML_SCHED_MAX_COPIES=4", "GGML_USE_CUDA"];
    flags.extend(defines.map(|d| format!("-D{d}")));
    // CUDA graphs spare a launch per kernel; without the virtual-memory pool the binary does not
    // need the driver library to link, so it also starts where there is no driver.
    flags.extend(["-DGGML_CUDA_USE_GRAPHS", "-DGGML_CUDA_NO_VMM"].map(str::to_owned));
    flags.push(format!("-DGGML_CUDA_FA_QUANTS=\"{}\"", FATTN_PAIRS.join(",")));
    for v in FATTN_TYPES {
        for k in FATTN_TYPES {
            let compiled = u8::from(FATTN_PAIRS.contains(&format!("{k}-{v}").as_str()));
            flags.push(format!("-DGGML_CUDA_FA_{}_{}={compiled}", k.to_uppercase(), v.to_uppercase()));
        }
    }
    flags.extend(sources.include_dirs().iter().map(|dir| format!("-I{}", dir.display())));
    for arch in archs {
        flags.extend(gencode(arch, toolkit)?);
    }
    Ok(flags)
}

fn architectures() -> Vec<String> {
    let text = match std::env::var("CUDAARCHS") {
        Ok(text) if !text.trim().is_empty() && text.trim() != "native" => text,
        _ => gpus_here().unwrap_or_else(|| DEFAULT_ARCHS.to_owned()),
    };
    text.split([';', ',', ' ']).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// The compute capabilities of this machine's GPUs: `8.6` becomes `86-real`.
fn gpus_here() -> Option<String> {
    let output = Command::new("nvidia-smi").args(["--query-gpu=compute_cap", "--format=csv,noheader"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let mut archs: Vec<String> = text
        .lines()
        .map(|line| line.trim().replace('.', ""))
        .filter(|cap| !cap.is_empty() && cap.bytes().all(|b| b.is_ascii_digit()))
        .map(|cap| format!("{cap}-real"))
        .collect();
    archs.sort();
    archs.dedup();
    (!archs.is_empty()).then(|| archs.join(";"))
}

/// One architecture in CMake's spelling: `90` is machine code and portable code, `90-real` machine
/// code alone, `90-virtual` portable code alone. Blackwell's FP4 instructions exist only under the
/// architecture-specific name, so `120` is taken as `120a`.
fn gencode(arch: &str, toolkit: &Toolkit) -> Result<Vec<String>, String> {
    let (name, kind) = arch.split_once('-').unwrap_or((arch, ""));
    let digits = name.trim_end_matches(['a', 'f']);
    let number: u32 = digits.parse().map_err(|_| {
        format!("CUDAARCHS: {arch:?} is no architecture: write for instance 90, 86-real or 80-virtual, joined by ';'")
    })?;
    if number >= 120 && toolkit.version < (12, 8) {
        let (major, minor) = toolkit.version;
        return Err(format!("CUDAARCHS: {arch} needs CUDA 12.8 or later, nvcc here is {major}.{minor}"));
    }
    let name = if number / 10 == 12 && name == digits { format!("{number}a") } else { name.to_owned() };
    let code = match kind {
        "" => format!("[sm_{name},compute_{name}]"),
        "real" => format!("sm_{name}"),
        "virtual" => format!("compute_{name}"),
        other => return Err(format!("CUDAARCHS: {arch:?}: -{other} is neither -real nor -virtual")),
    };
    Ok(vec!["-gencode".to_owned(), format!("arch=compute_{name},code={code}")])
}

fn source_files(sources: &Sources) -> Result<Vec<PathBuf>, String> {
    let dir = sources.src("ggml-cuda");
    let instances = dir.join("template-instances");
    let is_wanted = |name: &str| match name.strip_prefix("fattn-vec-instance-") {
        Some(pair) => FATTN_PAIRS.iter().any(|wanted| pair == format!("{wanted}.cu")),
        None => name.ends_with(".cu"),
    };
    let own = files_in(&dir, |name| name.ends_with(".cu"))?;
    let generated = files_in(&instances, is_wanted)?;
    Ok(own.iter().map(|name| dir.join(name)).chain(generated.iter().map(|name| instances.join(name))).collect())
}

fn compile_all(
    toolkit: &Toolkit,
    flags: &[String],
    files: &[PathBuf],
    dir: &Path,
    again: bool,
) -> Result<Vec<PathBuf>, String> {
    let jobs = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize);
    // The largest files first: they take minutes, and a long one begun last keeps one core busy alone.
    let mut queue: Vec<&PathBuf> = files.iter().collect();
    queue.sort_by_key(|file| weight(file));
    let queue = Mutex::new(queue);
    // A function, so that the lock is held for the taking alone, not for the compiling.
    let next = || queue.lock().unwrap().pop();
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(file) = next() {
                    let object = object_of(dir, file);
                    if object.exists() && !again {
                        continue;
                    }
                    if let Err(message) = compile_one(toolkit, flags, file, &object) {
                        failure.lock().unwrap().get_or_insert(message);
                        queue.lock().unwrap().clear();
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap() {
        Some(message) => Err(message),
        None => Ok(files.iter().map(|file| object_of(dir, file)).collect()),
    }
}

/// Compile time goes with the number of template instances, which file size does not show.
fn weight(file: &Path) -> u64 {
    let heavy = ["template-instances", "mmq", "mmvq", "fattn", "ggml-cuda.cu"];
    let is_heavy = heavy.iter().any(|part| file.to_string_lossy().contains(part));
    let size = file.metadata().map_or(0, |m| m.len());
    size + if is_heavy { 1 << 32 } else { 0 }
}

fn object_of(dir: &Path, file: &Path) -> PathBuf {
    dir.join(file.file_name().unwrap_or_default()).with_extension("cu.o")
}

fn compile_one(toolkit: &Toolkit, flags: &[String], file: &Path, object: &Path) -> Result<(), String> {
    let unfinished = object.with_extension("part");
    let output = Command::new(&toolkit.nvcc)
        .args(flags)
        .arg("-c")
        .arg(file)
        .arg("-o")
        .arg(&unfinished)
        .output()
        .map_err(|e| format!("cannot run {}: {e}", toolkit.nvcc.display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| line.contains("error")).unwrap_or("no message");
        return Err(format!("nvcc failed on {}: {last}", file.display()));
    }
    std::fs::rename(&unfinished, object).map_err(|e| format!("{}: {e}", object.display()))
}

/// Objects of other flags, or of another toolkit, are not taken over.
fn fingerprint(flags: &[String], toolkit: &Toolkit) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (flags, &toolkit.nvcc, toolkit.version).hash(&mut hasher);
    hasher.finish()
}
