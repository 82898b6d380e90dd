//! What a file says, and what is made of it.

use super::*;
use crate::gguf::{Encode, Gguf, Split, Writer};

/// V3-0324's keys, as its 2025 uploads have them.
fn v3() -> Writer {
    let mut w = Writer::new();
    w.set("general.architecture", "deepseek2").unwrap();
    for (key, value) in [
        ("block_count", 61u32),
        ("context_length", 163_840),
        ("embedding_length", 7168),
        ("feed_forward_length", 18_432),
        ("leading_dense_block_count", 3),
        ("attention.head_count", 128),
        ("attention.head_count_kv", 1),
        ("attention.q_lora_rank", 1536),
        ("attention.kv_lora_rank", 512),
        ("attention.key_length", 576),
        ("attention.value_length", 512),
        ("attention.key_length_mla", 192),
        ("attention.value_length_mla", 128),
        ("rope.dimension_count", 64),
        ("rope.scaling.original_context_length", 4096),
        ("expert_count", 256),
        ("expert_used_count", 8),
        ("expert_shared_count", 1),
        ("expert_feed_forward_length", 2048),
        ("expert_gating_func", 2),
    ] {
        set(&mut w, key, value);
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-6f32),
        ("expert_weights_scale", 2.5),
        ("rope.freq_base", 10_000.0),
        ("rope.scaling.factor", 40.0),
        ("rope.scaling.yarn_log_multiplier", 0.1),
    ] {
        set(&mut w, key, value);
    }
    set(&mut w, "expert_weights_norm", true);
    set(&mut w, "rope.scaling.type", "yarn");
    w
}

/// V2.5's, where they differ.
fn v25() -> Writer {
    let mut w = v3();
    for (key, value) in [("expert_count", 160u32), ("expert_used_count", 6), ("expert_gating_func", 1)] {
        set(&mut w, key, value);
    }
    set(&mut w, "expert_weights_norm", false);
    w
}

fn set(w: &mut Writer, key: &str, value: impl Encode) {
    w.set(&format!("deepseek2.{key}"), value).unwrap();
}

fn read(w: &Writer) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    w.create(&path, Split::None).unwrap().finish().unwrap();
    Config::read(Gguf::open(&path).unwrap().metadata())
}

/// The same keys without some.
fn without(w: &Writer, keys: &[&str]) -> Writer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    w.create(&path, Split::None).unwrap().finish().unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let mut rest = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        if !keys.iter().any(|left_out| key.strip_prefix("deepseek2.").unwrap_or(key) == *left_out) {
            rest.set(key, value).unwrap();
        }
    }
    rest
}

#[test]
fn v3_is_read() {
    let config = read(&v3()).unwrap();
    let expected = Config {
        n_layer: 61,
        n_layer_dense: 3,
        n_embd: 7168,
        n_ff: 18_432,
        n_head: 128,
        q_lora_rank: Some(1536),
        kv_lora_rank: 512,
        n_key: 192,
        n_rot: 64,
        n_value: 128,
        rms_eps: 1e-6,
        rope: RopeConfig {
            freq_base: 10_000.0,
            scaling: Scaling::Yarn {
                factor: 40.0,
                n_ctx_orig: 4096,
                beta_fast: 32.0,
                beta_slow: 1.0,
                mscale_all_dim: Some(1.0),
            },
        },
        n_ctx_train: 163_840,
        experts: Some(ExpertConfig {
            n_expert: 256,
            n_used: 8,
            n_shared: 1,
            n_ff: 2048,
            gating: Gating::Sigmoid,
            groups: Some(Groups { n_group: 8, n_used: 4, score: GroupScore::BestTwo }),
            groups_in_file: false,
            norm_weights: true,
            weights_scale: 2.5,
        }),
    };
    assert_eq!(config, expected);
    assert_eq!((config.n_nope(), config.n_cached()), (128, 576));
    assert!(config.is_dense(2) && !config.is_dense(3));
    assert!((config.attention_scale() - 0.135_233_8).abs() < 1e-7);
    assert_eq!(config.rope.magnitude(), 1.0);
}

