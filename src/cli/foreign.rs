//! Flags of llama.cpp, vLLM, ktransformers and SGLang, read before clap sees them: some are flags of ours under other
//! names, some say what goes without saying here, and some ask for what there is not. clap would take their short ones of
//! several letters apart (`-ngl 99` as `-n gl`), and offer something alike for the long ones.

use crate::exit::BadInput;
use crate::text::Clipped;
use clap::Command;
use std::ffi::{OsStr, OsString};

/// What becomes of a flag.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is this flag of ours.
    Is(&'static str),
    /// It is `--set` with this parameter.
    Sets(&'static str),
    /// What happens without it.
    Needless(&'static str),
    /// What to do instead.
    Refused(&'static str),
}

use Fate::{Is, Needless, Refused, Sets};

/// Names of flags that come without a value.
const PLAIN: &[(&str, Fate)] = &[
    ("-cmoe", Is("--cpu-moe")),
    ("-nkvo --no-kv-offload --no-op-offload --kv-offload -kvo --op-offload", Needless(PLACED)),
    ("-cb --cont-batching --enable-chunked-prefill", Needless("requests are computed together, prompts in parts")),
    ("-nocb --no-cont-batching", Refused("--parallel 1 computes one request after the other")),
    ("--metrics --slots --props --enable-metrics", Needless("GET /metrics is always there, and tells of all requests")),
    ("--no-slots", Needless("there is no /slots; GET /metrics tells figures, and nothing of what is asked")),
    ("--webui --ui", Needless("the page at / is always there")),
    (
        "--no-webui --no-ui --web",
        Needless("the page at / is always there; it is a client as others are, and needs the key"),
    ),
    ("--jinja --no-jinja", Needless("the model's own format of chats is always used")),
    (
        "--embedding --embeddings --reranking --rerank",
        Refused("no embeddings are computed here; leave it out for answers"),
    ),
    (
        "--disable-log-requests --no-enable-log-requests --disable-uvicorn-access-log",
        Needless("requests are logged with -v alone"),
    ),
    ("--disable-log-stats", Needless("figures are at /metrics alone")),
    ("--enable-log-requests", Is("--verbose")),
    ("--log-disable", Is("--quiet")),
    ("--warmup --no-warmup --skip-server-warmup", Needless("the first request is as any other")),
    ("--cache-prompt --enable-prefix-caching -kvu --kv-unified -no-kvu --no-kv-unified", Needless(CACHE)),
    ("--no-cache-prompt --no-enable-prefix-caching --disable-radix-cache", Needless(CACHE)),
    ("--swa-full --repack -nr --no-repack -rtr --run-time-repack -fmoe --fused-moe --no-host", Needless(KERNELS)),
    ("--enforce-eager --use-cuda-graph --use_cuda_graph --disable-cuda-graph", Needless(KERNELS)),
    ("--no-context-shift", Needless("an answer ends where the context is full")),
    ("--trust-remote-code --skip-tokenizer-init", Needless("no code of a model is run")),
    ("--enable-auto-tool-choice --enable-reasoning", Needless(TOOLS)),
    ("--force-think --force_think", Needless(THINKING)),
    ("-mli --multiline-input", Refused("in a chat Alt-Enter begins a new line; `cachalot chat` has /help")),
    ("-cnv --conversation -i --interactive -if --interactive-first", Refused("`cachalot chat` is a conversation")),
    ("-no-cnv --no-conversation -st --single-turn", Refused("`cachalot run` answers once")),
];

/// And of those that come with one.
const VALUED: &[(&str, Fate)] = &[
    ("-ngl", Is("--gpu-layers")),
    ("-ncmoe", Is("--n-cpu-moe")),
    ("-np --max_batch_size --max-running-requests", Is("--parallel")),
    ("-a --model_name", Is("--served-model-name")),
    ("-s", Is("--seed")),
    ("-b --chunk_size --chunked-prefill-size", Is("--batch")),
    ("-ctk --cache-type-k", Is("--cache-type")),
    ("-ctv --cache-type-v", Needless("keys and values have one cache here, of --cache-type")),
    ("--predict --max_new_tokens", Is("--n-predict")),
    ("--cache_lens --max-total-tokens --context-length", Is("--context")),
    ("--cpu_infer --kt-cpuinfer", Is("--threads")),
    ("--gguf_path --kt-weight-path --model-path", Is("--model")),
    ("--temperature", Is("--temp")),
    ("-to", Is("--timeout")),
    ("--ssl-key-file --ssl-keyfile", Is("--tls-key")),
    ("--ssl-cert-file --ssl-certfile", Is("--tls-cert")),
    ("--top-k", Sets("top_k")),
    ("--typical --typical-p", Sets("typical_p")),
    ("--repeat-penalty", Sets("repetition_penalty")),
    ("--repeat-last-n", Sets("penalty_last_n")),
    ("--presence-penalty", Sets("presence_penalty")),
    ("--frequency-penalty", Sets("frequency_penalty")),
    ("--xtc-probability", Sets("xtc_probability")),
    ("--xtc-threshold", Sets("xtc_threshold")),
    ("--dry-multiplier", Sets("dry_multiplier")),
    ("--dry-base", Sets("dry_base")),
    ("--dry-allowed-length", Sets("dry_allowed_length")),
    ("--dry-penalty-last-n", Sets("dry_penalty_last_n")),
    ("-tp --tp --tensor-parallel-size --tp-size -sm --split-mode -ts --tensor-split", Needless(SPLIT)),
    ("-mg --main-gpu -dev --device -ot --override-tensor", Needless(SPLIT)),
    (
        "-pp --pp --pp-size --pipeline-parallel-size -dp --dp --dp-size --data-parallel-size \
         --distributed-executor-backend",
        Needless("one machine computes all layers here"),
    ),
    ("--gpu-memory-utilization --mem-fraction-static --cpu-offload-gb --swap-space -fit --fit", Needless(PLACED)),
    ("-fitt --fit-target --optimize_config_path --optimize_rule_path --kt-num-gpu-experts", Needless(PLACED)),
    ("--kv-cache-dtype", Needless("--cache-type says how keys and values are stored")),
    ("--dtype", Needless("the file says in which types its weights are")),
    ("--quantization", Needless("the file says how it is quantised")),
    (
        "--load-format --tokenizer --tokenizer-mode --model_path --revision --download-dir",
        Needless("the GGUF file has all of the model"),
    ),
    ("--tool-call-parser --reasoning-parser --reasoning-format --response-role", Needless(TOOLS)),
    ("--chat-template --chat-template-file", Refused(TEMPLATE)),
    ("--chat-template-kwargs --reasoning-budget -rea --reasoning", Needless(THINKING)),
    ("-ub --ubatch-size", Needless("--batch is how many tokens are computed at once")),
    ("-tb --threads-batch --threads-http", Needless("--threads is for prompts and answers alike")),
    ("--poll --poll-batch --prio --prio-batch", Needless("threads wait as suits what they compute")),
    (
        "--numa",
        Needless(
            "`cachalot doctor` says where memory is; `numactl --interleave=all cachalot …` spreads it over all nodes",
        ),
    ),
    ("-mla --mla-use -amb --attention-max-batch --attention-backend --backend_type --kt-method", Needless(KERNELS)),
    ("--block-size -dt --defrag-thold --cache-reuse -cram --cache-ram -ctxcp --ctx-checkpoints", Needless(CACHE)),
    ("-lv --verbosity --log-verbosity --uvicorn-log-level --log-level --log_level --log-colors", Needless(LOG)),
    (
        "-md --model-draft --draft --draft-max --draft-min --speculative-config -lcs -lcd",
        Refused("one model answers, without drafts"),
    ),
    ("--lora --lora-scaled --lora-modules --control-vector", Refused(ADAPTERS)),
    ("-mm --mmproj --mmproj-url", Refused("models here read text alone")),
    (
        "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --override-kv",
        Refused("the file says it"),
    ),
    ("-hf -hfr --hf-repo -hff --hf-file -mu --model-url", Refused("`cachalot pull` fetches models")),
    (
        "--grammar --grammar-file -j -jf --json-schema --json-schema-file",
        Refused("a request says what its answer must look like; `cachalot run` has --json-schema and --json-object"),
    ),
];

/// llama.cpp's `-fa` comes with a value or without, by its age.
const FLASH: [&str; 2] = ["-fa", "--flash-attn"];

const TOOLS: &str = "tools and reasoning are read as the model's own format has them";
const THINKING: &str = "requests say whether the model is to reason, by 'reasoning_effort' or 'chat_template_kwargs'";
const TEMPLATE: &str =
    "leave it out: the model's own format of chats is used; a prompt of your own goes to /v1/completions";
const PLACED: &str = "what is free is measured, and `cachalot plan` shows what goes where";
const SPLIT: &str = "layers are not split here; experts are placed one by one instead, and `cachalot plan` shows where; \
     --pin decides otherwise";
const CACHE: &str = "what prompts have in common is computed once, and all requests share one cache";
const KERNELS: &str = "the fastest way there is for the model is taken";
const LOG: &str = "-v says more, -q nothing but errors";
const ADAPTERS: &str = "a model is used as its file has it";

/// The arguments with foreign flags in our words, and remarks about those that do nothing.
pub(super) fn translate(program: &Command, args: Vec<OsString>) -> Result<(Vec<OsString>, Vec<String>), BadInput> {
    // Commands that open a model, and answer with it or measure it.
    let named = args.get(1).and_then(|name| program.find_subcommand(name));
    let Some(command) = named.filter(|sub| has_flag(sub, "--gpu-layers")) else { return Ok((args, Vec::new())) };
    let mut translated = Vec::new();
    let mut remarks = Vec::new();
    let mut rest = args.into_iter().peekable();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            translated.push(arg);
            break;
        }
        let takes_anything = |arg: &OsStr| find(command, arg).is_some_and(|flag| flag.is_allow_hyphen_values_set());
        let (name, value) = parts(&arg);
        let Some((fate, is_valued)) = fate(&name).filter(|_| find(command, OsStr::new(&name)).is_none()) else {
            let is_text_next = takes_anything(&arg);
            translated.push(arg);
            translated.extend(rest.next_if(|_| is_text_next));
            continue;
        };
        let value = value.or_else(|| if is_valued { rest.next_if(|next| !is_flag(next)) } else { None });
        if FLASH.contains(&name.as_str()) {
            let said =
                value.or_else(|| rest.next_if(|next| ["on", "off", "auto", "0", "1"].iter().any(|on| next == on)));
            match said.is_some_and(|said| said == "off" || said == "0") {
                true => translated.push("--no-flash-attention".into()),
                false => remarks.push(remark(&name, "it is on; --no-flash-attention turns it off")),
            }
            continue;
        }
        match fate {
            Is(flag) if has_flag(command, flag) => {
                translated.push(flag.into());
                translated.extend(value);
            }
            Sets(parameter) if has_flag(command, "--set") => {
                let value = value.unwrap_or_default();
                translated.extend(["--set".into(), format!("{parameter}={}", value.to_string_lossy()).into()]);
            }
            Is(flag) => return Err(refusal(&name, &format!("`{}` has no {flag}", command.get_name()))),
            Sets(_) => return Err(refusal(&name, &format!("`{}` picks no tokens", command.get_name()))),
            Needless(instead) => remarks.push(remark(&name, instead)),
            Refused(instead) => return Err(refusal(&name, instead)),
        }
    }
    translated.extend(rest);
    Ok((translated, remarks))
}

fn remark(name: &str, instead: &str) -> String {
    format!("{name} is not needed: {instead}")
}

fn refusal(name: &str, instead: &str) -> BadInput {
    BadInput::Argument(format!("{} is not known here: {instead}", Clipped(name)))
}

/// A flag, and its value where that stands behind a `=`.
fn parts(arg: &OsStr) -> (String, Option<OsString>) {
    let text = arg.to_string_lossy();
    match text.split_once('=').filter(|(name, _)| name.starts_with("--")) {
        Some((name, value)) => (name.to_owned(), Some(value.into())),
        None => (text.into_owned(), None),
    }
}

/// What is known of a foreign flag, and whether it has a value.
fn fate(name: &str) -> Option<(Fate, bool)> {
    if FLASH.contains(&name) {
        return Some((Needless(""), false));
    }
    let of = |flags: &[(&str, Fate)]| {
        flags.iter().find(|(names, _)| names.split(' ').any(|n| n == name)).map(|(_, fate)| *fate)
    };
    of(PLAIN).map(|fate| (fate, false)).or_else(|| of(VALUED).map(|fate| (fate, true)))
}

/// Whether a word is a flag, and no negative number.
fn is_flag(arg: &OsStr) -> bool {
    let text = arg.to_string_lossy();
    text.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && rest.parse::<f64>().is_err())
}

