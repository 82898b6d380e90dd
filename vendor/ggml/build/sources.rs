//! Where ggml's sources lie, and the compiler settings that all of them share.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The registry package that carries ggml; pinned in Cargo.toml.
const PACKAGE: &str = "llama-cpp-sys-2";

pub struct Sources {
    /// ggml's folder, with `include/` and `src/`.
    pub dir: PathBuf,
    /// ggml's version, as its CMakeLists.txt gives it.
    pub version: String,
    /// In words: what `ggml_commit()` returns.
    pub origin: String,
    /// Whether the files may change under us (`GGML_SOURCE_DIR`); a registry package never does.
    pub mutable: bool,
    pub out_dir: PathBuf,
}

impl Sources {
    pub fn find() -> Result<Sources, String> {
        println!("cargo:rerun-if-env-changed=GGML_SOURCE_DIR");
        let given = std::env::var_os("GGML_SOURCE_DIR").map(PathBuf::from);
        let mutable = given.is_some();
        let (dir, origin) = match given {
            Some(dir) => {
                println!("cargo:rerun-if-changed={}", dir.join("src").display());
                println!("cargo:rerun-if-changed={}", dir.join("include").display());
                (dir, "GGML_SOURCE_DIR".to_owned())
            }
            None => package_dir()?,
        };
        Ok(Sources {
            version: read_version(&dir)?,
            dir,
            origin,
            mutable,
            out_dir: PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?),
        })
    }

    /// A file of `ggml/src`.
    pub fn src(&self, file: &str) -> PathBuf {
        self.dir.join("src").join(file)
    }

    pub fn include_dirs(&self) -> [PathBuf; 3] {
        [self.dir.join("include"), self.dir.join("src"), self.out_dir.clone()]
    }

    pub fn c(&self) -> cc::Build {
        let mut build = self.common();
        build.std("c11");
        build
    }

    pub fn cpp(&self) -> cc::Build {
        let mut build = self.common();
        build.cpp(true).std("c++17");
        build
    }

    fn common(&self) -> cc::Build {
        let mut build = cc::Build::new();
        build
            .includes(self.include_dirs())
            .opt_level(3)
            .debug(false)
            .warnings(false)
            .define("NDEBUG", None)
            .define("_XOPEN_SOURCE", "600")
            .define("GGML_SCHED_MAX_COPIES", "4");
        if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
            build.define("_GNU_SOURCE", None);
        }
        build
    }
}

/// Asks cargo where it keeps the pinned package. The cfg that hides the package from the build is
/// set for this question alone; the platform filter keeps cargo from fetching what other systems need.
fn package_dir() -> Result<(PathBuf, String), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var("TARGET").map_err(|_| "TARGET is not set")?;
    let output = Command::new(&cargo)
        .args(["metadata", "--locked", "--format-version=1", "--filter-platform", &target])
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}ggml_sources")
        .output()
        .map_err(|e| format!("cannot run {}: {e}", cargo.display()))?;
    if !output.status.success() {
        return Err(format!(
            "cargo could not say where the package {PACKAGE} lies, which holds ggml's sources: {} \
             (without a network: run `cargo fetch` beforehand, or set GGML_SOURCE_DIR to ggml's folder)",
            String::from_utf8_lossy(&output.stderr).trim().replace('\n', " / ")
        ));
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|p| p["name"] == PACKAGE))
        .ok_or(format!("cargo metadata does not name the package {PACKAGE}"))?;
    let (manifest, version) = match (package["manifest_path"].as_str(), package["version"].as_str()) {
        (Some(manifest), Some(version)) => (Path::new(manifest), version),
        _ => return Err(format!("cargo metadata does not say where {PACKAGE} lies")),
    };
    Ok((manifest.with_file_name("llama.cpp").join("ggml"), format!("{PACKAGE} {version}")))
}

fn read_version(dir: &Path) -> Result<String, String> {
    let path = dir.join("CMakeLists.txt");
    let text =
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}: is this ggml's folder?", path.display()))?;
    let part = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(&format!("set(GGML_VERSION_{name} "))?.strip_suffix(')'))
            .ok_or(format!("{}: no GGML_VERSION_{name}", path.display()))
    };
    Ok(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}
