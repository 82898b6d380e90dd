//! Placement on machines that nobody has: what holds on all of them, and what an exhaustive search would find.

use super::*;
use proptest::prelude::*;

const SCRATCH: u64 = 0;

fn part(bytes: u64) -> Part {
    // RAM gives 10 bytes a second, and a token of a long prompt costs a tenth of reading.
    let seconds = bytes as f64 / 10.0;
    Part { bytes, parameters: bytes, cpu_decode: seconds, cpu_prefill: seconds / 100.0 }
}

/// `experts`: how many, how many of them are used, bytes of one.
pub(super) fn layer(fixed: u64, cache: u64, experts: Option<(u32, u32, u64)>) -> Layer {
    let experts = experts.map(|(n, n_used, bytes)| Experts { n, n_used, each: part(bytes) });
    Layer { fixed: part(fixed), cache, experts }
}

pub(super) fn model(layers: &[Layer], head: u64) -> Demand {
    Demand {
        head: part(head),
        embedding: 0,
        layers: layers.to_vec(),
        scratch: SCRATCH,
        scratch_experts: SCRATCH,
        n_ctx: 1000,
        attention: [0.0, 0.0],
    }
}

/// Ten times as fast as RAM.
pub(super) fn gpu(bytes: u64) -> Gpu {
    Gpu { bytes, bandwidth: 100.0, flops: 1e6, pcie: 10.0, handoff: 0.001 }
}

pub(super) fn machine(ram: u64, gpus: &[Gpu]) -> Machine {
    Machine { ram, ram_bandwidth: 10.0, cpu_attention: 1e6, gpus: gpus.to_vec(), disk: 1.0 }
}

fn seconds(demand: &Demand, machine: &Machine, placement: &Placement) -> f64 {
    decode(demand, machine, placement, demand.n_ctx / 2).total()
}

fn any_layer() -> impl Strategy<Value = Layer> {
    let experts = (1u32..12, 1u32..4, 5u64..60).prop_map(|(n, used, bytes)| (n, used.min(n), bytes));
    (20u64..200, 0u64..40, proptest::option::weighted(0.8, experts))
        .prop_map(|(fixed, cache, experts)| layer(fixed, cache, experts))
}

fn any_model() -> impl Strategy<Value = Demand> {
    (proptest::collection::vec(any_layer(), 1..8), 10u64..100, 0u64..50, 0u64..40, 0u64..40).prop_map(
        |(layers, head, embedding, scratch, experts)| {
            let scratch_experts = experts.min(scratch);
            Demand { embedding, scratch, scratch_experts, ..model(&layers, head) }
        },
    )
}

/// One block, many times, as real models are.
fn regular_model() -> impl Strategy<Value = Demand> {
    (any_layer(), 1usize..10, 10u64..100).prop_map(|(layer, n, head)| model(&vec![layer; n], head))
}

/// None to eight, of all sizes and speeds.
fn any_gpus() -> impl Strategy<Value = Vec<Gpu>> {
    let any = (0u64..1500, 20.0f64..500.0).prop_map(|(bytes, bandwidth)| Gpu { bandwidth, ..gpu(bytes) });
    proptest::collection::vec(any, 0..=8)
}

/// From far too little to more than enough.
fn any_machine() -> impl Strategy<Value = Machine> {
    (0u64..6000, any_gpus()).prop_map(|(ram, gpus)| machine(ram, &gpus))
}

