//! NVIDIA's GPUs, by ggml's CUDA backend: which there are, and why there are none.
//!
//! The driver is asked before ggml is: of a machine without one ggml says only that it failed. The program itself
//! needs neither driver nor CUDA to start.

use ggml_sys::{ggml_backend_buffer_type, ggml_backend_device};
use serde::Serialize;
#[cfg(feature = "cuda")]
use std::ffi::CStr;
use std::fmt;
use std::ptr::NonNull;

/// A GPU that can be computed on.
#[derive(Clone)]
pub struct Gpu {
    device: NonNull<ggml_backend_device>,
    facts: GpuFacts,
}

// SAFETY: devices are static, and what is asked of one may be asked from any thread.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

/// What is known of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuFacts {
    /// Counted from 0, in CUDA's order, which `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` change.
    pub number: usize,
    pub name: String,
    /// Where it is on the bus: `0000:01:00.0`.
    pub bus: Option<String>,
    /// Bytes.
    pub memory: u64,
    pub free: u64,
    /// Major and minor.
    pub compute_capability: [u32; 2],
}

/// Why nothing is computed on GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGpus {
    #[error("this program was built without CUDA (`cargo build --release --features cuda`)")]
    NotBuilt,
    #[error("there is no NVIDIA driver: libcuda.so.1 is not installed")]
    NoDriver,
    #[error(
        "the NVIDIA driver is too old: it knows CUDA {}, and this program was built with {}; install a newer driver, or \
         build with CUDA {} or older",
        Release(*has), ggml_sys::CUDA_VERSION, Release(*has)
    )]
    OldDriver { has: u32 },
    #[error("the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES hides some)")]
    None,
    #[error("cuBLAS cannot be opened: {0}; install CUDA {major}'s runtime libraries (libcublas-{major}-*), or name their folder in LD_LIBRARY_PATH", major = major())]
    NoCublas(String),
    #[error(
        "{name} has compute capability {}.{}, and this program was built for {}: build it with CUDAARCHS={}{}",
        capability[0], capability[1], ggml_sys::CUDA_ARCHS, capability[0], capability[1]
    )]
    Architecture { name: String, capability: [u32; 2] },
    #[error("CUDA cannot be used: {0}")]
    Other(String),
}

/// CUDA counts 13.0 as 13000.
struct Release(u32);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

fn major() -> &'static str {
    ggml_sys::CUDA_VERSION.split('.').next().unwrap_or("")
}

impl Gpu {
    /// All GPUs of this machine that can be computed on. Asked for the first time, the driver wakes up, which takes
    /// some tenths of a second, and some memory on each GPU.
    pub fn all() -> Result<Vec<Gpu>, NoGpus> {
        found()
    }

    pub fn facts(&self) -> &GpuFacts {
        &self.facts
    }

    pub(super) fn as_ptr(&self) -> *mut ggml_backend_device {
        self.device.as_ptr()
    }

    /// Of memory on the GPU.
    pub(super) fn memory_type(&self) -> *mut ggml_backend_buffer_type {
        // SAFETY: the device is static.
        unsafe { ggml_sys::ggml_backend_dev_buffer_type(self.as_ptr()) }
    }

    /// Of memory in RAM that copies from and to the GPU need not be prepared for.
    pub(super) fn pinned_type(&self) -> *mut ggml_backend_buffer_type {
        // SAFETY: as above.
        unsafe { ggml_sys::ggml_backend_dev_host_buffer_type(self.as_ptr()) }
    }

    /// Bytes that can be had now.
    pub fn free(&self) -> u64 {
        let (mut free, mut total) = (0, 0);
        // SAFETY: as above; both are written.
        unsafe { ggml_sys::ggml_backend_dev_memory(self.as_ptr(), &raw mut free, &raw mut total) };
        free as u64
    }

    #[cfg(feature = "cuda")]
    fn of(number: usize, device: NonNull<ggml_backend_device>, compute_capability: [u32; 2]) -> Gpu {
        let text = |ptr: *const std::ffi::c_char| {
            // SAFETY: ggml's texts of a device are static and end with a NUL.
            (!ptr.is_null()).then(|| unsafe { CStr::from_ptr(ptr) }.to_string_lossy().trim().to_owned())
        };
        // SAFETY: the device is static, and the description is written before it is read.
        let props = unsafe {
            let mut props: ggml_sys::ggml_backend_dev_props = std::mem::zeroed();
            ggml_sys::ggml_backend_dev_get_props(device.as_ptr(), &raw mut props);
            props
        };
        let facts = GpuFacts {
            number,
            name: text(props.description).unwrap_or_default(),
            bus: text(props.device_id),
            memory: props.memory_total as u64,
            free: props.memory_free as u64,
            compute_capability,
        };
        Gpu { device, facts }
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.fmt(f)
    }
}

#[cfg(not(feature = "cuda"))]
fn found() -> Result<Vec<Gpu>, NoGpus> {
    Err(NoGpus::NotBuilt)
}