#[test]
fn groups_are_the_models_where_the_file_has_none() {
    let groups = |w: &Writer| {
        let experts = read(w).unwrap().experts.unwrap();
        (experts.groups.map(|groups| (groups.n_group, groups.n_used, groups.score)), experts.groups_in_file)
    };
    let with = |w: Writer, keys: &[(&str, u32)]| {
        keys.iter().fold(w, |mut w, (key, value)| {
            set(&mut w, key, *value);
            w
        })
    };
    let (best, best_two) = (GroupScore::Best, GroupScore::BestTwo);
    assert_eq!(groups(&v3()), (Some((8, 4, best_two)), false));
    assert_eq!(groups(&v25()), (Some((8, 3, best)), false));
    // 256 with a softmax, 160 with a sigmoid, and other numbers are other models.
    assert_eq!(groups(&with(v3(), &[("expert_gating_func", 1)])), (None, false));
    assert_eq!(groups(&with(v25(), &[("expert_gating_func", 2)])), (None, false));
    assert_eq!(groups(&with(v3(), &[("expert_count", 384)])), (None, false));
    assert_eq!(groups(&without(&v25(), &["expert_gating_func"])), (Some((8, 3, best)), false));
    // What the file says counts; one group is none.
    let of = |n_group, n_used| [("expert_group_count", n_group), ("expert_group_used_count", n_used)];
    assert_eq!(groups(&with(v3(), &of(16, 5))), (Some((16, 5, best_two)), true));
    assert_eq!(groups(&with(v25(), &of(4, 2))), (Some((4, 2, best)), true));
    assert_eq!(groups(&with(v3(), &of(1, 1))), (None, true));
    assert_eq!(groups(&with(v3(), &of(0, 0))), (Some((8, 4, best_two)), false));
}

#[test]
fn keys_that_may_be_absent() {
    let config = read(&without(
        &v3(),
        &[
            "attention.q_lora_rank",
            "attention.key_length_mla",
            "attention.value_length_mla",
            "rope.scaling.type",
            "expert_gating_func",
            "expert_shared_count",
            "expert_weights_norm",
            "expert_weights_scale",
            "leading_dense_block_count",
            "feed_forward_length",
        ],
    ))
    .unwrap();
    assert_eq!((config.q_lora_rank, config.n_key, config.n_value), (None, 576, 512));
    assert_eq!((config.n_layer_dense, config.n_ff), (0, 0));
    assert_eq!(config.rope.scaling, Scaling::None);
    assert!((config.attention_scale() - 1.0 / 24.0).abs() < 1e-7);
    let experts = config.experts.unwrap();
    assert_eq!((experts.gating, experts.n_shared), (Gating::Softmax, 0));
    assert_eq!((experts.norm_weights, experts.weights_scale), (false, 1.0));
    let mut dense = without(&v3(), &["expert_count", "leading_dense_block_count"]);
    assert_eq!(read(&dense).unwrap().n_layer_dense, 61);
    set(&mut dense, "expert_count", 0u32);
    assert_eq!(read(&dense).unwrap().experts, None);
    // YaRN as in its paper, where no multiplier is stated.
    let config = read(&without(&v3(), &["rope.scaling.yarn_log_multiplier"])).unwrap();
    assert!((config.rope.magnitude() - 1.368_888).abs() < 1e-5);
    let mut linear = v3();
    set(&mut linear, "rope.scaling.type", "linear");
    assert_eq!(read(&linear).unwrap().rope.scaling, Scaling::Linear { factor: 40.0 });
}

#[test]
fn a_value_a_layer_is_one_for_all() {
    let mut w = v3();
    set(&mut w, "attention.head_count", [128u32; 61].as_slice());
    set(&mut w, "attention.kv_lora_rank", [512u32; 61].as_slice());
    set(&mut w, "expert_count", [256u32; 61].as_slice());
    set(&mut w, "expert_weights_scale", [2.5f32; 61].as_slice());
    // Only the dense layers' widths are used.
    let widths: Vec<u32> = (0..61).map(|layer| if layer < 3 { 18_432 } else { 2048 }).collect();
    set(&mut w, "feed_forward_length", widths.as_slice());
    assert_eq!(read(&w).unwrap(), read(&v3()).unwrap());
    // A layer more that predicts the token after next.
    set(&mut w, "block_count", 62u32);
    set(&mut w, "nextn_predict_layers", 1u32);
    set(&mut w, "attention.head_count", [128u32; 62].as_slice());
    assert_eq!(read(&w).unwrap(), read(&v3()).unwrap());
}