proptest! {
    #[test]
    fn budgets_hold_and_everything_is_in_one_place(demand in any_model(), machine in any_machine()) {
        let placement = place(&demand, &machine, &[]).unwrap();
        prop_assert_eq!(placement.layers.len(), demand.layers.len());
        let in_ram = placement.load(&demand, Device::Ram);
        let mut bytes = in_ram.total() - in_ram.scratch;
        for (number, gpu) in machine.gpus.iter().enumerate() {
            let load = placement.load(&demand, Device::Gpu(number));
            prop_assert!(load.total() <= gpu.bytes, "gpu{}: {:?} of {}", number, load, gpu.bytes);
            bytes += load.total() - load.scratch;
        }
        let layers = demand.layers.iter().map(|layer| {
            layer.fixed.bytes + layer.cache + layer.experts.map_or(0, |experts| experts.bytes())
        });
        prop_assert_eq!(bytes, demand.head.bytes + demand.embedding + layers.sum::<u64>());
        for (place, layer) in placement.layers.iter().zip(&demand.layers) {
            let n = layer.experts.map_or(0, |experts| experts.n);
            prop_assert!(place.experts.iter().sum::<u32>() <= n);
        }
    }

    #[test]
    fn gpus_never_make_it_slower(demand in any_model(), machine in any_machine()) {
        let without = Machine { gpus: Vec::new(), ..machine.clone() };
        let [with, without] = [&machine, &without].map(|m| seconds(&demand, m, &place(&demand, m, &[]).unwrap()));
        prop_assert!(with <= without * (1.0 + 1e-9), "{} {}", with, without);
    }

    /// Layers are alike: where they are not, one expert more of an early one may take the place of a larger one of a
    /// later.
    #[test]
    fn more_of_one_gpu_is_never_slower(demand in regular_model(), ram in 0u64..6000, bytes in 0u64..3000, more in 0u64..500) {
        let [before, after] = [bytes, bytes + more].map(|bytes| {
            let machine = machine(ram, &[gpu(bytes)]);
            seconds(&demand, &machine, &place(&demand, &machine, &[]).unwrap())
        });
        prop_assert!(after <= before * (1.0 + 1e-9), "{} {}", after, before);
    }

    #[test]
    fn more_ram_is_never_slower(demand in any_model(), machine in any_machine(), more in 0u64..3000) {
        let large = Machine { ram: machine.ram + more, ..machine.clone() };
        let [before, after] = [&machine, &large].map(|m| seconds(&demand, m, &place(&demand, m, &[]).unwrap()));
        prop_assert!(after <= before * (1.0 + 1e-9), "{} {}", after, before);
    }

    /// On several GPUs a layer's part more on one may leave gaps on all that are too small for an expert. More
    /// than these it never costs.
    #[test]
    fn more_of_several_gpus_costs_at_most_the_gaps(
        demand in regular_model(), gpus in any_gpus(), which in 0usize..8, more in 0u64..500,
    ) {
        prop_assume!(!gpus.is_empty());
        let mut larger = gpus.clone();
        larger[which % gpus.len()].bytes += more;
        let [before, after] = [&gpus, &larger].map(|gpus| {
            let machine = machine(100_000, gpus);
            seconds(&demand, &machine, &place(&demand, &machine, &[]).unwrap())
        });
        let biggest = |layer: &Layer| layer.fixed.bytes.max(layer.experts.map_or(0, |experts| experts.each.bytes));
        let gap = demand.layers.iter().map(biggest).max().unwrap_or(0).max(demand.head.bytes) as f64 / 10.0;
        prop_assert!(after <= before + gpus.len() as f64 * gap, "{} {} {}", after, before, gap);
    }

    #[test]
    fn experts_leave_ram_only_after_all_that_every_token_reads(demand in any_model(), machine in any_machine()) {
        let placement = place(&demand, &machine, &[]).unwrap();
        for place in &placement.layers {
            prop_assert!(place.fixed != Device::Ram || place.experts.iter().all(|n| *n == 0));
        }
    }

    /// No assignment of a tiny model's parts to one or two GPUs is faster by more than one part that every token
    /// reads, or, where all of those have room, by more than an expert a GPU.
    #[test]
    fn little_better_is_found_by_trying_everything(
        layers in proptest::collection::vec(any_layer_of_few(), 1..3),
        head in 10u64..60,
        gpus in proptest::collection::vec((0u64..500).prop_map(gpu), 1..=2),
    ) {
        let demand = model(&layers, head);
        let machine = machine(100_000, &gpus);
        let ours = place(&demand, &machine, &[]).unwrap();
        let best = all(&demand, gpus.len())
            .into_iter()
            .filter(|plan| (0..gpus.len()).all(|g| plan.load(&demand, Device::Gpu(g)).total() <= gpus[g].bytes))
            .map(|plan| seconds(&demand, &machine, &plan))
            .fold(f64::INFINITY, f64::min);
        let fixed = demand.layers.iter().map(|layer| layer.fixed.bytes + layer.cache).chain([head]).max().unwrap_or(0);
        let expert = demand.layers.iter().filter_map(|layer| layer.experts.map(|e| e.each.bytes)).max().unwrap_or(0);
        let all_fixed = ours.head != Device::Ram && ours.layers.iter().all(|place| place.fixed != Device::Ram);
        let slack = if all_fixed { expert * gpus.len() as u64 } else { (fixed + expert) * gpus.len() as u64 };
        let ours = seconds(&demand, &machine, &ours);
        prop_assert!(ours <= best + slack as f64 / 10.0 + 1e-9, "{} but {}", ours, best);
        prop_assert!(best <= ours + 1e-9, "the search missed ours: {} {}", best, ours);
    }
}

