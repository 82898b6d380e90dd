//! A plan in the words of llama.cpp: `-ngl`, `-ts` and `-ot`.

use crate::placement::{Device, Placement};

/// The flags, for a shell. llama.cpp places whole tensors: of a layer whose experts the plan parts, they all stay
/// in RAM. The first pattern that matches a tensor counts.
pub fn llama_cpp(placement: &Placement, n_expert: u32) -> String {
    let n_gpus = placement.layers.first().map_or(0, |layer| layer.experts.len());
    let on = |gpu: usize| move |place: &Device| *place == Device::Gpu(gpu);
    let mut rules = Vec::new();
    for gpu in 0..n_gpus {
        let whole = indices(placement, |layer| n_expert > 0 && layer.experts.get(gpu) == Some(&n_expert));
        if !whole.is_empty() {
            rules.push(format!("blk\\.({})\\.ffn_.*_exps=CUDA{gpu}", whole.join("|")));
        }
    }
    if n_expert > 0 {
        rules.push("ffn_.*_exps=CPU".to_owned());
    }
    let mut split = Vec::new();
    for gpu in 0..n_gpus {
        let fixed = indices(placement, |layer| on(gpu)(&layer.fixed));
        split.push(fixed.len().to_string());
        if !fixed.is_empty() && n_gpus > 1 {
            rules.push(format!("blk\\.({})\\.=CUDA{gpu}", fixed.join("|")));
        }
        if on(gpu)(&placement.head) {
            rules.push(format!("^output=CUDA{gpu}"));
        }
    }
    let in_ram = indices(placement, |layer| layer.fixed == Device::Ram);
    if in_ram.len() == placement.layers.len() {
        return "-ngl 0".to_owned();
    }
    if !in_ram.is_empty() {
        rules.push(format!("blk\\.({})\\.=CPU", in_ram.join("|")));
    }
    let split = if n_gpus > 1 { format!(" -ts {}", split.join(",")) } else { String::new() };
    format!("-ngl 999{split} -ot '{}'", rules.join(","))
}

fn indices(placement: &Placement, is: impl Fn(&crate::placement::LayerPlace) -> bool) -> Vec<String> {
    placement.layers.iter().enumerate().filter(|(_, layer)| is(layer)).map(|(at, _)| at.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::LayerPlace;

    fn layer(fixed: Device, experts: &[u32]) -> LayerPlace {
        LayerPlace { fixed, experts: experts.to_vec() }
    }

    #[test]
    fn whole_layers_of_experts_are_named() {
        let g = Device::Gpu;
        let one = Placement { head: g(0), layers: vec![layer(g(0), &[8]), layer(g(0), &[3]), layer(g(0), &[0])] };
        let expected = r"-ngl 999 -ot 'blk\.(0)\.ffn_.*_exps=CUDA0,ffn_.*_exps=CPU,^output=CUDA0'";
        assert_eq!(llama_cpp(&one, 8), expected);
        let two = Placement { head: g(1), layers: vec![layer(g(1), &[0, 8]), layer(Device::Ram, &[0, 0])] };
        let expected = r"-ngl 999 -ts 0,1 -ot 'blk\.(0)\.ffn_.*_exps=CUDA1,ffn_.*_exps=CPU,blk\.(0)\.=CUDA1,^output=CUDA1,blk\.(1)\.=CPU'";
        assert_eq!(llama_cpp(&two, 8), expected);
        let none = Placement { head: Device::Ram, layers: vec![layer(Device::Ram, &[])] };
        assert_eq!(llama_cpp(&none, 8), "-ngl 0");
    }
}