#[test]
fn other_architectures_are_told_apart() {
    for (name, told) in [
        ("deepseek32", "'deepseek32' (DeepSeek-V3.2, with sparse attention by a lightning indexer);"),
        ("deepseek4", "'deepseek4' (DeepSeek-V4, a different design);"),
        ("deepseek", "'deepseek' (the first DeepSeek MoE, without latent attention);"),
        ("llama", "'llama';"),
        ("a\u{1b}[2J", "'a\\u{1b}[2J';"),
    ] {
        let mut w = v3();
        w.set("general.architecture", name).unwrap();
        let error = read(&w).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the architecture is {told} this program runs deepseek2: ")), "{error}");
    }
    let error = read(&without(&v3(), &["general.architecture"])).unwrap_err();
    assert_eq!(error.to_string(), "general.architecture is missing");
}

#[test]
fn keys_that_must_be_there() {
    for key in [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.kv_lora_rank",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "attention.layer_norm_rms_epsilon",
        "expert_used_count",
        "expert_feed_forward_length",
    ] {
        let error = read(&without(&v3(), &[key])).unwrap_err();
        assert_eq!(error.to_string(), format!("deepseek2.{key} is missing"));
    }
    let error = read(&without(&v3(), &["attention.key_length", "attention.key_length_mla"])).unwrap_err();
    assert_eq!(error.to_string(), "deepseek2.attention.key_length is missing");
    let mut w = v3();
    set(&mut w, "expert_group_count", 8u32);
    assert_eq!(read(&w).unwrap_err().to_string(), "deepseek2.expert_group_used_count is missing");
}

/// Sets `key` and reads; the message, without "deepseek2." before it.
fn refused(change: impl Fn(&mut Writer)) -> String {
    let mut w = v3();
    change(&mut w);
    let error = read(&w).unwrap_err().to_string();
    error.strip_prefix("deepseek2.").map_or(error.clone(), str::to_owned)
}

