//! Machines that a TOML file describes.

use super::{Efficiency, GPU_OVERHEAD, Gpu, Machine, PUBLISHED, Rates};
use crate::text::Escaped;
use serde::Deserialize;
use toml::Spanned;

/// What is wrong with a description, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadMachine {
    pub line: usize,
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    ram: Ram,
    cpu: Cpu,
    #[serde(default)]
    gpu: Vec<GpuTable>,
    disk: Option<Disk>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ram {
    size: Spanned<toml::Value>,
    bandwidth_gb_s: Spanned<f64>,
    numa_nodes: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cpu {
    cores: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GpuTable {
    name: Option<String>,
    count: Option<Spanned<u32>>,
    vram: Spanned<toml::Value>,
    bandwidth_gb_s: Spanned<f64>,
    tflops: Spanned<f64>,
    pcie_gb_s: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    gb_s: Spanned<f64>,
}

/// Bytes of RAM that a system takes for itself, at least; and the part of large memories.
const SYSTEM: u64 = 2 << 30;
const SYSTEM_PART: u64 = 50;

impl Machine {
    pub fn described(text: &str) -> Result<Machine, BadMachine> {
        let file: File = toml::from_str(text).map_err(|error| BadMachine {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            problem: Escaped(error.message()).to_string(),
        })?;
        let reader = Reader { text };
        let ram = reader.size("ram.size", &file.ram.size)?;
        let cores = reader.count("cpu.cores", &file.cpu.cores, 4096)?;
        let mut gpus = Vec::new();
        for table in &file.gpu {
            let count = table.count.as_ref().map_or(Ok(1), |count| reader.count("gpu.count", count, 64))?;
            let gpu = Gpu {
                name: table.name.clone().unwrap_or_else(|| "GPU".to_owned()),
                vram: reader.size("gpu.vram", &table.vram)?.saturating_sub(GPU_OVERHEAD),
                bandwidth: reader.giga("gpu.bandwidth_gb_s", &table.bandwidth_gb_s)?,
                flops: reader.giga("gpu.tflops", &table.tflops)? * 1e3,
                pcie: reader.giga("gpu.pcie_gb_s", &table.pcie_gb_s)?,
            };
            gpus.extend(std::iter::repeat_n(gpu, count as usize));
        }
        let nodes = file.ram.numa_nodes.as_ref().map_or(Ok(1), |nodes| reader.count("ram.numa_nodes", nodes, 64))?;
        let [least, most] = PUBLISHED.generation;
        Ok(Machine {
            name: file.name.unwrap_or_else(|| "the machine described".to_owned()),
            ram: ram.saturating_sub(SYSTEM.max(ram / SYSTEM_PART)),
            bandwidth: reader.giga("ram.bandwidth_gb_s", &file.ram.bandwidth_gb_s)?,
            nodes,
            cores: cores as usize,
            rates: a_core().times(f64::from(cores)),
            gpus,
            gpus_are_here: false,
            disk: file.disk.as_ref().map_or(Ok(3e9), |disk| reader.giga("disk.gb_s", &disk.gb_s))?,
            // Threads read the memory of other nodes too: half the speed was measured where it was not parted.
            efficiency: Efficiency { generation: [if nodes > 1 { least / 2.0 } else { least }, most], ..PUBLISHED },
            basis: "the description, and ggml's kernels as on a Zen 4 core",
        })
    }
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn error<T>(&self, key: &str, value: &Spanned<T>, must: &str) -> BadMachine {
        BadMachine { line: line_of(self.text, value.span().start), problem: format!("{key} {must}") }
    }

    /// 10⁹ of something, above 0.
    fn giga(&self, key: &str, value: &Spanned<f64>) -> Result<f64, BadMachine> {
        let n = *value.get_ref();
        let fits = n > 0.0 && n <= 1e6;
        if fits { Ok(n * 1e9) } else { Err(self.error(key, value, "must be above 0, and at most 1000000")) }
    }

    fn count(&self, key: &str, value: &Spanned<u32>, max: u32) -> Result<u32, BadMachine> {
        let n = *value.get_ref();
        let fits = (1..=max).contains(&n);
        if fits { Ok(n) } else { Err(self.error(key, value, &format!("must be from 1 to {max}"))) }
    }

    /// Bytes, or a text such as `"192 GiB"`.
    fn size(&self, key: &str, value: &Spanned<toml::Value>) -> Result<u64, BadMachine> {
        let bytes = match value.get_ref() {
            toml::Value::Integer(n) => u64::try_from(*n).ok(),
            toml::Value::String(text) => size(text),
            _ => None,
        };
        let must = "must be a number of bytes, or a text such as \"192 GiB\" or \"24 GB\"";
        bytes.filter(|bytes| (1..1 << 50).contains(bytes)).ok_or_else(|| self.error(key, value, must))
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: f64 = match unit.trim() {
        "GiB" => (1u64 << 30) as f64,
        "TiB" => (1u64 << 40) as f64,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * unit) as u64)
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// What one core does with ggml's kernels: measured with `CACHALOT_CPU=ggml cachalot doctor` on two of an AMD EPYC
/// (Zen 4, AVX-512, no AMX), and halved. What is read in wide types was limited by their memory, not by them.
pub(super) fn a_core() -> Rates {
    let types =
        |column: fn(&(&str, f64, f64)) -> f64| CORE.iter().map(|row| (row.0.to_owned(), column(row) * 1e9)).collect();
    Rates { decode: types(|row| row.1), prefill: types(|row| row.2), attention: CORE_ATTENTION * 1e9 }
}

/// Type, GB/s for one token, 10⁹ operations a second for many.
const CORE: [(&str, f64, f64); 16] = [
    ("F32", 18.6, 23.0),
    ("F16", 22.7, 30.0),
    ("Q8_0", 18.0, 106.0),
    ("Q6_K", 18.5, 146.0),
    ("Q5_K", 15.9, 230.0),
    ("Q4_K", 17.4, 237.0),
    ("Q4_0", 13.5, 99.0),
    ("Q3_K", 11.7, 162.0),
    ("Q2_K", 13.4, 205.0),
    ("IQ4_XS", 12.8, 227.0),
    ("IQ3_S", 3.9, 150.0),
    ("IQ3_XXS", 4.1, 134.0),
    ("IQ2_S", 4.8, 133.0),
    ("IQ2_XXS", 3.7, 167.0),
    ("IQ1_M", 3.3, 165.0),
    ("IQ1_S", 2.8, 181.0),
];
const CORE_ATTENTION: f64 = 24.0;

impl Rates {
    pub(super) fn times(self, n: f64) -> Rates {
        let all = |rates: std::collections::BTreeMap<String, f64>| {
            rates.into_iter().map(|(ty, rate)| (ty, rate * n)).collect()
        };
        Rates { decode: all(self.decode), prefill: all(self.prefill), attention: self.attention * n }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "desk"
[ram]
size = "192 GiB"
bandwidth_gb_s = 80
[cpu]
cores = 16
[[gpu]]
name = "RTX 4090"
vram = "24 GiB"
bandwidth_gb_s = 1008
tflops = 165
pcie_gb_s = 25
count = 2
[disk]
gb_s = 7
"#;

    #[test]
    fn a_description_is_a_machine() {
        let machine = Machine::described(GOOD).unwrap();
        assert_eq!((machine.name.as_str(), machine.cores, machine.gpus.len()), ("desk", 16, 2));
        assert_eq!(machine.gpus[1].vram, (24 << 30) - GPU_OVERHEAD);
        assert_eq!(machine.ram, (192u64 << 30) - (192u64 << 30) / 50);
        assert_eq!((machine.bandwidth, machine.disk), (80e9, 7e9));
    }

    #[test]
    fn errors_name_line_and_key() {
        for (from, to, line, key) in [
            ("cores = 16", "cores = 0", 7, "cpu.cores"),
            ("\"192 GiB\"", "\"192\"", 4, "ram.size"),
            ("= 80\n", "= -80\n", 5, "ram.bandwidth_gb_s"),
            ("= 25", "= 0", 13, "gpu.pcie_gb_s"),
            ("count = 2", "number = 2", 14, "number"),
            ("[cpu]\ncores = 16\n", "", 1, "cpu"),
            ("gb_s = 7", "gb_s = \"fast\"", 16, "f64"),
            ("[disk]", "[disk", 15, ""),
        ] {
            assert!(GOOD.contains(from));
            let error = Machine::described(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.line, line, "{to}: {error}");
            assert!(error.problem.contains(key), "{to}: {error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            (size("1.5 TB"), size("2GiB"), size("2 MB"), size("GB")),
            (Some(1_500_000_000_000), Some(2 << 30), None, None)
        );
    }
}
