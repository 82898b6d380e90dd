//! ggml's CUDA backend as a library that was compiled before, on this machine or another one.
//!
//! A build with nvcc leaves `libggml-cuda.a` and `ggml-cuda.txt` in cargo's folder for it
//! (`target/release/build/ggml-sys-*/out`). With both in a folder that `GGML_CUDA_LIB_DIR` names, the feature `cuda`
//! is built without nvcc, in the time that the CPU's part takes. The text says what the library is for:
//!
//! ```text
//! ggml 0.26.0
//! cuda 13.0
//! archs 90-real
//! ```
//!
//! `libcudart_static.a` of the same CUDA release is taken from that folder too, or from `CUDA_HOME` or `CUDA_PATH`.

use crate::sources::Sources;
use std::path::{Path, PathBuf};

const DESCRIPTION: &str = "ggml-cuda.txt";

pub struct Library {
    /// Major and minor release of CUDA.
    pub cuda: (u32, u32),
    /// The architectures, as CMake spells them.
    pub archs: String,
    /// Where CUDA's own static libraries are.
    pub lib_dirs: Vec<PathBuf>,
}

impl Library {
    /// The library in `dir`, if it was made of these sources.
    pub fn take(dir: &Path, sources: &Sources) -> Result<Library, String> {
        let (archive, description) = (dir.join("libggml-cuda.a"), dir.join(DESCRIPTION));
        for path in [&archive, &description] {
            println!("cargo:rerun-if-changed={}", path.display());
        }
        let text = std::fs::read_to_string(&description)
            .map_err(|e| format!("GGML_CUDA_LIB_DIR: {}: {e}", description.display()))?;
        let says = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value.map(str::trim).ok_or(format!("{}: no line begins with '{key}'", description.display()))
        };
        let ggml = says("ggml")?;
        if ggml != sources.version {
            return Err(format!(
                "{} is of ggml {ggml}, but the sources are those of ggml {}: make it anew with nvcc",
                archive.display(),
                sources.version
            ));
        }
        let cuda = says("cuda")?;
        let version = cuda.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let version = version.ok_or(format!("{}: '{cuda}' is no release of CUDA", description.display()))?;
        if !archive.exists() {
            return Err(format!("GGML_CUDA_LIB_DIR: there is no {}", archive.display()));
        }
        println!("cargo:rustc-link-search=native={}", dir.display());
        println!("cargo:rustc-link-lib=static=ggml-cuda");
        println!("cargo:rustc-link-lib=stdc++");
        let homes = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os);
        let homes = homes.flat_map(|home| ["lib64", "lib"].map(|lib| Path::new(&home).join(lib)));
        let lib_dirs: Vec<PathBuf> = std::iter::once(dir.to_owned()).chain(homes).collect();
        if !lib_dirs.iter().any(|dir| dir.join("libcudart_static.a").exists()) {
            return Err(format!(
                "libcudart_static.a of CUDA {cuda} is neither in {} nor under CUDA_HOME",
                dir.display()
            ));
        }
        Ok(Library { cuda: version, archs: says("archs")?.to_owned(), lib_dirs })
    }

    /// Writes beside a library that was just made what it is.
    pub fn describe(&self, sources: &Sources) -> Result<(), String> {
        let path = sources.out_dir.join(DESCRIPTION);
        let (major, minor) = self.cuda;
        let text = format!("ggml {}\ncuda {major}.{minor}\narchs {}\n", sources.version, self.archs);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}