#[test]
fn numbers_that_cannot_be() {
    let number = |key: &'static str, n: u32| refused(|w| set(w, key, n));
    for (key, n, message) in [
        ("block_count", 0, "block_count is 0, but it must be at least 1"),
        ("block_count", 1025, "block_count is 1025, but no model is that deep"),
        ("block_count", 2, "leading_dense_block_count is 3, but there are 2 layers"),
        ("nextn_predict_layers", 61, "block_count is 61, but no layer is left"),
        ("nextn_predict_layers", 62, "block_count is 61, but no layer is left"),
        ("leading_dense_block_count", 62, "leading_dense_block_count is 62, but there are 61 layers"),
        ("embedding_length", 0, "embedding_length is 0, but it must be at least 1"),
        ("embedding_length", 1 << 31, "embedding_length is 2147483648, but no model is that large"),
        ("attention.head_count", u32::MAX, "attention.head_count is 4294967295, but no model is that large"),
        ("attention.head_count", 0, "attention.head_count is 0, but it must be at least 1"),
        ("attention.kv_lora_rank", 0, "attention.kv_lora_rank is 0, but it must be at least 1"),
        ("context_length", 0, "context_length is 0, but it must be at least 1"),
        ("feed_forward_length", 1 << 25, "feed_forward_length is 33554432, but no model is that large"),
        (
            "rope.dimension_count",
            63,
            "rope.dimension_count is 63, but it must be even and less than the 192 values of a key",
        ),
        (
            "rope.dimension_count",
            192,
            "rope.dimension_count is 192, but it must be even and less than the 192 values of a key",
        ),
        ("rope.dimension_count", 0, "rope.dimension_count is 0, but it must be at least 1"),
        ("expert_count", 1025, "expert_count is 1025, but no model has that many"),
        ("expert_used_count", 0, "expert_used_count is 0, but it must be at least 1"),
        ("expert_used_count", 257, "expert_used_count is 257, but it must be from 1 to the 256 of expert_count"),
        ("expert_used_count", 129, "expert_used_count is 129, but 4 groups of 32 experts are used"),
        ("expert_gating_func", 3, "expert_gating_func is 3, but only 1 (softmax) and 2 (sigmoid) are known"),
        ("expert_feed_forward_length", 0, "expert_feed_forward_length is 0, but it must be at least 1"),
    ] {
        assert_eq!(number(key, n), message);
    }
    for (n_group, n_used, message) in [
        (7, 4, "expert_group_count is 7, but it must divide the 256 experts"),
        (512, 4, "expert_group_count is 512, but it must divide the 256 experts"),
        (8, 9, "expert_group_used_count is 9, but it must be from 1 to the 8 of expert_group_count"),
        (8, 0, "expert_group_used_count is 0, but it must be at least 1"),
        (64, 1, "expert_used_count is 8, but 1 groups of 4 experts are used"),
    ] {
        let error = refused(|w| {
            set(w, "expert_group_count", n_group as u32);
            set(w, "expert_group_used_count", n_used as u32);
        });
        assert_eq!(error, message);
    }
    let float = |key: &'static str, x: f32| refused(|w| set(w, key, x));
    for (key, x, message) in [
        ("attention.layer_norm_rms_epsilon", f32::NAN, "is NaN, but it must be a finite number"),
        ("attention.layer_norm_rms_epsilon", f32::INFINITY, "is inf, but it must be a finite number"),
        ("attention.layer_norm_rms_epsilon", -1.0, "is -1, but it must be greater than 0"),
        ("rope.freq_base", 0.0, "is 0, but it must be greater than 0"),
        ("rope.scaling.factor", f32::NEG_INFINITY, "is -inf, but it must be a finite number"),
        ("rope.scaling.yarn_beta_slow", -2.0, "is -2, but it must be greater than 0"),
        ("rope.scaling.yarn_log_multiplier", f32::NAN, "is NaN, but it must be a finite number"),
        ("expert_weights_scale", f32::NAN, "is NaN, but it must be a finite number"),
    ] {
        assert_eq!(float(key, x), format!("{key} {message}"));
    }
}

#[test]
fn values_of_another_type() {
    assert_eq!(
        refused(|w| set(w, "block_count", "61")),
        "the metadata key 'deepseek2.block_count' must be an integer of 32 bits, not negative, but is a string"
    );
    assert_eq!(
        refused(|w| set(w, "embedding_length", -5i32)),
        "the metadata key 'deepseek2.embedding_length' must be an integer of 32 bits, not negative, but is i32 -5"
    );
    assert_eq!(
        refused(|w| set(w, "rope.freq_base", 10_000u32)),
        "the metadata key 'deepseek2.rope.freq_base' must be a float, but is u32 10000"
    );
    assert_eq!(
        refused(|w| set(w, "expert_weights_norm", 1u32)),
        "the metadata key 'deepseek2.expert_weights_norm' must be a bool, but is u32 1"
    );
    assert_eq!(
        refused(|w| w.set("general.architecture", 2u32).unwrap()),
        "the metadata key 'general.architecture' must be a UTF-8 string, but is u32 2"
    );
    assert_eq!(
        refused(|w| set(w, "rope.scaling.type", "longrope\u{1b}")),
        "rope.scaling.type is longrope\\u{1b}, but only none, linear and yarn are known"
    );
    assert_eq!(
        refused(|w| set(w, "attention.head_count", [128u32; 60].as_slice())),
        "attention.head_count is an array of 60, but there are 61 layers"
    );
    assert_eq!(
        refused(|w| {
            let mut heads = [128u32; 61];
            heads[7] = 64;
            set(w, "attention.head_count", heads.as_slice());
        }),
        "attention.head_count is 64 in one layer and 128 in another, but layers that differ in it are not supported"
    );
    assert_eq!(
        refused(|w| set(w, "block_count", Vec::<u32>::new().as_slice())),
        "block_count is an array of 0, but it must have a value"
    );
}