fn any_layer_of_few() -> impl Strategy<Value = Layer> {
    let experts = (1u32..4, 10u64..40).prop_map(|(n, bytes)| (n, 1, bytes));
    (20u64..100, 0u64..20, proptest::option::of(experts))
        .prop_map(|(fixed, cache, experts)| layer(fixed, cache, experts))
}

/// Every plan there is.
fn all(demand: &Demand, n_gpus: usize) -> Vec<Placement> {
    let devices: Vec<Device> = [Device::Ram].into_iter().chain((0..n_gpus).map(Device::Gpu)).collect();
    let heads = devices.iter().map(|head| Placement { head: *head, layers: Vec::new() });
    demand.layers.iter().fold(heads.collect(), |plans: Vec<Placement>, layer| {
        let n = layer.experts.map_or(0, |experts| experts.n);
        let places: Vec<LayerPlace> = devices
            .iter()
            .flat_map(|fixed| counts(n, n_gpus).into_iter().map(|experts| LayerPlace { fixed: *fixed, experts }))
            .collect();
        let with = |plan: &Placement, place: &LayerPlace| {
            let layers = plan.layers.iter().cloned().chain([place.clone()]).collect();
            Placement { head: plan.head, layers }
        };
        plans.iter().flat_map(|plan| places.iter().map(move |place| with(plan, place))).collect()
    })
}

/// All ways to give up to `n` experts to GPUs.
fn counts(n: u32, n_gpus: usize) -> Vec<Vec<u32>> {
    (0..n_gpus).fold(vec![Vec::new()], |all, _| {
        let more = |counts: &Vec<u32>| {
            let left = n - counts.iter().sum::<u32>();
            (0..=left).map(|n| [&counts[..], &[n]].concat()).collect::<Vec<_>>()
        };
        all.iter().flat_map(more).collect()
    })
}

#[test]
fn pins_are_obeyed_and_the_rest_goes_on_around_them() {
    let demand = model(&vec![layer(100, 0, Some((8, 2, 40))); 4], 50);
    let machine = machine(100_000, &[gpu(1000), gpu(600)]);
    let pins: Vec<Pin> =
        ["blk.2.experts=gpu1", "blk.0=ram", "head=gpu1"].iter().map(|text| text.parse().unwrap()).collect();
    let placement = place(&demand, &machine, &pins).unwrap();
    assert_eq!(placement.head, Device::Gpu(1));
    assert_eq!((placement.layers[0].fixed, placement.layers[0].in_ram(8)), (Device::Ram, 8));
    assert_eq!(placement.layers[2].experts, [0, 8]);
    assert!(placement.layers[1..].iter().all(|place| place.fixed == Device::Gpu(0)));
    // What is left of the first one: 1000 less three layers, in experts of 40.
    assert_eq!(placement.layers[1].experts[0] + placement.layers[3].experts[0], 16);
}

