//! Flags of other servers that say here what goes without saying: they are understood, and answered with a word on what
//! happens instead.

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ForeignFlags {
    #[arg(long, hide = true)]
    gpu_memory_utilization: Option<f64>,
    #[arg(long, hide = true)]
    tensor_parallel_size: Option<usize>,
    #[arg(long, hide = true)]
    pipeline_parallel_size: Option<usize>,
    #[arg(long, hide = true)]
    dtype: Option<String>,
    #[arg(long, hide = true)]
    quantization: Option<String>,
    #[arg(long, hide = true)]
    trust_remote_code: bool,
    #[arg(long, hide = true)]
    enforce_eager: bool,
    #[arg(long, hide = true)]
    enable_prefix_caching: bool,
    #[arg(long, hide = true)]
    enable_chunked_prefill: bool,
    #[arg(long, hide = true)]
    enable_auto_tool_choice: bool,
    #[arg(long, hide = true)]
    tool_call_parser: Option<String>,
    #[arg(long, hide = true)]
    reasoning_parser: Option<String>,
    #[arg(long, hide = true)]
    jinja: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "on")]
    flash_attn: Option<String>,
}

const TOOLS: &str = "tools and reasoning are read as the model's own format has them";
const PLACED: &str = "what is free is measured, and `cachalot plan` shows what goes where";

impl ForeignFlags {
    /// For each flag that is there, why it is not needed.
    pub(super) fn remarks(&self) -> Vec<String> {
        let said = [
            (self.gpu_memory_utilization.is_some(), "gpu-memory-utilization", PLACED),
            (
                self.tensor_parallel_size.is_some_and(|n| n > 1),
                "tensor-parallel-size",
                "layers are not split here; experts are placed one by one instead, and `cachalot plan` shows where",
            ),
            (
                self.pipeline_parallel_size.is_some_and(|n| n > 1),
                "pipeline-parallel-size",
                "one machine computes all layers here",
            ),
            (self.dtype.is_some(), "dtype", "the file says in which types its weights are"),
            (self.quantization.is_some(), "quantization", "the file says how it is quantised"),
            (self.trust_remote_code, "trust-remote-code", "no code of a model is run"),
            (self.enforce_eager, "enforce-eager", "there is nothing that it would turn off"),
            (
                self.enable_prefix_caching,
                "enable-prefix-caching",
                "what prompts have in common is always computed once",
            ),
            (self.enable_chunked_prefill, "enable-chunked-prefill", "prompts are always computed in parts"),
            (self.enable_auto_tool_choice, "enable-auto-tool-choice", TOOLS),
            (self.tool_call_parser.is_some(), "tool-call-parser", TOOLS),
            (self.reasoning_parser.is_some(), "reasoning-parser", TOOLS),
            (self.jinja, "jinja", "the model's own format of chats is always used"),
            (self.flash_attn.is_some(), "flash-attn", "it is on; --no-flash-attention turns it off"),
        ];
        let is_said = said.into_iter().filter(|(is_said, ..)| *is_said);
        is_said.map(|(_, flag, instead)| format!("--{flag} is not needed: {instead}")).collect()
    }
}
