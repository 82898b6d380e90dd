//! The options with which a model is opened, which several commands have.

use super::gpus::GpuOptions;
use super::loading::LoadOptions;
use super::output::message;
use super::size::{at_least_one, context, threads};
use crate::catalog;
use crate::engine::{self, CacheType, Engine, Routing, Source};
use crate::exit::BadInput;
use clap::ValueEnum;
use std::path::Path;

const NO_MODEL: &str = "there is no model: name one with -m (this program was built without the demo model)";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ModelOptions {
    /// Tokens of context; 0 is the model's own, however long [default: the model's own, at most 32768]
    #[arg(short = 'c', long = "context", aliases = ["max-model-len", "ctx-size"], value_name = "N")]
    #[arg(value_parser = context::<usize>)]
    context: Option<usize>,
    #[command(flatten)]
    compute: ComputeOptions,
}

/// Whether a model that a server of this user has open is used there.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AttachOption {
    /// Open the model here, also where `cachalot serve` has it open already
    #[arg(long)]
    no_attach: bool,
}

/// All but the size of the context.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ComputeOptions {
    /// Threads to compute with; -1 is one a logical core [default: one a physical core]
    #[arg(short, long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Tokens of a prompt to compute at once [default: 512]
    #[arg(long, aliases = ["max-num-batched-tokens", "batch-size"], value_name = "N")]
    #[arg(value_parser = at_least_one::<usize>)]
    batch: Option<usize>,
    /// How cached keys and values are stored
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = CacheTypeArg::F16)]
    cache_type: CacheTypeArg,
    /// Which experts a token is given to: by DeepSeek's rule, or as llama.cpp does
    #[arg(long, value_enum, default_value_t = RoutingArg::Deepseek)]
    routing: RoutingArg,
    /// Attention with all its scores in memory
    #[arg(long)]
    no_flash_attention: bool,
    #[command(flatten)]
    gpus: GpuOptions,
    #[command(flatten)]
    pub(super) load: LoadOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum CacheTypeArg {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<CacheTypeArg> for CacheType {
    fn from(ty: CacheTypeArg) -> CacheType {
        match ty {
            CacheTypeArg::F32 => CacheType::F32,
            CacheTypeArg::F16 => CacheType::F16,
            CacheTypeArg::Bf16 => CacheType::Bf16,
            CacheTypeArg::Q8_0 => CacheType::Q8_0,
            CacheTypeArg::Q4_0 => CacheType::Q4_0,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoutingArg {
    Deepseek,
    Plain,
}

impl ModelOptions {
    pub(super) fn engine_options(&self) -> engine::Options {
        self.compute.engine_options(self.context)
    }

    /// The model as a server of this user has it open, if one has.
    pub(super) fn attach(&self, model: Option<&Path>, attach: &AttachOption) -> anyhow::Result<Option<Engine>> {
        if attach.no_attach {
            return Ok(None);
        }
        Ok(Engine::attach(source(model)?, &self.engine_options())?)
    }

    /// Opens the model that is named, or the one that is used where none is.
    pub(super) fn open(&self, model: Option<&Path>, is_quiet: bool) -> anyhow::Result<Engine> {
        let source = source(model)?;
        self.compute.load.open(source, &self.engine_options(), is_quiet)
    }

    /// Opens a model with other options than [`engine_options`](Self::engine_options) has.
    pub(super) fn open_with(&self, model: &Path, options: &engine::Options, quiet: bool) -> anyhow::Result<Engine> {
        self.compute.load.open(catalog::source(model)?, options, quiet)
    }

    /// The same for who shows how far it is in a way of their own, and what there is to [`remark`](Self::remark).
    pub(super) fn open_watched(&self, model: Option<&Path>, watch: engine::Watch<'_>) -> anyhow::Result<Engine> {
        Ok(Engine::open_watched(source(model)?, &self.engine_options(), watch)?)
    }

    /// The same for a model that computes several requests at the same time.
    pub(super) fn open_parallel(
        &self,
        model: Option<&Path>,
        n_parallel: usize,
        watch: engine::Watch<'_>,
    ) -> anyhow::Result<Engine> {
        let options = engine::Options { n_parallel: Some(n_parallel), ..self.engine_options() };
        Ok(Engine::open_watched(source(model)?, &options, watch)?)
    }

    pub(super) fn remark(&self, engine: &Engine) {
        self.compute.load.remark(engine, false);
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.compute.load.is_verbose()
    }
}

fn source(model: Option<&Path>) -> anyhow::Result<Source> {
    match model {
        Some(model) => Ok(catalog::source(model)?),
        None => Ok(catalog::default_source().ok_or_else(|| BadInput::Argument(NO_MODEL.to_owned()))?),
    }
}

impl ComputeOptions {
    pub(super) fn engine_options(&self, n_ctx: Option<usize>) -> engine::Options {
        engine::Options {
            n_ctx,
            n_batch: self.batch,
            n_threads: self.threads,
            n_parallel: None,
            cache_type: self.cache_type.into(),
            routing: match self.routing {
                RoutingArg::Deepseek => Routing::DeepSeek,
                RoutingArg::Plain => Routing::Plain,
            },
            no_flash_attention: self.no_flash_attention,
            exact: false,
            loading: self.load.loading(),
            planner: self.gpus.planner(),
        }
    }
}

/// Says what of a model may surprise whoever opens it.
pub(super) fn remarks(engine: &Engine) {
    let info = engine.info();
    if let [first, rest @ ..] = info.unused_tensors.as_slice() {
        let which = match rest.len() {
            0 => format!("the tensor {first} is"),
            n => format!("the tensor {first} and {n} more are"),
        };
        message(&format!("{}: {which} not used", info.path.display()));
    }
    if info.n_ctx > info.n_ctx_train {
        message(&format!("a context of {} tokens; the model was made for {}", info.n_ctx, info.n_ctx_train));
    }
}