#[test]
fn pins_that_cannot_be_are_refused() {
    let demand = model(&vec![layer(100, 0, Some((8, 2, 40))); 4], 50);
    let machine = machine(100_000, &[gpu(600)]);
    let error = |pin: &str| place(&demand, &machine, &[pin.parse().unwrap()]).unwrap_err();
    assert_eq!(error("head=gpu1"), CannotPlace::NoGpu { gpu: 1, n: 1 });
    assert_eq!(error("blk.2-4=ram"), CannotPlace::NoLayer { layer: 4, n: 4 });
    assert_eq!(error("blk.*.experts=gpu0"), CannotPlace::Pinned { gpu: 0, needed: 4 * 320, free: 600 });
}

#[test]
fn layers_of_several_gpus_follow_each_other() {
    let demand = model(&vec![layer(100, 0, None); 6], 50);
    let slow = Gpu { bandwidth: 50.0, ..gpu(310) };
    let placement = place(&demand, &machine(100_000, &[slow, gpu(350)]), &[]).unwrap();
    let places: Vec<Device> = placement.layers.iter().map(|place| place.fixed).collect();
    use Device::Gpu as G;
    assert_eq!((placement.head, places), (G(1), vec![G(1), G(1), G(1), G(0), G(0), G(0)]));
}

/// Sending all experts once costs the same for any number of tokens, computing with them a share for each: with twice
/// the bus fewer tokens are enough, and without experts in RAM none are.
#[test]
fn experts_are_sent_from_the_number_of_tokens_on_at_which_it_pays() {
    let demand = model(&[layer(100, 0, None), layer(100, 0, Some((256, 8, 64)))], 50);
    let from = |pcie: f64, part: f64, experts: u64| {
        let machine = machine(100_000, &[Gpu { pcie, ..gpu(250 + experts * 64) }]);
        let placement = place(&demand, &machine, &[]).unwrap();
        assert_eq!(placement.layers[1].in_ram(256), 256 - experts as u32);
        streams_from(&demand, &machine, &placement, part)
    };
    // 256 experts of 64 bytes over 5 bytes a second, half of what RAM gives, against 8 experts of 0.064 seconds for
    // each token.
    let once: f64 = 256.0 * 12.8 / (8.0 * 0.064);
    let tokens = from(5.0, 1.0, 0).unwrap() as f64;
    assert!((once..once + 64.0).contains(&tokens), "{tokens} instead of {once}");
    assert_eq!(from(5.0, 0.5, 0), from(2.5, 1.0, 0));
    assert!(from(5.0, 1.0, 0) < from(2.5, 1.0, 0));
    assert_eq!(from(5.0, 1.0, 100), from(5.0, 1.0, 0), "both go with how many are in RAM");
    assert_eq!(from(5.0, 1.0, 256), None);
}

/// Experts cost something where one side has them and the other computes what is around them.
#[test]
fn experts_in_ram_cost_what_bus_and_cpu_take() {
    let mut demand = model(&[layer(100, 0, None), layer(100, 0, Some((256, 8, 64)))], 50);
    demand.layers[1].experts.as_mut().unwrap().each.cpu_decode = 16.0;
    let of = |on_gpu: u64, fixed: Option<&str>| {
        let machine = machine(100_000, &[Gpu { pcie: 5.0, ..gpu(250 + on_gpu * 64) }]);
        let pins: Vec<Pin> = fixed.into_iter().map(|pin| pin.parse().unwrap()).collect();
        expert_costs(&demand, &machine, &place(&demand, &machine, &pins).unwrap())
    };
    let costs = of(0, None);
    // RAM gives 10 bytes a second.
    let expected = ExpertCosts { send: 12.8, read: 16.0, token: 0.064, ram: 6.4 };
    assert_eq!(costs, [None, Some(expected)]);
    assert_eq!(of(100, None), costs);
    assert_eq!(of(256, None), [None, None]);
    assert_eq!(of(0, Some("blk.1=ram")), [None, None]);
}