#[cfg(feature = "cuda")]
fn found() -> Result<Vec<Gpu>, NoGpus> {
    use std::ffi::c_int;
    let (mut n, mut driver): (c_int, c_int) = (0, 0);
    // SAFETY: the runtime writes to the numbers, and its texts are static.
    let problem = unsafe {
        let status = ggml_sys::cudaGetDeviceCount(&raw mut n);
        ggml_sys::cudaDriverGetVersion(&raw mut driver);
        (status != 0).then(|| (status, CStr::from_ptr(ggml_sys::cudaGetErrorString(status)).to_string_lossy()))
    };
    let driver = u32::try_from(driver).unwrap_or(0);
    match problem {
        Some(_) if driver == 0 => return Err(NoGpus::NoDriver),
        Some((INSUFFICIENT_DRIVER, _)) => return Err(NoGpus::OldDriver { has: driver }),
        Some((NO_DEVICE, _)) => return Err(NoGpus::None),
        Some((_, text)) => return Err(NoGpus::Other(text.into_owned())),
        None if n <= 0 => return Err(NoGpus::None),
        None => {}
    }
    // SAFETY: the function returns null, or a text that stays.
    let problem = unsafe {
        let problem = ggml_sys::ggml_sys_cublas_open();
        (!problem.is_null()).then(|| CStr::from_ptr(problem).to_string_lossy().into_owned())
    };
    if let Some(problem) = problem {
        return Err(NoGpus::NoCublas(problem));
    }
    // SAFETY: no conditions; what comes back is static.
    let (registry, n) = unsafe {
        let registry = ggml_sys::ggml_backend_cuda_reg();
        (registry, ggml_sys::ggml_backend_reg_dev_count(registry))
    };
    let mut gpus = Vec::new();
    let mut unfit = None;
    for number in 0..n {
        // SAFETY: below the number of devices.
        let device = unsafe { ggml_sys::ggml_backend_reg_dev_get(registry, number) };
        let Some(device) = NonNull::new(device) else { continue };
        let gpu = Gpu::of(number, device, [attribute(number, 75), attribute(number, 76)]);
        if runs_on(ggml_sys::CUDA_ARCHS, gpu.facts.compute_capability) {
            gpus.push(gpu);
        } else {
            let GpuFacts { name, compute_capability: capability, .. } = gpu.facts;
            unfit = Some(NoGpus::Architecture { name, capability });
        }
    }
    match unfit {
        Some(problem) if gpus.is_empty() => Err(problem),
        _ if gpus.is_empty() => Err(NoGpus::None),
        _ => Ok(gpus),
    }
}

#[cfg(feature = "cuda")]
const INSUFFICIENT_DRIVER: std::ffi::c_int = 35;
#[cfg(feature = "cuda")]
const NO_DEVICE: std::ffi::c_int = 100;

/// `cudaDevAttrComputeCapabilityMajor` is 75, `…Minor` 76.
#[cfg(feature = "cuda")]
fn attribute(device: usize, attribute: std::ffi::c_int) -> u32 {
    let mut value = 0;
    // SAFETY: the runtime writes to the number.
    unsafe {
        ggml_sys::cudaDeviceGetAttribute(&raw mut value, attribute, i32::try_from(device).unwrap_or(i32::MAX));
    }
    u32::try_from(value).unwrap_or(0)
}

/// Whether code for these architectures, as CMake spells them, runs on a GPU of this compute capability: machine code
/// on its own generation from its own minor number on, portable code on everything later; what is named with a
/// letter on that one alone.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn runs_on(archs: &str, [major, minor]: [u32; 2]) -> bool {
    let capability = 10 * major + minor;
    archs.split(';').any(|arch| {
        let (name, kind) = arch.split_once('-').unwrap_or((arch, ""));
        let digits = name.trim_end_matches(['a', 'f']);
        let Ok(built_for) = digits.parse::<u32>() else { return false };
        // Those are compiled under their particular names.
        if name != digits || built_for / 10 == 12 {
            return built_for == capability;
        }
        let has_machine_code = kind != "virtual" && built_for / 10 == major && built_for <= capability;
        let has_portable_code = kind != "real" && built_for <= capability;
        has_machine_code || has_portable_code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_runs_where_it_was_built_for() {
        for (archs, capability, runs) in [
            ("90-real", [9, 0], true),
            ("90-real", [10, 0], false),
            ("90", [10, 0], true),
            ("90", [8, 9], false),
            ("80;86-real;89-real", [8, 7], true),
            ("86-real", [8, 0], false),
            ("80-virtual", [12, 0], true),
            ("120", [12, 0], true),
            ("120a-real", [12, 1], false),
            ("", [9, 0], false),
        ] {
            assert_eq!(runs_on(archs, capability), runs, "{archs} on {capability:?}");
        }
    }

    /// Whatever the machine has, asking does no harm, and what is wrong is said in words.
    #[test]
    fn asking_for_gpus_is_answered() {
        match Gpu::all() {
            Ok(gpus) => assert!(gpus.iter().all(|gpu| gpu.facts().memory > 0), "{gpus:?}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let error = NoGpus::OldDriver { has: 12040 }.to_string();
        assert!(error.contains("it knows CUDA 12.4, "), "{error}");
    }
}