fn has_flag(command: &Command, flag: &str) -> bool {
    find(command, OsStr::new(flag)).is_some()
}

/// The argument of ours that a flag is, whole.
fn find<'a>(command: &'a Command, flag: &OsStr) -> Option<&'a clap::Arg> {
    let flag = flag.to_str()?;
    let is_called = |arg: &clap::Arg| match flag.strip_prefix("--") {
        Some(name) => arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|names| names.contains(&name)),
        None => {
            flag.strip_prefix('-').is_some_and(|name| arg.get_short().is_some_and(|short| name == short.to_string()))
        }
    };
    command.get_arguments().find(|arg| is_called(arg))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> Result<(String, Vec<String>), String> {
        let args = line.split(' ').map(OsString::from).collect();
        let (args, remarks) = translate(&super::super::command(), args).map_err(|error| error.to_string())?;
        Ok((args.join(OsStr::new(" ")).into_string().unwrap(), remarks))
    }

    #[test]
    fn some_are_ours_by_another_name() {
        for (line, ours) in [
            ("c serve -ngl 99 -np 4 -a x -s 1", "c serve --gpu-layers 99 --parallel 4 --served-model-name x --seed 1"),
            ("c run -ngl -1 x", "c run --gpu-layers -1 x"),
            ("c bench demo -ctk q8_0 -cmoe", "c bench demo --cache-type q8_0 --cpu-moe"),
            ("c chat -ncmoe 3", "c chat --n-cpu-moe 3"),
            ("c serve --model-path x.gguf", "c serve --model x.gguf"),
            ("c serve --top-k 40 --repeat-penalty=1.1", "c serve --set top_k=40 --set repetition_penalty=1.1"),
            ("c serve -fa off", "c serve --no-flash-attention"),
            ("c serve --ssl-key-file=k --ssl-cert-file c", "c serve --tls-key k --tls-cert c"),
            // Ours, and texts.
            ("c serve -n 5 -t 1 -m x -c 4", "c serve -n 5 -t 1 -m x -c 4"),
            ("c fim --prefix -fa --suffix -ngl", "c fim --prefix -fa --suffix -ngl"),
            ("c run -- -ngl", "c run -- -ngl"),
            ("c bench demo -p 5 --against x --against-args -ngl", "c bench demo -p 5 --against x --against-args -ngl"),
            ("c list -ngl 5", "c list -ngl 5"),
        ] {
            assert_eq!(translated(line), Ok((ours.to_owned(), vec![])), "{line}");
        }
    }

    #[test]
    fn some_go_without_saying() {
        for (line, rest, n) in [
            ("c serve -fa demo", "c serve demo", 1),
            ("c serve -fa on demo", "c serve demo", 1),
            ("c serve -ctk q8_0 -ctv q8_0", "c serve --cache-type q8_0", 1),
            ("c serve -tp 2 --metrics --slots --no-webui --port 1", "c serve --port 1", 4),
            ("c serve --disable-log-requests --uvicorn-log-level warning -cb --reasoning-format none", "c serve", 4),
            ("c serve --reasoning-format --port 1", "c serve --port 1", 1),
            ("c serve --tp 8 --dp 2 --pp-size=2 --numa distribute --poll 50 demo", "c serve demo", 5),
            ("c serve --gpu-memory-utilization=0.9 --jinja demo", "c serve demo", 2),
        ] {
            let (ours, remarks) = translated(line).unwrap();
            assert_eq!((ours.as_str(), remarks.len()), (rest, n), "{line}");
            assert!(remarks.iter().all(|remark| remark.contains(" is not needed: ")), "{remarks:?}");
        }
    }

    #[test]
    fn some_are_refused_with_what_to_do() {
        for (line, says) in [
            ("c serve --embeddings", "--embeddings is not known here: no embeddings"),
            ("c serve --chat-template x", "/v1/completions"),
            ("c chat -mli", "Alt-Enter"),
            ("c serve -hf a/b", "cachalot pull"),
            ("c bench demo -np 4", "`bench` has no --parallel"),
            ("c bench demo --top-k 4", "picks no tokens"),
            ("c bench --model-path x", "`bench` has no --model"),
        ] {
            let refused = translated(line).unwrap_err();
            assert!(refused.contains(says), "{line}: {refused}");
        }
    }

    /// A name stands once, and what it is said to be is there.
    #[test]
    fn the_tables_hold() {
        let program = super::super::command();
        let serve = program.find_subcommand("serve").unwrap();
        let mut seen = std::collections::HashSet::new();
        for (names, fate) in PLAIN.iter().chain(VALUED) {
            for name in names.split(' ') {
                assert!(name.starts_with('-') && seen.insert(name), "{name}");
                assert!(!has_flag(serve, name), "{name} is a flag of serve");
            }
            match fate {
                Is(flag) => assert!(has_flag(serve, flag), "{flag}"),
                Sets(parameter) => {
                    assert!(crate::engine::sampler::SamplerParams::KEYS.contains(parameter), "{parameter}")
                }
                Needless(_) | Refused(_) => {}
            }
        }
    }
}
